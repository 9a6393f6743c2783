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
{code}
taken = time.perf_counter() - start
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
import json
print(json.dumps([taken, int(status["VmRSS"].split()[0]) * 1024, int(status["Threads"])]))
"""
NUMPY, OURS = "import numpy", "import fastrnn"
# Some of fastrnn is imported when it is first used.
LAYER = "import fastrnn; fastrnn.LSTM(8, 8)"
# What a wheel holds; an in-place build has other files beside it.
SUFFIXES = {".py", ".pyi", ".pxd", ".so", ".typed"}


def measure(code: str) -> list[float]:
    """Seconds that a fresh process takes for some code, and its bytes and threads then."""
    command = [sys.executable, "-c", PROBE.format(code=code)]
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
    """One row."""
    found: dict[str, list[list[float]]] = {code: [] for code in (NUMPY, OURS, LAYER)}
    for _ in range(3 if chosen.quick else 31):
        for code, values in found.items():
            values.append(measure(code))
    numpy, ours, layer = (
        [statistics.median(column) for column in zip(*values, strict=True)]
        for values in found.values()
    )
    measures = {
        "NumPy ms": numpy[0] * 1e3,
        "ms beyond NumPy": (ours[0] - numpy[0]) * 1e3,
        "with a layer": (layer[0] - numpy[0]) * 1e3,
        "MB beyond NumPy": (ours[1] - numpy[1]) / 1e6,
        "threads started": ours[2] - numpy[2],
        "package, MB": package_size() / 1e6,
    }
    yield Row("import_time", "import", {}, 1, {"fastrnn": ours[0]}, measures)


if __name__ == "__main__":
    chosen = options(__doc__).parse_args()
    show(chosen, lambda: rows(chosen))
