"""What some code costs a fresh process."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping

PROBE = """
import time
start = time.perf_counter()
{code}
taken = time.perf_counter() - start
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
import json
print(json.dumps([taken, int(status["VmRSS"].split()[0]) * 1024, int(status["Threads"])]))
"""


def measure(code: str) -> list[float]:
    """Seconds that a fresh process takes for some code, and its bytes and threads then."""
    command = [sys.executable, "-c", PROBE.format(code=code)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def medians(codes: Mapping[str, str], turns: int) -> dict[str, list[float]]:
    """The medians of :func:`measure` for each code by its name; processes take turns."""
    found: dict[str, list[list[float]]] = {name: [] for name in codes}
    for _ in range(turns):
        for name, code in codes.items():
            found[name].append(measure(code))
    return {
        name: [statistics.median(column) for column in zip(*values, strict=True)]
        for name, values in found.items()
    }
