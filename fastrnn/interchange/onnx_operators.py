"""The few operators that stand around recurrent ones in ONNX graphs, computed with NumPy.

`from_onnx` computes constants with them, the backend whole graphs. Those of the first kind keep
what they give within a few times what they take. https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastrnn.cells import relu, sigmoid
from fastrnn.files import FormatError
from fastrnn.interchange.onnx_file import DTYPES, LARGEST_RANK, Node, Tensor
from fastrnn.layers.activation import Activation

__all__ = ["FOLDED", "OPERATORS", "Inputs", "axes_of", "constant", "slices"]

Inputs = Sequence[np.ndarray | None]


def constant(node: Node) -> np.ndarray:
    """The value of a Constant node."""
    kinds: dict[str, tuple[type, Any]] = {
        "value": (Tensor, None),
        "value_float": (float, np.float32),
        "value_int": (int, np.int64),
        "value_floats": (float, np.float32),
        "value_ints": (int, np.int64),
    }
    for name, (kind, dtype) in kinds.items():
        if name in node.attributes:
            value = node.attribute(name, kind)
            return value.array() if kind is Tensor else np.array(value, dtype)
    raise FormatError(f"{node}: expected numbers, got {', '.join(node.attributes) or 'nothing'}")


def given(node: Node, inputs: Inputs, number: int) -> np.ndarray:
    """An input that must be there."""
    value = inputs[number] if number < len(inputs) else None
    if value is None:
        raise FormatError(f"{node}: expected an input number {number}, got none")
    return value


def axes_of(node: Node, inputs: Inputs, rank: int, opset: int) -> list[int] | None:
    """The attribute or, since opset 13, input ``axes``; None if it is left out."""
    listed = node.listed("axes", int) or None
    if opset >= 13 and len(inputs) > 1 and inputs[1] is not None:
        if inputs[1].dtype.kind not in "iu" or inputs[1].size > LARGEST_RANK:
            raise FormatError(f"{node}: axes: expected integers, got {inputs[1]!r:.80}")
        listed = [int(axis) for axis in inputs[1].reshape(-1)]
    if listed is None:
        return None
    if not all(-rank <= axis < rank for axis in listed):
        raise FormatError(f"{node}: axes: expected axes of {rank}, got {listed!r:.80}")
    found = sorted(axis % rank for axis in listed)
    if len(set(found)) < len(found):
        raise FormatError(f"{node}: axes: expected each axis once, got {listed!r:.80}")
    return found


def axis_of(node: Node, rank: int, default: int) -> int:
    """The attribute ``axis``."""
    axis = node.integer("axis", default)
    if not -rank <= axis < rank:
        raise FormatError(f"{node}: axis: expected an axis of {rank}, got {axis}")
    return axis % rank


def slices(node: Node, inputs: Inputs, rank: int, opset: int) -> tuple[slice, ...]:
    """What a Slice node takes of each axis."""
    if opset < 10:
        starts, ends = node.listed("starts", int), node.listed("ends", int)
        axes: list[int] = node.listed("axes", int) or list(range(len(starts)))
        steps = [1] * len(starts)
    else:
        numbers = [given(node, inputs, 1), given(node, inputs, 2), *inputs[3:5]]
        if any(one is not None and one.dtype.kind not in "iu" for one in numbers):
            raise FormatError(f"{node}: expected integers")
        lists = [None if one is None else one.reshape(-1)[:65].tolist() for one in numbers]
        lists += [None] * (4 - len(lists))
        starts, ends = lists[0] or [], lists[1] or []
        axes = list(range(len(starts))) if lists[2] is None else lists[2]
        steps = [1] * len(starts) if lists[3] is None else lists[3]
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise FormatError(f"{node}: expected as many starts, ends, axes and steps")
    taken = [slice(None)] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if not -rank <= axis < rank:
            raise FormatError(f"{node}: axes: expected axes of {rank}, got {axis}")
        # below -size an end before the first element is meant, which Python cannot say but by None
        stop = None if step < 0 and end < -(2**31) else end
        taken[axis % rank] = slice(start, stop, step)
    return tuple(taken)


# --- operators: what one takes is (node, inputs, opset) ------------------------------------------


def _identity(node: Node, inputs: Inputs, opset: int) -> np.ndarray:
    return given(node, inputs, 0)


def _cast(node: Node, inputs: Inputs, opset: int) -> np.ndarray:
    to = node.integer("to", 0)
    if to not in DTYPES:
        raise FormatError(f"{node}: to: expected one of the types {sorted(DTYPES)}, got {to}")
    with np.errstate(invalid="ignore", over="ignore"):
        return given(node, inputs, 0).astype(DTYPES[to])


def _transpose(node: Node, inputs: Inputs, opset: int) -> np.ndarray:
    x = given(node, inputs, 0)
    order = node.listed("perm", int) or list(range(x.ndim))[::-1]
    if sorted(order) != list(range(x.ndim)):
        raise FormatError(f"{node}: perm: expected an order of {x.ndim} axes, got {order!r:.80}")
    return x.transpose(order)


def _squeeze(node: Node, inputs: Inputs, opset: int) -> np.ndarray:
    x = given(node, inputs, 0)
    axes = axes_of(node, inputs, x.ndim, opset)
    axes = [k for k, n in enumerate(x.shape) if n == 1] if axes is None else axes
    if any(x.shape[k] != 1 for k in axes):
        raise FormatError(f"{node}: axes: expected axes of size 1, got {axes} of {x.shape}")
    return x.reshape([n for k, n in enumerate(x.shape) if k not in axes])


def _unsqueeze(node: Node, inputs: Inputs, opset: int) -> np.ndarray:
    x = given(node, inputs, 0)
    count = len(node.listed("axes", int)) or (given(node, inputs, 1).size if opset >= 13 else 0)
    if x.ndim + count > LARGEST_RANK:
        raise FormatError(f"{node}: axes: expected fewer than {LARGEST_RANK}, got {count}")
    axes = axes_of(node, inputs, x.ndim + count, opset) or []
    return np.expand_dims(x, tuple(axes))


def _reshape(node: Node, inputs: Inputs, opset: int) -> np.ndarray:
    x, shape = given(node, inputs, 0), given(node, inputs, 1)
    if shape.dtype.kind not in "iu" or shape.size > LARGEST_RANK:
        raise FormatError(f"{node}: expected a shape of integers, got {shape!r:.80}")
    sizes = [int(n) for n in shape.reshape(-1)]
    if not node.integer("allowzero", 0):
        if any(n == 0 and k >= x.ndim for k, n in enumerate(sizes)):
            raise FormatError(f"{node}: expected a shape of sizes, got {sizes!r:.80}")
        sizes = [x.shape[k] if n == 0 else n for k, n in enumerate(sizes)]
    known = math.prod(n for n in sizes if n != -1)
    fits = x.size == known if -1 not in sizes else known > 0 and x.size % known == 0
    if sizes.count(-1) > 1 or any(n < -1 for n in sizes) or not fits:
        raise FormatError(f"{node}: expected a shape of {x.size} elements, got {sizes!r:.80}")
    return x.reshape(sizes)


def _concat(node: Node, inputs: Inputs, opset: int) -> np.ndarray:
    arrays = [given(node, inputs, k) for k in range(len(inputs))] or [given(node, inputs, 0)]
    axis = axis_of(node, arrays[0].ndim, 0)
    shapes = {(*a.shape[:axis], *a.shape[axis + 1 :], a.ndim, str(a.dtype)) for a in arrays}
    if len(shapes) > 1:
        raise FormatError(f"{node}: expected inputs of sizes and types that fit together")
    return np.concatenate(arrays, axis)


def _slice(node: Node, inputs: Inputs, opset: int) -> np.ndarray:
    x = given(node, inputs, 0)
    return x[slices(node, inputs, x.ndim, opset)]


def _gather(node: Node, inputs: Inputs, opset: int) -> np.ndarray:
    x, index = given(node, inputs, 0), given(node, inputs, 1)
    axis = axis_of(node, x.ndim, 0)
    if index.dtype.kind not in "iu" or (
        index.size and not (-x.shape[axis] <= index.min() and index.max() < x.shape[axis])
    ):
        raise FormatError(f"{node}: expected indices in [0, {x.shape[axis]})")
    return np.take(x, index, axis)


def _split(node: Node, inputs: Inputs, opset: int) -> tuple[np.ndarray, ...]:
    x = given(node, inputs, 0)
    axis = axis_of(node, x.ndim, 0)
    sizes = node.listed("split", int)
    if opset >= 13 and len(inputs) > 1:
        sizes = [int(n) for n in given(node, inputs, 1).reshape(-1)[:4096]]
    if not sizes:
        each = -(-x.shape[axis] // max(len(node.outputs), 1))
        sizes = [each] * (len(node.outputs) - 1)
        sizes.append(x.shape[axis] - sum(sizes))
    if len(sizes) != len(node.outputs) or min(sizes) < 0 or sum(sizes) != x.shape[axis]:
        raise FormatError(f"{node}: split: expected parts of {x.shape[axis]}, got {sizes!r:.80}")
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))


def _shape(node: Node, inputs: Inputs, opset: int) -> np.ndarray:
    return np.array(given(node, inputs, 0).shape, np.int64)


def _matmul(node: Node, inputs: Inputs, opset: int) -> np.ndarray:
    return np.matmul(given(node, inputs, 0), given(node, inputs, 1))


def _gemm(node: Node, inputs: Inputs, opset: int) -> np.ndarray:
    a, b = given(node, inputs, 0), given(node, inputs, 1)
    a = a.T if node.integer("transA", 0) else a
    b = b.T if node.integer("transB", 0) else b
    y = node.attribute("alpha", float, 1.0) * (a @ b)
    if len(inputs) > 2 and inputs[2] is not None:
        y = y + node.attribute("beta", float, 1.0) * inputs[2]
    return y.astype(a.dtype)


def _add(node: Node, inputs: Inputs, opset: int) -> np.ndarray:
    return given(node, inputs, 0) + given(node, inputs, 1)


def _elementwise(function: Callable[[Any, Any], Any]) -> Operator:
    return lambda node, inputs, opset: function(np, given(node, inputs, 0))


def _softmax(function: str) -> Operator:
    def operator(node: Node, inputs: Inputs, opset: int) -> np.ndarray:
        x = given(node, inputs, 0)
        axis = axis_of(node, x.ndim, -1 if opset >= 13 else 1)
        if opset < 13 and axis != x.ndim - 1:
            raise FormatError(f"{node}: axis: expected the last before opset 13, got {axis}")
        return np.moveaxis(Activation(function)(np.moveaxis(x, axis, -1)), -1, axis)

    return operator


def _layer_norm(node: Node, inputs: Inputs, opset: int) -> np.ndarray:
    x, scale = given(node, inputs, 0), given(node, inputs, 1)
    axes = tuple(range(axis_of(node, x.ndim, -1), x.ndim))
    x = x - x.mean(axes, keepdims=True)
    y = x / np.sqrt((x * x).mean(axes, keepdims=True) + node.attribute("epsilon", float, 1e-5))
    y = y * scale
    return (y if len(inputs) < 3 or inputs[2] is None else y + inputs[2]).astype(x.dtype)


Operator = Callable[[Node, Inputs, int], Any]

FOLDED: dict[str, Operator] = {
    "Identity": _identity,
    "Cast": _cast,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Concat": _concat,
    "Slice": _slice,
    "Gather": _gather,
    "Split": _split,
    "Shape": _shape,
}
"""Those with which constants are made of constants."""

OPERATORS: dict[str, Operator] = {
    **FOLDED,
    "Dropout": _identity,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Add": _add,
    "Relu": _elementwise(relu),
    "Sigmoid": _elementwise(sigmoid),
    "Tanh": _elementwise(lambda xp, x: xp.tanh(x)),
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
    "LayerNormalization": _layer_norm,
}
"""All."""
