"""A network taken step by step: what decoding asks of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Steps", "attended"]

Array = NDArray[Any]


def attended(lengths: Array) -> Array:
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
        self._fed = np.zeros((self._n, network.decoder.hidden_size), self._keys.dtype)
        self.weights: Array = np.zeros((self._n, 1, self._keys.shape[1]), self._keys.dtype)

    def _read(self) -> None:
        if self.network.attention is not None:
            self._memory = self.network.attention.read(self._keys, attended(self.lengths))

    def step(self, tokens: Array) -> Array:
        """Logits (n, k, V) after the next tokens (n, k)."""
        n, k = tokens.shape
        h = self.advance(tokens).reshape(n * k, -1)
        return self.network.output(h).reshape(n, k, -1)

    def advance(self, tokens: Array) -> Array:
        """H (n, k, H) after the next tokens (n, k)."""
        network = self.network
        n, k = tokens.shape
        x = network.parts["target_embedding"](tokens.reshape(-1))
        if network.input_feeding:
            x = np.concatenate([x, self._fed], axis=1)
        h = self._stream.step(x)
        if network.attention is not None:
            context, self.weights = self._memory(h.reshape(n, k, -1))
            h = network.combined(context.reshape(n * k, -1), h)
        self._fed = h
        return h.reshape(n, k, -1)

    def reorder(self, parents: Array) -> None:
        """Let row j of source i go on from its row parents[i, j] of before; k may change."""
        n, k = parents.shape
        rows = (np.arange(n)[:, None] * self._k + parents).reshape(-1)
        if k == self._k and np.array_equal(rows, np.arange(n * k)):
            return
        self._take(rows)
        self._k = k

    def keep(self, sources: Array) -> None:
        """Go on with some of the sources alone."""
        rows = (sources[:, None] * self._k + np.arange(self._k)).reshape(-1)
        self._take(rows)
        self._n = len(sources)
        self._keys, self.lengths = self._keys[sources], self.lengths[sources]
        self._read()

    def _take(self, rows: Array) -> None:
        """Let row i go on from row rows[i] of before."""
        state = self._stream.state
        self._resize(len(rows))
        several = isinstance(state, tuple)
        taken = tuple(part[:, rows] for part in (state if several else (state,)))
        self._stream.state = taken if several else taken[0]
        self._fed = self._fed[rows]

    def _resize(self, rows: int) -> None:
        extra = rows - self._stream.batch_size
        if extra > 0:
            self._stream.add(extra)
        elif extra < 0:
            self._stream.drop(np.arange(-extra))
