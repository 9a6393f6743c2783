"""Gradients by central differences, the judge of every backward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np


def gradient(function: Callable[[], float], array: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The gradient of `function` with respect to `array`, which it reads and which is varied."""
    assert array.dtype == np.float64
    result = np.empty_like(array)
    for index in np.ndindex(array.shape):
        old = array[index]
        array[index] = old + step
        above = function()
        array[index] = old - step
        below = function()
        array[index] = old
        result[index] = (above - below) / (2 * step)
    return result


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest magnitude of both."""
    assert found.shape == expected.shape
    if not found.size:
        return 0.0
    largest = max(float(np.abs(found).max()), float(np.abs(expected).max()))
    return float(np.abs(found - expected).max()) / largest if largest else 0.0


def assert_gradients(
    function: Callable[[], float],
    arrays: Mapping[str, np.ndarray],
    gradients: Mapping[str, np.ndarray],
    tolerance: float = 1e-6,
) -> None:
    """Every gradient, by name, within `tolerance` of the central difference."""
    assert arrays.keys() == gradients.keys()
    for name, array in arrays.items():
        error = relative_error(np.asarray(gradients[name]), gradient(function, array))
        assert error < tolerance, f"{name}: relative error {error:.2e}"
