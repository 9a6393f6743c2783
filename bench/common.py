"""What every benchmark needs: a clean process, a fair clock, the machine in one line, the ceiling.

Machines are shared and their speed drifts, so candidates take turns within one process and are
compared by ratios of neighbors; a single absolute time says little.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


def clean_process() -> None:
    """Start the script anew without OPENBLAS_* variables, which can halve NumPy's products.

    Call it before anything imports NumPy.
    """
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
        """How many times longer `other` takes: the median over turns taken side by side."""
        return statistics.median(b / a for a, b in zip(self.turns, other.turns, strict=True))


def interleave(
    candidates: Mapping[str, Callable[[], object]], seconds: float = 2.0, turns: int = 7
) -> dict[str, Times]:
    """Time candidates in turns, each turn a call that does not count and then some that do.

    Parameters
    ----------
    candidates : mapping of str to callable
        What to time, by name.
    seconds : float
        About how long all turns of one candidate may take; a turn holds at least two counted calls.
    turns : int
        Number of turns of each candidate; every second round runs in the opposite order.
    """
    times = {name: Times() for name in candidates}
    counts = {}
    for name, call in candidates.items():
        call()
        start = time.perf_counter()
        call()
        once = time.perf_counter() - start
        counts[name] = max(2, min(1000, int(seconds / turns / once) - 1))
    for turn in range(turns):
        names = list(candidates)[:: -1 if turn % 2 else 1]
        for name in names:
            call = candidates[name]
            call()  # wakes sleeping threads and fills the caches this candidate uses
            measured = []
            for _ in range(counts[name]):
                start = time.perf_counter()
                call()
                measured.append(time.perf_counter() - start)
            times[name].calls += measured
            times[name].turns.append(statistics.median(measured))
    return times


class Peak:
    """The rate of float32 or float64 fused multiply-adds on this machine, measured when asked."""

    def __init__(self, dtype: str = "float32") -> None:
        self.rate: Callable[[float, object], float] | None = None
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if compiler is None:
            return
        real = {"float32": "float", "float64": "double"}[dtype]
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / f"peak{sysconfig.get_config_var('SHLIB_SUFFIX') or '.so'}"
            flags = [
                "-O3",
                "-march=native",
                "-ffp-contract=fast",
                "-funroll-loops",
                f"-DREAL={real}",
            ]
            source = Path(__file__).with_name("peak.c")
            command = [compiler, *flags, "-shared", "-fPIC", str(source), "-o", str(library)]
            if subprocess.run(command, check=False).returncode == 0:
                rate = ctypes.CDLL(str(library)).fma_rate
                rate.restype = ctypes.c_double
                rate.argtypes = [ctypes.c_double, ctypes.c_void_p]
                self.rate = rate

    def measure(self, threads: int, seconds: float = 0.2) -> float:
        """Operations per second of `threads` threads together; NaN without a C compiler."""
        if self.rate is None:
            return float("nan")
        rate = self.rate
        rates = [0.0] * threads

        def work(index: int) -> None:
            rates[index] = rate(seconds, ctypes.byref(ctypes.c_double()))

        workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(rates)


def cpu_model() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def blas() -> str:
    """The BLAS libraries that are loaded, with the architecture each of them chose."""
    import threadpoolctl

    found = {
        f"{library['internal_api']} {library.get('version')} ({library.get('architecture')})"
        for library in threadpoolctl.threadpool_info()
        if library.get("user_api") == "blas"
    }
    return ", ".join(sorted(found)) or "no BLAS"


def machine(isa: str, packages: Sequence[str]) -> str:
    """The line above every table: processor, cores, instruction set, versions, BLAS."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{cpu_model()}, {cores} cores, ISA {isa}; Python {platform.python_version()}, {versions}; "
        f"BLAS {blas()}"
    )


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table that is also Markdown, each row as soon as it is there."""
    widths = [max(len(head), 4) for head in heads]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.rjust(w) for c, w in zip(cells, widths, strict=True)) + " |"

    print(line(heads))
    print("|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")
    for row in rows:
        print(line(row), flush=True)
