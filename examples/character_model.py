"""Train a character model on real text, measure it against a trigram, and let it write.

The text is that of ``pydoc_data.topics``, the help pages that lie in every Python, or with
``--text FILE`` one of your own. The last tenth is held out: after each epoch the example prints how
many bits a character of it costs the model, beside what an interpolated trigram needs. Then it
saves the model, loads it in a fresh process, and writes 300 characters as they come. In the folder
``--out`` lie at the end the model and its learning curve as a PNG (with matplotlib).

    python examples/character_model.py
    python examples/character_model.py --text shakespeare.txt --minutes 10 --epochs 40
"""

from __future__ import annotations

import argparse
import importlib
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn
from fastrnn import LanguageModel

NATS_PER_BIT = math.log(2)


class Trigram:
    """A character's probability from counts of it after the two, one and no characters before it.

    p(c | a b) = w3 n(abc) / n(ab) + w2 n(bc) / n(b) + w1 n(c) / n + w0 / V, with V known characters
    and one unknown. The weights are those under which the last tenth of the text is most likely,
    found by expectation maximization with counts of the rest (Jelinek and Mercer, 1980); the counts
    are then those of the whole text.
    """

    def __init__(self, text: str) -> None:
        self.codes = {c: i for i, c in enumerate(sorted(set(text)), start=1)}
        ids = self._encode(text)
        rest = len(ids) - max(1, len(ids) // 10)
        self._count(ids[:rest])
        orders = self._orders(ids[rest:])
        self.weights = np.full(4, 0.25)
        for _ in range(50):
            shares = orders * self.weights
            shares /= shares.sum(axis=1, keepdims=True)
            self.weights = shares.mean(axis=0)
        self._count(ids)

    def bits_per_character(self, text: str) -> float:
        """The mean of -log2 p(c | a b) over a text."""
        return float(-np.log2(self._orders(self._encode(text)) @ self.weights).mean())

    def _encode(self, text: str) -> np.ndarray:
        return np.array([self.codes.get(c, 0) for c in text], dtype=np.int64)

    def _grams(self, ids: np.ndarray, n: int) -> np.ndarray:
        """Each character with the n - 1 before it, as one number; zeros before the first."""
        before = np.concatenate([np.zeros(n - 1, np.int64), ids])
        size, grams = len(self.codes) + 1, np.zeros(len(ids), np.int64)
        for i in range(n):
            grams = grams * size + before[i : i + len(ids)]
        return grams

    def _count(self, ids: np.ndarray) -> None:
        self.n = len(ids)
        self.counts = {n: np.unique(self._grams(ids, n), return_counts=True) for n in (1, 2, 3)}

    def _look_up(self, n: int, grams: np.ndarray) -> np.ndarray:
        known, counts = self.counts[n]
        place = np.minimum(np.searchsorted(known, grams), len(known) - 1)
        return np.where(known[place] == grams, counts[place], 0)

    def _orders(self, ids: np.ndarray) -> np.ndarray:
        """The four probabilities of each character, (len(ids), 4)."""
        size = len(self.codes) + 1
        columns = [np.full(len(ids), 1 / size), self._look_up(1, ids) / self.n]
        for n in (2, 3):
            grams = self._grams(ids, n)
            contexts = np.maximum(self._look_up(n - 1, self._contexts(ids, n)), 1)
            columns.append(self._look_up(n, grams) / contexts)
        return np.stack(columns, axis=1)

    def _contexts(self, ids: np.ndarray, n: int) -> np.ndarray:
        """What comes before each character, as a gram of n - 1."""
        return self._grams(np.concatenate([[0], ids[:-1]]), n - 1)


class Report:
    """Prints a line after each epoch, and ends training when the time is up."""

    def __init__(self, trigram: float, seconds: float) -> None:
        self.trigram, self.seconds = trigram, seconds
        self.begun = time.perf_counter()
        self.times: list[float] = []
        self.bits: list[float] = []

    def __call__(self, state: Any) -> bool:
        """After each epoch; a true answer ends training."""
        self.times.append(time.perf_counter() - self.begun)
        self.bits.append(state.history["validation_loss"][-1] / NATS_PER_BIT)
        print(
            f"epoch {state.epoch:3d}  {self.times[-1]:6.1f} s  "
            f"held out {self.bits[-1]:.3f} bits per character, "
            f"{self.trigram - self.bits[-1]:+.3f} below the trigram's {self.trigram:.3f}",
            flush=True,
        )
        return self.times[-1] >= self.seconds

    def after_step(self, state: Any) -> bool:
        """After each step: an epoch must not go on for long when the time is up."""
        return time.perf_counter() - self.begun >= self.seconds


def topics() -> str:
    """The help pages of this Python."""
    pages: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    return "\n\n".join(pages.values())


def draw(path: Path, report: Report, training: Sequence[float]) -> None:
    """The learning curve."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no learning curve: matplotlib is not installed")
        return
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    epochs = range(1, len(report.bits) + 1)
    axes.plot(epochs, report.bits, "o-", label="held out")
    bits = [loss / NATS_PER_BIT for loss in training[: len(report.bits)]]
    axes.plot(epochs, bits, ".--", label="training")
    axes.axhline(report.trigram, color="gray", label="interpolated trigram, held out")
    axes.set(xlabel="epoch", ylabel="bits per character", title="A character model's learning")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    print(f"the learning curve is {path}")


def write(path: Path, length: int, temperature: float) -> None:
    """Load a model and print what it writes, each character as soon as it is drawn."""
    model = fastrnn.load(path)
    pieces = model.generate(length, "\n\n", temperature=temperature, seed=0, stream=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def main() -> None:
    """Train, measure, save, load, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--text", type=Path, help="a text file instead of Python's help pages")
    parser.add_argument("--out", type=Path, default=Path("character_model"), help="folder to write")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=1.8, help="training ends after so many")
    parser.add_argument("--hidden", type=int, default=400, help="units of the LSTM")
    parser.add_argument("--quick", action="store_true", help="a small model on a part of the text")
    parser.add_argument("--write", type=Path, metavar="MODEL", help="only load MODEL and write")
    parser.add_argument("--length", type=int, default=300, help="characters to write")
    parser.add_argument("--temperature", type=float, default=0.7)
    options = parser.parse_args()
    if options.write is not None:
        write(options.write, options.length, options.temperature)
        return

    text = topics() if options.text is None else options.text.read_text(encoding="utf-8")
    if options.quick:
        text, options.hidden, options.epochs = text[:40_000], 64, 2
    held_out = len(text) - len(text) // 10
    trigram = Trigram(text[:held_out]).bits_per_character(text[held_out:])
    print(f"{len(text):,} characters, the last {len(text) - held_out:,} held out")
    report = Report(trigram, 60 * options.minutes)
    model = LanguageModel(
        hidden_size=options.hidden,
        embedding_dim=64,
        dropout=0.1,
        batch_size=32,
        tbptt_steps=64,
        learning_rate_init=0.004,
        learning_rate="cosine",
        max_iter=options.epochs,
        max_grad_norm=1.0,
        callbacks=report,
        random_state=0,
    )
    model.fit(text[:held_out], eval_text=text[held_out:])
    exact = -model.score(text[held_out:]) / NATS_PER_BIT
    print(
        f"held out, read as one stream: {exact:.3f} bits per character, perplexity "
        f"{2**exact:.2f}, {trigram - exact:.3f} bits below the trigram"
    )

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "model.safetensors"
    model.save(path)
    draw(options.out / "learning_curve.png", report, model.loss_curve_)
    print(f"{path}, loaded in a fresh process, writes:\n", flush=True)
    fresh = [sys.executable, __file__, "--write", path, "--length", str(options.length)]
    subprocess.run([*fresh, "--temperature", str(options.temperature)], check=True)


if __name__ == "__main__":
    main()
