"""ONNX files of our layers; what ``layer.to_onnx(path)`` does.

Layers stand above this module: it knows them by their registered names, configurations and
parameters alone, as a file does. Weights go from the layer's memory to the file without a copy of
the whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastrnn.checks import check_bool
from fastrnn.interchange.onnx_functions import (
    GATES,
    OWN_GATES,
    PEEPHOLES,
    TAKES_ALPHA,
    TAKES_BETA,
    USUAL,
)
from fastrnn.interchange.protobuf import Pieces, data, integer, message, real
from fastrnn.interchange.to_torch import type_name
from fastrnn.tensorfile import atomic_file

__all__ = ["to_onnx"]

Path = str | os.PathLike[str]
Size = int | str

OPSET = 17  # the first with LayerNormalization
IR_VERSION = 8  # what onnx and onnxruntime of that time read
CODES = {np.dtype(np.float32): 1, np.dtype(np.float64): 11, np.dtype(np.int64): 7}
INT32, INT64 = 6, 7
LARGEST = 2**31 - 1  # bytes of a protocol buffer

ACTIVATIONS = {
    "softmax": "Softmax",
    "log_softmax": "LogSoftmax",
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
}


def to_onnx(layer: Any, path: Path, *, states: bool = True, lengths: bool = True) -> None:
    """Write a layer as an ONNX model; see :meth:`fastrnn.LSTM.to_onnx`."""
    check_bool("states", states)
    check_bool("lengths", lengths)
    layers = _flat(layer)
    graph = _Graph(_dtype_of(layers))
    _build(graph, layers, states, lengths)
    pieces = graph.model()
    size = sum(map(len, pieces))
    if size > LARGEST:
        raise ValueError(
            f"to_onnx: expected weights of less than 2 GiB, the most an ONNX file holds, got {size}"
        )
    with atomic_file(path) as file:
        for piece in pieces:
            file.write(piece)


def _flat(layer: Any) -> list[Any]:
    """The layers of a layer, those of a Sequential within a Sequential among them."""
    if type_name(layer) == "Sequential":
        return [inner for one in layer.layers for inner in _flat(one)]
    return [layer]


def _dtype_of(layers: list[Any]) -> np.dtype:
    dtypes = {layer.dtype for layer in layers if getattr(layer, "dtype", None) is not None}
    if len(dtypes) > 1:
        raise ValueError(f"to_onnx: expected layers of one dtype, got {sorted(map(str, dtypes))}")
    return dtypes.pop() if dtypes else np.dtype(np.float32)


# --- graphs --------------------------------------------------------------------------------------


class _Graph:
    """Nodes, constants, inputs and outputs, each written down as it comes."""

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.parts: dict[str, list[Pieces]] = {
            "nodes": [], "constants": [], "inputs": [], "outputs": []
        }  # fmt: skip
        self.count = 0

    def node(
        self, op_type: str, inputs: Sequence[str], outputs: int | Sequence[str] = 1, **more: Any
    ) -> list[str]:
        """Add a node; return the names of its results, new ones unless they are given."""
        name = more.pop("name", f"{op_type}_{self.count}")
        self.count += 1
        if isinstance(outputs, int):
            outputs = [f"{name}.{k}" if outputs > 1 else name for k in range(outputs)]
        texts = [data(1, one) for one in inputs] + [data(2, one) for one in outputs]
        attributes = [_attribute(key, value) for key, value in more.items()]
        self.parts["nodes"].append(
            message(1, [*texts, data(3, name), data(4, op_type), *attributes])
        )
        return list(outputs)

    def constant(self, array: Any) -> str:
        """Add an array; return its name."""
        array = np.asarray(array)
        name = f"constant_{self.count}"
        self.count += 1
        dims = [integer(1, n) for n in array.shape]
        content = [*dims, integer(2, CODES[array.dtype]), data(8, name), data(9, array)]
        self.parts["constants"].append(message(5, content))
        return name

    def input(self, name: str, code: int, sizes: Sequence[Size]) -> str:
        """Add an input of the graph."""
        self.parts["inputs"].append(_value_info(11, name, code, sizes))
        return name

    def output(self, name: str, sizes: Sequence[Size]) -> None:
        """Make a value an output of the graph."""
        self.parts["outputs"].append(_value_info(12, name, CODES[self.dtype], sizes))

    def model(self) -> Pieces:
        """The whole file."""
        parts = self.parts
        graph = [*parts["nodes"], data(2, "fastrnn"), *parts["constants"], *parts["inputs"]]
        opset = message(8, [data(1, ""), integer(2, OPSET)])
        return [
            *integer(1, IR_VERSION),
            *data(2, "fastrnn"),
            *message(7, [*graph, *parts["outputs"]]),
            *opset,
        ]


def _attribute(name: str, value: Any) -> Pieces:
    """An AttributeProto: its type is the value's."""
    content = [data(1, name)]
    if isinstance(value, int):
        content += [integer(3, value), integer(20, 2)]
    elif isinstance(value, float):
        content += [real(2, value), integer(20, 1)]
    elif isinstance(value, str):
        content += [data(4, value), integer(20, 3)]
    elif isinstance(value[0], str):
        content += [*(data(9, one) for one in value), integer(20, 8)]
    elif isinstance(value[0], float):
        content += [*(real(7, one) for one in value), integer(20, 6)]
    else:
        content += [*(integer(8, one) for one in value), integer(20, 7)]
    return message(5, content)


