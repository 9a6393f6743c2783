"""Model files changed in a million ways: each loads, or raises a FormatError.

    python tests/fuzz_files.py 1000000 [--seed 0] [--minutes 3]

What is changed: single bytes anywhere, ends, the length of the header, names, dtypes, shapes and
offsets in it, and any value of a model's description, most of them with a digest that fits again.
No file may take more than a second of the processor, or memory beyond twice its size and 1 MiB.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import json
import os
import random
import struct
import tempfile
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn
from fastrnn.files import FormatError

SECONDS = 1.0
SLACK = 2**20
LARGEST = 20_000  # bytes of a changed file: of objects that its header becomes, the slack
HOSTILE: list[Any] = [
    0, 1, -1, 2, 3, 7, 255, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64, 10**30,
    1.5, -0.0, 1e300, 1e-300, True, False, None, "", "x", "float64", "lstm", "LSTM", "Sequential",
    "\ud800", "\U0010ffff", [], {}, [0], [[]], [2**62, 2], {"tensor": "x"}, {"tuple": []},
    {"float": "nan"}, {"dict": {}}, "a" * 1000, list(range(50)),
]  # fmt: skip


def make_files(folder: str) -> list[bytes]:
    """One small file of every kind of model."""
    rng = np.random.default_rng(0)
    models: list[Any] = [
        fastrnn.LSTM(2, 3, 2, bidirectional=True, initial_state="learned", random_state=0),
        fastrnn.LSTM(2, 4, proj_size=2, dtype="float64", random_state=0),
        fastrnn.Sequential(
            fastrnn.Embedding(5, 3, random_state=0),
            fastrnn.GRU(3, 2, reset_after=True, random_state=0),
            fastrnn.LayerNorm(2),
            fastrnn.Dropout(0.5, random_state=0),
            fastrnn.Linear(2, 2, random_state=0),
        ),
        fastrnn.Attention(3, 4, random_state=0),
        fastrnn.LanguageModel(hidden_size=3, embedding_dim=2, max_iter=1, random_state=0).fit(
            "to be or not to be " * 8
        ),
        fastrnn.Seq2Seq(hidden_size=3, embedding_dim=2, max_iter=1, random_state=0).fit(
            ["ab", "ba", "aa"], ["b", "a", "c"]
        ),
    ]
    small: dict[str, Any] = {"hidden_size": 3, "max_iter": 1, "random_state": 0}
    try:
        from fastrnn import Forecaster, RNNClassifier, RNNRegressor, SequenceTagger, TextClassifier
    except ImportError:
        pass
    else:
        x, words = rng.standard_normal((6, 4, 2)), [["cat", "sits"], ["dog"]] * 3
        wave = np.sin(np.arange(30.0))
        models += [
            RNNClassifier(**small).fit(x, ["a", "b"] * 3),
            RNNRegressor(pooling="attention", **small).fit(x, x[:, 0]),
            TextClassifier(**small).fit(["cat", "dog"] * 3, [0, 1] * 3),
            SequenceTagger(True, char_hidden_size=2, **small).fit(words, [["N", "V"], ["N"]] * 3),
            Forecaster(horizon=2, window=4, differencing=1, seasonal=3, quantiles=[0.5],
                       strategy="recursive", **small).fit(wave),
        ]  # fmt: skip
    files = []
    for model in models:
        path = os.path.join(folder, "made")
        model.save(path)
        files.append(Path(path).read_bytes())
    return files


def parts(raw: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the arrays' bytes."""
    (n,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + n]), raw[8 + n :]


