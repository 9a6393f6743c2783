"""OpenVINO: fixed shapes, float32, the latency hint, one request whose tensors share our memory.

On processors that have bfloat16 it would compute in that unless told otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino

from bench.adapters import Candidate, Layer
from bench.adapters.onnx_model import make_model
from fastrnn import LSTM

_threads = 1


def set_threads(threads: int) -> None:
    """Of models compiled from now on."""
    global _threads
    _threads = threads


def request(layer: Layer, N: int, T: int, carried: bool = False) -> Any:
    """The one request of a compiled model."""
    core = openvino.Core()
    model = core.read_model(make_model(layer, N, T, carried).SerializeToString())
    config = {
        "INFERENCE_NUM_THREADS": _threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    return core.compile_model(model, "CPU", config).create_infer_request()


def shared(array: np.ndarray) -> Any:
    """A tensor over the array's own memory."""
    return openvino.Tensor(array, shared_memory=True)


class Bound:
    """A request and what it must not outlive: OpenVINO does not keep the arrays of its tensors."""

    def __init__(self, running: Any, x: np.ndarray, y: np.ndarray) -> None:
        self.running, self.x, self.y = running, x, y
        running.set_tensor("x", shared(x))
        running.set_tensor("y", shared(y))

    def __call__(self) -> np.ndarray:
        """Compute y; without `share_outputs` it would also copy it into an array of its own."""
        self.running.infer(share_outputs=True)
        return self.y


def sequences(layer: Layer, x: np.ndarray) -> Candidate:
    """Inference of whole sequences."""
    N, T, _ = x.shape
    y = np.zeros((T, N, layer.output_size), np.float32)
    call = Bound(request(layer, N, T), np.ascontiguousarray(x.swapaxes(0, 1)), y)
    return Candidate(call, lambda y: {"y": y.swapaxes(0, 1)})


def step(layer: Layer, x: np.ndarray) -> Candidate:
    """A step of a stream; state and next state change places."""
    N = x.shape[0]
    names = ["h", "c"] if isinstance(layer, LSTM) else ["h"]
    states = {s: [np.zeros((1, N, layer.hidden_size), np.float32) for _ in "01"] for s in names}
    y = np.zeros((1, N, layer.output_size), np.float32)
    bound = Bound(request(layer, N, 1, carried=True), np.ascontiguousarray(x[None]), y)
    tensors = {name: [shared(array) for array in pair] for name, pair in states.items()}
    turn = 0

    def call() -> np.ndarray:
        nonlocal turn
        for name, pair in tensors.items():
            bound.running.set_tensor(f"{name}0", pair[turn])
            bound.running.set_tensor(f"{name}1", pair[1 - turn])
        turn = 1 - turn
        return bound()

    return Candidate(call, lambda y: {"y": y[0]})
