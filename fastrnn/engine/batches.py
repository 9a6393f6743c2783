"""The forms a batch of sequences can take, at a recurrent layer's door.

An array (N, T, D), the same with ``lengths``, or a list of N arrays (T_i, D) become one container
and its :class:`~fastrnn.engine.rows.Rows`. What a kernel can read is used in place; anything else
(another dtype or byte order, unaligned memory, rows that are not contiguous) is converted once,
here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn._memory import FreeList, empty
from fastrnn.checks import (
    Array,
    as_array,
    as_real_array,
    describe,
    dtype_of,
    namespace,
)
from fastrnn.engine.arrays import placed
from fastrnn.engine.devices import kind_name
from fastrnn.engine.rows import Rows, read_lengths

__all__ = ["Batch", "Container", "Symbols", "columns", "read_array"]

Container = Any


def read_array(
    name: str, x: Any, xp: Any, dtype: np.dtype, shape: tuple[int | None, ...], axes: str
) -> Array:
    """Return ``x`` as an array of this namespace, dtype and shape, its rows contiguous.

    Raises
    ------
    TypeError
        If it is an array of another namespace, or not of real numbers.
    ValueError
        If its rank or a size is another.
    """
    if _is_ready(x, xp, dtype, shape):
        return x
    x = as_array(name, x)
    if namespace(x) is not xp:
        raise TypeError(
            f"{name}: expected an array of {getattr(xp, '__name__', xp)}, as the other arguments "
            f"are, got one of {kind_name(x)}"
        )
    if len(x.shape) != len(shape):
        x = as_real_array(name, x, dtype, ndim=len(shape), axes=axes)
    x = as_real_array(name, x, dtype, shape=shape, axes=axes)
    if xp is np and x.shape[-1] > 1 and x.strides[-1] != x.itemsize:
        return np.ascontiguousarray(x)
    return x


def _is_ready(x: Any, xp: Any, dtype: np.dtype, shape: tuple[int | None, ...]) -> bool:
    """Whether nothing is to be checked or converted; one step of a stream takes microseconds."""
    return (
        xp is np
        and type(x) is np.ndarray
        and x.dtype == dtype
        and x.flags.c_contiguous
        and x.flags.aligned
        and x.ndim == len(shape)
        and all(a == b or b is None for a, b in zip(x.shape, shape, strict=True))
    )


class Symbols:
    """Sequences whose inputs are rows of a table, each given once however often it occurs.

    Stands for the container ``rows[index]``; the native engine multiplies each row once.

    Parameters
    ----------
    rows : ndarray (U, D)
    index : ndarray of int64 (N, T), or list of N ndarray (T_i,)
        In [0, U), one after the other in memory along T.
    """

    __slots__ = ("index", "rows")

    def __init__(self, rows: np.ndarray, index: Any) -> None:
        self.rows = rows
        self.index = index

    def expand(self) -> Container:
        """The container that this stands for."""
        if isinstance(self.index, list):
            return [self.rows[one] for one in self.index]
        return self.rows[self.index]

    def collect(self, dx: Container) -> np.ndarray:
        """The gradients of the rows (U, D) from those of the container."""
        drows = np.zeros_like(self.rows)
        if isinstance(self.index, list):
            for one, d in zip(self.index, dx, strict=True):
                np.add.at(drows, one, d)
        else:
            np.add.at(drows, self.index, dx)
        return drows


class Batch:
    """What is known of a batch but its values: array or list, lengths, kind of arrays.

    Made of a layer's input by :meth:`read`; its methods then make and check further containers of
    the same form: y, dy, dx.

    Attributes
    ----------
    rows : Rows
        Lengths and step order.
    is_list : bool
        Whether containers are lists of N arrays (T_i, width); else arrays (N, T, width).
    like : array
        An array of the kind of all others, on their device.
    xp : namespace
        That of `like`.
    memory : FreeList or None
        Where new NumPy arrays come from, and go back to when they die.
    """

    __slots__ = ("dtype", "is_list", "like", "memory", "rows", "xp")

    def __init__(self, rows: Rows, is_list: bool, like: Array, dtype: np.dtype) -> None:
        self.rows = rows
        self.is_list = is_list
        self.like = like
        self.xp = namespace(like)
        self.dtype = dtype
        self.memory: FreeList | None = None

    @classmethod
    def read(
        cls, x: Any, lengths: Any, width: int, dtype: np.dtype, like: Array
    ) -> tuple[Container, Batch]:
        """Return the container and the batch of a layer's input with ``width`` features.

        All arrays must be of the kind of ``like``, on its device.
        """
        if isinstance(x, Symbols):
            return x, cls(_rows_of(x, lengths, width), isinstance(x.index, list), like, dtype)
        xp = namespace(like)
        if isinstance(x, list | tuple):
            _check_no_lengths(lengths)
            container: Container = _read_list("x", x, xp, dtype, [None] * len(x), width)
            steps = np.array([len_(one) for one in container], dtype=np.int64)
            rows = Rows(steps, int(steps.max(initial=0)))
        else:
            container = read_array("x", x, xp, dtype, (None, None, width), "(N, T, D)")
            N, T = (int(size) for size in container.shape[:2])
            rows = _read_lengths(lengths, N, T)
        return container, cls(rows, isinstance(x, list | tuple), like, dtype)

    def check(self, name: str, x: Any, width: int) -> Container:
        """Return ``x`` as a container of this form, or raise an error naming it."""
        rows = self.rows
        if not self.is_list:
            if isinstance(x, list | tuple):
                raise TypeError(f"{name}: expected an array, as x was, got a {type(x).__name__}")
            return read_array(
                name, x, self.xp, self.dtype, (rows.N, rows.T, width), "(N, T, width)"
            )
        if not isinstance(x, list | tuple):
            raise TypeError(f"{name}: expected a list of arrays, as x was, got {describe(x)}")
        if len(x) != rows.N:
            raise ValueError(f"{name}: expected {rows.N} arrays, as x had, got {len(x)}")
        return _read_list(name, x, self.xp, self.dtype, rows.lengths.tolist(), width)

    def empty(self, width: int) -> Container:
        """Return a new container: real steps undefined, padding zero, lists in one buffer."""
        rows, dtype = self.rows, dtype_of(self.xp, self.dtype)
        if not self.is_list:
            if rows.ragged:
                return self.xp.zeros((rows.N, rows.T, width), dtype=dtype, **placed(self.like))
            return self._room((rows.N, rows.T, width), dtype)
        buffer = self._room((rows.total, width), dtype)
        ends = np.cumsum(rows.lengths).tolist()
        return [
            buffer[end - length : end, :]
            for end, length in zip(ends, rows.lengths.tolist(), strict=True)
        ]

    def _room(self, shape: tuple[int, ...], dtype: Any) -> Array:
        if self.memory is None or self.xp is not np:
            return self.xp.empty(shape, dtype=dtype, **placed(self.like))
        return empty(self.memory, shape, dtype)

    def mask(self, container: Container, mask: Array) -> Container:
        """Return a container times a mask (N, T, width)."""
        if self.is_list:
            return [one * mask[n, : len_(one), :] for n, one in enumerate(container)]
        return container * mask


def _check_no_lengths(lengths: Any) -> None:
    if lengths is not None:
        raise ValueError(
            "lengths: expected none with a list of sequences, which have their own, got "
            f"{describe(lengths)}"
        )


def _rows_of(x: Symbols, lengths: Any, width: int) -> Rows:
    if x.rows.shape[1] != width:
        raise ValueError(f"x: expected {width} features, got {x.rows.shape[1]}")
    if isinstance(x.index, list):
        _check_no_lengths(lengths)
        steps = np.array([len_(one) for one in x.index], dtype=np.int64)
        return Rows(steps, int(steps.max(initial=0)))
    if x.index.ndim != 2:
        raise ValueError(f"x: expected indices (N, T), got shape {x.index.shape}")
    N, T = x.index.shape
    return _read_lengths(lengths, N, T)


def columns(container: Container, start: int, stop: int) -> Container:
    """Return views of some columns of a container."""
    if isinstance(container, list):
        return [one[:, start:stop] for one in container]
    return container[:, :, start:stop]


def len_(sequence: Array) -> int:
    """Steps of one sequence; the array API has no ``len``."""
    return int(sequence.shape[0])


def _read_list(
    name: str, x: Any, xp: Any, dtype: np.dtype, steps: list[int | None], width: int
) -> list[Array]:
    return [
        read_array(f"{name}[{n}]", one, xp, dtype, (T, width), "(T_i, width)")
        for n, (one, T) in enumerate(zip(x, steps, strict=True))
    ]


def _read_lengths(lengths: Any, N: int, T: int) -> Rows:
    if lengths is None:
        return Rows.dense(N, T)
    return Rows(read_lengths("lengths", lengths, N, T), T)
