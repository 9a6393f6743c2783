"""Products with packed weights against NumPy, on every instruction set and both engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastrnn import _native
from fastrnn.engine import products

# Rows, inner and outer dimensions around tiles, vectors and panels, and blocks of rows.
SHAPES = [
    (0, 3, 4),
    (1, 1, 1),
    (5, 7, 9),
    (6, 16, 17),
    (97, 33, 130),
    (13, 129, 70),
    (2000, 11, 53),
    (20, 2100, 70),
    (30, 40, 3000),
]
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}


@pytest.fixture(params=[(i, g) for i in _native.isas() for g in ("packed", "blas")], ids=str)
def engine(request: pytest.FixtureRequest) -> Iterator[None]:
    isa, gemm = request.param
    with _native.force_isa(isa):
        _native.set_gemm(gemm)
        try:
            yield
        finally:
            _native.set_thread_limit(0)
            _native.set_gemm(None)


def assert_close(got: np.ndarray, expected: np.ndarray, dtype: type) -> None:
    assert got.dtype == dtype
    scale = max(1.0, np.abs(expected).max(initial=0))
    assert np.abs(got - expected).max(initial=0) <= TOLERANCE[dtype] * scale


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "D", "M"), SHAPES)
def test_products_equal_numpy(rows: int, D: int, M: int, dtype: type) -> None:
    rng = np.random.default_rng(rows + D + M)
    x, w, b, dy = (
        rng.standard_normal(s).astype(dtype) for s in [(rows, D), (M, D), (M,), (rows, M)]
    )
    exact = [a.astype(np.float64) for a in (x, w, b, dy)]
    assert_close(products.linear(x, w, b), exact[0] @ exact[1].T + exact[2], dtype)
    assert_close(products.linear(x, w), exact[0] @ exact[1].T, dtype)
    assert_close(products.linear_backward(dy, w), exact[3] @ exact[1], dtype)
    dw, db = np.full_like(w, 0.5), np.full_like(b, 0.25)
    products.accumulate(dy, x, dw, db)
    assert_close(dw, 0.5 + exact[3].T @ exact[0], dtype)
    assert_close(db, 0.25 + exact[3].sum(0), dtype)


@pytest.mark.usefixtures("engine")
def test_rows_may_lie_anywhere() -> None:
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((40, 12))
    w = rng.standard_normal((5, 6))
    out = np.zeros((20, 9))
    products.linear(wide[::-2, 3:9], w, out=out[:, 2:7])
    np.testing.assert_allclose(out[:, 2:7], wide[::-2, 3:9] @ w.T, rtol=1e-13, atol=1e-13)
    assert not out[:, :2].any()
    assert not out[:, 7:].any()
    for dy in (wide[::-2, 3:8], wide[::2, 3:8], np.broadcast_to(wide[0, :5], (20, 5))):
        for x in (wide[::-2, 3:9], np.broadcast_to(wide[0, :6], (20, 6))):
            dw, db = np.zeros((5, 6)), np.zeros(5)
            products.accumulate(dy, x, dw, db)
            np.testing.assert_allclose(dw, dy.T @ x, rtol=1e-13, atol=1e-13)
            np.testing.assert_allclose(db, dy.sum(0), rtol=1e-13, atol=1e-13)


def shaped(*shape: int) -> np.ndarray:
    """An array of that shape without its memory: for dimensions that are refused unread."""
    return np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), shape, (4 * shape[-1], 4))


def test_blas_is_given_no_dimension_above_its_integers() -> None:
    n = 2**31
    small, wide, tall = shaped(1, 1), shaped(1, n), shaped(n, 1)
    _native.set_gemm("blas")
    try:
        for what, call in (
            (f"weight: .*, got ({n}, 1)", lambda: products.linear(small, tall, out=wide)),
            (f"weight: .*, got (1, {n})", lambda: products.linear_backward(small, wide, out=wide)),
            (f"dweight: .*, got ({n}, 1)", lambda: products.accumulate(wide, small, tall)),
            (f"dweight: .*, got (1, {n})", lambda: products.accumulate(small, wide, wide)),
        ):
            with pytest.raises(ValueError, match=what.replace("(", r"\(").replace(")", r"\)")):
                call()
    finally:
        _native.set_gemm(None)


def test_blas_adds_rows_that_lie_further_apart_than_its_integers(tmp_path: Path) -> None:
    # Of a file with a hole, two rows 8 GiB apart take two pages.
    hole = np.memmap(tmp_path / "hole", np.float32, "w+", shape=(2**31 + 4,))
    far = np.lib.stride_tricks.as_strided(hole, (2, 3), (2**33, 4))
    far[...] = [[1, 2, 3], [4, 5, 6]]
    dw = np.zeros((3, 2), np.float32)
    _native.set_gemm("blas")
    try:
        products.accumulate(far, np.eye(2, dtype=np.float32), dw)
    finally:
        _native.set_gemm(None)
    np.testing.assert_array_equal(dw, far.T)


@pytest.mark.usefixtures("engine")
def test_a_changed_weight_is_packed_anew() -> None:
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((3, 4)), rng.standard_normal((2, 4)), np.zeros(2)
    cache = products.Cache()
    products.linear(x, w, b, cache)
    w[1, 3] += 1
    b[0] = 7
    np.testing.assert_allclose(products.linear(x, w, b, cache), x @ w.T + b, rtol=1e-13)
    np.testing.assert_allclose(products.linear_backward(x[:, :2], w, cache), x[:, :2] @ w)
    w[0, 0] = 100
    np.testing.assert_allclose(products.linear_backward(x[:, :2], w, cache), x[:, :2] @ w)


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize(("D", "M"), [(65, 300), (2500, 70), (20, 3000)])
def test_a_row_has_the_same_bits_in_any_batch_and_on_any_threads(isa: str, D: int, M: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((211, D)).astype(np.float32)
    w = rng.standard_normal((M, D)).astype(np.float32)
    dy = rng.standard_normal((211, M)).astype(np.float32)
    with _native.force_isa(isa):
        _native.set_gemm("packed")
        try:
            whole = products.linear(x, w)
            dw = {}
            for n in (1, 2, 3, 5):
                _native.set_thread_limit(n)
                np.testing.assert_array_equal(products.linear(x, w), whole)
                dw[n] = np.zeros_like(w)
                products.accumulate(dy, x, dw[n])
                np.testing.assert_array_equal(dw[n], dw[1])
            dx = products.linear_backward(dy, w)
            for first, last in [(0, 1), (5, 6), (17, 34), (200, 211)]:
                rows = slice(first, last)
                np.testing.assert_array_equal(products.linear(x[rows], w), whole[rows])
                np.testing.assert_array_equal(products.linear_backward(dy[rows], w), dx[rows])
        finally:
            _native.set_thread_limit(0)
            _native.set_gemm(None)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_change_of_any_element_is_seen(n_threads: int) -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_normal((350, 700)).astype(np.float32)  # some pieces of a hash
    wide = np.zeros((350, 710), np.float32)
    wide[:, :700] = w
    x = rng.standard_normal((2, 700)).astype(np.float32)
    dy = rng.standard_normal((2, 350)).astype(np.float32)
    _native.set_thread_limit(n_threads)
    for weight in (w, wide[:, :700]):
        cache = products.Cache()
        for i, j in [(0, 0), (0, 699), (170, 333), (349, 0), (349, 699)]:
            for call in (cache, products.Call(cache)):
                weight[i, j] += 1
                y, dx = products.linear(x, weight, None, call), products.linear_backward(dy, weight)
                np.testing.assert_array_equal(y, products.linear(x, weight))
                np.testing.assert_array_equal(products.linear_backward(dy, weight, call), dx)


def test_one_call_looks_at_its_weight_once() -> None:
    x, w = np.ones((2, 3)), np.ones((4, 3))
    call = products.Call(products.Cache())
    products.linear(x, w, None, call)
    w[:] = 2  # which a caller must not do
    np.testing.assert_array_equal(products.linear(x, w, None, call), np.full((2, 4), 3.0))
    np.testing.assert_array_equal(products.linear(x, w), np.full((2, 4), 6.0))
