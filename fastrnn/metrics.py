"""Measures of how good a model is."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from fastrnn.checks import (
    as_real_array,
    check_bool,
    check_option,
    check_positive_int,
    check_real,
    describe,
)

__all__ = ["bits_per_character", "bleu", "edit_distance", "perplexity", "rouge_l"]

Tokens = Sequence[Hashable]
Text = str | Tokens

SMOOTHINGS = {"exp": None, "none": None, "add-k": 1.0, "floor": 0.1}  # with their usual values


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
    Soviet Physics Doklady 10 (1966); a column of the table at a time, in the bits of an integer:
    H. Hyyrö, "A bit-vector algorithm for computing Levenshtein and Damerau edit distances", Nordic
    Journal of Computing 10 (2003).

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

    Raises
    ------
    TypeError
        If `a` or `b` is no sequence of hashable tokens.

    Examples
    --------
    >>> edit_distance("kitten", "sitting")
    3.0
    >>> edit_distance(["the", "cat"], ["the", "big", "cat"], normalized=True)
    0.3333333333333333
    """
    check_bool("normalized", normalized)
    x, y = _tokens("a", a), _tokens("b", b)
    longest = max(1, len(x), len(y))
    if not x or not y:
        distance = float(len(x) + len(y))
    else:
        distance = float(_levenshtein(x, y))
    return distance / longest if normalized else distance


def rouge_l(
    hypotheses: Sequence[Text],
    references: Sequence[Text | Sequence[Text]],
    beta: float = 1.0,
) -> float:
    """ROUGE-L, the mean F-measure of the longest common subsequences.

    With L the length of the longest common subsequence of a pair, P = L / len(hypothesis) and
    R = L / len(reference), its F is (1 + beta^2) P R / (R + beta^2 P), and 0 where L is. Of several
    references the one with the highest F counts. With ``beta=1`` this is what the package
    rouge-score calls the rougeL F-measure of the same tokens.

    C.-Y. Lin, "ROUGE: a package for automatic evaluation of summaries", ACL workshop 2004.

    Parameters
    ----------
    hypotheses, references : sequence
        Texts and their references, in the forms that `bleu` takes.
    beta : float
        How much more recall counts than precision.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError, TypeError
        As for `bleu`; or if `beta` is negative.

    Examples
    --------
    >>> rouge_l(["the gunman police killed"], ["police killed the gunman"])
    0.5
    >>> rouge_l(["a b"], [["a b c d", "a b c"]])
    0.8
    """
    beta2 = check_real("beta", beta, minimum=0.0) ** 2
    pairs = _pairs(hypotheses, references)
    return math.fsum(max(_f(x, y, beta2) for y in ys) for x, ys in pairs) / len(pairs)


def bleu(
    hypotheses: Sequence[Text],
    references: Sequence[Text | Sequence[Text]],
    max_n: int = 4,
    smoothing: str = "exp",
    smoothing_value: float | None = None,
) -> float:
    """BLEU of a corpus; times 100 it is the corpus BLEU of sacrebleu for the same tokens.

    exp(min(0, 1 - r/c)) times the geometric mean of the precisions p_n of n-grams, n = 1..max_n.
    p_n is the share of all hypotheses' n-grams that their references hold, each counted at most as
    often as it is in the reference that has it most often. c is the total length of the
    hypotheses, r that of the references: of several the one whose length is closest to the
    hypothesis's, of two as close the shorter.

    K. Papineni et al., "BLEU: a method for automatic evaluation of machine translation", ACL 2002;
    M. Post, "A call for clarity in reporting BLEU scores", WMT 2018; smoothing: B. Chen and
    C. Cherry, "A systematic comparison of smoothing techniques for sentence-level BLEU", WMT 2014.

    Parameters
    ----------
    hypotheses : sequence
        The texts to judge: strings, which are split at white space, or sequences of hashable
        tokens.
    references : sequence
        For each hypothesis a text, or a list or tuple of several texts, not necessarily as many for
        each. Where the hypothesis is a string, a list is always one of several texts, themselves
        strings or sequences of tokens. Where it is a sequence of tokens, a list is one of several
        texts if there are lists, tuples or arrays in it, else one text. So a token must not be a
        tuple.
    max_n : int
        The longest n-grams that count.
    smoothing : {"exp", "none", "add-k", "floor"}
        What becomes of orders n for which there is no common n-gram; where there is none of any
        order, BLEU is 0. "exp", the default as sacrebleu's: the k-th such order has the precision
        2^-k / (number of n-grams). "none": 0, which makes BLEU 0. "floor": `smoothing_value` /
        (number of n-grams). "add-k": `smoothing_value` is added to both counts of all orders n > 1,
        whether they are 0 or not. An order for which no hypothesis is long enough makes BLEU 0 in
        all but the last.
    smoothing_value : float, optional
        Above 0, for "add-k" (by default 1) and "floor" (by default 0.1).

    Returns
    -------
    float
        In [0, 1]; papers give it times 100.

    Raises
    ------
    ValueError
        If there is no hypothesis, if there are more or fewer references than hypotheses, for a
        hypothesis without a reference, or for a wrong option.
    TypeError
        If something is no text.

    Examples
    --------
    >>> hypothesis = "the cat sat on the mat"
    >>> round(100 * bleu([hypothesis], ["the cat sat on a mat"]), 2)
    53.73
    >>> round(100 * bleu([hypothesis], [["the cat sat on a mat", "on the mat the cat sat"]]), 2)
    70.71
    """
    max_n = check_positive_int("max_n", max_n)
    value = _smoothing_value(smoothing, smoothing_value)
    pairs = _pairs(hypotheses, references)
    found, there = [0] * max_n, [0] * max_n
    c = r = 0
    for hypothesis, several in pairs:
        c += len(hypothesis)
        r += min((abs(len(one) - len(hypothesis)), len(one)) for one in several)[1]
        for n in range(1, max_n + 1):
            grams, known = _ngrams(hypothesis, n), Counter[tuple[Hashable, ...]]()
            for one in several:
                known |= _ngrams(one, n)
            found[n - 1] += (grams & known).total()
            there[n - 1] += grams.total()
    if not any(found):
        return 0.0
    precisions = _precisions(found, there, smoothing, value)
    if not all(precisions):
        return 0.0
    return math.exp(min(0.0, 1 - r / c) + math.fsum(map(math.log, precisions)) / max_n)


