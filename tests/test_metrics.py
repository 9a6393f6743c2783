"""Perplexity, bits per character, BLEU, ROUGE-L, edit distance: formulas, weights, extremes."""

import functools
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.metrics import bits_per_character, bleu, edit_distance, perplexity, rouge_l


def test_perplexity_is_exp_of_the_mean_cross_entropy():
    p = np.array([0.5, 0.25, 0.125, 0.5])
    assert perplexity(-np.log(p)) == pytest.approx(np.prod(p) ** (-1 / 4), rel=1e-14)
    assert perplexity(-np.log(p).mean()) == pytest.approx(np.prod(p) ** (-1 / 4), rel=1e-14)
    # a uniform guess among V is as perplexed as V choices make one
    assert perplexity(np.full((3, 7), math.log(42))) == pytest.approx(42, rel=1e-14)
    assert perplexity(0.0) == 1.0


def test_bits_per_character():
    assert bits_per_character(-np.log([0.5, 0.125])) == pytest.approx(2.0, rel=1e-14)
    assert bits_per_character(np.float32(math.log(2))) == pytest.approx(1.0, rel=1e-7)


def test_weights():
    losses = -np.log([0.5, 0.25, 0.1])
    assert perplexity(losses, [1, 1, 0]) == pytest.approx(math.sqrt(8), rel=1e-14)
    assert perplexity(losses, [2, 1, 0]) == pytest.approx(16 ** (1 / 3), rel=1e-14)
    assert perplexity([1.0, math.nan, math.inf], [1, 0, 0]) == pytest.approx(math.e, rel=1e-14)


def test_extremes():
    assert perplexity([0.0, math.inf]) == math.inf
    assert perplexity(1e6) == math.inf
    assert math.isnan(perplexity([0.0, math.nan]))


def test_bad_input_is_named():
    for function in (perplexity, bits_per_character):
        with pytest.raises(
            ValueError, match="cross_entropy: expected at least one value, got none"
        ):
            function([])
        with pytest.raises(ValueError, match="weight: expected a sum above 0, got 0"):
            function([1.0], [0.0])
        with pytest.raises(ValueError, match=r"weight: expected shape \(1,\), got \(2,\)"):
            function([1.0], [0.0, 1.0])
        with pytest.raises(ValueError, match="weight: expected finite numbers of at least 0"):
            function([1.0], [-1.0])
        with pytest.raises(TypeError, match="cross_entropy: expected real numbers"):
            function("text")


