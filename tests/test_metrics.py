"""Perplexity and bits per character: formulas, weights, extremes."""

import math

import numpy as np
import pytest

from fastrnn.metrics import bits_per_character, perplexity


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
