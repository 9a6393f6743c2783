"""ONNX operators that become layers, or pass data on as it is.

Each takes (walk, node, inputs) and gives data one layer further.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from fastrnn.interchange.onnx_axes import Inputs, part_of_sizes
from fastrnn.interchange.onnx_file import Node
from fastrnn.interchange.onnx_functions import GATES
from fastrnn.interchange.onnx_operators import axis_of
from fastrnn.interchange.onnx_values import Axis, Data, Given, Reason, Sizes, State, Step, Value
from fastrnn.interchange.values import layer_of
from fastrnn.layers.activation import Activation
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.final import Final
from fastrnn.layers.modules import LayerNorm, Linear

__all__ = ["LAYERS"]


class Walk(Protocol):
    """What operators need of the graph around them."""

    @property
    def opset(self) -> int:
        """The version of ONNX's operators."""

    def recurrent(self, node: Node) -> tuple[Callable[[], Any], int]:
        """What makes the layer of a recurrent node, and its units."""

    def charge_weights(self, *arrays: np.ndarray | None) -> None:
        """Count parameters that a layer will hold."""


Operator = Callable[[Walk, Node, Inputs], Any]


def _data(inputs: Inputs, number: int = 0) -> Data:
    """An input that must be data, the others being constants."""
    value = inputs[number] if number < len(inputs) else None
    if isinstance(value, State) and value.data is not None:
        value = value.data
    if not isinstance(value, Data):
        raise Reason("expected one input of data, and constants")
    for k, other in enumerate(inputs):
        if k != number and other is not None and not isinstance(other, np.ndarray):
            raise Reason("expected one input of data, and constants; branches cannot be taken")
    return value


def _recurrent(walk: Walk, node: Node, inputs: Inputs) -> list[Value]:
    x = inputs[0] if inputs else None
    if not isinstance(x, Data):
        raise Reason("expected data for X")
    if len(x.axes) != 3:
        raise Reason(f"expected X of 3 axes, got {len(x.axes)}")
    lengths = inputs[4] if len(inputs) > 4 else None
    if isinstance(lengths, np.ndarray):
        raise Reason("sequence_lens: expected an input of the graph, got a constant")
    for k in (4, 5, 6):
        value = inputs[k] if k < len(inputs) else None
        if isinstance(value, State) or (isinstance(value, Data) and value.step is not None):
            raise Reason("expected states and lengths that the caller gives, got a layer's result")
    layout = node.integer("layout", 0)
    if layout not in (0, 1):
        raise Reason(f"layout: expected 0 or 1, got {layout}")
    time, batch, units = (x.axes[k] for k in ((1, 0, 2) if layout else (0, 1, 2)))
    if {time.name, batch.name} & {"one", "dirs", "units"} or units.name in ("one", "dirs"):
        raise Reason("expected X of time, batch and units, got axes that were put in")
    if (x.time, x.batch) not in ((None, None), (time.name, batch.name)):
        raise Reason("expected time and batch where the layers before it have them")
    if x.step is not None and units.name != "units":
        raise Reason("expected the layer before it to give the units")
    make, H = walk.recurrent(node)
    dirs = (
        Axis("dirs", 2) if node.attribute("direction", str) == "bidirectional" else Axis("one", 1)
    )
    axes = (batch, time, dirs) if layout else (time, dirs, batch)
    states = object()
    final = Step(x.step, lambda: Final(make()), states=states)
    # With lengths, a sequence's last output need not stand at the last step.
    ends_last = node.attribute("direction", str, "forward") == "forward" and lengths is None
    step = Step(x.step, make, final=final if ends_last else None, states=states)
    units = Axis("units", H)
    data = Data((*axes, units), step, time.name, batch.name)
    h = Data((batch, dirs, units) if layout else (dirs, batch, units), final, None, batch.name)
    return [data, State(states, h), State(states)]


def _after(x: Data, make: Callable[[], Any], **options: Any) -> Data:
    return replace(x, step=Step(x.step, make, **options))


