"""Many live streams, of which a few at a time have something to read."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import (
    Array,
    Floats,
    as_array,
    as_index_array,
    check_int,
    check_positive_int,
    describe,
    namespace,
)
from fastrnn.engine.arrays import copied, put
from fastrnn.engine.devices import Device
from fastrnn.engine.doors import Door, door
from fastrnn.engine.locks import Lock
from fastrnn.engine.slots import Slots, States
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.recurrent import Recurrent
from fastrnn.layers.sequential import Sequential
from fastrnn.layers.sequential_stream import StepInput, snapshots

__all__ = ["StreamPool"]

SLOT_BITS = 32
"""A key is the number of a slot and, above these bits, how often that slot was given before."""


class StreamPool:
    """Thousands of live streams with states of their own, served a few at a time.

    Each stream has a key. Whichever of them have a step to read advance together, in one batched
    call; the others keep their state. What a stream gets has the same bits as one call of the layer
    on its whole sequence, whoever else is served beside it (with the packed engine).

    All memory is one array for each state, with room for `capacity` streams; it doubles when more
    are open, and room of closed streams is used again. The pool serves the parameters as they were
    when it was made; :meth:`reload` takes them anew. Several threads may call it: they take turns.

    Parameters
    ----------
    layer : RNN, LSTM, GRU, a layer of a registered cell, or Sequential of such
        Of one direction, with any layers without a state around.
    capacity : int
        How many streams there is room for at first.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> pool = fastrnn.StreamPool(fastrnn.GRU(3, 5, random_state=0))
    >>> ada, bob, eve = (pool.open() for _ in range(3))
    >>> pool.step([eve, ada], np.ones((2, 3))).shape
    (2, 5)
    >>> pool.submit(bob, np.ones((4, 3)))
    >>> pool.submit(eve, np.ones((2, 3)))
    >>> {key == bob: y.shape for key, y in pool.run().items()}
    {True: (4, 5), False: (2, 5)}
    >>> pool.close(bob)
    >>> len(pool)
    2
    """

    def __init__(self, layer: Any, capacity: int = 16) -> None:
        leaves = list(_leaves(layer))
        self._form = layer
        self._input = StepInput(leaves)
        self._embedding = next((one for one in leaves if isinstance(one, Embedding)), None)
        carries = [_carries(f"layer[{i}]", one) for i, one in enumerate(leaves)]
        if not any(carries):
            raise ValueError(f"layer: expected a recurrent layer, got {describe(layer)}")
        self._layers = leaves
        self._slots = {i: Slots(one._snapshot) for i, one in enumerate(leaves) if carries[i]}
        self._stateless = self._snapshots()
        self._lock = Lock()
        self._submitted: dict[int, list[Array]] = {}
        self._doors: dict[int, Door] = {}  # by which answers go out as what was submitted came
        # Of each slot the key of its stream, or -1 - the key that its next stream will have.
        self._keys = np.empty(0, np.int64)
        self._place = np.empty(0, np.int64)  # scratch: who of a call's streams is in a slot
        self._free: list[int] = []
        with self._input.device.entered():
            self._grow(check_positive_int("capacity", capacity))
        # One step shows what comes out, and that the layers fit one another.
        x = self._input.example()
        with self._input.device.entered():
            first = [part.initial(1) for part in self._slots.values()]
            y = self._advance(np.zeros(1, np.int64), x, first)[0]
        if y.shape[:2] != x.shape[:2]:
            raise ValueError(
                f"layer: expected layers that give a row for each step, got {y.shape} for one step"
            )

    # --- streams come and go ---------------------------------------------------------------------

    @overload
    def open(self, n: None = None) -> int: ...
    @overload
    def open(self, n: int) -> NDArray[np.int64]: ...
    def open(self, n: int | None = None) -> Any:
        """Begin a stream, or several.

        Parameters
        ----------
        n : int, optional
            How many; without it one.

        Returns
        -------
        int, or array of int (n,)
            The stream's key, never given twice.
        """
        count = 1 if n is None else check_int("n", n, 0)
        with self._lock, self._device.entered():
            if len(self._free) < count:
                needed = len(self._keys) - len(self._free) + count
                self._grow(max(needed, 2 * len(self._keys)))
            slots = np.array(self._free[len(self._free) - count :][::-1], np.int64)
            self._write(slots, [part.initial(count) for part in self._slots.values()])
            del self._free[len(self._free) - count :]
            keys = self._keys[slots] = -1 - self._keys[slots]
        return int(keys[0]) if n is None else keys

    def close(self, keys: Any) -> None:
        """End streams; what was submitted to them is forgotten.

        Parameters
        ----------
        keys : int or array of int (N,)
            Each once.
        """
        with self._lock:
            slots = self._find(keys)
            for key in self._keys[slots].tolist():
                self._submitted.pop(key, None)
                self._doors.pop(key, None)
            self._keys[slots] = -1 - (self._keys[slots] + (1 << SLOT_BITS))
            self._free += slots.tolist()

    def __len__(self) -> int:
        """How many streams are open."""
        return len(self._keys) - len(self._free)

    def __contains__(self, key: object) -> bool:
        """Whether a key is that of an open stream."""
        if not isinstance(key, int | np.integer):
            return False
        slot = int(key) & ((1 << SLOT_BITS) - 1)
        return slot < len(self._keys) and int(self._keys[slot]) == int(key) >= 0

    @property
    def capacity(self) -> int:
        """How many streams there is room for before it doubles."""
        return len(self._keys)

    @property
    def nbytes(self) -> int:
        """Bytes of all states, also of the room that is free."""
        return sum(part.nbytes for part in self._slots.values())

    # --- serving ---------------------------------------------------------------------------------

    @overload
    def step(self, keys: Any, x: np.ndarray) -> Floats: ...
    @overload
    def step(self, keys: Any, x: Any) -> Any: ...
    def step(self, keys: Any, x: Any) -> Array:
        """Advance some streams by one step; nothing has advanced where this raises.

        Parameters
        ----------
        keys : int or array of int (N,)
            Which, each once, in any order.
        x : array (N, D), or array of int (N,) where an embedding comes first
            The step's input of each.

        Returns
        -------
        array (N, S)
            What the layer gives for this step of each.
        """
        return self._step(x, keys)

    @property
    def _device(self) -> Device:
        return self._input.device

    @door
    def _step(self, x: Any, who: Any) -> Array:
        with self._lock:
            slots = self._find(who)
            rows = self._input.read("x", x, (len(slots),))
            y: Array = self._serve(slots, rows[:, None, ...])
        return y[:, 0, ...]

    def submit(self, key: int, x: Any) -> None:
        """Leave steps of one stream for :meth:`run`, behind those that wait already.

        Parameters
        ----------
        key : int
        x : array (t, D), or array of int (t,) where an embedding comes first
            Copied; t may be 0.
        """
        key = check_int("key", key)
        opened = Door(self._input.device, "x", x)
        with opened.device.entered():
            chunk = copied(self._input.read("x", opened.take("x", x), (None,), "t"))
            if self._input.width is None and self._embedding is not None:
                as_index_array("x", chunk, self._embedding.num_embeddings)
        with self._lock:
            self._find(key, "key")
            self._submitted.setdefault(key, []).append(chunk)
            self._doors[key] = opened

    def run(self) -> dict[int, Array]:
        """Advance all streams that have steps waiting by all of those, in one batch.

        Returns
        -------
        dict of int to array (t, S)
            For each key what the layer gives for its t steps, in order. Nothing waits any more;
            where this raises everything waits still.
        """
        with self._lock, self._input.device.entered():
            keys = list(self._submitted)
            if not keys:
                return {}
            chunks = [namespace(w[0]).concat(w) for w in self._submitted.values()]
            y = self._serve(self._find(keys), chunks)
            doors, self._doors = self._doors, {}
            self._submitted.clear()
            return {key: doors[key].give(one) for key, one in zip(keys, y, strict=True)}

    @property
    def waiting(self) -> int:
        """How many steps were submitted and not yet run."""
        with self._lock:
            return sum(
                int(chunk.shape[0]) for chunks in self._submitted.values() for chunk in chunks
            )

    def _serve(self, slots: np.ndarray, x: Any) -> Any:
        y, states = self._advance(slots, x)
        self._write(slots, states)
        return y

    def _write(self, slots: np.ndarray, states: Sequence[States]) -> None:
        """Replace the states of some streams: all of them, or none where memory ends."""
        mine = [array for part in self._slots.values() for array in part.arrays]
        put(mine, slots, [new for one in states for new in one])

    def _advance(
        self, slots: np.ndarray, x: Any, states: list[States] | None = None
    ) -> tuple[Any, list[States]]:
        """Outputs and final states; nothing is written yet, in case a later layer raises."""
        final: list[States] = []
        for i in range(len(self._layers)):
            part = self._slots.get(i)
            if part is None:
                x = self._stateless[i](x)
                continue
            first = part.read(slots) if states is None else states[len(final)]
            x, last = part.advance(x, first)
            final.append(last)
        return x, final

    # --- states ----------------------------------------------------------------------------------

    def state(self, keys: Any) -> Any:
        """The states of some streams, copies.

        Parameters
        ----------
        keys : int or array of int (N,)

        Returns
        -------
        as the layer's final state
            (h, c) for LSTM, else h, each (L, N, units), N in the order of the keys; of a
            Sequential with several recurrent layers a tuple with one for each.
        """
        with self._lock, self._device.entered():
            slots = self._find(keys)
            states = iter([part.read(slots) for part in self._slots.values()])
        return _packed(self._form, states)

    def set_state(self, keys: Any, state: Any) -> None:
        """Replace the states of some streams.

        Parameters
        ----------
        keys : int or array of int (N,)
            Each once.
        state : as :meth:`state` gives it
            None in the place of a recurrent layer's stands for its initial state.
        """
        with self._lock, self._device.entered():
            slots = self._find(keys)
            given = list(_unpacked(self._form, state))
            states = [
                part.initial(len(slots)) if one is None else part.checked("state", one, len(slots))
                for part, one in zip(self._slots.values(), given, strict=True)
            ]
            self._write(slots, states)

    def reset(self, keys: Any) -> None:
        """Return some streams to the initial state.

        Parameters
        ----------
        keys : int or array of int (N,)
            Each once.
        """
        with self._lock, self._device.entered():
            slots = self._find(keys)
            self._write(slots, [part.initial(len(slots)) for part in self._slots.values()])

    def reload(self) -> None:
        """Take all layers' parameters as they are now; keys and states stay."""
        with self._lock:
            for part in self._slots.values():
                part.reload()
            self._stateless = self._snapshots()

    # --- keys ------------------------------------------------------------------------------------

    def _find(self, keys: Any, name: str = "keys") -> np.ndarray:
        """The slots of open streams (N,), each once."""
        keys = np.asarray(as_array(name, keys))
        keys = keys if keys.ndim else keys[None]
        if keys.dtype.kind not in "iu" and keys.size:
            raise TypeError(f"{name}: expected integers, got dtype {keys.dtype}")
        if keys.ndim != 1:
            raise ValueError(f"{name}: expected 1 dimension (N,), got shape {keys.shape}")
        keys = keys.astype(np.int64, copy=False)
        slots: np.ndarray = keys & ((1 << SLOT_BITS) - 1)
        if len(keys) == 1:  # with so little to do, looking at arrays takes long
            key, slot = int(keys[0]), int(slots[0])
            if slot < len(self._keys) and int(self._keys[slot]) == key >= 0:
                return slots
        fits = slots < len(self._keys)
        known = self._keys[np.where(fits, slots, 0)]
        good = fits & (known == keys) & (keys >= 0)
        if not good.all():
            bad = int(np.argmin(good))
            key, at = int(keys[bad]), int(known[bad])
            closed = bool(fits[bad]) and 0 <= key < (at if at >= 0 else -1 - at)
            why = "which is closed" if closed else "which was never opened"
            raise ValueError(f"{name}: expected keys of open streams, got {key}, {why}")
        if len(keys) > 1:
            order = np.arange(len(keys))
            self._place[slots] = order
            last = self._place[slots]
            if (last != order).any():
                twice = int(keys[int(np.argmax(last != order))])
                raise ValueError(f"{name}: expected each stream once, got {twice} twice")
        return slots

    def _grow(self, capacity: int) -> None:
        """Make room for so many streams; all of it, or nothing where memory ends."""
        fresh = np.arange(len(self._keys), capacity, dtype=np.int64)
        rooms = [part.larger(capacity) for part in self._slots.values()]
        keys, place = np.concatenate([self._keys, -1 - fresh]), np.zeros(capacity, np.int64)
        free = self._free + fresh[::-1].tolist()
        for part, room in zip(self._slots.values(), rooms, strict=True):
            part.grow(room)
        self._keys, self._place, self._free = keys, place, free

    def _snapshots(self) -> dict[int, Any]:
        layers = {i: one for i, one in enumerate(self._layers) if i not in self._slots}
        return snapshots(layers)


