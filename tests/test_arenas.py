"""How much memory calls keep and take: what the README states, and no more."""

from __future__ import annotations

import gc
import resource
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import GRU, LSTM, RNN, _native

# Of the README: gates' rows, and further rows of H units.
KEPT: dict[str, tuple[Any, dict[str, Any], int, int]] = {
    "rnn": (RNN, {}, 1, 0),
    "lstm": (LSTM, {}, 4, 1),  # c
    "lstm projected": (LSTM, {"proj_size": 32}, 4, 2),  # c, and h before the projection
    "gru": (GRU, {}, 3, 1),  # r h
    "gru reset after": (GRU, {"reset_after": True}, 4, 0),  # W_hn h + b_hn beside the gates
}

pytestmark = pytest.mark.skipif(
    fastrnn.get_gemm() != "packed", reason="the README's formula is that of the packed engine"
)


def vectors(width: int, dtype: np.dtype) -> int:
    """A width rounded up to whole vectors."""
    lanes = _native.lanes(dtype.itemsize)
    return (width + lanes - 1) // lanes * lanes


def formula(layer: Any, gates: int, further: int, N: int, T: int, real: int) -> int:
    """Bytes that are kept between forward and backward, by the README."""
    H, S, dirs = layer.hidden_size, layer.proj_size or layer.hidden_size, layer.num_directions
    units, width = vectors(H, layer.dtype), vectors(S, layer.dtype)
    arena = real * ((gates + further) * units + (width if layer.recurrent_dropout else 0))
    if gates * units * layer.dtype.itemsize % 1024 == 0:
        arena += real * _native.lanes(layer.dtype.itemsize)
    outputs = layer.num_layers * N * T * dirs * S
    between = 2 * (layer.num_layers - 1) * N * T * dirs * S if layer.dropout else 0
    total = layer.num_layers * dirs * arena + outputs + between
    return total * layer.dtype.itemsize


def memories(layer: Any) -> list[Any]:
    """What a layer takes memory from: one for its results, one for each direction of each layer."""
    weights = [one for directions in layer._stack.weights for one in directions]
    return [layer._memory, *(one.native.memory for one in weights if one.native is not None)]


def in_arenas(layer: Any) -> int:
    """Bytes that are in use of a layer's own memory."""
    return sum(memory.nbytes_in_use for memory in memories(layer))


def kept(layer: Any, x: Any, lengths: Any = None) -> int:
    """Bytes that a call of forward keeps for its backward."""
    layer(x, lengths=lengths)  # packs the weights
    gc.collect()
    tracemalloc.start()
    before = in_arenas(layer), tracemalloc.get_traced_memory()[0]
    y, _, backward = layer.forward(x, lengths=lengths)
    after = in_arenas(layer), tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    backward(y)
    return after[0] - before[0] + after[1] - before[1]