def _units_last(x: Data) -> None:
    if not x.axes or x.axes[-1].name in ("one", x.time, x.batch):
        raise Reason("expected the units in the last axis")
    if any(axis.name == "dirs" for axis in x.axes):
        raise Reason("expected both directions side by side in the last axis")
    if x.axes[-1].name != "units" and any(axis.name == "units" for axis in x.axes):
        raise Reason("expected the units in the last axis")


def _matrix(value: Any, what: str) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.ndim != 2 or 0 in value.shape:
        raise Reason(f"{what}: expected a constant matrix")
    if value.dtype.kind != "f":
        raise Reason(f"{what}: expected floats, got {value.dtype}")
    return value


def _linear(walk: Walk, x: Data, weight: np.ndarray, bias: np.ndarray | None) -> Data:
    """Data through a Linear of a weight (out, in)."""
    _units_last(x)
    size = x.axes[-1].size
    if size is not None and size != weight.shape[1]:
        raise Reason(f"expected a matrix for {size} units, got {weight.shape[1]}")
    walk.charge_weights(weight, bias)

    def make(bias: np.ndarray | None) -> Any:
        values = {"weight": weight} | ({} if bias is None else {"bias": bias})
        out_features, in_features = weight.shape
        sizes = {"in_features": in_features, "out_features": out_features}
        return layer_of(Linear, values, **sizes, bias=bias is not None)

    def with_bias(bias: np.ndarray) -> Step:
        return Step(x.step, lambda: make(bias))

    axes = (*x.axes[:-1], Axis("units", weight.shape[0]))
    step = Step(x.step, lambda: make(bias), with_bias if bias is None else None)
    return replace(x, axes=axes, step=step)


def _matmul(walk: Walk, node: Node, inputs: Inputs) -> Value:
    x = _data(inputs)
    weight = _matrix(inputs[1] if len(inputs) > 1 else None, "B")
    return _linear(walk, x, weight.T, None)


def _gemm(walk: Walk, node: Node, inputs: Inputs) -> Value:
    x = _data(inputs)
    if len(x.axes) != 2 or node.integer("transA", 0):
        raise Reason("expected A of two axes, not transposed")
    factors = [node.attribute(name, float, 1.0) for name in ("alpha", "beta")]
    if factors != [1.0, 1.0]:
        raise Reason(f"expected alpha and beta of 1, got {factors}")
    weight = _matrix(inputs[1] if len(inputs) > 1 else None, "B")
    weight = weight if node.integer("transB", 0) else weight.T
    bias = inputs[2] if len(inputs) > 2 else None
    return _linear(walk, x, weight, None if bias is None else _vector(bias, weight.shape[0]))


def _vector(value: Any, size: int) -> np.ndarray:
    """A constant vector of so many units, maybe behind axes of size 1."""
    if (
        not isinstance(value, np.ndarray)
        or value.dtype.kind != "f"
        or value.size != size
        or value.shape[-1:] != (size,)
    ):
        raise Reason(f"expected a constant vector of {size}")
    return value.reshape(size)


def _add(walk: Walk, node: Node, inputs: Inputs) -> Value:
    if len(inputs) == 2 and isinstance(inputs[0], np.ndarray):
        inputs = inputs[::-1]
    x = _data(inputs)
    if x.step is None or x.step.bias is None or x.axes[-1].name != "units":
        raise Reason("expected a constant vector right behind a product with a matrix")
    bias = _vector(inputs[1] if len(inputs) > 1 else None, x.axes[-1].size or 0)
    return replace(x, step=x.step.bias(bias))


def _embedding(walk: Walk, node: Node, inputs: Inputs) -> Value:
    if isinstance(inputs[0], Sizes):
        return part_of_sizes(node, inputs)
    x = _data(inputs, 1) if len(inputs) > 1 and isinstance(inputs[1], Data) else None
    if x is None and isinstance(inputs[0], Data | State):
        last = _last_step(node, inputs)
        if last is not None:
            return last
    if x is None:
        if isinstance(inputs[0], Data) and inputs[0].step is None:
            return Given()
        raise Reason("expected indices into a constant table; parts of data cannot be taken")
    table = _matrix(inputs[0], "data")
    if x.step is not None or axis_of(node, 2, 0) != 0:
        raise Reason("expected indices that the caller gives, into the rows of a table")
    walk.charge_weights(table)
    V, D = table.shape
    sizes = {"num_embeddings": V, "embedding_dim": D}
    step = Step(None, lambda: layer_of(Embedding, {"weight": table}, **sizes))
    return replace(x, axes=(*x.axes, Axis("units", D)), step=step)


