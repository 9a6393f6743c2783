"""ONNX models for tests, written with the onnx package, and onnxruntime to run them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def node_model(
    op_type: str,
    *,
    D: int = 3,
    H: int = 4,
    dirs: int = 1,
    bias: bool = True,
    peepholes: bool = False,
    dtype: Any = np.float32,
    seed: int = 0,
    opset: int = 14,
    **attributes: Any,
) -> bytes:
    """A model of one recurrent node: x, lengths and states are inputs, weights are constants."""
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(seed)
    gates, code = GATES[op_type], onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weights = {"W": (dirs, gates * H, D), "R": (dirs, gates * H, H)}
    weights |= {"B": (dirs, 2 * gates * H)} if bias else {}
    weights |= {"P": (dirs, 3 * H)} if peepholes else {}
    states = ["h0", "c0"] if op_type == "LSTM" else ["h0"]
    inputs = ["x", "W", "R", "B" if bias else "", "lengths", *states, "P" if peepholes else ""]
    while not inputs[-1]:
        inputs.pop()
    outputs = ["y", *(f"{state[0]}_n" for state in states)]
    attributes = {"hidden_size": H, **attributes}
    if dirs == 2:
        attributes["direction"] = "bidirectional"
    node = onnx.helper.make_node(op_type, inputs, outputs, name="the node", **attributes)
    info = onnx.helper.make_tensor_value_info
    first = attributes.get("layout", 0)
    given = [
        info("x", code, ["n", "t", D] if first else ["t", "n", D]),
        info("lengths", onnx.TensorProto.INT32, ["n"]),
        *(info(state, code, ["n", dirs, H] if first else [dirs, "n", H]) for state in states),
    ]
    constants = [
        onnx.numpy_helper.from_array(rng.uniform(-1, 1, shape).astype(dtype), name)
        for name, shape in weights.items()
    ]
    state_sizes = ["n", dirs, H] if first else [dirs, "n", H]
    results = [info("y", code, ["n", "t", dirs, H] if first else ["t", dirs, "n", H])]
    results += [info(name, code, state_sizes) for name in outputs[1:]]
    graph = onnx.helper.make_graph([node], "g", given, results, constants)
    imports = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def session(model: bytes) -> Any:
    """onnxruntime's session of a model, on one thread."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(model: bytes, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What onnxruntime computes."""
    return session(model).run(None, feeds)
