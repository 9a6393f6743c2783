"""Streams: a recurrent layer served step by step, its state carried from call to call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np

from fastrnn.checks import (
    Array,
    Floats,
    as_array,
    as_index_array,
    check_int,
    check_shape,
    describe,
    dtype_of,
    namespace,
)
from fastrnn.engine.arrays import copied, put, take
from fastrnn.engine.batches import Batch, read_array
from fastrnn.engine.devices import HOST, Device
from fastrnn.engine.doors import Door, door
from fastrnn.engine.rows import Rows
from fastrnn.engine.stack import Stack, Steps

__all__ = ["Snapshot", "Stream", "check_out", "row_mask"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A layer as it was at one moment: nothing in it changes when the layer's parameters do.

    Parameters
    ----------
    stack : Stack
        With weights of its own.
    initial : tuple of array (L, S), (L, H), ...
        The initial state of a sequence, for each of the cell's states.
    dtype : dtype
        Of both.
    device : Device
        Where both are.

    Attributes
    ----------
    like : array
        One of the kind of all others, on their device.
    xp : namespace
        Of all its arrays.
    """

    stack: Stack
    initial: tuple[Array, ...]
    dtype: np.dtype
    device: Device = HOST
    like: Array = field(init=False)
    xp: Any = field(init=False)

    def __post_init__(self) -> None:
        like = self.stack.weights[0][0].params["weight_ih"]
        object.__setattr__(self, "like", like)
        object.__setattr__(self, "xp", namespace(like))

    def initial_of(self, n: int) -> tuple[Array, ...]:
        """The initial states of n sequences."""
        with self.device.entered():
            return tuple(self.xp.repeat(s[:, None, :], n, axis=1) for s in self.initial)