def _smoothing_value(smoothing: Any, value: Any) -> float:
    """The value that goes with a smoothing; 0 for those without."""
    usual = SMOOTHINGS[check_option("smoothing", smoothing, tuple(SMOOTHINGS))]
    if value is None:
        return usual or 0.0
    if usual is None:
        raise ValueError(
            f"smoothing_value: expected None for smoothing={smoothing!r}, got {describe(value)}"
        )
    return check_real("smoothing_value", value, above=0.0)


def _precisions(
    found: Sequence[int], there: Sequence[int], smoothing: str, value: float
) -> list[float]:
    """The share of n-grams found for each order, smoothed."""
    precisions: list[float] = []
    empty = 0  # orders of which no n-gram is found
    for n, (good, total) in enumerate(zip(found, there, strict=True), 1):
        more = value if smoothing == "add-k" and n > 1 else 0.0
        if not total + more:
            return [*precisions, 0.0]
        if good + more:
            precisions.append((good + more) / (total + more))
            continue
        empty += 1
        least = {"exp": 0.5**empty, "floor": value}.get(smoothing, 0.0)
        precisions.append(least / total)
    return precisions


def _f(x: list[Hashable], y: list[Hashable], beta2: float) -> float:
    """The F-measure of the longest common subsequence of two texts."""
    common = _longest_common(x, y) if x and y else 0
    if not common:
        return 0.0
    p, r = common / len(x), common / len(y)
    return (1 + beta2) * p * r / (r + beta2 * p)


# Columns of tables with a row for each token of x, as bits of integers of any length: the steps of
# a column are at most 1, so that a bit or two say each. A token of y turns a column into the next.


def _places(x: list[Hashable]) -> dict[Hashable, int]:
    """For each token the bits of the rows that it is in."""
    places: dict[Hashable, int] = {}
    for i, token in enumerate(x):
        places[token] = places.get(token, 0) | 1 << i
    return places


def _levenshtein(x: list[Hashable], y: list[Hashable]) -> int:
    """The edit distance of two texts that are not empty."""
    places, every, last = _places(x), (1 << len(x)) - 1, 1 << len(x) - 1
    distance = len(x)
    up, down = every, 0  # where a row's number is 1 above, or below, that of the row before
    for token in y:
        equal = places.get(token, 0)
        level = (((equal & up) + up) ^ up) | equal | down  # as its diagonal neighbor
        right_up = down | (every & ~(level | up))  # 1 above the same row in the column before
        right_down = up & level
        distance += bool(right_up & last) - bool(right_down & last)
        right_up = right_up << 1 | 1
        down = right_up & level & every
        up = (right_down << 1 | ~(level | right_up)) & every
    return distance


def _longest_common(x: list[Hashable], y: list[Hashable]) -> int:
    """The length of the longest common subsequence of two texts that are not empty.

    H. Hyyrö, "Bit-parallel LCS-length computation revisited", AWOCA 2004.
    """
    places, every = _places(x), (1 << len(x)) - 1
    same = every  # where a row's number is that of the row before
    for token in y:
        matches = same & places.get(token, 0)
        same = ((same + matches) | (same - matches)) & every
    return len(x) - same.bit_count()


def _ngrams(tokens: list[Hashable], n: int) -> Counter[tuple[Hashable, ...]]:
    return Counter(zip(*(itertools.islice(tokens, i, None) for i in range(n)), strict=False))


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


def _words(name: str, text: Any) -> list[Hashable]:
    """A sequence's tokens; a string's words."""
    return list(text.split()) if isinstance(text, str) else _tokens(name, text)


def _pairs(hypotheses: Any, references: Any) -> list[tuple[list[Hashable], list[list[Hashable]]]]:
    """Hypotheses with their references, at least one of each."""
    texts = _texts("hypotheses", hypotheses)
    of_texts = _texts("references", references)
    if len(of_texts) != len(texts):
        raise ValueError(
            f"references: expected {len(texts)}, one for each hypothesis, got {len(of_texts)}"
        )
    if not texts:
        raise ValueError("hypotheses: expected at least one, got none")
    return [
        (_words(f"hypotheses[{i}]", text), _several(f"references[{i}]", of_text, text))
        for i, (text, of_text) in enumerate(zip(texts, of_texts, strict=True))
    ]


def _several(name: str, value: Any, hypothesis: Any) -> list[list[Hashable]]:
    """The references of one hypothesis: `value` is one of them, or a list of them."""
    if isinstance(value, (list, tuple)) and (
        isinstance(hypothesis, str)
        or any(isinstance(one, (list, tuple, np.ndarray)) for one in value)
    ):
        if not value:
            raise ValueError(f"{name}: expected at least one reference, got none")
        return [_words(f"{name}[{i}]", one) for i, one in enumerate(value)]
    return [_words(name, value)]


def _texts(name: str, texts: Any) -> list[Any]:
    if isinstance(texts, str):
        raise TypeError(f"{name}: expected a sequence of texts, got a single string")
    try:
        return list(texts)
    except TypeError:
        raise TypeError(f"{name}: expected a sequence of texts, got {describe(texts)}") from None
