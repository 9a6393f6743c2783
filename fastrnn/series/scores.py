"""How good forecasts are, beside those that anyone can make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Backtest", "absolute_step", "collect", "mase", "naive", "seasonal_naive"]

Floats = NDArray[np.float64]


def naive(history: Floats, n: int) -> Floats:
    """The last value, n times."""
    return np.repeat(np.float64(history[-1]), n)


def seasonal_naive(history: Floats, n: int, period: int) -> Floats:
    """The last season over and over: step h is what was a whole number of periods before it."""
    if len(history) < period:
        raise ValueError(
            f"period: expected at most the {len(history)} values of the history, got {period}"
        )
    return np.resize(np.asarray(history[-period:], np.float64), n)


def absolute_step(history: Floats, period: int | None = None) -> float:
    """The mean of |y_t - y_(t-m)| with m the period, 1 if there is none: what MASE is measured in.

    A history no longer than a period is measured with m = 1.
    """
    m = 1 if period is None or len(history) <= period else period
    return float(np.abs(history[m:] - history[:-m]).mean())


def mase(error: float, step: float) -> float:
    """Mean absolute scaled error: a mean absolute error over the history's mean absolute step.

    R. Hyndman and A. Koehler, "Another look at measures of forecast accuracy", International
    Journal of Forecasting 22 (2006). With steps that are all 0, infinity, or 0 without any error.
    """
    if step:
        return error / step
    return float(np.inf) if error else 0.0


@dataclass(frozen=True, slots=True)
class Backtest:
    """Forecasts of a series' own past, each made from what came before it.

    F folds, S series, H steps. ``str`` of it is a table.

    Attributes
    ----------
    origins : array of int (F, S)
        How many values came before each forecast.
    actual, forecast, naive : array (F, S, H)
        What came, what was forecast, and the last value before.
    seasonal_naive : array (F, S, H) or None
        The last season before; None without a period.
    period : int or None
        Of the season, for `seasonal_naive` and the scale of MASE.
    steps : array (F, S)
        `absolute_step` of the history of each forecast.
    levels : tuple of float
        The quantiles that were forecast.
    quantiles : array (F, S, H, Q)
        Their forecasts.
    """

    origins: NDArray[np.int64]
    actual: Floats
    forecast: Floats
    naive: Floats
    seasonal_naive: Floats | None
    period: int | None
    steps: Floats
    levels: tuple[float, ...]
    quantiles: Floats

    @property
    def mae(self) -> dict[str, float]:
        """The mean absolute error of each kind of forecast."""
        return {name: float(error.mean()) for name, error in self._errors().items()}

    @property
    def mase(self) -> dict[str, float]:
        """The mean over folds and series of `mase`."""
        return {
            name: float(np.mean([mase(e, s) for e, s in zip(error.ravel(), self.steps.ravel(),
                                                             strict=True)]))
            for name, error in self._errors().items()
        }  # fmt: skip

    @property
    def coverage(self) -> dict[float, float]:
        """For each quantile that was forecast, the share of values that were not above it."""
        below = (self.actual[..., None] <= self.quantiles).mean(axis=(0, 1, 2))
        return dict(zip(self.levels, below.tolist(), strict=True))

    def _errors(self) -> dict[str, Floats]:
        """Mean absolute errors, each (F, S)."""
        forecasts = {"forecaster": self.forecast, "naive": self.naive}
        if self.seasonal_naive is not None:
            forecasts["seasonal naive"] = self.seasonal_naive
        return {name: np.abs(made - self.actual).mean(axis=-1) for name, made in forecasts.items()}

    def __str__(self) -> str:
        F, S, H = self.actual.shape
        what = "1 series" if S == 1 else f"{S} series"
        lines = [f"{F} folds of {H} steps, {what}", f"{'':24}{'MAE':>10}{'MASE':>10}"]
        scaled = self.mase
        for name, error in self.mae.items():
            label = f"{name} ({self.period})" if name == "seasonal naive" else name
            lines.append(f"{label:24}{error:10.4g}{scaled[name]:10.3f}")
        for level, share in self.coverage.items():
            lines.append(f"{share:.0%} of the values are not above the {level:g} quantile")
        return "\n".join(lines)


def collect(
    folds: Sequence[tuple[list[Floats], list[Floats], Floats, Floats]],
    levels: Sequence[float],
    period: int | None,
) -> Backtest:
    """A `Backtest` from each fold's histories, actual values, forecasts (S, H) and quantiles."""
    H = folds[0][2].shape[-1]
    histories = [fold[0] for fold in folds]
    return Backtest(
        np.array([[len(one) for one in group] for group in histories], np.int64),
        np.array([fold[1] for fold in folds], np.float64),
        np.array([fold[2] for fold in folds], np.float64),
        np.array([[naive(one, H) for one in group] for group in histories]),
        None if period is None else np.array(
            [[seasonal_naive(one, H, period) for one in group] for group in histories]
        ),
        period,
        np.array([[absolute_step(one, period) for one in group] for group in histories]),
        tuple(levels),
        np.array([fold[3] for fold in folds], np.float64),
    )  # fmt: skip
