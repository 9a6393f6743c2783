"""Native calls let other Python threads run: one that only counts makes progress meanwhile."""

from __future__ import annotations

import ctypes
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import _attention, _elementwise, _native, _products

pytestmark = pytest.mark.skipif(_native.DEBUG, reason="times of a build for debugging")

SHORTEST = 0.0004  # seconds; several times as long as the other thread sleeps at a time
BIG = 1 << 23


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with fastrnn.threads(1):
        yield


def longest_wait(call: Callable[[], object]) -> tuple[float, float]:
    """For how much of a call another thread was kept waiting at a time, and how long it took.

    The least share of some calls, since a busy machine makes threads wait as well; what holds the
    GIL does so in every call.
    """
    ticks: list[float] = []
    enough = threading.Event()

    def tick() -> None:
        while not enough.is_set():
            ticks.append(time.perf_counter())
            time.sleep(1e-4)

    thread = threading.Thread(target=tick)
    thread.start()
    shares, times = [], []
    try:
        for _ in range(12):
            time.sleep(0.002)
            begin = time.perf_counter()
            call()
            end = time.perf_counter()
            time.sleep(0.001)
            inside = [begin, *(t for t in ticks if begin < t < end), end]
            shares.append(max(np.diff(inside)) / (end - begin))
            times.append(end - begin)
            ticks.clear()
            if len(shares) > 3 and min(shares) < 0.25:
                break
    finally:
        enough.set()
        thread.join()
    return min(shares), min(times)


def numbers(*shape: int) -> np.ndarray:
    return np.full(shape, 0.5, np.float32)


def recurrence(forward: bool) -> Callable[[], Callable[[], object]]:
    def make() -> Callable[[], object]:
        layer, x = fastrnn.LSTM(64, 256, random_state=0), numbers(16, 100, 64)
        return (lambda: layer(x)) if forward else layer_backward(layer, x)

    return make


def layer_backward(layer: Any, x: np.ndarray) -> Callable[[], object]:
    """A backward pass whose forward pass has been; each serves once."""
    passes = [layer.forward(x) for _ in range(12)]

    def call() -> object:
        y, *_, backward = passes.pop()
        return backward(y)

    return call


def step() -> Callable[[], object]:
    stream, x = fastrnn.LSTM(1024, 1024, random_state=0).stream(64), numbers(64, 1024)
    return lambda: stream.step(x)


def table() -> Callable[[], object]:
    """The input products of every symbol, before a walk over few of them."""
    model = fastrnn.Sequential(
        fastrnn.Embedding(6000, 256, random_state=0), fastrnn.LSTM(256, 256, random_state=0)
    )
    x = np.arange(6000)[:, None]
    return lambda: model(x)


def freeze() -> Callable[[], object]:
    layer = fastrnn.LSTM(1024, 2048, random_state=0)
    return layer.prepare


def linear() -> Callable[[], object]:
    x, w, out = numbers(1024, 512), numbers(512, 512), numbers(1024, 512)
    return lambda: _products.linear(x, w, None, None, out)


def linear_backward() -> Callable[[], object]:
    dy, w, out = numbers(1024, 512), numbers(512, 512), numbers(1024, 512)
    return lambda: _products.linear_backward(dy, w, None, out)


def accumulate() -> Callable[[], object]:
    dy, x, dw, db = numbers(1024, 512), numbers(1024, 512), numbers(512, 512), numbers(512)
    return lambda: _products.accumulate(dy, x, dw, db)


def attention(pick: str) -> Callable[[], Callable[[], object]]:
    """Scores by tanh of 64 queries to each of 64 sources of 64 steps."""

    def make() -> Callable[[], object]:
        N, Tq, Ts, A = 64, 64, 64, 64
        base = np.arange(N + 1) * Ts
        rows, wide = numbers(N * Ts, A), np.zeros(N, np.uint8)
        if pick == "read":
            many = numbers(96 * N * Ts, A)
            every, big = np.arange(96 * N + 1) * Ts, np.zeros(96 * N, np.uint8)
            return lambda: _attention.read(many, every, big, Ts)
        query, keys, score = numbers(N * Tq, A), numbers(N * Ts, A), numbers(A)
        context, weights = numbers(N * Tq, A), numbers(N * Tq, Ts)
        _attention.read(rows, base, wide, Ts)
        given = (rows, wide, score, keys, base)
        _attention.attend(query, *given, context, weights)
        if pick == "attend":
            return lambda: _attention.attend(query, *given, context, weights)
        grads = numbers(N * Tq, A), numbers(N * Ts, A), numbers(N * Ts, A), numbers(N, A)
        return lambda: _attention.attend_backward(context, query, weights, *given, *grads)

    return make


