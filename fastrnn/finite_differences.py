"""Finite differences: whether a layer's gradients are those of what it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastrnn.checks import as_real_array, check_real
from fastrnn.layers.recurrent import Recurrent, check_recurrent

__all__ = ["gradient_check"]


def gradient_check(
    layer: Recurrent,
    x: Any,
    state: Any = None,
    lengths: Any = None,
    *,
    step: float = 1e-5,
    random_state: int = 0,
) -> dict[str, float]:
    """Compare a recurrent layer's gradients with central differences, element by element.

    The loss is a sum of all outputs and final states with random coefficients, so that gradients
    arrive everywhere at once. It costs two calls for each element of the parameters, the input and
    the state: make them small.

    Parameters
    ----------
    layer : recurrent layer
        Of dtype float64, on NumPy arrays.
    x, state, lengths
        As for a call. Without a state its own initial states are checked only if they are learned.
    step : float
        Half the distance of the two points of a difference.
    random_state : int
        For the coefficients.

    Returns
    -------
    dict of str to float
        For ``"x"``, for each of the state's arrays if it is given, and for each parameter: the
        largest difference between gradient and finite difference, relative to the largest
        magnitude of the finite differences.

    Raises
    ------
    ValueError
        If the layer's dtype is not float64, which differences need.
    """
    check_recurrent("layer", layer)
    check_real("step", step, above=0.0)
    if layer.dtype != np.float64:
        raise ValueError(f"layer: expected dtype float64, got {layer.dtype}")
    rng = np.random.default_rng(random_state)
    is_list = isinstance(x, list | tuple)
    x = [_copy(f"x[{n}]", one) for n, one in enumerate(x)] if is_list else _copy("x", x)
    state = None if state is None else _map(lambda part: _copy("state", part), state)
    call = layer.call_count

    def outputs() -> tuple[Any, Any, Any]:
        layer.call_count = call  # dropout masks must be the same at every point
        return layer.forward(x, state, lengths)

    y, last, backward = outputs()
    dy = [rng.standard_normal(one.shape) for one in y] if is_list else rng.standard_normal(y.shape)
    dlast = _map(lambda part: rng.standard_normal(part.shape), last)

    def loss() -> float:
        y, last, _ = outputs()
        values = [*(y if is_list else [y]), *_parts(last)]
        weights = [*(dy if is_list else [dy]), *_parts(dlast)]
        return sum(float(np.sum(v * w)) for v, w in zip(values, weights, strict=True))

    before = {name: grad.copy() for name, grad in layer.grads.items()}
    dx, dstate = backward(dy, dlast)
    checked = [
        (name, layer.params[name], layer.grads[name] - before[name]) for name in layer.params
    ]
    for grad, old in zip(layer.grads.values(), before.values(), strict=True):
        grad[...] = old
    errors = {
        "x": _error(
            np.concatenate([_differences(one, loss, step) for one in (x if is_list else [x])]),
            np.concatenate([one.ravel() for one in (dx if is_list else [dx])]),
        )
        if layer.input_size and len(x)
        else 0.0
    }
    if state is not None:
        for name, part, gradient in zip(
            layer.cell.states, _parts(state), _parts(dstate), strict=True
        ):
            errors[name] = _error(_differences(part, loss, step), gradient.ravel())
    for name, value, gradient in checked:
        errors[name] = _error(_differences(value, loss, step), gradient.ravel())
    layer.call_count = call + 1
    return errors


def _parts(state: Any) -> tuple[Any, ...]:
    return tuple(state) if isinstance(state, list | tuple) else (state,)


def _copy(name: str, x: Any) -> np.ndarray:
    """A copy to vary, element by element."""
    return np.array(as_real_array(name, x, np.float64))


def _map(function: Callable[[Any], Any], state: Any) -> Any:
    if isinstance(state, list | tuple):
        return tuple(function(part) for part in state)
    return function(state)


def _points(array: np.ndarray, step: float, loss: Callable[[], float]) -> Iterator[float]:
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + step
        above = loss()
        array[index] = value - step
        below = loss()
        array[index] = value
        yield (above - below) / (2 * step)


def _differences(array: np.ndarray, loss: Callable[[], float], step: float) -> np.ndarray:
    """Central differences of the loss in every element of an array, flat."""
    return np.fromiter(_points(array, step, loss), dtype=np.float64, count=array.size)


def _error(expected: np.ndarray, got: np.ndarray) -> float:
    """The largest difference relative to the largest magnitude; 0 where there is nothing."""
    if expected.size == 0:
        return 0.0
    scale = max(float(np.abs(expected).max()), np.finfo(np.float64).tiny)
    return float(np.abs(expected - got).max()) / scale
