"""A sequence of weight 2 is two sequences, one of weight 0 none, to the bit where that can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

import fastrnn

Example = tuple[list[np.ndarray], np.ndarray, np.ndarray]


@pytest.fixture
def examples() -> Example:
    """Ragged sequences, a class for each, and weights, some of them 0."""
    draw = np.random.default_rng(0)
    X = [draw.normal(size=(T, 2)) for T in draw.integers(1, 9, 12)]
    X[7] = X[2]  # of another class
    return X, np.arange(12) % 3, np.array([2, 0, 1, 3, 1, 0, 2, 1, 1, 4, 1, 1.0])


@pytest.mark.parametrize("y_kind", ["classes", "names", "labels", "number", "numbers"])
@pytest.mark.parametrize("pooling", ["last", "attention"])
def test_weights_are_repeats_in_any_order(examples: Example, y_kind: str, pooling: str) -> None:
    X, classes, weight = examples
    y: Any = {
        "classes": classes,
        "names": np.array(["a", "b", "c"])[classes],
        "labels": np.stack([classes > 0, classes > 1], axis=1).astype(int),
        "number": classes * 0.3,
        "numbers": np.stack([classes * 0.3, np.sin(np.arange(12.0))], axis=1),
    }[y_kind]
    kind = fastrnn.RNNRegressor if "number" in y_kind else fastrnn.RNNClassifier
    model = kind(hidden_size=8, max_iter=40, pooling=pooling, random_state=3)
    repeated = np.repeat(np.arange(12), weight.astype(int))
    order = np.random.default_rng(1).permutation(repeated)
    expected = model.fit(X, y, sample_weight=weight).transform(X)
    np.testing.assert_array_equal(model.fit([X[i] for i in order], y[order]).transform(X), expected)
    even = model.fit(X, y).transform(X)
    assert np.abs(even - expected).max() > 1e-6


def test_two_of_a_kind_with_unlike_targets_both_count(examples: Example) -> None:
    X, y, _ = examples
    proba = fastrnn.RNNClassifier(hidden_size=8, random_state=0).fit(X, y).predict_proba([X[2]])[0]
    assert y[7] != y[2]
    np.testing.assert_allclose(proba[[y[2], y[7]]], 0.5, atol=0.1)


def test_several_batches_keep_their_repeats(examples: Example) -> None:
    X, y, _ = examples
    X, y = X * 3, np.tile(y, 3)
    for batch_size, steps in [(36, 1), (12, 3)]:
        seen = []
        fastrnn.RNNClassifier(
            hidden_size=4, max_iter=1, batch_size=batch_size,
            callbacks=lambda state, seen=seen: seen.append(state.steps),
        ).fit(X, y)  # fmt: skip
        assert seen == [steps]
