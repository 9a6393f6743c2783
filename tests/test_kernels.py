"""The kernels, in C: naive references, finite differences, and nothing touched beyond a buffer."""

from __future__ import annotations

import pytest
from c_tests import COMPILERS, DTYPES, ISAS, run

if not COMPILERS:
    pytest.skip("no C compiler is installed", allow_module_level=True)


def everything(*kept: tuple[str, str, str]) -> pytest.MarkDecorator:
    """All compilers, instruction sets and dtypes, the second compiler's long but for some."""
    each = [(compiler, isa, dtype) for compiler in COMPILERS for isa in ISAS for dtype in DTYPES]
    marks = [() if one[0] == COMPILERS[0] or one in kept else pytest.mark.long for one in each]
    return pytest.mark.parametrize(
        ("compiler", "isa", "dtype"),
        [pytest.param(*one, marks=mark) for one, mark in zip(each, marks, strict=True)],
    )


@pytest.mark.parametrize("isa", ISAS)
def test_kernels(isa):
    """Some shapes in the dtype whose errors are smallest."""
    run("test_kernels", "--compiler", COMPILERS[0], "--isa", isa, "--dtype", "double")


@pytest.mark.slow
@everything()
def test_kernels_on_many_shapes(compiler, isa, dtype):
    run("test_kernels", "slow", "--compiler", compiler, "--isa", isa, "--dtype", dtype)


@pytest.mark.slow
@everything(("clang", "avx512", "float"))
def test_kernels_under_sanitizers(compiler, isa, dtype):
    run("test_kernels", "--sanitize", "--compiler", compiler, "--isa", isa, "--dtype", dtype)
