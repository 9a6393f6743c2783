"""The kernels' tests again, in a build that the address and undefined-behavior sanitizers watch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from copied_tree import CopiedTree

KERNELS = [
    "attending",
    "attention",
    "elementwise",
    "memory",
    "native_against_twin",
    "products",
    "sequential",
    "streams",
]


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
    tree = CopiedTree(tmp_path)
    tree.build(FASTRNN_DEBUG="1", FASTRNN_SANITIZE="address,undefined")
    watch = {
        "LD_PRELOAD": preload,
        # Python keeps memory until the end on purpose, and a refused allocation is a MemoryError.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    tree.test(*KERNELS, **watch)
