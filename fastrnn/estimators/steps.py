"""What there is one of for every step: labels, weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import describe
from fastrnn.engine.devices import check_host
from fastrnn.sequences.data import Samples

__all__ = ["read_steps"]

Array = NDArray[Any]


def read_steps(name: str, values: Any, samples: Samples, what: str) -> list[Array]:
    """One array (T_i,) for each sequence, of one dtype.

    Parameters
    ----------
    values : list of sequences (T_i,), or array (n, T)
        For sequences that came as one array (n, T, ...), those of its padding too; for others
        those of the real steps alone.
    what : str
        What they are, for messages.
    """
    check_host(name, values)
    shape = getattr(values, "shape", None)
    if isinstance(values, (str, bytes, dict)) or not hasattr(values, "__len__"):
        raise TypeError(f"{name}: expected a list of sequences of {what}, got {describe(values)}")
    if shape is not None and len(shape) != 2 and not (len(shape) == 1 and values.dtype == object):
        raise ValueError(
            f"{name}: expected {what} of every step, in 2 dimensions (n, T), got shape {shape}"
        )
    rows = list(np.asarray(values)) if shape is not None else list(values)
    if len(rows) != len(samples):
        raise ValueError(
            f"{name}: expected {what} for each of {len(samples)} sequences, got {len(rows)}"
        )
    found: list[Array] = []
    for i, (row, T) in enumerate(zip(rows, samples.lengths.tolist(), strict=True)):
        if isinstance(row, (str, bytes)) or not np.ndim(row):
            raise TypeError(f"{name}[{i}]: expected a sequence of {what}, got {describe(row)}")
        one = np.asarray(row)
        if one.ndim != 1:
            raise ValueError(
                f"{name}[{i}]: expected {what} in one dimension (T,), got shape {one.shape}"
            )
        if len(one) not in (T, samples.padded):
            raise ValueError(
                f"{name}[{i}]: expected {T} {what}, one for each step of X[{i}], got {len(one)}"
            )
        if found and (one.dtype.kind in "US") != (found[0].dtype.kind in "US"):
            raise TypeError(
                f"{name}[{i}]: expected {what} of one kind, as {name}[0] has with dtype "
                f"{found[0].dtype}, got dtype {one.dtype}"
            )
        found.append(one[:T])
    return np.split(np.concatenate(found), np.cumsum(samples.lengths)[:-1])
