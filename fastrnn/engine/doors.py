"""What layers' methods do at their door: arrays of any library come in, and go out as they came.

Behind it there are arrays of one library alone, on the layer's device: on the CPU NumPy's, on a
CUDA device CuPy's. What other libraries have in that device's memory is read there and given back
there, without a copy; what is on another device is refused. NumPy arrays, which are most, pass a
layer on the CPU untouched.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from fastrnn.checks import is_cupy
from fastrnn.engine.devices import HOST, Device, device_of, is_array, is_host, kind_name, library
from fastrnn.engine.parameters import Backward

__all__ = ["Door", "anywhere", "door"]

Method = TypeVar("Method", bound=Callable[..., Any])

ON_THE_HOST = ("lengths", "quantiles", "who")
"""Arguments that say how data is addressed: integers of the host, wherever the data is."""

PLAIN = frozenset((np.ndarray, type(None), str, float, int, bool))
"""Types of arguments that need no door where they are all: they are on the host."""


def door(method: Method) -> Method:
    """Let a layer's method take its first argument, and all others, of any library.

    The layer's device is ``self._device``; None stands for wherever the first argument is.
    """
    names = list(inspect.signature(method).parameters)[1:]

    @functools.wraps(method)
    def inner(self: Any, *args: Any, **named: Any) -> Any:
        device = self._device
        if args and type(args[0]) is np.ndarray and (device is HOST or device is None):
            return method(self, *args, **named)
        if not args and names[0] in named:
            args = (named.pop(names[0]),)
        if not args:
            return method(self, **named)  # which says what is missing
        opened = Door(device, names[0], args[0])
        if opened.passes:
            return method(self, *args, **named)
        return opened.lead(names, functools.partial(method, self), args, named)

    return inner  # type: ignore[return-value]


def anywhere(function: Method) -> Method:
    """The same for a function, which computes wherever its first argument is.

    Of several libraries' arrays in the host's memory the results are of the first one's.
    """
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def inner(*args: Any, **named: Any) -> Any:
        if PLAIN.issuperset(map(type, (*args, *named.values()))):
            return function(*args, **named)
        if not args and names[0] in named:
            args = (named.pop(names[0]),)
        if not args:
            return function(**named)  # which says what is missing
        opened = Door(None, names[0], args[0], mixed=True)
        return opened.lead(names, function, args, named)

    return inner  # type: ignore[return-value]


class Door:
    """The way of a call's arguments in, and of its results out.

    Parameters
    ----------
    device : Device or None
        Where the call computes; None: where `x` is.
    name : str
        What `x` is called.
    x : array, list of arrays, or anything that is none
        The argument whose kind the results have.
    mixed : bool
        Whether other arguments may be of other libraries.

    Attributes
    ----------
    passes : bool
        Whether there is nothing to do: arrays of NumPy's, or no arrays at all, on the CPU.
    """

    __slots__ = ("_guest", "_kind", "_mixed", "device", "passes")

    def __init__(self, device: Device | None, name: str, x: Any, mixed: bool = False) -> None:
        first = x[0] if isinstance(x, (list, tuple)) and len(x) else x
        found = is_array(first)
        if device is None:
            device = HOST if not found or is_host(first) else device_of(first)
        self.device = device
        self.passes = device is HOST and (not found or isinstance(first, np.ndarray))
        self._kind, self._mixed = first, mixed
        self._guest: Any = None
        if self.passes:
            return
        if not found and (
            isinstance(first, (int, float)) or (first and isinstance(first, (list, tuple)))
        ):
            device.read(name, x)  # numbers are on the host
        if found and not device.holds(first):
            device.read(f"{name}[0]" if isinstance(x, (list, tuple)) else name, first)
            self._guest = library(first)

    def take(self, name: str, value: Any) -> Any:
        """An argument with its arrays as the call computes with them."""
        if isinstance(value, np.ndarray) and name in ON_THE_HOST:
            return value
        if is_array(value):
            other = self._guest is not None and type(value) is not type(self._kind)
            if other and not self._mixed:
                raise TypeError(
                    f"{name}: expected an array of {kind_name(self._kind)}, as the other "
                    f"arguments are, got one of {kind_name(value)}"
                )
            return self.device.read(name, value)
        if isinstance(value, (list, tuple)) and any(map(is_array, value)):
            return type(value)(self.take(f"{name}[{i}]", one) for i, one in enumerate(value))
        return value

    def give(self, result: Any) -> Any:
        """A result with its arrays as the arguments' are."""
        if isinstance(result, Backward):
            return Backward(functools.partial(self._backward, result))
        if isinstance(result, (tuple, list)):
            return type(result)(map(self.give, result))
        if isinstance(result, dict):
            return {name: self.give(value) for name, value in result.items()}
        if self._guest is None or not is_array(result):
            return result
        return self._guest.from_dlpack(_shareable(result))

    def lead(
        self,
        names: Sequence[str],
        function: Callable[..., Any],
        args: Sequence[Any],
        named: Mapping[str, Any],
    ) -> Any:
        """The function's result of arguments as they came, by these names, as they came."""
        taken = [self.take(name, value) for name, value in zip(names, args, strict=False)]
        others = {name: self.take(name, value) for name, value in named.items()}
        return self.call(function, *taken, *args[len(taken) :], **others)

    def call(self, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """The function's result of arguments that have been taken, given."""
        with self.device.entered():
            return self.give(function(*args, **named))

    def _backward(self, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        names = ("dy", "dstate")
        taken = [
            self.take(names[i] if i < len(names) else f"argument {i}", value)
            for i, value in enumerate(args)
        ]
        return self.call(function, *taken, **{n: self.take(n, v) for n, v in named.items()})


def _shareable(array: Any) -> Any:
    """`array` in a form that other libraries take: they know no read-only ones, nor steps back."""
    if not isinstance(array, np.ndarray) or is_cupy(array):
        return array
    if any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array)
    if not array.flags.writeable:
        try:
            array.flags.writeable = True  # nobody else sees it as NumPy's
        except ValueError:
            return array.copy()
    return array
