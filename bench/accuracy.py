"""Accuracy of the estimators on real sequences, and fit time, beside the same net in PyTorch.

Every fit is done anew from several seeds; PyTorch starts from the same weights, walks the same
batches for as many epochs, and both take turns. A GRU has its reset after the product, since
PyTorch knows no other. Sets whose files are not there are left out; see `archives`.

python -m bench.accuracy --quick
python -m bench.accuracy --only digits BasicMotions --threads 1
python -m bench.accuracy --all
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.common import clean_process

clean_process()

import numpy as np  # noqa: E402

import fastrnn  # noqa: E402
from bench import archives  # noqa: E402
from bench.adapters import load  # noqa: E402
from bench.common import Times  # noqa: E402
from bench.results import HERE  # noqa: E402
from bench.rows import forced_isa, options, set_threads, show  # noqa: E402
from bench.targets import OURS, Row  # noqa: E402

OTHERS = ["text_accuracy", "forecasting_accuracy"]  # with tables of their own
REST = 0.15  # seconds before a fit, in which the threads of the one before go to sleep


@dataclass(frozen=True)
class Setting:
    """A set, and what an estimator has beside its defaults."""

    data: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 5

    @property
    def label(self) -> str:
        """The set, and what makes the network another than the default one."""
        parts = [self.data]
        for name, shown in [("cell", "{}"), ("bidirectional", "2 directions"), ("pooling", "{}")]:
            if name in self.parameters:
                parts.append(shown.format(self.parameters[name]))
        return ", ".join(parts)


GRU = {"cell": "gru", "reset_after": True, "bidirectional": True}
SETTINGS = [
    # The defaults.
    Setting("JapaneseVowels"),
    Setting("ItalyPowerDemand"),
    Setting("BasicMotions", seeds=10),
    # Other networks.
    Setting("BasicMotions", {**GRU, "pooling": "max", "max_iter": 100}, seeds=10),
    Setting("MNIST-1D", {**GRU, "pooling": "last", "max_iter": 20}),
    Setting("MNIST-1D", {**GRU, "pooling": "max", "max_iter": 20}),
    Setting("digits", {"max_iter": 50}),
]


def row(setting: Setting, split: archives.Split, threads: int, seeds: int) -> Row:
    """Fit from each seed, ours and PyTorch's in turns."""
    times = {OURS: Times()}
    found: dict[str, list[float]] = {OURS: []}
    epochs = []
    for seed in range(seeds):
        model = fastrnn.RNNClassifier(**setting.parameters, random_state=seed, n_threads=threads)
        time.sleep(REST)
        _timed(times[OURS], lambda model=model: model.fit(split.X_train, split.y_train))
        found[OURS].append(model.score(split.X_test, split.y_test))
        epochs.append(model.n_iter_)
        if torch_twin is not None:
            accuracy = _torch(torch_twin, model, split, times.setdefault("torch", Times()))
            found.setdefault("torch", []).append(accuracy)
    measures = {
        "accuracy": statistics.mean(found[OURS]),
        "spread": statistics.pstdev(found[OURS]),
    }
    if "torch" in found:
        measures["torch accuracy"] = statistics.mean(found["torch"])
        measures["torch spread"] = statistics.pstdev(found["torch"])
        measures["torch"] = times[OURS].ratio(times["torch"])
    shape = {"seeds": seeds, "n": len(split.y_train), "epochs": round(np.mean(epochs))}
    medians = {name: one.median for name, one in times.items()}
    dtype = model.layers_["rnn"].dtype.name
    return Row("accuracy", setting.label, shape, threads, medians, measures, dtype, forced_isa())


def _torch(module: Any, model: Any, split: archives.Split, times: Times) -> float:
    """PyTorch's accuracy after as many epochs from the same start."""
    start = module.start_of(model, split.X_train, split.y_train)
    time.sleep(REST)
    twin: Any = None

    def fit() -> None:
        nonlocal twin
        twin = module.Twin(start)
        for _ in range(model.n_iter_):
            twin.epoch()

    _timed(times, fit)
    answers = twin.answers(start.estimator._prepared(split.X_test))
    return float(np.mean(start.estimator._targets.predict(answers) == split.y_test))


def _timed(times: Times, call: Any) -> None:
    begun = time.perf_counter()
    call()
    seconds = time.perf_counter() - begun
    times.calls.append(seconds)
    times.turns.append(seconds)


def rows() -> Iterator[Row]:
    """A row for each setting and number of threads."""
    for setting in SETTINGS:
        if not any(part in setting.label for part in chosen.only):
            continue
        try:
            split = archives.load(setting.data)
        except FileNotFoundError as error:
            print(f"{setting.label} is left out: {error}", file=sys.stderr)
            continue
        for threads in chosen.threads:
            set_threads(threads)
            for adapter in adapters.values():
                adapter.set_threads(threads)
            yield row(setting, split, threads, 1 if chosen.quick else setting.seeds)


if __name__ == "__main__":
    parser: argparse.ArgumentParser = options(__doc__)
    parser.set_defaults(threads=[2])
    parser.add_argument("--only", nargs="+", default=[""], help="parts of the rows' names")
    parser.add_argument("--all", action="store_true", help=f"then run {' and '.join(OTHERS)}")
    chosen = parser.parse_args()
    adapters = load(["torch"])
    torch_twin: Any = None
    if adapters:
        torch_twin = importlib.import_module("bench.torch_twin")
    show(chosen, rows)
    for script in OTHERS if chosen.all else []:
        print(f"\n=== {script}", flush=True)
        subprocess.run([sys.executable, "-m", f"bench.{script}"], check=True, cwd=HERE.parent)
