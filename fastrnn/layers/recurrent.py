"""What all recurrent layers are: parameters by name, calls, and backward.

A layer holds parameters and their gradients by name, checks what it is given, and hands packed
work to an engine. It remembers nothing of a call: ``forward`` returns what ``backward`` needs as a
function.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Self, overload

import numpy as np

from fastrnn.cells import Cell
from fastrnn.checks import (
    Array,
    Floats,
    check_addressable,
    check_bool,
    check_dtype,
    check_int,
    check_option,
    check_positive_int,
    check_probability,
    check_real,
    check_seed,
    describe,
    dtype_of,
    namespace,
)
from fastrnn.engine import recurrence
from fastrnn.engine.arrays import beside, copied, placed, to_host
from fastrnn.engine.batches import Batch, Container, Symbols, read_array
from fastrnn.engine.devices import HOST, Device
from fastrnn.engine.doors import door
from fastrnn.engine.initializers import INITIALIZERS, drawn, initializer
from fastrnn.engine.locks import Lock
from fastrnn.engine.parameters import Backward, Layer
from fastrnn.engine.passes import Weights
from fastrnn.engine.stack import Dropouts, Stack, suffix
from fastrnn.engine.streams import Snapshot, Stream
from fastrnn.files import Shape

__all__ = ["Recurrent", "check_recurrent"]

INITIAL_STATES = ("zeros", "normal", "learned")
NORMAL_SCALE = 0.01
"""Standard deviation of the values of ``initial_state="normal"``."""


class Recurrent(Layer):
    """What all recurrent layers share; made as :class:`fastrnn.RNN`, ``LSTM`` and ``GRU``.

    Parameters
    ----------
    cell : Cell
        What one step computes.
    input_size, hidden_size, num_layers, bias, bidirectional, dropout, recurrent_dropout, init, \
