"""Fitted forecasters in files and out of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn.files import FormatError
from fastrnn.sequences.data import Channels
from fastrnn.sequences.targets import Quantities
from fastrnn.series.differences import Differences, Scale, Windows
from fastrnn.series.forecasting import Forecasting, History
from fastrnn.series.serving import Forecasts
from fastrnn.serving.stored import (
    Described,
    Front,
    Tensors,
    describe_network,
    expect,
    network_dtype,
    read_network,
)

__all__ = ["describe_forecasts", "read_forecasts"]

LARGEST_ORDER = 1000  # of differences: beyond that their weights are no longer finite


def describe_forecasts(forecasts: Forecasts, made_with: Mapping[str, Any]) -> Described:
    """All that forecasts, for a file."""
    told, tensors = describe_network(forecasts.network, made_with)
    model, tails = forecasts.model, forecasts.tails
    windows = model.windows
    told["windows"] = {
        "size": windows.size,
        "order": windows.differences.order,
        "period": windows.differences.period,
        "phase": windows.period,
        "skip": windows.skip,
    }
    told["forecasts"] = {
        "alone": forecasts.alone,
        "steps": forecasts.steps,
        "width": forecasts.width,
        "log": model.scales[0].log,
        "levels": list(model.levels),
        "recursive": model.recursive,
        "seed": model.seed,
        "scaled": model.covariates is not None,
    }
    tensors |= {
        "series.center": np.array([scale.center for scale in model.scales], np.float64),
        "series.spread": np.array([scale.spread for scale in model.scales], np.float64),
        "series.begin": np.array([tail.begin for tail in tails], np.int64),
        "series.values": np.stack([tail.z for tail in tails]),
        "series.covariates": np.stack([tail.covariates for tail in tails]),
        "targets.center": model.targets.center,
        "targets.scale": model.targets.scale,
        "residuals": np.asarray(model.residuals, np.float64),
    }
    if model.covariates is not None:
        tensors["channels.mean"] = np.asarray(model.covariates.mean, np.float64)
        tensors["channels.scale"] = np.asarray(model.covariates.scale, np.float64)
    return told, tensors


def read_forecasts(told: Mapping[str, Any], tensors: Tensors, n_threads: int | None) -> Forecasts:
    """All that forecasts, out of a file: what `describe_forecasts` has told."""
    about = expect(told, "forecasts", dict)
    center, spread = tensors.take("series.center", 1), tensors.take("series.spread", 1)
    begin = tensors.take("series.begin", 1, np.int64)
    z, covariates = tensors.take("series.values", 2), tensors.take("series.covariates", 3)
    S, reach = z.shape
    alone, width = expect(about, "alone", bool), expect(about, "width", int, optional=True)
    shapes = (center.shape, spread.shape, begin.shape, covariates.shape)
    if shapes != ((S,), (S,), (S,), (S, reach, width or 0)) or not S or (alone and S > 1):
        raise FormatError(f"series: expected {S} of them, of {reach} values, got shapes {shapes}")
    targets = tensors.take("targets.center", 1), tensors.take("targets.scale", 1)
    if targets[0].shape != targets[1].shape:
        raise FormatError("targets: expected as many scales as centers")
    recursive, levels = expect(about, "recursive", bool), expect(about, "levels", list)
    residuals = tensors.take("residuals", 1)
    _check_levels(levels, recursive, len(residuals))
    known = None
    if expect(about, "scaled", bool):
        known = Channels(tensors.take("channels.mean", 1), tensors.take("channels.scale", 1))
        if not len(known.mean) == len(known.scale) == width:
            raise FormatError(f"channels: expected {width} of them, got {len(known.mean)}")
    windows = _read_windows(told, reach, len(targets[0]))
    if recursive and windows.ahead != 1:
        raise FormatError(f"targets: expected 1 of a recursive forecaster, got {windows.ahead}")
    seed, steps = expect(about, "seed", int), expect(about, "steps", int)
    if not 0 <= seed < 2**63 or steps < 1 or (steps > windows.ahead and not recursive):
        raise FormatError(f"forecasts: expected a seed and steps, got {seed} and {steps}")
    log = expect(about, "log", bool)
    scales = [
        Scale(one, other, log) for one, other in zip(center.tolist(), spread.tolist(), strict=True)
    ]
    model = Forecasting(
        windows, scales, known, Quantities(*targets, False), levels, recursive, residuals, seed
    )
    inner, beside = windows.widths(width or 0)
    front = Front(inner, {}, lambda layers: windows, beside, windows.beside)
    network = read_network(told, tensors.rest(), front, model.n_outputs)
    tails = [History(*one) for one in zip(z, covariates, begin.tolist(), strict=True)]
    return Forecasts(model, network, tails, alone, steps, width, n_threads)


def _read_windows(told: Mapping[str, Any], reach: int, ahead: int) -> Windows:
    about = expect(told, "windows", dict)
    size, order = expect(about, "size", int), expect(about, "order", int)
    period, phase = (expect(about, key, int, optional=True) for key in ("period", "phase"))
    if not 0 <= order <= LARGEST_ORDER or min(size, ahead) < 1:
        raise FormatError(f"windows: expected a size and an order, got {about!r:.80}")
    if any(one is not None and one < 2 for one in (period, phase)):
        raise FormatError(f"windows: expected periods of at least 2, got {about!r:.80}")
    if size + order + (period or 0) != reach:  # before anything as long as that is made
        raise FormatError(f"windows: expected to reach over {reach} values, got {about!r:.80}")
    differences = Differences(order, period)
    skip = expect(about, "skip", bool)
    return Windows(size, ahead, differences, phase, network_dtype(told), skip)


def _check_levels(levels: list[Any], recursive: bool, n_residuals: int) -> None:
    fits = all(type(level) is float and 0 < level < 1 for level in levels)
    if not fits or levels != sorted(set(levels)):
        raise FormatError(f"levels: expected numbers in increasing order, got {levels!r:.80}")
    if recursive and levels and not n_residuals:
        raise FormatError("residuals: expected some for the quantiles, got none")