class Stream:
    """Sequences that arrive step by step.

    Made by :meth:`fastrnn.LSTM.stream` and its like. A stream serves a snapshot of the layer's
    parameters; :meth:`reload` takes a new one. What it answers has the same bits as one call of the
    layer on the whole sequences. One stream belongs to one thread at a time.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> layer = fastrnn.GRU(3, 5, random_state=0)
    >>> stream = layer.stream(batch_size=2)
    >>> x = np.ones((2, 4, 3), np.float32)
    >>> steps = [stream.step(x[:, t]) for t in range(4)]
    >>> bool(np.allclose(np.stack(steps, axis=1), layer(x)[0]))
    True
    """

    def __init__(self, take_snapshot: Callable[[], Snapshot], batch_size: int = 1) -> None:
        self._take_snapshot = take_snapshot
        self._snapshot = take_snapshot()
        self._batch_size = check_int("batch_size", batch_size, 0)
        self._batches: dict[int, Batch] = {}
        self._steps: Steps | None = None  # while it stands, the state is there
        self._own_state = self._initial(self._batch_size)

    # --- serving ---------------------------------------------------------------------------------

    @overload
    def step(self, x_t: np.ndarray, out: Array | None = None) -> Floats: ...
    @overload
    def step(self, x_t: Any, out: Array | None = None) -> Any: ...
    def step(self, x_t: Any, out: Array | None = None) -> Array:
        """Advance every sequence by one step.

        Parameters
        ----------
        x_t : array (N, D)
            The step's input.
        out : array (N, S), optional
            Where to write the output; of the layer's dtype. May be ``x_t`` itself.

        Returns
        -------
        array (N, S)
            h after this step; ``out`` if it was given.
        """
        if self._steps is None:
            self._steps = self._snapshot.stack.steps(self._state)
        if self._steps is not None:
            y = self._steps.step(x_t, out)
            if y is not None:
                return y
        y = self._step(x_t, out)
        return y if out is None else out

    @property
    def _device(self) -> Device:
        return self._snapshot.device

    @door
    def _step(self, x_t: Any, out: Any) -> Array:
        """`step` of whatever the kernels do not take as it is."""
        N, D, S = self._batch_size, self._input_size, self._output_size
        x = read_array("x_t", x_t, self._snapshot.xp, self._snapshot.dtype, (N, D), "(N, D)")
        if out is not None:
            check_out(out, (N, S), self._snapshot.dtype, self._snapshot.like)
        y = None if self._steps is None else self._steps.step(np.array(x, order="C"), None)
        if y is None:
            y = self._snapshot.xp.reshape(self._advance(x[:, None, :]), (N, S))
        if out is None:
            return y
        out[...] = y
        return out

    @overload
    def push(self, chunk: np.ndarray) -> Floats: ...
    @overload
    def push(self, chunk: Any) -> Any: ...
    @door
    def push(self, chunk: Any) -> Array:
        """Advance every sequence by the steps of a chunk.

        Parameters
        ----------
        chunk : array (N, t, D)
            The next t steps; t may be 0.

        Returns
        -------
        array (N, t, S)
            h after each of them.
        """
        shape = (self._batch_size, None, self._input_size)
        x = read_array("chunk", chunk, self._snapshot.xp, self._snapshot.dtype, shape, "(N, t, D)")
        return self._advance(x)

    def _advance(self, x: Array) -> Array:
        y: Array
        batch = self._batch(x.shape[1])
        y, self._state, _ = self._snapshot.stack.forward(x, batch, self._state)
        return y

    @property
    def _state(self) -> tuple[Array, ...]:
        """The state as arrays, taken back from where single steps keep it."""
        if self._steps is not None:
            self._own_state, self._steps = self._steps.state(), None
        return self._own_state

    @_state.setter
    def _state(self, state: tuple[Array, ...]) -> None:
        self._own_state, self._steps = state, None

    def _batch(self, T: int) -> Batch:
        batch = self._batches.get(T)
        if batch is None:
            rows = Rows(np.full(self._batch_size, T, dtype=np.int64), T)
            batch = Batch(rows, False, self._snapshot.like, self._snapshot.dtype)
            if len(self._batches) < 16:  # chunks of ever new lengths must not fill memory
                self._batches[T] = batch
        return batch

    # --- state -----------------------------------------------------------------------------------

    @property
    def batch_size(self) -> int:
        """Number of sequences N."""
        return self._batch_size

    @property
    def state(self) -> Any:
        """The state, a copy in the layer's form: (h, c) for LSTM, else h; each (L, N, units)."""
        parts = tuple(map(copied, self._state))
        return parts if len(parts) > 1 else parts[0]

    @state.setter
    def state(self, state: Any) -> None:
        n_states = len(self._state)
        parts = (state,) if n_states == 1 else state
        if not isinstance(parts, list | tuple) or len(parts) != n_states:
            raise ValueError(f"state: expected {n_states} arrays (h, c), got {describe(state)}")
        opened = Door(self._device, "state", parts)
        xp, dtype = self._snapshot.xp, self._snapshot.dtype
        with opened.device.entered():
            self._state = tuple(
                copied(read_array("state", part, xp, dtype, tuple(own.shape), "(L, N, units)"))
                for part, own in zip(opened.take("state", parts), self._state, strict=True)
            )

    def reset(self, rows: Any = None) -> None:
        """Return sequences to the initial state.

        Parameters
        ----------
        rows : int, array of int, or boolean mask (N,), optional
            Which; all by default.
        """
        N = self._batch_size
        chosen = np.ones(N, dtype=bool) if rows is None else row_mask(rows, N)
        which = np.flatnonzero(chosen)
        with self._snapshot.device.entered():
            put(self._state, which, self._initial(len(which)))

    def add(self, n: int = 1) -> np.ndarray:
        """Append n sequences in the initial state; return their indices."""
        n = check_int("n", n, 0)
        concat = self._snapshot.xp.concat
        with self._snapshot.device.entered():
            both = zip(self._state, self._initial(n), strict=True)
            self._state = tuple(concat(pair, axis=1) for pair in both)
        self._resize(self._batch_size + n)
        return np.arange(self._batch_size - n, self._batch_size)

    def drop(self, rows: Any) -> None:
        """Remove sequences; those after them move up.

        Parameters
        ----------
        rows : int, array of int, or boolean mask (N,)
            Which.
        """
        kept = np.flatnonzero(~row_mask(rows, self._batch_size))
        with self._snapshot.device.entered():
            self._state = tuple(take(s, kept, axis=1) for s in self._state)
        self._resize(len(kept))

    def reload(self) -> None:
        """Take a new snapshot of the layer's parameters; the state stays."""
        self._state = self._state  # steps have weights of their own
        self._snapshot = self._take_snapshot()

    def _resize(self, N: int) -> None:
        self._batch_size = N
        self._batches.clear()

    def _initial(self, N: int) -> tuple[Array, ...]:
        return self._snapshot.initial_of(N)

    @property
    def _input_size(self) -> int:
        return int(self._snapshot.stack.weights[0][0].params["weight_ih"].shape[1])

    @property
    def _output_size(self) -> int:
        return self._snapshot.stack.weights[0][0].state_size


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype, like: Array) -> None:
    """Raise an error unless a step's output (N, units), an array as `like`, fits into `out`."""
    if type(out) is not type(like) or out.dtype != dtype_of(namespace(like), dtype):
        raise TypeError(f"out: expected an array of {dtype}, got {describe(out)}")
    check_shape("out", out, shape, "(N, units)")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out: expected an array that can be written, got a read-only one")


def row_mask(rows: Any, N: int) -> np.ndarray:
    """Which of N sequences are meant, (N,): by an index, by several, or by a mask itself."""
    rows = np.asarray(as_array("rows", rows))
    if rows.dtype == bool:
        check_shape("rows", rows, (N,))
        return rows
    mask = np.zeros(N, dtype=bool)
    mask[as_index_array("rows", np.atleast_1d(rows), N, what="sequences")] = True
    return mask
