"""Text: names, languages, parts of speech, beside linear models of n-grams and counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from bench.sets import Labels, Split, lines_of

__all__ = ["TAGGING", "TASKS", "MostFrequentTag"]

HELD_OUT = 5  # every fifth name or pair
TF_IDF = "TF-IDF"


# Names: a surname's language


def names(seed: int) -> Split:
    """Surnames and languages; a name that several languages have is on one side alone."""
    rows = [line.split("\t") for line in lines_of("classification", "names.tsv")]
    distinct = np.array(sorted({name for name, _ in rows}))
    order = np.random.default_rng(seed).permutation(distinct)
    held = set(order[: len(distinct) // HELD_OUT].tolist())
    train = [row for row in rows if row[0] not in held]
    test = [row for row in rows if row[0] in held]
    return Split(*_columns(train), *_columns(test))


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


def languages(seed: int) -> Split:
    """Both sentences of a pair are on one side."""
    pairs = [line.split("\t")[:2] for line in lines_of("translation", "eng-fra-20k.tsv")]
    order = np.random.default_rng(seed).permutation(len(pairs))
    held = len(pairs) // HELD_OUT

    def sentences(which: Any) -> tuple[list[str], list[str]]:
        return [text for i in which for text in pairs[i]], ["English", "French"] * len(which)

    return Split(*sentences(order[held:]), *sentences(order[:held]))


def words() -> Any:
    """Counts of words and logistic regression."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return make_pipeline(
        CountVectorizer(token_pattern=r"\S+"), LogisticRegression(C=10, max_iter=1000)
    )


# Tagging: a word's part of speech


def tagging(seed: int) -> Split:
    """Sentences and tags, split by the treebank's makers."""

    def sentences(part: str) -> tuple[list[list[str]], list[list[str]]]:
        blocks = "\n".join(lines_of("tagging", f"ud-ewt-{part}.tsv")).strip().split("\n\n")
        pairs = [_columns([line.split("\t") for line in b.split("\n")]) for b in blocks]
        return [found for found, _ in pairs], [tags for _, tags in pairs]

    return Split(*sentences("train"), *sentences("dev"))


class MostFrequentTag:
    """Each word's most frequent tag, unknown words as the most frequent of rare ones."""

    def fit(self, X: Sequence[Any], y: Sequence[Any]) -> Self:
        """Count."""
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


TASKS = [
    Labels(
        "names",
        names,
        {"level": "char", "dropout": 0.3, "max_iter": 12},
        "TextClassifier",
        {TF_IDF: lambda: ngrams(True), "with capitals": lambda: ngrams(False)},
        rival=TF_IDF,
        splits=True,
        brief_parameters={"max_iter": 1},
    ),
    Labels(
        "English or French",
        languages,
        {"level": "word", "max_iter": 5},
        "TextClassifier",
        {"counts of words": words},
        splits=True,
        brief_parameters={"max_iter": 1},
    ),
]
TAGGING = [
    Labels(
        "UD-EWT tagging",
        tagging,
        {"chars": True, "hidden_size": 128, "dropout": 0.4, "batch_size": 32,
         "learning_rate_init": 0.002, "max_iter": 8},
        "SequenceTagger",
        {"most frequent tag": MostFrequentTag},
        torch_seeds=1,
        brief_parameters={"max_iter": 1},
    ),
]  # fmt: skip
