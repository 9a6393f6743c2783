"""Checks of arguments, shared by every floor above.

Each function takes the argument's name first and either returns the value in the form the library
works with or raises a ``ValueError`` or ``TypeError`` that says which argument, what was expected
and what came, e.g. ``x: expected 3 dimensions (N, T, D), got 2 with shape (5, 4)``.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np

Array = Any  # an array of any array-API namespace; NumPy's has no protocol type for it
# Of results: without Any inside, a checker tells overloads apart where they are arguments again.
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32 | np.float64]]

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


def namespace(x: Array) -> Any:
    """The array namespace `x` belongs to: ``numpy`` for whatever is no array of another kind.

    Array-API arrays name theirs with ``__array_namespace__``. CuPy's do not, but their module is
    one from version 14 on. PyTorch's do not either, and its module is none: array_api_compat has
    one in its place, which need be installed only where tensors are computed with as such
    (``fastrnn[array-api]``); those in the CPU's memory are read as NumPy arrays.
    """
    if isinstance(x, (np.ndarray, np.generic)):
        return np
    ask = getattr(x, "__array_namespace__", None)
    if ask is not None:
        return ask()
    library = library_of(x)
    if library == "cupy":
        return sys.modules["cupy"]
    if library == "torch" and hasattr(x, "__dlpack__"):
        return _torch_namespace()
    return np


def library_of(x: Any) -> str:
    """The name of the package that the type of `x` comes from."""
    return type(x).__module__.partition(".")[0]


def is_cupy(x: Array) -> bool:
    """Whether `x` is an array of CuPy's."""
    return library_of(x) == "cupy"


@cache
def _torch_namespace() -> Any:
    try:
        import array_api_compat.torch
    except ImportError as error:
        raise ImportError(
            "PyTorch's tensors on other devices than the CPU need the package array-api-compat: "
            'pip install "fastrnn[array-api]"'
        ) from error
    return array_api_compat.torch


def is_numpy(*arrays: Array) -> bool:
    """Whether all of `arrays` are NumPy arrays, so that compiled code may read them."""
    return all(isinstance(a, np.ndarray) for a in arrays)


def describe(value: object) -> str:
    """A short text for error messages: the value if it is short, else its type and shape."""
    shape = getattr(value, "shape", None)
    if shape is not None and not isinstance(value, np.generic):
        return f"{type(value).__name__} of shape {tuple(shape)} and dtype {value.dtype}"  # type: ignore[attr-defined]
    text = repr(value)
    if len(text) > 60:
        text = f"{text[:57]}..."
    return text if isinstance(value, str) else f"{text} ({type(value).__name__})"


# Arrays


def _kind(xp: Any, x: Array) -> str:
    """'bool', 'integer', 'real', 'complex' or 'other'."""
    if xp is np:
        return {"b": "bool", "i": "integer", "u": "integer", "f": "real", "c": "complex"}.get(
            x.dtype.kind, "other"
        )
    for kind, name in (
        ("bool", "bool"),
        ("integral", "integer"),
        ("real floating", "real"),
        ("complex floating", "complex"),
    ):
        if xp.isdtype(x.dtype, kind):
            return name
    return "other"


def as_array(name: str, x: Any) -> Array:
    """`x` as an array of its own kind; what is no array becomes a NumPy one.

    Raises
    ------
    TypeError
        If it cannot be an array of numbers, such as a nested list with rows of several lengths.
    """
    xp = namespace(x)
    if xp is not np:
        return x
    try:
        return np.asarray(x)
    except ValueError as error:  # NumPy's "inhomogeneous shape"
        raise TypeError(f"{name}: expected an array of numbers, got {describe(x)}") from error


