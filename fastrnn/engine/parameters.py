"""What all layers share: named parameters with gradients, and the backward that runs once.

Parameters live in host memory, or wherever `Layer.to` has moved them: there the layer computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from fastrnn import _elementwise
from fastrnn._memory import FreeList, empty
from fastrnn.checks import (
    Array,
    describe,
)
from fastrnn.engine.arrays import to_host, write
from fastrnn.engine.devices import HOST, Device, find
from fastrnn.engine.locks import Lock
from fastrnn.files import Path, Savable, taken

Settled = tuple[Device, dict[str, Array], dict[str, Array]]
"""Where a layer is, with its parameters and gradients there."""


class Layer(Savable):
    """Named parameters and their gradients, arrays that stay the same until the layer is moved.

    Attributes
    ----------
    params, grads : mapping of str to array
        Read-only mappings of fixed arrays, NumPy's until `to` moves them. Write with
        ``layer.params[name][...] = value``; the next call sees it. Every ``backward`` adds into
        `grads`.
    """

    _params: Mapping[str, Array]
    _grads: Mapping[str, Array]
    _device: Device | None = HOST
    """Where calls compute; None: where their arguments are, for there are no parameters."""

    @property
    def params(self) -> Mapping[str, Array]:
        """The parameters by name."""
        return self._params

    @property
    def grads(self) -> Mapping[str, Array]:
        """Their gradients by the same names."""
        return self._grads

    def _own(self, params: dict[str, np.ndarray]) -> None:
        """Take these arrays as the layer's parameters, with gradients of zero."""
        params = taken(params)
        self._params = MappingProxyType(params)
        self._grads = MappingProxyType({name: np.zeros_like(p) for name, p in params.items()})

        self._grads_lock = Lock()  # so that several threads' backward passes all count
        self._memory = FreeList()  # results go back to it when they die, for the next call

    # --- devices ---------------------------------------------------------------------------------

    @property
    def device(self) -> str:
        """Where the layer is and computes: ``"cpu"``, ``"cuda:0"``, ...

        Without parameters it is anywhere, which reads ``"any"``.
        """
        return "any" if self._device is None else self._device.name

    def to(self, device: Any) -> Self:
        """Move parameters and gradients to another device, where calls then compute.

        They become other arrays, CuPy's on a CUDA device; an optimizer of this layer follows with
        its state. Streams and snapshots made before stay where they are.

        Parameters
        ----------
        device : str or array
            ``"cpu"``, ``"cuda"``, ``"cuda:1"``, or an array of any library that follows the array
            standard: parameters become of its kind, on its device.

        Returns
        -------
        layer
            Itself.

        Raises
        ------
        ValueError
            If there is no such device.
        ImportError
            If it needs CuPy, which is not installed.
        RuntimeError
            If CuPy finds no driver or no device.
        MemoryError
            If there is no room on it. Nothing has been moved then.
        """
        move([self], find(device))
        return self

    def _leaves(self) -> Iterator[Layer]:
        """The layers that own the parameters: itself, or those inside."""
        yield self

    def _settle(self, device: Device, params: dict[str, Array], grads: dict[str, Array]) -> None:
        """Take arrays with the same values, on this device, for parameters and gradients."""
        self._params, self._grads = MappingProxyType(params), MappingProxyType(grads)
        self._device = device

    def _room(self, like: Array, width: int, dtype: Any = None) -> np.ndarray | None:
        """Room for results (len(like), width), or None beside an array of another kind."""
        if not isinstance(like, np.ndarray):
            return None
        return empty(self._memory, (like.shape[0], width), like.dtype if dtype is None else dtype)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({shown})"

    def __getstate__(self) -> dict[str, Any]:
        return {
            "config": self.config(),
            "params": {name: to_host(param) for name, param in self.params.items()},
            "grads": {name: to_host(grad) for name, grad in self.grads.items()},
            "call_count": getattr(self, "call_count", None),
            "device": self._device,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["config"])  # type: ignore[misc]
        self._restore_arrays(state)
        if state["call_count"] is not None:
            self.call_count = state["call_count"]
        self._go_back_to(state)

    def _go_back_to(self, state: Mapping[str, Any]) -> None:
        """Move to the device that a pickle's layer was on; earlier versions wrote none."""
        device = state.get("device", HOST)
        if device is not None and device is not HOST:
            self.to(device)

    def _restore_arrays(self, state: Mapping[str, Any]) -> None:
        """Take parameters and gradients from a pickle, if they are those of the configuration."""
        for kind, own in (("params", self.params), ("grads", self.grads)):
            if set(state[kind]) != set(own):
                raise ValueError(
                    f"{kind}: expected the names {sorted(own)}, got {sorted(state[kind])}"
                )
            for name, array in own.items():
                found = np.asarray(state[kind][name])
                if found.shape != array.shape or found.dtype != array.dtype:
                    raise ValueError(
                        f"{kind}[{name!r}]: expected shape {array.shape} and dtype {array.dtype}, "
                        f"got {found.shape} and {found.dtype}"
                    )
                array[...] = found

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        for grad in self.grads.values():
            if isinstance(grad, np.ndarray):
                _elementwise.clear(grad.reshape(-1))  # a view: in C order
            else:
                write(grad, 0)

    def to_torch(self) -> Any:
        """The ``torch.nn`` module that computes the same, with copies of the parameters.

        Returns
        -------
        torch.nn.Module
            Of the parameters' dtype; recurrent ones are ``batch_first``, as layers are here.

        Raises
        ------
        ImportError
            If PyTorch is not installed.
        TypeError
            If it has no such module.
        ValueError
            If its module lacks what the layer does: a GRU whose reset gate acts before the product,
            an RNN of sigmoids, recurrent dropout, initial states other than zeros.
        """
        from fastrnn.interchange.to_torch import to_torch

        return to_torch(self)

    def to_onnx(self, path: Path, *, states: bool = True, lengths: bool = True) -> None:
        """Write an ONNX model that computes the same, for onnxruntime and others.

        Its input ``x`` is (batch, time, units), or indices (batch, time) where an `Embedding` comes
        first; batch and time are free. Its outputs are ``y`` (batch, time, units), or (batch,
        units) behind a `Final`, and a recurrent
        layer's final states ``h_n`` and, for an LSTM, ``c_n``, each (L*dirs, batch, H). Where
        several layers are recurrent, the names of their states end in ``_0``, ``_1``, ... Needs
        neither the onnx package nor a copy of the weights in memory.

        Parameters
        ----------
        path : str or path-like
            The file; an existing one is replaced once the new one is complete.
        states : bool
            Whether the model takes the initial states ``h0`` and ``c0`` as inputs; else it begins
            with the layer's own.
        lengths : bool
            Whether the model takes ``lengths``, int32 (batch,), as an input; after a sequence's end
            y is zero where a recurrent layer comes last. (A sequence of length 0 ends with the
            state it began with here, with zeros in onnxruntime.)

        Raises
        ------
        TypeError
            If a layer is of another kind than RNN, LSTM, GRU, OnnxRecurrent, Reversed, Final,
            Linear, Embedding, LayerNorm, Dropout, Activation or Sequential.
        ValueError
            If ONNX has no such layer: an LSTM with projection, layers of several dtypes.
        """
        from fastrnn.interchange.to_onnx import to_onnx

        to_onnx(self, path, states=states, lengths=lengths)

    def _stepped(self) -> None:
        """Hear that an optimizer has changed all parameters: nobody need look whether they have."""

    @property
    def num_parameters(self) -> int:
        """How many numbers the layer learns."""
        return sum(math.prod(p.shape) for p in self.params.values())


