"""A module that stands in for CuPy where there is no CUDA device.

Its arrays lie in the host's memory and are computed with by NumPy, but they behave as if they lay
on a device, and are stricter than CuPy's where those are lenient: no implicit conversion to NumPy's
arrays, no NumPy array beside them in an operation, no iteration, and no operation on an array of
another device than the current one. `failing` lets an allocation fail, as on a full device.
"""

from __future__ import annotations

import contextlib
import operator
import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

__version__ = "14.0.0"

CUDA = 2
DEVICES = 2
SCALARS = (bool, int, float, np.generic)

_current = [0]
_left: list[float] = [np.inf]  # allocations until one fails


class OutOfMemoryError(MemoryError):
    """As ``cupy.cuda.memory.OutOfMemoryError``."""


class CUDARuntimeError(RuntimeError):
    """As ``cupy.cuda.runtime.CUDARuntimeError``."""


class Device:
    """As ``cupy.cuda.Device``: a context in which arrays are made there."""

    compute_capability = "90"

    def __init__(self, number: int | None = None) -> None:
        self.id = _current[-1] if number is None else number

    def __enter__(self) -> Device:
        _current.append(self.id)
        return self

    def __exit__(self, *error: object) -> None:
        _current.pop()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


@contextlib.contextmanager
def failing(after: int) -> Iterator[None]:
    """Let every allocation fail after the next `after` ones."""
    _left[0] = after
    try:
        yield
    finally:
        _left[0] = np.inf


def get_device_count() -> int:
    """As ``cupy.cuda.runtime.getDeviceCount``."""
    return DEVICES


def _new(values: Any) -> ndarray:
    """A new array on the current device."""
    _left[0] -= 1
    if _left[0] < 0:
        raise OutOfMemoryError("Out of memory allocating bytes")
    return ndarray(np.asarray(values), _current[-1])


def _values(x: Any) -> Any:
    """What NumPy computes with for an argument."""
    if isinstance(x, ndarray):
        if x.device.id != _current[-1]:
            raise ValueError(f"array of device {x.device.id} used on device {_current[-1]}")
        return x._values
    if isinstance(x, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(x, (tuple, list)):
        return type(x)(map(_values, x))
    return x


def _result(found: Any, arguments: Any) -> Any:
    """The result of a NumPy function: a view of an argument stays one."""
    if isinstance(found, tuple):
        return tuple(_result(one, arguments) for one in found)
    if not isinstance(found, (np.ndarray, np.generic)):
        return found
    for x in arguments:
        if isinstance(x, ndarray) and isinstance(found, np.ndarray):
            if found is x._values:
                return x
            if found.size and np.shares_memory(found, x._values):
                return ndarray(found, x.device.id)
    return _new(found)


def _wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    def inner(*args: Any, **named: Any) -> Any:
        arguments = [*args, *named.values()]
        plain = {name: _values(value) for name, value in named.items()}
        return _result(function(*map(_values, args), **plain), arguments)

    return inner


class ndarray:
    """An array on a device."""

    __module__ = "cupy"
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: np.ndarray, number: int) -> None:
        self._values, self.device = values, Device(number)

    shape = property(lambda self: self._values.shape)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    dtype = property(lambda self: self._values.dtype)
    strides = property(lambda self: self._values.strides)
    nbytes = property(lambda self: self._values.nbytes)
    itemsize = property(lambda self: self._values.itemsize)
    data = property(lambda self: SimpleNamespace(ptr=self._values.ctypes.data))
    T = property(lambda self: ndarray(self._values.T, self.device.id))

    def get(self) -> np.ndarray:
        """A copy on the host."""
        return self._values.copy()

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_function__(self, function: Any, *rest: Any) -> Any:
        if function in (np.ndim, np.shape):  # which CuPy answers as well, without looking inside
            return function(self._values)
        raise TypeError(f"numpy.{function.__name__} was called with an array of CuPy's")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **named: Any) -> Any:
        if method != "__call__":
            raise TypeError(f"numpy.{ufunc.__name__}.{method} was called with an array of CuPy's")
        return _wrapped(ufunc)(*inputs, **named)

    def __iter__(self) -> Any:
        raise TypeError("an array of a device was iterated over")

    def __len__(self) -> int:
        return len(self._values)

    def __bool__(self) -> bool:
        return bool(self._values)

    def __int__(self) -> int:
        return int(self._values)

    def __float__(self) -> float:
        return float(self._values)

    def __getitem__(self, key: Any) -> Any:
        return _result(self._values[_key(key)], (self,))

    def __setitem__(self, key: Any, value: Any) -> None:
        _values(self)
        self._values[_key(key)] = _values(value)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.device.id

    def __dlpack__(self, **options: Any) -> Any:
        return self._values, self.device.id


