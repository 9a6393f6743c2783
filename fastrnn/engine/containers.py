"""Containers of rows: an array (..., width), or a list of arrays (T_i, width).

Layers that judge every row by itself work on the rows of either, one after the other, and give back
what they have found in the same form.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn.checks import Array, as_array, as_real_array, check_ndim, namespace
from fastrnn.engine.arrays import beside

__all__ = ["Form", "as_items", "flatten", "flatten_indices", "join"]


class Form:
    """How the rows of a container are arranged, so that others can be arranged alike."""

    __slots__ = ("lengths", "like", "shape")

    def __init__(
        self, shape: tuple[int, ...] | None, lengths: Sequence[int] | None, like: Any = None
    ) -> None:
        self.shape = shape  # of an array, without its last axis
        self.lengths = lengths  # of a list's arrays
        self.like = like  # where the rows of an empty list are

    def restore(self, rows: Array) -> Any:
        """`rows` (total, width) in this form; a list's arrays are slices of it."""
        if self.lengths is None:
            assert self.shape is not None
            return namespace(rows).reshape(rows, (*self.shape, *rows.shape[1:]))
        ends = np.cumsum([0, *self.lengths]).tolist()
        return [rows[a:b, ...] for a, b in itertools.pairwise(ends)]

    def flatten(self, name: str, x: Any, width: int | None, dtype: Any) -> Array:
        """The rows of a container that must have this form, e.g. of a gradient."""
        rows, form = flatten(name, x, width, dtype, self.like)
        if form.shape != self.shape or form.lengths != self.lengths:
            tail = () if width is None else (width,)
            if self.lengths is None:
                assert self.shape is not None
                raise ValueError(
                    f"{name}: expected shape {(*self.shape, *tail)}, got {_shape_of(form, tail)}"
                )
            raise ValueError(
                f"{name}: expected a list of {len(self.lengths)} arrays, as long as those of the "
                f"input, got {_shape_of(form, tail)}"
            )
        return rows


def _shape_of(form: Form, tail: tuple[int, ...]) -> str:
    if form.shape is not None:
        return str((*form.shape, *tail))
    assert form.lengths is not None
    lengths = list(form.lengths[:8])
    more = ", ..." if len(form.lengths) > 8 else ""
    return f"a list of {len(form.lengths)} arrays of lengths {str(lengths)[:-1]}{more}]"


def flatten(
    name: str, x: Any, width: int | None, dtype: Any, like: Any = None
) -> tuple[Array, Form]:
    """The rows of a container of real numbers, and how they were arranged.

    Parameters
    ----------
    name : str
        The argument's name.
    x : array (..., width), or list of arrays (T_i, width)
        Without `width` the shapes are (...) and (T_i,), and a flat list of numbers is one array.
    width : int or None
        The size of the last axis.
    dtype : dtype
        The rows' dtype, None for the container's own.
    like : array, optional
        Where the rows of an empty list are, and of which kind; by default NumPy's.

    Returns
    -------
    rows : array (total, width) or (total,)
        A view where the container lies in one piece, as lists given by a layer do.
    form : Form
    """
    tail: tuple[int, ...] = () if width is None else (width,)
    if isinstance(x, (list, tuple)) and not (width is None and x and np.ndim(x[0]) == 0):
        items = as_items(name, x, width, dtype)
        if not items:
            return _beside(np.empty((0, *tail), dtype or np.float32), like), Form(None, [], like)
        return join(items), Form(None, [int(item.shape[0]) for item in items])
    x = as_real_array(name, x, dtype)
    shape = tuple(int(n) for n in x.shape)
    if width is not None and shape[-1:] != tail:
        raise ValueError(f"{name}: expected shape (..., {width}), got {shape}")
    form = Form(shape[:-1] if width is not None else shape, None)
    return namespace(x).reshape(x, (math.prod(form.shape or ()), *tail)), form


def as_items(name: str, x: Sequence[Any], width: int | None, dtype: Any) -> list[Array]:
    """The arrays (T_i, width) of a list, or (T_i,) without `width`, each in the dtype."""
    tail: tuple[int, ...] = () if width is None else (width,)
    axes = "(T,)" if width is None else "(T, D)"
    items = [
        as_real_array(f"{name}[{i}]", item, dtype, ndim=1 + len(tail), axes=axes)
        for i, item in enumerate(x)
    ]
    for i, item in enumerate(items):
        if item.shape[1:] != tail:
            wanted = f"(T, {width})"
            raise ValueError(f"{name}[{i}]: expected shape {wanted}, got {tuple(item.shape)}")
    return items


def flatten_indices(name: str, x: Any, like: Any = None) -> tuple[Array, Form]:
    """The elements of a container of integers, unchecked, and how they were arranged.

    A list of arrays (T_i,) is a list of sequences; a flat list of integers is one array. `like` is
    as for `flatten`.
    """
    if isinstance(x, (list, tuple)) and all(np.ndim(item) > 0 for item in x):
        items = [as_array(f"{name}[{i}]", item) for i, item in enumerate(x)]
        for i, item in enumerate(items):
            check_ndim(f"{name}[{i}]", item, 1, "(T,)")
        lengths = [int(item.shape[0]) for item in items]
        if not items:
            return _beside(np.empty(0, np.int64), like), Form(None, lengths, like)
        filled = [item for item in items if item.shape[0]]  # np.asarray([]) is of floats
        if not filled and isinstance(items[0], np.ndarray):
            return np.empty(0, np.int64), Form(None, lengths)
        return join(filled or items[:1]), Form(None, lengths)
    x = as_array(name, x)
    return namespace(x).reshape(x, (-1,)), Form(tuple(int(n) for n in x.shape), None)


def _beside(array: np.ndarray, like: Any) -> Array:
    return array if like is None else beside(array, like)


def join(items: Sequence[Array]) -> Array:
    """The rows of all arrays, one after the other: a view if they lie so already, else a copy."""
    first = items[0]
    xp = namespace(first)
    kinds = {namespace(item) for item in items}
    if len(kinds) != 1:
        raise TypeError(f"x: expected arrays of one kind, got {', '.join(sorted(map(str, kinds)))}")
    if len(items) == 1:
        return first
    if xp is np:
        whole = _one_piece(items)
        return np.concatenate(items) if whole is None else whole
    return xp.concat(list(items))


def _one_piece(items: Sequence[np.ndarray]) -> np.ndarray | None:
    """A view over all rows if the arrays are adjacent slices of one array, else None."""
    base = items[0].base
    if not isinstance(base, np.ndarray) or not base.flags.c_contiguous:
        return None
    dtype = items[0].dtype
    start = address = items[0].__array_interface__["data"][0]
    for item in items:
        if item.base is not base or item.dtype != dtype or not item.flags.c_contiguous:
            return None
        if item.size:
            if item.__array_interface__["data"][0] != address:
                return None
            address += item.nbytes
    offset = start - base.__array_interface__["data"][0]
    if base.dtype != dtype or offset % dtype.itemsize:
        return None
    first, count = offset // dtype.itemsize, sum(item.size for item in items)
    whole = base.reshape(-1)[first : first + count]
    return whole.reshape((sum(item.shape[0] for item in items), *items[0].shape[1:]))
