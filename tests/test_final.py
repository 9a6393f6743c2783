"""The output of a recurrent layer at each sequence's end: states, gradients, files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finite_differences import assert_gradients

import fastrnn

LENGTHS = [4, 1, 5]
LAYERS = {
    "two layers of two directions": lambda dtype: fastrnn.LSTM(
        2, 3, 2, bidirectional=True, dtype=dtype, random_state=0
    ),
    "projected": lambda dtype: fastrnn.LSTM(2, 3, proj_size=2, dtype=dtype, random_state=0),
    "reversed": lambda dtype: fastrnn.Reversed(fastrnn.GRU(2, 3, dtype=dtype, random_state=0)),
}

every = pytest.mark.parametrize("name", LAYERS)


@every
def test_the_last_steps(name: str, rng: np.random.Generator) -> None:
    layer = LAYERS[name]("float32")
    x = rng.standard_normal((3, 5, 2)).astype(np.float32)
    whole, state = layer(x, lengths=LENGTHS)
    y, last = fastrnn.Final(layer)(x, lengths=LENGTHS)
    S = whole.shape[2] // (2 if name.startswith("two") else 1)
    ends = [0] * 3 if name == "reversed" else [n - 1 for n in LENGTHS]
    np.testing.assert_array_equal(y[:, :S], whole[np.arange(3), ends, :S])
    np.testing.assert_array_equal(y[:, S:], whole[:, 0, S:])
    for found, expected in zip(last, state, strict=True):
        np.testing.assert_array_equal(found, expected)
    listed, _ = fastrnn.Final(layer)([x[i, :n] for i, n in enumerate(LENGTHS)])
    np.testing.assert_array_equal(listed, y)


@every
@pytest.mark.parametrize("given", [False, True])
def test_gradients(name: str, given: bool, rng: np.random.Generator) -> None:
    layer = fastrnn.Final(LAYERS[name]("float64"))
    x = rng.standard_normal((3, 5, 2))
    y, last, backward = layer.forward(x, lengths=LENGTHS)
    dy = rng.standard_normal(y.shape)
    pair = isinstance(last, tuple)
    parts = last if pair else (last,)
    dparts = tuple(rng.standard_normal(part.shape) for part in parts)

    def loss() -> float:
        y, last = layer(x, lengths=LENGTHS)
        parts = last if pair else (last,)
        more = sum(float((p * d).sum()) for p, d in zip(parts, dparts, strict=True))
        return float((y * dy).sum()) + (more if given else 0.0)

    dx, _ = backward(dy, (dparts if pair else dparts[0]) if given else None)
    assert_gradients(loss, {"x": x, **layer.params}, {"x": dx, **layer.grads})


def test_what_layers_have(tmp_path: Path, rng: np.random.Generator) -> None:
    layer: Any = fastrnn.Final(fastrnn.GRU(2, 3, 2, random_state=0))
    x = rng.standard_normal((3, 5, 2)).astype(np.float32)
    y, _ = layer(x, lengths=LENGTHS)
    layer.save(tmp_path / "layer")
    for other in (fastrnn.load(tmp_path / "layer"), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(other(x, lengths=LENGTHS)[0], y)
    model = fastrnn.Sequential(layer, fastrnn.Linear(3, 2, random_state=0))
    out, _, backward = model.forward(x, lengths=LENGTHS)
    assert out.shape == (3, 2)
    before = layer.params["weight_hh_l1"].copy()
    backward(np.ones_like(out))
    fastrnn.optim.SGD([model], 0.1).step()
    assert (layer.params["weight_hh_l1"] != before).any()
    _, last, backward = layer.forward(x)
    with pytest.raises(ValueError, match="dy: expected 2 dimensions"):
        backward(np.ones((3, 5, 3), np.float32))
    dx, _ = backward(None, np.ones_like(last))
    assert dx.any()
    xp = pytest.importorskip("array_api_strict")
    again, _ = layer(xp.asarray(x))
    np.testing.assert_allclose(np.asarray(again), layer(x)[0], atol=1e-6)


def test_errors() -> None:
    with pytest.raises(TypeError, match="layer: expected a recurrent layer, got Linear"):
        fastrnn.Final(fastrnn.Linear(2, 2))
