"""The vector type and its functions, in C, on every instruction set and compiler there is."""

from __future__ import annotations

import subprocess

import pytest
from c_tests import COMPILERS, DTYPES, HERE, ISAS, run

if not COMPILERS:
    pytest.skip("no C compiler is installed", allow_module_level=True)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors(compiler, isa, dtype):
    """Memory, arithmetic, lanes and accuracy, on a sample of the numbers."""
    run("test_vec", "--compiler", compiler, "--isa", isa, "--dtype", dtype)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors_on_many_numbers(isa, dtype):
    """The same on 20 times as many."""
    run("test_vec", "slow", "--compiler", COMPILERS[0], "--isa", isa, "--dtype", dtype)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
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
