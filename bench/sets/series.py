"""Series: sunspots, temperatures, airline passengers, beside what anyone can forecast.

Every fold's forecaster is fitted to what came before it (expanding windows); the last value, the
last season and ridge regressions, whose penalty is chosen by leave-one-out, forecast the same.
"ridge" sees the forecaster's lags as they are; "ridge, differenced" its lags after its logarithm
and differences, and learns the same distances; "ridge, with phase" also where in the season it is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

import fastrnn
from bench.sets import lines_of
from fastrnn.series.differences import Differences, Windows
from fastrnn.series.scores import naive, seasonal_naive

__all__ = ["TASKS", "WITH_PHASE", "Forecasts"]

Floats = NDArray[np.float64]

PENALTIES = np.logspace(-3, 4, 15)
WITH_PHASE = "ridge, with phase"  # a season's phase is no lag: it stands there to compare


@dataclass(frozen=True)
class Forecasts:
    """A series, the forecaster for it, and the folds of its backtest, judged by their MAE.

    Attributes
    ----------
    series, file : str
    horizon, period, folds : int
    step : int
        By how many values a fold's history is longer than the one's before.
    parameters : mapping
        What the forecaster has beside its defaults, `window` and `max_iter` among it.
    seeds, torch_seeds : int
    """

    measure: ClassVar[str] = "MAE"
    dtype: ClassVar[str] = "float64"
    splits: ClassVar[bool] = False

    series: str
    file: str
    horizon: int
    period: int
    folds: int
    step: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 5
    torch_seeds: int = 1

    @property
    def name(self) -> str:
        """The series and the folds."""
        return f"{self.series}, {self.folds} folds of {self.horizon}"

    def brief(self) -> Self:
        """One seed and two folds."""
        return replace(self, seeds=1, folds=2)

    def data(self, seed: int) -> Floats:
        """The second column of a file with one line of names."""
        lines = lines_of("forecasting", self.file)[1:]
        return np.array([float(line.split(",")[1]) for line in lines])

    def make(self, seed: int, threads: int | None = None) -> Any:
        """The forecaster; it trains for `max_iter` epochs, so that PyTorch can do as many."""
        own = {**self.parameters, "n_iter_no_change": self.parameters["max_iter"]}
        return fastrnn.Forecaster(self.horizon, random_state=seed, n_threads=threads, **own)

    def fitted(self, estimator: Any, data: Floats) -> tuple[float, float]:
        """MAE over all folds, and the seconds of one of them, its forecast among them."""
        begun = time.perf_counter()
        found = estimator.backtest(data, self.folds, step=self.step, period=self.period)
        return found.mae["forecaster"], (time.perf_counter() - begun) / self.folds

    def others(self, data: Floats) -> dict[str, float]:
        """MAE over all folds of what has no seed."""
        found = {
            "naive": self._error(data, [naive(data[:t], self.horizon) for t in self.ends(data)]),
            f"seasonal naive ({self.period})": self._error(
                data, [seasonal_naive(data[:t], self.horizon, self.period) for t in self.ends(data)]
            ),
            "ridge": self._error(data, self.ridge(data, log=False, order=0)),
        }
        log, order = bool(self.parameters.get("log")), self.parameters.get("differencing", 0)
        if order:
            found["ridge, differenced"] = self._error(data, self.ridge(data, log=log, order=order))
        phased = self.ridge(data, log=log, order=order, period=self.period)
        found[WITH_PHASE] = self._error(data, phased)
        return found

    def ends(self, data: Floats) -> list[int]:
        """How many values come before each fold's forecast."""
        last = len(data) - self.horizon
        return [last - (self.folds - 1 - k) * self.step for k in range(self.folds)]

    def _error(self, data: Floats, forecasts: Sequence[Floats]) -> float:
        actual = [data[end : end + self.horizon] for end in self.ends(data)]
        return float(np.abs(np.array(forecasts) - np.array(actual)).mean())

    def ridge(
        self, data: Floats, *, log: bool, order: int, period: int | None = None
    ) -> list[Floats]:
        """Each fold's forecast by ridge regression on the window, an output for each step."""
        z = np.log(data) if log else data
        differences, H = Differences(order), self.horizon
        windows = Windows(self.parameters["window"], H, differences, period, np.float64, skip=True)
        origins = np.arange(windows.reach, len(z) + 1)
        items = windows.cut(z[None], np.zeros((1, len(z), 0)), np.zeros(1, np.int64), origins)
        X = np.array([item.beside for item in items])
        targets = windows.distances(z, origins[:-H])
        made = []
        for end in self.ends(data):
            known = end - H - windows.reach + 1  # windows of which all that follows is known
            mean, spread = X[:known].mean(axis=0), X[:known].std(axis=0)
            model = RidgeCV(PENALTIES).fit((X[:known] - mean) / spread, targets[:known])
            distance = model.predict((X[[end - windows.reach]] - mean) / spread)[0]
            path = distance + differences.continued(z[:end], H)
            made.append(np.exp(path) if log else path)
        return made

    def compared(self, value: float, others: Mapping[str, float]) -> dict[str, float]:
        """Beside the best of the naive ones and of ridge regression on the same lags."""
        best = min(error for name, error in others.items() if name != WITH_PHASE)
        return {"MAE / best beside": value / best}

    def shape(self, data: Floats) -> dict[str, int]:
        """The number of values."""
        return {"n": len(data)}


TASKS = [
    # The last ten years; a cycle's length varies too much for its phase to help the network.
    Forecasts(
        "sunspots",
        "monthly-sunspots.csv",
        12,
        132,
        10,
        12,
        {"window": 48, "batch_size": 64, "max_iter": 10, "learning_rate_init": 0.005,
         "alpha": 0.01, "cell": "gru", "reset_after": True},
    ),
    # The last year, a week of every fortnight.
    Forecasts(
        "temperatures",
        "daily-min-temperatures.csv",
        7,
        365,
        26,
        14,
        {"window": 36, "strategy": "recursive", "seasonal": 365, "cell": "gru",
         "reset_after": True, "hidden_size": 16, "batch_size": 64, "max_iter": 10,
         "learning_rate_init": 0.005},
    ),
    # 144 months are too few for ten folds that do not overlap; 75 are known before the first.
    Forecasts(
        "airline",
        "airline-passengers.csv",
        12,
        12,
        20,
        3,
        {"window": 36, "strategy": "recursive", "seasonal": 12, "log": True, "differencing": 1,
         "max_iter": 100, "learning_rate_init": 0.005},
    ),
]  # fmt: skip
