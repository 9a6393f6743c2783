"""A fastrnn layer as an ONNX model, made in memory: the form that two of the peers read."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from bench.adapters import Layer
from fastrnn import GRU, LSTM

OPSET = 17
# ONNX's order of the gates, as places in ours: i o f c of i f g o, and z r h of r z n.
ORDERS = {"LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2], "RNN": [0]}


def make_model(layer: Layer, N: int, T: int, carried: bool = False) -> ModelProto:
    """A model of inputs of one fixed shape.

    Its input is "x", (T, N, D), and its output "y", (T, dirs, N, H) as ONNX has it: what is not
    rearranged costs nothing. Where states are carried their inputs are "h0" (and "c0"), and its
    outputs are "h1" (and "c1") alone, each (1, N, H).

    Parameters
    ----------
    layer : Layer
        With several layers or directions, but states of one layer only.
    N, T : int
        Sequences and steps.
    carried : bool
        Whether states are inputs and outputs.
    """
    kind = "LSTM" if isinstance(layer, LSTM) else "GRU" if isinstance(layer, GRU) else "RNN"
    dirs, H = 2 if layer.bidirectional else 1, layer.hidden_size
    states = state_names(layer) if carried else []
    attributes: dict[str, Any] = {
        "hidden_size": H,
        "direction": "bidirectional" if dirs == 2 else "forward",
    }
    if isinstance(layer, GRU):
        attributes["linear_before_reset"] = int(layer.config()["reset_after"])
    arrays: dict[str, np.ndarray] = {}
    nodes = []
    x = "x"
    for index in range(layer.num_layers):
        if index:  # (T, dirs, N, H) -> (T, N, dirs H)
            arrays["merged"] = np.array([T, N, dirs * H], np.int64)
            nodes.append(helper.make_node("Transpose", [x], [f"turned{x}"], perm=[0, 2, 1, 3]))
            nodes.append(helper.make_node("Reshape", [f"turned{x}", "merged"], [f"merged{x}"]))
            x = f"merged{x}"
        weights = dict(zip("WRB", _weights(layer, index, dirs, ORDERS[kind]), strict=True))
        arrays |= {f"{name}{index}": array for name, array in weights.items()}
        inputs = [x, *(f"{name}{index}" for name in weights)]
        x = "y" if index == layer.num_layers - 1 else f"y{index}"
        outputs = [x]
        if carried:
            inputs += ["", *(f"{state}0" for state in states)]
            outputs = ["", *(f"{state}1" for state in states)]
        nodes.append(helper.make_node(kind, inputs, outputs, **attributes))

    def value(name: str, shape: list[int]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    taken = [value("x", [T, N, layer.input_size])]
    given = [value("y", [T, dirs, N, H])]
    if carried:
        taken += [value(f"{state}0", [1, N, H]) for state in states]
        given = [value(f"{state}1", [1, N, H]) for state in states]
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "layer", taken, given, constants)
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 8
    return model


def state_names(layer: Layer) -> list[str]:
    """The names of the states that a layer carries."""
    return ["h", "c"] if isinstance(layer, LSTM) else ["h"]


def sequences_first(y: np.ndarray) -> np.ndarray:
    """Outputs (T, dirs, N, H) as (N, T, dirs H)."""
    T, dirs, N, H = y.shape
    return y.transpose(2, 0, 1, 3).reshape(N, T, dirs * H)


def _weights(
    layer: Layer, index: int, dirs: int, order: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W (dirs, G, D), R (dirs, G, H), B (dirs, 2 G) in ONNX's order of gates."""
    suffixes = [f"_l{index}", f"_l{index}_reverse"][:dirs]

    def ordered(name: str) -> np.ndarray:
        arrays = [np.asarray(layer.params[name + suffix]) for suffix in suffixes]
        gates = [np.split(array, len(order)) for array in arrays]
        return np.stack([np.concatenate([g[i] for i in order]) for g in gates])

    B = np.concatenate([ordered("bias_ih"), ordered("bias_hh")], axis=1)
    return ordered("weight_ih"), ordered("weight_hh"), B
