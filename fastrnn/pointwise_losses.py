"""Losses that compare element by element; `fastrnn.losses` tells what weights and reductions do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, overload

import numpy as np

from fastrnn.checks import Array, as_real_array, check_option, check_real, namespace
from fastrnn.engine.arrays import beside, to_host
from fastrnn.engine.containers import Form, flatten
from fastrnn.engine.doors import anywhere

__all__ = [
    "REDUCTIONS",
    "absolute_error",
    "binary_cross_entropy",
    "check_weights",
    "huber",
    "quantile_error",
    "squared_error",
]

REDUCTIONS = ("mean", "sum", "none")

Formula = Callable[[Any, Array, Array], tuple[Array, Array]]


@overload
def squared_error(
    predictions: Any,
    targets: Any,
    weight: Any = None,
    *,
    reduction: Literal["mean", "sum"] = "mean",
) -> tuple[float, Any]: ...
@overload
def squared_error(
    predictions: Any, targets: Any, weight: Any = None, *, reduction: str
) -> tuple[Any, Any]: ...
@anywhere
def squared_error(
    predictions: Any, targets: Any, weight: Any = None, *, reduction: str = "mean"
) -> tuple[Any, Any]:
    """Squared error, l = (p - t)^2.

    Parameters
    ----------
    predictions : array of any shape, or list of arrays (T_i, D) or (T_i,)
    targets : as `predictions`
    weight : as `predictions`, or without their last axis, optional
        Not negative; see `fastrnn.losses` for what weights and `reduction` do.
    reduction : {"mean", "sum", "none"}

    Returns
    -------
    loss : float, or as `predictions` with ``reduction="none"``
    gradient : as `predictions`
    """

    def formula(xp: Any, p: Array, t: Array) -> tuple[Array, Array]:
        r = p - t
        return r * r, 2 * r

    return _pointwise("predictions", predictions, targets, weight, reduction, formula)


@overload
def absolute_error(
    predictions: Any,
    targets: Any,
    weight: Any = None,
    *,
    reduction: Literal["mean", "sum"] = "mean",
) -> tuple[float, Any]: ...
@overload
def absolute_error(
    predictions: Any, targets: Any, weight: Any = None, *, reduction: str
) -> tuple[Any, Any]: ...
@anywhere
def absolute_error(
    predictions: Any, targets: Any, weight: Any = None, *, reduction: str = "mean"
) -> tuple[Any, Any]:
    """Absolute error, l = |p - t|; the gradient is the sign of p - t, 0 where they are equal.

    Parameters and results are those of `squared_error`.
    """

    def formula(xp: Any, p: Array, t: Array) -> tuple[Array, Array]:
        r = p - t
        return xp.abs(r), xp.sign(r)

    return _pointwise("predictions", predictions, targets, weight, reduction, formula)


@overload
def huber(
    predictions: Any,
    targets: Any,
    weight: Any = None,
    *,
    delta: float = 1.0,
    reduction: Literal["mean", "sum"] = "mean",
) -> tuple[float, Any]: ...
@overload
def huber(
    predictions: Any, targets: Any, weight: Any = None, *, delta: float = 1.0, reduction: str
) -> tuple[Any, Any]: ...
@anywhere
def huber(
    predictions: Any,
    targets: Any,
    weight: Any = None,
    *,
    delta: float = 1.0,
    reduction: str = "mean",
) -> tuple[Any, Any]:
    """Huber's loss: with r = p - t, r^2/2 where |r| <= delta, else delta (|r| - delta/2).

    P. J. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35
    (1964). Parameters and results are otherwise those of `squared_error`.

    Parameters
    ----------
    delta : float
        Where the square becomes a line; above 0.
    """
    d = check_real("delta", delta, above=0.0)

    def formula(xp: Any, p: Array, t: Array) -> tuple[Array, Array]:
        r = p - t
        size = xp.abs(r)
        inside = size <= d
        return xp.where(inside, r * r / 2, d * (size - d / 2)), xp.where(inside, r, d * xp.sign(r))

    return _pointwise("predictions", predictions, targets, weight, reduction, formula)


@overload
def quantile_error(
    predictions: Any,
    targets: Any,
    quantiles: Any,
    weight: Any = None,
    *,
    reduction: Literal["mean", "sum"] = "mean",
) -> tuple[float, Any]: ...
@overload
def quantile_error(
    predictions: Any, targets: Any, quantiles: Any, weight: Any = None, *, reduction: str
) -> tuple[Any, Any]: ...
@anywhere
def quantile_error(
    predictions: Any,
    targets: Any,
    quantiles: Any,
    weight: Any = None,
    *,
    reduction: str = "mean",
) -> tuple[Any, Any]:
    """Pinball loss of quantiles: l = q (t - p) where t >= p, else (1 - q) (p - t).

    Its expectation is lowest where p is the q-quantile of t. The gradient is -q below the target,
    1 - q above it, and 0 where they are equal. R. Koenker and G. Bassett, "Regression quantiles",
    Econometrica 46 (1978).

    Parameters
    ----------
    predictions : array (..., Q), or list of arrays (T_i, Q)
    targets : array (...), or list of arrays (T_i,)
        The same one for each of the Q quantiles.
    quantiles : array (Q,)
        Each q, between 0 and 1.
    weight, reduction
        As for `squared_error`: (..., Q) or (...).

    Returns
    -------
    loss : float, or as `predictions` with ``reduction="none"``
    gradient : as `predictions`
    """
    q = to_host(as_real_array("quantiles", quantiles, np.float64, ndim=1))
    if not ((q > 0) & (q < 1)).all():
        raise ValueError(f"quantiles: expected numbers between 0 and 1, got {q.tolist()}")
    p, form = _elements("predictions", predictions)
    if len(p.shape) < (1 if form is None else 2) or p.shape[-1] != len(q):
        raise ValueError(
            f"predictions: expected {len(q)} in the last axis, one for each of the quantiles, "
            f"got {_form_text(p, form)}"
        )
    t, other = _elements("targets", targets)
    if (tuple(t.shape), other) != (tuple(p.shape[:-1]), form):
        raise ValueError(
            f"targets: expected one for each row of predictions, {_form_text(p[..., 0], form)}, "
            f"got {_form_text(t, other)}"
        )
    xp = namespace(t)
    t = xp.broadcast_to(t[..., None], tuple(p.shape))

    def formula(xp: Any, p: Array, t: Array) -> tuple[Array, Array]:
        r = p - t
        level = beside(q, p)
        above, below = (1 - level) * r, -level * r
        grad = xp.where(r > 0, 1 - level + 0 * r, xp.where(r < 0, 0 * r - level, r))
        return xp.where(r > 0, above, below), grad

    repeated = t if form is None else _like_elements(t, form)
    return _pointwise("predictions", predictions, repeated, weight, reduction, formula)


@overload
def binary_cross_entropy(
    logits: Any,
    targets: Any,
    weight: Any = None,
    *,
    reduction: Literal["mean", "sum"] = "mean",
) -> tuple[float, Any]: ...
@overload
def binary_cross_entropy(
    logits: Any, targets: Any, weight: Any = None, *, reduction: str
) -> tuple[Any, Any]: ...
@anywhere
def binary_cross_entropy(
    logits: Any, targets: Any, weight: Any = None, *, reduction: str = "mean"
) -> tuple[Any, Any]:
    """Cross entropy of s(z), the sigmoid of logits z: l = -t log s(z) - (1 - t) log(1 - s(z)).

    The gradient is s(z) - t.

    It takes the logits z and not the sigmoid's result, and is computed as
    max(z, 0) - z t + log(1 + exp(-|z|)), which no logit is too large for.

    Parameters
    ----------
    logits : array of any shape, or list of arrays (T_i, D) or (T_i,)
    targets : as `logits`
        Probabilities: in [0, 1] wherever the weight is not 0.
    weight, reduction
        As for `squared_error`.

    Returns
    -------
    loss : float, or as `logits` with ``reduction="none"``
    gradient : as `logits`
    """

    def formula(xp: Any, z: Array, t: Array) -> tuple[Array, Array]:
        small = xp.exp(-xp.abs(z))  # in (0, 1]
        sigmoid = xp.where(z >= 0, 1 / (1 + small), small / (1 + small))
        above = xp.where(z > 0, z, xp.zeros_like(z))
        # 0 * inf must not spoil an infinite logit whose target is sure
        product = xp.where(t == 0, xp.zeros_like(z), z * t)
        rest = xp.where(above == product, xp.zeros_like(z), above - product)
        return rest + xp.log1p(small), sigmoid - t

    return _pointwise("logits", logits, targets, weight, reduction, formula, probabilities=True)


def _pointwise(
    name: str,
    predictions: Any,
    targets: Any,
    weight: Any,
    reduction: str,
    formula: Formula,
    probabilities: bool = False,
) -> tuple[Any, Any]:
    """What these losses share; `formula` gives the loss and gradient of each element in float64."""
    check_option("reduction", reduction, REDUCTIONS)
    p, form = _elements(name, predictions)
    t, other = _elements("targets", targets)
    if (t.shape, other) != (p.shape, form):
        raise ValueError(
            f"targets: expected {_form_text(p, form)} as {name} have, got {_form_text(t, other)}"
        )
    xp = namespace(p)
    dtype = p.dtype
    p, t = (as_real_array(name, _beside(a, p), np.float64) for a in (p, t))
    w = None if weight is None else _element_weights(weight, p, form, name)
    if probabilities:
        _check_probabilities(t if w is None else t[w != 0])
    scale = 1.0
    if reduction == "mean":
        total = float(math.prod(p.shape) if w is None else xp.sum(w))
        scale = 1.0 / total if total else 0.0
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity: defined above
        loss, grad = formula(xp, p, t)
        if w is None:
            grad = grad * scale
        else:
            # Not only a product: what is excluded may be NaN.
            loss = xp.where(w != 0, loss * w, xp.zeros_like(loss))
            grad = xp.where(w != 0, grad * (w * scale), xp.zeros_like(grad))
    grad = _like_elements(as_real_array("gradient", grad, dtype), form)
    if reduction == "none":
        return _like_elements(loss, form), grad
    return float(xp.sum(loss)) * scale, grad


def _elements(name: str, x: Any) -> tuple[Array, list[int] | None]:
    """An array as it is, or a list's rows and their numbers."""
    if not isinstance(x, (list, tuple)) or not x or not np.ndim(x[0]):
        return as_real_array(name, x), None
    one = np.ndim(x[0]) == 1
    rows, form = flatten(name, x, None if one else int(np.shape(x[0])[-1]), None)
    assert form.lengths is not None
    return rows, list(form.lengths)