init_scale, initial_state, dtype, random_state
        See :class:`fastrnn.LSTM`.
    proj_size : int
        P, the width of h if the cell projects it, else 0.
    forget_bias : float
        Added to the f block of the input biases.
    extra : dict
        The arguments of the subclass's own that :meth:`config` is to return.
    """

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        bias: bool,
        bidirectional: bool,
        dropout: float,
        recurrent_dropout: float,
        init: str,
        init_scale: float,
        initial_state: str,
        dtype: Any,
        random_state: int | np.random.Generator | None,
        proj_size: int = 0,
        forget_bias: float = 0.0,
        extra: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.cell = cell
        self.input_size = check_positive_int("input_size", input_size)
        self.hidden_size = check_positive_int("hidden_size", hidden_size)
        self.num_layers = check_positive_int("num_layers", num_layers)
        self.proj_size = proj_size
        self.bias = check_bool("bias", bias)
        self.bidirectional = check_bool("bidirectional", bidirectional)
        self.dropout = check_probability("dropout", dropout)
        self.recurrent_dropout = check_probability("recurrent_dropout", recurrent_dropout)
        self.init = check_option("init", init, INITIALIZERS)
        self.init_scale = check_real("init_scale", init_scale, minimum=0.0)
        self.initial_state = check_option("initial_state", initial_state, INITIAL_STATES)
        self.dtype = check_dtype("dtype", dtype)
        self.forget_bias = forget_bias
        # One integer stands behind everything random here, so that config() can repeat it all.
        self.random_state = check_seed("random_state", random_state)
        self._extra = dict(extra)
        self._call_count = 0
        self._prepared = False
        self._count_lock = Lock()
        self._grads_lock = Lock()
        self._own_params(self._initial_params())

    # --- parameters ------------------------------------------------------------------------------

    def _initial_params(self) -> dict[str, np.ndarray]:
        """Draw all parameters in PyTorch's order; learned initial states come last, as zeros."""
        rng = np.random.default_rng(self.random_state)
        draw = initializer(self.init, self.hidden_size, self.init_scale)
        params = {}
        for name, local, shape in self._named_shapes(
            self.cell,
            self.input_size,
            self.hidden_size,
            self.num_layers,
            self.num_directions,
            self.proj_size,
            self.bias,
            self.initial_state == "learned",
        ):
            check_addressable("input_size, hidden_size", shape)
            if local == "initial":
                params[name] = np.zeros(shape, self.dtype)
                continue
            block = self.hidden_size if local != "weight_hr" else self.proj_size
            value = drawn(partial(draw, local, shape, block, rng), shape, self.dtype)
            if local == "bias_ih" and self.forget_bias:
                start = self.cell.gates.index("f") * self.hidden_size
                value[start : start + self.hidden_size] += self.forget_bias
            params[name] = value
        return params

    @staticmethod
    def _named_shapes(
        cell: Cell, D: int, H: int, L: int, dirs: int, P: int, bias: bool, learned: bool
    ) -> Iterator[tuple[str, str, Shape]]:
        """Every parameter's name, its name without layer and direction, and its shape."""
        S = P or H
        for layer in range(L):
            shapes = cell.shapes(dirs * S if layer else D, H, P, bias)
            for direction in range(dirs):
                for local, shape in shapes.items():
                    yield f"{local}_{suffix(layer, direction)}", local, shape
        for layer, direction in itertools.product(range(L if learned else 0), range(dirs)):
            for state in cell.states:
                width = S if state == "h" else H
                yield f"{state}0_{suffix(layer, direction)}", "initial", (width,)

    @classmethod
    def cell_of(cls, config: Mapping[str, Any]) -> Cell:
        """The cell of a layer of this configuration."""
        raise NotImplementedError

    @classmethod
    def shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
        """Name and shape of each parameter, from a configuration nobody has checked."""
        dirs = 2 if config.get("bidirectional", False) else 1
        learned = config.get("initial_state", "zeros") == "learned"
        for name, _, shape in cls._named_shapes(
            cls.cell_of(config),
            config["input_size"],
            config["hidden_size"],
            config.get("num_layers", 1),
            dirs,
            config.get("proj_size", 0),
            config.get("bias", True),
            learned,
        ):
            yield name, shape

    def _own_params(self, params: dict[str, np.ndarray]) -> None:
        """Take these arrays as parameters for good."""
        self._own(params)
        self._wire()

    def _settle(self, device: Device, params: dict[str, Array], grads: dict[str, Array]) -> None:
        super()._settle(device, params, grads)
        self._wire()
        if self._prepared:
            self.prepare()

    def _wire(self) -> None:
        """Lay parameters and gradients out by layer and direction."""
        names = self.cell.shapes(1, 1, self.proj_size, self.bias)
        self._stack = Stack(
            [
                [
                    Weights(
                        self._cell_of_direction(d),
                        {name: self.params[f"{name}_{suffix(layer, d)}"] for name in names},
                        {name: self.grads[f"{name}_{suffix(layer, d)}"] for name in names},
                    )
                    for d in range(self.num_directions)
                ]
                for layer in range(self.num_layers)
            ]
        )
        # An array of the kind of the parameters, where they are.
        self._like: Array = self._stack.weights[0][0].params["weight_ih"]

    def _cell_of_direction(self, direction: int) -> Cell:
        """The cell that walks one direction; parameters' names and shapes are those of `cell`."""
        return self.cell

    def _stepped(self) -> None:
        for layer in self._stack.weights:
            for weights in layer:
                recurrence.stepped(weights)

    @property
    def num_directions(self) -> int:
        """2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """The width of y: dirs*H, or dirs*P with projection."""
        return self.num_directions * self._state_width("h")

    def _state_width(self, state: str) -> int:
        return self.proj_size or self.hidden_size if state == "h" else self.hidden_size

    @property
    def call_count(self) -> int:
        """The number of calls of :meth:`forward` so far, of which dropout masks are a function."""
        return self._call_count

    @call_count.setter
    def call_count(self, value: int) -> None:
        self._call_count = check_int("call_count", value, 0)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, fit for JSON; ``type(layer)(**config)`` is its like.

        ``random_state`` is the integer that everything random in the layer follows from, also where
        a generator or None was given.
        """
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            **self._extra,
            "bias": self.bias,
            "bidirectional": self.bidirectional,
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "init": self.init,
            "init_scale": self.init_scale,
            "initial_state": self.initial_state,
            "dtype": self.dtype.name,
            "random_state": self.random_state,
        }

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({shown})"

    # --- calls -----------------------------------------------------------------------------------

    @overload
    def __call__(
        self, x: np.ndarray, state: Any = None, lengths: Any = None
    ) -> tuple[Floats, Any]: ...
    @overload
    def __call__(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Any, Any]: ...
    @door
    def __call__(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Any, Any]:
        """Compute outputs and final states; keep nothing, drop nothing.

        Parameters
        ----------
        x : array (N, T, D), or list of N arrays (T_i, D)
            Real numbers; another dtype than the layer's is converted once.
        state : array (L*dirs, N, S), or for LSTM a pair (h, c), optional
            Initial state; by default what ``initial_state`` says.
        lengths : array of int (N,), optional
            Real steps of each sequence of a padded array, in any order, 0 allowed.

        Returns
        -------
        y : array (N, T, dirs*S), or list of N arrays (T_i, dirs*S)
            h at every step, of the last layer; zero after a sequence's end.
        state : array or pair of arrays
            Each sequence's own final state: forward after its last step, reverse after its first.

        Raises
        ------
        TypeError
            If an argument is not of real numbers or of another namespace than the parameters.
        ValueError
            If a rank, a size or a length does not fit.
        """
        container, batch, states = self._read(self._readable(x), state, lengths)
        y, last, _ = self._stack.forward(container, batch, states)
        return y, self._state_form(last)

    @overload
    def forward(
        self, x: np.ndarray, state: Any = None, lengths: Any = None
    ) -> tuple[Floats, Any, Backward]: ...
    @overload
    def forward(
        self, x: Any, state: Any = None, lengths: Any = None
    ) -> tuple[Any, Any, Backward]: ...
    @door
    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Any, Any, Backward]:
        """Compute as in training: with dropout, and keeping what the gradients need.

        Parameters and the first two results are those of :meth:`__call__`. ``y`` is read-only, and
        neither x nor parameters may change before ``backward`` is called.

        Returns
        -------
        y, state
            See :meth:`__call__`.
        backward : callable
            ``dx, dstate = backward(dy, dstate=None)``, to be called once. Adds to ``layer.grads``.
            Takes the gradients of the loss in ``y`` (of its form; padding is not read; None for
            zero if there is a ``dstate``) and in the final state (of its form; an LSTM's pair may
            hold None); returns those in x (zero in padding) and in the initial state. A second
            call raises a RuntimeError; one refused for its arguments has changed nothing and does
            not count.
        """
        container, batch, states = self._read(self._readable(x), state, lengths)
        with self._count_lock:
            call = self._call_count
            self._call_count += 1
        dropouts = None
        if self.dropout or self.recurrent_dropout:
            dropouts = Dropouts(self.random_state, call, self.dropout, self.recurrent_dropout)
        stack = self._stack
        y, last, saved = stack.forward(container, batch, states, True, dropouts)
        assert saved is not None
        _make_read_only(y)
        learned = state is None and self.initial_state == "learned"

        def backward(dy: Any, dstate: Any = None) -> tuple[Any, Any]:
            dstates: tuple[Array | None, ...] = (None,) * len(states)
            if dstate is not None:
                dstates = self._read_state("dstate", dstate, batch)
            if dy is not None:
                dy = batch.check("dy", dy, self.output_size)
            elif all(part is None for part in dstates):
                raise ValueError("dy: expected a gradient of y, or one of the state, got neither")
            with self._grads_lock:
                dx, first = stack.backward(saved, dy, dstates)
                if learned:
                    self._add_initial_grads(first)
            if isinstance(x, Symbols) and container is not x:
                dx = x.collect(dx)
            return dx, self._state_form(first)

        return y, self._state_form(last), Backward(backward)

    @door
    def trace(self, x: Any, state: Any = None, lengths: Any = None) -> dict[str, Any]:
        """Return what every step computes, by name.

        Takes what :meth:`__call__` takes, and computes the same.

        Returns
        -------
        dict of str to container
            Under names such as ``"h_l0"``, ``"c_l0"``, ``"i_l0"``, ``"i_l0_reverse"``: h, further
            states and every gate of each layer and direction, in the form of x, (N, T, units), at
            the step of x where they arose; zero in padding.
        """
        container, batch, states = self._read(x, state, lengths)
        _, _, saved = self._stack.forward(container, batch, states, True)
        assert saved is not None
        return self._stack.trace(saved)

    # --- serving ---------------------------------------------------------------------------------

    def prepare(self) -> Self:
        """Make parameters read-only and pack them once, so that calls need not look for changes."""
        self._prepared = True
        for value in self.params.values():
            if isinstance(value, np.ndarray):  # other libraries' cannot be protected
                value.flags.writeable = False
        for directions in self._stack.weights:
            for weights in directions:
                recurrence.prepare(weights)
        return self

    def stream(self, batch_size: int = 1) -> Stream:
        """Return a :class:`~fastrnn.engine.streams.Stream` of ``batch_size`` sequences.

        Raises
        ------
        ValueError
            If the layer is bidirectional: its reverse direction begins at the end.
        """
        if self.bidirectional:
            raise ValueError("bidirectional: a stream needs a layer of one direction, got both")
        return Stream(self._snapshot, batch_size)

    def _snapshot(self) -> Snapshot:
        stack = self._stack
        if not self._prepared:
            stack = Stack([[_frozen(weights) for weights in layer] for layer in stack.weights])
        device = self._device or HOST
        with device.entered():
            return Snapshot(stack, self._initial_rows(), self.dtype, device)

    # --- state -----------------------------------------------------------------------------------

    def _passes(self) -> list[str]:
        """The endings of all parameters' names, in the order of the states' first axis."""
        return [suffix(k, d) for k in range(self.num_layers) for d in range(self.num_directions)]

    def _initial_states(self, N: int) -> tuple[Array, ...]:
        """The initial state of N sequences."""
        if self.initial_state == "zeros":
            rows = self.num_layers * self.num_directions
            if self._device is HOST:
                shapes = [(rows, N, self._state_width(name)) for name in self.cell.states]
                return tuple(np.zeros(shape, self.dtype) for shape in shapes)
            xp = namespace(self._like)
            widths = map(self._state_width, self.cell.states)
            made = {"dtype": dtype_of(xp, self.dtype), **placed(self._like)}
            return tuple(xp.zeros((rows, N, width), **made) for width in widths)
        repeat = namespace(self._like).repeat
        return tuple(repeat(rows[:, None, :], N, axis=1) for rows in self._initial_rows())

    def _initial_rows(self) -> tuple[Array, ...]:
        """Every initial state of one sequence: (L*dirs, width) for each of the cell's states."""
        rows = []
        if self.initial_state == "normal":  # not the parameters' own numbers
            rng = np.random.default_rng([self.random_state, 1])
        for name in self.cell.states:
            shape = (len(self._passes()), self._state_width(name))
            if self.initial_state == "learned":
                stack = namespace(self._like).stack
                rows.append(stack([self.params[f"{name}0_{end}"] for end in self._passes()]))
            elif self.initial_state == "normal":
                drawn_here = (NORMAL_SCALE * rng.standard_normal(shape)).astype(self.dtype)
                rows.append(beside(drawn_here, self._like))
            else:
                rows.append(beside(np.zeros(shape, self.dtype), self._like))
        return tuple(rows)

    def _add_initial_grads(self, first: tuple[Array, ...]) -> None:
        """Add the gradients of learned initial states, which all sequences share."""
        for name, gradient in zip(self.cell.states, first, strict=True):
            xp = namespace(gradient)
            for k, end in enumerate(self._passes()):
                self.grads[f"{name}0_{end}"][...] += xp.sum(gradient[k, ...], axis=0)

    def _read(self, x: Any, state: Any, lengths: Any) -> tuple[Container, Batch, tuple[Array, ...]]:
        """Check a call's arguments."""
        container, batch = Batch.read(x, lengths, self.input_size, self.dtype, self._like)
        batch.memory = self._memory
        if state is not None:
            states = self._read_state("state", state, batch)
        else:
            states = self._initial_states(batch.rows.N)
        return container, batch, states

    def _readable(self, x: Any) -> Any:
        """`x`, in full if it is `Symbols` that the engine does not take."""
        if not isinstance(x, Symbols):
            return x
        weights = self._stack.weights[0][0]
        taken = recurrence.takes_symbols(weights) and x.rows.dtype == self.dtype
        return x if taken else x.expand()

    def _read_state(self, name: str, state: Any, batch: Batch) -> tuple[Array, ...]:
        """Return a state's arrays, or its gradient's, which may be None, as copies.

        Of the initial state backward needs the values, which are the caller's to change.
        """
        names = self.cell.states
        parts = (state,) if len(names) == 1 else state
        if not isinstance(parts, list | tuple) or len(parts) != len(names):
            raise ValueError(
                f"{name}: expected {len(names)} arrays ({', '.join(names)}), got {describe(state)}"
            )
        read: list[Array] = []
        for label, part in zip(names, parts, strict=True):
            if part is None and name == "dstate":
                read.append(None)
                continue
            shape = (len(self._passes()), batch.rows.N, self._state_width(label))
            called = name if len(names) == 1 else f"{name} ({label})"
            value = read_array(called, part, batch.xp, self.dtype, shape, "(L*dirs, N, units)")
            read.append(np.array(value, order="C") if batch.xp is np else copied(value))
        return tuple(read)

    def _state_form(self, states: tuple[Array, ...]) -> Any:
        return states if len(states) > 1 else states[0]

    # --- copies ----------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {
            "config": self.config(),
            "params": {name: to_host(param) for name, param in self.params.items()},
            "grads": {name: to_host(grad) for name, grad in self.grads.items()},
            "call_count": self._call_count,
            "prepared": self._prepared,
            "device": self._device,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["config"])  # type: ignore[misc]
        self._restore_arrays(state)
        self._call_count = state["call_count"]
        if state["prepared"]:
            self.prepare()
        self._go_back_to(state)


def check_recurrent(name: str, layer: Any) -> None:
    """Raise a TypeError unless `layer` is a recurrent layer."""
    if not isinstance(layer, Recurrent):
        raise TypeError(f"{name}: expected a recurrent layer, got {describe(layer)}")


def _frozen(weights: Weights) -> Weights:
    """A copy of weights, prepared for serving."""
    copy = Weights(weights.cell, {name: copied(value) for name, value in weights.params.items()})
    recurrence.prepare(copy)
    return copy


def _make_read_only(container: Container) -> None:
    for array in container if isinstance(container, list) else [container]:
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
