"""Where arrays are: the host's memory, a CUDA device, or wherever another library keeps them.

A layer is on one device, and so is all that it computes with. Nothing is copied from one device to
another but by ``layer.to(device)`` and its like; arrays of several libraries that share a device's
memory are read where they are, by DLPack.
"""

from __future__ import annotations

import contextlib
import sys
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

import numpy as np

from fastrnn.checks import Array, describe, is_cupy, library_of, namespace
from fastrnn.engine.arrays import placed

__all__ = [
    "HOST",
    "Device",
    "check_host",
    "check_kind",
    "device_of",
    "find",
    "is_array",
    "is_host",
    "kind_name",
]

nowhere = contextlib.nullcontext()

CPU, CUDA = 1, 2  # DLPack's numbers of kinds of devices


class Device:
    """Where a layer's parameters are, and as which library's arrays.

    Attributes
    ----------
    name : str
        As `find` takes it, where it takes a name.
    """

    name: str

    def put(self, array: np.ndarray) -> Array:
        """A copy of a host's array, here."""
        raise NotImplementedError

    def holds(self, array: Any) -> bool:
        """Whether `array` is here, of the library that computes here."""
        raise NotImplementedError

    def read(self, name: str, array: Any) -> Array:
        """An array of any library whose memory is here, in the same memory, to compute with.

        Raises
        ------
        ValueError
            If it is on another device. It is not copied.
        TypeError
            If it is one that cannot be read.
        """
        raise ValueError(
            f"{name}: expected an array on {self.name}, where this is computed, got "
            f"{place(array)}; nothing is moved silently: layer.to(device) moves a layer"
        )

    def entered(self) -> AbstractContextManager[Any]:
        """A context in which the library makes arrays here."""
        return nowhere

    def __repr__(self) -> str:
        return f"Device({self.name!r})"


class _Host(Device):
    """The memory of the processor, with NumPy's arrays."""

    name = "cpu"

    def put(self, array: np.ndarray) -> np.ndarray:
        return np.array(array, order="C")

    def holds(self, array: Any) -> bool:
        return isinstance(array, np.ndarray)

    def read(self, name: str, array: Any) -> np.ndarray:
        if isinstance(array, np.ndarray):
            return array
        if not is_host(array):
            super().read(name, array)
        if library_of(array) == "torch":
            _check_no_graph(name, array)
            with _named(name, array):
                return array.numpy()
        with _named(name, array):
            return np.from_dlpack(array)

    def __reduce__(self) -> str:
        return "HOST"


HOST = _Host()


