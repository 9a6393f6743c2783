"""The native engine against the array twin: every instruction set, product engine, cell and dtype.

Differences are measured against the largest magnitude of each array.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import CASES, TOLERANCE, Case, compare
from test_gradients import CELLS

import fastrnn
from fastrnn import _native
from fastrnn.engine import recurrence
from fastrnn.engine.recurrence import twin_only

every_isa = pytest.mark.parametrize("isa", fastrnn.isas())
every_engine = pytest.mark.parametrize("gemm", _native.GEMMS)
every_cell = pytest.mark.parametrize("name", CELLS)
both_dtypes = pytest.mark.parametrize("dtype", TOLERANCE)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    fastrnn.set_gemm(None)
    _native.force_isa(None)


@every_isa
@every_engine
@every_cell
@both_dtypes
def test_the_same_as_the_twin(isa: str, gemm: str, name: str, dtype: str) -> None:
    fastrnn.set_gemm(gemm)
    with _native.force_isa(isa):
        assert _native.chosen_isa() == isa
        for case in CASES:
            compare(name, dtype, case)


@pytest.mark.parametrize("gemm", _native.GEMMS)
@given(
    st.sampled_from(sorted(CELLS)),
    st.sampled_from(sorted(TOLERANCE)),
    st.builds(
        Case,
        N=st.integers(0, 20),
        T=st.integers(0, 8),
        D=st.integers(1, 40),
        H=st.integers(1, 70),
        layers=st.integers(1, 2),
        bidirectional=st.booleans(),
        bias=st.booleans(),
        form=st.sampled_from(["array", "lengths", "list"]),
        recurrent_dropout=st.sampled_from([0.0, 0.5]),
        seed=st.integers(0, 1000),
    ),
)
@settings(max_examples=40)
def test_any_shape_is_the_same_as_the_twin(gemm: str, name: str, dtype: str, case: Case) -> None:
    fastrnn.set_gemm(gemm)
    compare(name, dtype, case)


@every_engine
@both_dtypes
@pytest.mark.parametrize("threads", [1, 3])
def test_larger_than_one_task(gemm: str, dtype: str, threads: int) -> None:
    fastrnn.set_gemm(gemm)
    with fastrnn.threads(threads):
        for name in ("lstm", "gru"):
            compare(name, dtype, Case(50, 5, 20, 90, bidirectional=True, form="lengths"))


@every_cell
def test_the_native_engine_is_what_runs(name: str) -> None:
    kind, own = CELLS[name]
    weights = kind(2, 3, **own)._stack.weights[0][0]
    assert recurrence.engine_for(weights).__name__ == "fastrnn.engine.native"
    with twin_only():
        assert recurrence.engine_for(weights).__name__ == "fastrnn.engine.twin"
