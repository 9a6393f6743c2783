"""What an engine is given: the weights of one direction of one layer, and one pass over a batch.

Both engines, the native one and the array twin, take a list of passes, one per direction, and know
nothing of layers. A *container* of sequences is an array (N, T, D), whose rows after a sequence's
end are padding that no engine reads, or a list of N arrays (T_i, D).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastrnn.cells import Cell
from fastrnn.checks import Array
from fastrnn.engine.rows import Rows

__all__ = ["Container", "Pass", "Weights"]

Container = Any
"""An array (N, T, D) or a list of N arrays (T_i, D)."""


@dataclass(slots=True, eq=False)
class Weights:
    """The parameters of one direction of one layer; lives as long as the layer.

    Parameters
    ----------
    cell : Cell
        What one step computes.
    params, grads : dict of str to array
        By local name: weight_ih (G, D), weight_hh (G, S), bias_ih (G,), bias_hh (G,) unless there
        are no biases, weight_hr (P, H) with projection, and the cell's vectors (H,).
    native : object
        The native engine's cache; nobody else's business.
    plans : object
        Likewise the CUDA engine's.
    """

    cell: Cell
    params: dict[str, Array]
    grads: dict[str, Array] = field(default_factory=dict)
    native: Any = None
    plans: Any = None

    @property
    def hidden_size(self) -> int:
        """The units H."""
        return int(self.params["weight_ih"].shape[0]) // len(self.cell.gates)

    @property
    def state_size(self) -> int:
        """The width S of h: P with projection, else H."""
        return int(self.params["weight_hh"].shape[1])

    def width(self, state: str) -> int:
        """Return the width of a state by its name: S for h, H for all others."""
        return self.state_size if state == "h" else self.hidden_size


@dataclass(slots=True, eq=False)
class Pass:
    """One direction of one layer over a batch.

    Parameters
    ----------
    weights : Weights
        Read by forward; backward adds into their grads.
    x : container
        Inputs, (N, T, D) or N of (T_i, D), in the caller's order.
    y : container
        To be filled with h, S columns; may be columns of a wider output. Where forward keeps
        nothing and there is one direction, it may be x itself.
    rows : Rows
        Lengths and step order of the batch.
    state : tuple of arrays
        Initial state, (N, S) and for further states (N, H), in the caller's order.
    reverse : bool
        Walk each sequence from its own end to its beginning.
    mask : array (N, S) or None
        Recurrent dropout: what products see of h is ``h * mask``; h itself is not changed.
    """

    weights: Weights
    x: Container
    y: Container
    rows: Rows
    state: tuple[Array, ...]
    reverse: bool = False
    mask: Array | None = None
