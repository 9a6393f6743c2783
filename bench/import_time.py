"""What `import fastrnn` costs beyond NumPy's own import: time, memory, threads; and its size.

Fresh processes take turns; the medians are of their own clocks and of /proc/self/status.

python -m bench.import_time --quick
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.common import clean_process

clean_process()

import fastrnn  # noqa: E402
from bench.rows import options, show  # noqa: E402
from bench.targets import Row  # noqa: E402

PROBE = """
import time
start = time.perf_counter()
import {package}
taken = time.perf_counter() - start
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
import json
print(json.dumps([taken, int(status["VmRSS"].split()[0]) * 1024, int(status["Threads"])]))
"""
# What a wheel holds; an in-place build has other files beside it.
SUFFIXES = {".py", ".pyi", ".pxd", ".so", ".typed"}


def measure(package: str) -> list[float]:
    """Seconds, bytes and threads of a process that imports a package."""
    command = [sys.executable, "-c", PROBE.format(package=package)]
    found: list[float] = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout
    )
    return found


def package_size() -> int:
    """Bytes of the package's files, with the bytecode that installing writes beside them."""
    folder = Path(fastrnn.__file__).parent
    files = [path for path in folder.iterdir() if path.suffix in SUFFIXES]
    tag = sys.implementation.cache_tag
    files += folder.glob(f"__pycache__/*.{tag}.pyc")
    return sum(path.stat().st_size for path in files)


def rows(chosen: argparse.Namespace) -> Iterator[Row]:
    """One row; the peers' import times beside it."""
    packages = ["numpy", "fastrnn"]
    found: dict[str, list[list[float]]] = {package: [] for package in packages}
    for _ in range(3 if chosen.quick else 31):
        for package in packages:
            found[package].append(measure(package))
    medians = {
        package: [statistics.median(column) for column in zip(*values, strict=True)]
        for package, values in found.items()
    }
    beyond = [b - a for a, b in zip(medians["numpy"], medians["fastrnn"], strict=True)]
    measures = {
        "NumPy ms": medians["numpy"][0] * 1e3,
        "ms beyond NumPy": beyond[0] * 1e3,
        "MB beyond NumPy": beyond[1] / 1e6,
        "threads started": beyond[2],
        "package, MB": package_size() / 1e6,
    }
    times = {"fastrnn": medians["fastrnn"][0]}
    yield Row("import_time", "import", {}, 1, times, measures)


if __name__ == "__main__":
    chosen = options(__doc__).parse_args()
    show(chosen, lambda: rows(chosen))
