"""Products of rows with a weight, outside the recurrences: x W^T + b and its two gradients.

NumPy arrays of one real dtype are multiplied natively, by the engine that the recurrences use, and
others by their own library.
"""

from __future__ import annotations

import numpy as np

from fastrnn import _products
from fastrnn.checks import Array, namespace

Cache = _products.Snapshots
"""What is kept of one weight between calls; opaque to everyone else."""

Call = _products.Call
"""The same for one call and its backward: ``Call(cache)`` sees only once if the weight changed."""


def _is_native(*arrays: Array | None) -> bool:
    """Whether all are NumPy arrays of one real dtype whose rows the kernels can address."""
    given = [a for a in arrays if a is not None]
    return all(
        isinstance(a, np.ndarray)
        and a.dtype == given[0].dtype
        and a.dtype.char in "fd"
        and a.strides[-1] == a.itemsize
        for a in given
    )


def linear(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    cache: Cache | Call | None = None,
    out: Array | None = None,
) -> Array:
    """The result x W^T + b.

    Parameters
    ----------
    x : array (rows, D)
    weight : array (M, D)
    bias : array (M,), optional
    cache : Cache or Call, optional
        The weight's own.
    out : array (rows, M), optional
        Where to write; NumPy arrays only.

    Returns
    -------
    array (rows, M)
    """
    if _is_native(x, weight, bias, out):
        if out is None:
            out = np.empty((x.shape[0], weight.shape[0]), x.dtype)
        _products.linear(x, weight, bias, cache, out)
        return out
    xp = namespace(x)
    y = xp.matmul(x, weight.T) if out is None else xp.matmul(x, weight.T, out=out)
    if bias is not None:
        y += bias
    return y


def linear_backward(
    dy: Array, weight: Array, cache: Cache | Call | None = None, out: Array | None = None
) -> Array:
    """The gradient of x, dy W: array (rows, D)."""
    if _is_native(dy, weight, out):
        if out is None:
            out = np.empty((dy.shape[0], weight.shape[1]), dy.dtype)
        _products.linear_backward(dy, weight, cache, out)
        return out
    xp = namespace(dy)
    return xp.matmul(dy, weight) if out is None else xp.matmul(dy, weight, out=out)


def accumulate(dy: Array, x: Array, dweight: Array, dbias: Array | None = None) -> None:
    """Add the gradients of the weight, dy^T x, and of the bias, the sum of dy over its rows.

    Without rows nothing is added.
    """
    if not dy.shape[0]:
        return
    if _is_native(dy, x, dweight, dbias) and dweight.flags.c_contiguous:
        _products.accumulate(dy, x, dweight, dbias)
        return
    xp = namespace(dy)
    dweight += xp.matmul(dy.T, x)
    if dbias is not None:
        dbias += xp.sum(dy, axis=0)
