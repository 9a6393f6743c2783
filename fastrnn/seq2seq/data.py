"""Pairs of texts as pairs of numbers: reading what a caller gives, and batches of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastrnn.checks import describe
from fastrnn.text.vocabulary import TOKENS, Ids, Vocabulary, as_tokens
from fastrnn.training.minibatches import Sequences

__all__ = [
    "BOUNDARY", "Text", "Texts", "as_texts", "as_vocabulary", "batches_of", "check_pairs",
    "check_symbols", "digest", "encode_pairs", "encode_sources", "encode_targets", "hold_out",
    "level_of", "read_eval_set",
]  # fmt: skip

Text = str | Sequence[str]
Texts = Sequence[Text]

BOUNDARY = np.array([Vocabulary.BOUNDARY])


def as_texts(name: str, texts: Any) -> list[Any]:
    """Texts, all of them str or all of them lists of tokens, as a list."""
    wanted = "a list of texts, each a str or a list of tokens"
    if isinstance(texts, (str, bytes, dict)) or not isinstance(texts, Iterable):
        raise TypeError(f"{name}: expected {wanted}, got {describe(texts)}")
    found = list(texts)
    split = bool(found) and not isinstance(found[0], str)
    for i, text in enumerate(found):
        if split:
            found[i] = as_tokens(f"{name}[{i}]", text, "" if i else "str or ")
        elif not isinstance(text, str):
            raise TypeError(f"{name}[{i}]: expected str, as those before, got {describe(text)}")
    return found


def level_of(texts: Sequence[Any], level: str) -> str:
    """The level of a vocabulary of these texts: that of str, or of texts that are split."""
    return TOKENS if texts and not isinstance(texts[0], str) else level


def check_pairs(names: tuple[str, str], sources: Sequence[Any], targets: Sequence[Any]) -> None:
    """Raise a ValueError unless there are as many targets as sources, and at least one."""
    if not sources:
        raise ValueError(f"{names[0]}: expected at least one text, got none")
    if len(sources) != len(targets):
        raise ValueError(
            f"{names[1]}: expected {len(sources)} texts, one for each of {names[0]}, "
            f"got {len(targets)}"
        )


def encode_sources(name: str, texts: Sequence[Any], vocabulary: Vocabulary) -> list[Ids]:
    """The numbers of each text's tokens, and the boundary after them."""
    return [np.concatenate([ids, BOUNDARY]) for ids in _encode(name, texts, vocabulary)]


def encode_targets(name: str, texts: Sequence[Any], vocabulary: Vocabulary) -> list[Ids]:
    """The numbers of each text's tokens between two boundaries."""
    return [np.concatenate([BOUNDARY, ids, BOUNDARY]) for ids in _encode(name, texts, vocabulary)]


def _encode(name: str, texts: Sequence[Any], vocabulary: Vocabulary) -> Iterable[Ids]:
    for i, text in enumerate(texts):
        yield vocabulary.encode(vocabulary.split(text, f"{name}[{i}]"))


def encode_pairs(
    names: tuple[str, str], pairs: Any, vocabularies: tuple[Vocabulary, Vocabulary]
) -> tuple[list[Ids], list[Ids]]:
    """Sources and targets as numbers."""
    return (
        encode_sources(names[0], pairs[0], vocabularies[0]),
        encode_targets(names[1], pairs[1], vocabularies[1]),
    )


def read_eval_set(eval_set: Any) -> tuple[list[Any], list[Any]]:
    """The sources and targets of an ``eval_set``, checked."""
    if not isinstance(eval_set, (tuple, list)) or len(eval_set) != 2:
        raise TypeError(f"eval_set: expected (sources, targets), got {describe(eval_set)}")
    names = ("eval_set[0]", "eval_set[1]")
    sources, targets = (as_texts(*both) for both in zip(names, eval_set, strict=True))
    check_pairs(names, sources, targets)
    return sources, targets


def as_vocabulary(name: str, tokens: Any, level: str) -> Vocabulary:
    """A vocabulary, or the one of these tokens."""
    if isinstance(tokens, Vocabulary):
        return check_symbols(name, tokens)
    return Vocabulary(level, as_tokens(name, tokens, "a Vocabulary or "))


def check_symbols(name: str, vocabulary: Vocabulary) -> Vocabulary:
    """The vocabulary, if it has both symbols: what is unknown is read, and targets end."""
    if vocabulary.unknown is None or not vocabulary.boundary:
        raise ValueError(
            f"{name}: expected a vocabulary with an unknown symbol and a boundary, got one with "
            f"unknown={vocabulary.unknown!r} and boundary={vocabulary.boundary}"
        )
    return vocabulary


def hold_out(
    sources: Sequence[Any], targets: Sequence[Any], fraction: float
) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """The pairs to learn from, and those of some of the distinct sources, held out.

    All pairs of one source are on one side. Which are drawn depends on nothing but their number.
    """
    numbers: dict[Any, int] = {}
    which = [
        numbers.setdefault(text if isinstance(text, str) else tuple(text), len(numbers))
        for text in sources
    ]
    count = max(1, round(fraction * len(numbers)))
    if count == len(numbers):
        raise ValueError(
            "early_stopping: expected at least two distinct sources, or an eval_set, "
            f"got {len(numbers)}"
        )
    held = np.zeros(len(numbers), bool)
    held[np.random.default_rng(0).permutation(len(numbers))[:count]] = True
    out = held[which].tolist()
    parts = [
        [text for text, is_out in zip(texts, out, strict=True) if is_out == side]
        for side in (False, True)
        for texts in (sources, targets)
    ]
    return parts[0], parts[1], parts[2], parts[3]


def batches_of(sources: list[Ids], targets: list[Ids], batch_size: int) -> Sequences:
    """Batches of pairs, those of like length together."""
    lengths = [len(s) + len(t) for s, t in zip(sources, targets, strict=True)]
    return Sequences(sources, targets, np.array(lengths), batch_size)


def digest(sources: Sequence[Ids], targets: Sequence[Ids]) -> str:
    """SHA-256 of pairs of numbers."""
    sha = hashlib.sha256()
    for side in (sources, targets):
        sha.update(np.array([len(ids) for ids in side]).tobytes())
        sha.update(np.concatenate(side).tobytes())
    return sha.hexdigest()
