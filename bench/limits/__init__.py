"""What the machine can do at most: fused multiply-adds per second and bytes read per second.

Both are measured by C that is compiled when it is needed; where there is no compiler, every limit
is NaN and tables show no share of it.

python -m bench.limits
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

HUGE = 2 << 20  # bytes of a huge page
HERE = Path(__file__).parent
REALS = {"float32": "float", "float64": "double"}
FLAGS = {
    "native": ["-march=native"],
    "avx512": ["-mavx512f", "-mfma", "-mprefer-vector-width=512"],
    "avx2": ["-mavx2", "-mfma"],
    "baseline": [],
    "neon": [],
}


@functools.cache
def compiled(source: str, *flags: str) -> ctypes.CDLL | None:
    """One of the C files here as a library, or None after saying why not."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        print("no C compiler (cc, or what CC names): no limits, no shares of them", file=sys.stderr)
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / f"limit{sysconfig.get_config_var('SHLIB_SUFFIX') or '.so'}"
        command = [compiler, "-O3", "-ffp-contract=fast", *flags]
        command += ["-shared", "-fPIC", str(HERE / source), "-o", str(library)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            print(f"{source} does not compile: {done.stderr[:500]}", file=sys.stderr)
            return None
        return ctypes.CDLL(str(library))


def together(work: Callable[[int], float], threads: int) -> float:
    """The sum of `work(index)` of so many threads at once."""
    rates = [0.0] * threads

    def run(index: int) -> None:
        rates[index] = work(index)

    workers = [threading.Thread(target=run, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(rates)


def fma_peak(
    threads: int, dtype: str = "float32", isa: str = "native", seconds: float = 0.1
) -> float:
    """Operations per second of fused multiply-adds on registers, two each."""
    library = compiled("peak.c", *FLAGS[isa], f"-DREAL={REALS[dtype]}")
    if library is None:
        return float("nan")
    rate = library.fma_rate
    rate.restype, rate.argtypes = ctypes.c_double, [ctypes.c_double, ctypes.c_void_p]
    return together(lambda _: rate(seconds, ctypes.byref(ctypes.c_double())), threads)


def read_bandwidth(
    threads: int, size: int, isa: str = "native", seconds: float = 0.1, turn: bool = False
) -> float:
    """Bytes per second that threads read together, each `size` bytes of its own again and again.

    With `turn` every second time from the end, which finds in a nearer cache what fits there.
    """
    library = compiled("bandwidth.c", *FLAGS[isa])
    if library is None:
        return float("nan")
    rate = library.read_rate
    rate.restype = ctypes.c_double
    rate.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_double,
        ctypes.c_void_p,
    ]
    buffers = []
    for _ in range(threads):
        # NumPy asks for huge pages from 4 MiB on. In small ones, which lie anywhere, some of a
        # buffer of half the second cache's size would not find a place in it.
        raw = np.ones(max(size, 4 << 20) + HUGE, np.uint8)
        start = -raw.ctypes.data % HUGE
        buffers.append(raw[start : start + size])

    def work(index: int) -> float:
        sink = ctypes.c_double()
        return rate(buffers[index].ctypes.data, size, turn, seconds, ctypes.byref(sink))

    return together(work, threads)


def cache_sizes() -> dict[str, int]:
    """Bytes of the first core's caches by name, as Linux says them; usual sizes elsewhere."""
    found = {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}
    units = {"K": 1 << 10, "M": 1 << 20}
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        if (folder / "type").read_text().strip() != "Instruction":
            text = (folder / "size").read_text().strip()
            found[f"L{(folder / 'level').read_text().strip()}"] = int(text[:-1]) * units[text[-1]]
    return found


def read_sizes() -> dict[str, int]:
    """How much each thread reads to find the bandwidth of each level, half of two cores' share."""
    caches = cache_sizes()
    # More than two of the level before, so that nothing of it is found there.
    return {
        "L1": caches["L1"] // 2,
        "L2": caches["L2"] // 2,
        "L3": max(3 * caches["L2"], caches["L3"] // 8),
        "DRAM": 4 * caches["L3"],
    }
