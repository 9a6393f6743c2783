"""X as people have it, read into one array (T_i, D) for each sequence.

An array (n, T, D), with or without lengths, a table (n, T) whose rows are sequences of one channel,
or a list of arrays (T_i, D) or (T_i,). What can be viewed is not copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import describe
from fastrnn.engine.devices import check_host
from fastrnn.engine.rows import read_lengths

__all__ = ["LAYOUTS", "MISSING", "Channels", "Samples", "form_of", "read_samples"]

Array = NDArray[Any]

LAYOUTS = ("ntd", "ndt")
MISSING = ("error", "skip")


@dataclass(frozen=True, slots=True)
class Samples:
    """Sequences.

    Attributes
    ----------
    items : list of arrays (T_i, D), or of texts as sequences of tokens
    lengths : array (n,) of int64
    padded : int or None
        T, if they came as one array of so many steps.
    """

    items: list[Any]
    lengths: Array
    padded: int | None = None

    @property
    def width(self) -> int:
        """D."""
        return self.items[0].shape[1]

    def __len__(self) -> int:
        return len(self.items)

    def take(self, index: Array) -> Samples:
        """Some of the sequences."""
        return Samples([self.items[i] for i in index], self.lengths[index], self.padded)


def form_of(X: Any) -> str:
    """``"list"``, ``"array"`` (three dimensions) or ``"table"`` (whatever else there is).

    Python lists of numbers, nested, are what an array of them would be, unless their lengths
    differ; a list of arrays is a list of sequences.
    """
    if isinstance(X, np.ndarray) and X.dtype != object:
        return "array" if X.ndim == 3 else "table"
    if not isinstance(X, (list, tuple, np.ndarray)) or not len(X):
        return "array" if len(getattr(X, "shape", ())) == 3 else "table"
    if isinstance(X, np.ndarray) and X.ndim != 1:
        return "array" if X.ndim == 3 else "table"
    if any(len(getattr(one, "shape", ())) for one in X):
        return "list"
    if not all(isinstance(one, (list, tuple)) for one in X):
        return "table"
    try:
        ndim = np.asarray(X, dtype=np.float64).ndim
    except (TypeError, ValueError):
        sizes = {len(one) for one in X}
        return "list" if len(sizes) > 1 or _ragged_inside(X) else "table"
    return "array" if ndim == 3 else "table"


def _ragged_inside(X: Any) -> bool:
    return any(isinstance(part, (list, tuple)) for one in X for part in one)


def read_samples(
    X: Any, lengths: Any, dtype: np.dtype | None, layout: str, missing: str, name: str = "X"
) -> Samples:
    """The sequences of an array (n, T, D) or (n, T), or of a list.

    Parameters
    ----------
    X : array or list of arrays
        See the module; with ``layout="ndt"`` arrays are (n, D, T) and those of a list (D, T_i).
    lengths : array of int (n,) or None
        With an array of three dimensions: how many steps of each sequence are real.
    dtype : dtype or None
        What to convert to; None keeps float32 and float64 and makes everything else float64.
    layout : {"ntd", "ndt"}
    missing : {"error", "skip", "keep"}
        ``"skip"`` leaves out steps that are NaN in all channels, ``"keep"`` looks at no values.

    Raises
    ------
    TypeError
        If it is not of real numbers.
    ValueError
        If sequences are empty or differ in their channels, if `lengths` do not fit, or if there are
        infinite or NaN values.
    """
    padded = None
    if form_of(X) == "list":
        if lengths is not None:
            raise ValueError(
                f"lengths: expected none with a list of sequences, got {describe(lengths)}"
            )
        items = [_sequence(f"{name}[{i}]", one, layout) for i, one in enumerate(X)]
        found = dtype or np.result_type(*(item.dtype for item in items))
        items = [item.astype(found, copy=False) for item in items]
    else:
        whole = _numbers(name, X)
        if whole.ndim == 2:
            if lengths is not None:
                raise ValueError(
                    f"lengths: expected none with two dimensions (n, T), got {describe(lengths)}"
                )
            whole = whole[:, :, None]
        elif whole.ndim != 3:
            raise ValueError(
                f"{name}: expected 2 dimensions (n, T) or 3 ({', '.join(_axes(layout))}), "
                f"got {whole.ndim} with shape {whole.shape}"
            )
        elif layout == "ndt":
            whole = whole.transpose(0, 2, 1)
        if dtype is not None:
            whole = whole.astype(dtype, copy=False)
        padded = whole.shape[1]
        if lengths is None:
            items = list(whole)
        else:
            counts = read_lengths("lengths", lengths, len(whole), whole.shape[1])
            items = [one[:count] for one, count in zip(whole, counts.tolist(), strict=True)]
    if not items:
        raise ValueError(f"{name}: expected at least one sequence, got none")
    width = items[0].shape[1]
    for i, item in enumerate(items):
        if item.shape[1] != width:
            raise ValueError(
                f"{name}[{i}]: expected {width} channels, as {name}[0] has, got {item.shape[1]}"
            )
    if not width:
        raise ValueError(f"{name}: expected at least one channel, got 0")
    if missing != "keep":
        items = [_finite(f"{name}[{i}]", item, missing) for i, item in enumerate(items)]
    counts = np.array([len(item) for item in items], dtype=np.int64)
    if not counts.all():
        i = int(np.argmin(counts))
        raise ValueError(f"{name}[{i}]: expected at least one step, got an empty sequence")
    return Samples(items, counts, padded)


def _axes(layout: str) -> tuple[str, str, str]:
    return ("n", "T", "D") if layout == "ntd" else ("n", "D", "T")


def _numbers(name: str, x: Any) -> Array:
    """`x` as an array of float32 or float64."""
    check_host(name, x)
    try:
        x = np.asarray(x)
        if x.dtype == object:
            x = x.astype(np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected real numbers, got {describe(x)}") from None
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected real numbers, got dtype {x.dtype}")
    if x.dtype in (np.float32, np.float64):
        return x
    narrow = x.dtype.kind == "f" and x.dtype.itemsize <= 4  # also float32 of foreign byte order
    return x.astype(np.float32 if narrow else np.float64)


def _sequence(name: str, x: Any, layout: str) -> Array:
    x = _numbers(name, x)
    if x.ndim == 1:
        return x[:, None]
    if x.ndim != 2:
        raise ValueError(
            f"{name}: expected 1 dimension (T) or 2 ({', '.join(_axes(layout)[1:])}), "
            f"got {x.ndim} with shape {x.shape}"
        )
    return x.T if layout == "ndt" else x


def _finite(name: str, item: Array, missing: str) -> Array:
    """The sequence without steps that are missing, if all of the others are finite."""
    if np.isfinite(item).all():
        return item
    gone = np.isnan(item)
    if missing == "skip":
        kept = item[~gone.all(axis=1)]
        if np.isfinite(kept).all():
            return kept
        step = int(np.argmin(np.isfinite(item) | gone.all(axis=1, keepdims=True), axis=0).max())
        raise ValueError(
            f"{name}: expected steps that are finite, or NaN in all channels (missing='skip'), "
            f"got {item[step]} at step {step}"
        )
    kind = "NaN" if gone.any() else "infinity"
    raise ValueError(f"{name}: expected finite numbers, got {kind} (missing='skip' leaves out "
                     "steps that are NaN in all channels)")  # fmt: skip


class Channels:
    """Mean and scale of each channel over the real steps of training sequences.

    Parameters
    ----------
    mean, scale : array (D,)
        Of float64.
    """

    def __init__(self, mean: Array, scale: Array) -> None:
        self.mean, self.scale = mean, scale

    @classmethod
    def of(cls, samples: Samples, weight: Any) -> Channels:
        """The weighted mean and standard deviation.

        Parameters
        ----------
        weight : sequence of length n
            Of each sequence, and so of every step of it, or arrays (T_i,) of its steps.
        """
        pairs = list(zip(samples.items, map(_column, weight), strict=True))
        total = sum(float(np.broadcast_to(w, (len(item), 1)).sum()) for item, w in pairs)
        near = sum(np.multiply(item, w, dtype=np.float64).sum(axis=0) for item, w in pairs) / total
        # A sum of many is off by many roundings: the differences from it tell by how much.
        off, square = 0.0, 0.0
        for item, w in pairs:
            d = item - near
            off = off + (w * d).sum(axis=0)
            square = square + (w * d * d).sum(axis=0)
        off, square = off / total, square / total
        mean, spread = near + off, np.sqrt(np.maximum(square - off * off, 0.0))
        tiny = 10 * np.finfo(samples.items[0].dtype).eps * np.abs(mean)
        return cls(mean, np.where(spread > tiny, spread, 1.0))

    def scaled(self, samples: Samples) -> Samples:
        """(x - mean) / scale, in the sequences' own dtype."""
        dtype = samples.items[0].dtype
        mean, scale = self.mean.astype(dtype), self.scale.astype(dtype)
        return Samples(
            [(item - mean) / scale for item in samples.items], samples.lengths, samples.padded
        )


def _column(weight: Any) -> Any:
    """A sequence's weight as it multiplies (T_i, D)."""
    return weight[:, None] if np.ndim(weight) else float(weight)