def as_real_array(
    name: str,
    x: Any,
    dtype: Any = None,
    *,
    ndim: int | None = None,
    axes: str | None = None,
    shape: Sequence[int | None] | None = None,
) -> Array:
    """`x` as an array of real numbers of `dtype`, its own kind of array kept.

    Parameters
    ----------
    name : str
        The argument's name, for messages.
    x : array-like
        Anything real: floats of any width, integers, booleans. It is returned as it is when it
        already has the dtype, native byte order and alignment, and is else converted once.
    dtype : dtype, optional
        float32 or float64. Without it a float32 or float64 `x` keeps its own, float16 becomes
        float32 and everything else float64.
    ndim : int, optional
        The number of dimensions asked for.
    axes : str, optional
        What the dimensions are called, e.g. ``"(N, T, D)"``, for messages.
    shape : sequence of int or None, optional
        The shape asked for, None where any size will do; implies `ndim`.

    Raises
    ------
    TypeError
        If `x` is complex, of objects, of text or of dates.
    ValueError
        If the number of dimensions or a size is another.
    """
    x = as_array(name, x)
    xp = namespace(x)
    kind = _kind(xp, x)
    if kind not in ("bool", "integer", "real"):
        raise TypeError(f"{name}: expected real numbers, got dtype {x.dtype}")
    check_ndim(name, x, len(shape) if shape is not None and ndim is None else ndim, axes)
    if shape is not None:
        check_shape(name, x, shape, axes)
    if xp is np:
        if dtype is None:
            dtype = _own_dtype(x)
        if x.dtype == dtype and x.dtype.isnative and x.flags.aligned:
            return x
        return np.array(x, dtype=dtype, order="C")
    if dtype is None:
        same = kind == "real" and x.dtype in (xp.float32, xp.float64)
        return x if same else xp.astype(x, xp.float64)
    wanted = dtype_of(xp, dtype)
    return x if x.dtype == wanted else xp.astype(x, wanted)


def _own_dtype(x: np.ndarray) -> np.dtype:
    if x.dtype.kind == "f" and x.dtype.itemsize <= 8:
        return np.dtype(np.float64 if x.dtype.itemsize == 8 else np.float32)
    return np.dtype(np.float64)


def dtype_of(xp: Any, dtype: Any) -> Any:
    """`dtype` (float32 or float64, of any namespace) as namespace `xp` writes it."""
    if xp is np:
        return np.dtype(dtype)
    return xp.float32 if "float32" in str(dtype) else xp.float64


def as_index_array(
    name: str, x: Any, upper: int, *, what: str = "indices", shape: Sequence[int] | None = None
) -> Array:
    """`x` as an int64 array of its own kind, every value checked to lie in [0, upper).

    Raises
    ------
    TypeError
        If `x` is not of integers (an array without elements may have any dtype).
    ValueError
        If a value is negative or at least `upper`, or the shape is not `shape`.
    """
    x = as_array(name, x)
    xp = namespace(x)
    size = 1
    for n in x.shape:
        size *= int(n)
    if _kind(xp, x) != "integer" and size:
        raise TypeError(f"{name}: expected integers, got dtype {x.dtype}")
    if shape is not None:
        check_shape(name, x, shape)
    if size:
        # before the conversion: a uint64 beyond int64 must not turn into a small number
        low, high = int(xp.min(x)), int(xp.max(x))
        if low < 0 or high >= upper:
            worst = low if low < 0 else high
            where = f"in [0, {upper})" if upper else "none, for there are 0"
            raise ValueError(f"{name}: expected {what} {where}, got {worst}")
    if xp is np:
        if x.dtype == np.int64 and x.dtype.isnative and x.flags.aligned:
            return x
        return np.array(x, dtype=np.int64, order="C")
    return x if x.dtype == xp.int64 else xp.astype(x, xp.int64)


def check_ndim(name: str, x: Array, ndim: int | None, axes: str | None = None) -> None:
    """Raise a ValueError unless `x` has `ndim` dimensions (None: any number)."""
    if ndim is not None and len(x.shape) != ndim:
        plural = "" if ndim == 1 else "s"
        named = f" {axes}" if axes else ""
        raise ValueError(
            f"{name}: expected {ndim} dimension{plural}{named}, "
            f"got {len(x.shape)} with shape {tuple(x.shape)}"
        )


def check_shape(name: str, x: Array, shape: Sequence[int | None], axes: str | None = None) -> None:
    """Raise a ValueError unless `x` has this shape (None: any size there)."""
    got = tuple(x.shape)
    if len(got) != len(shape) or any(
        s is not None and s != g for s, g in zip(shape, got, strict=True)
    ):
        wanted = "(" + ", ".join("any" if s is None else str(s) for s in shape)
        wanted += ",)" if len(shape) == 1 else ")"
        named = f" {axes}" if axes else ""
        raise ValueError(f"{name}: expected shape {wanted}{named}, got {got}")


