"""Series as people have them, read into one array (T_i,) for each, and what is known beside them.

One series is an array or list of T numbers, or a pandas Series. Several are a list of such, of any
lengths, or a panel: an array (n_series, T), whose rows are the series, or a pandas DataFrame, whose
columns are, as people write them down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import as_real_array, describe
from fastrnn.engine.devices import check_host

__all__ = ["read_covariates", "read_series"]

Array = NDArray[Any]


def read_series(name: str, y: Any) -> tuple[list[Array], bool]:
    """The series, each (T_i,) and finite, and whether it is one alone.

    Raises
    ------
    TypeError
        If they are not of real numbers.
    ValueError
        If there are other dimensions, no series, or NaN or infinite values.
    """
    if hasattr(y, "columns"):  # a DataFrame
        y = np.asarray(y).T
    alone = not _is_several(y)
    if alone or (isinstance(y, np.ndarray) and y.dtype != object):
        whole = _numbers(name, y)
        if whole.ndim not in (1, 2):
            raise ValueError(
                f"{name}: expected 1 dimension (T) or 2 (n_series, T), "
                f"got {whole.ndim} with shape {whole.shape}"
            )
        alone = whole.ndim == 1
        series = [whole] if alone else list(whole)
    else:
        series = [_numbers(f"{name}[{i}]", one) for i, one in enumerate(y)]
        for i, one in enumerate(series):
            if one.ndim != 1:
                raise ValueError(
                    f"{name}[{i}]: expected 1 dimension (T), got {one.ndim} with shape {one.shape}"
                )
    if not series:
        raise ValueError(f"{name}: expected at least one series, got none")
    for i, one in enumerate(series):
        check_finite(name if alone else f"{name}[{i}]", one)
    return series, alone


def _is_several(y: Any) -> bool:
    """Whether y is a list, or an array, of series."""
    if isinstance(y, np.ndarray) and y.dtype != object:
        return y.ndim > 1
    if not isinstance(y, (list, tuple, np.ndarray)) or not len(y):
        return False
    return any(np.ndim(one) for one in y)


def _numbers(name: str, x: Any) -> Array:
    check_host(name, x)
    x = np.asarray(x)
    if x.dtype == object:  # a frame's columns of several types, or a list of unlike ones
        try:
            x = x.astype(np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"{name}: expected real numbers, got {describe(x)}") from None
    return as_real_array(name, x)


def check_finite(name: str, x: Array) -> None:
    """Raise a ValueError if there is NaN or infinity among (T, ...) values."""
    bad = ~np.isfinite(x)
    if bad.any():
        where = np.unravel_index(int(bad.argmax()), bad.shape)
        raise ValueError(f"{name}: expected finite numbers, got {x[where]} at step {where[0]}")


def read_covariates(
    name: str, X: Any, rows: Sequence[int], alone: bool, what: str, width: int | None = None
) -> list[Array]:
    """What is known of each step of each series, (rows, D) of float64.

    Parameters
    ----------
    X : array (T, D) or (T,), or for several series a list of such, or an array (n_series, T, D)
        With several series (T, D) is what all of them share.
    rows : sequence of int
        How many each series must have.
    alone : bool
        Whether there is one series, not a list or panel of them.
    what : str
        For messages: what the rows are.
    width : int, optional
        D, where it is known already.
    """
    if hasattr(X, "columns"):
        X = np.asarray(X)
    shared = alone or not _is_several(X) or (isinstance(X, np.ndarray) and X.ndim == 2)
    if shared:
        found = [_numbers(name, X)] * len(rows)
    elif len(X) != len(rows):
        raise ValueError(
            f"{name}: expected covariates of {len(rows)} series, got those of {len(X)}"
        )
    else:
        found = [_numbers(f"{name}[{i}]", one) for i, one in enumerate(X)]
    out: list[Array] = []
    for i, (one, count) in enumerate(zip(found, rows, strict=True)):
        label = name if shared else f"{name}[{i}]"
        if one.ndim == 1:
            one = one[:, None]
        if one.ndim != 2:
            raise ValueError(
                f"{label}: expected 1 dimension (T) or 2 (T, D), "
                f"got {one.ndim} with shape {one.shape}"
            )
        if len(one) != count:
            raise ValueError(f"{label}: expected {count} rows, {what}, got {len(one)}")
        wanted = out[0].shape[1] if width is None and out else width
        if one.shape[1] != wanted and wanted is not None:
            raise ValueError(f"{label}: expected {wanted} columns, got {one.shape[1]}")
        if not one.shape[1]:
            raise ValueError(f"{label}: expected at least one column, got 0")
        check_finite(label, one)
        out.append(one.astype(np.float64, copy=False))
    return out
