"""A Python without the lock: the library does not bring it back, and works from many threads.

Set FASTRNN_FREE_THREADED to the path of such a Python where it has another name than on PATH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from copied_tree import CopiedTree

NAMES = ("python3.14t", "python3.13t")
TESTS = [
    "arenas",
    "fork",
    "layers",
    "locks",
    "memory",
    "prepare",
    "products",
    "same_bits",
    "stream_pool",
    "streams",
    "thread_count",
    "threads",
]
NEEDED = [
    "array-api-strict",
    "cython",
    "hypothesis",
    "numpy",
    "pytest",
    "pytest-timeout",
    "scipy",
    "setuptools",
    "threadpoolctl",
]

# One model for all threads, which begin at once; they share its packed weights and its memory.
EIGHT = """
import sys, threading
import numpy as np
import fastrnn

assert not sys._is_gil_enabled(), "the import of fastrnn brought the lock back"
fastrnn.set_gemm("packed")  # whose bits are promised
model = fastrnn.Sequential(
    fastrnn.Embedding(50, 16), fastrnn.LSTM(16, 48, num_layers=2), fastrnn.Linear(48, 50)
)
model.save(sys.argv[1])
model = fastrnn.load(sys.argv[1])
rng = np.random.default_rng(0)
inputs = [rng.integers(0, 50, (n, 30)) for n in (1, 2, 7, 16)]
expected = [fastrnn.load(sys.argv[1])(x)[0] for x in inputs]
together, wrong, ended = threading.Barrier(8), [], []

def call(first):
    together.wait()
    stream = model.stream(2)
    for i in range(100):
        k = (first + i) % 4
        if not np.array_equal(model(inputs[k])[0], expected[k]):
            wrong.append((first, i))
        if i < 30 and not np.array_equal(stream.step(inputs[1][:, i]), expected[1][:, i]):
            wrong.append((first, "stream", i))
    ended.append(first)

threads = [threading.Thread(target=call, args=(first,)) for first in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert sorted(ended) == list(range(8)), ended
assert not wrong, wrong
assert not sys._is_gil_enabled()
"""


def free_threaded() -> str:
    """The path of a Python that can run without the lock, or a skip."""
    named = os.environ.get("FASTRNN_FREE_THREADED")
    found = named or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        names = " nor ".join(NAMES)
        pytest.skip(f"neither {names} is on PATH, and FASTRNN_FREE_THREADED names no Python")
    return found


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints, in an environment that does not ask for a lock; it must end well."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "PYTHON_GIL"}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name not in hidden},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_without_the_lock(tmp_path: Path) -> None:
    made_by, elsewhere = free_threaded(), tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(made_by, "-m", "venv", tmp_path / "venv", cwd=elsewhere)
    python = tmp_path / "venv" / "bin" / "python"
    asked = "import sysconfig; print(sysconfig.get_config_var('Py_GIL_DISABLED'))"
    assert run(python, "-c", asked, cwd=elsewhere).strip() == "1", f"{made_by} has the lock"

    tree = CopiedTree(tmp_path / "tree").path
    install = (python, "-m", "pip", "install", "-q")
    run(*install, "--only-binary=:all:", *NEEDED, cwd=elsewhere)
    run(*install, "--no-build-isolation", "--no-deps", tree, cwd=elsewhere)

    run(python, "-c", EIGHT, tmp_path / "model.safetensors", cwd=elsewhere)
    modules = [tree / "tests" / f"test_{name}.py" for name in TESTS]
    report = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *modules, cwd=elsewhere)
    assert " passed" in report
