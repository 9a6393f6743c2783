"""The array twin: forward, and backpropagation through time, in plain array operations.

One driver walks time for all cells, on arrays of any namespace. It is the oracle of the native
engine's tests, the path of arrays that are not NumPy's and of cells registered by users, and the
place to read what the native engine does. It copies where the native engine addresses: a batch is
gathered into packed rows (:mod:`fastrnn.engine.rows`), walked, and written back.

Backward is Werbos, "Backpropagation through time: what it does and how to do it", Proceedings of
the IEEE 78 (1990): exact, over all steps of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.cells import Cell, Stage, Values
from fastrnn.checks import Array, namespace
from fastrnn.engine.arrays import copied, placed, take
from fastrnn.engine.packed import add_up, pack, unpack
from fastrnn.engine.passes import Container, Pass, Weights

__all__ = ["backward", "forward", "trace_gates"]

quiet = np.errstate(over="ignore", invalid="ignore")
"""What is not finite is the caller's to see in the results; the native engine warns no more."""

State = tuple[Array, ...]
Watch = Callable[[int, int, Array], None]
"""Called by backward as ``watch(k, t, dh)`` with pass k's dL/dh after step t of the packed rows."""


@dataclass(slots=True)
class Saved:
    """What backward needs of one pass: packed inputs and, for each step, every named value."""

    x: Array
    steps: list[Values]


# --- forward -------------------------------------------------------------------------------------


@quiet
def forward(passes: Sequence[Pass], keep: bool) -> list[tuple[State, Saved | None]]:
    """Run passes over their batches and fill their ``y``.

    Returns
    -------
    list of (state, saved)
        For each pass the state after each sequence's last step (the initial one for a sequence
        without steps), in the caller's order, and, if ``keep``, what :func:`backward` needs.
    """
    return [_forward(one, keep) for one in passes]


def _forward(p: Pass, keep: bool) -> tuple[State, Saved | None]:
    cell, rows = p.weights.cell, p.rows
    xp = namespace(p.weights.params["weight_ih"])
    if rows.total == 0:
        return tuple(map(copied, p.state)), Saved(None, []) if keep else None
    weights = _split(p.weights)
    x = pack(xp, p.x, rows, p.reverse)
    sums = _input_sums(x, p.weights)
    state = [take(s, rows.order) for s in p.state]
    mask = None if p.mask is None else take(p.mask, rows.order)
    steps, h = [], []
    for t in range(rows.T):
        n = int(rows.sizes[t])
        if n == 0:
            break
        v = Values({name: p.weights.params[name] for name in cell.vectors})
        v.update((name, s[:n, :]) for name, s in zip(cell.states, state, strict=True))
        v.h_seen = v.h if mask is None else v.h * mask[:n, :]
        here = sums[int(rows.base[t]) : int(rows.base[t]) + n, :]
        for stage, weight, bias in weights:
            here = _stage_sums(xp, v, stage, weight, bias, here)
            stage.forward(xp, v)
        # sequences that have ended keep their state
        state = [
            xp.concat([v[f"{name}_next"], s[n:, :]], axis=0)
            for name, s in zip(cell.states, state, strict=True)
        ]
        h.append(v.h_next)
        if keep:
            steps.append(v)
    unpack(xp, xp.concat(h, axis=0), p.y, rows, p.reverse)
    last = tuple(take(s, rows.inverse_order()) for s in state)
    return last, Saved(x, steps) if keep else None


def _split(weights: Weights) -> list[tuple[Stage, Array, Array | None]]:
    """Each stage with its rows of the weight, and b_hh's where it stands by itself."""
    params, H = weights.params, weights.hidden_size
    parts, start = [], 0
    for stage in weights.cell.stages:
        if not stage.inputs:
            parts.append((stage, params[stage.weight], None))
            continue
        stop = start + len(stage.gates) * H
        bias = params.get("bias_hh")
        parts.append(
            (stage, params["weight_hh"][start:stop, :], None if bias is None else bias[start:stop])
        )
        start = stop
    return parts


def _input_sums(x: Array, weights: Weights) -> Array:
    """Every gate's bias and share of the inputs, for all rows at once: (total, G)."""
    params = weights.params
    sums = x @ params["weight_ih"].T
    return sums + params["bias_ih"] if "bias_ih" in params else sums


def _stage_sums(
    xp: Any, v: Values, stage: Stage, weight: Array, bias: Array | None, inputs: Array
) -> Array:
    """Put a stage's sums under its gates' names; return the inputs' sums of later stages."""
    product = v[stage.operand] @ weight.T
    if bias is not None:
        product = product + bias
    H = int(weight.shape[0]) // len(stage.gates)
    for k, gate in enumerate(stage.gates):
        part = product[:, k * H : (k + 1) * H]
        if gate in stage.apart:
            v[stage.apart[gate]] = part
            v[gate] = inputs[:, k * H : (k + 1) * H]
        else:
            v[gate] = inputs[:, k * H : (k + 1) * H] + part if stage.inputs else part
    return inputs[:, len(stage.gates) * H :] if stage.inputs else inputs


# --- backward ------------------------------------------------------------------------------------