def _last_step(node: Node, inputs: Inputs) -> Value | None:
    """Data at its last step, or a state of the one layer there is; None for any other part."""
    value, index = inputs[0], inputs[1] if len(inputs) > 1 else None
    x = value.data if isinstance(value, State) else value
    if not isinstance(x, Data) or not isinstance(index, np.ndarray) or index.ndim > 1:
        return None
    axis = axis_of(node, len(x.axes), 0)
    place, picked = x.axes[axis], index.reshape(-1).tolist()
    rest = (*x.axes[:axis], *([Axis("one", 1)] * index.ndim), *x.axes[axis + 1 :])
    if isinstance(value, State):
        if place.name == "one" and picked in ([0], [-1]):
            return replace(value, data=replace(x, axes=rest))
    elif place.name == x.time and picked == [-1] and x.step is not None and x.step.final:
        return replace(x, axes=rest, step=x.step.final, time=None)
    return None


def _layer_norm(walk: Walk, node: Node, inputs: Inputs) -> Value:
    x = _data(inputs)
    _units_last(x)
    if axis_of(node, len(x.axes), -1) != len(x.axes) - 1:
        raise Reason("axis: expected the last alone")
    scale = inputs[1] if len(inputs) > 1 else None
    if (
        not isinstance(scale, np.ndarray)
        or scale.ndim != 1
        or x.axes[-1].size not in (None, scale.size)
    ):
        raise Reason("Scale: expected a constant vector of the units")
    weight = _vector(scale, scale.size)
    bias = inputs[2] if len(inputs) > 2 else None
    bias = np.zeros_like(weight) if bias is None else _vector(bias, scale.size)
    values = {"weight": weight, "bias": bias}
    epsilon = node.attribute("epsilon", float, 1e-5)
    return _after(x, lambda: layer_of(LayerNorm, values, features=weight.size, epsilon=epsilon))


def _elementwise(function: str) -> Operator:
    def operator(walk: Walk, node: Node, inputs: Inputs) -> Value:
        return _after(_data(inputs), lambda: Activation(function))

    return operator


def _softmax(function: str) -> Operator:
    def operator(walk: Walk, node: Node, inputs: Inputs) -> Value:
        x = _data(inputs)
        _units_last(x)
        axis = axis_of(node, len(x.axes), -1 if walk.opset >= 13 else 1)
        if axis != len(x.axes) - 1:
            raise Reason("axis: expected the last")
        return _after(x, lambda: Activation(function))

    return operator


def _dropout(walk: Walk, node: Node, inputs: Inputs) -> Value:
    training = inputs[2] if len(inputs) > 2 else None
    if training is not None and not (isinstance(training, np.ndarray) and not training.any()):
        raise Reason("training_mode: expected false")
    return _passed(walk, node, inputs)


def _passed(walk: Walk, node: Node, inputs: Inputs) -> Value:
    if inputs[0] is None:
        raise Reason("expected an input, got none")
    return inputs[0]


FLOATS, INTEGERS = (1, 11), (6, 7)


def _cast(walk: Walk, node: Node, inputs: Inputs) -> Value:
    value, to = inputs[0], node.integer("to", 0)
    if isinstance(value, Data) and (
        to not in FLOATS + INTEGERS or (value.step is not None and to in INTEGERS)
    ):
        raise Reason(f"to: expected float32 or float64, got type {to}")
    return _passed(walk, node, inputs)


LAYERS: dict[str, Operator] = {
    **dict.fromkeys(GATES, _recurrent),
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Add": _add,
    "Gather": _embedding,
    "LayerNormalization": _layer_norm,
    "Relu": _elementwise("relu"),
    "Sigmoid": _elementwise("sigmoid"),
    "Tanh": _elementwise("tanh"),
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
    "Dropout": _dropout,
    "Identity": _passed,
    "Cast": _cast,
}
"""By their names."""
