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


def sequences(layer: Layer, x: np.ndarray) -> Candidate:
    """Inference of whole sequences."""
    N, T, _ = x.shape
    running = request(layer, N, T)
    y = np.zeros((T, N, layer.output_size), np.float32)
    running.set_tensor("x", shared(np.ascontiguousarray(x.swapaxes(0, 1))))
    running.set_tensor("y", shared(y))

    def call() -> np.ndarray:
        running.infer()
        return y

    return Candidate(call, lambda y: {"y": y.swapaxes(0, 1)})


def step(layer: Layer, x: np.ndarray) -> Candidate:
    """A step of a stream; state and next state change places."""
    N = x.shape[0]
    running = request(layer, N, 1, carried=True)
    states = ["h", "c"] if isinstance(layer, LSTM) else ["h"]
    y = np.zeros((1, N, layer.output_size), np.float32)
    running.set_tensor("x", shared(np.ascontiguousarray(x[None])))
    running.set_tensor("y", shared(y))
    held = {
        s: [shared(np.zeros((1, N, layer.hidden_size), np.float32)) for _ in "01"] for s in states
    }
    turn = 0

    def call() -> np.ndarray:
        nonlocal turn
        for name, pair in held.items():
            running.set_tensor(f"{name}0", pair[turn])
            running.set_tensor(f"{name}1", pair[1 - turn])
        running.infer()
        turn = 1 - turn
        return y

    return Candidate(call, lambda y: {"y": y[0]})
