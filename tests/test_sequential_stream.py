"""Streams of layers one after the other: what the Sequential gives, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import GRU, LSTM, RNN, Activation, Dropout, Embedding, LayerNorm, Linear, Sequential

N, T, V = 3, 6, 11
PACKED = fastrnn.get_gemm() == "packed"

two = pytest.mark.parametrize("kind", ["numbers", "indices"])


def numbers(dtype: str = "float32") -> Sequential:
    return Sequential(
        Dropout(0.5),
        Linear(4, 5, dtype=dtype, random_state=0),
        LSTM(5, 6, 2, dtype=dtype, initial_state="normal", random_state=1),
        LayerNorm(6, dtype=dtype),
        Sequential(Linear(6, 7, dtype=dtype, random_state=2), Activation("relu")),
        Sequential(GRU(7, 5, dtype=dtype, random_state=3), RNN(5, 4, dtype=dtype, random_state=4)),
        Linear(4, 3, dtype=dtype, random_state=5),
        Activation("softmax"),
    )


def indices() -> Sequential:
    return Sequential(
        Embedding(V, 5, random_state=0),
        LSTM(5, 8, proj_size=3, dropout=0.5, random_state=1),
        LayerNorm(3),
        Linear(3, V, random_state=2),
    )


def make(kind: str, rng: np.random.Generator) -> tuple[Sequential, np.ndarray]:
    if kind == "indices":
        return indices(), rng.integers(0, V, (N, T))
    return numbers(), rng.standard_normal((N, T, 4)).astype(np.float32)


def same(found: Any, expected: Any) -> None:
    """The same bits, or nearly the same numbers with engines that promise no more."""
    if isinstance(expected, tuple):
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    elif PACKED:
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@two
def test_steps_and_chunks_have_the_bits_of_the_whole_call(
    kind: str, rng: np.random.Generator
) -> None:
    layers, x = make(kind, rng)
    expected, last = layers(x)
    stream, pushed = layers.stream(N), layers.stream(N)
    same(np.stack([stream.step(x[:, t]) for t in range(T)], axis=1), expected)
    chunks = [pushed.push(x[:, a:b]) for a, b in ((0, 3), (3, 3), (3, 4), (4, T))]
    same(np.concatenate(chunks, axis=1), expected)
    same(stream.state, last)
    same(pushed.state, last)
    alone = layers.stream()
    same(np.stack([alone.step(x[2:, t])[0] for t in range(T)]), expected[2])


def test_double_precision_and_other_dtypes_of_the_input(rng: np.random.Generator) -> None:
    layers = numbers("float64")
    x = rng.integers(-3, 4, (N, T, 4))
    stream = layers.stream(N)
    y = stream.step(x[:, 0])
    assert y.dtype == np.float64
    same(y, layers(x)[0][:, 0])
    words = indices()
    tokens = rng.integers(0, V, (N, T)).astype(np.uint8)
    same(words.stream(N).push(tokens), words(tokens)[0])


@two
def test_sequences_come_go_and_begin_again(kind: str, rng: np.random.Generator) -> None:
    layers, x = make(kind, rng)
    expected, _ = layers(x)
    stream = layers.stream(0)
    assert stream.push(x[:0, :2]).shape == (0, 2, expected.shape[2])
    assert stream.add(2).tolist() == [0, 1]
    stream.push(x[:2, :3])
    assert stream.add().tolist() == [2]
    mixed = np.concatenate([x[:2, 3:4], x[2:, :1]])
    same(stream.push(mixed), np.concatenate([expected[:2, 3:4], expected[2:, :1]]))
    stream.drop(0)
    assert stream.batch_size == 2
    stream.reset([0])
    same(stream.step(np.stack([x[1, 0], x[2, 1]])), [expected[1, 0], expected[2, 1]])
    stream.reset()
    same(stream.push(x[:2]), expected[:2])


@two
def test_the_state_can_be_read_and_written(kind: str, rng: np.random.Generator) -> None:
    layers, x = make(kind, rng)
    expected, _ = layers(x)
    stream, other = layers.stream(N), layers.stream(N)
    stream.push(x[:, :2])
    saved = stream.state
    same(stream.push(x[:, 2:]), expected[:, 2:])
    other.state = saved
    same(other.push(x[:, 2:]), expected[:, 2:])
    same(layers(x[:, 2:], saved)[0], expected[:, 2:])


def test_a_state_that_does_not_fit_changes_nothing(rng: np.random.Generator) -> None:
    layers, x = make("numbers", rng)
    stream = layers.stream(N)
    stream.push(x[:, :2])
    before = stream.state
    lstm, (gru, rnn) = before
    with pytest.raises(ValueError, match="state: expected 2 entries, one for each recurrent"):
        stream.state = (lstm, gru, rnn)
    with pytest.raises(ValueError, match=r"state: expected shape \(1, 3, 4\)"):
        stream.state = ((lstm[0] + 1, lstm[1]), (gru + 1, rnn[:, :2]))
    same(stream.state, before)


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_writes_to_any_layer_are_seen_after_reload(number: int, rng: np.random.Generator) -> None:
    layers, x = make("indices", rng)
    before, _ = layers(x)
    stream = layers.stream(N)
    same(stream.push(x[:, :2]), before[:, :2])
    for value in layers[number].params.values():
        value *= -1.5
    same(stream.step(x[:, 2]), before[:, 2])
    state = stream.state
    stream.reload()
    expected, _ = layers(x[:, 3:], state)
    assert np.abs(expected - before[:, 3:]).max() > 1e-4
    same(stream.push(x[:, 3:]), expected)


def test_read_only_parameters_are_not_copied(rng: np.random.Generator) -> None:
    layers, x = make("indices", rng)
    for value in layers.params.values():
        value.flags.writeable = False
    stream = layers.stream(N)
    for i in (0, 2, 3):
        assert stream._stateless[i].params["weight"] is layers[i].params["weight"]
    same(stream.push(x), layers(x)[0])


def test_where_steps_are_written(rng: np.random.Generator) -> None:
    layers, x = make("indices", rng)
    expected, _ = layers(x)
    stream = layers.stream(N)
    out = np.zeros((N, V), np.float32)
    assert stream.step(x[:, 0], out) is out
    same(out, expected[:, 0])
    with pytest.raises(TypeError, match="out: expected an array of float32, got"):
        stream.step(x[:, 1], np.zeros((N, V)))
    with pytest.raises(ValueError, match=r"out: expected shape \(3, 11\)"):
        stream.step(x[:, 1], out[:2])
    same(stream.step(x[:, 1]), expected[:, 1])  # nothing had advanced


def test_inputs_that_do_not_fit_advance_nothing(rng: np.random.Generator) -> None:
    layers, x = make("indices", rng)
    stream = layers.stream(N)
    with pytest.raises(ValueError, match=r"x_t: expected shape \(3,\) \(N,\), got \(2,\)"):
        stream.step(x[:2, 0])
    with pytest.raises(TypeError, match="x_t: expected indices, got dtype float64"):
        stream.step(x[:, 0] * 1.0)
    with pytest.raises(ValueError, match=r"expected indices in \[0, 11\), got 11"):
        stream.step(np.full(N, V))
    with pytest.raises(ValueError, match=r"chunk: expected shape \(3, any\) \(N, t\), got \(3,\)"):
        stream.push(x[:, 0])
    with pytest.raises(ValueError, match=r"rows: expected sequences in \[0, 3\), got 3"):
        stream.drop([0, 3])
    same(stream.push(x), layers(x)[0])
    wide = numbers().stream(N)
    with pytest.raises(ValueError, match=r"x_t: expected shape \(3, 4\) \(N, D\), got \(3, 5\)"):
        wide.step(np.zeros((N, 5)))
    with pytest.raises(TypeError, match="chunk: expected real numbers"):
        wide.push(np.zeros((N, 2, 4), complex))


class Shift(Linear):
    """A layer of a user's own, which wants sequences and changes what its class computes."""

    def __call__(self, x: Any) -> Any:
        assert x.ndim == 3
        return super().__call__(x) + 1


