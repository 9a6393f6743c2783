"""Functions of a layer's output: values, gradients by finite differences, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.special
from finite_differences import assert_gradients

import fastrnn

EXPECTED = {
    "softmax": lambda x: scipy.special.softmax(x, axis=-1),
    "log_softmax": lambda x: scipy.special.log_softmax(x, axis=-1),
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": scipy.special.expit,
    "tanh": np.tanh,
}

every = pytest.mark.parametrize("function", EXPECTED)


@every
def test_values(function: str, rng: np.random.Generator) -> None:
    layer = fastrnn.Activation(function)
    x = 30 * rng.standard_normal((2, 3, 5))
    expected = EXPECTED[function](x)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-12, atol=1e-300)
    assert layer(x.astype(np.float32)).dtype == np.float32
    items = layer([x[0], x[1, :1]])
    np.testing.assert_allclose(items[1], expected[1, :1], rtol=1e-12, atol=1e-300)
    assert layer(np.zeros((2, 0, 3))).shape == (2, 0, 3)
    assert layer(np.zeros((2, 0))).shape == (2, 0)


@every
def test_gradients(function: str, rng: np.random.Generator) -> None:
    layer = fastrnn.Activation(function)
    x, weight = rng.standard_normal((2, 2, 3, 4))
    _, backward = layer.forward(x)
    assert_gradients(lambda: float((layer(x) * weight).sum()), {"x": x}, {"x": backward(weight)})


@every
def test_other_arrays(function: str, rng: np.random.Generator) -> None:
    xp = pytest.importorskip("array_api_strict")
    layer, x = fastrnn.Activation(function), rng.standard_normal((2, 3, 4))
    y, backward = layer.forward(xp.asarray(x))
    np.testing.assert_allclose(np.asarray(y), EXPECTED[function](x), rtol=1e-12)
    np.testing.assert_allclose(
        np.asarray(backward(y)), layer.forward(x)[1](np.asarray(y)), rtol=1e-12
    )


def test_behind_a_recurrent_layer(tmp_path: Path, rng: np.random.Generator) -> None:
    model = fastrnn.Sequential(
        fastrnn.GRU(3, 4, random_state=0),
        fastrnn.Linear(4, 2, random_state=0),
        fastrnn.Activation("softmax"),
    )
    x = rng.standard_normal((2, 5, 3))
    y, _ = model(x)
    np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=1e-6)
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(fastrnn.load(tmp_path / "model")(x)[0], y)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"function: expected .*softmax.* got 'gelu'"):
        fastrnn.Activation("gelu")
    with pytest.raises(ValueError, match=r"x: expected shape \(\.\.\., D\), got \(\)"):
        fastrnn.Activation("tanh")(1.0)
    with pytest.raises(TypeError, match="x: expected real numbers"):
        fastrnn.Activation("tanh")([[1j]])
