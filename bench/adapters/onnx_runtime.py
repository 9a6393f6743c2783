"""onnxruntime: all graph optimizations, as many threads as asked for, buffers bound once.

Inputs and outputs are OrtValues bound before the first call: nothing is allocated or copied in a
call. A stream has two bindings in which state and next state change places.
"""

from __future__ import annotations

import itertools

import numpy as np
import onnxruntime

from bench.adapters import Candidate, Layer
from bench.adapters.onnx_model import make_model
from fastrnn import LSTM

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


def value(array: np.ndarray) -> onnxruntime.OrtValue:
    """An array in memory of onnxruntime's."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


def sequences(layer: Layer, x: np.ndarray) -> Candidate:
    """Inference of whole sequences."""
    N, T, _ = x.shape
    running = session(layer, N, T)
    y = value(np.zeros((T, N, layer.output_size), np.float32))
    binding = running.io_binding()
    binding.bind_ortvalue_input("x", value(x.swapaxes(0, 1)))
    binding.bind_ortvalue_output("y", y)

    def call() -> onnxruntime.OrtValue:
        running.run_with_iobinding(binding)
        return y

    return Candidate(call, lambda y: {"y": y.numpy().swapaxes(0, 1)})


def step(layer: Layer, x: np.ndarray) -> Candidate:
    """A step of a stream."""
    N = x.shape[0]
    running = session(layer, N, 1, carried=True)
    states = ["h", "c"] if isinstance(layer, LSTM) else ["h"]
    y = value(np.zeros((1, N, layer.output_size), np.float32))
    # Two values for each state: what one step writes, the next one reads.
    held = {
        s: [value(np.zeros((1, N, layer.hidden_size), np.float32)) for _ in "01"] for s in states
    }
    bindings = []
    for turn in range(2):
        binding = running.io_binding()
        binding.bind_ortvalue_input("x", value(x[None]))
        binding.bind_ortvalue_output("y", y)
        for name, pair in held.items():
            binding.bind_ortvalue_input(f"{name}0", pair[turn])
            binding.bind_ortvalue_output(f"{name}1", pair[1 - turn])
        bindings.append(binding)
    turns = itertools.cycle(bindings)

    def call() -> onnxruntime.OrtValue:
        running.run_with_iobinding(next(turns))
        return y

    return Candidate(call, lambda y: {"y": y.numpy()[0]})
