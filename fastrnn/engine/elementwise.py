"""What is done element by element or row by row: native for NumPy arrays, array operations else.

Each function stands twice: the array operations are the formula to read, what runs for arrays of
other kinds, and what the native kernels are tested against.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn import _elementwise
from fastrnn.checks import DTYPES, Array, is_numpy, namespace
from fastrnn.engine.parameters import beside, to_host

__all__ = [
    "add_scaled",
    "cross_entropy",
    "gather",
    "is_native",
    "layer_norm",
    "layer_norm_backward",
    "scale",
    "scatter_add",
    "sum_of_squares",
]


def is_native(*arrays: Array) -> bool:
    """Whether compiled code can work on these arrays together: NumPy, in C order, of one dtype."""
    return is_numpy(*arrays) and all(
        a.dtype == arrays[0].dtype
        and a.dtype in DTYPES
        and a.flags.c_contiguous
        and a.flags.aligned
        for a in arrays
    )


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1)  # a view: in C order


# Softmax cross entropy


def cross_entropy(
    rows: Array,
    targets: Array,
    weights: np.ndarray | None,
    scale: float,
    *,
    out: np.ndarray | None = None,
    gradient: bool = True,
    smoothing: float = 0.0,
) -> tuple[np.ndarray, Array | None]:
    """Softmax cross entropy of rows with one class each, and its gradient.

    Parameters
    ----------
    rows : array (rows, K)
        The logits.
    targets : array of int64 (rows,)
        In [0, K), beside `rows`.
    weights : numpy.ndarray of float64 (rows,), optional
        Rows of weight 0 are excluded whatever they hold.
    scale : float
        What the gradient is multiplied by beside the weights.
    out : numpy.ndarray (rows, K), optional
        Where to write the gradient, in C order; may be `rows`.
    gradient : bool
        Whether it is wanted.
    smoothing : float
        The share of the target that all classes have alike.

    Returns
    -------
    loss : numpy.ndarray of float64 (rows,)
        Without weights, but 0 where a row is excluded.
    grad : array (rows, K), or None
    """
    if is_numpy(rows, targets):
        rows, targets = np.ascontiguousarray(rows), np.ascontiguousarray(targets)
        weights = None if weights is None else np.ascontiguousarray(weights)
        loss = np.zeros(rows.shape[0])
        if gradient and out is None:
            out = np.empty_like(rows)
        grad = out if gradient else None
        _elementwise.cross_entropy(rows, targets, weights, scale, grad, loss, smoothing)
        return loss, grad
    return array_cross_entropy(rows, targets, weights, scale, smoothing)


def array_cross_entropy(
    rows: Array,
    targets: Array,
    weights: np.ndarray | None,
    scale: float,
    smoothing: float = 0.0,
) -> tuple[np.ndarray, Array]:
    """The same in array operations."""
    xp = namespace(rows)
    count, classes = (int(n) for n in rows.shape)
    if not count or not classes:
        return np.zeros(count), rows
    with np.errstate(all="ignore"):  # NaN and infinity are what the loss says of such rows
        shifted = rows - xp.max(rows, axis=1)[:, None]
        exps = xp.exp(shifted)
        total = xp.sum(exps, axis=1)
        flat = xp.arange(count) * classes + targets
        picked = xp.take(xp.reshape(shifted, (-1,)), flat, axis=0)
        goal = to_host(picked).astype(np.float64)
        if smoothing:
            even = to_host(xp.mean(shifted, axis=1)).astype(np.float64)
            goal = (1 - smoothing) * goal + smoothing * even
        loss = to_host(xp.log(total)).astype(np.float64) - goal
        share = exps / total[:, None]
    # A comparison per element, as the array standard has no way to subtract at given places.
    is_target = xp.arange(classes)[None, :] == targets[:, None]
    grad = xp.where(is_target, share - (1 - smoothing), share)
    if smoothing:
        grad = grad - smoothing / classes
    if weights is None:
        return loss, grad * scale
    loss = np.where(weights != 0, loss, 0.0)
    factor = beside((weights * scale).astype(to_host(rows[:0, :]).dtype), rows)[:, None]
    used = beside(weights != 0, rows)[:, None]
    return loss, xp.where(used, grad * factor, xp.zeros_like(grad))


# Whole arrays


def sum_of_squares(x: Array) -> float:
    """The sum of x^2 in float64; of NumPy arrays the same bits for any number of threads."""
    if is_native(x):
        return _elementwise.sum_of_squares(_flat(x))
    xp = namespace(x)
    with np.errstate(over="ignore"):
        wide = xp.astype(x, xp.float64)
        return float(xp.sum(wide * wide))


def scale(y: Array, factor: float) -> None:
    """Multiply y by a factor, in place."""
    if is_native(y):
        _elementwise.scale(_flat(y), factor)
    else:
        y *= factor


def add_scaled(y: Array, x: Array, factor: float = 1.0) -> None:
    """Add factor * x to y, in place."""
    if is_native(y, x):
        _elementwise.add_scaled(_flat(y), _flat(x), factor)
    else:
        y += x if factor == 1 else x * factor


# Rows of a table


def gather(table: Array, index: Array, out: np.ndarray | None = None) -> Array:
    """Rows of a table, as one-hot(index) @ table gives them.

    Parameters
    ----------
    table : array (V, E)
    index : array of int64 (rows,)
        In [0, V).
    out : numpy.ndarray (rows, E), optional
        Where to write, for NumPy arrays.

    Returns
    -------
    array (rows, E)
    """
    if is_native(table) and is_numpy(index):
        out = np.empty((index.shape[0], table.shape[1]), table.dtype) if out is None else out
        _elementwise.gather(table, np.ascontiguousarray(index), out)
        return out
    return namespace(table).take(table, index, axis=0)


def scatter_add(dtable: np.ndarray, index: np.ndarray, drows: np.ndarray) -> None:
    """Add one-hot(index)^T @ drows, touching only the rows used, in the order of `index`."""
    drows = np.ascontiguousarray(drows)
    if is_native(dtable, drows):
        _elementwise.scatter_add(dtable, np.ascontiguousarray(index), drows)
    else:
        np.add.at(dtable, index, drows)


def update(rule: str, param: Array, grad: Array, state: dict[str, Array], **numbers: Any) -> bool:
    """Make one step of an optimizer if compiled code can, and say whether it did.

    The rules and their numbers are those of ``fastrnn.optim``.
    """
    if not is_native(param, grad, *state.values()):
        return False
    mean, square = state.get("mean"), state.get("square")
    _elementwise.update(
        rule,
        _flat(param),
        _flat(grad),
        None if mean is None else _flat(mean),
        None if square is None else _flat(square),
        **numbers,
    )
    return True


# Rows normalized over their columns

Moments = tuple[Array, Array]


def layer_norm(
    rows: Array, weight: np.ndarray, bias: np.ndarray, epsilon: float, out: np.ndarray | None = None
) -> tuple[Array, Moments]:
    """The rows (x - mean) / sqrt(var + epsilon) * weight + bias, and what backward needs.

    Parameters
    ----------
    rows : array (rows, D)
    weight, bias : numpy.ndarray (D,)
    epsilon : float
    out : numpy.ndarray (rows, D), optional
        Where to write, for NumPy arrays.

    Returns
    -------
    y : array (rows, D)
    moments : (array, array)
        Each row's mean and 1 / sqrt(var + epsilon).
    """
    if is_native(rows, weight, bias):
        mean, root = np.empty((2, rows.shape[0]), rows.dtype)
        out = np.empty_like(rows) if out is None else out
        _elementwise.layer_norm(rows, weight, bias, epsilon, mean, root, out)
        return out, (mean, root)
    return array_layer_norm(rows, beside(weight, rows), beside(bias, rows), epsilon)


def array_layer_norm(
    rows: Array, weight: Array, bias: Array, epsilon: float
) -> tuple[Array, Moments]:
    """The same in array operations."""
    xp = namespace(rows)
    mean = xp.mean(rows, axis=1)
    centered = rows - mean[:, None]
    root = 1.0 / xp.sqrt(xp.mean(centered * centered, axis=1) + epsilon)
    return centered * root[:, None] * weight + bias, (mean, root)


def layer_norm_backward(
    drows: Array,
    rows: Array,
    moments: Moments,
    weight: np.ndarray,
    dweight: np.ndarray,
    dbias: np.ndarray,
    out: np.ndarray | None = None,
) -> Array:
    """The gradient of `layer_norm`'s rows; adds those of weight and bias."""
    if is_native(drows, rows, weight, dweight, dbias):
        out = np.empty_like(rows) if out is None else out
        _elementwise.layer_norm_backward(rows, weight, *moments, drows, out, dweight, dbias)
        return out
    xp = namespace(rows)
    dx, normal = array_layer_norm_backward(drows, rows, moments, beside(weight, rows))
    dweight += to_host(xp.sum(drows * normal, axis=0))
    dbias += to_host(xp.sum(drows, axis=0))
    return dx


def array_layer_norm_backward(
    drows: Array, rows: Array, moments: Moments, weight: Array
) -> tuple[Array, Array]:
    """The gradient of the rows, and the rows normalized.

    With n the normalized rows and g = dy * weight it is (g - mean(g) - n * mean(g * n)) * root.
    """
    xp = namespace(rows)
    mean, root = (m[:, None] for m in moments)
    normal = (rows - mean) * root
    g = drows * weight
    along = xp.mean(g * normal, axis=1)[:, None]
    return (g - xp.mean(g, axis=1)[:, None] - normal * along) * root, normal
