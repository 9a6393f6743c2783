"""Mutated ONNX files: each loads, or raises FormatError, soon and with little memory.

    python tests/fuzz_onnx.py --count 100000 --seed 1

An altered weight is still a valid file. What else may happen is a failure, and is printed with the
seed that repeats it: another exception, more than a second of the processor, or an
allocation beyond twice the file's size and a mebibyte.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import fastrnn

SECONDS = 1.0
SLACK = 1 << 20  # bytes
HUGE = [b"\xff\xff\xff\xff\x07", b"\x80\x80\x80\x80\x10", b"\x7f"]  # varints


def models() -> list[bytes]:
    """Valid files of several kinds of layers."""
    layers = [
        fastrnn.LSTM(3, 4, 2, bidirectional=True, initial_state="learned", random_state=0),
        fastrnn.OnnxRecurrent(
            2, 3, kind="LSTM", peepholes=True, clip=1.0, random_state=0,
            activations=["HardSigmoid", "Tanh", "Elu"],
        ),
        fastrnn.Sequential(
            fastrnn.Embedding(7, 3, random_state=0),
            fastrnn.Reversed(fastrnn.GRU(3, 4, reset_after=True, random_state=0)),
            fastrnn.LayerNorm(4),
            fastrnn.RNN(4, 3, nonlinearity="relu", random_state=0),
            fastrnn.Linear(3, 2, random_state=0),
            fastrnn.Activation("softmax"),
        ),
    ]  # fmt: skip
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for layer in layers:
            for inputs in (True, False):
                path = Path(folder) / "model.onnx"
                layer.to_onnx(path, states=inputs, lengths=inputs)
                found.append(path.read_bytes())
    return found


def mutated(model: bytes, rng: np.random.Generator) -> bytes:
    """A file with one to four faults, each of a kind and in a place drawn at random."""
    raw = bytearray(model)
    for _ in range(rng.integers(1, 5)):
        at, size = int(rng.integers(len(raw) + 1)), int(rng.integers(1, 12))
        kind = rng.integers(8)
        if kind == 0:  # a bit
            at = min(at, len(raw) - 1)
            raw[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:  # any byte
            raw[at : at + 1] = rng.bytes(1)
        elif kind == 2:  # the largest numbers
            raw[at : at + size] = b"\xff" * size
        elif kind == 3:  # a huge length or count
            raw[at : at + 1] = HUGE[rng.integers(len(HUGE))]
        elif kind == 4:  # the end cut off
            del raw[max(at, 1) :]
        elif kind == 5:  # something left out
            del raw[at : at + size * int(rng.integers(1, 30))]
        elif kind == 6:  # something twice, elsewhere
            start = int(rng.integers(len(raw) + 1))
            raw[at:at] = raw[start : start + size * int(rng.integers(1, 30))]
        else:  # something in another's place
            start = int(rng.integers(len(raw) + 1))
            raw[at : at + size] = raw[start : start + size]
        if not raw:
            raw = bytearray(b"\0")
    return bytes(raw)


def failures(count: int, seed: int, told: Counter[str]) -> Iterator[str]:
    """What went wrong with so many files; how many loaded and were refused goes to `told`."""
    valid = models()
    names = [None, "LSTM_0", "GRU_0_0", "RNN_1_0"]
    for model in valid:  # and so import what reading needs, whose memory does not count
        fastrnn.from_onnx(model)
    tracemalloc.start()
    try:
        for k in range(count):
            rng = np.random.default_rng([seed, k])
            raw = mutated(valid[int(rng.integers(len(valid)))], rng)
            node = names[int(rng.integers(6)) % 4 if rng.random() < 0.3 else 0]
            tracemalloc.reset_peak()
            before, begin = tracemalloc.get_traced_memory()[0], time.process_time()
            try:
                layer = fastrnn.from_onnx(raw, node)
                told["loaded"] += 1
                del layer
            except fastrnn.FormatError:
                told["refused"] += 1
            except Exception as error:
                yield f"seed {seed}, file {k}: {type(error).__name__}: {error}"
            taken = tracemalloc.get_traced_memory()[1] - before
            if taken > 2 * len(raw) + SLACK:
                yield f"seed {seed}, file {k}: {taken} bytes for a file of {len(raw)}"
            if time.process_time() - begin > SECONDS:
                yield f"seed {seed}, file {k}: {time.process_time() - begin:.1f} s"
    finally:
        tracemalloc.stop()


def main() -> int:
    """Run as a program; the exit status is 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    told: Counter[str] = Counter()
    failed = 0
    for failure in failures(options.count, options.seed, told):
        failed += 1
        print(failure, flush=True)
    print(f"{told['loaded']} loaded, {told['refused']} refused, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
