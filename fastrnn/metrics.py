"""Measures of how good a model is."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from fastrnn.checks import as_real_array, check_bool, check_positive_int, check_real, describe

__all__ = ["bits_per_character", "bleu", "edit_distance", "perplexity", "rouge_l"]

Tokens = Sequence[Hashable]


def _mean(name: str, cross_entropy: Any, weight: Any) -> float:
    losses = np.asarray(as_real_array(name, cross_entropy, np.float64))
    if weight is None:
        if not losses.size:
            raise ValueError(f"{name}: expected at least one value, got none")
        return float(losses.mean())
    weights = np.asarray(as_real_array("weight", weight, np.float64, shape=losses.shape))
    if weights.size and not (weights.min() >= 0 and weights.max() < np.inf):
        raise ValueError("weight: expected finite numbers of at least 0, got others")
    total = float(weights.sum())
    if not total:
        raise ValueError("weight: expected a sum above 0, got 0")
    used = weights != 0  # before the product: what is excluded may be infinite
    return float((losses[used] * weights[used]).sum()) / total


def perplexity(cross_entropy: Any, weight: Any = None) -> float:
    """Exp of the mean cross entropy of the tokens: exp(-1/n sum_i log p_i).

    Parameters
    ----------
    cross_entropy : float or array
        -log p of each token, natural logarithm, or their mean.
    weight : array, optional
        The weight of each token, not negative; 0 excludes it.

    Returns
    -------
    float
        At least 1 for probabilities; infinity where a token was given none.
    """
    mean = _mean("cross_entropy", cross_entropy, weight)
    try:
        return math.exp(mean)
    except OverflowError:
        return math.inf


def bits_per_character(cross_entropy: Any, weight: Any = None) -> float:
    """The mean cross entropy of the characters in bits: the mean of -log2 p.

    Parameters are those of `perplexity`.
    """
    return _mean("cross_entropy", cross_entropy, weight) / math.log(2.0)


def edit_distance(a: Tokens, b: Tokens, normalized: bool = False) -> float:
    """The least number of insertions, deletions and substitutions that make `a` into `b`.

    V. I. Levenshtein, "Binary codes capable of correcting deletions, insertions, and reversals",
    Soviet Physics Doklady 10 (1966).

    Parameters
    ----------
    a, b : str, or sequence of hashable tokens
        A string is the sequence of its characters.
    normalized : bool
        Divide by the longer length; 0 where both are empty.

    Returns
    -------
    float
        A whole number, or one in [0, 1] if normalized.
    """
    check_bool("normalized", normalized)
    x, y = _codes(_tokens("a", a), _tokens("b", b))
    column = np.arange(y.size + 1)
    row = column
    for i, token in enumerate(x, 1):
        # The best way from above; then insertions along the row: min over k <= j of d_k + j - k.
        above = np.minimum(row[1:] + 1, row[:-1] + (y != token))
        row = np.minimum.accumulate(np.concatenate([[i], above]) - column) + column
    distance = float(row[-1])
    return distance / max(1, x.size, y.size) if normalized else distance


def rouge_l(
    hypotheses: Sequence[Tokens | str], references: Sequence[Tokens | str], beta: float = 1.0
) -> float:
    """ROUGE-L, the mean F-measure of the longest common subsequences.

    With L the length of the longest common subsequence of a pair, P = L / len(hypothesis) and
    R = L / len(reference), its F is (1 + beta^2) P R / (R + beta^2 P), and 0 where L is.

    C.-Y. Lin, "ROUGE: a package for automatic evaluation of summaries", ACL workshop 2004.

    Parameters
    ----------
    hypotheses, references : sequence of token sequences
        As many of one as of the other; a string is split at white space.
    beta : float
        How much more recall counts than precision.

    Returns
    -------
    float
        In [0, 1].
    """
    beta2 = check_real("beta", beta, minimum=0.0) ** 2
    total = 0.0
    pairs = _pairs(hypotheses, references)
    for hypothesis, reference in pairs:
        x, y = _codes(hypothesis, reference)
        row = np.zeros(y.size + 1, np.int64)
        for token in x:
            row[1:] = np.maximum.accumulate(np.maximum(row[1:], row[:-1] + (y == token)))
        common = int(row[-1])
        if common:
            p, r = common / x.size, common / y.size
            total += (1 + beta2) * p * r / (r + beta2 * p)
    return total / len(pairs)


def bleu(
    hypotheses: Sequence[Tokens | str],
    references: Sequence[Tokens | str],
    max_n: int = 4,
    smooth: bool = False,
) -> float:
    """BLEU of a corpus with one reference each.

    exp(min(0, 1 - r/c)) times the geometric mean of the precisions p_n of n-grams, n = 1..max_n;
    c and r are the total lengths of hypotheses and references. p_n is the share of all hypotheses'
    n-grams that their references hold, each counted at most as often as it is there.

    K. Papineni et al., "BLEU: a method for automatic evaluation of machine translation", ACL 2002;
    smoothing by C.-Y. Lin and F. J. Och, "ORANGE", COLING 2004.

    Parameters
    ----------
    hypotheses, references : sequence of token sequences
        As many of one as of the other; a string is split at white space.
    max_n : int
        The longest n-grams that count.
    smooth : bool
        Add 1 to both counts of p_n for n > 1, so that short texts without a common n-gram of full
        length are not worth 0.

    Returns
    -------
    float
        In [0, 1].
    """
    max_n = check_positive_int("max_n", max_n)
    check_bool("smooth", smooth)
    pairs = _pairs(hypotheses, references)
    found, there = [0] * max_n, [0] * max_n
    for hypothesis, reference in pairs:
        for n in range(1, max_n + 1):
            grams, known = _ngrams(hypothesis, n), _ngrams(reference, n)
            found[n - 1] += (grams & known).total()
            there[n - 1] += grams.total()
    c, r = (sum(len(pair[side]) for pair in pairs) for side in (0, 1))
    logs = 0.0
    for n, (good, all_) in enumerate(zip(found, there, strict=True), 1):
        extra = int(smooth and n > 1)
        if not good + extra or not all_ + extra:
            return 0.0
        logs += math.log((good + extra) / (all_ + extra))
    return math.exp(min(0.0, 1 - r / c) + logs / max_n) if c else 0.0


def _tokens(name: str, value: Any) -> list[Hashable]:
    """A sequence's tokens; a string's characters."""
    try:
        tokens = list(value)
        hash(tuple(tokens))
    except TypeError:
        raise TypeError(
            f"{name}: expected a string or a sequence of hashable tokens, got {describe(value)}"
        ) from None
    return tokens


def _pairs(hypotheses: Any, references: Any) -> list[tuple[list[Hashable], list[Hashable]]]:
    """Hypotheses with their references, at least one."""
    sides = []
    for name, texts in (("hypotheses", hypotheses), ("references", references)):
        if isinstance(texts, str):
            raise TypeError(f"{name}: expected a sequence of texts, got a single string")
        texts = _texts(name, texts)
        sides.append(
            [
                _tokens(f"{name}[{i}]", text.split() if isinstance(text, str) else text)
                for i, text in enumerate(texts)
            ]
        )
    if len(sides[0]) != len(sides[1]):
        raise ValueError(
            f"references: expected {len(sides[0])}, one for each hypothesis, got {len(sides[1])}"
        )
    if not sides[0]:
        raise ValueError("hypotheses: expected at least one, got none")
    return list(zip(*sides, strict=True))


def _texts(name: str, texts: Any) -> list[Any]:
    try:
        return list(texts)
    except TypeError:
        raise TypeError(f"{name}: expected a sequence of texts, got {describe(texts)}") from None


def _codes(*sequences: list[Hashable]) -> list[np.ndarray]:
    """Tokens as integers, equal for equal tokens."""
    codes: dict[Hashable, int] = {}
    return [
        np.array([codes.setdefault(token, len(codes)) for token in tokens], np.int64)
        for tokens in sequences
    ]


def _ngrams(tokens: list[Hashable], n: int) -> Counter[tuple[Hashable, ...]]:
    return Counter(zip(*(itertools.islice(tokens, i, None) for i in range(n)), strict=False))
