"""Sources and targets for sequence-to-sequence models: sums, reversals, summaries, translations.

All is drawn from a seed, and what is held out shares no source with what is trained on.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["MARK", "Pairs", "arithmetic", "reversals", "summaries", "translations", "words_of"]

MARK = "*"  # before the sentences that a summary repeats
_WORDS = re.compile(r"\w+'?|[^\w\s]")  # "j'", "ai", "?"


class Pairs(NamedTuple):
    """What to train on and what to test on; a held-out source has one reference or several."""

    sources: list[str]
    targets: list[str]
    held_sources: list[str]
    references: list[list[str]]


def _split(pairs: Sequence[tuple[str, str]], held_out: int) -> Pairs:
    """The last pairs are held out."""
    if not 0 < held_out < len(pairs):
        raise ValueError(f"held_out: expected a number from 1 to {len(pairs) - 1}, got {held_out}")
    train, test = pairs[:-held_out], pairs[-held_out:]
    return Pairs(
        [source for source, _ in train],
        [target for _, target in train],
        [source for source, _ in test],
        [[target] for _, target in test],
    )


def arithmetic(n: int = 50_000, held_out: int = 5_000, digits: int = 3, seed: int = 0) -> Pairs:
    """Questions like "535+61" and answers like "596", `n` in all, `held_out` of them to test.

    A number is drawn as 1 to `digits` digits, each length as often as the others. No two questions
    have the same two numbers, in whichever order.
    """
    draw = random.Random(seed)

    def number() -> int:
        return int("".join(draw.choice("0123456789") for _ in range(draw.randint(1, digits))))

    if 3 * n > 100**digits:  # not much fewer than there are, half of all as order does not count
        raise ValueError(f"n: expected at most a third of {100**digits}, got {n}")
    seen: set[tuple[int, int]] = set()
    pairs: list[tuple[str, str]] = []
    while len(pairs) < n:
        a, b = number(), number()
        key = min(a, b), max(a, b)
        if key not in seen:
            seen.add(key)
            pairs.append((f"{a}+{b}", str(a + b)))
    return _split(pairs, held_out)


def reversals(
    n: int = 11_000,
    held_out: int = 1_000,
    lengths: tuple[int, int] = (4, 20),
    symbols: str = "abcdefghijklmnopqrstuvwxyz",
    seed: int = 0,
) -> Pairs:
    """Distinct random strings, and the same backwards."""
    draw = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < n:
        text = "".join(draw.choices(symbols, k=draw.randint(*lengths)))
        found[text] = text[::-1]
    return _split(list(found.items()), held_out)


def summaries(
    n: int = 5_000,
    held_out: int = 250,
    length: int = 200,
    marked: int = 3,
    words: int = 100,
    seed: int = 0,
) -> Pairs:
    """Texts of `length` words and marks, and those of their sentences that are marked.

    A sentence is 5 to 10 words out of `words` that are as likely as one another, and a stop; of all
    sentences `marked` begin with a mark, which the summary leaves out. So that nothing but the
    source tells what a summary says.
    """
    draw = random.Random(seed)
    known = [f"w{i}" for i in range(words)]
    pairs = []
    for _ in range(n):
        sizes = _sizes(length - marked, draw)
        sentences = [[*draw.choices(known, k=size - 1), "."] for size in sizes]
        which = sorted(draw.sample(range(len(sentences)), marked))
        summary = [word for i in which for word in sentences[i]]
        for i in which:
            sentences[i].insert(0, MARK)
        pairs.append((" ".join(word for one in sentences for word in one), " ".join(summary)))
    return _split(pairs, held_out)


def _sizes(total: int, draw: random.Random, least: int = 6, most: int = 11) -> list[int]:
    """Sentences' sizes that add up to a total."""
    sizes = []
    while total > most:
        size = draw.randint(least, min(most, total - least))
        sizes.append(size)
        total -= size
    return [*sizes, total]


def words_of(text: str) -> str:
    """A sentence's words and signs in lower case, with spaces between."""
    return " ".join(_WORDS.findall(text.lower()))


def translations(path: Path, held_out: float = 0.1, seed: int = 0) -> Pairs:
    """Sentences and their translations, as words, from a file with a pair in each line.

    Of all distinct sources a share is held out, each with all its distinct translations.
    """
    found: dict[str, dict[str, None]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        source, target = map(words_of, line.split("\t")[:2])
        found.setdefault(source, {})[target] = None
    sources = list(found)
    random.Random(seed).shuffle(sources)
    kept = len(sources) - max(1, round(held_out * len(sources)))
    train = [(source, target) for source in sources[:kept] for target in found[source]]
    return Pairs(
        [source for source, _ in train],
        [target for _, target in train],
        sources[kept:],
        [list(found[source]) for source in sources[kept:]],
    )
