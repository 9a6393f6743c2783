"""The row of a task: the estimator fitted from several seeds, beside PyTorch and other methods."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.common import Times
from bench.rows import forced_isa
from bench.sets import Task
from bench.targets import OURS, Row

__all__ = ["row"]

REST = 0.15  # seconds before a fit, in which the threads of the one before go to sleep


def row(task: Task, threads: int, in_torch: Callable[[Any, int], Any] | None = None) -> Row:
    """Fit from each seed, ours and PyTorch's in turns.

    Parameters
    ----------
    task : Task
    threads : int
        Of ours; PyTorch has been told.
    in_torch : callable, optional
        `bench.torch_twin.in_torch`, where PyTorch is installed.

    Returns
    -------
    Row
        Times are medians of fits.
    """
    times: dict[str, Times] = {}
    found: dict[str, list[float]] = {}
    others: dict[str, list[float]] = {}
    epochs = []

    def fit(name: str, estimator: Any) -> None:
        time.sleep(REST)
        value, seconds = task.fitted(estimator, data)
        found.setdefault(name, []).append(value)
        taken = times.setdefault(name, Times())
        taken.calls.append(seconds)
        taken.turns.append(seconds)

    for seed in range(task.seeds):
        if not seed or task.splits:
            data = task.data(seed)
            for name, value in task.others(data).items():
                others.setdefault(name, []).append(value)
        model = task.make(seed, threads)
        fit(OURS, model)
        epochs.append(getattr(model, "n_iter_", model.max_iter))  # a backtest leaves it as it was
        if in_torch is not None and seed < task.torch_seeds:
            fit("torch", in_torch(model, epochs[-1]))
    beside = {name: statistics.mean(values) for name, values in others.items()}
    mean = statistics.mean(found[OURS])
    measures = {task.measure: mean, "spread": statistics.pstdev(found[OURS])}
    measures |= task.compared(mean, beside)
    if "torch" in found:
        measures[f"torch {task.measure}"] = statistics.mean(found["torch"])
        if len(found["torch"]) > 1:
            measures["torch spread"] = statistics.pstdev(found["torch"])
        measures["torch"] = times[OURS].ratio(times["torch"])
    shape = {"seeds": task.seeds, "torch seeds": len(found.get("torch", ()))}
    shape |= {**task.shape(data), "epochs": round(np.mean(epochs))}
    medians = {name: one.median for name, one in times.items()}
    return Row(
        "accuracy", task.name, shape, threads, medians, measures, task.dtype, forced_isa(), beside
    )
