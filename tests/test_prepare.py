"""Workers that are forked after ``prepare()`` share the weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells what processes share"
)

CODE = """
import os, sys, warnings
import numpy as np
import fastrnn

warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
fastrnn.set_gemm("packed")
fastrnn.set_num_threads(2)
if sys.argv[1] == "layer":
    model = fastrnn.LSTM(800, 800, 3, random_state=0)
    x = np.ones((3, 4, 800), np.float32)
    answer = lambda: model(x)[0]
    layers = [model]
else:
    model = fastrnn.Predictor.load(sys.argv[2])
    x = np.ones((3, 4, 2), np.float32)
    answer = lambda: model.transform(x)
    layers = list(model.layers_.values())
model.prepare()
expected = answer().tobytes()
weights = sum(param.nbytes for layer in layers for param in layer.params.values())


def private():
    with open("/proc/self/smaps_rollup") as file:
        found = dict(line.split()[:2] for line in file.readlines()[1:])
    return 1024 * (int(found["Private_Dirty:"]) + int(found["Private_Clean:"]))


children = []
for _ in range(3):
    reads, writes = os.pipe()
    held_reads, held_writes = os.pipe()
    pid = os.fork()
    if not pid:
        same = all(answer().tobytes() == expected for _ in range(2))
        os.write(writes, f"{private()} {int(same)}".encode())
        os.read(held_reads, 1)  # all live at once: what one ends with would else be another's
        os._exit(0)
    children.append((pid, reads, held_writes))
for _, reads, _ in children:
    own, same = map(int, os.read(reads, 99).split())
    print(own, weights, same, flush=True)
for pid, _, held_writes in children:
    os.write(held_writes, b".")
    os.waitpid(pid, 0)
"""


def added_by_workers(*arguments: str) -> list[float]:
    """Memory of each worker's own as a part of the weights' size."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    rows = [list(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(rows) == 3
    assert all(same for *_, same in rows), "a worker answers with other bits"
    return [own / weights for own, weights, _ in rows]


def test_workers_of_a_layer_add_little() -> None:
    added = added_by_workers("layer")
    assert max(added) < 0.2, added


def test_workers_of_a_predictor_add_little(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    import numpy as np

    from fastrnn import RNNRegressor

    path = tmp_path / "model"
    x = np.ones((2, 2, 2), np.float32)
    RNNRegressor(hidden_size=1700, max_iter=1, random_state=0).fit(x, [0.0, 1.0]).save(path)
    assert os.path.getsize(path) > 40e6
    added = added_by_workers("predictor", str(path))
    assert max(added) < 0.2, added
