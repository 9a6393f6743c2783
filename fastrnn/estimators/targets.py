"""Targets as scikit-learn's users pass them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_array, column_or_1d

__all__ = ["read_target"]

Array = NDArray[Any]


def read_target(estimator: str, y: Any, n: int, *, numeric: bool) -> Array:
    """One target for each of n sequences, (n,) or (n, K), finite if they are numbers."""
    if y is None:
        raise ValueError(f"{estimator} requires y to be passed, but the target y is None")
    y = check_array(
        y,
        dtype="numeric" if numeric else None,
        ensure_2d=False,
        input_name="y",
        estimator=estimator,
    )
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    if y.ndim not in (1, 2):
        raise ValueError(f"y: expected 1 or 2 dimensions, got {y.ndim} with shape {y.shape}")
    if len(y) != n:
        raise ValueError(f"y: expected one target for each of {n} sequences, got {len(y)}")
    if numeric and y.dtype.kind != "f":
        y = y.astype(np.float64)
    return y