def test_layers_of_ones_own(rng: np.random.Generator) -> None:
    layers = Sequential(GRU(4, 5, random_state=0), Shift(5, 2, random_state=1))
    x = rng.standard_normal((N, T, 4)).astype(np.float32)
    expected, _ = layers(x)
    stream = layers.stream(N)
    same(np.stack([stream.step(x[:, t]) for t in range(T)], axis=1), expected)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((Linear(2, 3),), "stream: expected layers of which one is recurrent, got none"),
        ((Linear(2, 3), LSTM(3, 4, bidirectional=True)), r"layers\[1\]: bidirectional: a stream"),
        ((fastrnn.Reversed(GRU(2, 3)),), r"layers\[0\]: stream: expected a layer that begins"),
        ((GRU(2, 3), Linear(4, 2)), r"x: expected shape \(\.\.\., 4\), got \(1, 1, 3\)"),
    ],
)
def test_layers_that_cannot_stream(layers: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sequential(*layers).stream()


def test_batch_sizes_that_are_refused() -> None:
    with pytest.raises(ValueError, match="batch_size: expected an integer of at least 0, got -1"):
        indices().stream(-1)
    with pytest.raises(TypeError, match="n: expected an integer"):
        indices().stream().add(1.0)  # type: ignore[arg-type]
