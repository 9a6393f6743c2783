"""What training keeps, what inference takes beside its output, and what many calls leave behind.

Every number is the growth of the resident memory of a fresh process, in megabytes of 10^6 bytes.
Large arrays lie in pages of 2 MB, which are resident as wholes: finer than that it cannot be told
here. `tests/test_arenas.py` counts bytes.

* Kept: by ``forward`` until ``backward`` is called, its output included, over the README's formula:
  for every step 4 H gates, c and h of LSTM, 3 H gates, the candidate's recurrent sum and h of GRU,
  the state and h of RNN, and the vector by which rows of these widths are longer.
* Growth with T: how much more a call without gradients takes at its peak for 4 T steps than for T,
  less the growth of its output.
* Growth over calls: of 10,000 calls of mixed shapes, with gradients and without, after the first
  3,000; the heap sways by about a megabyte.

python -m bench.memory --quick
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator

from bench.common import clean_process

clean_process()

import numpy as np  # noqa: E402

from bench.layers import Case  # noqa: E402
from bench.rows import options, set_threads, show  # noqa: E402
from bench.targets import Row  # noqa: E402
from fastrnn import _native  # noqa: E402

# Numbers for each unit and step: gates, what the README names further, and the output.
KEPT = {"lstm": 6, "gru": 5, "rnn": 2}
CASE = {"N": 32, "T": 800, "D": 64, "H": 256}
SMALL = {"N": 2, "T": 3, "D": 64, "H": 256}


def resident(what: str = "VmRSS") -> int:
    """Bytes of memory of this process that are there, or with "VmHWM" that were at most."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(what + ":"):
                return int(line.split()[1]) * 1024
    raise OSError(f"no {what} in /proc/self/status")


def kept(cell: str) -> float:
    """Bytes kept by a forward pass over those of the formula."""
    case = Case(cell, **CASE)
    layer, x = case.layer(), case.rows(case.D)
    small = Case(cell, **SMALL).rows(case.D)
    layer.forward(small)[2](np.zeros((2, 3, case.H), np.float32))
    before = resident()
    result = layer.forward(x)
    taken = resident() - before
    assert result[0].shape == (case.N, case.T, case.H)
    numbers = KEPT[cell] * case.H + _native.lanes(4)
    return taken / (numbers * case.N * case.T * 4)


def growth_with_steps(cell: str) -> float:
    """Megabytes beside the output that four times the steps take more."""
    case = Case(cell, **CASE)
    layer = case.layer()
    x = np.repeat(case.rows(case.D), 4, axis=1)
    peaks = []
    for T in (case.T, 4 * case.T):
        before = resident()
        # Writing 5 there makes the highest value begin anew.
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
        y, _ = layer(x[:, :T])
        peaks.append(resident("VmHWM") - before - y.nbytes)
        del y
        gc.collect()
    return (peaks[1] - peaks[0]) / 1e6


def growth_over_calls(cell: str, calls: int = 10_000) -> float:
    """Megabytes that calls of mixed shapes leave behind."""
    case = Case(cell, 1, 1, 16, 24)
    layer = case.layer()
    rng = np.random.default_rng(0)
    begun = 0
    for number in range(calls):
        if number == calls // 3:
            gc.collect()
            begun = resident()
        N, T = rng.integers(1, 24, 2)
        x = rng.standard_normal((N, T, 16), dtype=np.float32)
        if number % 2:
            layer(x)
        else:
            y, _, backward = layer.forward(x)
            backward(y)
    gc.collect()
    return (resident() - begun) / 1e6


MEASURES: dict[str, Callable[[str], float]] = {
    "kept / formula": kept,
    "growth with T, MB": growth_with_steps,
    "growth over calls, MB": growth_over_calls,
}


def rows(chosen: argparse.Namespace) -> Iterator[Row]:
    """A row for each cell and number of threads; each number is from a process of its own."""
    for threads in chosen.threads:
        for cell in ["lstm"] if chosen.quick else ["lstm", "gru", "rnn"]:
            measures = {}
            for name in MEASURES:
                command = [sys.executable, "-m", "bench.memory", "--measure", name, cell]
                command += ["--threads", str(threads)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                measures[name] = float(json.loads(done.stdout))
            yield Row("memory", cell, CASE, threads, {}, measures)


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "CELL"), help="one number, as JSON")
    chosen = parser.parse_args()
    if chosen.measure:
        set_threads(chosen.threads[0])
        name, cell = chosen.measure
        print(json.dumps(MEASURES[name](cell)))
    else:
        show(chosen, lambda: rows(chosen))
