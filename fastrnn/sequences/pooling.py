"""From what a recurrent layer says at every step to the rows that a model judges.

Each function takes y (N, T, P), zero in padding, and the sequences' lengths (N,), and gives rows
and ``backward(drows) -> dy``. All but `every_step` give one row per sequence. Padding takes no
part: a sequence's row does not depend on the batch around it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.engine.attending import Gradients, attend, attend_backward, read
from fastrnn.layers.modules import Linear

__all__ = ["POOLINGS", "Pool", "attention", "every_step", "real_steps"]

Array = NDArray[Any]
Backward = Callable[[Array], Array]

POOLINGS = ("last", "mean", "max", "attention")


def real_steps(lengths: Array, T: int) -> Array:
    """Whether (n, t) is a step of sequence n: (N, T) of bool."""
    return np.arange(T) < lengths[:, None]


def every_step(y: Array, lengths: Array) -> tuple[Array, Backward]:
    """The rows of all real steps, sequence by sequence: (sum of lengths, P)."""
    real = real_steps(lengths, y.shape[1])

    def backward(drows: Array) -> Array:
        dy = np.zeros_like(y)
        dy[real] = drows
        return dy

    return y[real], backward


def last(y: Array, lengths: Array, forward_units: int) -> tuple[Array, Backward]:
    """Where each direction ends: the forward one's last step, the reverse one's first.

    Parameters
    ----------
    forward_units : int
        How many of the columns are the forward direction's.
    """
    which, end = np.arange(len(y)), lengths - 1
    rows = np.concatenate([y[which, end, :forward_units], y[:, 0, forward_units:]], axis=1)

    def backward(drows: Array) -> Array:
        dy = np.zeros_like(y)
        dy[which, end, :forward_units] = drows[:, :forward_units]
        dy[:, 0, forward_units:] += drows[:, forward_units:]
        return dy

    return rows, backward


def mean(y: Array, lengths: Array) -> tuple[Array, Backward]:
    """The mean over a sequence's steps."""
    scale = (1 / lengths[:, None]).astype(y.dtype)

    def backward(drows: Array) -> Array:
        real = real_steps(lengths, y.shape[1])
        return np.where(real[..., None], (drows * scale)[:, None, :], y.dtype.type(0))

    return y.sum(axis=1) * scale, backward


def maximum(y: Array, lengths: Array) -> tuple[Array, Backward]:
    """Each unit's largest value over a sequence's steps; the gradient goes to the first of them."""
    T = y.shape[1]
    if (lengths == T).all():
        rows = y.max(axis=1)
    else:
        rows = np.where(real_steps(lengths, T)[..., None], y, -np.inf).max(axis=1)

    def backward(drows: Array) -> Array:
        # A step at a time, the first last: argmax over an axis that is not the last is far slower.
        # Zeros of padding may be found, too, but then so is a real step before them.
        where = np.zeros(rows.shape, dtype=np.int64)
        for t in reversed(range(T)):
            np.copyto(where, t, where=y[:, t] == rows)
        dy = np.zeros_like(y)
        np.put_along_axis(dy, where[:, None, :], drows[:, None, :], axis=1)
        return dy

    return rows, backward


def attention(
    y: Array, lengths: Array, project: Linear, score: Linear
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
    real = real_steps(lengths, y.shape[1])
    steps = y[real]
    seen, project_back = project.forward(steps)
    sources = read(steps, seen, score.params["weight"][0], lengths, y.shape[1])
    nothing = np.zeros((len(y), 1, seen.shape[1]), y.dtype)  # added to W y_t + b
    rows, a = attend(nothing, sources)

    def backward(drows: Array) -> Array:
        dscore = np.zeros_like(nothing[:, 0])
        sums = Gradients(np.zeros_like(steps), np.zeros_like(seen), dscore)
        attend_backward(drows[:, None], nothing, a, sources, sums)
        score.add_scaled({"weight": dscore.sum(axis=0, keepdims=True)}, 1.0)
        dy = np.zeros_like(y)
        dy[real] = sums.keys + project_back(sums.projected)
        return dy

    return rows[:, 0], a[:, 0], backward


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

    def __call__(self, y: Array, lengths: Array) -> tuple[Array, Backward]:
        """Rows of y, and where their gradients go."""
        if self.pooling is None:
            return every_step(y, lengths)
        if self.pooling == "last":
            return last(y, lengths, self.forward_units)
        if self.pooling == "attention":
            rows, _, backward = self.attend(y, lengths)
            return rows, backward
        return (mean if self.pooling == "mean" else maximum)(y, lengths)

    def attend(self, y: Array, lengths: Array) -> tuple[Array, Array, Backward]:
        """`attention` by the layers there are for it."""
        return attention(y, lengths, self.layers["attention"], self.layers["score"])
