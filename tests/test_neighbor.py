"""Beside a process that keeps one of two cores occupied, calls take little longer than their share.

Both run in a fresh process that keeps to two cores, one of which the neighbor never leaves.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastrnn import _native

ROOT = Path(__file__).resolve().parent.parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
        reason="needs two cores, and to say which",
    ),
    pytest.mark.skipif(_native.DEBUG, reason="times of a build for debugging say nothing"),
]

# Medians of quiet and of disturbed calls, taken in turns.
CODE = """
import os, signal, statistics, subprocess, sys, time
import numpy as np
cores = sorted(os.sched_getaffinity(0))[:2]
os.sched_setaffinity(0, cores)
import fastrnn

def median(call, n_threads, times):
    with fastrnn.threads(n_threads):
        call()
        end = time.perf_counter() + 0.4
        while time.perf_counter() < end:
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)

large, small = fastrnn.LSTM(512, 512, random_state=0), fastrnn.GRU(256, 256, random_state=0)
x = np.random.default_rng(0).standard_normal((64, 50, 512)).astype(np.float32)

def serve():
    large(x)

def train():
    y, _, backward = small.forward(x[..., :256])
    backward(y)

code = f"import os; os.sched_setaffinity(0, [{cores[1]}])\\nwhile True: pass"
neighbor = subprocess.Popen([sys.executable, "-c", code])
try:
    for call in (serve, train):
        quiet, beside, crowded = [], [], []
        for _ in range(4):
            neighbor.send_signal(signal.SIGSTOP)
            median(call, 2, quiet)
            median(call, 4, crowded)
            neighbor.send_signal(signal.SIGCONT)
            median(call, 2, beside)
        print([statistics.median(times) for times in (quiet, beside, crowded)])
finally:
    neighbor.kill()
    neighbor.wait()
"""


def test_a_busy_neighbor_and_too_many_threads() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        quiet, beside, crowded = ast.literal_eval(line)
        # The targets are 1.9 and 1.3; the machine that tests run on may have neighbors of its own.
        assert beside < 2.8 * quiet, line
        assert crowded < 1.8 * quiet, line
