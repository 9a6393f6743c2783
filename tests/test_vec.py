"""The vector type and its functions, in C, on every instruction set and compiler there is."""

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

COMPILERS = run_c.compilers()
if not COMPILERS:
    pytest.skip("no C compiler is installed", allow_module_level=True)


def run(*arguments: str) -> None:
    command = [sys.executable, str(HERE / "run.py"), *arguments]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    if "not run" in done.stdout:
        pytest.skip(done.stdout)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("isa", run_c.isas())
@pytest.mark.parametrize("dtype", run_c.DTYPES)
def test_vectors(compiler, isa, dtype):
    """Memory, arithmetic, lanes and accuracy, on a sample of the numbers."""
    run("test_vec", "--compiler", compiler, "--isa", isa, "--dtype", dtype)


@pytest.mark.slow
@pytest.mark.parametrize("isa", run_c.isas())
@pytest.mark.parametrize("dtype", run_c.DTYPES)
def test_vectors_on_many_numbers(isa, dtype):
    """The same on 20 times as many."""
    run("test_vec", "slow", "--compiler", COMPILERS[0], "--isa", isa, "--dtype", dtype)


@pytest.mark.slow
@pytest.mark.parametrize("isa", run_c.isas())
@pytest.mark.parametrize("dtype", run_c.DTYPES)
def test_vectors_under_sanitizers(isa, dtype):
    run("test_vec", "--sanitize", "--compiler", COMPILERS[0], "--isa", isa, "--dtype", dtype)


@pytest.mark.parametrize(
    ("macros", "message"),
    [
        (["-DFRN_DOUBLE=0", "-DFRN_ISA_AVX512"], "FRN_ISA_AVX512 needs"),
        (["-DFRN_DOUBLE=0", "-DFRN_ISA_AVX2"], "FRN_ISA_AVX2 needs"),
        (["-DFRN_DOUBLE=0", "-DFRN_ISA_NEON", "-DFRN_ISA_BASELINE"], "FRN_ISA_"),
        ([], "FRN_DOUBLE must be defined"),
    ],
)
def test_refuses_flags_that_do_not_fit(macros, message):
    """A file compiled with less than it claims would run slowly, or not at all, unnoticed."""
    header = HERE.parent.parent / "src" / "vecmath.h"
    command = [*COMPILERS[0].split(), "-fsyntax-only", "-xc", *macros, str(header)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert message in done.stderr