def joined(header: Any, data: bytes) -> bytes:
    """A file of these, its header as it is."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    return struct.pack("<Q", len(text)) + text + data


def signed(header: dict[str, Any], data: bytes) -> bytes:
    """The same with a digest that fits."""
    metadata = header.pop("__metadata__")
    metadata = {key: metadata[key] for key in sorted(metadata) if key != "sha256"}
    plain = joined({"__metadata__": metadata, **{name: header[name] for name in sorted(header)}},
                   b"")  # fmt: skip
    sha = hashlib.sha256(plain[8:])
    sha.update(data)
    return joined({"__metadata__": {**metadata, "sha256": sha.hexdigest()}, **header}, data)


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a tree with each of its keys."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in list(inner):
        yield tree, key
        if isinstance(value, (dict, list)):
            yield from places(value)


def shaken(tree: Any, rng: random.Random) -> None:
    """Change one value of a tree, or take it away, or put it elsewhere."""
    every = list(places(tree))
    if not every:
        return
    holder, key = rng.choice(every)
    kind = rng.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        other, place = rng.choice(every)
        try:
            holder[key] = copy.deepcopy(other[place])
        except (KeyError, IndexError):
            return
    elif kind == 2 and isinstance(holder, dict):
        holder[rng.choice(["x", "type", "config", "layers", "dict", "tuple"])] = holder.pop(key)
    elif kind == 3 and type(holder[key]) is int:
        holder[key] += rng.choice((-1, 1))
    elif kind == 4 and isinstance(holder[key], list):
        holder[key] = holder[key] * rng.choice((2, 20))
    elif kind == 5:
        for _ in range(rng.choice((3, 60))):
            holder[key] = [holder[key]]
    else:
        holder[key] = copy.deepcopy(rng.choice(HOSTILE))


def bytes_changed(raw: bytes, rng: random.Random) -> bytes:
    changed = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def cut_or_grown(raw: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(raw))
    return rng.choice((raw[:at], raw + rng.randbytes(9), raw[:at] + rng.randbytes(5) + raw[at:],
                       raw[:at] + raw[at + 1 :]))  # fmt: skip


def length_changed(raw: bytes, rng: random.Random) -> bytes:
    (n,) = struct.unpack("<Q", raw[:8])
    lengths = (
        n + 1,
        n - 1,
        0,
        1,
        len(raw),
        10**8,
        10**8 + 1,
        2**63,
        2**64 - 1,
        rng.getrandbits(64),
    )
    return struct.pack("<Q", rng.choice(lengths)) + raw[8:]


def header_changed(raw: bytes, rng: random.Random) -> bytes:
    header, data = parts(raw)
    kind = rng.randrange(6)
    names = [name for name in header if name != "__metadata__"]
    if kind == 0:
        count = rng.choice((1, 100, 300))
        empty = {"dtype": "F32", "shape": [0], "data_offsets": [len(data), len(data)]}
        header |= {f"more.{i}": empty for i in range(count)}
        return signed(header, data)
    if kind == 1 and len(names) > 1:
        one, other = rng.sample(names, 2)
        header[one]["data_offsets"] = header[other]["data_offsets"]
    elif kind == 2 and names:
        entry = header[rng.choice(names)]
        entry["shape"] = rng.choice(([2**62, 4], [2**32, 2**32], [-1], [1] * 40, [2**63, 0], [0]))
    elif kind == 3 and names:
        entry = header[rng.choice(names)]
        entry["shape"] = rng.choice((entry["shape"][::-1], [1, *entry["shape"]]))
        return signed(header, data)
    else:
        shaken(header, rng)
    return joined(header, data)


def description_changed(raw: bytes, rng: random.Random) -> bytes:
    header, data = parts(raw)
    told = json.loads(header["__metadata__"]["model"])
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        shaken(told, rng)
    header["__metadata__"]["model"] = json.dumps(told)
    return signed(header, data)


def text_changed(raw: bytes, rng: random.Random) -> bytes:
    header, data = parts(raw)
    text = list(header["__metadata__"]["model"])
    for _ in range(rng.choice((1, 2, 3))):
        text[rng.randrange(len(text))] = rng.choice('0123456789-.,:[]{}"eE truefalsnN\\u')
    if rng.random() < 0.05:
        text[rng.randrange(len(text))] = rng.choice("[{") * rng.choice((900, 5000))
    header["__metadata__"]["model"] = "".join(text)
    return signed(header, data)


def weights_changed(raw: bytes, rng: random.Random) -> bytes:
    header, data = parts(raw)
    return signed(header, bytes_changed(data, rng) if data else data)


CHANGES: list[Callable[[bytes, random.Random], bytes]] = [
    bytes_changed, cut_or_grown, length_changed, header_changed, description_changed,
    description_changed, text_changed, weights_changed,
]  # fmt: skip


def run(count: int, seed: int = 0, seconds: float = float("inf")) -> Counter[str]:
    """Load so many changed files; how many loaded and how many were refused.

    Raises
    ------
    AssertionError
        For anything else than that, with the number of the file: the seed and it tell the file.
    """
    outcomes: Counter[str] = Counter()
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as home:
        files, path = make_files(home), os.path.join(home, "changed")
        for raw in files:  # whatever is imported and kept once
            Path(path).write_bytes(raw)
            fastrnn.load(path)
        for number in range(40):
            rng = random.Random(number)
            Path(path).write_bytes(description_changed(rng.choice(files), rng))
            with contextlib.suppress(FormatError):  # the message names every class
                fastrnn.load(path)
        started = not tracemalloc.is_tracing()
        if started:
            tracemalloc.start()
        try:
            for number in range(count):
                if time.monotonic() > until:
                    break
                rng = random.Random(f"{seed}.{number}")
                change = rng.choice(CHANGES)
                raw = rng.choice(files)
                changed = change(raw, rng)
                if len(changed) > LARGEST:  # JSON of brackets alone takes far more than its text
                    changed = bytes_changed(raw, rng)
                outcome = loaded(
                    changed,
                    path,
                    bool(number % 2),
                    f"file {number} of seed {seed}, {change.__name__}",
                )
                outcomes[f"{change.__name__}: {outcome}"] += 1
        finally:
            if started:
                tracemalloc.stop()
    return outcomes


def loaded(raw: bytes, path: str, mmap: bool, what: str) -> str:
    """Load one file, read or mapped: what became of it."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # one that is mapped must not be written to
    with open(path, "wb") as file:
        file.write(raw)
    tracemalloc.reset_peak()
    before, begin = tracemalloc.get_traced_memory()[0], time.process_time()
    try:
        fastrnn.load(path, mmap=mmap)
        outcome = "loaded"
    except FormatError:
        outcome = "refused"
    except Exception as error:
        raise AssertionError(f"{what}: expected a FormatError, got {error!r}") from error
    took = time.process_time() - begin
    peak = tracemalloc.get_traced_memory()[1] - before
    limit = 2 * len(raw) + SLACK
    assert took < SECONDS, f"{what}: expected to end within {SECONDS} s, took {took:.2f}"
    assert peak <= limit, f"{what}: expected at most {limit} bytes of memory, got {peak}"
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    begin = time.monotonic()
    outcomes = run(given.count, given.seed, 60 * given.minutes)
    took = time.monotonic() - begin
    for name, count in sorted(outcomes.items()):
        print(f"{count:9} {name}")
    total = sum(outcomes.values())
    print(f"{total:9} files in {took:.0f} s, {total / took:.0f} a second")


if __name__ == "__main__":
    main()
