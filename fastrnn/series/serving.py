"""Forecasts by a fitted network: of what follows the series it was fitted to, or others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import check_positive_int, describe
from fastrnn.sequences.network import SequenceNetwork
from fastrnn.series.data import read_covariates, read_series
from fastrnn.series.differences import Window, Windows
from fastrnn.series.forecasting import Forecasting, History
from fastrnn.thread_count import threads

__all__ = ["Forecasts", "check_log", "check_values"]

Array = NDArray[Any]


def check_log(name: str, series: Array, log: bool) -> None:
    """Raise a ValueError unless a series has a logarithm, if it needs one."""
    if log and not (series > 0).all():
        step = int(np.argmax(series <= 0))
        raise ValueError(
            f"{name}: expected values above 0 (log=True), got {series[step]} at step {step}"
        )


def check_values(
    name: str,
    series: list[Array],
    windows: Windows,
    ahead: int = 0,
    *,
    alone: bool,
    log: bool,
) -> None:
    """Raise a ValueError unless every series is long enough, and has a logarithm if need be.

    Parameters
    ----------
    name : str
        Of the argument.
    series : list of arrays (T_i,)
    windows : Windows
    ahead : int
        How many values must follow a window.
    alone : bool
        Whether there is one series, not a list or panel of them.
    log : bool
    """
    lost, least = windows.differences.reach, windows.reach + ahead
    parts = f"{windows.size} of the window"
    parts += f", {lost} before it for differences" if lost else ""
    parts += f", {ahead} after it" if ahead else ""
    for i, one in enumerate(series):
        label = name if alone else f"{name}[{i}]"
        if len(one) < least:
            raise ValueError(f"{label}: expected at least {least} values ({parts}), got {len(one)}")
        check_log(label, one, log)


class Forecasts:
    """What `fastrnn.Forecaster` and `fastrnn.Predictor` forecast with.

    Parameters
    ----------
    model : Forecasting
    network : SequenceNetwork
    tails : list of History
        The last values that were fitted to, of each series.
    alone : bool
        Whether that was one series, not a list or panel of them.
    steps : int
        How many values are forecast where nobody says.
    width : int or None
        Covariates; None without any.
    n_threads : int or None
        Threads while forecasting; None leaves the number as it is.
    """

    def __init__(
        self,
        model: Forecasting,
        network: SequenceNetwork,
        tails: list[History],
        alone: bool,
        steps: int,
        width: int | None,
        n_threads: int | None,
    ) -> None:
        self.model, self.network, self.tails, self.alone = model, network, tails, alone
        self.steps, self.width, self.n_threads = steps, width, n_threads

    def outputs(self, items: Sequence[Window]) -> Array:
        """What the network says of windows."""
        with threads(self.n_threads):
            return self.network.outputs(items)

    def predict(self, n: int | None, X: Any, context: Any) -> Array:
        """The n values that follow: (n,), or (n_series, n)."""
        points, _ = self.forecast(n, X, context)
        return points[0] if self.alone else points

    def predict_quantiles(self, n: int | None, X: Any, context: Any) -> Array:
        """Their quantiles: (n, Q), or (n_series, n, Q)."""
        if not self.model.levels:
            raise ValueError("quantiles: expected some for predict_quantiles, got None")
        _, quantiles = self.forecast(n, X, context, quantiles=True)
        return quantiles[0] if self.alone else quantiles

    def forecast(
        self, n: int | None, X: Any, context: Any, *, quantiles: bool = False
    ) -> tuple[Array, Array]:
        """Forecasts (S, n), and quantiles (S, n, Q) if asked for."""
        model, windows = self.model, self.model.windows
        n = self.steps if n is None else check_positive_int("n", n)
        if not model.recursive and n > windows.ahead:
            raise ValueError(
                f"n: expected at most the horizon of {windows.ahead} (strategy='recursive' goes "
                f"further), got {n}"
            )
        rows = n if model.recursive else windows.ahead
        if context is None:
            what = f"one for each step {'to forecast' if model.recursive else 'of the horizon'}"
            future = self.covariates(X, [rows] * len(self.tails), what)
            histories = [
                tail._replace(covariates=np.concatenate([tail.covariates, model.scaled(known)]))
                for tail, known in zip(self.tails, future, strict=True)
            ]
        else:
            series = self.series("context", context)
            check_values("context", series, windows, alone=self.alone, log=model.scales[0].log)
            what = "one for each value of context and each step to forecast"
            known = self.covariates(X, [len(one) + rows for one in series], what)
            histories = [
                one.part(len(one.z) - windows.reach, len(one.z), rows)
                for one in model.histories(series, known)
            ]
        return self.after(range(len(histories)), histories, n, quantiles)

    def after(
        self, which: Sequence[int], histories: list[History], n: int, quantiles: bool = False
    ) -> tuple[Array, Array]:
        """Forecasts after the histories of some of the series."""
        made = self.model.forecast(self.outputs, which, histories, n, quantiles=quantiles)
        dtype = self.model.windows.dtype
        return made[0].astype(dtype), made[1].astype(dtype)

    def series(self, name: str, y: Any) -> list[Array]:
        """Series, as many as were fitted to."""
        series, alone = read_series(name, y)
        n = len(self.model.scales)
        if alone != self.alone or len(series) != n:
            fitted = "one series" if self.alone else f"a list or panel of {n}"
            got = "one series" if alone else f"a list or panel of {len(series)}"
            raise ValueError(f"{name}: expected {fitted}, as fit has seen, got {got}")
        return series

    def covariates(self, X: Any, rows: list[int], what: str) -> list[Array]:
        """Covariates of each series, as many as were fitted to, and no columns if there were none.

        Parameters
        ----------
        X : as for `fit` or None
        rows : list of int
            How many each series must have.
        what : str
            For messages: what the rows are.
        """
        if X is None:
            if self.width is not None:
                raise ValueError(
                    f"X: expected {self.width} covariates, as fit has seen, of {rows[0]} rows, "
                    f"{what}, got None"
                )
            return [np.zeros((count, 0)) for count in rows]
        if self.width is None:
            raise ValueError(f"X: expected None, as in fit, got {describe(X)}")
        return read_covariates("X", X, rows, self.alone, what, self.width)
