"""Losses with their gradients: each gives ``(loss, gradient)`` in one call.

All take `weight` and `reduction` in the same way. With l_i the loss of element i and w_i its weight
(1 where none is given), the loss is

* ``"mean"``: sum(w_i l_i) / sum(w_i), and 0 with a gradient of 0 where the weights sum to 0, as
  in a batch of nothing but padding;
* ``"sum"``: sum(w_i l_i);
* ``"none"``: each w_i l_i by itself, float64 in the form of the elements; the gradient is that of
  their sum.

An element of weight 0 is excluded: its target may be anything, its prediction too, NaN included,
and its gradient is 0. Losses are summed in float64 whatever the dtype, and are Python floats;
gradients have the dtype and the form (array or list) of the predictions.
"""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np

from fastrnn.checks import (
    Array,
    as_index_array,
    check_option,
    check_probability,
    check_real,
    describe,
    namespace,
)
from fastrnn.engine import elementwise, products
from fastrnn.engine.arrays import beside
from fastrnn.engine.containers import Form, flatten, flatten_indices
from fastrnn.engine.devices import check_kind
from fastrnn.engine.doors import Door, anywhere
from fastrnn.engine.parameters import Backward
from fastrnn.layers.modules import Linear
from fastrnn.pointwise_losses import (
    REDUCTIONS,
    absolute_error,
    binary_cross_entropy,
    check_weights,
    huber,
    quantile_error,
    squared_error,
)

__all__ = [
    "absolute_error",
    "binary_cross_entropy",
    "huber",
    "linear_cross_entropy",
    "quantile_error",
    "softmax_cross_entropy",
    "squared_error",
]

# Rows that `linear_cross_entropy` computes at a time: each chunk reads and writes the gradient of
# the whole weight, so there are at least 512; more while a chunk's logits are few.
CHUNK_ROWS = 512
CHUNK_LOGITS = 2**20


# Softmax cross entropy


@overload
def softmax_cross_entropy(
    logits: Any,
    targets: Any,
    weight: Any = None,
    *,
    reduction: Literal["mean", "sum"] = "mean",
    label_smoothing: float = 0.0,
    out: Any = None,
) -> tuple[float, Any]: ...
@overload
def softmax_cross_entropy(
    logits: Any,
    targets: Any,
    weight: Any = None,
    *,
    reduction: str,
    label_smoothing: float = 0.0,
    out: Any = None,
) -> tuple[Any, Any]: ...
@anywhere
def softmax_cross_entropy(
    logits: Any,
    targets: Any,
    weight: Any = None,
    *,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    out: Any = None,
) -> tuple[Any, Any]:
    """Cross entropy of softmax(logits) with one class per row: l = log(sum_j exp(z_j)) - z_target.

    The gradient is softmax(z) minus one at the target. The largest logit is subtracted first, so
    that logits of any size are fine. A logit of -inf is a class of probability 0, and a loss of
    +inf if it is the target; rows with +inf, NaN, or nothing but -inf have the loss NaN.

    Parameters
    ----------
    logits : array (..., K), or list of arrays (T_i, K)
    targets : array of int (...), or list of arrays (T_i,)
        Classes in [0, K), one for each row.
    weight : array (...), or list of arrays (T_i,), optional
        Not negative. Rows of weight 0 are excluded, whatever target they have.
    reduction : {"mean", "sum", "none"}
    label_smoothing : float
        e in [0, 1): the loss is (1 - e) l + e times the mean of -log softmax(z)_j over all
        classes j (C. Szegedy et al., "Rethinking the Inception architecture for computer vision",
        CVPR 2016, section 7).
    out : array, optional
        Where to write the gradient: an array like `logits`, or `logits` itself.

    Returns
    -------
    loss : float, or array (...) with ``reduction="none"``
    dlogits : as `logits`

    Raises
    ------
    ValueError
        If shapes do not fit, or a target of nonzero weight is out of range.
    TypeError
        If `targets` are not integers or `logits` not real.
    """
    check_option("reduction", reduction, REDUCTIONS)
    smoothing = check_probability("label_smoothing", label_smoothing)
    classes = _last_size("logits", logits)
    rows, form = flatten("logits", logits, classes, None)
    target_rows, weight_rows = _targets(targets, weight, form, rows, classes, "logits")
    scale = _scale(weight_rows, int(rows.shape[0]), reduction)
    loss, grad = elementwise.cross_entropy(
        rows, target_rows, weight_rows, scale, out=_out(out, logits), smoothing=smoothing
    )
    return _reduce(loss, weight_rows, scale, reduction, form), form.restore(grad)