def check_addressable(names: str, shape: Sequence[int]) -> None:
    """Raise a ValueError if no array of float64 can have this shape, which `names` ask for.

    Below this bound it is memory that decides, with NumPy's MemoryError.
    """
    if math.prod(shape) >= 2**60:
        raise ValueError(
            f"{names}: expected sizes whose product is below 2**60, got {tuple(shape)}"
        )


# Single values


def check_int(name: str, value: Any, minimum: int | None = None) -> int:
    """`value` as an int, at least `minimum`; floats and booleans are no integers here."""
    wanted = "an integer" if minimum is None else f"an integer of at least {minimum}"
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected {wanted}, got {describe(value)}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected {wanted}, got {describe(value)}") from None
    if minimum is not None and number < minimum:
        raise ValueError(f"{name}: expected {wanted}, got {number}")
    return number


def check_positive_int(name: str, value: Any) -> int:
    """`value` as an int of at least 1."""
    return check_int(name, value, 1)


def check_bool(name: str, value: Any) -> bool:
    """`value` as a bool; numbers are no booleans here."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {describe(value)}")
    return bool(value)


def check_real(
    name: str,
    value: Any,
    *,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
    finite: bool = True,
) -> float:
    """`value` as a float within bounds: `minimum` <= value, `above` < value, and so on.

    NaN lies within no bounds and is never accepted; infinity only with ``finite=False``.
    """
    bounds = [
        f"{text} {bound:g}"
        for text, bound in (
            ("at least", minimum),
            ("above", above),
            ("at most", maximum),
            ("below", below),
        )
        if bound is not None
    ]
    wanted = "a finite number" if finite and not bounds else "a number"
    if bounds:
        wanted += " " + " and ".join(bounds)
    if isinstance(value, (bool, np.bool_, str, bytes, complex, np.complexfloating)):
        raise TypeError(f"{name}: expected {wanted}, got {describe(value)}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected {wanted}, got {describe(value)}") from None
    good = (
        not math.isnan(number)
        and not (finite and math.isinf(number))
        and (minimum is None or number >= minimum)
        and (above is None or number > above)
        and (maximum is None or number <= maximum)
        and (below is None or number < below)
    )
    if not good:
        raise ValueError(f"{name}: expected {wanted}, got {number!r}")
    return number


def check_probability(name: str, value: Any) -> float:
    """`value` as a float in [0, 1): what dropout may take."""
    return check_real(name, value, minimum=0.0, below=1.0)


def check_option(name: str, value: Any, allowed: Iterable[Any]) -> Any:
    """`value` if it is one of `allowed`, else a ValueError naming them all."""
    allowed = tuple(allowed)
    for option in allowed:
        if value is option or (type(value) is type(option) and value == option):
            return option
    listed = ", ".join(repr(option) for option in allowed)
    raise ValueError(f"{name}: expected one of {listed}, got {describe(value)}")


def check_dtype(name: str, dtype: Any) -> np.dtype:
    """`dtype` as NumPy's float32 or float64 in native byte order."""
    try:
        found = None if dtype is None else np.dtype(dtype)
    except (SyntaxError, TypeError, ValueError):  # NumPy reads text with commas as Python's
        found = None
    for own in DTYPES:
        if found is not None and found == own:
            return own
    got = describe(dtype) if found is None else str(found)
    raise ValueError(f"{name}: expected 'float32' or 'float64', got {got}")


def check_random_state(name: str, value: Any) -> np.random.Generator:
    """A generator: `value` itself, one seeded with the int, or a fresh one for None."""
    if isinstance(value, np.random.Generator):
        return value
    if value is not None:
        try:
            value = check_int(name, value, 0)
        except TypeError:
            raise TypeError(
                f"{name}: expected an int, a numpy.random.Generator or None, got {describe(value)}"
            ) from None
    return np.random.default_rng(value)


def check_seed(name: str, value: Any) -> int:
    """The integer behind a random state: an int itself, else a number drawn."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return check_int(name, value, 0)
    return int(check_random_state(name, value).integers(2**63))
