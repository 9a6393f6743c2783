"""Sequences that come more than once, as one of the sum of their weights.

Where all sequences make one batch, this changes nothing but rounding, and that to the better: a fit
then has the same bits for any order of the sequences, and for a weight of 2 as for two of a kind.
Rounding matters, since training a recurrent network multiplies it: where gradients explode for a
few steps, what began as 1e-16 can end as 1e-6.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.sequences.data import Samples

__all__ = ["merge_repeats"]

Array = NDArray[Any]


def merge_repeats(samples: Samples, y: Array, weight: Array) -> tuple[Samples, Array, Array]:
    """Sequences that differ in values or target, in an order of their own, with summed weights.

    Parameters
    ----------
    samples : Samples
        n sequences of one dtype.
    y : array (n,) or (n, K)
    weight : array (n,) of float64

    Returns
    -------
    samples, y, weight
        Of at most n sequences.
    """
    _, codes = np.unique(y, axis=0 if y.ndim > 1 else None, return_inverse=True)
    numbers = codes.reshape(len(y)).tolist()
    keys = [(number, item.tobytes()) for number, item in zip(numbers, samples.items, strict=True)]
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    order = sorted(first)
    place = {key: i for i, key in enumerate(order)}
    total = np.bincount([place[key] for key in keys], weight, len(order))
    index = np.array([first[key] for key in order])
    return samples.take(index), y[index], total