def _last_size(name: str, x: Any) -> int:
    """The number of classes, the size of the last axis of an array or of each array of a list."""
    first = x[0] if isinstance(x, (list, tuple)) and len(x) else x
    shape = np.shape(first)
    if not shape:
        raise ValueError(f"{name}: expected shape (..., K), got {tuple(shape)}")
    if isinstance(x, (list, tuple)) and not len(x):
        return 1
    return int(shape[-1])


def _out(out: Any, like: Any) -> np.ndarray | None:
    """Rows of `out`, which must be an array that a kernel can write where `like` has elements."""
    if out is None:
        return None
    if not isinstance(out, np.ndarray) or not isinstance(like, np.ndarray):
        raise TypeError(f"out: expected a NumPy array beside one of logits, got {describe(out)}")
    if out.shape != like.shape or out.dtype != like.dtype:
        raise ValueError(
            f"out: expected shape {like.shape} and dtype {like.dtype}, "
            f"got {out.shape} and {out.dtype}"
        )
    if not (out.flags.c_contiguous and out.flags.writeable and out.flags.aligned):
        raise ValueError("out: expected a writable array in C order, got another")
    return out.reshape((-1, out.shape[-1])) if out.size else None


def _targets(
    targets: Any, weight: Any, form: Form, rows: Array, classes: int, beside_what: str
) -> tuple[Array, np.ndarray | None]:
    """The targets (rows,), int64 and in range where they count, and the weights (rows,) or None."""
    flat, own = flatten_indices("targets", targets)
    if own.shape != form.shape or own.lengths != form.lengths:
        wanted = form.shape if form.lengths is None else f"a list of {len(form.lengths)} arrays"
        got = own.shape if own.lengths is None else f"a list of {len(own.lengths)} arrays"
        if own.lengths is not None and form.lengths is not None:
            wanted, got = f"arrays of lengths {form.lengths}", f"{own.lengths}"
        raise ValueError(
            f"targets: expected shape {wanted}, one for each row of {beside_what}, got {got}"
        )
    flat = _beside(flat, rows)
    weights = _weights(weight, form, rows)
    if weights is None:
        return as_index_array("targets", flat, classes, what="classes"), None
    if not isinstance(flat, np.ndarray):
        seen = namespace(flat).where(weights != 0, flat, namespace(flat).zeros_like(flat))
        return as_index_array("targets", seen, classes, what="classes"), weights
    used = weights != 0
    checked = as_index_array("targets", flat[used], classes, what="classes")
    host = np.zeros(flat.shape, np.int64)
    host[used] = checked
    return host, weights


def _weights(weight: Any, form: Form, rows: Array) -> Array | None:
    """The weights (rows,) as float64, beside the rows."""
    if weight is None:
        return None
    weights = _beside(form.flatten("weight", weight, None, np.float64), rows)
    check_weights(weights)
    return weights


def _beside(array: Array, like: Array) -> Array:
    """An array that is beside `like`, unless a list of numbers has become one of NumPy's."""
    return beside(array, like) if isinstance(array, np.ndarray) else array


def _scale(weights: Array | None, count: int, reduction: str) -> float:
    """What the weighted losses are multiplied by."""
    if reduction != "mean":
        return 1.0
    total = float(count) if weights is None else elementwise.sum_of(weights)
    return 1.0 / total if total else 0.0


def _reduce(loss: Array, weights: Array | None, scale: float, reduction: str, form: Form) -> Any:
    """Losses (rows,), zero where they are excluded, as `reduction` says."""
    if weights is not None:
        loss = loss * weights
    if reduction == "none":
        return form.restore(loss)
    return elementwise.sum_of(loss) * scale


