"""Recurrent layers: dropout between layers and on the state."""

from __future__ import annotations

import numpy as np
import pytest
from made_layers import LENGTHS, D, H, N, T, close, make

import fastrnn
from fastrnn.engine.masks import keep_mask
from fastrnn.engine.stack import BETWEEN_LAYERS

# Dropout


def test_dropout_is_for_training_alone_and_a_function_of_the_call(
    rng: np.random.Generator,
) -> None:
    layer = make(num_layers=2, dropout=0.5, recurrent_dropout=0.5)
    plain = make(num_layers=2)
    x = rng.standard_normal((N, T, D))
    np.testing.assert_array_equal(layer(x)[0], plain(x)[0])
    assert layer.call_count == 0
    first, second = layer.forward(x)[0], layer.forward(x)[0]
    assert layer.call_count == 2
    assert np.abs(first - second).max() > 1e-3
    layer.call_count = 0
    np.testing.assert_array_equal(layer.forward(x)[0], first)
    with pytest.raises(ValueError, match="call_count: expected an integer of at least 0"):
        layer.call_count = -1


def test_masks_depend_on_the_sequences_place_not_on_its_company(
    rng: np.random.Generator,
) -> None:
    layer = make(num_layers=2, bidirectional=True, dropout=0.5, recurrent_dropout=0.5)
    x = rng.standard_normal((N, T, D))
    y = layer.forward(x, lengths=LENGTHS)[0]
    layer.call_count = 0
    few = layer.forward(x[:3], lengths=LENGTHS[:3])[0]
    close(few, y[:3])
    layer.call_count = 0
    as_list = layer.forward([x[n, :k] for n, k in enumerate(LENGTHS)])[0]
    for n, k in enumerate(LENGTHS):
        close(as_list[n], y[n, :k])


def test_recurrent_dropout_is_one_mask_for_all_steps(rng: np.random.Generator) -> None:
    layer = make("rnn tanh", recurrent_dropout=0.4)
    x = rng.standard_normal((N, T, D))
    y = layer.forward(x)[0]
    p = {name.removesuffix("_l0"): value for name, value in layer.params.items()}
    mask = keep_mask(1, 0, 0, 0, np.arange(N), None, H, 0.4, np.float64)
    assert set(np.unique(mask)) == {0.0, 1 / 0.6}
    h = np.zeros((N, H))
    for t in range(T):
        sums = x[:, t] @ p["weight_ih"].T + (h * mask) @ p["weight_hh"].T
        h = np.tanh(sums + p["bias_ih"] + p["bias_hh"])
        close(y[:, t], h)


def test_recurrent_masks_differ_by_layer_and_direction() -> None:
    # Of zero weights but W_hh, h is a constant of the biases, and its next value tells the mask.
    layer = make("rnn tanh", num_layers=2, bidirectional=True, recurrent_dropout=0.5)
    for name, value in layer.params.items():
        if name.startswith("weight_hh"):
            value[...] = np.eye(H)
        else:
            value[...] = 0.1 if name.startswith("bias") else 0
    _, last, _ = layer.forward(np.zeros((8, 2, D)))
    kept = last > np.tanh(0.2) + 1e-3
    assert kept.shape == (4, 8, H)
    assert 0.3 < kept.mean() < 0.7
    assert len(np.unique(kept.reshape(4, -1), axis=0)) == 4


def test_dropout_between_layers_is_new_at_every_step(rng: np.random.Generator) -> None:
    layer = make(num_layers=2, dropout=0.4)
    lower, upper = make(), fastrnn.LSTM(H, H, dtype="float64")
    for name in lower.params:
        lower.params[name][...] = layer.params[name]
        upper.params[name][...] = layer.params[name.replace("l0", "l1")]
    x = rng.standard_normal((N, T, D))
    mask = keep_mask(1, 0, 0, BETWEEN_LAYERS, np.arange(N), np.arange(T), H, 0.4, np.float64)
    assert len(np.unique(mask.reshape(N * T, H), axis=0)) > N
    close(layer.forward(x)[0], upper(lower(x)[0] * mask)[0])
