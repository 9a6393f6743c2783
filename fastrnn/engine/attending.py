"""How queries attend to the steps of their sources: the scores, their softmax, and the contexts.

With q_t the queries and k_s the steps of one source, p_s what the scores see of k_s, and s running
over the source's real steps alone::

    e[t, s] = v . tanh(q_t + p_s)    or    q_t . p_s
    a[t, :] = softmax(e[t, :])
    c_t     = sum over s of a[t, s] k_s

The array operations here are the formula to read, what runs for arrays of other kinds, and what the
native kernels are tested against. They keep tanh of N * Tq * Ts * A sums at once; the kernels
(src/attention.h), which compute it again in backward, do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastrnn import _attention
from fastrnn.checks import Array, is_numpy, namespace
from fastrnn.engine.arrays import beside, masked, placed, unmasked

__all__ = ["Gradients", "Sources", "attend", "attend_backward", "read"]

quiet = np.errstate(all="ignore")
"""What is not finite is the caller's to see in the results; the native kernels warn no more."""


@dataclass(slots=True, eq=False)
class Sources:
    """A batch of sources, their real steps one after the other; `read` makes it.

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
    base : numpy.ndarray of int64 (N + 1,) or None
        Where each source begins. The kernels' alone, to which `projected` and `wide` then belong.
    wide : numpy.ndarray of uint8 (N,) or None
    """

    keys: Array
    projected: Array
    score: Array | None
    lengths: np.ndarray
    steps: int
    base: np.ndarray | None = None
    wide: np.ndarray | None = None


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


def read(
    keys: Array, projected: Array, score: Array | None, lengths: np.ndarray, steps: int
) -> Sources:
    """The sources in the form that `attend` works with; see `Sources`.

    With a score `projected` is written to: nobody else may read it then.
    """
    if not is_numpy(keys) or not steps:
        return Sources(keys, projected, score, lengths, steps)
    same, keys = projected is keys, np.ascontiguousarray(keys)
    projected = keys if same else np.ascontiguousarray(projected)
    base = np.concatenate([[0], np.cumsum(lengths)])
    wide = np.zeros(len(lengths), np.uint8)
    if score is not None:
        _attention.read(projected, base, wide, steps)
    return Sources(keys, projected, score, lengths, steps, base, wide)


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
    s = sources
    if s.base is None or s.wide is None:
        return array_attend(queries, sources)
    context = np.empty((*queries.shape[:2], s.keys.shape[1]), queries.dtype)
    weights = np.empty((*queries.shape[:2], s.steps), queries.dtype)
    _attention.attend(
        _rows(queries), s.projected, s.wide, s.score, s.keys, s.base, _rows(context), _rows(weights)
    )
    return context, weights


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
    s, to = sources, gradients
    if s.base is None or s.wide is None:
        return array_attend_backward(dcontexts, queries, weights, sources, gradients)
    dqueries = np.empty(queries.shape, queries.dtype)
    _attention.attend_backward(
        _rows(dcontexts), _rows(queries), _rows(weights),
        s.projected, s.wide, s.score, s.keys, s.base,
        _rows(dqueries), to.projected, to.keys, to.score,
    )  # fmt: skip
    return dqueries


def _rows(array: np.ndarray) -> np.ndarray:
    """Of (N, T, width) the rows (N * T, width), in C order."""
    return np.ascontiguousarray(array).reshape(-1, array.shape[2])


def _real(sources: Sources) -> np.ndarray:
    """Whether (n, s) is a step of source n: (N, Ts) of bool."""
    return np.arange(sources.steps) < sources.lengths[:, None]


@quiet
def array_attend(queries: Array, sources: Sources) -> tuple[Array, Array]:
    """`attend` in array operations."""
    xp = namespace(queries)
    N, Tq = (int(n) for n in queries.shape[:2])
    if not sources.steps:
        shape = (N, Tq, sources.keys.shape[1])
        context = xp.zeros(shape, dtype=queries.dtype, **placed(queries))
        return context, xp.zeros((N, Tq, 0), dtype=queries.dtype, **placed(queries))
    steps = _real(sources)
    projected = unmasked(sources.projected, steps)
    if sources.score is None:
        scores = xp.matmul(queries, xp.matrix_transpose(projected))
    else:
        scores = xp.matmul(_tanh(queries, projected), sources.score)
    real = beside(steps, queries)[:, None, :]
    top = xp.max(xp.where(real, scores, xp.full_like(scores, -np.inf)), axis=2)
    exps = xp.where(real, xp.exp(scores - top[:, :, None]), xp.zeros_like(scores))
    filled = beside(sources.lengths > 0, queries)[:, None]
    total = xp.sum(exps, axis=2)
    weights = exps / xp.where(filled, total, xp.ones_like(total))[:, :, None]
    return xp.matmul(weights, unmasked(sources.keys, steps)), weights


@quiet
def array_attend_backward(
    dcontexts: Array, queries: Array, weights: Array, sources: Sources, gradients: Gradients
) -> Array:
    """`attend_backward` in array operations."""
    xp = namespace(queries)
    if not sources.steps:
        return xp.zeros_like(queries)
    steps = _real(sources)
    keys, projected = unmasked(sources.keys, steps), unmasked(sources.projected, steps)
    dweights = xp.matmul(dcontexts, xp.matrix_transpose(keys))
    dkeys = xp.matmul(xp.matrix_transpose(weights), dcontexts)
    gradients.keys += masked(dkeys, steps)
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
    gradients.projected += masked(dprojected, steps)
    return dqueries


def _tanh(queries: Array, projected: Array) -> Array:
    """tanh(q_t + p_s): (N, Tq, Ts, A)."""
    return namespace(queries).tanh(queries[:, :, None, :] + projected[:, None, :, :])
