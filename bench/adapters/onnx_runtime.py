"""onnxruntime: all graph optimizations, as many threads as asked for, buffers bound once.

Inputs and outputs are OrtValues bound before the first call: nothing is allocated or copied in a
call. A stream has two bindings in which state and next state change places.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnxruntime

from bench.adapters import Candidate, Layer
from bench.adapters.onnx_model import make_model, sequences_first, state_names

_threads = 1


def set_threads(threads: int) -> None:
    """Of sessions made from now on."""
    global _threads
    _threads = threads


def session(layer: Layer, N: int, T: int, carried: bool = False) -> onnxruntime.InferenceSession:
    """A session over one fixed shape, which is the fastest."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    model = make_model(layer, N, T, carried).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def value(array: np.ndarray) -> Any:
    """An array's memory as onnxruntime takes it."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


class Bound:
    """A session with its buffers, which it must not outlive: a binding does not keep them."""

    def __init__(self, running: onnxruntime.InferenceSession, values: dict[str, Any]) -> None:
        self.running, self.values = running, values
        self.binding = running.io_binding()
        outputs = {output.name for output in running.get_outputs()}
        for name, bound in values.items():
            if name in outputs:
                self.binding.bind_ortvalue_output(name, bound)
            else:
                self.binding.bind_ortvalue_input(name, bound)

    def __call__(self) -> None:
        """Compute."""
        self.running.run_with_iobinding(self.binding)


def sequences(layer: Layer, x: np.ndarray) -> Candidate:
    """Inference of whole sequences."""
    N, T, _ = x.shape
    y = np.zeros((T, layer.num_directions, N, layer.hidden_size), np.float32)
    call = Bound(session(layer, N, T), {"x": value(x.swapaxes(0, 1)), "y": value(y)})
    return Candidate(call, lambda _: {"y": sequences_first(y)})


def step(layer: Layer, x: np.ndarray) -> Candidate:
    """A step of a stream: two bindings, each of which writes the states that the other reads."""
    N = x.shape[0]
    running = session(layer, N, 1, carried=True)
    states = {
        name: [np.zeros((1, N, layer.hidden_size), np.float32) for _ in range(2)]
        for name in state_names(layer)
    }
    turns = []
    for turn in range(2):
        values = {"x": value(x[None])}
        for name, pair in states.items():
            values |= {f"{name}0": value(pair[turn]), f"{name}1": value(pair[1 - turn])}
        turns.append((Bound(running, values), states["h"][1 - turn]))
    following = itertools.cycle(turns)

    def call() -> np.ndarray:
        compute, h = next(following)
        compute()
        return h

    return Candidate(call, lambda h: {"y": h[0]})


def step_by_run(layer: Layer, x: np.ndarray) -> Candidate:
    """The same as most write it: arrays into `run`, new arrays out of it."""
    running = session(layer, x.shape[0], 1, carried=True)
    names = state_names(layer)
    zeros = np.zeros((1, x.shape[0], layer.hidden_size), np.float32)
    feed = {"x": np.ascontiguousarray(x[None]), **{f"{name}0": zeros for name in names}}

    def call() -> np.ndarray:
        states = running.run(None, feed)
        for name, state in zip(names, states, strict=True):
            feed[f"{name}0"] = state
        return states[0]

    return Candidate(call, lambda h: {"y": h[0]})
