"""What a forecaster knows beside its network: what is learned of series, and forecasts from that.

Direct: one pass gives all steps of the horizon. Recursive: each pass gives one step, which is then
part of the next one's window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn import losses
from fastrnn.checks import namespace
from fastrnn.engine.arrays import copied
from fastrnn.sequences.data import Channels, Samples
from fastrnn.sequences.targets import Loss, Quantities
from fastrnn.series.differences import Differences, Scale, Window, Windows

__all__ = ["Forecasting", "History", "Outputs", "with_quantiles"]

Array = NDArray[Any]
Outputs = Callable[[Sequence[Window]], Array]

PATHS = 1000  # simulated for the quantiles of a recursive forecast


class History(NamedTuple):
    """What is known of one series.

    Attributes
    ----------
    z : array (T,)
        Scaled values.
    covariates : array (at least T, D)
        Scaled; of steps to come, too.
    begin : int
        The number of the first step, counted from the beginning of the series.
    """

    z: Array
    covariates: Array
    begin: int

    def part(self, begin: int, end: int, ahead: int = 0) -> History:
        """The values begin to end, and the covariates of those and of `ahead` more steps."""
        covariates = self.covariates[begin : end + ahead]
        return History(self.z[begin:end].copy(), covariates.copy(), self.begin + begin)


@dataclass(slots=True)
class Forecasting:
    """The transforms of a fitted forecaster.

    Attributes
    ----------
    windows : Windows
    scales : list of Scale
        Of each series.
    covariates : Channels or None
        Scale of the covariates; None where there are none, or they stay as they are.
    targets : Quantities
        Units of what is learned.
    levels : list of float
        Quantiles.
    recursive : bool
    residuals : array (n,)
        Errors of single steps in training, in the units of `targets`; for recursive quantiles.
    seed : int
        Of the paths that are drawn from them.
    """

    windows: Windows
    scales: list[Scale]
    covariates: Channels | None
    targets: Quantities
    levels: list[float]
    recursive: bool
    residuals: Array
    seed: int

    @classmethod
    def of(
        cls,
        series: list[Array],
        covariates: list[Array],
        windows: Windows,
        levels: list[float],
        *,
        log: bool,
        standardize: bool,
        recursive: bool,
    ) -> Forecasting:
        """With the scales of training series (T_i,) and their covariates (T_i, D)."""
        rows = Samples(covariates, np.array([len(one) for one in covariates]))
        known = standardize and rows.width
        found = cls(
            windows,
            [Scale.of(one, windows.differences, log, standardize) for one in series],
            Channels.of(rows, np.ones(len(rows))) if known else None,
            Quantities(np.zeros(windows.ahead), np.ones(windows.ahead), False),
            levels,
            recursive,
            np.zeros(0),
            0,
        )
        parts = [found.learnable(one)[1] for one in found.histories(series, covariates)]
        distances = np.concatenate(parts)
        found.targets = Quantities.of(distances, np.ones(len(distances)))
        return found

    @property
    def n_outputs(self) -> int:
        """How many numbers the network gives for a window."""
        return self.windows.ahead * (1 if self.recursive else 1 + len(self.levels))

    # What is learned

    def histories(self, series: list[Array], covariates: list[Array]) -> list[History]:
        """Series as the network sees them."""
        return [
            History(scale.apply(one), self.scaled(known), 0)
            for scale, one, known in zip(self.scales, series, covariates, strict=True)
        ]

    def scaled(self, covariates: Array) -> Array:
        """Covariates as the network sees them."""
        if self.covariates is None:
            return covariates
        return (covariates - self.covariates.mean) / self.covariates.scale

    def learnable(self, history: History) -> tuple[list[Window], Array]:
        """All windows of a series that enough follows, and the distances that do, (n, ahead)."""
        windows, z = self.windows, history.z
        origins = np.arange(windows.reach, len(z) - windows.ahead + 1)
        begin = np.array([history.begin])
        items = windows.cut(z[None], history.covariates[None], begin, origins)
        return items, windows.distances(z, origins)

    def set_residuals(
        self,
        outputs: Outputs,
        parts: list[tuple[list[Window], Array]],
        generator: np.random.Generator,
    ) -> None:
        """Keep the errors of single steps in training, and a seed to draw paths by."""
        distances = self.targets.encode(np.concatenate([one for _, one in parts]))
        made = outputs([item for items, _ in parts for item in items])
        self.residuals = (distances - made)[:, 0]
        self.seed = int(generator.integers(2**63))

    # Forecasts

    def forecast(
        self,
        outputs: Outputs,
        which: Sequence[int],
        histories: Sequence[History],
        n: int,
        *,
        quantiles: bool,
    ) -> tuple[Array, Array]:
        """The n values after each history, and their quantiles.

        Parameters
        ----------
        outputs : callable
            What the network says of windows: (S, n_outputs).
        which : sequence of int
            The numbers of the S series, for their scales.
        histories : sequence of History
            Each of as many values as a window needs, with covariates of the steps ahead.
        n : int
            At most the horizon of a direct forecaster.
        quantiles : bool
            Whether they are asked for.

        Returns
        -------
        values : array (S, n)
        quantiles : array (S, n, Q)
            In increasing order; Q is 0 where they are not asked for.
        """
        scales = [self.scales[i] for i in which]
        z, covariates, begin = (np.stack(part) for part in zip(*histories, strict=True))
        if not self.recursive:
            out = self._direct(outputs, z, covariates, begin)
            y = np.stack([scale.undo(one) for scale, one in zip(scales, out, strict=True)])[:, :n]
            # Networks may let quantiles cross; in order they are never worse (V. Chernozhukov et
            # al., "Quantile and probability curves without crossing", Econometrica 78, 2010).
            return y[..., 0], np.sort(y[..., 1:], axis=-1)
        out = self._walk(outputs, z, covariates, begin, np.zeros((len(z), n)))
        points = np.stack([scale.undo(one) for scale, one in zip(scales, out, strict=True)])
        if not quantiles:
            return points, np.zeros((len(z), n, 0))
        # Paths that add to every step an error as in training: bootstrapped residuals.
        errors = np.random.default_rng(self.seed).choice(self.residuals, (PATHS, n))
        found = []
        for s, scale in enumerate(scales):
            same = np.full(PATHS, s)
            paths = self._walk(outputs, z[same], covariates[same], begin[same], errors)
            paths = scale.undo(paths)
            found.append(np.quantile(paths, self.levels, axis=0).T)
        return points, np.stack(found)

    def _direct(self, outputs: Outputs, z: Array, covariates: Array, begin: Array) -> Array:
        """Scaled values, and their quantiles, of the whole horizon: (S, horizon, 1 + Q)."""
        windows = self.windows
        items = windows.cut(z, covariates, begin, np.array([windows.reach]))
        out = outputs(items).astype(np.float64).reshape(len(z), windows.ahead, -1)
        out[..., 1:] += out[..., :1]
        out = out * self.targets.scale[:, None] + self.targets.center[:, None]
        return out + windows.differences.continued(z, windows.ahead)[..., None]

    def _walk(
        self, outputs: Outputs, z: Array, covariates: Array, begin: Array, errors: Array
    ) -> Array:
        """Scaled values step by step, (S, n), to each of which its error (S, n) is added."""
        windows, reach = self.windows, self.windows.reach
        scale, center = self.targets.scale, self.targets.center
        path = np.concatenate([z, np.zeros(errors.shape)], axis=1)
        for t in range(errors.shape[1]):
            past = path[:, t : t + reach]
            known = covariates[:, t : t + reach + 1]
            out = outputs(windows.cut(past, known, begin + t, np.array([reach])))
            distance = (out[:, 0] + errors[:, t]) * scale[0] + center[0]
            path[:, reach + t] = distance + windows.differences.continued(past, 1)[:, 0]
        return path[:, reach:]


def with_quantiles(point: Loss, levels: Sequence[float]) -> Loss:
    """The loss of outputs (N, H (1 + Q)): that of the point forecasts and that of the quantiles.

    In each of H groups the first output is the point forecast, p, and the others are how far the
    quantiles lie from it, so that these need not learn for themselves what it depends on. The sum
    of the loss ``point`` of p, and the mean pinball loss of p plus the others.
    """

    def loss(outputs: Array, targets: Array, weight: Array) -> tuple[float, Array]:
        xp = namespace(outputs)
        out = xp.reshape(outputs, (*targets.shape, 1 + len(levels)))
        weight = xp.repeat(weight[:, None], targets.shape[1], axis=1)
        first, dpoint = point(copied(out[..., 0]), targets, weight)
        rest = out[..., 1:] + out[..., :1]
        second, drest = losses.quantile_error(rest, targets, levels, weight)
        dpoint += xp.sum(drest, axis=-1)
        dout = xp.concat([dpoint[..., None], drest], axis=-1)
        return first + second, xp.reshape(dout, outputs.shape)

    return loss


def make_differences(order: int, period: int | None, mode: str) -> tuple[Differences, int | None]:
    """The differences of a `seasonal_mode`, and the period of the phase that goes with steps."""
    differenced = period if mode in ("difference", "both") else None
    return Differences(order, differenced), period if mode in ("phase", "both") else None
