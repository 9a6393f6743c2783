"""Calls of 20 ms and more on two threads while another process keeps one of the cores occupied.

The neighbor is pinned to one core and is stopped and let go in turns, so that quiet and disturbed
times are neighbors, too. The last rows ask for twice as many threads as there are cores.

python -m bench.busy_neighbor --quick
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping

from bench.common import clean_process

clean_process()

import fastrnn  # noqa: E402
from bench.adapters import Candidate, load  # noqa: E402
from bench.common import Times, cores, interleave  # noqa: E402
from bench.layers import Case, inference, training  # noqa: E402
from bench.rows import check, make_row, options, set_threads, show  # noqa: E402
from bench.targets import OURS, Row  # noqa: E402

TRAINED = [Case("lstm", 20, 35, 650, 650), Case("gru", 64, 50, 256, 256)]
SERVED = [Case("lstm", 64, 50, 512, 512)]
SPIN = "import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"


class Neighbor:
    """Another process that computes on one core as long as it may."""

    def __init__(self) -> None:
        core = max(os.sched_getaffinity(0))
        self.process = subprocess.Popen([sys.executable, "-c", SPIN.format(core=core)])
        self.process.send_signal(signal.SIGSTOP)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Let it compute."""
        self.process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


def candidates(case: Case, trained: bool) -> dict[str, Candidate]:
    """Ours and PyTorch's, where that is installed."""
    layer, x, dy = case.layer(), case.rows(case.D), case.rows(case.H, seed=1)
    found = {OURS: training(layer, x, dy) if trained else inference(layer, x)}
    if "torch" in adapters:
        from bench.adapters import pytorch

        found["torch"] = pytorch.training(layer, x, dy) if trained else pytorch.sequences(layer, x)
    return found


def disturbed(neighbor: Neighbor, case: Case, trained: bool, rounds: int) -> Row:
    """Times beside a busy neighbor over quiet ones."""
    set_threads(2)
    for adapter in adapters.values():
        adapter.set_threads(2)
    found = candidates(case, trained)
    check(str(case), found)
    calls = {name: c.call for name, c in found.items()}
    quiet = {name: Times() for name in calls}
    busy = {name: Times() for name in calls}
    for _ in range(rounds):
        extend(quiet, interleave(calls, chosen.seconds / rounds, turns=1))
        with neighbor.busy():
            extend(busy, interleave(calls, chosen.seconds / rounds, turns=1))
    shape = {**case.shape, "backward": int(trained), "neighbors": 1}
    row = make_row("busy_neighbor", case.cell, shape, 2, busy)
    row.measures["time / quiet"] = quiet[OURS].ratio(busy[OURS])
    for name in adapters:
        row.measures[f"{name} time / quiet"] = quiet[name].ratio(busy[name])
    return row


def extend(times: Mapping[str, Times], more: Mapping[str, Times]) -> None:
    """Append what was measured."""
    for name, found in more.items():
        times[name].calls += found.calls
        times[name].turns += found.turns


def crowded(case: Case, trained: bool) -> Row:
    """Twice as many threads as cores over as many as cores."""
    call = candidates(case, trained)[OURS].call

    def on(threads: int) -> Callable[[], object]:
        def limited() -> object:
            with fastrnn.threads(threads):
                return call()

        return limited

    few = f"{OURS} {cores()} threads"
    times = interleave({OURS: on(2 * cores()), few: on(cores())}, chosen.seconds)
    shape = {**case.shape, "backward": int(trained), "neighbors": 0}
    row = make_row("busy_neighbor", case.cell, shape, 2 * cores(), times)
    row.measures["time / two threads"] = 1 / row.measures[few]
    return row


def rows() -> Iterator[Row]:
    """All cases beside a neighbor, then all with too many threads."""
    work = [(case, True) for case in TRAINED] + [(case, False) for case in SERVED]
    work = work[:1] if chosen.quick else work
    neighbor = Neighbor()
    try:
        for case, trained in work:
            yield disturbed(neighbor, case, trained, rounds=2 if chosen.quick else 6)
    finally:
        neighbor.end()
    for case, trained in work:
        yield crowded(case, trained)


if __name__ == "__main__":
    parser: argparse.ArgumentParser = options(__doc__)
    parser.set_defaults(seconds=1.5)
    chosen = parser.parse_args()
    adapters = load(["torch"])
    show(chosen, rows)