def _leaves(layer: Any) -> Iterator[Any]:
    """All layers in order, those inside of a Sequential in its place."""
    if not isinstance(layer, Sequential):
        yield layer
        return
    for one in layer.layers:
        yield from _leaves(one)


def _carries(name: str, layer: Any) -> bool:
    """Whether a layer carries a state, checked to begin with the first step."""
    if isinstance(layer, Recurrent):
        if layer.bidirectional:
            raise ValueError(f"{name}: expected a layer of one direction, got both")
        return True
    if not callable(layer) or not hasattr(layer, "forward"):
        raise TypeError(f"{name}: expected a layer, got {describe(layer)}")
    if "lengths" in inspect.signature(layer.forward).parameters:
        raise ValueError(
            f"{name}: expected RNN, LSTM, GRU or a layer without a state, got {describe(layer)}"
        )
    return False


def _packed(layer: Any, states: Iterator[States]) -> Any:
    """The state in a layer's form from those of its recurrent layers."""
    if isinstance(layer, Sequential):
        inner = [
            one for one, carries in zip(layer.layers, layer._recurrent, strict=True) if carries
        ]
        parts = tuple(_packed(one, states) for one in inner)
    else:
        parts = next(states)
    return parts if len(parts) > 1 else parts[0]


def _unpacked(layer: Any, state: Any) -> Iterator[Any]:
    """The states of the recurrent layers from one in the layer's form."""
    if not isinstance(layer, Sequential):
        yield state
        return
    inner = [one for one, carries in zip(layer.layers, layer._recurrent, strict=True) if carries]
    for one, part in zip(inner, layer._states("state", state), strict=True):
        yield from _unpacked(one, part)
