"""Packed rows as arrays: gathered from a batch in step order, and written back to their places.

For engines that walk copies; :mod:`fastrnn.engine.rows` says in which order the rows are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn.checks import Array, namespace
from fastrnn.engine.arrays import placed, take
from fastrnn.engine.passes import Container, Pass
from fastrnn.engine.rows import Rows

__all__ = ["add_up", "pack", "unpack"]


def _offsets(container: Container, rows: Rows) -> np.ndarray:
    """Where each sequence begins when the container's rows are laid end to end."""
    if isinstance(container, list):
        return np.cumsum(rows.lengths) - rows.lengths
    return np.arange(rows.N, dtype=np.int64) * rows.T


def pack(xp: Any, container: Container, rows: Rows, reverse: bool) -> Array:
    """A container's real rows in step order, (total, width)."""
    if not (isinstance(container, list) or rows.ragged):
        steps = xp.permute_dims(container, (1, 0, 2))
        steps = xp.flip(steps, axis=0) if reverse else steps
        return xp.reshape(steps, (rows.total, container.shape[2]))
    if isinstance(container, list):
        flat = xp.concat(container, axis=0)
    else:
        flat = xp.reshape(container, (rows.N * rows.T, container.shape[2]))
    return take(flat, rows.positions(_offsets(container, rows), reverse))


def unpack(xp: Any, packed: Array, container: Container, rows: Rows, reverse: bool) -> None:
    """Write packed rows back to where they belong; padding becomes zero."""
    if rows.N == 0:
        return
    if not (isinstance(container, list) or rows.ragged):
        steps = xp.reshape(packed, (rows.T, rows.N, packed.shape[1]))
        steps = xp.flip(steps, axis=0) if reverse else steps
        container[...] = xp.permute_dims(steps, (1, 0, 2))
        return
    offsets = _offsets(container, rows)
    n_rows = rows.total if isinstance(container, list) else rows.N * rows.T
    source = np.full(n_rows, rows.total, dtype=np.int64)  # padding comes of a row of zeros
    source[rows.positions(offsets, reverse)] = np.arange(rows.total)
    zeros = xp.zeros((1, packed.shape[1]), dtype=packed.dtype, **placed(packed))
    flat = take(xp.concat([packed, zeros], axis=0), source)
    if isinstance(container, list):
        for sequence, start, length in zip(container, offsets, rows.lengths, strict=True):
            sequence[...] = flat[int(start) : int(start + length), :]
    else:
        container[...] = xp.reshape(flat, (rows.N, rows.T, packed.shape[1]))


def add_up(dx: Container, passes: Sequence[Pass], packed: Sequence[Array | None]) -> None:
    """Fill dx with the sum of the passes' gradients of it; None where there are no rows."""
    xp = namespace(passes[0].weights.params["weight_ih"])
    total: Container = None
    for one, rows in zip(passes, packed, strict=True):
        if rows is None:
            return
        mine = _like(xp, dx)
        unpack(xp, rows, mine, one.rows, one.reverse)
        total = mine if total is None else _sum(total, mine)
    for target, value in zip(*map(_as_list, (dx, total)), strict=True):
        target[...] = value


def _as_list(container: Container) -> list[Array]:
    return container if isinstance(container, list) else [container]


def _like(xp: Any, container: Container) -> Container:
    if isinstance(container, list):
        return [xp.empty_like(one) for one in container]
    return xp.empty_like(container)


def _sum(a: Container, b: Container) -> Container:
    return [x + y for x, y in zip(a, b, strict=True)] if isinstance(a, list) else a + b