def _like_elements(array: Array, lengths: list[int] | None) -> Any:
    return array if lengths is None else Form(None, lengths).restore(array)


def _form_text(array: Array, lengths: list[int] | None) -> str:
    if lengths is None:
        return f"shape {tuple(array.shape)}"
    tail = "".join(f", {n}" for n in array.shape[1:])
    return f"a list of {len(lengths)} arrays of {array.shape[0]} steps (total{tail})"


def _beside(array: Array, like: Array) -> Array:
    """An array that is beside `like`, unless a list of numbers has become one of NumPy's."""
    return beside(array, like) if isinstance(array, np.ndarray) else array


def _element_weights(weight: Any, p: Array, form: list[int] | None, name: str) -> Array:
    """Weights of the predictions' shape, beside them."""
    w, other = _elements("weight", weight)
    w = as_real_array("weight", _beside(w, p), np.float64)
    shape = tuple(p.shape)
    if other != form or tuple(w.shape) not in (shape, shape[:-1]):
        raise ValueError(
            f"weight: expected {_form_text(p, form)} as {name} have, or that without the last "
            f"axis, got {_form_text(w, other)}"
        )
    check_weights(w)
    whole = namespace(w).broadcast_to(w if tuple(w.shape) == shape else w[..., None], shape)
    return np.array(whole) if isinstance(whole, np.ndarray) else whole


def _check_probabilities(t: Array) -> None:
    xp = namespace(t)
    if math.prod(t.shape) and not bool(xp.all((t >= 0) & (t <= 1))):
        host = to_host(t)
        bad = host[~((host >= 0) & (host <= 1))].flat[0]
        raise ValueError(f"targets: expected probabilities in [0, 1], got {bad}")


def check_weights(weights: Array) -> None:
    """Raise a ValueError unless all are finite and not negative."""
    xp = namespace(weights)
    if math.prod(weights.shape) and not bool(xp.all((weights >= 0) & (weights < math.inf))):
        weights = to_host(weights)
        bad = weights[~((weights >= 0) & (weights < np.inf))].flat[0]
        raise ValueError(f"weight: expected finite numbers of at least 0, got {bad}")