def _value_info(number: int, name: str, code: int, sizes: Sequence[Size]) -> Pieces:
    dims = [message(1, [data(2, n) if isinstance(n, str) else integer(1, n)]) for n in sizes]
    tensor = message(1, [integer(1, code), message(2, dims)])
    return message(number, [data(1, name), message(2, [tensor])])


# --- layers --------------------------------------------------------------------------------------


def _build(graph: _Graph, layers: list[Any], states: bool, lengths: bool) -> None:
    """Put the layers into the graph, one after the other."""
    kinds = [type_name(layer) for layer in layers]
    for kind, layer in zip(kinds, layers, strict=True):
        if kind not in _WRITERS and kind not in _RECURRENT:
            got = type(layer).__name__
            raise TypeError(
                f"to_onnx: expected one of {', '.join([*_RECURRENT, *_WRITERS])}, Sequential, "
                f"got {got}"
            )
    count = sum(kind in _RECURRENT for kind in kinds)
    width = _input_width(layers)
    index = kinds[0] == "Embedding"
    sizes: list[Size] = ["batch", "time"] if index else ["batch", "time", width]
    x = graph.input("x", INT64 if index else CODES[graph.dtype], sizes)
    ends = graph.input("lengths", INT32, ["batch"]) if lengths and count else ""
    time_first, at_end, number, finals = False, False, 0, []
    for kind, layer in zip(kinds, layers, strict=True):
        if kind in _RECURRENT:
            if at_end:
                raise ValueError("to_onnx: expected no recurrent layer behind a Final, got one")
            if not time_first:
                (x,) = graph.node("Transpose", [x], perm=[1, 0, 2])
                time_first = True
            suffix = "" if count == 1 else f"_{number}"
            number += 1
            x, last = _recurrent(graph, layer, x, ends, states, suffix)
            finals += last
            width = layer.output_size
            at_end = kind == "Final"
        else:
            x, width = _WRITERS[kind](graph, layer, x, width)
    if time_first and not at_end:
        graph.node("Transpose", [x], ["y"], perm=[1, 0, 2])
    else:
        graph.node("Identity", [x], ["y"])
    graph.output("y", ["batch", width] if at_end else ["batch", "time", width])
    for name, last_sizes in finals:
        graph.output(name, last_sizes)


def _input_width(layers: list[Any]) -> Size:
    """The width of the first layer that has one; a name for any."""
    for layer in layers:
        for name in ("input_size", "in_features", "features"):
            if hasattr(layer, name):
                width: int = getattr(layer, name)
                return width
    return "units"


