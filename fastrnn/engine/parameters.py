"""What all layers share: named parameters with gradients, and the backward that runs once.

Parameters live in host memory, or wherever `Layer.to` has moved them: there the layer computes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from fastrnn import _elementwise
from fastrnn._memory import FreeList, empty
from fastrnn.checks import (
    Array,
    as_array,
    as_real_array,
    check_ndim,
    describe,
    namespace,
)
from fastrnn.engine.arrays import beside, to_host, write
from fastrnn.engine.devices import HOST, Device, find, kind_name
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


# Containers: an array (..., width), or a list of arrays (T_i, width)


class Form:
    """How the rows of a container are arranged, so that others can be arranged alike."""

    __slots__ = ("lengths", "like", "shape")

    def __init__(
        self, shape: tuple[int, ...] | None, lengths: Sequence[int] | None, like: Any = None
    ) -> None:
        self.shape = shape  # of an array, without its last axis
        self.lengths = lengths  # of a list's arrays
        self.like = like  # where the rows of an empty list are

    def restore(self, rows: Array) -> Any:
        """`rows` (total, width) in this form; a list's arrays are slices of it."""
        if self.lengths is None:
            assert self.shape is not None
            return namespace(rows).reshape(rows, (*self.shape, *rows.shape[1:]))
        ends = np.cumsum([0, *self.lengths]).tolist()
        return [rows[a:b, ...] for a, b in itertools.pairwise(ends)]

    def flatten(self, name: str, x: Any, width: int | None, dtype: Any) -> Array:
        """The rows of a container that must have this form, e.g. of a gradient."""
        rows, form = flatten(name, x, width, dtype, self.like)
        if form.shape != self.shape or form.lengths != self.lengths:
            tail = () if width is None else (width,)
            if self.lengths is None:
                assert self.shape is not None
                raise ValueError(
                    f"{name}: expected shape {(*self.shape, *tail)}, got {_shape_of(form, tail)}"
                )
            raise ValueError(
                f"{name}: expected a list of {len(self.lengths)} arrays, as long as those of the "
                f"input, got {_shape_of(form, tail)}"
            )
        return rows


def _shape_of(form: Form, tail: tuple[int, ...]) -> str:
    if form.shape is not None:
        return str((*form.shape, *tail))
    assert form.lengths is not None
    lengths = list(form.lengths[:8])
    more = ", ..." if len(form.lengths) > 8 else ""
    return f"a list of {len(form.lengths)} arrays of lengths {str(lengths)[:-1]}{more}]"


def flatten(
    name: str, x: Any, width: int | None, dtype: Any, like: Any = None
) -> tuple[Array, Form]:
    """The rows of a container of real numbers, and how they were arranged.

    Parameters
    ----------
    name : str
        The argument's name.
    x : array (..., width), or list of arrays (T_i, width)
        Without `width` the shapes are (...) and (T_i,), and a flat list of numbers is one array.
    width : int or None
        The size of the last axis.
    dtype : dtype
        The rows' dtype, None for the container's own.
    like : array, optional
        Where the rows of an empty list are, and of which kind; by default NumPy's.

    Returns
    -------
    rows : array (total, width) or (total,)
        A view where the container lies in one piece, as lists given by a layer do.
    form : Form
    """
    tail: tuple[int, ...] = () if width is None else (width,)
    if isinstance(x, (list, tuple)) and not (width is None and x and np.ndim(x[0]) == 0):
        items = as_items(name, x, width, dtype)
        if not items:
            return _beside(np.empty((0, *tail), dtype or np.float32), like), Form(None, [], like)
        return join(items), Form(None, [int(item.shape[0]) for item in items])
    x = as_real_array(name, x, dtype)
    shape = tuple(int(n) for n in x.shape)
    if width is not None and shape[-1:] != tail:
        raise ValueError(f"{name}: expected shape (..., {width}), got {shape}")
    form = Form(shape[:-1] if width is not None else shape, None)
    return namespace(x).reshape(x, (math.prod(form.shape or ()), *tail)), form


