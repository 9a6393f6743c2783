"""Code in a process of its own, which no other test and nothing in the environment has prepared."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap


def run(code: str, *, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own, free of what the environment says of threads."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FASTRNN_") and name != "OMP_NUM_THREADS"
    }
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**kept, **environment},
        timeout=timeout,
        check=False,
    )


def output(code: str, *, timeout: float = 60, **environment: str) -> str:
    done = run(code, timeout=timeout, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
