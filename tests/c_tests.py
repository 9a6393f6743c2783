"""The tests in C, run by pytest: see tests/c/run.py, which needs nothing but Python."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent / "c"
specification = importlib.util.spec_from_file_location("run_c", HERE / "run.py")
assert specification is not None
assert specification.loader is not None
run_c = importlib.util.module_from_spec(specification)
specification.loader.exec_module(run_c)

COMPILERS: list[str] = run_c.compilers()
DTYPES: tuple[str, ...] = run_c.DTYPES
ISAS: list[str] = list(run_c.isas())


def run(*arguments: str) -> None:
    """Build and run a test in C; skips where the processor lacks the instruction set."""
    command = [sys.executable, str(HERE / "run.py"), *arguments]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    if "not run" in done.stdout:
        pytest.skip(done.stdout)