def as_items(name: str, x: Sequence[Any], width: int | None, dtype: Any) -> list[Array]:
    """The arrays (T_i, width) of a list, or (T_i,) without `width`, each in the dtype."""
    tail: tuple[int, ...] = () if width is None else (width,)
    axes = "(T,)" if width is None else "(T, D)"
    items = [
        as_real_array(f"{name}[{i}]", item, dtype, ndim=1 + len(tail), axes=axes)
        for i, item in enumerate(x)
    ]
    for i, item in enumerate(items):
        if item.shape[1:] != tail:
            wanted = f"(T, {width})"
            raise ValueError(f"{name}[{i}]: expected shape {wanted}, got {tuple(item.shape)}")
    return items


def flatten_indices(name: str, x: Any, like: Any = None) -> tuple[Array, Form]:
    """The elements of a container of integers, unchecked, and how they were arranged.

    A list of arrays (T_i,) is a list of sequences; a flat list of integers is one array. `like` is
    as for `flatten`.
    """
    if isinstance(x, (list, tuple)) and all(np.ndim(item) > 0 for item in x):
        items = [as_array(f"{name}[{i}]", item) for i, item in enumerate(x)]
        for i, item in enumerate(items):
            check_ndim(f"{name}[{i}]", item, 1, "(T,)")
        lengths = [int(item.shape[0]) for item in items]
        if not items:
            return _beside(np.empty(0, np.int64), like), Form(None, lengths, like)
        filled = [item for item in items if item.shape[0]]  # np.asarray([]) is of floats
        if not filled and isinstance(items[0], np.ndarray):
            return np.empty(0, np.int64), Form(None, lengths)
        return join(filled or items[:1]), Form(None, lengths)
    x = as_array(name, x)
    return namespace(x).reshape(x, (-1,)), Form(tuple(int(n) for n in x.shape), None)


def _beside(array: np.ndarray, like: Any) -> Array:
    return array if like is None else beside(array, like)


def check_kind(name: str, array: Array, like: Array) -> None:
    """Raise a TypeError unless an array is of the kind of another."""
    if type(array) is not type(like) and namespace(array) is not namespace(like):
        raise TypeError(
            f"{name}: expected an array of {kind_name(like)}, as the other arguments are, got one "
            f"of {kind_name(array)}"
        )


def join(items: Sequence[Array]) -> Array:
    """The rows of all arrays, one after the other: a view if they lie so already, else a copy."""
    first = items[0]
    xp = namespace(first)
    kinds = {namespace(item) for item in items}
    if len(kinds) != 1:
        raise TypeError(f"x: expected arrays of one kind, got {', '.join(sorted(map(str, kinds)))}")
    if len(items) == 1:
        return first
    if xp is np:
        whole = _one_piece(items)
        return np.concatenate(items) if whole is None else whole
    return xp.concat(list(items))


def _one_piece(items: Sequence[np.ndarray]) -> np.ndarray | None:
    """A view over all rows if the arrays are adjacent slices of one array, else None."""
    base = items[0].base
    if not isinstance(base, np.ndarray) or not base.flags.c_contiguous:
        return None
    dtype = items[0].dtype
    start = address = items[0].__array_interface__["data"][0]
    for item in items:
        if item.base is not base or item.dtype != dtype or not item.flags.c_contiguous:
            return None
        if item.size:
            if item.__array_interface__["data"][0] != address:
                return None
            address += item.nbytes
    offset = start - base.__array_interface__["data"][0]
    if base.dtype != dtype or offset % dtype.itemsize:
        return None
    first, count = offset // dtype.itemsize, sum(item.size for item in items)
    whole = base.reshape(-1)[first : first + count]
    return whole.reshape((sum(item.shape[0] for item in items), *items[0].shape[1:]))


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
