"""From a script's rows to its table, and the options that all scripts share.

Import it after `common.clean_process()`, since it imports NumPy.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import scipy.linalg  # noqa: F401  # loads the BLAS whose threads `set_threads` limits
import threadpoolctl

import fastrnn
from bench.adapters import Candidate
from bench.bounds import Need
from bench.common import Times, environment, machine
from bench.limits import fma_peak, read_bandwidth
from bench.table import cells, heads, table
from bench.targets import OURS, Row, judge_means
from fastrnn._native import chosen_isa

# Candidates that are reported beside the peers, but are none; so is every other way of fastrnn's.
BLAS = "fastrnn blas"
REPORTED = (BLAS, "numpy")


def options(document: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all scripts have."""
    parser = argparse.ArgumentParser(
        description=(document or "").strip().splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=0.2, help="per candidate and row")
    parser.add_argument("--quick", action="store_true", help="few rows, little time for each")
    parser.add_argument("--json", type=Path, help="write rows and environment to this file, too")
    return parser


def forced_isa() -> str:
    """The instruction set that FASTRNN_ISA names, else "default"."""
    return os.environ.get("FASTRNN_ISA") or "default"


def peak(threads: int, dtype: str) -> float:
    """The machine's fused multiply-adds, two operations each, of the instruction set in use.

    Measured beside each row, since the machine's speed drifts; the most of several measurements,
    since what disturbs one makes it less, never more.
    """
    isa = "native" if forced_isa() == "default" else chosen_isa()
    return max(fma_peak(threads, dtype, isa, seconds=0.02) for _ in range(6))


@functools.cache
def bandwidth(threads: int, size: int) -> float:
    """Bytes per second that threads read together of `size` bytes that they share out, at most.

    The most of several measurements in memory of their own, since a second cache is faster for some
    addresses than for others; also of more bytes, since fewer cannot take longer.
    """
    return max(
        read_bandwidth(threads, factor * size // threads, seconds=0.02, turn=turn)
        for factor in (1, 2, 4)
        for turn in (False, True)
        for _ in range(4)
    )


def make_row(
    work: str,
    cell: str,
    shape: Mapping[str, int],
    threads: int,
    times: Mapping[str, Times],
    operations: float | None = None,
    dtype: str = "float32",
    need: Need | None = None,
) -> Row:
    """A row of the usual kind: each candidate against fastrnn, and the shares of peak and bound.

    Parameters
    ----------
    work, cell, shape, threads, dtype
        As in `Row`.
    times : mapping of str to Times
        What `interleave` gave.
    operations : float, optional
        Of one call.
    need : Need, optional
        What the machine has to do at least; only with operations.
    """
    ours = times[OURS]
    measures = {name: ours.ratio(other) for name, other in times.items() if name != OURS}
    peers = [
        ratio
        for name, ratio in measures.items()
        if name not in REPORTED and not name.startswith(OURS)
    ]
    if peers:
        measures["best"] = min(peers)
    if operations is not None:
        rate = peak(threads, dtype)
        measures["peak"] = operations / ours.median / rate
        if need is not None:
            least = need.seconds(rate, functools.partial(bandwidth, threads))
            measures["bound"] = least / ours.median
    medians = {name: found.median for name, found in times.items()}
    return Row(work, cell, dict(shape), threads, medians, measures, dtype, forced_isa())


def same(what: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    """Stop where two results differ: times of different things cannot be compared."""
    # Written so that NaN on either side is a difference.
    if ours.shape != theirs.shape or not (
        np.abs(ours - theirs).max() <= 1e-4 * max(float(np.abs(theirs).max()), 1e-30)
    ):
        raise SystemExit(f"{what}: fastrnn's result is another, so the times mean nothing")


def check(what: str, candidates: Mapping[str, Candidate], calls: int = 1) -> None:
    """Compare the answers of the candidates' first calls with ours."""
    for _ in range(calls):
        answers = {name: c.arrays(c.call()) for name, c in candidates.items()}
        for other, arrays in answers.items():
            for name, array in arrays.items():
                same(f"{what}: {name} of {other}", answers[OURS][name], array)


def with_blas(candidate: Candidate) -> Candidate:
    """The same with the products of BLAS; for a call of which nothing else keeps weights."""

    def call() -> object:
        fastrnn.set_gemm("blas")
        try:
            return candidate.call()
        finally:
            fastrnn.set_gemm("packed")

    return Candidate(call, candidate.arrays)


def set_threads(threads: int) -> None:
    """Let fastrnn, and the BLAS of NumPy and SciPy, use so many threads."""
    fastrnn.set_num_threads(threads)
    threadpoolctl.threadpool_limits(threads, user_api="blas")


def show(chosen: argparse.Namespace, rows: Callable[[], Iterable[Row]]) -> None:
    """Measure, print the table with verdicts and geometric means, and write JSON if asked."""
    found: list[Row] = []
    about: dict[str, str] = {}
    first: Row | None = None
    for row in rows():
        if not found:
            about = environment(chosen_isa())  # now that all libraries are loaded
            print(machine(about))
        if first is None or not set(heads(row)) <= set(heads(first)):
            first = row  # of a table; what has more than it begins another
        lines = list(table(heads(first), [cells(row, first)]))
        print("\n".join(lines[0 if row is first else 2 :]), flush=True)
        found.append(row)
    if not found:
        print("no rows")
        return
    for verdict, count in judge_means(found):
        which = ", ".join(verdict.target.where.get("cell", ["all cells"]))
        print(f"{which}, {verdict.threads} threads, {count} rows: {verdict}")
    sys.stdout.flush()
    if chosen.json:
        kept = {"environment": about, "rows": [dataclasses.asdict(row) for row in found]}
        chosen.json.write_text(json.dumps(kept, indent=1), encoding="utf-8")
