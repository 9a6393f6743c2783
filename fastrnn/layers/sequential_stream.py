"""Streams of layers one after the other, of which some are recurrent."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np

from fastrnn.checks import Array, Floats, as_array, check_int, check_shape, describe, namespace
from fastrnn.engine import products
from fastrnn.engine.arrays import host_dtype
from fastrnn.engine.batches import read_array
from fastrnn.engine.devices import HOST, Device
from fastrnn.engine.doors import door
from fastrnn.engine.streams import check_out, row_mask
from fastrnn.layers.activation import Activation
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.modules import Dropout, Linear

__all__ = ["SequentialStream", "StepInput", "snapshots"]


class SequentialStream:
    """Sequences that arrive step by step, through layers one after the other.

    Made by :meth:`fastrnn.Sequential.stream`. It serves the layers as they were when it was made;
    :meth:`reload` takes them anew. What it answers has the same bits as one call of the layers on
    the whole sequences. One stream belongs to one thread at a time.

    Parameters
    ----------
    layers : sequence of layer
        One after the other.
    carries : sequence of bool
        Which of them carry a state: those have a ``stream`` of their own.
    batch_size : int
        Number of sequences.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> layers = fastrnn.Sequential(fastrnn.Embedding(9, 4), fastrnn.GRU(4, 5))
    >>> stream = layers.stream(batch_size=2)
    >>> x = np.array([[3, 1, 4], [1, 5, 8]])
    >>> steps = [stream.step(x[:, t]) for t in range(3)]
    >>> bool(np.allclose(np.stack(steps, axis=1), layers(x)[0]))
    True
    """

    def __init__(self, layers: Sequence[Any], carries: Sequence[bool], batch_size: int = 1) -> None:
        if not any(carries):
            raise ValueError("stream: expected layers of which one is recurrent, got none")
        self._layers = tuple(layers)
        self._input = StepInput(layers)
        self._streams: dict[int, Any] = {}
        N = check_int("batch_size", batch_size, 0)
        for i, layer in enumerate(layers):
            if carries[i]:
                self._streams[i] = _stream(f"layers[{i}]", layer)
        self._stateless = snapshots({i: x for i, x in enumerate(layers) if not carries[i]})
        # One step of one sequence shows what comes out, and that the layers fit one another.
        x = self._input.example()
        with self._input.device.entered():
            y = self._push(x)
        if y.shape[:2] != x.shape[:2]:
            raise ValueError(
                f"stream: expected layers that give a row for each step, got {y.shape} for one step"
            )
        self._row, self._dtype, self._like = tuple(y.shape[2:]), host_dtype(y), y[:, 0, ...]
        self._batch_size = 1
        self.drop(0)
        self.add(N)

    # --- serving ---------------------------------------------------------------------------------

    @overload
    def step(self, x_t: np.ndarray, out: Array | None = None) -> Floats: ...
    @overload
    def step(self, x_t: Any, out: Array | None = None) -> Any: ...
    def step(self, x_t: Any, out: Array | None = None) -> Array:
        """Advance every sequence by one step.

        Parameters
        ----------
        x_t : array (N, D), or array of int (N,) where an embedding comes first
            The step's input.
        out : array (N, S), optional
            Where to write the output; of the last layer's dtype.

        Returns
        -------
        array (N, S)
            What the last layer gives for this step; ``out`` if it was given.
        """
        y = self._step(x_t, out)
        return y if out is None else out

    @property
    def _device(self) -> Device | None:
        return self._input.device

    @door
    def _step(self, x_t: Any, out: Any) -> Array:
        x = self._input.read("x_t", x_t, (self._batch_size,))
        if out is not None:
            check_out(out, (self._batch_size, *self._row), self._dtype, self._like)
        for i in range(len(self._layers)):
            stream = self._streams.get(i)
            if stream is not None:
                x = stream.step(x)
                continue
            # Layers without a state see what they see in a call: sequences, here of one step.
            x = self._stateless[i](x[:, None, ...])[:, 0, ...]
        if out is None:
            return x
        out[...] = x
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
        chunk : array (N, t, D), or array of int (N, t) where an embedding comes first
            The next t steps; t may be 0.

        Returns
        -------
        array (N, t, S)
            What the last layer gives for each of them.
        """
        return self._push(self._input.read("chunk", chunk, (self._batch_size, None)))

    def _push(self, x: Array) -> Array:
        for i in range(len(self._layers)):
            stream = self._streams.get(i)
            x = self._stateless[i](x) if stream is None else stream.push(x)
        return x

    # --- state -----------------------------------------------------------------------------------

    @property
    def batch_size(self) -> int:
        """Number of sequences N."""
        return self._batch_size

    @property
    def state(self) -> Any:
        """The state, a copy: that of the one recurrent layer, or a tuple with one for each."""
        parts = tuple(stream.state for stream in self._streams.values())
        return parts if len(parts) > 1 else parts[0]

    @state.setter
    def state(self, state: Any) -> None:
        streams = list(self._streams.values())
        parts = (state,) if len(streams) == 1 else state
        if not isinstance(parts, list | tuple) or len(parts) != len(streams):
            raise ValueError(
                f"state: expected {len(streams)} entries, one for each recurrent layer, "
                f"got {describe(state)}"
            )
        before = [stream.state for stream in streams]
        try:
            for stream, part in zip(streams, parts, strict=True):
                stream.state = part
        except (TypeError, ValueError):  # all of it or nothing
            for stream, part in zip(streams, before, strict=True):
                stream.state = part
            raise

    def reset(self, rows: Any = None) -> None:
        """Return sequences to the initial state.

        Parameters
        ----------
        rows : int, array of int, or boolean mask (N,), optional
            Which; all by default.
        """
        chosen = None if rows is None else row_mask(rows, self._batch_size)
        for stream in self._streams.values():
            stream.reset(chosen)

    def add(self, n: int = 1) -> np.ndarray:
        """Append n sequences in the initial state; return their indices."""
        n = check_int("n", n, 0)
        for stream in self._streams.values():
            stream.add(n)
        self._batch_size += n
        return np.arange(self._batch_size - n, self._batch_size)

    def drop(self, rows: Any) -> None:
        """Remove sequences; those after them move up.

        Parameters
        ----------
        rows : int, array of int, or boolean mask (N,)
            Which.
        """
        dropped = row_mask(rows, self._batch_size)
        for stream in self._streams.values():
            stream.drop(dropped)
        self._batch_size -= int(dropped.sum())

    def reload(self) -> None:
        """Take all layers' parameters as they are now; the state stays."""
        for stream in self._streams.values():
            stream.reload()
        self._stateless = snapshots({i: self._layers[i] for i in self._stateless})