def levenshtein(a, b):
    """By its definition."""

    @functools.cache
    def d(i, j):
        if not i or not j:
            return i + j
        return min(d(i - 1, j) + 1, d(i, j - 1) + 1, d(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return d(len(a), len(b))


def longest_common(a, b):
    """By trying all of a's subsequences."""

    def within(part):
        rest = iter(b)
        return all(token in rest for token in part)

    lengths = range(len(a), -1, -1)
    return next(n for n in lengths if any(map(within, itertools.combinations(a, n))))


def tables(a, b):
    """Edit distance and longest common subsequence by tables, for texts of any length."""
    distance, common = np.zeros((2, len(a) + 1, len(b) + 1), int)
    distance[:, 0], distance[0] = np.arange(len(a) + 1), np.arange(len(b) + 1)
    for i, j in np.ndindex(len(a), len(b)):
        other = a[i] != b[j]
        near = distance[i, j] + other, distance[i, j + 1] + 1, distance[i + 1, j] + 1
        distance[i + 1, j + 1] = min(near)
        longest = max(common[i, j + 1], common[i + 1, j])
        common[i + 1, j + 1] = longest if other else common[i, j] + 1
    return distance[-1, -1], common[-1, -1]


def test_texts_longer_than_a_machine_word(rng):
    for length in (63, 64, 65, 128, 200):
        for symbols in (2, 30):
            a = rng.integers(symbols, size=length)
            b = rng.integers(symbols, size=int(rng.integers(1, 200)))
            distance, common = tables(a, b)
            assert edit_distance(a, b) == edit_distance(b, a) == distance
            expected = 2 * common / (len(a) + len(b))
            assert rouge_l([a], [b]) == pytest.approx(expected, rel=1e-14)


@given(st.text("abc", max_size=9), st.text("abc", max_size=9))
def test_edit_distance_is_its_definition(a, b):
    assert edit_distance(a, b) == levenshtein(a, b)
    assert edit_distance(list(a), list(b), normalized=True) == pytest.approx(
        levenshtein(a, b) / max(1, len(a), len(b))
    )


def test_edit_distance_of_words_and_long_texts():
    assert edit_distance("kitten", "sitting") == 3.0
    assert edit_distance(["the", "cat"], ("a", "cat", "sat")) == 2.0
    assert edit_distance("", "") == edit_distance("", "", normalized=True) == 0.0
    assert edit_distance("", "abc") == edit_distance("abc", "") == 3.0
    assert edit_distance("", "abc", normalized=True) == edit_distance("a", "b") == 1.0
    assert edit_distance("ab" * 2000, "ba" * 2000) == 2.0


@given(
    st.lists(
        st.tuples(st.text("abc", min_size=1, max_size=7), st.text("abc", min_size=1, max_size=7)),
        min_size=1,
        max_size=3,
    )
)
def test_rouge_l_is_its_definition(pairs):
    expected = []
    for a, b in pairs:
        common = longest_common(a, b)
        p, r = common / len(a), common / len(b)
        expected.append(2 * p * r / (p + r) if common else 0.0)
    found = rouge_l([list(a) for a, _ in pairs], [tuple(b) for _, b in pairs])
    assert found == pytest.approx(np.mean(expected), abs=1e-15)


def test_rouge_l_of_the_source_and_extremes():
    # the example of Lin's paper: S2 and S3 against S1
    reference = "police killed the gunman"
    assert rouge_l(["police kill the gunman"], [reference]) == pytest.approx(0.75)
    assert rouge_l(["the gunman kill police"], [reference]) == pytest.approx(0.5)
    assert rouge_l(["a b"], ["a b c d"], beta=0) == pytest.approx(1.0)
    assert rouge_l(["a b"], ["a b c d"], beta=1e6) == pytest.approx(0.5)
    assert rouge_l(["", "x"], ["", "x"]) == 0.5


def test_bleu_of_the_source():
    # Papineni et al., example 2: clipping leaves 2 of 7
    hypothesis, reference = "the the the the the the the", "the cat is on the mat"
    assert bleu([hypothesis], [reference], 1) == pytest.approx(2 / 7)
    # example 1, candidate 1 with its first reference, counted by hand
    hypothesis = (
        "it is a guide to action which ensures that the military always obeys the commands of the "
        "party"
    )
    reference = (
        "it is a guide to action that ensures that the military will forever heed party commands"
    )
    precisions = [12 / 18, 8 / 17, 6 / 16, 4 / 15]
    expected = math.exp(sum(map(math.log, precisions)) / 4)
    assert bleu([hypothesis], [reference]) == pytest.approx(expected, rel=1e-14)


def test_bleu_counts_over_the_corpus_and_is_brief_only_as_a_whole():
    hypotheses, references = ["a b c d", "x y"], ["a b c d", ["x z w v"]]
    precisions = [5 / 6, 3 / 4, 2 / 2, 1 / 1]
    expected = math.exp(1 - 8 / 6) * math.exp(sum(map(math.log, precisions)) / 4)
    assert bleu(hypotheses, references) == pytest.approx(expected, rel=1e-14)
    assert bleu(["a b c d", "e"], ["a b c d", "e"]) == 1.0
    assert bleu(["a b c"], ["a b c"]) == 0.0  # no 4-grams
    assert bleu(["a b c"], ["a b c"], smoothing="add-k") == 1.0
    found = bleu(["a b x"], ["a b c"], 2, "add-k")
    assert found == pytest.approx(math.sqrt(2 / 3 * 2 / 3))
    # longer than the reference is no merit and no fault beyond precision
    assert bleu(["a b c d"], ["a b c"], 1) == pytest.approx(3 / 4)


def test_bleu_of_nothing():
    for smoothing in ("exp", "none", "floor", "add-k"):
        for text, reference in [("", "a"), ("q", "a"), ("", ""), ("a", "")]:
            assert bleu([text], [reference], smoothing=smoothing) == 0.0
    assert bleu(["a"], ["a"], 1) == 1.0
    assert bleu(["", "a"], ["", "a"], 1) == 1.0
    assert bleu(["", "a"], ["b", "a"], 1) == pytest.approx(math.exp(-1))


def test_smoothing():
    # of the orders 1 to 4: 2 of 4, 0 of 3, 0 of 2, 0 of 1
    texts = ["a x b y"], ["a b c d"]

    def mean(*precisions):
        return pytest.approx(math.prod(precisions) ** (1 / 4), rel=1e-14)

    assert bleu(*texts) == bleu(*texts, smoothing="exp") == mean(1 / 2, 1 / 6, 1 / 8, 1 / 8)
    assert bleu(*texts, smoothing="none") == 0.0
    assert bleu(*texts, smoothing="floor") == mean(1 / 2, 0.1 / 3, 0.1 / 2, 0.1)
    assert bleu(*texts, smoothing="floor", smoothing_value=0.5) == mean(1 / 2, 1 / 6, 1 / 4, 1 / 2)
    assert bleu(*texts, smoothing="add-k") == mean(1 / 2, 1 / 4, 1 / 3, 1 / 2)
    assert bleu(*texts, smoothing="add-k", smoothing_value=3) == mean(1 / 2, 1 / 2, 3 / 5, 3 / 4)


def test_several_references():
    # each word as often as in the reference that has it most often: 2 a, 1 b
    assert bleu(["a a a b b"], [["a a c d e", "b f g h i"]], 1) == pytest.approx(3 / 5)
    # the closest length, the shorter of two: 4 of 2, 4, 6; 3 of 3, 5; 5 of 5
    short, texts = "a b c d", ["a b", "a b c d", "a b c d e f"]
    assert bleu([short], [texts], 1) == 1.0
    assert bleu([short], [["a b c d e", "a b c"]], 1) == 1.0
    assert bleu([short], [["a b c d e"]], 1) == pytest.approx(math.exp(1 - 5 / 4))
    # differing numbers, and the best for ROUGE-L
    many = [["a b", "a b c d"], "x", ["y"]]
    assert bleu([short, "x", "y"], many) == 1.0
    assert rouge_l([short, "x", "z"], many) == pytest.approx(2 / 3)
    assert rouge_l(["a b"], [["a b c d", "a b c", "q"]]) == pytest.approx(4 / 5)


def test_forms_of_references():
    words = [["a", "b"], ["c"]]
    expected = bleu(["a b", "c"], ["a b", "c d"], 1)
    several = [["a", "b"]], [["c", "d"], ["e", "f", "g"]]
    assert bleu(words, [["a", "b"], ["c", "d"]], 1) == expected
    assert bleu(words, several, 1) == expected
    assert bleu(words, ["a b", ("c", "d")], 1) == expected
    assert bleu(["a b", "c"], [["a b"], [["c", "d"], "e f g"]], 1) == expected
    numbers = [np.array([1, 2]), np.array([3])]
    assert bleu(numbers, [np.array([1, 2]), [np.array([3, 4]), [5, 6, 7]]], 1) == expected
    assert rouge_l(words, several) == rouge_l(numbers, [[1, 2], ([3, 4], [5, 6, 7])])
    # a string is one word of a reference, or the whole, as the hypothesis has it
    assert bleu([["a", "b"]], [["a b", "b"]], 1) == bleu(["x b"], [["a b"]], 1) == 0.5
    assert bleu([[]], [[]]) == rouge_l([[]], [[]]) == rouge_l([[]], [[[], ["a"]]]) == 0.0


def test_metrics_of_texts_name_bad_input():
    for metric in (bleu, rouge_l):
        with pytest.raises(
            ValueError, match="references: expected 2, one for each hypothesis, got 1"
        ):
            metric(["a", "b"], ["a"])
        with pytest.raises(ValueError, match="hypotheses: expected at least one, got none"):
            metric([], [])
        with pytest.raises(
            TypeError, match="hypotheses: expected a sequence of texts, got a single"
        ):
            metric("a b", ["a b"])
        with pytest.raises(TypeError, match=r"references\[0\]: expected a string or a sequence"):
            metric(["a"], [3])
        with pytest.raises(TypeError, match=r"references\[1\]\[2\]: expected a string or a seq"):
            metric(["a", "b"], ["a", ["a", "b", None]])
        with pytest.raises(ValueError, match=r"references\[1\]: expected at least one reference"):
            metric(["a", "b"], ["a", []])
        with pytest.raises(TypeError, match="references: expected a sequence of texts, got None"):
            metric(["a"], None)
    with pytest.raises(TypeError, match="a: expected a string or a sequence of hashable tokens"):
        edit_distance([[1], [2]], "ab")
    with pytest.raises(TypeError, match="normalized: expected True or False"):
        edit_distance("a", "b", normalized=1)
    with pytest.raises(ValueError, match="max_n: expected an integer of at least 1, got 0"):
        bleu(["a"], ["a"], 0)
    with pytest.raises(ValueError, match="beta: expected a number at least 0, got -1"):
        rouge_l(["a"], ["a"], beta=-1)
    with pytest.raises(ValueError, match="smoothing: expected one of"):
        bleu(["a"], ["a"], smoothing="laplace")
    with pytest.raises(ValueError, match="smoothing_value: expected None for smoothing='exp'"):
        bleu(["a"], ["a"], smoothing_value=1.0)
    with pytest.raises(ValueError, match="smoothing_value: expected a number above 0, got 0"):
        bleu(["a"], ["a"], smoothing="floor", smoothing_value=0)
