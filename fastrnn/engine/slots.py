"""States of many sequences of one recurrent layer, of which any few advance together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn.checks import Array
from fastrnn.engine.arrays import placed, take
from fastrnn.engine.batches import Batch, Container, read_array
from fastrnn.engine.doors import Door
from fastrnn.engine.rows import Rows
from fastrnn.engine.streams import Snapshot

__all__ = ["Slots"]

States = tuple[Array, ...]
"""One array (L, n, units) for each of the cell's states."""


class Slots:
    """Room for the states of sequences, by number.

    Nothing is checked here but a state's shape; :class:`fastrnn.StreamPool` knows who is where.

    Parameters
    ----------
    take_snapshot : callable
        Gives the layer as it is.
    """

    def __init__(self, take_snapshot: Callable[[], Snapshot]) -> None:
        self._take_snapshot = take_snapshot
        self._snapshot = take_snapshot()
        self._states = self._snapshot.initial_of(0)

    def larger(self, capacity: int) -> States:
        """Arrays for :meth:`grow`, with more room and the states that are here."""
        grown = []
        for state in self._states:
            L, n, units = state.shape
            xp = self._snapshot.xp
            room = xp.empty((L, capacity, units), dtype=state.dtype, **placed(state))
            room[:, :n, :] = state
            grown.append(room)
        return tuple(grown)

    def grow(self, room: States) -> None:
        """Move into arrays with more room."""
        self._states = room

    def advance(self, x: Container, states: States) -> tuple[Container, States]:
        """Outputs and the states after them, which are not yet written.

        Parameters
        ----------
        x : array (n, t, D), or list of n arrays (t_i, D)
        states : tuple of array (L, n, units)
            Those before.

        Returns
        -------
        y : array (n, t, S), or list of n arrays (t_i, S)
        states : tuple of array (L, n, units)
            For :meth:`write`.
        """
        dtype = self._snapshot.dtype
        if isinstance(x, list):
            x, batch = Batch.read(x, None, self._input_size, dtype, self._snapshot.like)
        else:
            found = self._one_step(x, states) if x.shape[1] == 1 else None
            if found is not None:
                return found
            n = states[0].shape[1]
            x = read_array(
                "x", x, self._snapshot.xp, dtype, (n, None, self._input_size), "(N, t, D)"
            )
            batch = Batch(Rows.dense(n, x.shape[1]), False, self._snapshot.like, dtype)
        y, last, _ = self._snapshot.stack.forward(x, batch, states)
        return y, last

    def _one_step(self, x: Array, states: States) -> tuple[Array, States] | None:
        """The same for one step, which takes less time without all that several need.

        None where the layer or the array is not one that the kernels can walk so.
        """
        steps = self._snapshot.stack.steps(states)
        y = None if steps is None else steps.step(x[:, 0], None)
        return None if steps is None or y is None else (y[:, None], steps.state())

    def read(self, slots: np.ndarray) -> States:
        """The states of some sequences, copies."""
        return tuple(take(state, slots, axis=1) for state in self._states)

    @property
    def arrays(self) -> States:
        """The states of all, themselves."""
        return self._states

    def initial(self, n: int) -> States:
        """The initial states of n sequences."""
        return self._snapshot.initial_of(n)

    def checked(self, name: str, state: Any, n: int) -> States:
        """States of n sequences as a caller gave them: an array, or a tuple of several."""
        parts = (state,) if len(self._states) == 1 else state
        if not isinstance(parts, list | tuple) or len(parts) != len(self._states):
            raise ValueError(
                f"{name}: expected {len(self._states)} arrays (h, c), got {type(state).__name__}"
            )
        opened = Door(self._snapshot.device, name, parts)
        shapes = [(own.shape[0], n, own.shape[2]) for own in self._states]
        return tuple(
            read_array(name, part, self._snapshot.xp, self._snapshot.dtype, shape, "(L, N, units)")
            for part, shape in zip(opened.take(name, parts), shapes, strict=True)
        )

    def reload(self) -> None:
        """Take a new snapshot of the layer's parameters; the states stay."""
        self._snapshot = self._take_snapshot()

    @property
    def nbytes(self) -> int:
        """Bytes of all states, also of those nobody uses."""
        return sum(math.prod(state.shape) for state in self._states) * self._snapshot.dtype.itemsize

    @property
    def _input_size(self) -> int:
        return int(self._snapshot.stack.weights[0][0].params["weight_ih"].shape[1])
