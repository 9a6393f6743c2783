"""The ways in which fastrnn is installed, each in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Runs where no source tree is in sight; the answers prove that what was built is what is imported.
PROBE = """
import pathlib
import fastrnn
folder = pathlib.Path(fastrnn.__file__).parent
print(folder, fastrnn.__version__)
assert (folder / "py.typed").is_file()
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command; its output, or a failure that shows it."""
    names = {"PYTHONPATH", "PYTHONHOME"}
    environment = {key: value for key, value in os.environ.items() if key not in names}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of an empty virtual environment."""
    venv.create(tmp_path / "venv", with_pip=True)
    return tmp_path / "venv" / "bin" / "python"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the tree without anything that a build leaves behind."""
    ignore = shutil.ignore_patterns(
        ".git", ".venv", "build", "dist", "*.so", "*.egg-info", "*_cache", "__pycache__"
    )
    return Path(shutil.copytree(ROOT, tmp_path / "tree", ignore=ignore))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder from which no source tree can be imported."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def test_sdist_to_wheel_to_import(python: Path, tree: Path, elsewhere: Path) -> None:
    run(python, "-m", "pip", "install", "-q", "build", cwd=elsewhere)
    run(python, "-m", "build", "--outdir", elsewhere / "dist", tree, cwd=elsewhere)
    (sdist,) = (elsewhere / "dist").glob("*.tar.gz")
    (wheel,) = (elsewhere / "dist").glob("*.whl")

    with tarfile.open(sdist) as archive:
        inside = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    sources = {str(path.relative_to(tree)) for path in (tree / "src").rglob("*") if path.is_file()}
    written = {str(path.relative_to(tree).with_suffix(".c")) for path in tree.glob("src/*.pyx")}
    assert sources - written <= inside
    assert {"README.md", "CHANGELOG.md", "LICENSE", "tests/conftest.py", ".ci/run"} <= inside

    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    suffixes = {Path(name).suffix for name in names if name.startswith("fastrnn/")}
    assert suffixes <= {".py", ".pyi", ".pxd", ".so", ".typed"}, "sources do not belong in a wheel"

    run(python, "-m", "pip", "install", "-q", wheel, cwd=elsewhere)
    shutil.rmtree(tree)
    assert "site-packages" in run(python, "-c", PROBE, cwd=elsewhere)


def test_from_the_tree(python: Path, tree: Path, elsewhere: Path) -> None:
    run(python, "-m", "pip", "install", "-q", tree, cwd=elsewhere)
    shutil.rmtree(tree)
    assert "site-packages" in run(python, "-c", PROBE, cwd=elsewhere)


def test_editable(python: Path, tree: Path, elsewhere: Path) -> None:
    run(python, "-m", "pip", "install", "-q", "-e", tree, cwd=elsewhere)
    assert str(tree / "fastrnn") in run(python, "-c", PROBE, cwd=elsewhere)
    requirements = run(python, "-m", "pip", "list", "--format=freeze", cwd=elsewhere)
    names = {line.split("==")[0].lower() for line in requirements.splitlines()}
    assert names - {"pip", "setuptools"} == {"fastrnn", "numpy", "scipy"}
