"""Times of single layers' calls, to see when one of them becomes slower; `pytest bench`.

Compare two commits with pytest-benchmark's own options:

    pytest bench --benchmark-save=before
    pytest bench --benchmark-compare=0001 --benchmark-compare-fail=median:10%

Each test also holds its result against plain array operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastrnn
from bench.adapters import plain_numpy
from bench.layers import GATES, Case, inference, training
from fastrnn.engine.recurrence import twin_only
from fastrnn.losses import linear_cross_entropy

pytest.importorskip("pytest_benchmark")

every_cell = pytest.mark.parametrize("cell", GATES)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads' times depend on what else the machine does."""
    with fastrnn.threads(1):
        yield


def close(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether two results agree as float32 can."""
    return np.allclose(ours, theirs, rtol=0, atol=2e-5 * float(np.abs(theirs).max()))


@every_cell
@pytest.mark.parametrize("N", [1, 8, 32])
def test_inference(benchmark: Any, cell: str, N: int) -> None:
    case = Case(cell, N, 20, 128, 256)
    layer, x = case.layer(), case.rows(case.D)
    wanted = plain_numpy.sequences(layer, x)
    y = benchmark(inference(layer, x).call)
    assert close(y, wanted.arrays(wanted.call())["y"])


@every_cell
def test_training(benchmark: Any, cell: str) -> None:
    case = Case(cell, 20, 20, 128, 256)
    layer, x, dy = case.layer(), case.rows(case.D), case.rows(case.H, seed=1)
    step = training(layer, x, dy)
    found = step.arrays(benchmark(step.call))
    twin = training(case.layer(), x, dy)
    with twin_only():
        wanted = twin.arrays(twin.call())
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        assert close(found[name], array), name


@every_cell
@pytest.mark.parametrize("H", [64, 512])
def test_step(benchmark: Any, cell: str, H: int) -> None:
    case = Case(cell, 1, 1, H, H)
    layer, x = case.layer(), case.rows(H)[:, 0]
    stream, out = layer.stream(), np.empty((1, H), np.float32)
    wanted = plain_numpy.step(layer, x)
    for _ in range(3):
        assert close(stream.step(x, out), wanted.arrays(wanted.call())["y"])
    y = benchmark(stream.step, x, out)
    assert y is out
    assert np.isfinite(y).all()


def test_cross_entropy(benchmark: Any) -> None:
    rng = np.random.default_rng(0)
    linear = fastrnn.Linear(200, 5000, random_state=0)
    x = rng.standard_normal((600, 200), dtype=np.float32)
    targets = rng.integers(5000, size=600)

    def call() -> Any:
        linear.zero_grad()
        loss, backward = linear_cross_entropy(linear, x, targets)
        assert backward is not None
        return loss, backward()

    loss, dx = benchmark(call)
    logits = (x @ linear.params["weight"].T + linear.params["bias"]).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    places = np.arange(600), targets
    assert loss == pytest.approx(-np.log(p[places]).mean(), rel=1e-5)
    p[places] -= 1
    assert close(dx, p @ linear.params["weight"] / 600)
    assert close(linear.grads["weight"], p.T @ x / 600)
