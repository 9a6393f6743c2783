"""The search for likely outputs: greedy and by beams. It knows nothing of a network but its steps.

An output is a row of tokens, the last of which is the end; after ``limit`` others the end is taken
whatever it costs. So the score of an output, the sum of its tokens' log-probabilities, is always
the model's log-probability of it.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastrnn.engine import elementwise

__all__ = ["Decoder", "Hypotheses", "beam_search", "greedy", "penalty"]

Array = NDArray[Any]
Hypotheses = list[tuple[NDArray[np.int64], float]]
"""Outputs of one source, the best first: the tokens without the end, and the log-probability."""

BLOCK = 16  # columns
KEPT = 0.7  # below this share of sources that are not finished the others are dropped


class Decoder(Protocol):
    """What decoding asks of a network that has read n sources, with k rows for each."""

    def step(self, tokens: Array) -> Array:
        """Logits (n, k, V) after the next tokens (n, k)."""

    def reorder(self, parents: Array) -> None:
        """Let row j of source i go on from its row parents[i, j] of before; k may change."""

    def keep(self, sources: Array) -> None:
        """Go on with some of the sources alone."""


def penalty(length: Any, exponent: float) -> Any:
    """What a log-probability is divided by for an output of so many tokens, its end among them.

    ((5 + length) / 6)^exponent: Y. Wu et al., "Google's neural machine translation system",
    arXiv:1609.08144, equation 14.
    """
    return ((5.0 + length) / 6.0) ** exponent


def log_prob(logits: Array, tokens: Array) -> Array:
    """Log softmax(logits)[tokens] of rows (R, V) and tokens (R,), in float64."""
    loss, _ = elementwise.cross_entropy(logits, tokens, None, 1.0, gradient=False)
    return -loss


def greedy(decoder: Decoder, limits: Array, end: int, first: int) -> list[Hypotheses]:
    """The output made of the likeliest token at each step, of equal ones the first.

    Parameters
    ----------
    decoder : Decoder
        Of n sources, one row for each.
    limits : array (n,) of int
        The most tokens of each output, its end not counted.
    end : int
        The token that ends an output, and that comes before its first.
    first : int
        Tokens below this are never written.

    Returns
    -------
    list of n Hypotheses
        Of one output each.
    """
    n = len(limits)
    written: list[Array] = []  # by step, (n,)
    scores, lengths = np.zeros(n), limits.copy()
    here = np.arange(n)  # the sources that the decoder still has
    alive = np.ones(n, bool)  # of them, those that are not finished
    tokens = np.full(n, end)
    t = 0
    while alive.any():
        if alive.sum() < KEPT * len(here):
            decoder.keep(np.flatnonzero(alive))
            here, tokens, alive = here[alive], tokens[alive], alive[alive]
        logits = decoder.step(tokens[:, None])[:, 0]
        tokens = logits[:, first:].argmax(axis=1) + first
        tokens[t >= limits[here]] = end
        gained = log_prob(logits, tokens)
        scores[here[alive]] += gained[alive]
        written.append(np.full(n, end))
        written[t][here[alive]] = tokens[alive]
        ended = alive & (tokens == end)
        lengths[here[ended]] = t
        alive &= ~ended
        t += 1
    whole = np.stack(written, axis=1) if written else np.zeros((n, 0), np.int64)
    return [[(whole[i, : lengths[i]].copy(), float(scores[i]))] for i in range(n)]


def beam_search(
    decoder: Decoder, limits: Array, end: int, first: int, size: int, exponent: float
) -> list[Hypotheses]:
    """The likeliest outputs that are found when only some beginnings are followed at each step.

    Of the continuations of all beginnings that are followed, those that are among the `size`
    likeliest and end are finished; of the others the `size` likeliest are followed further. The
    search stops where no output that is still to come can be better than the `size` finished ones.

    Parameters
    ----------
    decoder, limits, end, first
        As for `greedy`.
    size : int
        At least 1.
    exponent : float
        Of the length `penalty`, at least 0; outputs are ranked by log-probability / penalty.

    Returns
    -------
    list of n Hypotheses
        Of `size` outputs each, or fewer where there are not so many; all are different.
    """
    n = len(limits)
    found: list[Hypotheses] = [[]] * n
    here = np.arange(n)
    beams = _Beams(n, size, end)
    for t in range(int(limits.max()) + 1 if n else 0):
        logits = decoder.step(beams.tokens)
        parents = beams.advance(logits, t, t >= limits[here], first, exponent)
        open_ = beams.are_open(penalty(limits[here] + 1, exponent))
        if t == limits.max() or open_.sum() < KEPT * len(here):
            for i in np.flatnonzero(~open_).tolist():
                found[here[i]] = beams.hypotheses(i)
            if not open_.any():
                break
            rest = np.flatnonzero(open_)
            decoder.keep(rest)
            beams.keep(rest)
            here, parents = here[rest], parents[rest]
        decoder.reorder(parents)
    return found


class _Beams:
    """The beginnings that are followed for each source, and the outputs that are finished.

    Parameters
    ----------
    n, size : int
        Sources; beginnings of each.
    end : int
    """

    def __init__(self, n: int, size: int, end: int) -> None:
        self.size, self.end = size, end
        self.scores = np.zeros((n, 1))  # log-probabilities; -inf: no beginning
        self.tokens = np.full((n, 1), end)  # the last of each beginning
        self.written = np.zeros((n, 1, 0), np.int64)
        # Of what is finished: rank is log-probability / penalty, in falling order.
        self.rank = np.full((n, size), -np.inf)
        self.final = np.full((n, size), -np.inf)
        self.output = np.zeros((n, size, 0), np.int64)
        self.length = np.zeros((n, size), np.int64)

    def advance(self, logits: Array, t: int, last: Array, first: int, exponent: float) -> Array:
        """Take the next tokens from logits (n, k, V); the rows (n, k') that they continue."""
        n, k, V = logits.shape
        rows = logits.reshape(n * k, V)
        tokens = _largest(rows[:, first:], 2 * self.size) + first
        tokens[np.repeat(last, k)] = self.end
        picked = np.take_along_axis(rows, tokens, axis=1).astype(np.float64)
        gained = picked - picked[:, :1] + log_prob(rows, tokens[:, 0])[:, None]
        gained[np.repeat(last, k), 1:] = -np.inf  # the end, once
        scores = (self.scores.reshape(n * k, 1) + gained).reshape(n, -1)
        width = tokens.shape[1]
        best = np.argsort(-scores, axis=1, kind="stable")[:, : 2 * self.size]
        scores = np.take_along_axis(scores, best, axis=1)
        tokens = np.take_along_axis(tokens.reshape(n, -1), best, axis=1)
        parents = best // width
        written = np.take_along_axis(self.written, parents[:, :, None], axis=1)
        written = np.concatenate([written, tokens[:, :, None]], axis=2)
        ended = tokens == self.end
        finished = ended & (np.arange(ended.shape[1]) < self.size)
        self._finish(np.where(finished, scores, -np.inf), written, t, exponent)
        scores[ended] = -np.inf
        others = np.argsort(-scores, axis=1, kind="stable")[:, : self.size]
        self.scores = np.take_along_axis(scores, others, axis=1)
        self.tokens = np.take_along_axis(tokens, others, axis=1)
        self.written = np.take_along_axis(written, others[:, :, None], axis=1)
        return np.take_along_axis(parents, others, axis=1)

    def _finish(self, scores: Array, written: Array, t: int, exponent: float) -> None:
        """Add outputs of t tokens and the end; scores of -inf are no outputs."""
        rank = np.concatenate([self.rank, scores / penalty(t + 1, exponent)], axis=1)
        best = np.argsort(-rank, axis=1, kind="stable")[:, : self.size]
        self.rank = np.take_along_axis(rank, best, axis=1)

        def merged(old: Array, new: Array) -> Array:
            index = best.reshape(*best.shape, *[1] * (old.ndim - 2))
            return np.take_along_axis(np.concatenate([old, new], axis=1), index, axis=1)

        self.final = merged(self.final, scores)
        shorter = np.pad(self.output, ((0, 0), (0, 0), (0, 1)))
        self.output = merged(shorter, written)
        self.length = merged(self.length, np.full(scores.shape, t))

    def are_open(self, largest_penalty: Array) -> Array:
        """Where an output that is still to come could be better than the last one that is kept.

        A log-probability only falls, and is divided by no more than `largest_penalty` (n,).
        """
        return self.scores.max(axis=1) / largest_penalty > self.rank[:, -1]

    def keep(self, sources: Array) -> None:
        """Go on with some of the sources alone."""
        for name in ("scores", "tokens", "written", "rank", "final", "output", "length"):
            setattr(self, name, getattr(self, name)[sources])

    def hypotheses(self, i: int) -> Hypotheses:
        """What is finished for source i, the best first."""
        return [
            (self.output[i, j, : self.length[i, j]].copy(), float(self.final[i, j]))
            for j in range(self.size)
            if self.final[i, j] > -np.inf
        ]


def _largest(z: Array, count: int) -> Array:
    """The columns of each row's `count` largest elements, or of all, the largest first."""
    R, V = z.shape
    columns = np.broadcast_to(np.arange(V), (R, V))
    width = V // BLOCK
    if count < width // 4:
        # The largest elements are in blocks whose own largest is among the `count` largest: block b
        # has the columns b, width + b, 2 width + b, ...
        top = z[:, :width].copy()
        for i in range(1, BLOCK):
            np.maximum(top, z[:, i * width : (i + 1) * width], out=top)
        blocks = np.argpartition(top, -count, axis=1)[:, -count:]
        inner = (blocks[:, :, None] + np.arange(0, BLOCK * width, width)).reshape(R, -1)
        columns = np.concatenate([inner, columns[:, BLOCK * width :]], axis=1)
        columns.sort(axis=1)
        z = np.take_along_axis(z, columns, axis=1)
    order = np.argsort(-z, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(columns, order, axis=1)