def _key(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(map(_key, key))
    if isinstance(key, list):
        raise TypeError("a list was used as an index")
    return _values(key)


def _operator(name: str) -> Any:
    function = getattr(operator, name.strip("_"), None) or getattr(operator, name)

    def inner(self: ndarray, other: Any) -> Any:
        if not isinstance(other, (ndarray, np.ndarray, *SCALARS)):
            return NotImplemented
        return _result(function(_values(self), _values(other)), (self, other))

    return inner


def _reflected(name: str) -> Any:
    function = getattr(operator, name)

    def inner(self: ndarray, other: Any) -> Any:
        if not isinstance(other, (np.ndarray, *SCALARS)):
            return NotImplemented
        return _result(function(_values(other), _values(self)), (self, other))

    return inner


def _unary(name: str) -> Any:
    function = getattr(operator, name)
    return lambda self: _result(function(_values(self)), ())


def _in_place(name: str) -> Any:
    function = getattr(operator, f"i{name}")

    def inner(self: ndarray, other: Any) -> Any:
        function(_values(self), _values(other))
        return self

    return inner


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
    setattr(ndarray, f"__{_name}__", _operator(_name))
    setattr(ndarray, f"__r{_name}__", _reflected(_name))
    setattr(ndarray, f"__i{_name}__", _in_place(_name))
for _name in ("and", "or", "xor", "rshift", "lshift"):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(ndarray, f"__{_name}__", _operator(_name))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(ndarray, f"__{_name}__", _unary(_name))


# Functions


def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None) -> ndarray:
    """As CuPy's: a copy of what the host or another device has."""
    if not isinstance(a, ndarray):
        return _new(np.array(a, dtype=dtype, order=order))
    here = a.device.id == _current[-1] and (dtype is None or a.dtype == dtype)
    return a if here and not copy else _new(np.array(a._values, dtype=dtype, order=order))


def astype(x: ndarray, dtype: Any, /, *, copy: bool = True) -> ndarray:
    """As CuPy's."""
    return _new(_values(x).astype(dtype))


def empty(shape: Any, dtype: Any = float) -> ndarray:
    """As CuPy's; nothing that is read from it before it was written is a number."""
    filled = np.zeros(shape, dtype)
    if filled.dtype.kind == "f":
        filled[...] = np.nan
    return _new(filled)


def from_dlpack(array: Any) -> ndarray:
    """An array of another library that lies on a device, in its memory."""
    kind, number = array.__dlpack_device__()
    if kind != CUDA:
        raise BufferError("expected memory of a CUDA device")
    values, _ = array.__dlpack__()
    return ndarray(values, number)


def asnumpy(a: Any) -> np.ndarray:
    """A copy on the host."""
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


class _Add:
    """As ``cupy.add``."""

    __call__ = staticmethod(_wrapped(np.add))

    @staticmethod
    def at(a: ndarray, index: ndarray, b: Any) -> None:
        np.add.at(_values(a), _values(index), _values(b))


# What of NumPy's functions CuPy has by the same names, and this library may call.
FUNCTIONS = [
    "abs",
    "all",
    "any",
    "arange",
    "argmax",
    "argsort",
    "ascontiguousarray",
    "broadcast_to",
    "clip",
    "concat",
    "cos",
    "cumulative_sum",
    "empty_like",
    "exp",
    "expand_dims",
    "flip",
    "full",
    "full_like",
    "isfinite",
    "isnan",
    "log",
    "log1p",
    "logical_not",
    "matmul",
    "matrix_transpose",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "moveaxis",
    "multiply",
    "ones",
    "ones_like",
    "permute_dims",
    "pow",
    "repeat",
    "reshape",
    "round",
    "sign",
    "sin",
    "sort",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "sum",
    "swapaxes",
    "take",
    "tanh",
    "tile",
    "var",
    "where",
    "zeros",
    "zeros_like",
]
TYPES = [
    "bool",
    "float32",
    "float64",
    "int32",
    "int64",
    "uint8",
    "uint32",
    "uint64",
    "dtype",
    "newaxis",
    "pi",
    "inf",
    "nan",
    "isdtype",
]


def make() -> ModuleType:
    """The module, fit for ``sys.modules["cupy"]``."""
    module = ModuleType("cupy")
    for name in FUNCTIONS:
        setattr(module, name, _wrapped(getattr(np, name)))
    for name in TYPES:
        setattr(module, name, getattr(np, name))
    own = sys.modules[__name__]
    for name in ("__version__", "asarray", "asnumpy", "astype", "empty", "from_dlpack", "ndarray"):
        setattr(module, name, getattr(own, name))
    module.add = _Add()  # type: ignore[attr-defined]
    module.cuda = SimpleNamespace(  # type: ignore[attr-defined]
        Device=Device,
        device=SimpleNamespace(get_cublas_handle=lambda: 1),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        runtime=SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            getDeviceCount=get_device_count,
            runtimeGetVersion=lambda: 12090,
        ),
    )
    pool = SimpleNamespace(free_all_blocks=lambda: None)
    module.get_default_memory_pool = lambda: pool  # type: ignore[attr-defined]
    return module
