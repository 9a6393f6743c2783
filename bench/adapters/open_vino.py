"""OpenVINO: fixed shapes, float32, the latency hint, requests whose tensors share our memory.

On processors that have bfloat16 it would compute in that unless told otherwise.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import openvino

from bench.adapters import Candidate, Layer
from bench.adapters.onnx_model import make_model, sequences_first, state_names

_threads = 1


def set_threads(threads: int) -> None:
    """Of models compiled from now on."""
    global _threads
    _threads = threads


def model(layer: Layer, N: int, T: int, carried: bool = False) -> Any:
    """The compiled model."""
    core = openvino.Core()
    read = core.read_model(make_model(layer, N, T, carried).SerializeToString())
    config = {
        "INFERENCE_NUM_THREADS": _threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    return core.compile_model(read, "CPU", config)


def shared(array: np.ndarray) -> Any:
    """A tensor over the array's own memory."""
    return openvino.Tensor(array, shared_memory=True)


class Bound:
    """A request and what it must not outlive: OpenVINO does not keep the arrays of its tensors."""

    def __init__(self, running: Any, arrays: dict[str, np.ndarray]) -> None:
        self.running, self.arrays = running, arrays
        for name, array in arrays.items():
            running.set_tensor(name, shared(array))

    def __call__(self) -> None:
        """Compute; without `share_outputs` it would also copy them into arrays of its own."""
        self.running.infer(share_outputs=True)


def sequences(layer: Layer, x: np.ndarray) -> Candidate:
    """Inference of whole sequences."""
    N, T, _ = x.shape
    y = np.zeros((T, layer.num_directions, N, layer.hidden_size), np.float32)
    x_first = np.ascontiguousarray(x.swapaxes(0, 1))
    call = Bound(model(layer, N, T).create_infer_request(), {"x": x_first, "y": y})
    return Candidate(call, lambda _: {"y": sequences_first(y)})


def step(layer: Layer, x: np.ndarray) -> Candidate:
    """A step of a stream: two requests, each of which writes the states that the other reads."""
    N = x.shape[0]
    x_first = np.ascontiguousarray(x[None])
    states = {
        name: [np.zeros((1, N, layer.hidden_size), np.float32) for _ in range(2)]
        for name in state_names(layer)
    }
    compiled = model(layer, N, 1, carried=True)
    turns = []
    for turn in range(2):
        arrays = {"x": x_first}
        for name, pair in states.items():
            arrays |= {f"{name}0": pair[turn], f"{name}1": pair[1 - turn]}
        turns.append((Bound(compiled.create_infer_request(), arrays), states["h"][1 - turn]))
    following = itertools.cycle(turns)

    def call() -> np.ndarray:
        compute, h = next(following)
        compute()
        return h

    return Candidate(call, lambda h: {"y": h[0]})
