"""StreamPool: whoever is served together, each stream gets what it would get alone."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from test_gradients import CELLS
from test_sequential_stream import V, indices, numbers, same

import fastrnn
from fastrnn import GRU, LSTM, Linear, Sequential, StreamPool

D, H = 4, 5


def make(name: str) -> tuple[Any, int | None]:
    """A layer, and the width of its input."""
    if name == "indices":
        return indices(), None
    if name == "numbers":
        return numbers(), 4
    kind, own = CELLS[name]
    return kind(D, H, 2, initial_state="normal", random_state=1, **own), D


def draw(rng: np.random.Generator, n: int, width: int | None) -> np.ndarray:
    if width is None:
        return rng.integers(0, V, n)
    return rng.standard_normal((n, width)).astype(np.float32)


@pytest.mark.parametrize("name", [*CELLS, "numbers", "indices"])
def test_each_stream_gets_the_bits_of_one_whole_call(name: str, rng: np.random.Generator) -> None:
    layer, width = make(name)
    pool = StreamPool(layer, capacity=2)
    sent: dict[int, list[np.ndarray]] = {}
    received: dict[int, list[np.ndarray]] = {}

    def check(key: int) -> None:
        if not sent[key]:
            return
        whole, last = layer(np.concatenate(sent[key])[None])
        same(np.concatenate(received[key]), whole[0])
        same(pool.state(key), last)

    for _ in range(12):
        for _ in range(int(rng.integers(3))):
            key = pool.open()
            assert key not in sent
            sent[key], received[key] = [], []
        live = [key for key in sent if key in pool]
        ready = rng.permutation(live)[: int(rng.integers(len(live) + 1))]
        x = draw(rng, len(ready), width)
        for key, row, y in zip(ready.tolist(), x, pool.step(ready, x), strict=True):
            sent[key].append(row[None])
            received[key].append(y[None])
        for key in live:
            for _ in range(int(rng.integers(3))):
                chunk = draw(rng, int(rng.integers(4)), width)
                pool.submit(key, chunk)
                sent[key].append(chunk)
        for key, y in pool.run().items():
            received[key].append(y)
        assert pool.waiting == 0
        if live and rng.random() < 0.5:
            check(live[0])
            pool.close(live[0])
    for key in sent:
        if key in pool:
            check(key)


def test_room_is_used_again_and_doubles() -> None:
    pool = StreamPool(GRU(D, H), capacity=2)
    first = pool.open(2)
    assert (len(pool), pool.capacity, pool.nbytes) == (2, 2, 2 * H * 4)
    pool.step(first, np.ones((2, D)))
    state = pool.state(first)
    third = pool.open()
    assert (len(pool), pool.capacity, pool.nbytes) == (3, 4, 4 * H * 4)
    np.testing.assert_array_equal(pool.state(first), state)
    assert not pool.state(third).any()
    for _ in range(50):
        pool.close(first)
        first = pool.open(2)
        assert not pool.state(first).any()  # nothing of those who were here before
        pool.step(first, np.ones((2, D)))
    assert pool.capacity == 4
    assert pool.open(0).shape == (0,)
    pool.open(20)
    assert (len(pool), pool.capacity) == (23, 23)


def test_states_are_read_written_and_reset(rng: np.random.Generator) -> None:
    layer, width = make("numbers")
    pool = StreamPool(layer)
    a, b, c = (pool.open() for _ in range(3))
    x = draw(rng, 3, width)
    first = pool.step([a, b, c], x)
    state = pool.state([c, a])
    same(pool.state(c)[0][0], state[0][0][:, :1])
    again = pool.step([a, c], x[[0, 1]])
    pool.set_state([c, a], state)
    for part in (state[0][0], state[1][1]):
        part[...] = np.nan  # copies were taken
    same(pool.step([c, a], x[[1, 0]]), again[::-1])
    pool.reset([a, c])
    same(pool.step([c, a], x[[2, 0]]), first[[2, 0]])
    before = pool.state([a, b])
    lstm, (gru, rnn) = before
    with pytest.raises(ValueError, match=r"state: expected shape \(1, 2, 4\) \(L, N, units\)"):
        pool.set_state([a, b], (lstm, (gru + 1, rnn[:, :1])))
    same(pool.state([a, b]), before)
    pool.set_state([b, a], None)
    same(pool.step([a, b, c][:2], x[:2]), first[:2])


def test_writes_to_parameters_are_seen_after_reload(rng: np.random.Generator) -> None:
    layer, width = make("indices")
    pool, x = StreamPool(layer), draw(rng, 3, width)
    key = pool.open()
    before, _ = layer(x[None])
    same(pool.step(key, x[:1]), before[:, 0])
    for value in layer.params.values():
        value *= -1.5
    same(pool.step(key, x[1:2]), before[:, 1])
    state = pool.state(key)
    pool.reload()
    same(pool.step(key, x[2:]), layer(x[None, 2:], state)[0][:, 0])


def test_keys_that_are_refused() -> None:
    pool = StreamPool(GRU(D, H), capacity=3)
    a, b = pool.open(), pool.open()
    x = np.ones((2, D))
    pool.step([a, b], x)
    state = pool.state([a, b])
    pool.close(pool.open())
    gone = pool.open()
    pool.close(gone)
    calls = [
        lambda keys: pool.step(keys, x),
        pool.state,
        pool.reset,
        pool.close,
        lambda keys: pool.set_state(keys, state),
    ]
    for call in calls:
        for keys, message in (
            ([a, gone], f"keys: expected keys of open streams, got {gone}, which is closed"),
            ([a, b + 7], f"got {b + 7}, which was never opened"),
            ([gone + (1 << 32), b], "which was never opened"),
            ([-1, b], "got -1, which was never opened"),
            ([a, a], f"keys: expected each stream once, got {a} twice"),
            ([[a], [b]], "keys: expected 1 dimension"),
        ):
            with pytest.raises(ValueError, match=message):
                call(keys)
        with pytest.raises(TypeError, match="keys: expected integers, got dtype float64"):
            call([0.0, 1.0])
    with pytest.raises(ValueError, match=f"key: expected keys of open streams, got {gone}"):
        pool.submit(gone, x)
    assert [key in pool for key in (a, b, gone, "a", -1, b + 7)] == [True] * 2 + [False] * 4
    np.testing.assert_array_equal(pool.state([a, b]), state)
    assert pool.step([], x[:0]).shape == (0, H)


def test_inputs_that_are_refused_advance_nobody() -> None:
    pool = StreamPool(indices())
    a, b = pool.open(2).tolist()
    pool.submit(a, [1, 2])
    before = pool.state([a, b])
    with pytest.raises(ValueError, match=r"x: expected shape \(2,\) \(N,\), got \(3,\)"):
        pool.step([a, b], [1, 2, 3])
    with pytest.raises(ValueError, match=r"x: expected indices in \[0, 11\), got 11"):
        pool.step([a, b], [1, V])
    with pytest.raises(ValueError, match=r"x: expected indices in \[0, 11\), got -1"):
        pool.submit(b, [-1])  # now, not when others are served
    with pytest.raises(TypeError, match="x: expected indices, got dtype float64"):
        pool.submit(b, [0.5])
    same(pool.state([a, b]), before)
    assert list(pool.run()) == [a]
    wide = StreamPool(LSTM(D, H))
    with pytest.raises(ValueError, match=r"x: expected 2 dimensions \(t, D\), got 1"):
        wide.submit(wide.open(), np.ones(D))


def test_what_waits() -> None:
    layer = GRU(D, H, random_state=0)
    pool = StreamPool(layer)
    a, b = pool.open(), pool.open()
    assert pool.run() == {}
    x = np.ones((3, D), np.float32)
    pool.submit(a, x)
    pool.submit(b, x)
    x[...] = np.nan  # a copy was taken
    assert pool.waiting == 6
    pool.close(b)  # and with it what waits
    pool.submit(a, np.ones((0, D)))
    answers = pool.run()
    same(answers[a], layer(np.ones((1, 3, D)))[0][0])
    assert list(answers) == [a]
    assert pool.run() == {}


def test_layers_that_are_refused() -> None:
    for layer, message in (
        (Linear(2, 3), "layer: expected a recurrent layer, got"),
        (LSTM(2, 3, bidirectional=True), r"layer\[0\]: expected a layer of one direction"),
        (fastrnn.Reversed(GRU(2, 3)), r"layer\[0\]: expected RNN, LSTM, GRU or a layer without"),
        (Sequential(GRU(2, 3), Linear(4, 1)), r"x: expected shape \(\.\.\., 4\), got \(1, 1, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            StreamPool(layer)
    with pytest.raises(ValueError, match="capacity: expected an integer of at least 1, got 0"):
        StreamPool(GRU(2, 3), capacity=0)
    with pytest.raises(ValueError, match="n: expected an integer of at least 0, got -1"):
        StreamPool(GRU(2, 3)).open(-1)


def test_several_threads_take_turns(rng: np.random.Generator) -> None:
    layer, _ = make("lstm")
    pool = StreamPool(layer, capacity=1)
    x = rng.standard_normal((4, 30, D)).astype(np.float32)
    expected, _ = layer(x)
    found: dict[int, np.ndarray] = {}

    def client(i: int) -> None:
        key = pool.open()
        found[i] = np.concatenate([pool.step(key, x[i, t : t + 1]) for t in range(30)])
        pool.close(key)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        same(found[i], expected[i])
    assert len(pool) == 0
