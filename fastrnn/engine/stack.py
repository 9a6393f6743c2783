"""Layers and directions wired together: from the parameters' values to y, and back.

A stack holds the weights of L layers of one or two directions and nothing else: it knows no
argument checks, no locks and no initial states, which are the layer's
(:mod:`fastrnn.layers.rnn`) and the stream's (:mod:`fastrnn.engine.streams`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from fastrnn.checks import Array
from fastrnn.engine.batches import Batch, Container, Symbols, columns
from fastrnn.engine.masks import keep_mask
from fastrnn.engine.passes import Pass, Weights
from fastrnn.engine.recurrence import Steps, engine_for, steps

__all__ = ["Dropouts", "Saved", "Stack", "Steps"]

States = tuple[Array, ...]
"""One array (L*dirs, N, S) for each of the cell's states."""

BETWEEN_LAYERS = 2
"""Stands for the direction in the masks between layers, which belong to no direction."""


@dataclass(frozen=True, slots=True)
class Dropouts:
    """What the dropout masks of one call depend on, apart from their place."""

    seed: int
    call: int
    between: float
    recurrent: float


@dataclass(slots=True)
class Saved:
    """What backward needs of the whole stack."""

    batch: Batch
    passes: list[list[Pass]] = field(default_factory=list)
    kept: list[list[Any]] = field(default_factory=list)
    masks: list[Array | None] = field(default_factory=list)
    engine: Any = None


class Stack:
    """L layers of one or two directions.

    Parameters
    ----------
    weights : list of list of Weights
        By layer and direction.
    engine : module, optional
        What runs it; by default what :func:`~fastrnn.engine.recurrence.engine_for` says.
    """

    def __init__(self, weights: list[list[Weights]], engine: ModuleType | None = None) -> None:
        self.weights = weights
        self.engine = engine

    def forward(
        self,
        x: Container,
        batch: Batch,
        states: States,
        keep: bool = False,
        dropouts: Dropouts | None = None,
    ) -> tuple[Container, States, Saved | None]:
        """Run all layers.

        Parameters
        ----------
        x : container or Symbols
            The first layer's input; `Symbols` only for the native engine.
        batch : Batch
            Of x.
        states : tuple of array (L*dirs, N, S)
            Initial states.
        keep : bool
            Keep what :meth:`backward` needs.
        dropouts : Dropouts, optional
            Without it nothing is dropped.

        Returns
        -------
        y : container
            The last layer's output, dirs*S columns.
        states : tuple of array
            Final states, of the same shapes as the initial ones.
        saved : Saved or None
        """
        S, dirs = self.weights[0][0].state_size, len(self.weights[0])
        engine = self.engine or engine_for(self.weights[0][0])
        last = tuple(batch.xp.empty_like(s) for s in states)
        saved = Saved(batch, engine=engine)
        # Where nothing is kept, all layers write to y: of their input a step is not needed any more
        # once it is multiplied. Two directions need it at two times: layers alternate between two.
        n_shared = 0 if keep else min(dirs, len(self.weights))
        shared = [batch.empty(dirs * S) for _ in range(n_shared)]
        for k, directions in enumerate(self.weights):
            final = k + 1 == len(self.weights)
            out = shared[k % n_shared] if shared else batch.empty(dirs * S)
            passes = [
                Pass(
                    weights,
                    x,
                    out if dirs == 1 else columns(out, d * S, (d + 1) * S),
                    batch.rows,
                    tuple(s[k * dirs + d, ...] for s in states),
                    reverse=d == 1,
                    mask=self._recurrent_mask(batch, dropouts, k, d),
                )
                for d, weights in enumerate(directions)
            ]
            results = engine.forward(passes, keep)
            for d, (state, _) in enumerate(results):
                for whole, mine in zip(last, state, strict=True):
                    whole[k * dirs + d, ...] = mine
            mask = None if final else self._mask_between(batch, dropouts, k)
            x = out if mask is None else batch.mask(out, mask)
            if keep:
                saved.passes.append(passes)
                saved.kept.append([kept for _, kept in results])
                saved.masks.append(mask)
        return x, last, saved if keep else None

    def backward(
        self, saved: Saved, dy: Container | None, dstates: Sequence[Array | None]
    ) -> tuple[Container, States]:
        """Add the gradients of all parameters; return those of x and of the initial states.

        Where x was `Symbols`, its gradient is (U, D): that of their rows.
        """
        S, dirs = self.weights[0][0].state_size, len(self.weights[0])
        batch = saved.batch
        first: list[States] = []
        for k in reversed(range(len(self.weights))):
            passes = saved.passes.pop()
            D = int(passes[0].weights.params["weight_ih"].shape[1])
            mask = saved.masks[k]
            if mask is not None and dy is not None:
                dy = batch.mask(dy, mask)
            x = passes[0].x
            dx = np.empty_like(x.rows) if isinstance(x, Symbols) else batch.empty(D)
            dstate = [
                tuple(None if s is None else s[k * dirs + d, ...] for s in dstates)
                for d in range(dirs)
            ]
            dys = [
                None if dy is None else dy if dirs == 1 else columns(dy, d * S, (d + 1) * S)
                for d in range(dirs)
            ]
            first = saved.engine.backward(passes, saved.kept.pop(), dys, dstate, dx) + first
            dy = dx
        return dy, tuple(batch.xp.stack(parts, axis=0) for parts in zip(*first, strict=True))

    def steps(self, states: States) -> Steps | None:
        """Return what takes one step after another from these states, if the engine has such."""
        first = [directions[0] for directions in self.weights]
        return None if self.engine else steps(first, states)

    def trace(self, saved: Saved) -> dict[str, Container]:
        """Return every pass's values by name, layer and direction."""
        traced = {}
        for k, passes in enumerate(saved.passes):
            for d, (one, kept) in enumerate(zip(passes, saved.kept[k], strict=True)):
                for name, values in saved.engine.trace_gates(one, kept).items():
                    traced[f"{name}_{suffix(k, d)}"] = values
        return traced

    def _recurrent_mask(
        self, batch: Batch, dropouts: Dropouts | None, layer: int, direction: int
    ) -> Array | None:
        if dropouts is None or dropouts.recurrent == 0:
            return None
        units = self.weights[layer][direction].state_size
        return self._mask(batch, dropouts, layer, direction, None, units, dropouts.recurrent)

    def _mask_between(self, batch: Batch, dropouts: Dropouts | None, layer: int) -> Array | None:
        if dropouts is None or dropouts.between == 0:
            return None
        units = self.weights[0][0].state_size * len(self.weights[0])
        step = np.arange(batch.rows.T, dtype=np.int64)
        return self._mask(batch, dropouts, layer, BETWEEN_LAYERS, step, units, dropouts.between)

    @staticmethod
    def _mask(
        batch: Batch,
        dropouts: Dropouts,
        layer: int,
        direction: int,
        step: np.ndarray | None,
        units: int,
        p: float,
    ) -> Array:
        sequence = np.arange(batch.rows.N, dtype=np.int64)
        return keep_mask(
            dropouts.seed, dropouts.call, layer, direction, sequence, step, units, p, batch.dtype,
            like=batch.like,
        )  # fmt: skip


def suffix(layer: int, direction: int) -> str:
    """Return PyTorch's ending of names: ``l0``, ``l0_reverse``, ``l1``, ..."""
    return f"l{layer}_reverse" if direction else f"l{layer}"
