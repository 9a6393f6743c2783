"""What `Seq2Seq` learns on two threads: sums, translation, reversal, summaries; and g2p_en's words.

Times are of training alone. "without" is the same model without attention after as many seconds,
and "gain" is how far it is behind. Tasks whose files are not there are left out.

python -m bench.seq2seq_tasks --quick
python -m bench.seq2seq_tasks --only sums reversal
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bench.common import clean_process

clean_process()

import numpy as np  # noqa: E402

from bench import g2p, sets, text_pairs  # noqa: E402
from bench.rows import forced_isa, options, set_threads, show  # noqa: E402
from bench.targets import OURS, Row  # noqa: E402
from bench.text_pairs import Pairs  # noqa: E402
from fastrnn import Seq2Seq, metrics  # noqa: E402

WORK = "seq2seq_tasks"


class Clock:
    """A callback that ends training after the epoch in which `seconds` are over."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.begun = time.perf_counter()

    def __call__(self, state: Any) -> bool:
        """Whether to end."""
        return time.perf_counter() - self.begun >= self.seconds


def fit(model: Seq2Seq, pairs: Pairs, limit: float = np.inf) -> float:
    """The seconds of a fit, which ends once the limit is passed."""
    model.set_params(callbacks=Clock(limit))
    begun = time.perf_counter()
    model.fit(pairs.sources, pairs.targets)
    return time.perf_counter() - begun


def exact(found: Sequence[Any], references: Sequence[Sequence[Any]]) -> float:
    """The share of answers that are one of their references."""
    pairs = zip(found, references, strict=True)
    return float(np.mean([one in several for one, several in pairs]))


def sums(threads: int, quick: bool) -> Row:
    """Sums of two numbers of up to three digits, the question read backwards; LSTM-128."""
    pairs = text_pairs.arithmetic(*(2_000, 200) if quick else ())
    pairs = pairs._replace(
        sources=[text[::-1] for text in pairs.sources],
        held_sources=[text[::-1] for text in pairs.held_sources],
    )
    model = Seq2Seq(
        attention=None,
        bidirectional=False,
        hidden_size=128,
        embedding_dim=32,
        dropout=0.0,
        learning_rate_init=0.005,
        learning_rate="cosine",
        batch_size=100,
        max_iter=1 if quick else 12,
        random_state=0,
        n_threads=threads,
    )
    seconds = fit(model, pairs)
    accuracy = exact(model.predict(pairs.held_sources), pairs.references)
    return _row("sums", model, pairs, threads, seconds, {"exact accuracy": accuracy})


def reversal(threads: int, quick: bool) -> Row:
    """Strings backwards: how often attention's largest weight lies on the letter to write."""
    pairs = text_pairs.reversals(*(1_100, 100) if quick else ())
    model = Seq2Seq(
        attention="dot",
        hidden_size=64,
        embedding_dim=32,
        dropout=0.0,
        learning_rate_init=0.005,
        learning_rate="cosine",
        batch_size=50,
        max_iter=1 if quick else 8,
        random_state=0,
        n_threads=threads,
    )
    seconds = fit(model, pairs)
    accuracy = exact(model.predict(pairs.held_sources), pairs.references)
    targets = [several[0] for several in pairs.references]
    right = [
        weights.argmax(axis=1) == np.arange(len(weights))[::-1]
        for weights in model.attention_weights(pairs.held_sources, targets)
    ]
    measures = {"exact accuracy": accuracy, "on T-1-t": float(np.concatenate(right).mean())}
    return _row("reversal", model, pairs, threads, seconds, measures)


def translation(threads: int, quick: bool) -> Row:
    """English to French, each held-out sentence with all its translations."""
    pairs = text_pairs.translations(sets.folder() / "translation" / "eng-fra-20k.tsv")
    if quick:
        pairs = _fewer(pairs, 1_000, 50)
    return _with_and_without(
        "translation", pairs, threads, 1 if quick else 60.0, "BLEU",
        lambda found, references: 100 * metrics.bleu(found, references),
        attention="additive", hidden_size=256, embedding_dim=128, learning_rate_init=0.003,
        dropout=0.0, batch_size=64,
    )  # fmt: skip


def summaries(threads: int, quick: bool) -> Row:
    """The marked sentences of texts of 200 words, repeated."""
    pairs = text_pairs.summaries(*(100, 20) if quick else (2_100, 100))
    return _with_and_without(
        "summaries", pairs, threads, 1 if quick else 90.0, "ROUGE-L", metrics.rouge_l,
        attention="dot", hidden_size=128, embedding_dim=64, learning_rate_init=0.005,
        dropout=0.0, batch_size=20,
    )  # fmt: skip


def pronunciations(threads: int, quick: bool) -> Row:
    """g2p_en's 500 words, with its own weights: how many are exactly as it has them."""
    folder = sets.folder() / "models" / "g2p_en"
    model, (words, sounds) = g2p.model(folder), g2p.references(folder)
    begun = time.perf_counter()
    found = model.predict(words, max_length=g2p.LONGEST)
    seconds = time.perf_counter() - begun
    same = sum(one == other for one, other in zip(found, sounds, strict=True))
    pairs = Pairs([], [], words, [])
    return _row("g2p_en", model, pairs, threads, seconds, {"words alike": float(same)})


def _with_and_without(
    label: str,
    pairs: Pairs,
    threads: int,
    limit: float,
    measure: str,
    score: Callable[[Any, Any], float],
    **parameters: Any,
) -> Row:
    """A model with attention and one without it, trained for the same time."""
    found, models = [], []
    for attention in (parameters["attention"], None):
        model = Seq2Seq("word", **{**parameters, "attention": attention})
        model.set_params(max_iter=1000, random_state=0, n_threads=threads)
        limit = fit(model, pairs, limit)  # so the second one takes no less than the first
        found.append(score(model.predict(pairs.held_sources), pairs.references))
        models.append(model)
    first, second = found
    measures = {measure: first, f"{measure} without": second, "gain": first - second}
    return _row(label, models[0], pairs, threads, sum(models[0].history_["seconds"]), measures)


def _fewer(pairs: Pairs, n: int, held_out: int) -> Pairs:
    return Pairs(
        pairs.sources[:n],
        pairs.targets[:n],
        pairs.held_sources[:held_out],
        pairs.references[:held_out],
    )


def _row(
    label: str,
    model: Seq2Seq,
    pairs: Pairs,
    threads: int,
    seconds: float,
    measures: dict[str, float],
) -> Row:
    shape = {"H": model.hidden_size, "n": len(pairs.sources), "held out": len(pairs.held_sources)}
    shape["epochs"] = model.n_iter_
    times = {OURS: seconds}
    measures = {"seconds": seconds, **measures}
    return Row(WORK, label, shape, threads, times, measures, "float32", forced_isa())


TASKS = {
    "sums": sums,
    "reversal": reversal,
    "translation": translation,
    "summaries": summaries,
    "g2p_en": pronunciations,
}


def rows() -> Iterator[Row]:
    """A row for each task."""
    for threads in chosen.threads:
        set_threads(threads)
        for name in chosen.only:
            try:
                yield TASKS[name](threads, chosen.quick)
            except FileNotFoundError as error:
                print(f"{name} is left out: {error}", file=sys.stderr)


if __name__ == "__main__":
    parser: argparse.ArgumentParser = options(__doc__)
    parser.set_defaults(threads=[2])
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    chosen = parser.parse_args()
    show(chosen, rows)
