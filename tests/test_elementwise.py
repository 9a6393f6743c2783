"""Native work on elements and rows: the formulas on every ISA, same bits for any threads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastrnn import _elementwise, _native
from fastrnn.engine import elementwise, masks
from fastrnn.layers.embedding import Embedding
from fastrnn.optim import SGD, Adagrad, Adam, AdamW, RMSprop

DTYPES = ["float32", "float64"]
SIZES = [0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 100, 1500]


@pytest.fixture(params=_native.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with _native.force_isa(request.param):
        yield request.param


@pytest.fixture
def threads() -> Iterator[object]:
    yield _native.set_thread_limit
    _native.set_thread_limit(0)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [size for size in SIZES if size])
def test_cross_entropy_is_the_formula(classes, weighted, dtype, rng):
    rows = (rng.standard_normal((5, classes)) * 4).astype(dtype)
    targets = rng.integers(0, classes, 5)
    weights = np.array([1.0, 0.0, 2.0, 0.5, 3.0]) if weighted else None
    loss, grad = elementwise.cross_entropy(rows, targets, weights, 0.25)
    exact, dexact = elementwise.array_cross_entropy(rows.astype(np.float64), targets, weights, 0.25)
    eps = np.finfo(dtype).eps
    # z - top is rounded, by half an ulp of up to 32, and enters both exp and the loss
    shift = np.abs(rows - rows.max(1, keepdims=True)).max() * eps
    np.testing.assert_allclose(loss, exact, rtol=4 * eps, atol=4 * eps + shift)
    # beside that: exp to 4 ulp, a sum, a quotient, a product and a difference
    np.testing.assert_allclose(
        grad, dexact, rtol=0, atol=0.75 * (16 * eps + shift), err_msg=f"{classes} classes"
    )
    if weighted:
        assert loss[1] == 0.0
        assert not grad[1].any()
    again = np.zeros(5)
    _elementwise.cross_entropy(rows, targets, weights, 0.25, None, again)
    np.testing.assert_array_equal(again, loss)
    _elementwise.cross_entropy(rows, targets, weights, 0.25, rows, again)  # in place
    np.testing.assert_array_equal(again, loss)
    np.testing.assert_array_equal(rows, grad)


@pytest.mark.usefixtures("isa")
def test_cross_entropy_of_many_classes_keeps_its_digits():
    # 0.1 added 19,000 times in float32 is wrong in the fifth digit; exp is right to 4 ulp, and no
    # lane adds more than 64 terms before it goes on in float64, each rounded by half an ulp
    rows = np.full((1, 300_000), np.log(0.1), np.float32)
    rows[0, 0] = 0.0
    loss, _ = elementwise.cross_entropy(rows, np.zeros(1, int), None, 1.0)
    exact = np.log(1 + 299_999 * np.exp(np.float64(rows[0, 1])))
    assert abs(loss[0] - exact) < (4 + 64 / 2) * np.finfo(np.float32).eps


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_rows_do_not_touch_each_other(dtype):
    rows = np.zeros((3, 21), dtype)
    rows[1, 20] = np.nan
    loss, grad = elementwise.cross_entropy(rows, np.array([0, 1, 20]), None, 1.0)
    np.testing.assert_allclose(loss[[0, 2]], np.log(21), rtol=1e-6)
    assert np.isnan(loss[1])
    assert np.isfinite(grad[[0, 2]]).all()


OPTIMIZERS = {
    "sgd": (SGD, {"learning_rate": 0.1}),
    "momentum": (SGD, {"learning_rate": 0.1, "momentum": 0.9}),
    "nesterov": (SGD, {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": (Adam, {}),
    "adamw": (AdamW, {}),
    "rmsprop": (RMSprop, {}),
    "adagrad": (Adagrad, {}),
}


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_agree_with_their_array_formula_in_every_bit(name, decay, dtype, rng):
    kind, arguments = OPTIMIZERS[name]
    for size in SIZES[1:]:
        twins = [Embedding(size, 1, dtype=dtype, random_state=3) for _ in range(2)]
        native, twin = (kind(layer, **arguments, weight_decay=decay) for layer in twins)
        for _ in range(3):
            for layer in twins:
                layer.grads["weight"][...] = rng.standard_normal((size, 1)).astype(dtype)
            twins[1].grads["weight"][...] = twins[0].grads["weight"]
            native.step()
            twin.steps += 1
            twin._update(
                twins[1].params["weight"], twins[1].grads["weight"], twin._state["0.weight"]
            )
        np.testing.assert_array_equal(twins[0].params["weight"], twins[1].params["weight"])
        for kept, array in native._state["0.weight"].items():
            np.testing.assert_array_equal(array, twin._state["0.weight"][kept])


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
def test_whole_arrays(dtype, rng):
    for size in [*SIZES, 40_000]:
        x, y = rng.standard_normal((2, size)).astype(dtype)
        exact = float((x.astype(np.longdouble) ** 2).sum())
        assert elementwise.sum_of_squares(x) == pytest.approx(exact, rel=1e-14, abs=0)
        expected = y.copy()
        elementwise.scale(y, 0.3)
        expected *= 0.3
        np.testing.assert_array_equal(y, expected)
        for factor in (1.0, 0.7):
            elementwise.add_scaled(y, x, factor)
            expected += x * np.dtype(dtype).type(factor)
            np.testing.assert_array_equal(y, expected)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_has_the_bits_of_its_array_formula(dtype, rng):
    for units in SIZES:
        x = rng.standard_normal((6, units)).astype(dtype)
        for p in (0.1, 0.5, 1 - 2.0**-20):
            keys = masks.row_keys(1, 2, 3, 0, np.arange(6))
            mask = masks.array_mask_from_keys(keys, units, p, dtype, np)
            np.testing.assert_array_equal(masks.mask_from_keys(keys, units, p, dtype), mask)
            np.testing.assert_array_equal(masks.drop(x, keys, p), x * mask)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_a_table(dtype, rng):
    for width in SIZES:
        table = rng.standard_normal((9, width)).astype(dtype)
        index = rng.integers(0, 9, 40)
        rows = elementwise.gather(table, index)
        np.testing.assert_array_equal(rows, table[index])
        expected = table.copy()
        np.add.at(expected, index, rows)
        elementwise.scatter_add(table, index, rows)
        np.testing.assert_array_equal(table, expected)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [size for size in SIZES if size])
def test_layer_norm_is_the_formula(width, dtype, rng):
    rows = (rng.standard_normal((5, width)) * 2 + 3).astype(dtype)
    dy = rng.standard_normal((5, width)).astype(dtype)
    weight, bias = rng.standard_normal((2, width)).astype(dtype)
    dweight, dbias = np.ones((2, width), dtype)
    y, moments = elementwise.layer_norm(rows, weight, bias, 0.1)
    dx = elementwise.layer_norm_backward(dy, rows, moments, weight, dweight, dbias)
    wide = [a.astype(np.float64) for a in (rows, weight, bias, dy)]
    exact, exact_moments = elementwise.array_layer_norm(*wide[:3], 0.1)
    dexact, normal = elementwise.array_layer_norm_backward(wide[3], wide[0], exact_moments, wide[1])
    # x - mean has an error of an ulp or two of x, which 1/root, at most 1/sqrt(0.1), enlarges
    eps = 40 * np.finfo(dtype).eps * np.abs(rows).max()
    np.testing.assert_allclose(y, exact, rtol=0, atol=eps)
    np.testing.assert_allclose(dx, dexact, rtol=0, atol=4 * eps)
    np.testing.assert_allclose(dweight, 1 + (wide[3] * normal).sum(0), rtol=0, atol=4 * eps)
    np.testing.assert_allclose(dbias, 1 + wide[3].sum(0), rtol=0, atol=eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_for_any_number_of_threads(dtype, threads, rng):
    rows = rng.standard_normal((700, 300)).astype(dtype)
    targets, weights = rng.integers(0, 300, 700), rng.random(700)
    index, table = rng.integers(0, 50, 700), rng.standard_normal((50, 300)).astype(dtype)
    keys = masks.row_keys(1, 0, 0, 0, np.arange(700))
    results = []
    for n in (1, 2, 3, 5):
        threads(n)
        layer = Embedding(700, 300, dtype=dtype, random_state=0)
        layer.grads["weight"][...] = rows
        optimizer = Adam(layer)
        optimizer.step()
        scaled, added, summed = rows.copy(), rows.copy(), table.copy()
        elementwise.scale(scaled, 0.1)
        elementwise.add_scaled(added, rows, 0.1)
        elementwise.scatter_add(summed, index, rows)
        y, moments = elementwise.layer_norm(rows, table[0], table[1], 1e-5)
        dweight, dbias = np.zeros((2, 300), dtype)
        dx = elementwise.layer_norm_backward(rows, y, moments, table[0], dweight, dbias)
        results.append(
            [
                *elementwise.cross_entropy(rows, targets, weights, 0.1),
                layer.params["weight"],
                np.array(elementwise.sum_of_squares(rows)),
                scaled,
                added,
                summed,
                elementwise.gather(table, index),
                masks.drop(rows, keys, 0.3),
                y,
                dx,
                dweight,
                dbias,
            ]
        )
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_large_arrays_take_several_regions(threads, rng):
    threads(2)
    x = rng.standard_normal(9_000_001).astype(np.float32)
    y = x.copy()
    elementwise.scale(y, 3.0)
    np.testing.assert_array_equal(y, x * np.float32(3))
    assert elementwise.sum_of_squares(x) == pytest.approx(float(np.vdot(x, x)), rel=1e-4)
    _elementwise.clear(y[1:-1])
    np.testing.assert_array_equal(np.flatnonzero(y), [0, y.size - 1])


def test_other_layouts_go_the_way_of_arrays():
    y = np.arange(12, dtype=np.float64).reshape(3, 4).T
    assert not elementwise.is_native(y)
    elementwise.scale(y, 2.0)
    elementwise.add_scaled(y, np.ones((4, 3)), 2.0)
    np.testing.assert_array_equal(y, np.arange(12.0).reshape(3, 4).T * 2 + 2)
    assert elementwise.sum_of_squares(y) == pytest.approx(float((y**2).sum()))


def test_sizes_are_checked_before_a_kernel_runs():
    x, keys = np.zeros((3, 4), np.float32), np.zeros(3, np.uint64)
    index, loss = np.zeros(3, np.int64), np.zeros(3)
    wrong = {
        "targets": lambda: _elementwise.cross_entropy(x, index[:2], None, 1.0, x, loss),
        "loss": lambda: _elementwise.cross_entropy(x, index, None, 1.0, x, loss[:2]),
        "weights": lambda: _elementwise.cross_entropy(x, index, loss[:1], 1.0, x, loss),
        "grad": lambda: _elementwise.cross_entropy(x, index, None, 1.0, x[:2], loss),
        r"targets: expected classes in \[0, 4\), got 4": lambda: _elementwise.cross_entropy(
            x, index + 4, None, 1.0, x, loss
        ),
        "mean": lambda: _elementwise.update("adam", x, x, x[:1], x, rate=0.1),
        "square": lambda: _elementwise.update("adam", x, x, x, x[:1], rate=0.1),
        "x: expected 4": lambda: _elementwise.add_scaled(x[:1], x),
        "keys": lambda: _elementwise.drop(x, keys[:1], 0, 1.0, x),
        "x: expected 4 elements": lambda: _elementwise.drop(x, keys[:1], 0, 1.0, x[:1].copy()),
        r"index: expected values in \[0, 3\), got 3": lambda: _elementwise.gather(x, index + 3, x),
        r"index: expected values in \[0, 3\), got -1": lambda: _elementwise.scatter_add(
            x, index - 1, x
        ),
        "rows": lambda: _elementwise.gather(x, index, x[:, :2].copy()),
        "bias": lambda: _elementwise.layer_norm(x, x[0], x[0, :3], 0.1, x[0, :3], x[1, :3], x),
        "mean: expected 3": lambda: _elementwise.layer_norm(x, x[0], x[0], 0.1, x[0], x[1], x),
        "dweight": lambda: _elementwise.layer_norm_backward(
            x, x[0], x[0, :3], x[1, :3], x, x, x[0, :3], x[0]
        ),
        "C order": lambda: _elementwise.scale(np.zeros((3, 8), np.float32)[:, :4], 2.0),
    }
    for message, call in wrong.items():
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match="grad: expected 12 elements of 4 bytes"):
        _elementwise.update("sgd", x, x.astype(np.float64), None, None, rate=0.1)
    with pytest.raises(KeyError):
        _elementwise.update("foo", x, x, None, None, rate=0.1)


def run_in_c(*arguments: str) -> None:
    runner = Path(__file__).resolve().parent / "c" / "run.py"
    done = subprocess.run(
        [sys.executable, str(runner), "test_elementwise", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "test_elementwise: 0 failures" in done.stdout, done.stdout


def test_in_c_at_the_edge_of_memory():
    """Each kernel by itself, no element read or written beyond its arrays."""
    run_in_c("--isa", _native.isas()[0])


@pytest.mark.slow
def test_in_c_with_every_compiler():
    run_in_c()


@pytest.mark.slow
def test_in_c_under_sanitizers():
    run_in_c("--sanitize")
