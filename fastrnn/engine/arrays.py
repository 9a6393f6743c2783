"""Arrays of any library: made where another lies, and read on the host.

Every array that a computation makes for itself (zeros, masks, indices) is put beside the arrays it
works on. CuPy makes arrays on the current device, which who calls has entered
(`fastrnn.engine.doors`); all other libraries are told the device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from fastrnn.checks import Array, is_cupy, library_of, namespace

__all__ = [
    "add_at",
    "beside",
    "copied",
    "entered",
    "host_dtype",
    "masked",
    "placed",
    "put",
    "take",
    "to_host",
    "unmasked",
    "write",
]


_NOWHERE = contextlib.nullcontext()


def placed(like: Array) -> dict[str, Any]:
    """What to tell a function that makes an array, for it to be on the device of `like`."""
    if isinstance(like, np.ndarray) or is_cupy(like):
        return {}
    device = getattr(like, "device", None)
    return {} if device is None else {"device": device}


def entered(like: Array) -> AbstractContextManager[Any]:
    """A context in which arrays are made where `like` is."""
    if isinstance(like, np.ndarray) or not is_cupy(like):
        return _NOWHERE
    return like.device


def beside(array: np.ndarray, like: Array) -> Array:
    """`array`, or a copy of it in the namespace and on the device of `like`.

    For what this library makes on the host itself; what callers give is never moved.
    """
    if isinstance(like, np.ndarray):
        return array
    xp = namespace(like)
    if xp is np:
        return array
    if not array.flags.writeable:  # which PyTorch has no notion of
        array = array.copy()
    with entered(like):
        return xp.asarray(array, **placed(like))


def to_host(array: Array) -> np.ndarray:
    """`array` as a NumPy array; of what lies on another device, a copy."""
    if isinstance(array, np.ndarray):
        return array
    if is_cupy(array):
        return array.get()  # it refuses to be converted silently
    if type(array).__module__.partition(".")[0] == "torch":
        return array.detach().cpu().numpy()
    if hasattr(array, "__dlpack__"):
        with contextlib.suppress(BufferError, RuntimeError):  # of a device that is not the CPU
            return np.from_dlpack(array)
    return np.asarray(array)


def host_dtype(array: Array) -> np.dtype:
    """NumPy's dtype of the same name as the array's own, such as ``torch.float32``."""
    return np.dtype(str(array.dtype).rpartition(".")[2])


def copied(array: Array) -> Array:
    """A copy of the array's own kind, on its device."""
    if isinstance(array, np.ndarray):
        return array.copy()
    with entered(array):
        return namespace(array).asarray(array, copy=True, **placed(array))


def write(array: Array, values: Any) -> None:
    """Replace all elements of an array by those of one beside it, or by a number."""
    with entered(array):
        array[...] = values


def take(x: Array, index: np.ndarray, axis: int = 0) -> Array:
    """Rows of `x` along an axis by integers of the host, as a new array."""
    if isinstance(x, np.ndarray):
        return x.take(index, axis)
    return namespace(x).take(x, beside(index, x), axis=axis)


def masked(x: Array, mask: np.ndarray) -> Array:
    """The rows (count, ...) of `x` (N, T, ...) where a mask (N, T) of the host is True."""
    rows = namespace(x).reshape(x, (-1, *x.shape[2:]))
    return take(rows, np.flatnonzero(mask))


def unmasked(rows: Array, mask: np.ndarray) -> Array:
    """Rows (count, ...) where a mask (N, T) of the host is True, and zeros elsewhere."""
    if isinstance(rows, np.ndarray):
        out = np.zeros((*mask.shape, *rows.shape[1:]), rows.dtype)
        out[mask] = rows
        return out
    xp = namespace(rows)
    with entered(rows):
        zero = xp.zeros((1, *rows.shape[1:]), dtype=rows.dtype, **placed(rows))
        which = np.where(mask, np.cumsum(mask).reshape(mask.shape), 0)
        whole = take(xp.concat([zero, rows]), which.reshape(-1))
    return xp.reshape(whole, (*mask.shape, *rows.shape[1:]))


def put(states: Sequence[Array], index: np.ndarray, rows: Sequence[Array]) -> None:
    """Replace rows of each (L, N, units) along N, by integers of the host, in place.

    Of all, or where memory ends of none.
    """
    if not states:
        return
    if library_of(states[0]) in ("numpy", "cupy", "torch"):
        where = beside(index, states[0])
        for state, new in zip(states, rows, strict=True):
            state[:, where] = new
        return
    # The standard has no such assignment.
    xp, n = namespace(states[0]), len(index)
    fresh = []
    for state, new in zip(states, rows, strict=True):
        source = np.arange(state.shape[1])
        source[index] = state.shape[1] + np.arange(n)
        fresh.append(take(xp.concat([state, new], axis=1), source, axis=1))
    for state, new in zip(states, fresh, strict=True):
        state[...] = new


def add_at(table: Array, index: Array, rows: Array) -> None:
    """Add one-hot(index)^T @ rows to `table`, in place."""
    xp = namespace(table)
    if hasattr(getattr(xp, "add", None), "at"):  # NumPy's and CuPy's
        xp.add.at(table, index, rows)
    elif hasattr(table, "index_add_"):  # PyTorch's
        table.index_add_(0, index, rows)
    elif index.shape[0]:  # the standard has no such function
        numbers = xp.arange(table.shape[0], **placed(table))
        chosen = xp.astype(numbers[:, None] == index[None, :], rows.dtype)
        table += xp.matmul(chosen, rows)
