"""Accuracy of the estimators on real data, and fit time, beside the same net in PyTorch.

Every fit is done anew from several seeds; PyTorch starts from the same weights, walks the same
batches for as many epochs, and both take turns. Sets whose files are not there are left out; see
`bench.sets`.

python -m bench.accuracy --quick
python -m bench.accuracy --only digits BasicMotions --threads 1
python -m bench.accuracy --kinds texts series
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bench.common import clean_process

clean_process()

from bench.adapters import load  # noqa: E402
from bench.fits import row  # noqa: E402
from bench.rows import options, set_threads, show  # noqa: E402
from bench.sets import Task, archives, series, texts  # noqa: E402
from bench.targets import Row  # noqa: E402

KINDS: Mapping[str, Sequence[Task]] = {
    "numbers": archives.TASKS,
    "texts": texts.TASKS,
    "tagging": texts.TAGGING,
    "series": series.TASKS,
}


def rows() -> Iterator[Row]:
    """A row for each task and number of threads."""
    for task in [task for kind in chosen.kinds for task in KINDS[kind]]:
        if not any(part in task.name for part in chosen.only):
            continue
        try:
            task.data(0)
        except FileNotFoundError as error:
            print(f"{task.name} is left out: {error}", file=sys.stderr)
            continue
        for threads in chosen.threads:
            set_threads(threads)
            for adapter in adapters.values():
                adapter.set_threads(threads)
            yield row(task.brief() if chosen.quick else task, threads, in_torch)


if __name__ == "__main__":
    parser: argparse.ArgumentParser = options(__doc__)
    parser.set_defaults(threads=[2])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--only", nargs="+", default=[""], help="parts of the rows' names")
    chosen = parser.parse_args()
    adapters = load(["torch"])
    in_torch: Callable[[Any, int], Any] | None = None
    if adapters:
        in_torch = importlib.import_module("bench.torch_twin").in_torch
    show(chosen, rows)
