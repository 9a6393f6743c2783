"""Dropout masks from a counter-based hash: no state, no order, the same bits wherever computed.

Whether an element is kept depends only on (seed, call number, layer, direction, the caller's
sequence index, step, unit), so a mask is the same for any number of threads, any batch a sequence
is put in and either back end, and the backward pass can compute it again instead of keeping it.

The hash is the finalizer of SplitMix64 (G. L. Steele, D. Lea and C. H. Flood, "Fast splittable
pseudorandom number generators", OOPSLA 2014, with D. Stafford's "Mix13" constants): the fields are
absorbed one by one into a 64-bit key of each row, and a row's units are the SplitMix64 sequence
that starts there. `src/elementwise.h` does the last part with the same integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn import _elementwise
from fastrnn.checks import Array, check_probability, dtype_of, is_cupy, namespace
from fastrnn.engine.arrays import beside, host_dtype

_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio, odd
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_BITS = 0xFFFFFFFFFFFFFFFF
NO_STEP = _BITS  # stands for the step where one mask serves all of a sequence's steps


def _word(xp: Any, value: int) -> Any:
    """An integer below 2^64 in a namespace's uint64: not every one takes large Python integers."""
    return xp.asarray(value, dtype=xp.uint64)


def _mix(z: Any) -> Any:
    """SplitMix64's finalizer of uint64 arrays, whose products wrap."""
    xp = namespace(z)
    z = (z ^ (z >> _word(xp, 30))) * _word(xp, _FIRST)
    z = (z ^ (z >> _word(xp, 27))) * _word(xp, _SECOND)
    return z ^ (z >> _word(xp, 31))


def _mix_int(z: int) -> int:
    """The same of a Python integer, which does not wrap by itself."""
    z = ((z ^ (z >> 30)) * _FIRST) & _BITS
    z = ((z ^ (z >> 27)) * _SECOND) & _BITS
    return z ^ (z >> 31)


def _absorb_int(key: int, field: int) -> int:
    return _mix_int(key ^ _mix_int(((field & _BITS) + _GOLDEN) & _BITS))


def _absorb(key: Any, field: Any) -> Any:
    return _mix(key ^ _mix(field + _word(namespace(field), _GOLDEN)))


def row_keys(
    seed: int,
    call: int,
    layer: int,
    direction: int,
    sequence_index: Array,
    step: Array | None = None,
    *,
    xp: Any = np,
) -> Array:
    """The 64-bit key of each row, from which the mask of its units follows.

    Parameters
    ----------
    seed, call, layer, direction : int
        What all rows share. Negative integers are taken modulo 2^64.
    sequence_index : array of int
        The caller's index of each row's sequence.
    step : array of int, optional
        The step of each row, broadcast against `sequence_index`; None for a mask that all steps of
        a sequence share.
    xp : namespace
        The namespace whose uint64 arrays to compute with.

    Returns
    -------
    array of uint64
        Of the shape that `sequence_index` and `step` broadcast to.
    """
    common = 0
    for field in (seed, call, layer, direction):
        common = _absorb_int(common, int(field))
    sequence = xp.astype(xp.asarray(sequence_index), xp.uint64)
    keys = _absorb(_word(xp, common), sequence)
    if step is None:
        return _mix(keys ^ _word(xp, _mix_int((NO_STEP + _GOLDEN) & _BITS)))
    return _absorb(keys, xp.astype(xp.asarray(step), xp.uint64))


def threshold_of(p: float) -> int:
    """Units whose 64-bit hash lies below this are dropped: p * 2^64, exact, for p in [0, 1)."""
    return int(p * 2.0**64)


def mask_from_keys(keys: Array, units: int, p: float, dtype: Any, *, xp: Any = np) -> Array:
    """Multipliers, 0 or 1/(1 - p), of shape ``keys.shape + (units,)`` and `dtype`."""
    if xp is np:
        out = np.empty((*keys.shape, units), dtype)
        flat = np.ascontiguousarray(keys).reshape(-1)
        _elementwise.drop(None, flat, threshold_of(p), 1 / (1 - p), out.reshape(flat.size, units))
        return out
    return array_mask_from_keys(keys, units, p, dtype, xp)


def array_mask_from_keys(keys: Array, units: int, p: float, dtype: Any, xp: Any) -> Array:
    """The same in array operations."""
    unit = xp.astype(xp.arange(1, units + 1), xp.uint64)
    hashes = _mix(keys[..., None] + unit * _word(xp, _GOLDEN))
    own = dtype_of(xp, dtype)
    scale = xp.asarray(1.0 / (1.0 - p), dtype=own)
    return xp.where(hashes >= _word(xp, threshold_of(p)), scale, xp.zeros_like(scale))


def _mask_beside(keys: np.ndarray, units: int, p: float, dtype: Any, like: Array) -> Array:
    """The mask of a host's keys, beside `like`: the same bits wherever that is.

    A CUDA device computes it. What other libraries can do with uint64 differs (PyTorch cannot
    multiply them), so that theirs is made on the host.
    """
    if is_cupy(like):
        return mask_from_keys(beside(keys, like), units, p, dtype, xp=namespace(like))
    return beside(mask_from_keys(keys, units, p, dtype), like)


def drop(rows: Array, keys: np.ndarray, p: float, out: np.ndarray | None = None) -> Array:
    """`rows` (rows, units) times the mask that `keys` (rows,) stand for, in `out` if given."""
    if isinstance(rows, np.ndarray):
        rows = np.ascontiguousarray(rows)
        out = np.empty_like(rows) if out is None else out
        _elementwise.drop(rows, np.ascontiguousarray(keys), threshold_of(p), 1 / (1 - p), out)
        return out
    units = int(rows.shape[1])
    return rows * _mask_beside(keys, units, p, host_dtype(rows), rows)


def keep_mask(
    seed: int,
    call: int,
    layer: int,
    direction: int,
    sequence_index: Array,
    step: Array | None,
    units: int,
    p: float,
    dtype: Any,
    *,
    xp: Any = np,
    like: Array | None = None,
) -> Array:
    """Dropout multipliers: 0 with probability `p`, else 1/(1 - p).

    Parameters
    ----------
    seed, call, layer, direction : int
        What tells this mask from all others, see `row_keys`.
    sequence_index : array of int, shape (N,)
        The caller's index of each sequence.
    step : array of int, shape (T,), or None
        The steps; None for one mask per sequence, as recurrent dropout has.
    units : int
        How many units each row has.
    p : float
        The probability of dropping a unit, in [0, 1).
    dtype : dtype
        float32 or float64.
    xp : namespace
        The namespace to compute in.
    like : array, optional
        Where to put the mask of the host's indices: beside this.

    Returns
    -------
    array, shape (N, T, units), or (N, units) if `step` is None
    """
    p = check_probability("p", p)
    index = xp.asarray(sequence_index)
    if step is not None:
        index = index[:, None]
    keys = row_keys(seed, call, layer, direction, index, step, xp=xp)
    if like is not None:
        return _mask_beside(keys, units, p, dtype, like)
    return mask_from_keys(keys, units, p, dtype, xp=xp)