def _recurrent(
    graph: _Graph, layer: Any, x: str, ends: str, states: bool, suffix: str
) -> tuple[str, list[tuple[str, list[Size]]]]:
    """A recurrent layer's nodes, one for each of its layers.

    Returns
    -------
    str
        Its result, (T, N, dirs*H), or (N, dirs*H) of a Final.
    list
        Names and sizes of its final states.
    """
    at_end = type_name(layer) == "Final"
    inner = layer.layer if at_end else layer
    reverse = type_name(inner) == "Reversed"
    inner = inner.layer if reverse else inner
    config = inner.config()
    if config.get("proj_size"):
        raise ValueError(
            f"proj_size: expected 0, for ONNX's LSTM has no projection, got {config['proj_size']}"
        )
    L, dirs, H = config["num_layers"], 2 if config["bidirectional"] else 1, config["hidden_size"]
    op_type, attributes = _operator(inner, config, dirs, reverse)
    names = [f"{one}" for one in inner.cell.states]
    sizes: list[Size] = [L * dirs, "batch", H]
    if states:
        first = [graph.input(f"{name}0{suffix}", CODES[graph.dtype], sizes) for name in names]
        parts = [_split(graph, one, L, dirs) for one in first]
    else:
        parts = _constant_states(graph, inner, x, L, dirs)
    last: list[list[str]] = [[] for _ in names]
    for k in range(L):
        weights = _weights(graph, inner, op_type, k, dirs)
        initial = [part[k] for part in parts] or [""] * len(names)
        inputs = [x, *weights[:3], ends, *initial, *weights[3:]]
        while inputs[-1] == "":
            inputs.pop()
        made = graph.node(
            op_type, inputs, 1 + len(names), name=f"{op_type}{suffix}_{k}", hidden_size=H,
            **attributes,
        )  # fmt: skip
        x = _side_by_side(graph, made[0], dirs, H)
        for found, name in zip(last, made[1:], strict=True):
            found.append(name)
    if at_end:
        (x,) = graph.node("Transpose", [last[0][-1]], perm=[1, 0, 2])
        (x,) = graph.node("Reshape", [x, graph.constant(np.array([0, dirs * H]))])
    finals = []
    for name, found in zip(names, last, strict=True):
        out = f"{name}_n{suffix}"
        graph.node("Concat", found, [out], axis=0)
        finals.append((out, sizes))
    return x, finals


def _operator(layer: Any, config: dict[str, Any], dirs: int, reverse: bool) -> tuple[str, Any]:
    """The node's type and attributes."""
    op_type = config.get("kind") or type(layer).__name__
    attributes: dict[str, Any] = {
        "direction": "bidirectional" if dirs == 2 else "reverse" if reverse else "forward"
    }
    if "nonlinearity" in config:
        attributes["activations"] = [config["nonlinearity"].capitalize()] * dirs
    if config.get("reset_after") or config.get("linear_before_reset"):
        attributes["linear_before_reset"] = 1
    if config.get("input_forget"):
        attributes["input_forget"] = 1
    if config.get("clip") is not None:
        attributes["clip"] = float(config["clip"])
    given = config.get("activations", [])
    if given and [name for name, _, _ in given] != list(USUAL[op_type]) * dirs:
        attributes["activations"] = [name for name, _, _ in given]
        alphas = [float(alpha) for name, alpha, _ in given if name in TAKES_ALPHA]
        betas = [float(beta) for name, _, beta in given if name in TAKES_BETA]
        if alphas:
            attributes["activation_alpha"] = alphas
        if betas:
            attributes["activation_beta"] = betas
    return op_type, attributes


def _split(graph: _Graph, state: str, L: int, dirs: int) -> list[str]:
    """A state of all layers (L*dirs, N, H) as one for each."""
    if L == 1:
        return [state]
    sizes = graph.constant(np.full(L, dirs, np.int64))
    return graph.node("Split", [state, sizes], L, axis=0)


