"""A network taken step by step: what decoding asks of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.checks import Array, namespace
from fastrnn.engine.arrays import beside, placed, take, to_host
from fastrnn.text.vocabulary import Ids

__all__ = ["Steps", "attended"]


def attended(lengths: Ids) -> Ids:
    """How many steps of sources of these lengths attention is over: not the boundary."""
    return lengths - 1


class Steps:
    """Outputs for n sources, token after token, with k rows for each source.

    Parameters
    ----------
    network : fastrnn.seq2seq.network.Network
    sources : list of n arrays of int
        Each with a boundary at its end.

    Attributes
    ----------
    lengths : array (n,)
        Of the sources.
    weights : array (n, k, Ts)
        Of attention, at the last step.
    """

    def __init__(self, network: Any, sources: Any) -> None:
        self.network = network
        self._keys, state, self.lengths = network.read(sources)
        self._n, self._k = len(sources), 1
        self._stream = network.decoder.stream(self._n)
        if state is not None:
            self._stream.state = state
        self._read()
        zeros = namespace(self._keys).zeros
        own = {"dtype": self._keys.dtype, **placed(self._keys)}
        self._fed = zeros((self._n, network.decoder.hidden_size), **own)
        self.weights: Array = zeros((self._n, 1, self._keys.shape[1]), **own)

    def _read(self) -> None:
        if self.network.attention is not None:
            self._memory = self.network.attention.read(self._keys, attended(self.lengths))

    def step(self, tokens: Ids) -> np.ndarray:
        """Logits (n, k, V) after the next tokens (n, k)."""
        n, k = tokens.shape
        self.advance(tokens)
        return to_host(self.network.output(self._fed)).reshape(n, k, -1)

    def advance(self, tokens: Ids) -> Array:
        """H (n, k, H) after the next tokens (n, k)."""
        network = self.network
        n, k = tokens.shape
        x = network.parts["target_embedding"](beside(tokens.reshape(-1), network.like))
        xp = namespace(x)
        if network.input_feeding:
            x = xp.concat([x, self._fed], axis=1)
        h = self._stream.step(x)
        if network.attention is not None:
            context, self.weights = self._memory(xp.reshape(h, (n, k, -1)))
            h = network.combined(xp.reshape(context, (n * k, -1)), h)
        self._fed = h
        return xp.reshape(h, (n, k, -1))

    def reorder(self, parents: Ids) -> None:
        """Let row j of source i go on from its row parents[i, j] of before; k may change."""
        n, k = parents.shape
        rows = (np.arange(n)[:, None] * self._k + parents).reshape(-1)
        if k == self._k and np.array_equal(rows, np.arange(n * k)):
            return
        self._take(rows)
        self._k = k

    def keep(self, sources: Ids) -> None:
        """Go on with some of the sources alone."""
        rows = (sources[:, None] * self._k + np.arange(self._k)).reshape(-1)
        self._take(rows)
        self._n = len(sources)
        self._keys, self.lengths = take(self._keys, sources), self.lengths[sources]
        self._read()

    def _take(self, rows: Ids) -> None:
        """Let row i go on from row rows[i] of before."""
        state = self._stream.state
        self._resize(len(rows))
        several = isinstance(state, tuple)
        taken = tuple(take(part, rows, axis=1) for part in (state if several else (state,)))
        self._stream.state = taken if several else taken[0]
        self._fed = take(self._fed, rows)

    def _resize(self, rows: int) -> None:
        extra = rows - self._stream.batch_size
        if extra > 0:
            self._stream.add(extra)
        elif extra < 0:
            self._stream.drop(np.arange(-extra))
