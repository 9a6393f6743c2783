"""Functions of a layer's output that have no parameters: softmax, relu and the like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, overload

import numpy as np

from fastrnn.cells import relu, sigmoid, step
from fastrnn.checks import Array, Floats, as_real_array, check_option, namespace
from fastrnn.engine.containers import flatten
from fastrnn.engine.doors import door
from fastrnn.engine.parameters import Backward, Layer
from fastrnn.files import Shape, register

__all__ = ["Activation"]


def _softmax(xp: Any, x: Array) -> Array:
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def _softmax_backward(xp: Any, y: Array, dy: Array) -> Array:
    return y * (dy - xp.sum(dy * y, axis=-1, keepdims=True))


def _log_softmax(xp: Any, x: Array) -> Array:
    x = x - xp.max(x, axis=-1, keepdims=True)
    return x - xp.log(xp.sum(xp.exp(x), axis=-1, keepdims=True))


def _log_softmax_backward(xp: Any, y: Array, dy: Array) -> Array:
    return dy - xp.exp(y) * xp.sum(dy, axis=-1, keepdims=True)


Function = Callable[..., Array]

# Forward of (xp, x); backward of (xp, y, dy).
_FUNCTIONS: dict[str, tuple[Function, Function]] = {
    "softmax": (_softmax, _softmax_backward),
    "log_softmax": (_log_softmax, _log_softmax_backward),
    "relu": (relu, lambda xp, y, dy: dy * step(xp, y)),
    "sigmoid": (sigmoid, lambda xp, y, dy: dy * y * (1 - y)),
    "tanh": (lambda xp, x: xp.tanh(x), lambda xp, y, dy: dy * (1 - y * y)),
}


@register
class Activation(Layer):
    """A function without parameters: of each element, or softmax over the last axis.

    Parameters
    ----------
    function : {"softmax", "log_softmax", "relu", "sigmoid", "tanh"}

    Examples
    --------
    >>> import fastrnn
    >>> fastrnn.Activation("softmax")([[0.0, 0.0], [2.0, 2.0]]).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """

    def __init__(self, function: str) -> None:
        self.function = check_option("function", function, _FUNCTIONS)
        self.dtype = None  # the input's
        self._own({})
        self._device = None

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"function": self.function}

    @classmethod
    def shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
        """Name and shape of each parameter, from a configuration nobody has checked."""
        yield from ()

    def _rows(self, x: Any) -> tuple[Array, Any]:
        """The rows (total, D) of an input of any width, in its own dtype, and their form."""
        if isinstance(x, (list, tuple)) and len(x) and np.ndim(x[0]) == 2:
            first = as_real_array("x[0]", x[0], ndim=2, axes="(T, D)")
            return flatten("x", x, int(first.shape[1]), first.dtype)
        whole = as_real_array("x", x)
        if not whole.shape:
            raise ValueError("x: expected shape (..., D), got ()")
        return flatten("x", whole, int(whole.shape[-1]), whole.dtype)

    @overload
    def __call__(self, x: np.ndarray) -> Floats: ...
    @overload
    def __call__(self, x: Any) -> Any: ...
    @door
    def __call__(self, x: Any) -> Any:
        """The function of `x`.

        Parameters
        ----------
        x : array (..., D), or list of arrays (T_i, D)

        Returns
        -------
        as `x`
        """
        rows, form = self._rows(x)
        return form.restore(self._apply(rows))

    @overload
    def forward(self, x: np.ndarray) -> tuple[Floats, Backward]: ...
    @overload
    def forward(self, x: Any) -> tuple[Any, Backward]: ...
    @door
    def forward(self, x: Any) -> tuple[Any, Backward]:
        """The same, and ``backward(dy) -> dx``."""
        rows, form = self._rows(x)
        y = self._apply(rows)

        def backward(dy: Any) -> Any:
            drows = form.flatten("dy", dy, int(rows.shape[1]), rows.dtype)
            return form.restore(_FUNCTIONS[self.function][1](namespace(rows), y, drows))

        return form.restore(y), Backward(backward)

    def _apply(self, rows: Array) -> Array:
        if 0 in rows.shape:  # of nothing there is no largest element
            return rows
        return _FUNCTIONS[self.function][0](namespace(rows), rows)
