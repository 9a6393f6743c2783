"""Targets as scikit-learn's users pass them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_array, column_or_1d

from fastrnn.checks import check_real, describe
from fastrnn.engine.devices import check_host
from fastrnn.sequences.targets import describe_values

__all__ = ["class_factors", "read_target"]

Array = NDArray[Any]


def read_target(estimator: str, y: Any, n: int, *, numeric: bool, name: str = "y") -> Array:
    """One target for each of n sequences, (n,) or (n, K), finite if they are numbers."""
    if y is None:
        raise ValueError(f"{estimator} requires y to be passed, but the target y is None")
    check_host(name, y)
    y = check_array(
        y,
        dtype="numeric" if numeric else None,
        ensure_2d=False,
        input_name=name,
        estimator=estimator,
    )
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    if y.ndim not in (1, 2):
        raise ValueError(f"{name}: expected 1 or 2 dimensions, got {y.ndim} with shape {y.shape}")
    if len(y) != n:
        raise ValueError(f"{name}: expected one target for each of {n} sequences, got {len(y)}")
    if numeric and y.dtype.kind != "f":
        y = y.astype(np.float64)
    return y


def class_factors(class_weight: Any, classes: Array, codes: Array, weight: Array) -> Array | None:
    """What each class's weights are multiplied by, or None for nothing.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
        Factors by class, 1 for those that it does not name; "balanced" is, with W the sum of all
        weights and K the number of classes that occur, W / (K W_k).
    classes : array (K,)
    codes : array (n,) of int
        The training targets, as numbers of classes.
    weight : array (n,)

    Returns
    -------
    array (K,) of float64, or None
    """
    if class_weight is None:
        return None
    if isinstance(class_weight, str) and class_weight == "balanced":
        sums = np.bincount(codes, weights=weight, minlength=len(classes))
        there = sums > 0
        return np.divide(sums.sum() / there.sum(), sums, out=np.zeros_like(sums), where=there)
    if not isinstance(class_weight, Mapping):
        raise ValueError(
            f"class_weight: expected a dict, 'balanced' or None, got {describe(class_weight)}"
        )
    factors = np.ones(len(classes))
    names = {name: i for i, name in enumerate(classes.tolist())}
    for name, factor in class_weight.items():
        if name not in names:
            raise ValueError(
                f"class_weight: expected the classes {describe_values(classes)}, got {name!r}"
            )
        factors[names[name]] = check_real(f"class_weight[{name!r}]", factor, minimum=0.0)
    return factors