def _constant_states(graph: _Graph, layer: Any, x: str, L: int, dirs: int) -> list[list[str]]:
    """Each layer's initial states, for however many sequences; none for zeros."""
    if layer.initial_state == "zeros":
        return []
    (shape,) = graph.node("Shape", [x])
    (batch,) = graph.node("Gather", [shape, graph.constant(np.array([1]))], axis=0)
    found = []
    for rows in layer._initial_rows():
        ends = graph.constant(np.array([rows.shape[1]]))
        (sizes,) = graph.node("Concat", [graph.constant(np.array([dirs])), batch, ends], axis=0)
        parts = [rows[k * dirs : (k + 1) * dirs, None, :] for k in range(L)]
        found.append([graph.node("Expand", [graph.constant(p), sizes])[0] for p in parts])
    return found


def _weights(graph: _Graph, layer: Any, op_type: str, k: int, dirs: int) -> list[str]:
    """W, R, B ("" for none) and, where there are peepholes, P of one layer."""
    own = OWN_GATES[op_type]
    blocks = [own.index(gate) for gate in GATES[op_type]]
    ends = [f"l{k}_reverse" if d else f"l{k}" for d in range(dirs)]

    def ordered(name: str, end: str) -> np.ndarray:
        parts = np.split(layer.params[f"{name}_{end}"], len(own))
        return np.concatenate([parts[one] for one in blocks])

    names = [
        graph.constant(np.stack([ordered(name, end) for end in ends]))
        for name in ("weight_ih", "weight_hh")
    ]
    if layer.bias:
        both = [[ordered("bias_ih", end), ordered("bias_hh", end)] for end in ends]
        names.append(graph.constant(np.stack([np.concatenate(pair) for pair in both])))
    else:
        names.append("")
    if f"{PEEPHOLES[0]}_{ends[0]}" in layer.params:
        rows = [[layer.params[f"{name}_{end}"] for name in PEEPHOLES] for end in ends]
        names.append(graph.constant(np.stack([np.concatenate(row) for row in rows])))
    return names


def _side_by_side(graph: _Graph, y: str, dirs: int, H: int) -> str:
    """A node's result (T, dirs, N, H) as (T, N, dirs*H)."""
    if dirs == 1:
        return graph.node("Squeeze", [y, graph.constant(np.array([1]))])[0]
    (y,) = graph.node("Transpose", [y], perm=[0, 2, 1, 3])
    return graph.node("Reshape", [y, graph.constant(np.array([0, 0, dirs * H]))])[0]


def _linear(graph: _Graph, layer: Any, x: str, width: Size) -> tuple[str, Size]:
    (y,) = graph.node("MatMul", [x, graph.constant(layer.params["weight"].T)])
    if layer.bias:
        (y,) = graph.node("Add", [y, graph.constant(layer.params["bias"])])
    return y, layer.out_features


def _embedding(graph: _Graph, layer: Any, x: str, width: Size) -> tuple[str, Size]:
    if x != "x":
        raise ValueError("to_onnx: expected an Embedding only as the first layer")
    (y,) = graph.node("Gather", [graph.constant(layer.params["weight"]), x], axis=0)
    return y, layer.embedding_dim


def _layer_norm(graph: _Graph, layer: Any, x: str, width: Size) -> tuple[str, Size]:
    values = [graph.constant(layer.params[name]) for name in ("weight", "bias")]
    epsilon = float(layer.epsilon)
    (y,) = graph.node("LayerNormalization", [x, *values], axis=-1, epsilon=epsilon)
    return y, width


def _dropout(graph: _Graph, layer: Any, x: str, width: Size) -> tuple[str, Size]:
    return x, width  # nothing is dropped outside training


def _activation(graph: _Graph, layer: Any, x: str, width: Size) -> tuple[str, Size]:
    more = {"axis": -1} if layer.function.endswith("softmax") else {}
    (y,) = graph.node(ACTIVATIONS[layer.function], [x], **more)
    return y, width


_RECURRENT = ("LSTM", "GRU", "RNN", "OnnxRecurrent", "Reversed", "Final")

_WRITERS: dict[str, Callable[[_Graph, Any, str, Size], tuple[str, Size]]] = {
    "Linear": _linear,
    "Embedding": _embedding,
    "LayerNorm": _layer_norm,
    "Dropout": _dropout,
    "Activation": _activation,
}
