"""Drawing one of many from logits: temperature, the k most likely, the most likely part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import check_positive_int, check_real

__all__ = ["Sampler"]


class Sampler:
    """Draws numbers with the probabilities softmax(logits / temperature).

    Parameters
    ----------
    temperature : float
        At least 0; 0 always takes the largest logit, the first of equal ones.
    top_k : int or None
        Only the k largest logits count; equal ones in their order.
    top_p : float or None
        Of those, only the largest whose probabilities add up to at least this, in (0, 1].
    generator : numpy.random.Generator
        Asked for one number in [0, 1) at each draw, whatever the options.
    forbidden : sequence of int
        What is never drawn.
    """

    def __init__(
        self,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        generator: np.random.Generator,
        forbidden: Sequence[int] = (),
    ) -> None:
        self.temperature = check_real("temperature", temperature, minimum=0.0)
        self.top_k = None if top_k is None else check_positive_int("top_k", top_k)
        self.top_p = None if top_p is None else check_real("top_p", top_p, above=0.0, maximum=1.0)
        self.generator = generator
        self.forbidden = list(forbidden)

    def probabilities(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """The probabilities to draw with, float64 of shape (K,), from logits (K,)."""
        z = logits.astype(np.float64)
        z[self.forbidden] = -np.inf
        if self.temperature == 0.0:
            chosen = np.zeros_like(z)
            chosen[np.argmax(z)] = 1.0
            return chosen
        z = (z - z.max()) / self.temperature
        order = np.argsort(-z, kind="stable")
        if self.top_k is not None:
            z[order[self.top_k :]] = -np.inf
        p = np.exp(z)
        p /= p.sum()
        if self.top_p is not None:
            before = np.cumsum(p[order]) - p[order]  # what the likelier ones have together
            p[order[before >= self.top_p]] = 0.0
            p /= p.sum()
        return p

    def draw(self, logits: NDArray[Any]) -> int:
        """Draw one number in [0, K)."""
        ends = np.cumsum(self.probabilities(logits))
        place = self.generator.random() * ends[-1]
        return int(np.searchsorted(ends, place, side="right"))
