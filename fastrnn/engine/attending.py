"""How queries attend to the steps of their sources: the scores, their softmax, and the contexts.

With q_t the queries and k_s the steps of one source, p_s what the scores see of k_s, and s running
over the source's real steps alone::

    e[t, s] = v . tanh(q_t + p_s)    or    q_t . p_s
    a[t, :] = softmax(e[t, :])
    c_t     = sum over s of a[t, s] k_s

The array operations here are the formula to read and what runs for arrays of other kinds. They keep
tanh of N * Tq * Ts * A sums at once; the native kernels, which compute it again in backward, do
not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastrnn.checks import Array, namespace
from fastrnn.engine.parameters import beside

__all__ = ["Gradients", "Sources", "attend", "attend_backward"]

quiet = np.errstate(all="ignore")
"""What is not finite is the caller's to see in the results; the native kernels warn no more."""


@dataclass(slots=True, eq=False)
class Sources:
    """A batch of sources, their real steps one after the other.

    Parameters
    ----------
    keys : array (total, K)
        k, what contexts are made of.
    projected : array (total, A)
        p; may be `keys`.
    score : array (A,) or None
        v, None for the product q . p.
    lengths : numpy.ndarray of int64 (N,)
        Real steps of each source; their sum is total.
    steps : int
        Ts, the columns of the weights: at least the largest length.
    """

    keys: Array
    projected: Array
    score: Array | None
    lengths: np.ndarray
    steps: int


@dataclass(slots=True, eq=False)
class Gradients:
    """Sums of the gradients in `Sources`, over all calls of `attend_backward`.

    Parameters
    ----------
    keys : array (total, K)
        What comes through the contexts.
    projected : array (total, A)
        What comes through the scores; may be `keys`.
    score : array (N, A) or None
        That of v, for each source by itself.
    """

    keys: Array
    projected: Array
    score: Array | None


def attend(queries: Array, sources: Sources) -> tuple[Array, Array]:
    """The contexts of queries, and their weights.

    Parameters
    ----------
    queries : array (N, Tq, A)
    sources : Sources

    Returns
    -------
    contexts : array (N, Tq, K)
        Zero where a source has no steps.
    weights : array (N, Tq, Ts)
        Zero beyond a source's length.
    """
    return array_attend(queries, sources)


def attend_backward(
    dcontexts: Array, queries: Array, weights: Array, sources: Sources, gradients: Gradients
) -> Array:
    """The gradient of the queries (N, Tq, A); adds those of the sources to `gradients`.

    Parameters
    ----------
    dcontexts : array (N, Tq, K)
    queries, sources
        As given to `attend`.
    weights : array (N, Tq, Ts)
        As it has returned them.
    gradients : Gradients
    """
    return array_attend_backward(dcontexts, queries, weights, sources, gradients)


def _real(sources: Sources) -> np.ndarray:
    """Whether (n, s) is a step of source n: (N, Ts) of bool."""
    return np.arange(sources.steps) < sources.lengths[:, None]


def _padded(rows: Array, sources: Sources) -> Array:
    """Rows of real steps as (N, Ts, width), zero beyond each source's length."""
    xp = namespace(rows)
    real = _real(sources)
    which = np.where(real, np.cumsum(real).reshape(real.shape), 0)  # row 0 is one of zeros
    zero = xp.zeros((1, rows.shape[1]), dtype=rows.dtype)
    filled = xp.take(xp.concat([zero, rows]), beside(which.reshape(-1), rows), axis=0)
    return xp.reshape(filled, (*real.shape, rows.shape[1]))


def _add_rows(total: Array, padded: Array, sources: Sources) -> None:
    """Add those of the rows (N, Ts, width) that are of real steps to rows (total, width)."""
    xp = namespace(total)
    where = beside(np.flatnonzero(_real(sources)), total)
    total += xp.take(xp.reshape(padded, (-1, padded.shape[2])), where, axis=0)


@quiet
def array_attend(queries: Array, sources: Sources) -> tuple[Array, Array]:
    """`attend` in array operations."""
    xp = namespace(queries)
    N, Tq = (int(n) for n in queries.shape[:2])
    if not sources.steps:
        context = xp.zeros((N, Tq, sources.keys.shape[1]), dtype=queries.dtype)
        return context, xp.zeros((N, Tq, 0), dtype=queries.dtype)
    projected = _padded(sources.projected, sources)
    if sources.score is None:
        scores = xp.matmul(queries, xp.matrix_transpose(projected))
    else:
        scores = xp.matmul(_tanh(queries, projected), sources.score)
    real = beside(_real(sources), queries)[:, None, :]
    top = xp.max(xp.where(real, scores, xp.full_like(scores, -np.inf)), axis=2)
    exps = xp.where(real, xp.exp(scores - top[:, :, None]), xp.zeros_like(scores))
    filled = beside(sources.lengths > 0, queries)[:, None]
    total = xp.sum(exps, axis=2)
    weights = exps / xp.where(filled, total, xp.ones_like(total))[:, :, None]
    return xp.matmul(weights, _padded(sources.keys, sources)), weights


@quiet
def array_attend_backward(
    dcontexts: Array, queries: Array, weights: Array, sources: Sources, gradients: Gradients
) -> Array:
    """`attend_backward` in array operations."""
    xp = namespace(queries)
    if not sources.steps:
        return xp.zeros_like(queries)
    keys, projected = _padded(sources.keys, sources), _padded(sources.projected, sources)
    dweights = xp.matmul(dcontexts, xp.matrix_transpose(keys))
    _add_rows(gradients.keys, xp.matmul(xp.matrix_transpose(weights), dcontexts), sources)
    along = xp.sum(weights * dweights, axis=2)
    dscores = weights * (dweights - along[:, :, None])
    if sources.score is None or gradients.score is None:
        dprojected = xp.matmul(xp.matrix_transpose(dscores), queries)
        dqueries = xp.matmul(dscores, projected)
    else:
        tanh = _tanh(queries, projected)
        gradients.score += xp.sum(dscores[..., None] * tanh, axis=(1, 2))
        dsums = dscores[..., None] * sources.score * (1 - tanh * tanh)
        dprojected, dqueries = xp.sum(dsums, axis=1), xp.sum(dsums, axis=2)
    _add_rows(gradients.projected, dprojected, sources)
    return dqueries


def _tanh(queries: Array, projected: Array) -> Array:
    """tanh(q_t + p_s): (N, Tq, Ts, A)."""
    return namespace(queries).tanh(queries[:, :, None, :] + projected[:, None, :, :])
