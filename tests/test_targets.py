"""Targets as numbers, and outputs as predictions."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn.sequences.targets import Classes, Labels, Quantities, softmax


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_takes_any_logits(dtype: str) -> None:
    logits = np.array([[1e4, 0, -1e4], [1e4, 1e4, 1e4], [0, np.log(3), -1e30]], dtype)
    expected = [[1, 0, 0], [1 / 3] * 3, [0.25, 0.75, 0]]
    found = softmax(logits)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_classes() -> None:
    targets = Classes.of(np.array(["b", "a", "c", "a"]))
    assert targets.classes.tolist() == ["a", "b", "c"]
    assert targets.encode(np.array(["c", "a"])).tolist() == [2, 0]
    logits = np.array([[0.0, 1.0, 0.5], [2.0, 1.0, 0.5]])
    assert targets.predict(logits).tolist() == ["b", "a"]
    assert targets.decision_function(logits) is logits
    two = Classes(np.array([5, 9]))
    assert two.decision_function(logits[:, :2]).tolist() == [1.0, -1.0]
    for y in (["d", "a"], ["A"], [""]):
        with pytest.raises(ValueError, match=r"y: expected the classes \['a', 'b', 'c'\], got als"):
            targets.encode(np.array(y))
    with pytest.raises(ValueError, match=r"eval_set: .* got also \[1\]"):
        targets.encode(np.array([1]), "eval_set")
    with pytest.raises(ValueError, match=r"\[5, 9\], got also \[-1, 7, 10\]"):
        two.encode(np.array([10, 7, -1, 5]))
    with pytest.raises(ValueError, match=r"y: expected one class for each .* shape \(1, 2\)"):
        targets.encode(np.array([["a", "b"]]))


def test_many_unknown_classes_are_told_in_short() -> None:
    with pytest.raises(ValueError, match=r"got also \[2, 3, 4, 5, 6, 7, 8, 9, 10, 11, \.\.\.\]"):
        Classes(np.array([0, 1])).encode(np.arange(50))


def test_labels() -> None:
    targets = Labels(2)
    logits = np.array([[0.1, -0.1], [1e4, -1e4]])
    assert targets.predict(logits).tolist() == [[1, 0], [1, 0]]
    expected = [[1 / (1 + np.exp(-0.1)), 1 / (1 + np.exp(0.1))], [1, 0]]
    np.testing.assert_allclose(targets.predict_proba(logits), expected, rtol=1e-14)
    assert targets.encode(np.array([[True, False]])).tolist() == [[1.0, 0.0]]


def test_quantities_are_standardized_by_weight() -> None:
    rng = np.random.default_rng(0)
    y, weight = rng.standard_normal((9, 2)) * [1, 50] + 7, np.arange(9) % 4
    repeated = np.repeat(y, weight, axis=0)
    targets = Quantities.of(y, weight)
    np.testing.assert_allclose(targets.center, repeated.mean(axis=0))
    np.testing.assert_allclose(targets.scale, repeated.std(axis=0))
    np.testing.assert_allclose(targets.predict(targets.encode(y)), y)
    one = Quantities.of(y[:, 0], weight)
    assert one.predict(one.encode(y[:, 0])).shape == (9,)
    assert one.predict(one.encode(y[:, 0]).astype("float32")).dtype == np.float32
    assert Quantities.of(np.full(3, 2.0), np.ones(3)).scale.tolist() == [1]
