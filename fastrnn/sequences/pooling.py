"""From what a recurrent layer says at every step to the rows that a model judges.

Each function takes y (N, T, P), zero in padding, and the sequences' lengths (N,), and gives rows
and ``backward(drows) -> dy``. All but `every_step` give one row per sequence. Padding takes no
part: a sequence's row does not depend on the batch around it. Arrays may be of any library;
lengths are NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastrnn.checks import Array, namespace
from fastrnn.engine.arrays import beside, host_dtype, masked, placed, take, unmasked
from fastrnn.engine.attending import Gradients, attend, attend_backward, read
from fastrnn.layers.modules import Linear

__all__ = ["POOLINGS", "Pool", "attention", "every_step", "real_steps"]

Backward = Callable[[Array], Array]

POOLINGS = ("last", "mean", "max", "attention")


def real_steps(lengths: np.ndarray, T: int) -> np.ndarray:
    """Whether (n, t) is a step of sequence n: (N, T) of bool, on the host."""
    return np.arange(T) < lengths[:, None]


def every_step(y: Array, lengths: np.ndarray) -> tuple[Array, Backward]:
    """The rows of all real steps, sequence by sequence: (sum of lengths, P)."""
    real = real_steps(lengths, y.shape[1])
    return masked(y, real), lambda drows: unmasked(drows, real)


def last(y: Array, lengths: np.ndarray, forward_units: int) -> tuple[Array, Backward]:
    """Where each direction ends: the forward one's last step, the reverse one's first.

    Parameters
    ----------
    forward_units : int
        How many of the columns are the forward direction's.
    """
    xp = namespace(y)
    N, T, P = y.shape
    which, end = np.arange(N), lengths - 1
    rows = take(xp.reshape(y, (N * T, P)), which * T + end)
    if forward_units < P:
        rows = xp.concat([rows[:, :forward_units], y[:, 0, forward_units:]], axis=1)

    def backward(drows: Array) -> Array:
        forward, reverse = drows[:, :forward_units], drows[:, forward_units:]
        if isinstance(drows, np.ndarray):
            dy = np.zeros_like(y)
            dy[which, end, :forward_units] = forward
            dy[:, 0, forward_units:] += reverse
            return dy
        steps = np.broadcast_to(np.arange(T), (N, T))
        parts = [_at(steps == end[:, None], forward), _at(steps == 0, reverse)]
        return xp.concat(parts, axis=2)

    return rows, backward


def mean(y: Array, lengths: np.ndarray) -> tuple[Array, Backward]:
    """The mean over a sequence's steps."""
    scale = beside((1 / lengths[:, None]).astype(host_dtype(y)), y)

    def backward(drows: Array) -> Array:
        return _at(real_steps(lengths, y.shape[1]), drows * scale)

    return namespace(y).sum(y, axis=1) * scale, backward


def maximum(y: Array, lengths: np.ndarray) -> tuple[Array, Backward]:
    """Each unit's largest value over a sequence's steps; the gradient goes to the first of them."""
    xp, T = namespace(y), y.shape[1]
    seen = y
    if not (lengths == T).all():
        lowest = xp.full((), -np.inf, dtype=y.dtype, **placed(y))
        seen = xp.where(beside(real_steps(lengths, T), y)[..., None], y, lowest)
    rows = xp.max(seen, axis=1)

    def backward(drows: Array) -> Array:
        if isinstance(drows, np.ndarray):
            return _to_first(y, rows, drows)
        # Zeros of padding may be found, too, but then so is a real step before them.
        first = xp.argmax(xp.astype(y == rows[:, None, :], xp.int32), axis=1)
        steps = xp.arange(T, dtype=first.dtype, **placed(y))[None, :, None]
        return _where(steps == first[:, None, :], drows[:, None, :])

    return rows, backward


def _to_first(y: np.ndarray, rows: np.ndarray, drows: np.ndarray) -> np.ndarray:
    """The gradient of the largest values of NumPy's arrays."""
    # A step at a time, the first last: argmax over an axis that is not the last is far slower.
    where = np.zeros(rows.shape, dtype=np.int64)
    for t in reversed(range(y.shape[1])):
        np.copyto(where, t, where=y[:, t] == rows)
    dy = np.zeros_like(y)
    np.put_along_axis(dy, where[:, None, :], drows[:, None, :], axis=1)
    return dy


def _at(steps: np.ndarray, rows: Array) -> Array:
    """Each sequence's row (N, P) at those of its steps that are marked (N, T), zero at others."""
    return _where(beside(steps, rows)[..., None], rows[:, None, :])


def _where(marked: Array, values: Array) -> Array:
    xp = namespace(values)
    return xp.where(marked, values, xp.zeros((), dtype=values.dtype, **placed(values)))


def attention(
    y: Array, lengths: np.ndarray, project: Linear, score: Linear
) -> tuple[Array, Array, Backward]:
    """The mean over a sequence's steps, weighted by what they say of their own importance.

    With u_t = tanh(W y_t + b), e_t = v . u_t and a = softmax over the real steps of e, the row is
    sum_t a_t y_t: Z. Yang et al., "Hierarchical attention networks for document classification",
    NAACL 2016, equations 5 to 7.

    Parameters
    ----------
    project, score : Linear
        W and b, P to A; and v, A to 1 without a bias.

    Returns
    -------
    rows : array (N, P)
    weights : array (N, T)
        a, zero in padding.
    backward : callable
    """
    xp = namespace(y)
    real = real_steps(lengths, y.shape[1])
    steps = masked(y, real)
    seen, project_back = project.forward(steps)
    sources = read(steps, seen, score.params["weight"][0, ...], lengths, y.shape[1])
    # What is added to W y_t + b: nothing.
    nothing = xp.zeros((y.shape[0], 1, seen.shape[1]), dtype=y.dtype, **placed(y))
    rows, a = attend(nothing, sources)

    def backward(drows: Array) -> Array:
        dscore = xp.zeros_like(nothing[:, 0, :])
        sums = Gradients(xp.zeros_like(steps), xp.zeros_like(seen), dscore)
        attend_backward(drows[:, None, :], nothing, a, sources, sums)
        score.add_scaled({"weight": xp.sum(dscore, axis=0, keepdims=True)}, 1.0)
        return unmasked(sums.keys + project_back(sums.projected), real)

    return rows[:, 0, :], a[:, 0, :], backward


class Pool:
    """The pooling of a name, with what it needs beside y and lengths.

    Parameters
    ----------
    pooling : {"last", "mean", "max", "attention"} or None
        None: the rows of every step.
    forward_units : int
        How many of y's columns are the forward direction's.
    layers : mapping of str to layer
        With attention its ``"attention"`` and ``"score"``.
    """

    def __init__(self, pooling: str | None, forward_units: int, layers: Mapping[str, Any]) -> None:
        self.pooling, self.forward_units, self.layers = pooling, forward_units, layers

    def __call__(self, y: Array, lengths: np.ndarray) -> tuple[Array, Backward]:
        """Rows of y, and where their gradients go."""
        if self.pooling is None:
            return every_step(y, lengths)
        if self.pooling == "last":
            return last(y, lengths, self.forward_units)
        if self.pooling == "attention":
            rows, _, backward = self.attend(y, lengths)
            return rows, backward
        return (mean if self.pooling == "mean" else maximum)(y, lengths)

    def attend(self, y: Array, lengths: np.ndarray) -> tuple[Array, Array, Backward]:
        """`attention` by the layers there are for it."""
        return attention(y, lengths, self.layers["attention"], self.layers["score"])
