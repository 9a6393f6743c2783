"""From sdist to wheel to an import far from any source tree.

The other two ways to install are the README's own commands, which CI runs.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Runs where no source tree is in sight.
PROBE = """
import importlib.metadata
import pathlib
import fastrnn
import fastrnn._native
folder = pathlib.Path(fastrnn.__file__).parent
print({
    "folder": str(folder),
    "native": str(pathlib.Path(fastrnn._native.__file__).parent),
    "typed": (folder / "py.typed").is_file(),
    "versions": {fastrnn.__version__, importlib.metadata.version("fastrnn")},
    "requires": importlib.metadata.requires("fastrnn"),
})
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command; its output, or a failure that shows it."""
    hidden = {"PYTHONPATH", "PYTHONHOME"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name not in hidden},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sdist_to_wheel_to_import(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    left_by_builds = [".git", ".venv", "build", "dist", "*.so", "*.egg-info", "*_cache", "_*.c"]
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*left_by_builds, "__pycache__"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    run(python, "-m", "pip", "install", "-q", "build", cwd=elsewhere)
    run(python, "-m", "build", "--outdir", elsewhere, tree, cwd=elsewhere)
    (sdist,) = elsewhere.glob("*.tar.gz")
    (wheel,) = elsewhere.glob("*.whl")

    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("src", "tests", "bench", "fastrnn"):
        files = {path for path in (tree / folder).rglob("*") if path.is_file()}
        ours = {str(path.relative_to(tree)) for path in files if "egg-info" not in str(path)}
        written = {str(path.relative_to(tree).with_suffix(".c")) for path in tree.glob("src/*.pyx")}
        assert ours - written <= inside
        assert not written & inside, "C that Cython writes belongs to one version of Cython"
    assert {"README.md", "CHANGELOG.md", "LICENSE", ".ci/run"} <= inside

    with zipfile.ZipFile(wheel) as archive:
        suffixes = {Path(name).suffix for name in archive.namelist() if "dist-info" not in name}
        size = sum(entry.file_size for entry in archive.infolist())
    assert suffixes == {".py", ".pyi", ".pxd", ".so", ".typed"}, "no sources belong in a wheel"
    assert size < 5e6

    run(python, "-m", "pip", "install", "-q", wheel, cwd=elsewhere)
    shutil.rmtree(tree)
    found = ast.literal_eval(run(python, "-c", PROBE, cwd=elsewhere))
    assert "site-packages" in found["folder"]
    assert found["native"] == found["folder"]
    assert found["typed"]
    assert len(found["versions"]) == 1
    needed = [line for line in found["requires"] if "extra ==" not in line]
    assert sorted(needed) == ["numpy>=2.0", "scipy>=1.13"]
