"""Packed rows: how a batch of sequences is walked without masks and without touching padding.

Sequences are sorted once, longest first. At step t only the first ``sizes[t]`` of them are alive,
and they are neighbors, so that one product serves all of them. Written step after step these rows
fill a matrix of ``total = sum(lengths)`` rows; row ``base[t] + i`` belongs to sequence
``order[i]``::

    lengths 2 4 1      step        0   1   2   3
    order   1 0 2      sequence 1  *   *   *   *
                       sequence 0  *   *
                       sequence 2  *
                       sizes       3   2   1   1       base 0 3 5 6 7

This is an addressing, not a buffer: kernels read the caller's arrays in place by it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn.checks import as_array
from fastrnn.engine.arrays import to_host

__all__ = ["Rows", "read_lengths"]

Int64s = NDArray[np.int64]

MOST_KEPT = 4096
"""Sequences and steps of dense batches whose rows are kept for the next call."""


class Rows:
    """The rows of N sequences in step order, longest sequence first.

    Parameters
    ----------
    lengths : array-like of int, shape (N,)
        Steps of each sequence, in the caller's order; 0 is allowed. Must lie in [0, T].
    T : int
        Steps the container has room for; the number of steps walked.

    Attributes
    ----------
    lengths : ndarray of int64, shape (N,)
        As given.
    order : ndarray of int64, shape (N,)
        The caller's index of sorted row i. The sort is stable: equal lengths keep their order.
    sizes : ndarray of int64, shape (T,)
        Rows alive at step t.
    base : ndarray of int64, shape (T + 1,)
        Rows before step t: ``base[0] == 0``, ``base[T] == total``.
    total : int
        All rows: the sum of the lengths.
    """

    __slots__ = ("base", "lengths", "order", "sizes", "total")

    lengths: Int64s
    order: Int64s
    sizes: Int64s
    base: Int64s
    total: int

    def __init__(self, lengths: ArrayLike, T: int) -> None:
        self.lengths = np.ascontiguousarray(lengths, dtype=np.int64)
        N = self.lengths.shape[0]
        self.order = np.argsort(-self.lengths, kind="stable")
        ended = np.cumsum(np.bincount(self.lengths, minlength=T + 1)[:T], dtype=np.int64)
        self.sizes = N - ended
        self.base = np.zeros(T + 1, dtype=np.int64)
        np.cumsum(self.sizes, out=self.base[1:])
        self.total = int(self.base[T])

    @classmethod
    def dense(cls, N: int, T: int) -> Rows:
        """Return the rows of N sequences of T steps each."""
        # A call on one short sequence takes about as long as building these anew.
        return _dense(N, T) if N + T <= MOST_KEPT else cls(np.full(N, T, dtype=np.int64), T)

    @property
    def N(self) -> int:
        """Number of sequences."""
        return self.lengths.shape[0]

    @property
    def T(self) -> int:
        """Number of steps there is room for."""
        return self.sizes.shape[0]

    @property
    def ragged(self) -> bool:
        """Whether some sequence ends before step T, so that a 3-D array has padding."""
        return self.total < self.N * self.T

    def positions(self, offsets: Int64s, reverse: bool = False) -> Int64s:
        """Return, for every packed row, the row of the caller's data that it is.

        Parameters
        ----------
        offsets : ndarray of int64, shape (N,)
            Where each sequence begins in the caller's rows laid end to end.
        reverse : bool
            Walk each sequence from its own last step to its first.

        Returns
        -------
        ndarray of int64, shape (total,)
        """
        step = np.repeat(np.arange(self.T, dtype=np.int64), self.sizes)
        sequence = self.order[np.arange(self.total, dtype=np.int64) - self.base[step]]
        time = self.lengths[sequence] - 1 - step if reverse else step
        return offsets[sequence] + time

    def inverse_order(self) -> Int64s:
        """Return the sorted row of each sequence in the caller's order, shape (N,)."""
        inverse = np.empty(self.N, dtype=np.int64)
        inverse[self.order] = np.arange(self.N, dtype=np.int64)
        return inverse


def read_lengths(name: str, lengths: Any, n_sequences: int, n_steps: int) -> np.ndarray:
    """`lengths` as an int64 NumPy array (N,), each in [0, T].

    They tell where rows are, which the host must know; so they may come from any device.
    """
    lengths = to_host(as_array(name, lengths))
    if lengths.dtype.kind not in "iu" and lengths.size:
        raise TypeError(f"{name}: expected integers, got dtype {lengths.dtype}")
    if lengths.shape != (n_sequences,):
        raise ValueError(
            f"{name}: expected shape ({n_sequences},), one for each sequence, got {lengths.shape}"
        )
    if lengths.size:
        low, high = int(lengths.min()), int(lengths.max())
        if low < 0 or high > n_steps:
            worst = low if low < 0 else high
            raise ValueError(f"{name}: expected values in [0, {n_steps}] (T), got {worst}")
    return np.array(lengths, dtype=np.int64)


@lru_cache(maxsize=64)
def _dense(N: int, T: int) -> Rows:
    rows = Rows(np.full(N, T, dtype=np.int64), T)
    for array in (rows.lengths, rows.order, rows.sizes, rows.base):
        array.flags.writeable = False  # all calls of this shape share them
    return rows
