"""Streams: the same as whole calls, step by step; their state, rows and snapshots."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_gradients import CELLS

import fastrnn
from fastrnn.layers.recurrent import Recurrent

N, T, D, H = 3, 7, 4, 5

every_cell = pytest.mark.parametrize("name", CELLS)
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def make(name: str = "lstm", **options: Any) -> Recurrent:
    kind, own = CELLS[name]
    return kind(D, H, **own, **({"dtype": "float64", "random_state": 1} | options))


def parts(state: Any) -> tuple[np.ndarray, ...]:
    return state if isinstance(state, tuple) else (state,)


def close(found: Any, expected: Any) -> None:
    tolerance = 1e-5 if np.asarray(expected).dtype == np.float32 else 1e-12
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@every_cell
@both_dtypes
def test_steps_and_chunks_are_the_whole_call(
    name: str, dtype: str, rng: np.random.Generator
) -> None:
    layer = make(name, num_layers=2, initial_state="normal", dtype=dtype)
    x = rng.standard_normal((N, T, D)).astype(dtype)
    expected, last = layer(x)
    stepped, pushed = layer.stream(N), layer.stream(N)
    for t in range(T):
        y = stepped.step(x[:, t])
        assert y.shape == (N, layer.output_size)
        assert y.dtype == dtype
        close(y, expected[:, t])
    chunks = [pushed.push(x[:, a:b]) for a, b in ((0, 3), (3, 3), (3, 4), (4, 7))]
    close(np.concatenate(chunks, axis=1), expected)
    for stream in (stepped, pushed):
        for mine, whole in zip(parts(stream.state), parts(last), strict=True):
            close(mine, whole)


def test_where_steps_are_written(rng: np.random.Generator) -> None:
    layer = make("gru", num_layers=2)
    x = rng.standard_normal((N, T, D))
    expected, _ = layer(x)
    stream = layer.stream(N)
    out = np.full((N, H), np.nan)
    assert stream.step(x[:, 0], out=out) is out
    close(out, expected[:, 0])
    wide = np.full((N, 2 * H), np.nan)
    assert stream.step(x[:, 1], wide[:, ::2]).base is wide
    close(wide[:, ::2], expected[:, 1])
    assert np.isnan(wide[:, 1::2]).all()
    stream.step(x[:, 2].astype(np.float32), out)
    with pytest.raises(TypeError, match="out: expected an array of float64, got"):
        stream.step(x[:, 3], np.zeros((N, H), np.float32))
    with pytest.raises(TypeError, match="out: expected an array of float64, got"):
        stream.step(x[:, 3], [[0.0] * H] * N)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"out: expected shape \(3, 5\)"):
        stream.step(x[:, 3], np.zeros((N, H + 1)))
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out: expected an array that can be written"):
        stream.step(x[:, 3], out)
    assert np.abs(stream.step(x[:, 3]) - expected[:, 3]).max() < 1e-6  # nothing had advanced


def test_a_step_may_overwrite_its_input(rng: np.random.Generator) -> None:
    layer = fastrnn.LSTM(H, H, dtype="float64", random_state=0)
    x = rng.standard_normal((N, T, H))
    expected, _ = layer(x)
    stream = layer.stream(N)
    for t in range(T):
        buffer = x[:, t].copy()
        stream.step(buffer, out=buffer)
        close(buffer, expected[:, t])


@every_cell
def test_the_state_can_be_read_and_written(name: str, rng: np.random.Generator) -> None:
    layer = make(name, num_layers=2)
    x = rng.standard_normal((N, T, D))
    expected, _ = layer(x)
    stream = layer.stream(N)
    stream.push(x[:, :3])
    saved = stream.state
    assert isinstance(saved, tuple) == (len(layer.cell.states) > 1)
    stream.push(x[:, 3:])
    kept = [part.copy() for part in parts(saved)]
    for part, copy in zip(parts(saved), kept, strict=True):
        np.testing.assert_array_equal(part, copy)
    stream.state = saved
    for part in parts(saved):
        part[...] = np.nan  # a copy was taken
    close(stream.push(x[:, 3:]), expected[:, 3:])
    other = layer.stream(N)
    other.state = tuple(kept) if len(kept) > 1 else kept[0]
    close(other.push(x[:, 3:]), expected[:, 3:])


def test_wrong_states_change_nothing() -> None:
    stream = make().stream(N)
    h = np.ones((1, N, H))
    with pytest.raises(ValueError, match=r"state: expected 2 arrays \(h, c\)"):
        stream.state = h
    with pytest.raises(ValueError, match=r"state: expected shape \(1, 3, 5\)"):
        stream.state = (h, h[:, :2])
    with pytest.raises(TypeError, match="state: expected real numbers"):
        stream.state = (h, h * 1j)
    assert not any(part.any() for part in stream.state)


@pytest.mark.parametrize("rows", [1, [1], np.array([False, True, False]), np.uint8([1, 1])])
@pytest.mark.parametrize("initial_state", ["zeros", "normal", "learned"])
def test_reset_begins_some_sequences_again(
    rows: Any, initial_state: str, rng: np.random.Generator
) -> None:
    layer = make(num_layers=2, initial_state=initial_state)
    for name, value in layer.params.items():
        if name.startswith(("h0", "c0")):
            value[...] = rng.standard_normal(value.shape)
    x = rng.standard_normal((N, T, D))
    expected, _ = layer(x)
    afresh, _ = layer(x[:, 4:])
    stream = layer.stream(N)
    stream.push(x[:, :4])
    stream.reset(rows)
    y = stream.push(x[:, 4:])
    close(y[[0, 2]], expected[[0, 2], 4:])
    close(y[1], afresh[1])
    stream.reset()
    close(stream.push(x), expected)


def test_sequences_come_and_go(rng: np.random.Generator) -> None:
    layer = make(num_layers=2, initial_state="normal")
    x = rng.standard_normal((5, T, D))
    expected, _ = layer(x)
    stream = layer.stream(2)
    assert stream.batch_size == 2
    close(stream.push(x[:2, :3]), expected[:2, :3])
    assert stream.add(3).tolist() == [2, 3, 4]
    assert stream.batch_size == 5
    mixed = np.concatenate([x[:2, 3:5], x[2:, :2]])
    close(stream.push(mixed), np.concatenate([expected[:2, 3:5], expected[2:, :2]]))
    stream.drop([0, 3])  # sequences 1, 2 and 4 remain
    assert stream.batch_size == 3
    y = stream.step(np.stack([x[1, 5], x[2, 2], x[4, 2]]))
    close(y, [expected[1, 5], expected[2, 2], expected[4, 2]])
    stream.drop(np.array([True, True, True]))
    assert stream.step(np.zeros((0, D))).shape == (0, H)
    assert stream.add().tolist() == [0]
    close(stream.step(x[:1, 0]), expected[:1, 0])


def test_writes_to_parameters_are_seen_after_reload(rng: np.random.Generator) -> None:
    layer = make()
    x = rng.standard_normal((N, T, D))
    before, _ = layer(x)
    stream = layer.stream(N)
    layer.params["weight_ih_l0"][...] *= -2
    close(stream.push(x[:, :3]), before[:, :3])
    state = stream.state
    stream.reload()
    expected, _ = layer(x[:, 3:], state)
    close(stream.push(x[:, 3:]), expected)
    assert np.abs(expected - before[:, 3:]).max() > 1e-3


def test_streams_of_prepared_layers(rng: np.random.Generator) -> None:
    layer = make(num_layers=2).prepare()
    x = rng.standard_normal((N, T, D))
    close(layer.stream(N).push(x), layer(x)[0])


def test_a_stream_in_training_mode_drops_nothing(rng: np.random.Generator) -> None:
    layer = make(num_layers=2, dropout=0.5, recurrent_dropout=0.5)
    x = rng.standard_normal((N, T, D))
    close(layer.stream(N).push(x), layer(x)[0])
    assert layer.call_count == 0


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="bidirectional: a stream needs a layer of one direction"):
        make(bidirectional=True).stream()
    layer = make()
    with pytest.raises(ValueError, match="batch_size: expected an integer of at least 0, got -1"):
        layer.stream(-1)
    with pytest.raises(TypeError, match="batch_size: expected an integer"):
        layer.stream(2.0)  # type: ignore[arg-type]
    stream = layer.stream(N)
    with pytest.raises(ValueError, match=r"x_t: expected shape \(3, 4\) \(N, D\), got \(2, 4\)"):
        stream.step(np.zeros((2, D)))
    with pytest.raises(ValueError, match="x_t: expected 2 dimensions"):
        stream.step(np.zeros((N, 1, D)))
    with pytest.raises(ValueError, match=r"chunk: expected shape \(3, any, 4\)"):
        stream.push(np.zeros((N, 2, D + 1)))
    with pytest.raises(TypeError, match="chunk: expected real numbers"):
        stream.push(np.zeros((N, 2, D), complex))
    for call in (stream.reset, stream.drop):
        with pytest.raises(ValueError, match=r"rows: expected sequences in \[0, 3\), got 3"):
            call([0, 3])
        with pytest.raises(TypeError, match="rows: expected integers"):
            call([0.5])
        with pytest.raises(ValueError, match=r"rows: expected shape \(3,\)"):
            call([True])
    with pytest.raises(ValueError, match="n: expected an integer of at least 0"):
        stream.add(-1)
