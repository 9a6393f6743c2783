"""What the CUDA engine must know of a cell beside its formulas: where its sums stand.

A row of z has a slot of H numbers for each sum (``formulas.h`` lists them); weights have their
gates in blocks of H rows, in PyTorch's order.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastrnn.engine.passes import Weights

__all__ = ["Blocks", "Layout", "Stage", "layout_of"]


@dataclass(frozen=True)
class Blocks:
    """Gates ``start`` to ``stop`` of a weight, whose sums stand from slot ``slot`` on."""

    start: int
    stop: int
    slot: int

    @property
    def gates(self) -> int:
        """How many."""
        return self.stop - self.start


@dataclass(frozen=True)
class Stage:
    """A product with rows of the state, and the kernels around it.

    Parameters
    ----------
    blocks : Blocks or None
        What of weight_hh it multiplies; None for the projection's weight_hr, whose product is h.
    operand : str
        The rows it multiplies, a buffer of the plan.
    forward, backward : str
        Kernels of ``steps.cu``.
    """

    blocks: Blocks | None
    operand: str
    forward: str
    backward: str


@dataclass(frozen=True)
class Layout:
    """The slots of a cell's sums and its stages.

    Parameters
    ----------
    slots : int
        Of a row of z.
    inputs : tuple of Blocks
        What of weight_ih goes where.
    stages : tuple of Stage
        In the order they are computed.
    traced : dict of str to int
        Slots of gates by name.
    """

    slots: int
    inputs: tuple[Blocks, ...]
    stages: tuple[Stage, ...]
    traced: dict[str, int]

    @property
    def alone(self) -> list[int]:
        """Slots that have no share of the inputs."""
        filled = {s for b in self.inputs for s in range(b.slot, b.slot + b.gates)}
        return [slot for slot in range(self.slots) if slot not in filled]


_LSTM_GATES = {"i": 0, "f": 1, "g": 2, "o": 3}
_ALL_FOUR = Blocks(0, 4, 0)
_ONE = Blocks(0, 1, 0)
_LAYOUTS = {
    "lstm": Layout(
        4,
        (_ALL_FOUR,),
        (Stage(_ALL_FOUR, "seen", "lstm_forward", "lstm_backward"),),
        _LSTM_GATES,
    ),
    "lstm_projected": Layout(
        4,
        (_ALL_FOUR,),
        (
            Stage(_ALL_FOUR, "seen", "lstm_forward", "projected_lstm_backward"),
            Stage(None, "hidden", "projection_forward", "projection_backward"),
        ),
        _LSTM_GATES,
    ),
    "gru": Layout(
        3,
        (Blocks(0, 3, 0),),
        (
            Stage(Blocks(0, 2, 0), "seen", "gru_gates_forward", "gru_gates_backward"),
            Stage(Blocks(2, 3, 2), "hidden", "gru_forward", "gru_backward"),
        ),
        {"r": 0, "z": 1, "n": 2},
    ),
    "gru_after": Layout(
        4,
        (Blocks(0, 2, 1), Blocks(2, 3, 0)),
        (Stage(Blocks(0, 3, 1), "seen", "gru_after_forward", "gru_after_backward"),),
        {"n": 0, "r": 1, "z": 2},
    ),
    **{
        name: Layout(1, (_ONE,), (Stage(_ONE, "seen", f"{name}_forward", f"{name}_backward"),), {})
        for name in ("rnn_tanh", "rnn_relu", "rnn_sigmoid")
    },
}


def layout_of(weights: Weights) -> Layout | None:
    """The layout of the weights' cell, None where there are no kernels for it."""
    name = weights.cell.native or ""
    return _LAYOUTS.get(f"{name}_projected" if "weight_hr" in weights.params else name)
