"""From a series of numbers to windows that a network learns from, and back.

A series y goes through three steps, each with its exact inverse: z = log y, where asked for;
scaling by its own center and spread; differences w = (1 - B)^d (1 - B^s) z, with B the shift by
one step (G. Box and G. Jenkins, "Time series analysis: forecasting and control", 1970, chapter 9).

What is learned of the values h = 1, 2, ... steps past an origin is how far they lie from the
continuation of z whose differences are zero: with d = 1 that is the last value, with a season s the
last season, with both the last season shifted to the last value, without any it is 0. Such a
distance is turned back by one addition, whatever the order, and so its quantiles are those of z.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["Differences", "Scale", "Window", "Windows", "phases"]

Array = NDArray[Any]

HARMONICS = 3  # of a season's phase, at most


class Differences:
    """Differences of order `order`, and over `period` steps.

    Parameters
    ----------
    order : int
        d, at least 0.
    period : int or None
        s; None for no difference over a season.

    Attributes
    ----------
    reach : int
        d + s, how many earlier values a difference needs.
    """

    def __init__(self, order: int, period: int | None = None) -> None:
        self.order, self.period = order, period
        polynomial = np.ones(1)
        for _ in range(order):
            polynomial = np.convolve(polynomial, [1.0, -1.0])
        if period is not None:
            polynomial = np.convolve(polynomial, [1.0] + [0.0] * (period - 1) + [-1.0])
        self.reach = len(polynomial) - 1
        self._lags = np.flatnonzero(polynomial)
        self._weights = polynomial[self._lags]

    def __call__(self, z: Array) -> Array:
        """The differences of the last axis, (..., T) to (..., T - reach)."""
        T = z.shape[-1]
        w = np.zeros((*z.shape[:-1], T - self.reach))
        for lag, weight in zip(self._lags, self._weights, strict=True):
            w += weight * z[..., self.reach - lag : T - lag]
        return w

    def continued(self, tail: Array, n: int) -> Array:
        """What follows with differences of zero: (..., n) after (..., at least reach) values."""
        reach = self.reach
        path = np.zeros((*tail.shape[:-1], reach + n))
        path[..., :reach] = tail[..., tail.shape[-1] - reach :]
        for t in range(reach, reach + n):
            for lag, weight in zip(self._lags[1:], self._weights[1:], strict=True):
                path[..., t] -= weight * path[..., t - lag]
        return path[..., reach:]

    def undone(self, w: Array, tail: Array) -> Array:
        """The values (..., n) whose differences are w, after the values `tail`."""
        path = np.concatenate([tail[..., tail.shape[-1] - self.reach :], w], axis=-1)
        for t in range(self.reach, path.shape[-1]):
            for lag, weight in zip(self._lags[1:], self._weights[1:], strict=True):
                path[..., t] -= weight * path[..., t - lag]
        return path[..., self.reach :]


class Scale(NamedTuple):
    """What is subtracted from a series and what it is then divided by, perhaps after a logarithm.

    Attributes
    ----------
    center, spread : float
    log : bool
    """

    center: float
    spread: float
    log: bool

    @classmethod
    def of(cls, y: Array, differences: Differences, log: bool, standardize: bool) -> Scale:
        """The mean of the series, and the standard deviation of its differences."""
        if not standardize:
            return cls(0.0, 1.0, log)
        z = cls(0.0, 1.0, log).apply(y)
        spread = float(differences(z).std())
        tiny = 1e-10 * float(np.abs(z).max())
        return cls(float(z.mean()), spread if spread > tiny else 1.0, log)

    def apply(self, y: Array) -> Array:
        """From y to z, in float64."""
        z = np.asarray(y, np.float64)
        z = np.log(z) if self.log else z
        return (z - self.center) / self.spread

    def undo(self, z: Array) -> Array:
        """From z to y."""
        z = z * self.spread + self.center
        return np.exp(z) if self.log else z


def phases(steps: Array, period: int) -> Array:
    """Where in a season steps are, by their numbers (...): sines and cosines, (..., 2 K).

    K harmonics of the season: the first three, or up to half its period.
    """
    K = np.arange(1, min(HARMONICS, period // 2) + 1)
    angle = 2 * np.pi * K * (steps[..., None] % period) / period
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)


class Window(NamedTuple):
    """What the network sees of a series at one origin.

    Attributes
    ----------
    steps : array (T, D)
        The steps before the origin: differences, and what is known of each step beside them.
    beside : array (E,)
        What the output layer sees past the recurrent layers.
    """

    steps: Array
    beside: Array

    def __len__(self) -> int:
        return len(self.steps)


class Windows:
    """Cuts windows out of scaled series.

    Parameters
    ----------
    size : int
        T, steps of a window.
    ahead : int
        Steps after the origin whose covariates the output layer sees.
    differences : Differences
    period : int or None
        Of the season whose phase goes with every step.
    dtype : dtype
        Of the windows.
    skip : bool
        Whether the output layer sees the window's differences themselves, too.
    """

    def __init__(
        self,
        size: int,
        ahead: int,
        differences: Differences,
        period: int | None,
        dtype: Any,
        skip: bool,
    ) -> None:
        self.size, self.ahead, self.differences = size, ahead, differences
        self.period, self.dtype, self.skip = period, np.dtype(dtype), skip
        # As an encoder: nothing to train, no dropout.
        self.layers: dict[str, Any] = {}
        self.masks: Sequence[Any] = ()

    @property
    def reach(self) -> int:
        """How many values a window needs: its own, and those that its differences need."""
        return self.size + self.differences.reach

    def widths(self, n_covariates: int) -> tuple[int, int]:
        """D of a window's steps, and E of what lies beside them."""
        season = 0 if self.period is None else phases(np.zeros(1), self.period).shape[-1]
        own = self.size if self.skip else 0
        return 1 + n_covariates + season, own + self.ahead * n_covariates + season

    def cut(self, z: Array, covariates: Array, begin: Array, origins: Array) -> list[Window]:
        """The windows of S series that end before the origins, series by series.

        Parameters
        ----------
        z : array (S, T)
            Scaled values.
        covariates : array (S, at least T, D)
            Scaled; with D above 0, at least `ahead` rows after the last origin.
        begin : array of int (S,)
            The number of each series' first step, from which the season's phase follows.
        origins : array of int (n,)
            Numbers of columns of z, from `reach` to T.
        """
        lost = self.differences.reach
        w = self.differences(z)
        S, T = z.shape
        steps = [w[..., None], covariates[:, lost:T]]
        first = origins - self.reach
        beside = [np.zeros((S, len(origins), 0))]
        if self.skip:
            beside.append(sliding_window_view(w, self.size, axis=1)[:, first])
        if covariates.shape[-1]:
            future = sliding_window_view(covariates, self.ahead, axis=1)[:, origins]
            beside.append(future.transpose(0, 1, 3, 2).reshape(S, len(origins), -1))
        if self.period is not None:
            season = phases(begin[:, None] + np.arange(T + 1), self.period)
            steps.append(season[:, lost:T])
            beside.append(season[:, origins])
        x = np.concatenate(steps, axis=-1).astype(self.dtype)
        aside = np.concatenate(beside, axis=-1).astype(self.dtype)
        return [
            Window(x[s, start : start + self.size], aside[s, i])
            for s in range(S)
            for i, start in enumerate(first.tolist())
        ]

    def distances(self, z: Array, origins: Array) -> Array:
        """What is to be learned: the `n` values after each origin, less the continuation.

        The number of them is `ahead`; (n origins, ahead) of float64.
        """
        values = sliding_window_view(z, self.ahead)[origins]
        reach = self.differences.reach
        if not reach:
            return values.copy()
        tails = sliding_window_view(z, reach)[origins - reach]
        return values - self.differences.continued(tails, self.ahead)

    def forward(
        self, items: Sequence[Window], training: bool
    ) -> tuple[Array, Array, Callable[[Array], None]]:
        """The network's encoder: windows as an array (N, T, D)."""
        x = np.stack([item.steps for item in items])
        return x, np.full(len(items), self.size, np.int64), lambda dx: None

    @staticmethod
    def beside(items: Sequence[Window]) -> Array:
        """What goes into the output layer beside the pooled rows, (N, E)."""
        return np.stack([item.beside for item in items])
