"""How good forecasts are: sunspots, temperatures, airline passengers, beside what anyone can do.

Every fold's forecaster is fitted to what came before it (expanding windows); the last value, the
last season and ridge regressions, whose penalty is chosen by leave-one-out, forecast the same.
"Ridge" sees the forecaster's lags as they are; "ridge, differenced" its lags after its logarithm
and differences, and learns the same distances; "ridge, with phase" also where in the season it is.
MAE, mean and spread over seeds; data in FASTRNN_DATA or ../shared/data.

python -m bench.forecasting_accuracy --quick
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from bench.table import print_table
from fastrnn import Forecaster
from fastrnn.series.differences import Differences, phases

Floats = NDArray[np.float64]

ROOT = Path(__file__).resolve().parent.parent
SEEDS = 5
PENALTIES = np.logspace(-3, 4, 15)


@dataclass(frozen=True)
class Task:
    """A series, the forecaster for it, and the folds of its backtest."""

    file: str
    horizon: int
    period: int
    folds: int
    step: int
    parameters: dict[str, Any] = field(default_factory=dict)


TASKS = {
    # The last ten years; a cycle's length varies too much for its phase to help the network.
    "sunspots": Task(
        "monthly-sunspots.csv",
        12,
        132,
        10,
        12,
        {"window": 48, "batch_size": 64, "max_iter": 10, "learning_rate_init": 0.005,
         "alpha": 0.01, "cell": "gru"},
    ),
    # The last year, week by week.
    "temperatures": Task(
        "daily-min-temperatures.csv",
        7,
        365,
        52,
        7,
        {"window": 36, "strategy": "recursive", "seasonal": 365, "cell": "gru", "hidden_size": 16,
         "batch_size": 64, "max_iter": 10, "learning_rate_init": 0.005},
    ),
    # 144 months are too few for ten folds that do not overlap; 75 are known before the first.
    "airline": Task(
        "airline-passengers.csv",
        12,
        12,
        20,
        3,
        {"window": 36, "strategy": "recursive", "seasonal": 12, "log": True, "differencing": 1,
         "max_iter": 100, "learning_rate_init": 0.005},
    ),
}  # fmt: skip


def read(task: Task) -> Floats:
    """The second column of a file with one line of names."""
    folder = Path(os.environ.get("FASTRNN_DATA") or ROOT.parent / "shared" / "data")
    path = folder / "forecasting" / task.file
    if not path.is_file():
        raise SystemExit(f"{path} is not there: set FASTRNN_DATA to the folder of real data")
    lines = path.read_text(encoding="utf-8").split()[1:]
    return np.array([float(line.split(",")[1]) for line in lines])


def ridge(task: Task, y: Floats, *, differenced: bool = False, phase: bool = False) -> float:
    """MAE of ridge regression on as many lags, an output for each step of the horizon."""
    H, size = task.horizon, int(task.parameters["window"])
    log = differenced and bool(task.parameters.get("log"))
    differences = Differences(task.parameters.get("differencing", 0) if differenced else 0)
    z = np.log(y) if log else y
    lost = differences.reach
    w = differences(z)

    def lags(t: int) -> Floats:
        row = w[t - lost - size : t - lost]
        return np.r_[row, phases(np.array([t]), task.period)[0]] if phase else row

    errors = []
    for end in ends(task, y):
        origins = range(lost + size, end - H + 1)
        X = np.array([lags(t) for t in origins])
        targets = np.array([z[t : t + H] - differences.continued(z[:t], H) for t in origins])
        mean, spread = X.mean(axis=0), X.std(axis=0)
        model = RidgeCV(PENALTIES).fit((X - mean) / spread, targets)
        made = model.predict([(lags(end) - mean) / spread])[0] + differences.continued(z[:end], H)
        errors.append(np.abs((np.exp(made) if log else made) - y[end : end + H]).mean())
    return float(np.mean(errors))


def ends(task: Task, y: Floats) -> list[int]:
    """How many values come before each fold's forecast."""
    last = len(y) - task.horizon
    return [last - (task.folds - 1 - k) * task.step for k in range(task.folds)]


@dataclass
class Comparison:
    """The mean absolute errors of a task: the forecaster's of each seed, and others'."""

    own: list[float]
    others: dict[str, float]
    seconds: float  # a fit

    @property
    def met(self) -> bool:
        """Whether the mean over seeds is below naive, seasonal naive, and ridge on the same lags.

        A season's phase is no lag: the ridge regression that is given it stands there to compare.
        """
        rivals = [error for name, error in self.others.items() if name != "ridge, with phase"]
        return float(np.mean(self.own)) < min(rivals)


def compare(task: Task, seeds: Sequence[int]) -> Comparison:
    """Backtest the forecaster from each seed, and the others once."""
    y = read(task)
    own, begun = [], time.perf_counter()
    for seed in seeds:
        model = Forecaster(task.horizon, random_state=seed, **task.parameters)
        result = model.backtest(y, task.folds, step=task.step, period=task.period)
        own.append(result.mae["forecaster"])
    seconds = (time.perf_counter() - begun) / len(seeds) / task.folds
    others = {
        "naive": result.mae["naive"],
        f"seasonal naive ({task.period})": result.mae["seasonal naive"],
        "ridge": ridge(task, y),
    }
    if task.parameters.get("differencing"):
        others["ridge, differenced"] = ridge(task, y, differenced=True)
    others["ridge, with phase"] = ridge(task, y, differenced=True, phase=True)
    return Comparison(own, others, seconds)


def lines(name: str, seeds: Sequence[int]) -> Iterator[list[str]]:
    """The table's lines of one task."""
    task = TASKS[name]
    found = compare(task, seeds)
    error, spread = f"{np.mean(found.own):.3f}", f"{np.std(found.own):.3f}"
    met = "met" if found.met else "missed"
    about = f"{name}, {task.folds} folds of {task.horizon}"
    yield [about, "fastrnn.Forecaster", error, spread, f"{found.seconds:.2f}", met]
    for other, value in found.others.items():
        yield ["", other, f"{value:.3f}", "", "", ""]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("tasks", nargs="*", choices=[*TASKS, []], default=list(TASKS))
    chosen = parser.parse_args()
    seeds = range(1 if chosen.quick else SEEDS)
    heads = ["series", "forecast", "MAE", "spread", "s a fit", "target"]
    print_table(heads, (row for name in chosen.tasks for row in lines(name, seeds)))


if __name__ == "__main__":
    main()
