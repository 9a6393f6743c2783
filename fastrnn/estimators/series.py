"""Estimators of series: their parameters, and reading series and covariates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import (
    as_real_array,
    check_bool,
    check_int,
    check_option,
    check_positive_int,
    describe,
)
from fastrnn.estimators.base import SequenceEstimator
from fastrnn.sequences.targets import REGRESSION_LOSSES
from fastrnn.series.data import read_covariates
from fastrnn.series.differences import Windows
from fastrnn.series.forecasting import Forecasting, make_differences
from fastrnn.training.plan import Plan

__all__ = ["SeriesEstimator"]

Array = NDArray[Any]

STRATEGIES = ("direct", "recursive")
SEASONS = ("phase", "difference", "both")


class SeriesEstimator(SequenceEstimator):
    """What `Forecaster` asks of its parameters and of its data."""

    _forecasting: Forecasting
    _alone: bool  # one series, not a list or panel of them
    n_series_: int

    def _check_parameters(self) -> Plan:
        plan = super()._check_parameters()
        for name in ("horizon", "window"):
            check_positive_int(name, getattr(self, name))
        check_option("strategy", self.strategy, STRATEGIES)
        check_int("differencing", self.differencing, 0)
        if self.seasonal is not None:
            check_int("seasonal", self.seasonal, 2)
        check_option("seasonal_mode", self.seasonal_mode, SEASONS)
        for name in ("log", "skip", "standardize"):
            check_bool(name, getattr(self, name))
        check_option("loss", self.loss, REGRESSION_LOSSES)
        self._levels()
        return plan

    def _levels(self) -> list[float]:
        """The quantiles."""
        if self.quantiles is None:
            return []
        levels = as_real_array("quantiles", self.quantiles, np.float64, ndim=1)
        inside = len(levels) > 0 and levels[0] > 0 and levels[-1] < 1
        if not inside or not (np.diff(levels) > 0).all():
            raise ValueError(
                "quantiles: expected numbers between 0 and 1 in increasing order, "
                f"got {describe(self.quantiles)}"
            )
        return levels.tolist()

    def _read_X(
        self, X: Any, rows: list[int], alone: bool, what: str, *, reset: bool
    ) -> list[Array]:
        """Covariates of each series, with no columns if there are none."""
        if reset:
            self.__dict__.pop("n_features_in_", None)
        width = None if reset else getattr(self, "n_features_in_", None)
        if X is None:
            if width is not None:
                raise ValueError(
                    f"X: expected {width} covariates, as fit has seen, of {rows[0]} rows, {what}, "
                    "got None"
                )
            return [np.zeros((count, 0)) for count in rows]
        if not reset and width is None:
            raise ValueError(f"X: expected None, as in fit, got {describe(X)}")
        found = read_covariates("X", X, rows, alone, what, width)
        if reset:
            self.n_features_in_ = found[0].shape[1]
        return found

    def _make_windows(self, series: list[Array]) -> Windows:
        """What becomes of a series, as the parameters say."""
        dtype = np.result_type(*(one.dtype for one in series)) if self.dtype is None else self.dtype
        ahead = int(self.horizon) if self.strategy == "direct" else 1
        period = None if self.seasonal is None else int(self.seasonal)
        differences, phase = make_differences(int(self.differencing), period, self.seasonal_mode)
        return Windows(int(self.window), ahead, differences, phase, dtype, bool(self.skip))

    def _check_values(
        self, name: str, series: list[Array], windows: Windows, ahead: int = 0
    ) -> None:
        """Raise a ValueError unless every series is long enough, and has a logarithm if need be."""
        lost, least = windows.differences.reach, windows.reach + ahead
        parts = f"{windows.size} of the window"
        parts += f", {lost} before it for differences" if lost else ""
        parts += f", {ahead} after it" if ahead else ""
        for i, one in enumerate(series):
            label = name if self._alone else f"{name}[{i}]"
            if len(one) < least:
                raise ValueError(
                    f"{label}: expected at least {least} values ({parts}), got {len(one)}"
                )
            self._check_log(label, one)

    def _check_log(self, label: str, one: Array) -> None:
        if self.log and not (one > 0).all():
            step = int(np.argmax(one <= 0))
            raise ValueError(
                f"{label}: expected values above 0 (log=True), got {one[step]} at step {step}"
            )

    def _check_like_fitted(self, name: str, series: list[Array], alone: bool) -> None:
        if alone != self._alone or len(series) != self.n_series_:
            fitted = "one series" if self._alone else f"a list or panel of {self.n_series_}"
            got = "one series" if alone else f"a list or panel of {len(series)}"
            raise ValueError(f"{name}: expected {fitted}, as fit has seen, got {got}")
