"""The README's Python blocks run, each in an empty folder, in the order in which they stand."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fastrnn

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
ON_DEVICE = "# needs a CUDA device\n"


def blocks(language: str) -> list[str]:
    """The fenced code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")  # for its block, without which the others would not be all
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("FASTRNN_GEMM", "packed")  # the README promises equal bits
    space: dict[str, object] = {"__name__": "readme"}
    for number, block in enumerate(blocks("python"), 1):
        if block.startswith(ON_DEVICE):
            continue
        # Blocks share their names, as a reader expects who types one after the other.
        exec(compile(block, f"README.md, Python block {number}", "exec"), space)


def test_python_blocks_for_a_device_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_cupy: ModuleType
) -> None:
    monkeypatch.chdir(tmp_path)
    found = [block for block in blocks("python") if block.startswith(ON_DEVICE)]
    assert found
    for block in found:
        exec(compile(block, "README.md", "exec"), {"__name__": "readme", "fastrnn": fastrnn})


def test_commands_set_everything_up() -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines() if "venv" in line]
    assert any("pytest" in command for command in commands)
    for command in commands:
        setup, activate, install, *_ = command.split(" && ")
        assert setup == "python3 -m venv .venv"
        assert activate == ". .venv/bin/activate"
        assert shlex.split(install)[:2] == ["pip", "install"]


def test_named_files_exist() -> None:
    names = re.findall(r"(?<![\w/.])(?:bench|examples|src|tests|fastrnn|\.ci)/[\w./*-]*\w", README)
    links = [name for name in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in name]
    missing = [name for name in names + links if not list(ROOT.glob(name))]
    assert not missing


def test_shell_lines_that_only_look_work() -> None:
    for block in blocks("sh"):
        for line in block.splitlines():
            if line.startswith("python -m fastrnn"):
                done = subprocess.run(
                    [sys.executable, *shlex.split(line)[1:]],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, done.stderr
