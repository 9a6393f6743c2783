"""Small problems that a recurrent network can solve, for the tests of estimators."""

from __future__ import annotations

from typing import Any

import numpy as np

SMALL: dict[str, Any] = {"hidden_size": 4, "max_iter": 3, "random_state": 0}


def problem(
    n: int = 24, T: int = 6, D: int = 2, classes: int = 2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """X (n, T, D) and y (n,): which class's direction the noise leans to."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    directions = np.linspace(-1, 1, classes)[:, None] * (-1.0) ** np.arange(D)
    X = directions[y][:, None, :] + 0.5 * rng.standard_normal((n, T, D))
    return X, y


def ragged(X: np.ndarray, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """The same, cut at random lengths, at least 1, and the lengths."""
    lengths = np.random.default_rng(seed).integers(1, X.shape[1] + 1, len(X))
    lengths[0] = X.shape[1]
    return [one[:length] for one, length in zip(X, lengths, strict=True)], lengths


def parameters(estimator: Any) -> dict[str, np.ndarray]:
    """All weights of a fitted estimator, as copies."""
    return {
        f"{key}.{name}": value.copy()
        for key, layer in estimator.layers_.items()
        for name, value in layer.params.items()
    }


def assert_equal_parameters(one: Any, other: Any, tolerance: float = 0.0) -> None:
    """The weights of two fitted estimators, by name."""
    first, second = parameters(one), parameters(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_allclose(second[name], value, rtol=0, atol=tolerance, err_msg=name)


def differ(one: Any, other: Any) -> bool:
    """Whether any weight of two fitted estimators does."""
    first, second = parameters(one), parameters(other)
    return any(not np.array_equal(first[name], second[name]) for name in first)
