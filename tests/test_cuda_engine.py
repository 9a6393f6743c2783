"""The CUDA engine without a device: its kernels run on the CPU, products are NumPy's.

What CUDA alone can show (that the device computes the same, and how fast) is in test_gpu.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cuda_on_cpu import Cuda
from layer_cases import CASES, TOLERANCE, compare
from test_gradients import CELLS

import fastrnn
from fastrnn.engine.recurrence import engine_for


@pytest.fixture
def cupy(fake_cupy: Any) -> Any:
    return fake_cupy


@pytest.fixture
def cuda(fake_cupy: Any) -> Iterator[Cuda]:
    """What the stand-in's device does."""
    yield fake_cupy.made
    assert fake_cupy.made.recording is None


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_same_as_the_twin(cuda: Cuda, cupy: Any, name: str, dtype: str) -> None:
    for case in CASES:
        compare(name, dtype, case, device="cuda", put=cupy.asarray)
    assert cuda.launches


def lstm_on_device(cupy: Any, N: int = 3, T: int = 4) -> tuple[Any, Any]:
    layer = fastrnn.LSTM(2, 5, dtype="float64", random_state=0).to("cuda")
    x = np.random.default_rng(0).standard_normal((N, T, 2))
    return layer, cupy.asarray(x)


def test_it_is_what_runs(cuda: Cuda, cupy: Any) -> None:
    layer, _ = lstm_on_device(cupy)
    assert engine_for(layer._stack.weights[0][0]).__name__ == "fastrnn.cuda.engine"


def test_a_batch_that_comes_again_is_one_launch(cuda: Cuda, cupy: Any) -> None:
    layer, x = lstm_on_device(cupy, T=6)
    answers, launches = [], []
    for _ in range(4):
        before = cuda.launches
        answers.append(layer(x)[0].get())
        launches.append(cuda.launches - before)
    # Each time a product of the inputs; the first time a product and a kernel for each step, too.
    assert launches == [1 + 2 * 6, 1, 1, 1]
    assert cuda.graph_launches == 3
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])


def test_training_is_two_launches(cuda: Cuda, cupy: Any) -> None:
    layer, x = lstm_on_device(cupy, T=6)
    found = []
    for _ in range(4):
        layer.zero_grad()
        y, _, backward = layer.forward(x)
        dx, _ = backward(y)
        found.append([dx.get(), *(grad.get() for grad in layer.grads.values())])
    assert cuda.graph_launches == 2 * 3
    for arrays in found[1:]:
        for one, first in zip(arrays, found[0], strict=True):
            np.testing.assert_array_equal(one, first)


def test_a_graph_sees_new_weights_inputs_and_states(cuda: Cuda, cupy: Any) -> None:
    layer, x = lstm_on_device(cupy)
    for _ in range(2):
        layer(x)
    for name in layer.params:
        layer.params[name][...] *= 0.5
    state = tuple(cupy.asarray(np.full((1, 3, 5), value)) for value in (0.3, -0.2))
    again, _ = layer(x * 2, state)
    expected, _ = layer.to("cpu")(x.get() * 2, tuple(s.get() for s in state))
    assert cuda.graph_launches == 2
    np.testing.assert_allclose(again.get(), expected, rtol=1e-12)


@pytest.mark.parametrize("N", [1, 3])
def test_columns_of_a_wider_array(cuda: Cuda, cupy: Any, N: int) -> None:
    layer, _ = lstm_on_device(cupy)
    wide = np.random.default_rng(1).standard_normal((N, 4, 7))
    y, _, backward = layer.forward(cupy.asarray(wide)[:, :, 3:5])
    backward(y)
    grads = {name: grad.get() for name, grad in layer.grads.items()}
    layer.to("cpu").zero_grad()
    expected, _, backward = layer.forward(wide[:, :, 3:5])
    backward(expected)
    np.testing.assert_allclose(y.get(), expected, rtol=1e-12)
    for name, grad in layer.grads.items():
        np.testing.assert_allclose(grads[name], grad, rtol=1e-10, atol=1e-13)


def test_forwards_that_wait_have_plans_of_their_own(cuda: Cuda, cupy: Any) -> None:
    layer, x = lstm_on_device(cupy)
    dy = cupy.asarray(np.ones((3, 4, 5)))
    waiting = [layer.forward(x * k)[2] for k in (1, 2)]
    found = [backward(dy)[0].get() for backward in waiting]
    expected = []
    for k in (1, 2):
        _, _, backward = layer.forward(x * k)
        expected.append(backward(dy)[0].get())
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(found[0], found[1])


def test_ragged_batches_keep_no_plan(cuda: Cuda, cupy: Any) -> None:
    layer, x = lstm_on_device(cupy)
    for _ in range(3):
        layer(x, lengths=[4, 2, 0])
    assert not cuda.graph_launches


def test_streams_share_nothing(cuda: Cuda, cupy: Any) -> None:
    layer, x = lstm_on_device(cupy)
    layer(x)
    other = cupy.cuda.Stream(non_blocking=True)
    with other:
        layer(x)
        assert not cuda.graph_launches, "a plan of the null stream on another"
        layer(x)
    assert cuda.graph_launches == 1


def test_no_room_lets_free_plans_go_first(
    cuda: Cuda, cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = lstm_on_device(cupy)
    layer(x)
    plans = layer._stack.weights[0][0].plans
    from fastrnn.cuda.plans import Plan

    real, failures = Plan._empty, [True]

    def empty(self: Plan, rows: int, columns: int) -> Any:
        if failures and failures.pop():
            raise cupy.cuda.memory.OutOfMemoryError(1 << 40, 0, 0)
        return real(self, rows, columns)

    monkeypatch.setattr(Plan, "_empty", empty)
    y, _ = layer(x[:, :2])
    assert len(plans._free) == 1, "the older plan has gone"
    failures += [True, True]
    before = {name: grad.get() for name, grad in layer.grads.items()}
    with pytest.raises(MemoryError):
        layer.forward(x)
    for name, grad in layer.grads.items():
        np.testing.assert_array_equal(grad.get(), before[name])
    np.testing.assert_array_equal(layer(x[:, :2])[0].get(), y.get())


def test_cublas_that_fails_says_so(cuda: Cuda, cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastrnn.cuda import cublas

    library = cublas._library(12)
    library.cublasDgemm_v2.function = lambda *arguments: 14
    monkeypatch.setattr(cublas, "_library", lambda version: library)
    layer, x = lstm_on_device(cupy)
    with pytest.raises(RuntimeError, match="cublasDgemm_v2: cuBLAS answers with status 14"):
        layer(x)
