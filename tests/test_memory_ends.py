"""Where memory ends a call raises MemoryError, leaves nothing behind, and the next one is right.

Each case runs in a process of its own, whose addresses are limited to ever other sizes while a call
is running, so that memory ends at ever other places of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or bool(os.environ.get("FASTRNN_SANITIZE")),
        reason="needs a limit of addresses, and sanitizers take as many as there are",
    ),
]

BASE = """
import copy, gc, resource, sys
import numpy as np
import fastrnn

fastrnn.set_num_threads(2)
rng = np.random.default_rng(0)
PAGE, HARD = resource.getpagesize(), resource.getrlimit(resource.RLIMIT_AS)[1]

def pages(which):
    with open("/proc/self/statm") as file:
        return int(file.read().split()[which]) * PAGE

def bits(arrays):
    return [np.array(array).tobytes() for array in arrays]

def exhaust(make, most, after=lambda made: None, rounds=100):
    "Calls that `make` makes, with at most so many bytes; what ends well must have the same bits."
    expected = bits(make()[0]())
    assert bits(make()[0]()) == expected
    failures, sizes = 0, np.linspace(0, most, rounds).astype(int)
    rng.shuffle(sizes)
    for number, size in enumerate(sizes.tolist()):
        call, made = make()
        resource.setrlimit(resource.RLIMIT_AS, (pages(0) + size, HARD))
        found = None
        try:
            found = call()
        except MemoryError:
            failures += 1
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (HARD, HARD))
        assert found is None or bits(found) == expected
        after(made)
        assert bits(call()) == expected, "what failed cannot be used again"
        del call, made, found
        gc.collect()
        if number == rounds // 4:
            before = pages(1), sys.getallocatedblocks()
    grown = pages(1) - before[0], sys.getallocatedblocks() - before[1]
    assert rounds // 10 < failures < rounds, failures
    assert grown[0] < 3_000_000 and grown[1] < 500, grown
    print(failures)
"""

CASES = {
    "inference": """
base = fastrnn.LSTM(64, 128, 2, bidirectional=True, random_state=0)
x = rng.standard_normal((32, 100, 64)).astype(np.float32)

def make():
    layer = copy.deepcopy(base)  # with memory of its own
    return lambda: [layer(x)[0]], layer

exhaust(make, 14_000_000)
""",
    "training": """
base = fastrnn.GRU(64, 96, 2, bidirectional=True, dropout=0.2, random_state=0)
x = rng.standard_normal((32, 60, 64)).astype(np.float32)
out = fastrnn.Linear(192, 300, random_state=1)
targets = rng.integers(0, 300, (32, 60))

def make():
    layer, output = copy.deepcopy(base), copy.deepcopy(out)
    adam = fastrnn.optim.Adam([layer, output], 0.0)

    def call():
        layer.call_count = 0
        layer.zero_grad(), output.zero_grad()
        y, _, backward = layer.forward(x)
        loss, loss_backward = fastrnn.losses.linear_cross_entropy(output, y, targets)
        dx, _ = backward(loss_backward())
        found = [np.array(one) for one in (dx, *layer.grads.values(), *output.grads.values())]
        fastrnn.clip_grad_norm([layer, output], 1.0)
        adam.step()
        return found
    return call, layer

exhaust(make, 40_000_000)
""",
    "load": """
import os, tempfile
folder = tempfile.TemporaryDirectory()
path = os.path.join(folder.name, "model")
fastrnn.LSTM(300, 700, random_state=0).save(path)

def make():
    return lambda: list(fastrnn.load(path).params.values()), None

exhaust(make, 40_000_000)
""",
    "mapped": """
import os, tempfile
folder = tempfile.TemporaryDirectory()
path = os.path.join(folder.name, "model")
fastrnn.LSTM(300, 700, random_state=0).save(path)

def make():
    return lambda: list(fastrnn.load(path, mmap=True).params.values()), None

exhaust(make, 40_000_000)
""",
    "a pool's step": """
base = fastrnn.LSTM(128, 256, random_state=0)
x = rng.standard_normal((2000, 128)).astype(np.float32)

def make():
    pool = fastrnn.StreamPool(base, capacity=2000)
    keys = pool.open(2000)

    done = []

    def call():
        y = pool.step(keys, x)
        done.append(1)
        return [y]
    return call, (pool, keys, done)

def after(made):
    pool, keys, done = made
    if done:  # else no stream has advanced
        pool.reset(keys)

exhaust(make, 90_000_000, after=after)
""",
    "a pool's room and what waits": """
base = fastrnn.GRU(16, 64, random_state=0)
x = rng.standard_normal((300, 40, 16)).astype(np.float32)

def make():
    pool = fastrnn.StreamPool(base, capacity=4)

    def call():
        keys = []
        try:
            keys = pool.open(60_000)
            for key, rows in zip(keys[::200].tolist(), x):
                pool.submit(key, rows)
            return list(pool.run().values())
        finally:
            if len(keys):
                pool.close(keys)
    return call, pool

def after(pool):
    assert len(pool) == 0 and pool.waiting == 0

exhaust(make, 90_000_000, after=after)
""",
}


@pytest.mark.parametrize("name", CASES)
def test_memory_ends(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(BASE) + textwrap.dedent(CASES[name])],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        # Large pieces go back to the system at once, so that the limit is met by every call.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
