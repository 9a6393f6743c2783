"""ONNX operators that move the axes of data, and those that compute sizes of it.

Each takes (node, inputs, opset) and gives a value; see :mod:`fastrnn.interchange.onnx_values`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fastrnn.files import FormatError
from fastrnn.interchange.onnx_file import Node
from fastrnn.interchange.onnx_operators import FOLDED, axes_of, constant
from fastrnn.interchange.onnx_values import (
    Axis,
    Data,
    Given,
    Reason,
    Sizes,
    State,
    Value,
    Zeros,
)

__all__ = ["MOVES", "Inputs", "part_of_sizes"]

Inputs = list[Value | None]
Operator = Callable[[Node, Inputs, int], Any]


# --- operators that move axes --------------------------------------------------------------------


def _transpose(node: Node, inputs: Inputs, opset: int) -> Value:
    x = inputs[0]
    if not isinstance(x, Data):
        return _still(inputs)
    rank = len(x.axes)
    order = node.listed("perm", int) or list(range(rank))[::-1]
    if sorted(order) != list(range(rank)):
        raise FormatError(f"{node}: perm: expected an order of {rank} axes, got {order!r:.80}")
    return replace(x, axes=tuple(x.axes[k] for k in order))


def _still(inputs: Inputs) -> Value:
    """What stays what it is if axes are moved: states and zeros."""
    value = inputs[0]
    if isinstance(value, State | Zeros | Given):
        return value
    raise Reason("expected data")


def _squeeze(node: Node, inputs: Inputs, opset: int) -> Value:
    x = inputs[0]
    if isinstance(x, Sizes):
        return x
    if not isinstance(x, Data):
        return _still(inputs)
    arrays: Any = [None if not isinstance(one, np.ndarray) else one for one in inputs]
    axes = axes_of(node, arrays, len(x.axes), opset)
    if axes is None:
        axes = [k for k, axis in enumerate(x.axes) if axis.name == "one"]
    if any(x.axes[k].name != "one" for k in axes):
        if x.step is None:
            return Given()  # a part of what the caller gives; layers tell if they take it
        raise Reason("expected to leave out only axes of size 1 that a layer has put in")
    return replace(x, axes=tuple(axis for k, axis in enumerate(x.axes) if k not in axes))


def _unsqueeze(node: Node, inputs: Inputs, opset: int) -> Value:
    x = inputs[0]
    if isinstance(x, Sizes):
        return x
    if not isinstance(x, Data):
        return _still(inputs)
    arrays: Any = [None if not isinstance(one, np.ndarray) else one for one in inputs]
    count = len(node.listed("axes", int))
    if opset >= 13 and len(arrays) > 1 and arrays[1] is not None:
        count = arrays[1].size
    if len(x.axes) + count > 8:
        raise Reason("expected at most 8 axes")
    axes = axes_of(node, arrays, len(x.axes) + count, opset) or []
    rest = iter(x.axes)
    whole = [Axis("one", 1) if k in axes else next(rest) for k in range(len(x.axes) + len(axes))]
    return replace(x, axes=tuple(whole))


def _reshape(node: Node, inputs: Inputs, opset: int) -> Value:
    x = inputs[0]
    if not isinstance(x, Data):
        return _still(inputs)
    target = inputs[1] if len(inputs) > 1 else None
    if isinstance(target, np.ndarray) and target.dtype.kind in "iu" and target.size <= 8:
        sizes: list[int | str] = [int(n) for n in target.reshape(-1)]
    elif isinstance(target, Sizes):
        sizes = list(target.sizes)
    else:
        raise Reason("expected a constant shape, or one made of the data's")
    if 0 in sizes and node.integer("allowzero", 0):
        raise Reason("allowzero: expected 0")
    return replace(x, axes=_reshaped(x.axes, sizes))


def _reshaped(axes: tuple[Axis, ...], sizes: list[int | str]) -> tuple[Axis, ...]:
    """Axes of data of new sizes that only drop or put in ones, or join directions and units."""
    found: list[Axis] = []
    k = 0
    for place, size in enumerate(sizes):
        if size == 0 and place < len(axes):
            # copies the size of the axis in this place
            size = axes[place].name if axes[place].size is None else axes[place].size or 0
        while k < len(axes) and axes[k].name == "one" and size != 1:
            k += 1
        axis = axes[k] if k < len(axes) else None
        following = axes[k + 1] if k + 1 < len(axes) else None
        if axis is not None and axis.name == "dirs" and following and following.name == "units":
            joined = (axis.size or 0) * (following.size or 0)
            if size in (joined, -1) and len(sizes) - place < len(axes) - k:
                found.append(Axis("units", joined))
                k += 2
                continue
        if axis is not None and (
            size in (-1, axis.name, axis.size) or (axis.size is None and size != 1)
        ):
            if isinstance(size, str) and size != axis.name:
                break
            found.append(axis)
            k += 1
        elif size == 1:
            found.append(Axis("one", 1))
        else:
            break
    else:
        if all(axis.name == "one" for axis in axes[k:]) and sizes.count(-1) <= 1:
            return tuple(found)
    raise Reason(
        "expected to join directions and units, or to leave out or put in axes of size 1, got "
        f"{[axis.name if axis.size is None else axis.size for axis in axes]} to {sizes}"
    )


# --- sizes of data, and what is made of them -----------------------------------------------------


def _sizes(node: Node, inputs: Inputs, opset: int) -> Value:
    x = inputs[0]
    if isinstance(x, Data):
        return Sizes(tuple(axis.name if axis.size is None else axis.size for axis in x.axes))
    raise Reason("expected data")


def part_of_sizes(node: Node, inputs: Inputs) -> Value:
    """Some sizes of data, by a constant index."""
    sizes, index = inputs[0], inputs[1] if len(inputs) > 1 else None
    assert isinstance(sizes, Sizes)
    if not isinstance(index, np.ndarray) or index.dtype.kind not in "iu" or index.size > 8:
        raise Reason("expected constant indices of sizes")
    picked = [int(k) for k in index.reshape(-1)]
    if not all(-len(sizes.sizes) <= k < len(sizes.sizes) for k in picked):
        raise FormatError(f"{node}: expected indices of {len(sizes.sizes)} sizes, got {picked}")
    return Sizes(tuple(sizes.sizes[k] for k in picked))


def _slice(node: Node, inputs: Inputs, opset: int) -> Value:
    if isinstance(inputs[0], Data) and inputs[0].step is None:
        return Given()
    if isinstance(inputs[0], Given | Zeros):
        return inputs[0]
    if isinstance(inputs[0], Sizes):
        arrays: Any = [np.arange(len(inputs[0].sizes)), *inputs[1:]]
        if not all(one is None or isinstance(one, np.ndarray) for one in arrays):
            raise Reason("expected a constant part of sizes")
        kept = FOLDED["Slice"](node, arrays, opset)
        return Sizes(tuple(inputs[0].sizes[int(k)] for k in kept))
    raise Reason("parts of data cannot be taken")


def _split(node: Node, inputs: Inputs, opset: int) -> Any:
    if isinstance(inputs[0], Given | Zeros) or (
        isinstance(inputs[0], Data) and inputs[0].step is None
    ):
        part = inputs[0] if isinstance(inputs[0], Zeros) else Given()
        return [part] * len(node.outputs)
    raise Reason("parts of data cannot be taken")


def _concat(node: Node, inputs: Inputs, opset: int) -> Value:
    if isinstance(inputs[-1], State) and all(isinstance(one, State) for one in inputs):
        return State(inputs[-1].of)
    parts: list[int | str] = []
    for one in inputs:
        if isinstance(one, Sizes):
            parts += one.sizes
        elif isinstance(one, np.ndarray) and one.dtype.kind in "iu" and one.size <= 8:
            parts += [int(n) for n in one.reshape(-1)]
        else:
            raise Reason(
                "expected sizes or final states to put together; branches of data cannot be taken"
            )
    if len(parts) > 8:
        raise Reason("expected at most 8 sizes")
    return Sizes(tuple(parts))


def _zeros(node: Node, inputs: Inputs, opset: int) -> Value:
    if node.op_type == "ConstantOfShape":
        value = node.attributes.get("value")
        values = None if value is None else constant(node)
    else:
        values = inputs[0] if isinstance(inputs[0], np.ndarray) else np.ones(1)
    if values is None or not values.any():
        return Zeros()
    if node.op_type == "Expand" and values.ndim == 3:
        return values  # one state for however many sequences
    raise Reason("expected zeros of the data's sizes")


def _also_of_states(operator: Operator) -> Operator:
    """The operator, also of a final state, which stays one."""

    def moved(node: Node, inputs: Inputs, opset: int) -> Value:
        state = inputs[0]
        if not isinstance(state, State) or state.data is None:
            return operator(node, inputs, opset)
        try:
            data = operator(node, [state.data, *inputs[1:]], opset)
        except Reason:  # then nothing but a result of the graph
            return State(state.of)
        return replace(state, data=data if isinstance(data, Data) else None)

    return moved


MOVES: dict[str, Operator] = {
    "Transpose": _also_of_states(_transpose),
    "Squeeze": _also_of_states(_squeeze),
    "Unsqueeze": _also_of_states(_unsqueeze),
    "Reshape": _also_of_states(_reshape),
    "Shape": _sizes,
    "Slice": _slice,
    "Split": _split,
    "Concat": _concat,
    "ConstantOfShape": _zeros,
    "Expand": _zeros,
}
"""By their names."""