class _Cuda(Device):
    """A CUDA device, with CuPy's arrays."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"cuda:{number}"
        self._cupy = _cupy()

    def put(self, array: np.ndarray) -> Array:
        with self.entered():
            return self._cupy.asarray(array, order="C")

    def holds(self, array: Any) -> bool:
        return is_cupy(array) and int(array.device.id) == self.number

    def read(self, name: str, array: Any) -> Array:
        if self.holds(array):
            return array
        shared = is_array(array) and not isinstance(array, np.ndarray) and not is_cupy(array)
        if not shared or tuple(array.__dlpack_device__()) != (CUDA, self.number):
            super().read(name, array)
        if library_of(array) == "torch":
            _check_no_graph(name, array)
        with _named(name, array):
            return self._cupy.from_dlpack(array)

    def entered(self) -> AbstractContextManager[Any]:
        return self._cupy.cuda.Device(self.number)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Cuda) and other.number == self.number

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> tuple[Any, ...]:
        return find, (self.name,)


class _Beside(Device):
    """Where an array of another library is, with arrays of that library."""

    def __init__(self, like: Array) -> None:
        xp = namespace(like)
        self._like = xp.zeros(0, dtype=xp.float32, **placed(like))
        self.name = place(like)

    def put(self, array: np.ndarray) -> Array:
        xp = namespace(self._like)
        return xp.asarray(array, copy=True, **placed(self._like))

    def holds(self, array: Any) -> bool:
        same = type(array) is type(self._like)
        return bool(same and array.device == self._like.device)

    def read(self, name: str, array: Any) -> Array:
        if not self.holds(array):
            super().read(name, array)
        if library_of(array) == "torch":
            _check_no_graph(name, array)
        return array

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Beside) and self.holds(other._like)

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Beside, (self._like,)


def find(device: Any, name: str = "device") -> Device:
    """The device that is meant.

    Parameters
    ----------
    device : str, array, or Device
        ``"cpu"``, ``"cuda"`` (the first CUDA device), ``"cuda:1"``, or an array: where it is, and
        of its kind.

    Raises
    ------
    ValueError
        If the text names no device, or one that this machine has not.
    ImportError
        If it needs CuPy, and that is not installed, or one older than version 14.
    RuntimeError
        If CuPy finds no driver or no device.
    """
    if isinstance(device, Device):
        return device
    if isinstance(device, str):
        kind, _, number = device.partition(":")
        if device == "cpu":
            return HOST
        if kind == "cuda" and (device == "cuda" or number.isdecimal()):
            return _cuda(name, device, int(number or 0))
    elif is_array(device):
        return device_of(device)
    raise ValueError(
        f"{name}: expected 'cpu', 'cuda', 'cuda:<number>' or an array that is there, "
        f"got {describe(device)}"
    )


def device_of(array: Array) -> Device:
    """Where an array is, and of which library."""
    if isinstance(array, np.ndarray):
        return HOST
    return _Cuda(int(array.device.id)) if is_cupy(array) else _Beside(array)


def _cuda(name: str, asked: str, number: int) -> Device:
    cupy = _cupy()
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise RuntimeError(
            f"{name}: expected a CUDA device for {asked!r}, but CuPy finds no driver for one: "
            f"{error}"
        ) from error
    if not count:
        raise RuntimeError(f"{name}: expected a CUDA device for {asked!r}, but there is none")
    if number >= count:
        raise ValueError(f"{name}: expected cuda:0 to cuda:{count - 1}, got {asked!r}")
    return _Cuda(number)


def _cupy() -> Any:
    """CuPy, imported where it is first needed."""
    try:
        import cupy
    except ImportError as error:
        raise ImportError(
            'CUDA devices need CuPy, which is not installed: pip install "fastrnn[cuda]"'
        ) from error
    if not hasattr(cupy, "concat"):
        raise ImportError(
            f"CUDA devices need CuPy 14 or later, which follows the array standard, got "
            f"{cupy.__version__}"
        )
    return cupy


# Arrays of other libraries


def is_array(x: Any) -> bool:
    """Whether `x` is an array that knows its device."""
    return isinstance(x, np.ndarray) or hasattr(x, "__dlpack__")


def is_host(array: Any) -> bool:
    """Whether NumPy can have an array's memory, and give its results back beside it."""
    if isinstance(array, np.ndarray):
        return True
    if not hasattr(array, "__dlpack_device__") or int(array.__dlpack_device__()[0]) != CPU:
        return False
    return _is_default(library(array), array.device)


@lru_cache(maxsize=64)
def _is_default(module: Any, device: Any) -> bool:
    """Whether NumPy's memory is on this device to a library, which may have several in it."""
    return bool(module.from_dlpack(np.zeros(1)).device == device)


def library(array: Any) -> Any:
    """The module with an array library's ``from_dlpack``."""
    ask = getattr(array, "__array_namespace__", None)
    return sys.modules[library_of(array)] if ask is None else ask()


def check_host(name: str, x: Any) -> None:
    """Raise a ValueError if `x` is an array whose memory is another device's."""
    if isinstance(x, np.ndarray) or not is_array(x):
        return
    if not hasattr(library(x), "from_dlpack") or is_host(x):  # others are what NumPy makes of them
        return
    raise ValueError(
        f"{name}: expected an array that the host can read, got {place(x)}; data are read on the "
        "host, and fit(..., device=...) or to(device) lets a model compute elsewhere"
    )


def check_kind(name: str, array: Array, like: Array) -> None:
    """Raise a TypeError unless an array is of the kind of another."""
    if type(array) is not type(like) and namespace(array) is not namespace(like):
        raise TypeError(
            f"{name}: expected an array of {kind_name(like)}, as the other arguments are, got one "
            f"of {kind_name(array)}"
        )


def kind_name(x: Any) -> str:
    """What the library of an array is called in messages."""
    return str(getattr(namespace(x), "__name__", namespace(x))) if is_host(x) else _whose(x)


def place(array: Any) -> str:
    """An array's kind and device, for messages."""
    if not is_array(array):
        return describe(array)
    return f"an array of {_whose(array)}"


def _whose(array: Any) -> str:
    if isinstance(array, np.ndarray):
        return "numpy on cpu"
    device = f"cuda:{array.device.id}" if is_cupy(array) else array.device
    return f"{library_of(array)} on {device}"


def _check_no_graph(name: str, tensor: Any) -> None:
    if tensor.requires_grad:
        raise TypeError(
            f"{name}: expected a tensor without requires_grad, for fastrnn records no graph and "
            f"its gradients come from backward, got one with it; {name}.detach() has none"
        )


@contextlib.contextmanager
def _named(name: str, array: Any) -> Any:
    """Say which argument it was that another library could not hand over."""
    try:
        yield
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(
            f"{name}: expected an array of real numbers or integers that can be read in place, "
            f"got {describe(array)}: {error}"
        ) from error
