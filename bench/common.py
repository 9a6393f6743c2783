"""What every benchmark needs: a clean process, a fair clock, and the machine in one line.

Machines are shared and their speed drifts, so candidates take turns within one process and are
compared by ratios of neighbors; a single absolute time says little.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import threadpoolctl

# What limits PyTorch to the instruction set that FASTRNN_ISA limits fastrnn to. onnxruntime and
# OpenVINO cannot all be limited, so they do not take part then.
LIMITED = {"avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}}
NUMBERS = {"family": "cpu family", "model": "model"}  # in /proc/cpuinfo
PACKAGES = ("numpy", "scipy", "torch", "onnxruntime", "openvino")


def clean_process() -> None:
    """Make the environment fit to measure in; call it before anything imports NumPy or PyTorch.

    OPENBLAS_* variables can halve NumPy's products: if there are any, the script starts anew
    without them. With FASTRNN_ISA=avx2 PyTorch gets the same limit.
    """
    os.environ.update(LIMITED.get(os.environ.get("FASTRNN_ISA", ""), {}))
    stray = [name for name in os.environ if name.startswith("OPENBLAS_")]
    if stray:
        for name in stray:
            del os.environ[name]
        sys.stdout.flush()
        os.execv(sys.executable, sys.orig_argv)


@dataclass
class Times:
    """The measured calls of one candidate: all of them, and the median of each turn, in seconds."""

    calls: list[float] = field(default_factory=list)
    turns: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median over all calls."""
        return statistics.median(self.calls)

    def ratio(self, other: Times) -> float:
        """How many times longer `other` takes: the median over turns taken side by side.

        A candidate that took fewer turns took them beside the first ones.
        """
        return statistics.median(b / a for a, b in zip(self.turns, other.turns, strict=False))


def interleave(
    candidates: Mapping[str, Callable[[], object]],
    seconds: float = 0.5,
    turns: int | None = None,
    rare: Collection[str] = (),
    rest: float = 0.01,
    long_rest: float = 0.15,
) -> dict[str, Times]:
    """Time candidates in turns, each turn a call that does not count and then some that do.

    Short calls are repeated at least 35 times in all; calls of less than 20 µs are measured many
    at once, so that the clock's own time does not count.

    Parameters
    ----------
    candidates : mapping of str to callable
        What to time, by name.
    seconds : float
        About how long all turns of one candidate may take, if its calls are short.
    turns : int, optional
        Number of turns of each candidate, by default 7, or 5 where a call takes more than 30 ms;
        every second round runs in the opposite order.
    rare : collection of str
        Candidates that are only reported: they take three turns, or one if a call takes a second.
    rest : float
        Seconds of rest before a turn, in which threads of the candidate before, which spin for a
        while after their work, go to sleep.
    long_rest : float
        The same after a rare candidate: those use OpenBLAS, whose threads spin for 0.1 s.
    """
    times = {name: Times() for name in candidates}
    once = {name: _once(call) for name, call in candidates.items()}
    if turns is None:
        turns = 7 if max(once[name] for name in candidates if name not in rare) < 0.03 else 5
    allowed = {name: 1 if once[name] > 1 else 3 for name in rare if name in candidates}
    before = ""
    for turn in range(turns):
        for name in list(candidates)[:: -1 if turn % 2 else 1]:
            if turn >= allowed.get(name, turns):
                continue
            time.sleep(long_rest if before in rare else rest)
            before = name
            measured = _turn(candidates[name], once[name], seconds / turns)
            times[name].calls += measured
            times[name].turns.append(statistics.median(measured))
    return times


def _once(call: Callable[[], object]) -> float:
    """About how long one call takes."""
    start = time.perf_counter()
    call()
    once = time.perf_counter() - start
    if once > 0.5:
        return once
    start = time.perf_counter()
    call()
    once = time.perf_counter() - start
    if once < 1e-3:
        start = time.perf_counter()
        for _ in range(20):
            call()
        once = (time.perf_counter() - start) / 20
    return once


def _turn(call: Callable[[], object], once: float, seconds: float) -> list[float]:
    """Times of one turn's calls."""
    if once < 0.03:  # wake sleeping threads and fill the caches that this candidate uses
        call()
    inner = 1 if once >= 20e-6 else int(200e-6 / once)
    least = 5 if once < 0.02 else 2 if once < 0.05 else 1
    count = max(least, min(1000, int(seconds / (once * inner))))
    measured = []
    for _ in range(count):
        start = time.perf_counter()
        for _ in itertools.repeat(None, inner):
            call()
        measured.append((time.perf_counter() - start) / inner)
    return measured


def cpu_model() -> str:
    """The processor's name, and its family and model, for many names say little."""
    try:
        first, _, _ = Path("/proc/cpuinfo").read_text().partition("\n\n")
    except OSError:
        return platform.processor() or platform.machine()
    pairs = (line.partition(":") for line in first.splitlines())
    found = {name.strip(): value.strip() for name, _, value in pairs}
    name = found.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{what} {found[key]}" for what, key in NUMBERS.items() if key in found]
    return ", ".join([name, *numbers])


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def blas() -> str:
    """The BLAS libraries that are loaded, with the architecture each of them chose."""
    found = {
        f"{library['internal_api']} {library.get('version')} ({library.get('architecture')})"
        for library in threadpoolctl.threadpool_info()
        if library.get("user_api") == "blas"
    }
    return ", ".join(sorted(found)) or "none loaded"


def versions() -> dict[str, str]:
    """Versions of the packages that are compared, of those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def environment(isa: str) -> dict[str, str]:
    """What a result depends on beside the code: processor, cores, ISA, versions, BLAS."""
    return {
        "cpu": cpu_model(),
        "cores": str(cores()),
        "isa": isa,
        "python": platform.python_version(),
        **versions(),
        "blas": blas(),
    }


def machine(found: Mapping[str, str]) -> str:
    """The line above every table, from what `environment` found."""
    packages = [f"{name} {found[name]}" for name in PACKAGES if name in found]
    return (
        f"{found['cpu']}, {found['cores']} cores, ISA {found['isa']}; "
        f"Python {found['python']}, {', '.join(packages)}; BLAS {found['blas']}"
    )
