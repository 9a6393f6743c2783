"""The native engine: passes over NumPy arrays, handed to the kernels.

It gives what :mod:`fastrnn.engine.twin` gives, from the same arguments; the twin is the place to
read what is computed. Sequences are addressed where they lie, and activations live in memory that
comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn import _recurrence, _walk, _weights
from fastrnn._steps import Steps
from fastrnn.engine.batches import Symbols
from fastrnn.engine.passes import Container, Pass, Weights

__all__ = ["Steps", "backward", "forward", "prepare", "steps", "trace_gates"]

State = tuple[np.ndarray, ...]

# Slots of a row of sums by the name of the gate they hold (src/cells.h); RNN keeps h alone.
_SLOTS = {
    "lstm": {"i": 0, "f": 1, "g": 2, "o": 3},
    "gru": {"r": 0, "z": 1, "n": 2},
    "gru_after": {"n": 0, "r": 1, "z": 2},
}


def _native(weights: Weights) -> _weights.Weights:
    """The engine's own view of the weights, made on first use."""
    if weights.native is None:
        cell = weights.cell.native or ""
        if "weight_hr" in weights.params:
            cell = f"{cell}_projected"
        weights.native = _weights.Weights(cell, weights.params, weights.grads)
    return weights.native


def _walk_of(p: Pass, keep: bool) -> _walk.Walk:
    x, symbols = (p.x.index, p.x.rows) if isinstance(p.x, Symbols) else (p.x, None)
    return _walk.Walk(_native(p.weights), x, symbols, p.y, p.rows, p.state, p.reverse, p.mask, keep)


def prepare(weights: Weights) -> None:
    """Pack weights that will not change any more; calls then look for no changes."""
    _native(weights).freeze()


def stepped(weights: Weights) -> None:
    """Say that an optimizer has changed weights: the next call packs them without looking."""
    if weights.native is not None:
        weights.native.stepped()


def steps(weights: Sequence[Weights], state: State) -> Steps:
    """Prepare layers of one direction for one step after another, from this state (L, N, units)."""
    return Steps([_native(one) for one in weights], state)


def forward(passes: Sequence[Pass], keep: bool) -> list[tuple[State, _walk.Walk | None]]:
    """Run passes over one batch and fill their ``y``; see :func:`fastrnn.engine.twin.forward`."""
    walks = [_walk_of(p, keep) for p in passes]
    _recurrence.forward(walks)
    return [(walk.final_state(), walk if keep else None) for walk in walks]


def backward(
    passes: Sequence[Pass],
    saved: list[_walk.Walk],
    dy: list[Container | None],
    dstate: list[tuple[Any, ...] | None],
    dx: Container | None,
) -> list[State]:
    """Add the gradients of the weights, fill ``dx``; see :func:`fastrnn.engine.twin.backward`.

    Where x was `Symbols`, ``dx`` is (U, D): the gradients of their rows.
    """
    return _recurrence.backward(list(saved), list(dy), list(dstate), dx)


def trace_gates(p: Pass, saved: _walk.Walk) -> dict[str, Container]:
    """Return h, c and every gate by name, each a container of N times (T_i, width)."""
    traced: dict[str, Container] = {"h": p.y}
    if len(p.state) == 2:
        traced["c"] = _unpacked(p, saved.cells())
    gates = saved.gates()
    for name, slot in _SLOTS.get(p.weights.cell.native or "", {}).items():
        traced[name] = _unpacked(p, gates[:, slot])
    return traced


def _unpacked(p: Pass, packed: np.ndarray) -> Container:
    """Rows in step order as a container of x's form."""
    rows = p.rows
    if isinstance(p.x, list):
        offsets = np.cumsum(rows.lengths) - rows.lengths
        flat = np.empty(packed.shape, packed.dtype)
        flat[rows.positions(offsets, p.reverse)] = packed
        return [flat[a : a + n] for a, n in zip(offsets, rows.lengths, strict=True)]
    flat = np.zeros((rows.N * rows.T, packed.shape[1]), packed.dtype)
    flat[rows.positions(np.arange(rows.N) * rows.T, p.reverse)] = packed
    return flat.reshape(rows.N, rows.T, packed.shape[1])