@overload
def linear_cross_entropy(
    linear: Linear,
    x: Any,
    targets: Any,
    weight: Any = None,
    reduction: str = "mean",
    *,
    label_smoothing: float = 0.0,
    gradient: Literal[True] = True,
) -> tuple[float, Backward]: ...
@overload
def linear_cross_entropy(
    linear: Linear,
    x: Any,
    targets: Any,
    weight: Any = None,
    reduction: Literal["mean", "sum"] = "mean",
    *,
    label_smoothing: float = 0.0,
    gradient: Literal[False],
) -> tuple[float, None]: ...
@overload
def linear_cross_entropy(
    linear: Linear,
    x: Any,
    targets: Any,
    weight: Any = None,
    reduction: str = "mean",
    *,
    label_smoothing: float = 0.0,
    gradient: bool,
) -> tuple[Any, Backward | None]: ...
def linear_cross_entropy(
    linear: Linear,
    x: Any,
    targets: Any,
    weight: Any = None,
    reduction: str = "mean",
    *,
    label_smoothing: float = 0.0,
    gradient: bool = True,
) -> tuple[Any, Backward | None]:
    """`softmax_cross_entropy` of ``linear(x)`` without ever holding all logits.

    It walks the rows in chunks of at least 512 rows, or of a million logits where that are more,
    and each chunk's logits overwrite the last's. With `gradient` the gradients of x and of the
    parameters are computed on the way, while the chunk's logits are there: three products, as many
    as training needs at least, and room for a second gradient of the weight until ``backward`` adds
    it. To keep only each row's log(sum(exp)) would save that room but compute all logits again, a
    fourth product. Where all rows are one chunk, its gradient is kept and ``backward`` does the
    rest. For a loss alone say ``gradient=False``: one product.

    Parameters
    ----------
    linear : Linear
        The layer that gives the logits.
    x : array (..., in_features), or list of arrays (T_i, in_features)
    targets, weight
        As for `softmax_cross_entropy`.
    reduction : {"mean", "sum", "none"}
        ``"none"`` only with ``gradient=False``.
    label_smoothing : float
        As for `softmax_cross_entropy`.
    gradient : bool
        Whether ``backward`` will be called.

    Returns
    -------
    loss : float, or array (...) with ``reduction="none"``
    backward : callable or None
        ``backward(dloss=1.0) -> dx`` adds dloss times the gradients into ``linear.grads``.
    """
    if not isinstance(linear, Linear):
        raise TypeError(f"linear: expected a Linear layer, got {describe(linear)}")
    check_option("reduction", reduction, REDUCTIONS[:2] if gradient else REDUCTIONS)
    smoothing = check_probability("label_smoothing", label_smoothing)
    opened = Door(linear._device, "x", x, mixed=True)
    return opened.call(
        _linear_cross_entropy,
        linear,
        *(
            opened.take(name, value)
            for name, value in (("x", x), ("targets", targets), ("weight", weight))
        ),
        reduction,
        smoothing,
        gradient,
    )


def _linear_cross_entropy(
    linear: Linear,
    x: Any,
    targets: Any,
    weight: Any,
    reduction: str,
    smoothing: float,
    gradient: bool,
) -> tuple[Any, Backward | None]:
    rows, form = flatten("x", x, linear.in_features, linear.dtype, linear.parts["weight"])
    check_kind("x", rows, linear.parts["weight"])
    classes = linear.out_features
    target_rows, weights = _targets(targets, weight, form, rows, classes, "x")
    count = int(rows.shape[0])
    scale = _scale(weights, count, reduction)
    # Chunks of nearly equal size, so that none is much smaller than asked for.
    n_chunks = max(1, count // max(CHUNK_ROWS, CHUNK_LOGITS // classes))
    chunks = [slice(count * i // n_chunks, count * (i + 1) // n_chunks) for i in range(n_chunks)]
    host = isinstance(rows, np.ndarray)
    room = linear.spare(max(c.stop - c.start for c in chunks), classes) if host else None
    dx = linear.spare(count, linear.in_features) if host and gradient and n_chunks > 1 else None
    zeros_like = namespace(rows).zeros_like
    apart = {n: zeros_like(g) for n, g in linear.part_grads.items()} if n_chunks > 1 else {}
    found: list[Array] = []
    pieces: list[Array] = []
    dlogits: Array = None
    call = linear.call()
    for chunk in chunks:
        place = None if room is None else room[: chunk.stop - chunk.start]
        logits = linear.rows_forward(rows[chunk, :], place, call)
        losses, dlogits = elementwise.cross_entropy(
            logits,
            target_rows[chunk],
            None if weights is None else weights[chunk],
            scale,
            out=place,
            gradient=gradient,
            smoothing=smoothing,
        )
        found.append(losses)
        if gradient and n_chunks > 1:
            products.accumulate(dlogits, rows[chunk, :], apart["weight"], apart.get("bias"))
            pieces.append(linear.rows_backward(dlogits, None if dx is None else dx[chunk], call))
    loss = found[0] if n_chunks == 1 else namespace(rows).concat(found)
    total = _reduce(loss, weights, scale, reduction, form)
    if not gradient:
        return total, None

    def backward(dloss: float = 1.0) -> Any:
        factor = check_real("dloss", dloss, finite=False)
        if n_chunks == 1:
            if factor != 1:
                elementwise.scale(dlogits, factor)
            linear.rows_accumulate(dlogits, rows)
            return form.restore(linear.rows_backward(dlogits, call=call))
        linear.add_scaled(apart, factor)
        drows = dx if dx is not None else namespace(rows).concat(pieces)
        if factor != 1:
            elementwise.scale(drows, factor)
        return form.restore(drows)

    return total, Backward(backward)
