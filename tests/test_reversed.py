"""A recurrent layer from the end: equal to the reverse direction of one that has both."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finite_differences import assert_gradients

import fastrnn

LENGTHS = [4, 0, 5]


def pair(**options: Any) -> tuple[Any, Any]:
    """A layer of both directions, and a reversed one that has its second direction's weights."""
    both = fastrnn.LSTM(2, 3, bidirectional=True, random_state=0, **options)
    single = fastrnn.Reversed(fastrnn.LSTM(2, 3, random_state=1, **options))
    for name, param in single.params.items():
        param[...] = both.params[f"{name}_reverse"]
    return both, single


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_equal_to_the_second_direction(lengths: Any, rng: np.random.Generator) -> None:
    both, single = pair()
    x = rng.standard_normal((3, 5, 2)).astype(np.float32)
    h, c = rng.standard_normal((2, 2, 3, 3)).astype(np.float32)
    y, last = both(x, (h, c), lengths)
    found, found_last = single(x, (h[1:], c[1:]), lengths)
    np.testing.assert_array_equal(found, y[:, :, 3:])
    for mine, theirs in zip(found_last, last, strict=True):
        np.testing.assert_array_equal(mine, theirs[1:])


def test_lists_and_other_arrays(rng: np.random.Generator) -> None:
    both, single = pair(dtype="float64")
    x = [rng.standard_normal((n, 2)) for n in LENGTHS]
    for found, y in zip(single(x)[0], both(x)[0], strict=True):
        np.testing.assert_array_equal(found, y[:, 3:])
    xp = pytest.importorskip("array_api_strict")
    padded = rng.standard_normal((3, 5, 2))
    y = single(xp.asarray(padded), lengths=LENGTHS)[0]
    np.testing.assert_allclose(np.asarray(y), single(padded, lengths=LENGTHS)[0], atol=1e-14)


def test_gradients(rng: np.random.Generator) -> None:
    _, layer = pair(dtype="float64")
    x, state = rng.standard_normal((3, 5, 2)), list(rng.standard_normal((2, 1, 3, 3)))
    dy, dstate = rng.standard_normal((3, 5, 3)), rng.standard_normal((2, 1, 3, 3))

    def loss() -> float:
        y, (h, c) = layer(x, state, LENGTHS)
        return float((y * dy).sum() + (h * dstate[0]).sum() + (c * dstate[1]).sum())

    _, _, backward = layer.forward(x, state, LENGTHS)
    dx, dfirst = backward(dy, tuple(dstate))
    assert_gradients(
        loss,
        {"x": x, "h": state[0], "c": state[1], **layer.params},
        {"x": dx, "h": dfirst[0], "c": dfirst[1], **layer.grads},
    )


def test_what_layers_have(tmp_path: Path, rng: np.random.Generator) -> None:
    _, layer = pair()
    x = rng.standard_normal((3, 5, 2)).astype(np.float32)
    y, _ = layer(x, lengths=LENGTHS)
    layer.save(tmp_path / "layer")
    for other in (fastrnn.load(tmp_path / "layer"), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(other(x, lengths=LENGTHS)[0], y)
    model = fastrnn.Sequential(layer, fastrnn.Linear(3, 1, random_state=0))
    assert model(x, lengths=LENGTHS)[0].shape == (3, 5, 1)
    before = layer.params["weight_hh_l0"].copy()
    out, _, backward = model.forward(x)
    backward(out)
    fastrnn.optim.SGD([model], 0.1).step()
    assert (layer.params["weight_hh_l0"] != before).any()
    assert (layer(x)[0] != y).any(), "the step has been seen"
    layer.zero_grad()
    assert not any(grad.any() for grad in layer.grads.values())
    assert layer.num_parameters == sum(p.size for p in layer.params.values())
    layer.prepare()
    assert not layer.params["weight_hh_l0"].flags.writeable


def test_errors() -> None:
    both, layer = pair()
    with pytest.raises(ValueError, match="layer: expected one direction, got both"):
        fastrnn.Reversed(both)
    with pytest.raises(TypeError, match="layer: expected a recurrent layer"):
        fastrnn.Reversed(fastrnn.Linear(2, 2))
    with pytest.raises(ValueError, match="stream: expected a layer that begins with the first"):
        layer.stream()
    with pytest.raises(ValueError, match="x: expected 3 dimensions"):
        layer(np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"lengths: expected shape \(3,\)"):
        layer(np.zeros((3, 5, 2), np.float32), lengths=[1])
