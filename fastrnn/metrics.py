"""Measures of how good a model is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastrnn.checks import as_real_array

__all__ = ["bits_per_character", "perplexity"]


def _mean(name: str, cross_entropy: Any, weight: Any) -> float:
    losses = np.asarray(as_real_array(name, cross_entropy, np.float64))
    if weight is None:
        if not losses.size:
            raise ValueError(f"{name}: expected at least one value, got none")
        return float(losses.mean())
    weights = np.asarray(as_real_array("weight", weight, np.float64, shape=losses.shape))
    if weights.size and not (weights.min() >= 0 and weights.max() < np.inf):
        raise ValueError("weight: expected finite numbers of at least 0, got others")
    total = float(weights.sum())
    if not total:
        raise ValueError("weight: expected a sum above 0, got 0")
    used = weights != 0  # before the product: what is excluded may be infinite
    return float((losses[used] * weights[used]).sum()) / total


def perplexity(cross_entropy: Any, weight: Any = None) -> float:
    """Exp of the mean cross entropy of the tokens: exp(-1/n sum_i log p_i).

    Parameters
    ----------
    cross_entropy : float or array
        -log p of each token, natural logarithm, or their mean.
    weight : array, optional
        The weight of each token, not negative; 0 excludes it.

    Returns
    -------
    float
        At least 1 for probabilities; infinity where a token was given none.
    """
    mean = _mean("cross_entropy", cross_entropy, weight)
    try:
        return math.exp(mean)
    except OverflowError:
        return math.inf


def bits_per_character(cross_entropy: Any, weight: Any = None) -> float:
    """The mean cross entropy of the characters in bits: the mean of -log2 p.

    Parameters are those of `perplexity`.
    """
    return _mean("cross_entropy", cross_entropy, weight) / math.log(2.0)
