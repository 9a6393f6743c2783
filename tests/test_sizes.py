"""Sizes beyond 2^31 and beyond all memory: computed right, or refused at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_bad_input import contents, make, refused

import fastrnn
from fastrnn import GRU, LSTM, RNN, Attention, Dropout, Embedding, LayerNorm, Linear, losses
from fastrnn.engine import products

N, T, D, H = 4, 5, 3, 6
NO_ROOM = r"nable to allocate|expected to get"


def giant(*shape: int) -> np.ndarray:
    """An array (..., D) of any size whose rows are all the same D numbers."""
    row = np.ones(shape[-1], np.float32)
    return np.lib.stride_tricks.as_strided(row, shape, (0,) * (len(shape) - 1) + (4,))


# No machine has room for these: each asks for more bytes than there are addresses.
GIANTS: dict[str, Callable[[Any], Any]] = {
    "sequences": lambda layer: layer(giant(2**50, 5, D)),
    "steps": lambda layer: layer(giant(5, 2**50, D)),
    "both": lambda layer: layer(giant(2**20, 2**24, D)),
    "steps of nobody": lambda layer: layer(giant(0, 2**58, D)),
    "sequences without steps": lambda layer: layer(giant(2**58, 0, D)),
    "list": lambda layer: layer([giant(2**50, D)] * 3),
    "training": lambda layer: layer.forward(giant(2**20, 2**24, D)),
    "trace": lambda layer: layer.trace(giant(5, 2**50, D)),
    "gradient flow": lambda layer: fastrnn.gradient_flow(layer, giant(5, 2**50, D)),
    "stream": lambda layer: layer.stream(2**50),
    "add": lambda layer: layer.stream(1).add(2**50),
    "push": lambda layer: layer.stream(2).push(giant(2, 2**50, D)),
    "linear": lambda layer: Linear(D, H)(giant(2**50, D)),
    "normalization": lambda layer: LayerNorm(D)(giant(2**50, D)),
    "attention": lambda layer: Attention(D, H)(giant(1, 2**50, D), np.zeros((1, 1, H))),
    "sources": lambda layer: Attention(D, H, "dot")(np.zeros((1, 1, D)), giant(1, 2**50, H)),
    "dropout": lambda layer: Dropout(0.5).forward(giant(2**50, D)),
    "squared error": lambda layer: losses.squared_error(giant(2**50, D), giant(2**50, D)),
    "LSTM": lambda layer: LSTM(3, 2**45),
    "GRU": lambda layer: GRU(2**48, 3),
    "Linear": lambda layer: Linear(2**24, 2**24),
    "Embedding": lambda layer: Embedding(2**48, 2),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["lstm", "gru"])
@pytest.mark.parametrize("which", GIANTS)
def test_what_no_machine_can_hold_is_a_memory_error_at_once(which: str, name: str) -> None:
    layer = make(name)
    before = contents(layer)
    with pytest.raises(MemoryError, match=NO_ROOM):
        GIANTS[which](layer)
    assert {**contents(layer), "call_count": 0} == before
    assert layer(np.zeros((N, T, D)))[0].shape == (N, T, H)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("input_size", lambda: LSTM(2**59, 1)),
        ("input_size", lambda: GRU(1, 10**30)),
        ("input_size", lambda: RNN(2**31, 2**31)),
        ("in_features", lambda: Linear(2**31, 2**31)),
        ("num_embeddings", lambda: Embedding(2**64, 1)),
        ("features", lambda: LayerNorm(2**63)),
        ("query_size", lambda: Attention(2**59, 2)),
        ("x", lambda: Embedding(5, 2)(2**63)),
        ("lengths", lambda: make()(np.zeros((N, T, D)), lengths=[2**63, 1, 1, 1])),
        ("n", lambda: fastrnn.set_num_threads(2**31)),
    ],
)
def test_sizes_that_no_array_can_have_are_refused_by_name(
    argument: str, call: Callable[[], Any]
) -> None:
    refused(argument, call)


@pytest.mark.slow
def test_more_than_2_to_the_31_elements() -> None:
    # Memory that is only read and all zero takes no room, so that this runs anywhere.
    steps, width = 1025, 2**20
    many = np.zeros((2, steps, width), np.float32)
    assert many.size > 2**31
    many[1, -1, -1], many[1, 1000, 7], many[0, 3, 0] = 1, 2, 3
    layer = RNN(width, 1, random_state=1)
    U, W = layer.params["weight_ih_l0"][0], layer.params["weight_hh_l0"][0, 0]
    bias = layer.params["bias_ih_l0"][0] + layer.params["bias_hh_l0"][0]
    h, expected = np.zeros(2), np.zeros((2, steps))
    for t in range(steps):
        inputs = np.array([3 * U[0] * (t == 3), 2 * U[7] * (t == 1000) + U[-1] * (t == steps - 1)])
        h = expected[:, t] = np.tanh(bias + inputs + W * h)
    np.testing.assert_allclose(layer(many)[0][:, :, 0], expected, rtol=1e-5, atol=1e-6)
    rows = many.reshape(-1, width // 2**10)
    linear = Linear(width // 2**10, 1, random_state=1)
    weight, constant = linear.params["weight"][0], linear.params["bias"][0]
    found = linear(rows)[:, 0] - constant
    assert np.flatnonzero(found).tolist() == [3 * 2**10, (steps + 1000) * 2**10, len(rows) - 1]
    np.testing.assert_allclose(found[-1], weight[-1], rtol=1e-5)


@pytest.mark.slow
def test_the_blas_engine_refuses_what_its_integers_cannot_count() -> None:
    long = np.zeros((1, 2**31 + 8), np.float32)
    fastrnn.set_gemm("blas")
    try:
        with pytest.raises(ValueError, match=r"weight: expected dimensions below 2\*\*31"):
            products.linear(long, long)
    finally:
        fastrnn.set_gemm(None)