class StepInput:
    """What layers one after the other take: rows of a width, or indices.

    Parameters
    ----------
    layers : sequence of layer
        The first one that is neither `Dropout` nor `Activation` decides.
    """

    def __init__(self, layers: Iterable[Any]) -> None:
        self.width: int | None = None  # of indices
        self.dtype = np.dtype(np.int64)
        self.device = HOST
        for layer in layers:
            self.device = getattr(layer, "_device", None) or self.device
            if isinstance(layer, Embedding):
                return
            if isinstance(layer, Dropout | Activation):
                continue
            if hasattr(layer, "layers"):  # a Sequential
                inner = StepInput(layer.layers)
                self.width, self.dtype, self.device = inner.width, inner.dtype, inner.device
                return
            for name in ("input_size", "in_features", "features"):
                width = getattr(layer, name, None)
                if width is not None:
                    self.width, self.dtype = int(width), np.dtype(layer.dtype)
                    return
            break
        raise ValueError(
            "stream: expected a first layer that says how wide its input is (input_size, "
            f"in_features or features), got {describe(layer)}"
        )

    @property
    def row(self) -> tuple[int, ...]:
        """The shape of one step of one sequence."""
        return () if self.width is None else (self.width,)

    def example(self) -> Array:
        """One step of one sequence, (1, 1, D) or (1, 1)."""
        return self.device.put(np.zeros((1, 1, *self.row), self.dtype))

    def read(self, name: str, x: Any, before: tuple[int | None, ...], axes: str = "Nt") -> Array:
        """`x` as an array of the shape `before` and a row; indices are not looked at."""
        names = [*axes[: len(before)], *"D"[: len(self.row)]]
        axes = f"({', '.join(names)})" if len(names) > 1 else f"({names[0]},)"
        shape = (*before, *self.row)
        xp = np if self.device is HOST else namespace(self.example())
        if self.width is not None:
            return read_array(name, x, xp, self.dtype, shape, axes)
        found = as_array(name, x)
        if namespace(found) is not xp:
            self.device.read(name, found)
        if "int" not in str(found.dtype) and math.prod(found.shape):
            raise TypeError(f"{name}: expected indices, got dtype {found.dtype}")
        check_shape(name, found, shape, axes)
        return found


def snapshots(layers: Mapping[int, Any]) -> dict[int, Any]:
    """Layers without a state as they are now: copies, unless nobody can write to their parameters.

    A layer that many streams are to share is one whose parameters are read-only.
    """
    shared = {i: layer for i, layer in layers.items() if _is_read_only(layer)}
    copies = copy.deepcopy({i: layer for i, layer in layers.items() if i not in shared})
    found = {i: shared[i] if i in shared else copies[i] for i in layers}
    return {i: _packed_once(x) if isinstance(x, Linear) else x for i, x in found.items()}


def _is_read_only(layer: Any) -> bool:
    parts = getattr(layer, "parts", layer.params)
    return all(isinstance(p, np.ndarray) and not p.flags.writeable for p in parts.values())


def _packed_once(layer: Linear) -> Linear:
    """The same layer, which does not look whether its weight has changed."""
    same = object.__new__(type(layer))
    same.__dict__.update(layer.__dict__, cache=products.Call(products.Cache()))
    return same


def _stream(name: str, layer: Any) -> Any:
    """A layer's stream of one sequence."""
    if not hasattr(layer, "stream"):
        raise ValueError(f"{name}: expected a layer that has a stream, got {type(layer).__name__}")
    try:
        return layer.stream(1)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