def cross_entropy() -> Callable[[], object]:
    logits, targets = numbers(1024, 5000), np.zeros(1024, np.int64)
    grad, loss = np.empty_like(logits), np.zeros(1024)
    return lambda: _elementwise.cross_entropy(logits, targets, None, 1.0, grad, loss)


def update() -> Callable[[], object]:
    arrays = [numbers(BIG) for _ in range(4)]
    return lambda: _elementwise.update("adam", *arrays, rate=0.1, epsilon=1e-8)


def elementwise(name: str) -> Callable[[], Callable[[], object]]:
    """Those of one or two large arrays."""

    def make() -> Callable[[], object]:
        x, y = numbers(2 * BIG), numbers(2 * BIG)
        calls: dict[str, Callable[[], object]] = {
            "sum_of_squares": lambda: _elementwise.sum_of_squares(x),
            "scale": lambda: _elementwise.scale(x, 1.0),
            "add_scaled": lambda: _elementwise.add_scaled(y, x, 0.0),
            "clear": lambda: _elementwise.clear(y),
        }
        return calls[name]

    return make


def drop() -> Callable[[], object]:
    x, keys = numbers(1024, BIG // 1024), np.arange(1024, dtype=np.uint64)
    out = np.empty_like(x)
    return lambda: _elementwise.drop(x, keys, 1 << 60, 1.0, out)


def rows_of_table(name: str) -> Callable[[], Callable[[], object]]:
    def make() -> Callable[[], object]:
        table, index = numbers(1000, 1024), np.arange(BIG // 512) % 1000
        rows = numbers(len(index), 1024)
        return lambda: getattr(_elementwise, name)(table, index, rows)

    return make


def layer_norm(forward: bool) -> Callable[[], Callable[[], object]]:
    def make() -> Callable[[], object]:
        x, out, weight, bias = numbers(BIG // 512, 512), numbers(BIG // 512, 512), *numbers(2, 512)
        mean, scale = np.empty((2, len(x)), np.float32)
        if forward:
            return lambda: _elementwise.layer_norm(x, weight, bias, 1e-5, mean, scale, out)
        mean[:], scale[:] = 0.5, 1
        grads = numbers(512), numbers(512)
        return lambda: _elementwise.layer_norm_backward(x, weight, mean, scale, x, out, *grads)

    return make


# By module, so that a function that is added must be added here.
CALLS: dict[str, Callable[[], Callable[[], object]]] = {
    "_attention.attend": attention("attend"),
    "_attention.attend_backward": attention("attend_backward"),
    "_attention.read": attention("read"),
    "_elementwise.add_scaled": elementwise("add_scaled"),
    "_elementwise.clear": elementwise("clear"),
    "_elementwise.cross_entropy": cross_entropy,
    "_elementwise.drop": drop,
    "_elementwise.gather": rows_of_table("gather"),
    "_elementwise.layer_norm": layer_norm(True),
    "_elementwise.layer_norm_backward": layer_norm(False),
    "_elementwise.scale": elementwise("scale"),
    "_elementwise.scatter_add": rows_of_table("scatter_add"),
    "_elementwise.sum_of_squares": elementwise("sum_of_squares"),
    "_elementwise.update": update,
    "_products.accumulate": accumulate,
    "_products.linear": linear,
    "_products.linear_backward": linear_backward,
    "_recurrence.backward": recurrence(False),
    "_recurrence.forward": recurrence(True),
    "_steps.Steps.step": step,
    "_walk.Walk of symbols": table,
    "_weights.Weights.freeze": freeze,
}


@pytest.mark.parametrize("name", CALLS)
def test_other_threads_run_during_a_call(name: str) -> None:
    call = CALLS[name]()
    if "backward" not in name or not name.startswith("_recurrence"):
        call()  # what is kept between calls is there
    share, seconds = longest_wait(call)
    assert seconds > SHORTEST, "too short to show anything"
    assert share < 0.5


def test_a_call_that_keeps_the_gil_is_seen() -> None:
    usleep = ctypes.PyDLL(None).usleep
    share, _ = longest_wait(lambda: usleep(20_000))
    assert share > 0.9


def test_every_function_of_a_module_is_here(root: Path) -> None:
    found = {
        f"{path.stem}.{name}"
        for path in (root / "src").glob("_*.pyx")
        if path.stem not in ("_native", "_memory", "_blas")  # settings, memory and no calls
        for name in re.findall(r"^def (\w+)\(", path.read_text(), re.MULTILINE)
    }
    assert found == {name for name in CALLS if name.count(".") == 1 and " " not in name}
