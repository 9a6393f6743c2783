"""The C tests for the other architecture, cross-compiled and run under emulation."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent / "c" / "run_aarch64.sh"


@pytest.mark.slow
def test_under_emulation():
    for tool in ("aarch64-linux-gnu-gcc", "qemu-aarch64"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    done = subprocess.run(
        [str(SCRIPT)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    for test in ("test_vec.c", "test_kernels.c"):
        assert done.stdout.count(f"== {test}") == 4, done.stdout