def move(layers: Iterable[Any], device: Device) -> Callable[[], None]:
    """Move all layers, or none of them where one cannot be moved.

    Returns
    -------
    callable
        Puts them back, with the arrays that they had: whatever has happened since is undone.

    Raises
    ------
    TypeError
        If one is no layer of this library's.
    """
    moved: dict[int, tuple[Layer, Settled, Settled]] = {}
    for layer in layers:
        if not isinstance(layer, Layer):
            raise TypeError(f"layers: expected layers that can be moved, got {describe(layer)}")
        for leaf in layer._leaves():
            if id(leaf) not in moved and leaf._device is not None and leaf._device != device:
                old = leaf._device, dict(leaf.params), dict(leaf.grads)
                params, grads = (
                    {name: device.put(to_host(array)) for name, array in arrays.items()}
                    for arrays in old[1:]
                )
                moved[id(leaf)] = leaf, old, (device, params, grads)
    for leaf, _, new in moved.values():
        leaf._settle(*new)

    def back() -> None:
        for leaf, old, _ in moved.values():
            leaf._settle(*old)

    return back


class Backward:
    """A backward pass, to be called once: what it needs is let go with the call.

    A call refused because of its arguments (``ValueError`` or ``TypeError``) has added nothing and
    does not count.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function: Callable[..., Any] | None = function

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Run it; a second call raises a ``RuntimeError``."""
        function, self._function = self._function, None
        if function is None:
            raise RuntimeError("backward: expected one call for each forward, got a second")
        try:
            return function(*args, **named)
        except (TypeError, ValueError):
            self._function = function
            raise


def tell_stepped(layer: Any) -> None:
    """Tell a layer that an optimizer has changed all its parameters, if it is one to hear."""
    if hasattr(layer, "_stepped"):
        layer._stepped()


def prepare_layer(layer: Any) -> None:
    """Make a layer's parameters read-only, and pack once what can be packed once."""
    if hasattr(layer, "prepare"):
        layer.prepare()
        return
    for value in layer.params.values():
        if isinstance(value, np.ndarray):  # other libraries' cannot be protected
            value.flags.writeable = False


def check_layers(name: str, layers: Any) -> list[Layer]:
    """`layers` as a list of things with ``params`` and ``grads``, none of them twice."""
    if hasattr(layers, "params"):
        layers = [layers]
    if not isinstance(layers, Iterable):
        raise TypeError(f"{name}: expected a layer or a list of layers, got {describe(layers)}")
    found = list(layers)
    for i, layer in enumerate(found):
        if not hasattr(layer, "params") or not hasattr(layer, "grads"):
            raise TypeError(f"{name}[{i}]: expected a layer, got {describe(layer)}")
    seen: dict[int, int] = {}
    for i, layer in enumerate(found):
        for param in layer.params.values():
            other = seen.setdefault(id(param), i)
            if other != i:
                raise ValueError(
                    f"{name}: expected each layer once, got one at {other} again at {i}"
                )
    return found
