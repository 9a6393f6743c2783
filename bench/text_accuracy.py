"""How well the estimators of text learn real data: names, languages, parts of speech.

``python -m bench.text_accuracy`` prints the accuracy of each seed, their mean and spread, and the
target, beside what linear models of n-grams reach. The data lie in the folder that FASTRNN_DATA
names, else in ../shared/data.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["TASKS", "Split", "Task", "data_folder"]

HELD_OUT = 5  # every fifth name or pair


class Split(NamedTuple):
    """Training and test data: X, y, X, y."""

    X: list[Any]
    y: list[Any]
    X_test: list[Any]
    y_test: list[Any]


@dataclass(frozen=True)
class Task:
    """A set, an estimator for it, and what it has to reach.

    Attributes
    ----------
    read : callable
        ``read(folder, seed) -> Split``.
    make : callable
        ``make(seed)``, the estimator.
    target : callable
        ``target(accuracies of the baselines)``, the least mean accuracy.
    baselines : dict of str to callable
        Estimators without a seed; the target may depend on them.
    """

    read: Callable[[Path, int], Split]
    make: Callable[[int], Any]
    target: Callable[[dict[str, float]], float]
    baselines: dict[str, Callable[[], Any]]


def data_folder() -> Path:
    """Where the real data lie."""
    root = Path(__file__).resolve().parent.parent
    return Path(os.environ.get("FASTRNN_DATA") or root.parent / "shared" / "data")


# Names: a surname's language


def read_names(folder: Path, seed: int) -> Split:
    """Surnames and languages; a name that several languages have is on one side alone."""
    lines = (folder / "classification" / "names.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    names = np.array(sorted({name for name, _ in rows}))
    held = set(np.random.default_rng(seed).permutation(names)[: len(names) // HELD_OUT].tolist())
    train = [row for row in rows if row[0] not in held]
    test = [row for row in rows if row[0] in held]
    return Split(*_columns(train), *_columns(test))


def make_names(seed: int) -> Any:
    """Characters, forwards and backwards."""
    from fastrnn import TextClassifier

    return TextClassifier("char", dropout=0.3, max_iter=12, random_state=seed)


def ngrams(lowercase: bool) -> Any:
    """TF-IDF of 1 to 4 characters and logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return make_pipeline(
        TfidfVectorizer(analyzer="char", ngram_range=(1, 4), lowercase=lowercase),
        LogisticRegression(C=10, max_iter=1000),
    )


# Languages: is a sentence English or French?


def read_languages(folder: Path, seed: int) -> Split:
    """Both sentences of a pair are on one side."""
    path = folder / "translation" / "eng-fra-20k.tsv"
    pairs = [line.split("\t")[:2] for line in path.read_text(encoding="utf-8").splitlines()]
    order = np.random.default_rng(seed).permutation(len(pairs))
    held = len(pairs) // HELD_OUT

    def sentences(which: Any) -> tuple[list[str], list[str]]:
        return [text for i in which for text in pairs[i]], ["English", "French"] * len(which)

    return Split(*sentences(order[held:]), *sentences(order[:held]))


def make_languages(seed: int) -> Any:
    """Words, forwards and backwards."""
    from fastrnn import TextClassifier

    return TextClassifier("word", max_iter=5, random_state=seed)


def words() -> Any:
    """Counts of words and logistic regression."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return make_pipeline(
        CountVectorizer(token_pattern=r"\S+"), LogisticRegression(C=10, max_iter=1000)
    )


# Tagging: a word's part of speech


def read_tagging(folder: Path, seed: int) -> Split:
    """Sentences and tags, split by the treebank's makers: the seed decides nothing."""

    def sentences(part: str) -> tuple[list[list[str]], list[list[str]]]:
        text = (folder / "tagging" / f"ud-ewt-{part}.tsv").read_text(encoding="utf-8")
        blocks = text.strip().split("\n\n")
        pairs = [_columns([line.split("\t") for line in b.split("\n")]) for b in blocks]
        return [found for found, _ in pairs], [tags for _, tags in pairs]

    return Split(*sentences("train"), *sentences("dev"))


def make_tagging(seed: int) -> Any:
    """Words and their characters, forwards and backwards."""
    from fastrnn import SequenceTagger

    return SequenceTagger(
        chars=True,
        hidden_size=128,
        dropout=0.4,
        batch_size=32,
        learning_rate_init=0.002,
        max_iter=8,
        random_state=seed,
    )


class MostFrequentTag:
    """Each word's most frequent tag, unknown words as the most frequent of rare ones."""

    def fit(self, X: Sequence[Any], y: Sequence[Any]) -> MostFrequentTag:
        """Count."""
        from collections import Counter, defaultdict

        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for sentence, tags in zip(X, y, strict=True):
            for word, tag in zip(sentence, tags, strict=True):
                counts[word][tag] += 1
        rare = sum((c for c in counts.values() if c.total() == 1), Counter())
        self.unknown = rare.most_common(1)[0][0]
        self.best = {word: c.most_common(1)[0][0] for word, c in counts.items()}
        return self

    def score(self, X: Sequence[Any], y: Sequence[Any]) -> float:
        """The share of words that are right."""
        right = [
            self.best.get(word, self.unknown) == tag
            for sentence, tags in zip(X, y, strict=True)
            for word, tag in zip(sentence, tags, strict=True)
        ]
        return float(np.mean(right))


def _columns(rows: Sequence[Sequence[str]]) -> tuple[list[str], list[str]]:
    return [row[0] for row in rows], [row[1] for row in rows]


TASKS = {
    "names": Task(
        read_names,
        make_names,
        lambda found: found["n-grams"] - 0.015,
        {"n-grams": lambda: ngrams(True), "n-grams, cased": lambda: ngrams(False)},
    ),
    "languages": Task(read_languages, make_languages, lambda found: 0.99, {"words": words}),
    "tagging": Task(
        read_tagging, make_tagging, lambda found: 0.93, {"most frequent tag": MostFrequentTag}
    ),
}


def main() -> None:
    """Run the tasks that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=TASKS, help="one of the tasks")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--no-baselines", action="store_true")
    options = parser.parse_args()
    for name in [options.only] if options.only else TASKS:
        task = TASKS[name]
        found: dict[str, list[float]] = {"fastrnn": []}
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            X, y, X_test, y_test = task.read(data_folder(), seed)
            begun = time.perf_counter()
            model = task.make(seed).fit(X, y)
            seconds = time.perf_counter() - begun
            found["fastrnn"].append(model.score(X_test, y_test))
            line = f"{name}, seed {seed}: {found['fastrnn'][-1]:.4f} after {seconds:.1f} s"
            for other, make in {} if options.no_baselines else task.baselines.items():
                if other not in found or task.read is not read_tagging:
                    score = make().fit(X, y).score(X_test, y_test)
                    found.setdefault(other, []).append(score)
                line += f"; {other} {found[other][-1]:.4f}"
            print(line, flush=True)
        means = {other: float(np.mean(scores)) for other, scores in found.items()}
        line = f"{name}: mean {means['fastrnn']:.4f}, spread {np.std(found['fastrnn']):.4f}"
        if not options.no_baselines:
            target = task.target(means)
            met = "met" if means["fastrnn"] >= target else "missed"
            line += f", target {target:.4f} {met}"
            line += "".join(f"; {o} {m:.4f}" for o, m in means.items() if o != "fastrnn")
        print(line, flush=True)


if __name__ == "__main__":
    main()
