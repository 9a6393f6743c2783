"""Estimators of series: their parameters, and reading series and covariates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from fastrnn.checks import (
    as_real_array,
    check_bool,
    check_int,
    check_option,
    check_positive_int,
    describe,
)
from fastrnn.estimators.base import SequenceEstimator
from fastrnn.files import FormatError
from fastrnn.sequences.targets import REGRESSION_LOSSES
from fastrnn.series.data import read_covariates
from fastrnn.series.differences import Windows
from fastrnn.series.forecasting import Forecasting, History, make_differences
from fastrnn.series.serving import Forecasts
from fastrnn.serving.stored import Tensors
from fastrnn.serving.stored_series import describe_forecasts, read_forecasts
from fastrnn.training.plan import Plan

__all__ = ["OF_VALUES", "SeriesEstimator"]

Array = NDArray[Any]

STRATEGIES = ("direct", "recursive")
SEASONS = ("phase", "difference", "both")
OF_VALUES = "one for each value of y"  # what covariates are


class SeriesEstimator(SequenceEstimator):
    """What `Forecaster` asks of its parameters and of its data."""

    _forecasting: Forecasting
    _alone: bool  # one series, not a list or panel of them
    n_series_: int
    mase_scale_: Array
    _steps: int
    _tails: list[History]

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

    def _read_X(self, X: Any, rows: list[int], alone: bool) -> list[Array]:
        """Covariates of each series to fit to, with no columns if there are none."""
        self.__dict__.pop("n_features_in_", None)
        if X is None:
            return [np.zeros((count, 0)) for count in rows]
        found = read_covariates("X", X, rows, alone, OF_VALUES)
        self.n_features_in_ = found[0].shape[1]
        return found

    def _make_windows(self, series: list[Array]) -> Windows:
        """What becomes of a series, as the parameters say."""
        dtype = np.result_type(*(one.dtype for one in series)) if self.dtype is None else self.dtype
        ahead = int(self.horizon) if self.strategy == "direct" else 1
        period = None if self.seasonal is None else int(self.seasonal)
        differences, phase = make_differences(int(self.differencing), period, self.seasonal_mode)
        return Windows(int(self.window), ahead, differences, phase, dtype, bool(self.skip))

    # Forecasts, and files

    @property
    def _forecasts(self) -> Forecasts:
        """What forecasts, or scikit-learn's NotFittedError."""
        check_is_fitted(self, "layers_")
        return Forecasts(
            self._forecasting,
            self._network,
            getattr(self, "_tails", []),
            self._alone,
            self._steps,
            getattr(self, "n_features_in_", None),
            self.n_threads,
        )

    # Files

    def to_file(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What `save` keeps: a description, and the arrays."""
        told, tensors = describe_forecasts(self._forecasts, self._made_with)
        return {**self._header(), **told}, {**tensors, "mase_scale": self.mase_scale_}

    @classmethod
    def from_file(cls, remembered: Mapping[str, Any], tensors: Mapping[str, Any]) -> Self:
        """The forecaster that `to_file` has described."""
        model = cls._from_header(remembered)
        left = Tensors(tensors)
        model.mase_scale_ = left.take("mase_scale", 1)
        found = read_forecasts(remembered, left, model.n_threads)
        model.n_series_ = len(found.tails)
        if len(model.mase_scale_) != model.n_series_:
            raise FormatError(f"mase_scale: expected {model.n_series_} numbers")
        model._forecasting, model._tails = found.model, found.tails
        model._alone, model._steps = found.alone, found.steps
        if found.width is not None:
            model.n_features_in_ = found.width
        model._take_network(found.network, remembered["made"])
        return model
