"""Pooling: values by definition, gradients by central differences, and nothing of padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from finite_differences import assert_gradients
from kinds import put, stays

from fastrnn import Linear
from fastrnn.engine.arrays import entered, to_host
from fastrnn.sequences.pooling import POOLINGS, Pool, real_steps

__all__ = ["put"]

N, T, P, FORWARD = 4, 6, 5, 3
LENGTHS = np.array([6, 1, 4, 3])

every_pooling = pytest.mark.parametrize("pooling", [*POOLINGS, None])


def layers(dtype: str = "float64") -> dict[str, Linear]:
    return {
        "attention": Linear(P, P, dtype=dtype, random_state=1),
        "score": Linear(P, 1, bias=False, dtype=dtype, random_state=2),
    }


def padded(rng: np.random.Generator, dtype: str = "float64") -> np.ndarray:
    y = rng.standard_normal((N, T, P)).astype(dtype)
    y[~real_steps(LENGTHS, T)] = 0
    return y


def reference(pooling: str | None, y: np.ndarray, used: dict[str, Linear]) -> np.ndarray:
    """The rows, sequence by sequence, as their definitions say."""
    rows = []
    for one, length in zip(y, LENGTHS, strict=True):
        steps = one[:length]
        if pooling is None:
            rows.extend(steps)
        elif pooling == "last":
            rows.append(np.r_[steps[-1, :FORWARD], steps[0, FORWARD:]])
        elif pooling == "attention":
            w, b = used["attention"].params["weight"], used["attention"].params["bias"]
            e = np.tanh(steps @ w.T + b) @ used["score"].params["weight"][0]
            a = np.exp(e) / np.exp(e).sum()
            rows.append(a @ steps)
        else:
            rows.append(getattr(steps, pooling)(axis=0))
    return np.array(rows)


@every_pooling
def test_rows_are_their_definition(pooling: str | None, rng: np.random.Generator) -> None:
    y, used = padded(rng), layers()
    rows, _ = Pool(pooling, FORWARD, used)(y, LENGTHS)
    np.testing.assert_allclose(rows, reference(pooling, y, used), rtol=0, atol=1e-14)


@every_pooling
def test_gradients(pooling: str | None, rng: np.random.Generator) -> None:
    y, used = padded(rng), layers()
    pool = Pool(pooling, FORWARD, used)
    rows, backward = pool(y, LENGTHS)
    drows = rng.standard_normal(rows.shape)
    dy = backward(drows)
    # Padding is not y's to vary: gradients are compared where it is real, and are 0 elsewhere.
    real = real_steps(LENGTHS, T)
    assert not dy[~real].any()
    values = y[real]

    def loss() -> float:
        again = np.zeros_like(y)
        again[real] = values
        return float((pool(again, LENGTHS)[0] * drows).sum())

    arrays, gradients = {"y": values}, {"y": dy[real]}
    if pooling == "attention":
        for name, layer in used.items():
            for key, param in layer.params.items():
                arrays[f"{name}.{key}"], gradients[f"{name}.{key}"] = param, layer.grads[key]
    assert_gradients(loss, arrays, gradients, 1e-8)


@every_pooling
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_padding_takes_no_part(pooling: str | None, dtype: str, rng: np.random.Generator) -> None:
    """Neither its values, where y is not zero there, nor how much of it there is."""
    y, used = padded(rng, dtype), layers(dtype)
    pool = Pool(pooling, FORWARD, used)
    rows, backward = pool(y, LENGTHS)
    assert rows.dtype == dtype
    drows = rng.standard_normal(rows.shape).astype(dtype)
    dy = backward(drows)
    assert dy.dtype == dtype
    longer = np.concatenate([y, np.zeros((N, 9, P), dtype)], axis=1)
    more, more_backward = pool(longer, LENGTHS)
    np.testing.assert_array_equal(more, rows)
    np.testing.assert_array_equal(more_backward(drows)[:, :T], dy)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_does_not_depend_on_those_around_it(
    pooling: str, dtype: str, rng: np.random.Generator
) -> None:
    y, used = padded(rng, dtype), layers(dtype)
    pool = Pool(pooling, FORWARD, used)
    whole, _ = pool(y, LENGTHS)
    for i, length in enumerate(LENGTHS):
        alone, _ = pool(y[i : i + 1, :length], LENGTHS[i : i + 1])
        np.testing.assert_array_equal(alone[0], whole[i])


def test_max_takes_the_first_of_equals_and_negative_values() -> None:
    """Padding is zero, which is more than all of a negative sequence."""
    y = np.array([[[-2.0], [-1.0], [-1.0], [0.0]]])
    rows, backward = Pool("max", 1, {})(y, np.array([3]))
    assert rows.tolist() == [[-1.0]]
    assert backward(np.array([[5.0]]))[0, :, 0].tolist() == [0, 5, 0, 0]


@pytest.mark.parametrize("lengths", [[6, 6, 6, 6], [1, 1, 1, 1]])
def test_last_of_one_direction_and_of_one_step(
    lengths: list[int], rng: np.random.Generator
) -> None:
    y = rng.standard_normal((N, max(lengths), P))
    rows, backward = Pool("last", P, {})(y, np.array(lengths))
    np.testing.assert_array_equal(rows, y[:, -1])
    dy = backward(rows)
    np.testing.assert_array_equal(dy[:, -1], rows)
    assert not dy[:, :-1].any()


def test_attention_is_safe_from_large_scores(rng: np.random.Generator) -> None:
    used = layers()
    used["score"].params["weight"][...] *= 1e4
    rows, weights, backward = Pool("attention", FORWARD, used).attend(padded(rng), LENGTHS)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert not weights[~real_steps(LENGTHS, T)].any()
    assert np.isfinite(backward(rows)).all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_backward_does_not_write_into_what_it_is_given(
    pooling: str, rng: np.random.Generator
) -> None:
    y = padded(rng)
    kept = y.copy()
    call: Callable[..., Any] = Pool(pooling, FORWARD, layers())
    rows, backward = call(y, LENGTHS)
    drows = np.ones_like(rows)
    backward(drows)
    assert (drows == 1).all()
    np.testing.assert_array_equal(y, kept)


@every_pooling
def test_arrays_of_other_kinds(pooling: str | None, put: Any, rng: np.random.Generator) -> None:
    """Also where values are equal, as they are in every other column."""
    y, used = padded(rng), layers()
    y[..., ::2] = np.round(y[..., ::2])
    there = {name: layer.to(put.device) for name, layer in layers().items()}
    rows, backward = Pool(pooling, FORWARD, used)(y, LENGTHS)
    drows = rng.standard_normal(rows.shape)
    dy = backward(drows)
    with entered(put(y)):
        its_rows, its_backward = Pool(pooling, FORWARD, there)(put(y), LENGTHS)
        its_dy = its_backward(put(drows))
    stays(put(y), [its_rows, its_dy])
    exact = {"rtol": 0, "atol": 1e-14 if pooling in ("mean", "attention") else 0}
    np.testing.assert_allclose(to_host(its_rows), rows, **exact)
    np.testing.assert_allclose(to_host(its_dy), dy, **exact)
    for name, layer in used.items():
        for key, grad in layer.grads.items():
            np.testing.assert_allclose(to_host(there[name].grads[key]), grad, rtol=0, atol=1e-13)