@quiet
def backward(
    passes: Sequence[Pass],
    saved: Sequence[Saved],
    dy: Sequence[Container | None],
    dstate: Sequence[tuple[Array | None, ...] | None],
    dx: Container | None,
    watch: Watch | None = None,
) -> list[State]:
    """Backpropagate through the passes of one layer.

    Parameters
    ----------
    passes, saved
        As given to and returned by :func:`forward`.
    dy : list of container or None
        Gradient of the loss in each pass's ``y``; None for zero.
    dstate : list of tuple or None
        Gradient in each pass's final state; None for zero, also within a tuple.
    dx : container or None
        Filled with the gradient in x, summed over the passes; None if it is not wanted.
    watch : callable, optional
        Told of dL/dh_t at every step.

    Returns
    -------
    list of tuple
        The gradient in each pass's initial state. Gradients of parameters are added into
        ``weights.grads``.
    """
    results = [
        _backward(k, *one, dx is not None, watch)
        for k, one in enumerate(zip(passes, saved, dy, dstate, strict=True))
    ]
    if dx is not None:
        add_up(dx, passes, [packed for _, packed in results])
    return [state for state, _ in results]


def _backward(
    k: int,
    p: Pass,
    saved: Saved,
    dy: Container | None,
    dstate: tuple[Array | None, ...] | None,
    want_dx: bool,
    watch: Watch | None,
) -> tuple[State, Array | None]:
    cell, rows, grads = p.weights.cell, p.rows, p.weights.grads
    xp = namespace(p.weights.params["weight_ih"])
    carried = [
        take(xp.zeros_like(s) if d is None else d, rows.order)
        for s, d in zip(p.state, dstate or (None,) * len(p.state), strict=True)
    ]
    if rows.total == 0:
        return tuple(take(d, rows.inverse_order()) for d in carried), None
    weights = _split(p.weights)
    mask = None if p.mask is None else take(p.mask, rows.order)
    packed_dy = None if dy is None else pack(xp, dy, rows, p.reverse)
    found = []
    for t in reversed(range(len(saved.steps))):
        n, start = int(rows.sizes[t]), int(rows.base[t])
        v = saved.steps[t]
        d = Values(
            (f"{name}_next", dc[:n, :]) for name, dc in zip(cell.states, carried, strict=True)
        )
        if packed_dy is not None:
            d.h_next = d.h_next + packed_dy[start : start + n, :]
        if watch is not None:
            watch(k, t, d.h_next)
        for stage, weight, _ in reversed(weights):
            stage.backward(xp, v, d)
            d.add(stage.operand, _product_gradient(xp, d, stage) @ weight)
        d.add("h", d.h_seen if mask is None else d.h_seen * mask[:n, :])
        carried = [
            xp.concat([d.get(name, xp.zeros_like(v[name])), dc[n:, :]], axis=0)
            for name, dc in zip(cell.states, carried, strict=True)
        ]
        found.append(d)
    found.reverse()
    dsums = _accumulate(xp, cell, saved, found, grads)
    dx = dsums @ p.weights.params["weight_ih"] if want_dx else None
    return tuple(take(d, rows.inverse_order()) for d in carried), dx


def _product_gradient(xp: Any, d: Values, stage: Stage) -> Array:
    """The gradient of a stage's product, one block of H columns per gate."""
    return xp.concat([d[stage.apart.get(gate, gate)] for gate in stage.gates], axis=1)


def _accumulate(
    xp: Any, cell: Cell, saved: Saved, found: list[Values], grads: dict[str, Array]
) -> Array:
    """Add the parameters' gradients, each one product over all rows; return the inputs' sums'."""
    dsums = xp.concat([xp.concat([d[gate] for gate in cell.gates], axis=1) for d in found], axis=0)
    grads["weight_ih"] += dsums.T @ saved.x
    if "bias_ih" in grads:
        grads["bias_ih"] += xp.sum(dsums, axis=0)
    start = 0
    for stage in cell.stages:
        product = xp.concat([_product_gradient(xp, d, stage) for d in found], axis=0)
        operand = xp.concat([v[stage.operand] for v in saved.steps], axis=0)
        rows = slice(start, start + product.shape[1]) if stage.inputs else slice(None)
        grads[stage.weight][rows, :] += product.T @ operand
        if stage.inputs:
            if "bias_hh" in grads:
                grads["bias_hh"][rows] += xp.sum(product, axis=0)
            start += product.shape[1]
    for name in cell.vectors:
        grads[name] += xp.sum(xp.concat([d[name] for d in found], axis=0), axis=0)
    return dsums


# --- trace ---------------------------------------------------------------------------------------


def trace_gates(p: Pass, saved: Saved) -> dict[str, Container]:
    """Return the states and the gates by name, each a container of N times (T_i, width)."""
    cell = p.weights.cell
    xp = namespace(p.weights.params["weight_ih"])
    names = {name: f"{name}_next" for name in cell.states}
    names |= {name: name for name in (cell.gates if cell.traced is None else cell.traced)}
    traced = {}
    for name, key in names.items():
        width = p.weights.width(name)
        dtype = p.state[0].dtype
        if isinstance(p.x, list):
            values: Container = [
                xp.empty((x.shape[0], width), dtype=dtype, **placed(x)) for x in p.x
            ]
        else:
            values = xp.zeros((*p.x.shape[:2], width), dtype=dtype, **placed(p.x))
        if saved.steps:
            packed = xp.concat([v[key] for v in saved.steps], axis=0)
            unpack(xp, packed, values, p.rows, p.reverse)
        traced[name] = values
    return traced
