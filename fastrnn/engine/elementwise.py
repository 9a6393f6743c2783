"""What is done element by element or row by row: native for NumPy arrays, array operations else.

Each function stands twice: the array operations are the formula to read, what runs for arrays of
other kinds, and what the native kernels are tested against.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn import _elementwise
from fastrnn.checks import DTYPES, Array, is_numpy, namespace
from fastrnn.engine.arrays import add_at, entered, placed

__all__ = [
    "add_scaled",
    "cross_entropy",
    "gather",
    "is_native",
    "largest",
    "layer_norm",
    "layer_norm_backward",
    "scale",
    "scatter_add",
    "sum_of",
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
    weights: Array | None,
    scale: float,
    *,
    out: np.ndarray | None = None,
    gradient: bool = True,
    smoothing: float = 0.0,
) -> tuple[Array, Array | None]:
    """Softmax cross entropy of rows with one class each, and its gradient.

    Parameters
    ----------
    rows : array (rows, K)
        The logits.
    targets : array of int64 (rows,)
        In [0, K), beside `rows`.
    weights : array of float64 (rows,), optional
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
    loss : array of float64 (rows,)
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
    weights: Array | None,
    scale: float,
    smoothing: float = 0.0,
) -> tuple[Array, Array]:
    """The same in array operations."""
    xp = namespace(rows)
    count, classes = (int(n) for n in rows.shape)
    if not count or not classes:
        return xp.zeros(count, dtype=xp.float64, **placed(rows)), rows
    with np.errstate(all="ignore"):  # NaN and infinity are what the loss says of such rows
        shifted = rows - xp.max(rows, axis=1)[:, None]
        exps = xp.exp(shifted)
        total = xp.sum(exps, axis=1)
        flat = xp.arange(count, **placed(rows)) * classes + targets
        picked = xp.take(xp.reshape(shifted, (-1,)), flat, axis=0)
        goal = xp.astype(picked, xp.float64)
        if smoothing:
            even = xp.astype(xp.mean(shifted, axis=1), xp.float64)
            goal = (1 - smoothing) * goal + smoothing * even
        loss = xp.astype(xp.log(total), xp.float64) - goal
        share = exps / total[:, None]
    # A comparison per element, as the array standard has no way to subtract at given places.
    is_target = xp.arange(classes, **placed(rows))[None, :] == targets[:, None]
    grad = xp.where(is_target, share - (1 - smoothing), share)
    if smoothing:
        grad = grad - smoothing / classes
    if weights is None:
        return loss, grad * scale
    used = weights != 0
    loss = xp.where(used, loss, xp.zeros_like(loss))
    factor = xp.astype(weights * scale, rows.dtype)[:, None]
    return loss, xp.where(used[:, None], grad * factor, xp.zeros_like(grad))


# Whole arrays


def sum_of(x: Array) -> float:
    """The sum of all elements."""
    return float(x.sum() if isinstance(x, np.ndarray) else namespace(x).sum(x))


def sum_of_squares(*arrays: Array, divisor: float = 1.0) -> float:
    """The sum of (x / divisor)^2 in float64.

    Of NumPy arrays it has the same bits for any number of threads.
    """
    total, others = 0.0, []
    for x in arrays:
        if is_native(x):
            part = x if divisor == 1 else x / divisor
            total += _elementwise.sum_of_squares(_flat(part))
            continue
        with entered(x), np.errstate(over="ignore"):
            part = x if divisor == 1 else x / divisor
            wide = namespace(part).astype(part, namespace(part).float64)
            others.append(namespace(part).sum(wide * wide))
    # Numbers come to the host at the end: a device computes on while it is not asked for any.
    return total + sum(map(float, others))


def scale(y: Array, factor: float) -> None:
    """Multiply y by a factor, in place."""
    if is_native(y):
        _elementwise.scale(_flat(y), factor)
        return
    with entered(y):
        y *= factor


def add_scaled(y: Array, x: Array, factor: float = 1.0) -> None:
    """Add factor * x to y, in place."""
    if is_native(y, x):
        _elementwise.add_scaled(_flat(y), _flat(x), factor)
        return
    with entered(y):
        y += x if factor == 1 else x * factor


def largest(x: Array) -> float:
    """The largest magnitude."""
    with entered(x):
        return float(namespace(x).max(namespace(x).abs(x)))


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


def scatter_add(dtable: Array, index: Array, drows: Array) -> None:
    """Add one-hot(index)^T @ drows, touching only the rows used, in the order of `index`."""
    if is_numpy(drows):
        drows = np.ascontiguousarray(drows)
    if is_native(dtable, drows):
        _elementwise.scatter_add(dtable, np.ascontiguousarray(index), drows)
    else:
        add_at(dtable, index, drows)


def update(rule: str, param: Array, grad: Array, state: dict[str, Array], **numbers: Any) -> None:
    """Make one step of an optimizer with arrays that are all native.

    The rules and their numbers are those of ``fastrnn.optim``.
    """
    mean, square = state.get("mean"), state.get("square")
    _elementwise.update(
        rule,
        _flat(param),
        _flat(grad),
        None if mean is None else _flat(mean),
        None if square is None else _flat(square),
        **numbers,
    )


# Rows normalized over their columns

Moments = tuple[Array, Array]


def layer_norm(
    rows: Array, weight: Array, bias: Array, epsilon: float, out: np.ndarray | None = None
) -> tuple[Array, Moments]:
    """The rows (x - mean) / sqrt(var + epsilon) * weight + bias, and what backward needs.

    Parameters
    ----------
    rows : array (rows, D)
    weight, bias : array (D,)
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
    return array_layer_norm(rows, weight, bias, epsilon)


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
    weight: Array,
    dweight: Array,
    dbias: Array,
    out: np.ndarray | None = None,
) -> Array:
    """The gradient of `layer_norm`'s rows; adds those of weight and bias."""
    if is_native(drows, rows, weight, dweight, dbias):
        out = np.empty_like(rows) if out is None else out
        _elementwise.layer_norm_backward(rows, weight, *moments, drows, out, dweight, dbias)
        return out
    xp = namespace(rows)
    dx, normal = array_layer_norm_backward(drows, rows, moments, weight)
    dweight += xp.sum(drows * normal, axis=0)
    dbias += xp.sum(drows, axis=0)
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
