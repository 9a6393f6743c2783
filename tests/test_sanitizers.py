"""The kernels' tests again, in a build that the address and undefined-behavior sanitizers watch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KERNELS = ["elementwise", "memory", "native_against_twin", "products", "sequential", "streams"]


def runtime(compiler: str, name: str) -> str:
    """The path of a sanitizer's library, or a skip."""
    command = [compiler, f"-print-file-name=lib{name}.so"]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(path).is_absolute():
        pytest.skip(f"{compiler} has no lib{name}.so")
    return path


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_kernels_under_sanitizers(tmp_path: Path) -> None:
    compiler = os.environ.get("CC") or str(sysconfig.get_config_var("CC")).split()[0]
    if "gcc" not in compiler or not shutil.which(compiler):
        pytest.skip("only gcc's sanitizers are preloaded here")
    pytest.importorskip("Cython")
    preload = " ".join(runtime(compiler, name) for name in ("asan", "ubsan"))
    for name in ("fastrnn", "src", "tests"):
        ignore = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)

    def python(*arguments: str, **extra: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path), **extra},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-20_000:]
        return done.stdout

    switches = {"FASTRNN_DEBUG": "1", "FASTRNN_SANITIZE": "address,undefined"}
    python("setup.py", "-q", "build_ext", "--inplace", **switches)
    watch = {
        "LD_PRELOAD": preload,
        # Python keeps memory until the end on purpose, and a refused allocation is a MemoryError.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    where = python("-c", "import fastrnn._native as n; print(n.__file__)", **watch)
    assert where.startswith(str(tmp_path))
    modules = [f"tests/test_{name}.py" for name in KERNELS]
    assert " passed" in python("-m", "pytest", "-q", "-p", "no:cacheprovider", *modules, **watch)