def per_sequence(layer: Any, N: int) -> int:
    """What does not grow with the steps: states, pointers, masks of the state, and objects."""
    widest = max(layer.hidden_size, layer.proj_size, 8) + 16
    return layer.num_layers * layer.num_directions * N * (12 * widest * 8) + 40_000


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 3},
        {"bidirectional": True},
        {"num_layers": 2, "bidirectional": True},
        {"recurrent_dropout": 0.5},
        {"num_layers": 2, "dropout": 0.5},
        {"num_layers": 2, "bidirectional": True, "dropout": 0.5, "recurrent_dropout": 0.5},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_training_keeps_states_and_gates(
    name: str, dtype: str, options: dict[str, Any], rng: np.random.Generator
) -> None:
    kind, own, gates, further = KEPT[name]
    # Sizes of which the arenas hold no more than was asked for, and steps enough to outweigh all
    # that does not grow with them.
    N, T, D, H = 2, 1024, 8, 48
    layer = kind(D, H, dtype=dtype, random_state=0, **own, **options)
    x = rng.standard_normal((N, T, D)).astype(dtype)
    expected = formula(layer, gates, further, N, T, N * T)
    constant = per_sequence(layer, N) + 16 * (T + 1)  # how many sequences are alive at each step
    assert expected <= kept(layer, x) <= 1.01 * expected + constant


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("form", ["lengths", "list"])
def test_training_keeps_nothing_of_padding(name: str, form: str, rng: np.random.Generator) -> None:
    kind, own, gates, further = KEPT[name]
    N, T, D, H = 16, 400, 8, 37
    layer = kind(D, H, num_layers=2, bidirectional=True, random_state=0, **own)
    lengths = rng.integers(0, T // 3, N)
    lengths[0] = T
    x: Any = rng.standard_normal((N, T, D)).astype(np.float32)
    real = int(lengths.sum())
    args: tuple[Any, Any] = (x, lengths)
    expected = formula(layer, gates, further, N, T, real)
    if form == "list":  # whose outputs have no padding either
        args = ([one[:n] for one, n in zip(x, lengths, strict=True)], None)
        expected = formula(layer, gates, further, 1, real, real)
    found = kept(layer, *args)
    # Arenas round up by at most an eighth, so that batches of about this size share their pieces.
    assert expected <= found <= 9 / 8 * expected + per_sequence(layer, N) + 16 * (T + 1)


# --- inference -----------------------------------------------------------------------------------


def peak(layer: Any, x: Any, lengths: Any = None) -> int:
    """Most bytes that a call of a layer has in use at a time, the output among them."""
    layer(x[:, :1] if lengths is None else x, lengths=lengths)
    for memory in memories(layer):
        memory.clear()
    before = in_arenas(layer)
    tracemalloc.start()
    with fastrnn.threads(1):  # each further one, which only long calls have, takes some for itself
        layer(x, lengths=lengths)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # What a call gives back is retained, up to an eighth more than was in use at one time.
    held = sum(memory.nbytes_in_use + memory.nbytes_retained for memory in memories(layer))
    return most + held - before


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("num_layers", [1, 2, 4])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_inference_takes_nothing_that_grows_with_steps_but_the_output(
    name: str, num_layers: int, bidirectional: bool, rng: np.random.Generator
) -> None:
    kind, own, _, _ = KEPT[name]
    N, D, H, T = 4, 8, 64, 4096
    options = {"num_layers": num_layers, "bidirectional": bidirectional}
    layer = kind(D, H, random_state=0, **own, **options).prepare()
    x = rng.standard_normal((N, T, D)).astype(np.float32)
    # Two directions of an upper layer begin at both ends of what the layer below has written.
    arrays = min(num_layers, 2) if bidirectional else 1
    output = arrays * N * layer.output_size * 4
    growth = (peak(layer, x) - peak(layer, x[:, : T // 4])) / (T - T // 4)
    assert output <= growth <= output + 64  # how many sequences are alive at each step
    lengths = np.array([T, T // 2, 5, 0])
    growth = (peak(layer, x, lengths) - peak(layer, x[:, : T // 4], lengths // 4)) / (T - T // 4)
    assert output <= growth <= output + 64


# --- many calls ----------------------------------------------------------------------------------


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def mixed_calls(rng: np.random.Generator, count: int) -> None:
    """Calls of all kinds, of ever new shapes, whose results die at once."""
    layers = [
        kind(6, 24, num_layers=2, bidirectional=k % 2 == 1, random_state=0, **own)
        for k, (kind, own, _, _) in enumerate(
            (kind, {**own, "proj_size": 9} if "proj_size" in own else own, g, f)
            for kind, own, g, f in KEPT.values()
        )
    ]
    stream = layers[1].stream(1) if not layers[1].bidirectional else layers[0].stream(1)
    for call in range(count):
        layer = layers[call % len(layers)]
        N, T = int(rng.integers(1, 9)), int(rng.integers(1, 40))
        x: Any = rng.standard_normal((N, T, 6), dtype=np.float32)
        lengths = rng.integers(0, T + 1, N) if call % 3 == 0 else None
        if call % 7 == 0:
            x, lengths = [x[n, : n % T + 1] for n in range(N)], None
        if call % 2:
            layer(x, lengths=lengths)
        else:
            y, _, backward = layer.forward(x, lengths=lengths)
            if call % 8:  # some are never called
                backward(y)
        if call % 11 == 0:
            stream.push(rng.standard_normal((1, T, 6), dtype=np.float32))
            stream.step(np.zeros((1, 6), np.float32))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_over_many_calls_of_mixed_shapes(rng: np.random.Generator) -> None:
    mixed_calls(rng, 3000)
    before = resident()
    mixed_calls(rng, 10_000)
    # The heap sways by about a megabyte; 200 bytes left behind by each call are seen.
    assert resident() - before < 2_000_000
