"""Forward and backward over CuPy arrays; see :mod:`fastrnn.engine.twin` for what is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cupy
import numpy as np

from fastrnn.checks import Array
from fastrnn.cuda.cublas import Matrix
from fastrnn.cuda.layouts import Blocks, Layout, Stage, layout_of
from fastrnn.cuda.plans import Plan, free_plans, take_plan
from fastrnn.engine.arrays import copied, take
from fastrnn.engine.packed import add_up, pack, unpack
from fastrnn.engine.passes import Container, Pass, Weights

__all__ = ["backward", "forward", "trace_gates"]

State = tuple[Array, ...]


@dataclass(slots=True)
class Saved:
    """What backward needs of one pass: its packed inputs, and the plan it has walked in."""

    x: Array
    plan: Plan | None


def _layout(weights: Weights) -> Layout:
    layout = layout_of(weights)
    assert layout is not None, weights.cell.name  # else the engine would be the twin
    return layout


# --- forward -------------------------------------------------------------------------------------


def forward(passes: Sequence[Pass], keep: bool) -> list[tuple[State, Saved | None]]:
    """Run passes over their batches and fill their ``y``; see the twin's."""
    return [_forward(one, keep) for one in passes]


def _forward(p: Pass, keep: bool) -> tuple[State, Saved | None]:
    if p.rows.total == 0:
        return tuple(map(copied, p.state)), Saved(None, None) if keep else None
    weights, layout, rows = p.weights, _layout(p.weights), p.rows
    x = cupy.ascontiguousarray(pack(cupy, p.x, rows, p.reverse))  # of one sequence, a view
    plan = take_plan(weights, layout, rows, keep, p.mask is not None)
    _begin(plan, p, layout)
    with plan.computing():
        _multiply_inputs(plan, weights, layout, x)
    plan.walk("forward", partial(_walk, plan, weights, layout))
    unpack(cupy, plan.h[rows.N :], p.y, rows, p.reverse)
    last = _final_states(plan)
    if keep:
        return last, Saved(x, plan)
    free_plans(weights).give(plan)
    return last, None


def _sorted(rows: Any, state: Array) -> Array:
    """Rows of a state, the longest sequence first."""
    return take(state, rows.order) if rows.ragged else state


def _begin(plan: Plan, p: Pass, layout: Layout) -> None:
    """Put the initial state, the mask and the biases in their places."""
    params, H, N = p.weights.params, p.weights.hidden_size, p.rows.N
    plan.h[:N] = _sorted(p.rows, p.state[0])
    if plan.c is not None:
        plan.c[:N] = _sorted(p.rows, p.state[1])
    if p.mask is not None:
        plan.mask[...] = _sorted(p.rows, p.mask)
        first = int(p.rows.sizes[0])
        plan.seen[:first] = plan.h[:first] * plan.mask[:first]
    for slot in layout.alone:
        plan.z[:, slot * H : (slot + 1) * H] = 0  # the state's product is added to it
    plan.bias[...] = 0
    for name, blocks in _biases(layout) if "bias_ih" in params else ():
        part = params[name][blocks.start * H : blocks.stop * H]
        plan.bias[blocks.slot : blocks.slot + blocks.gates] += cupy.reshape(part, (-1, H))


def _biases(layout: Layout) -> Iterator[tuple[str, Blocks]]:
    """Both biases' parts with the slots they are added to."""
    for blocks in layout.inputs:
        yield "bias_ih", blocks
    for stage in layout.stages:
        if stage.blocks is not None:
            yield "bias_hh", stage.blocks


def _weight(weights: Weights, name: str, blocks: Blocks | None) -> Matrix:
    """A weight from the first of these gates on."""
    array = weights.params[name]
    return Matrix.of(array, 0 if blocks is None else blocks.start * weights.hidden_size)


def _at(buffer: Array | None, row: int = 0) -> int:
    """The address of a buffer's row, 0 where there is no buffer."""
    return 0 if buffer is None else Matrix.of(buffer, row).address


def _multiply_inputs(plan: Plan, weights: Weights, layout: Layout, x: Array) -> None:
    """The inputs' shares of all sums of all steps."""
    H, D = weights.hidden_size, int(x.shape[1])
    for blocks in layout.inputs:
        plan.multiply(
            (plan.rows.total, blocks.gates * H, D),
            Matrix.of(x),
            _weight(weights, "weight_ih", blocks),
            Matrix.of(plan.z, column=blocks.slot * H),
            b_transposed=True,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """Where the rows of one step lie, and those of the step before and after."""

    n: int  # rows
    row: int  # of z, and of what is kept
    before: int  # of h: where the previous states are
    n_next: int
    next: int


def _steps(plan: Plan) -> list[Step]:
    """The steps that have rows."""
    sizes = [int(n) for n in plan.rows.sizes if n]
    base, N = plan.rows.base.tolist(), plan.rows.N
    return [
        Step(n, base[t], N + base[t - 1] if t else 0, n_next, base[t + 1])
        for t, (n, n_next) in enumerate(zip(sizes, [*sizes[1:], 0], strict=True))
    ]


def _walk(plan: Plan, weights: Weights, layout: Layout) -> None:
    """All steps, one after the other."""
    for step in _steps(plan):
        for stage in layout.stages:
            _multiply_state(plan, weights, step, stage)
            if stage.blocks is not None or plan.mask is not None:
                _apply(plan, weights, layout, step, stage)


def _operand(plan: Plan, step: Step, name: str) -> Matrix:
    """The rows that a stage multiplies."""
    row = step.row if plan.shape.keep else 0
    if name == "hidden":
        return Matrix.of(plan.hidden, row)
    return Matrix.of(plan.h, step.before) if plan.seen is None else Matrix.of(plan.seen, row)


def _multiply_state(plan: Plan, weights: Weights, step: Step, stage: Stage) -> None:
    H, S = weights.hidden_size, weights.state_size
    operand, blocks = _operand(plan, step, stage.operand), stage.blocks
    if blocks is None:
        sizes, name = (step.n, S, H), "weight_hr"
        out = Matrix.of(plan.h, plan.rows.N + step.row)
    else:
        sizes, name = (step.n, blocks.gates * H, operand.stride), "weight_hh"
        out = Matrix.of(plan.z, step.row, blocks.slot * H)
    plan.multiply(
        sizes,
        operand,
        _weight(weights, name, blocks),
        out,
        b_transposed=True,
        add=blocks is not None,
    )


def _apply(plan: Plan, weights: Weights, layout: Layout, step: Step, stage: Stage) -> None:
    """The formula of a stage."""
    final, row = stage is layout.stages[-1], step.row if plan.shape.keep else 0
    seen = _operand(plan, step, "seen").address
    h = _at(plan.h, plan.rows.N + step.row)
    after = step.next if plan.shape.keep else 0
    c_prev, c_next = (step.before, plan.rows.N + step.row) if plan.shape.keep else (0, 0)
    plan.launch(
        stage.forward,
        step.n,
        weights.hidden_size if stage.blocks is not None else weights.state_size,
        h if stage.blocks is None else _at(plan.z, step.row),
        0 if stage.blocks is None else _at(plan.bias),
        _at(plan.h, step.before) if final else seen,
        _at(plan.c, c_prev),
        _at(plan.c, c_next),
        h if final else _at(plan.hidden, row),
        _at(plan.mask),
        _at(plan.seen, after) if final and step.n_next else 0,
        step.n_next,
    )


def _final_states(plan: Plan) -> State:
    """The states after each sequence's last step, in the caller's order, as new arrays."""
    rows, N = plan.rows, plan.rows.N
    if not rows.ragged:
        return tuple(copied(s[-N:]) for s in (plan.h, plan.c) if s is not None)
    lengths = rows.lengths[rows.order]
    last = np.arange(N) + np.where(lengths > 0, N + rows.base[np.maximum(lengths, 1) - 1], 0)
    last = last[rows.inverse_order()]
    states = [take(plan.h, last)]
    if plan.c is not None:
        kept = plan.shape.keep
        states.append(take(plan.c, last if kept else rows.inverse_order()))
    return tuple(states)


# --- backward ------------------------------------------------------------------------------------


def backward(
    passes: Sequence[Pass],
    saved: Sequence[Saved],
    dy: Sequence[Container | None],
    dstate: Sequence[tuple[Array | None, ...] | None],
    dx: Container | None,
) -> list[State]:
    """Add the gradients of the weights, fill ``dx``; see the twin's."""
    results = [
        _backward(*one, dx is not None) for one in zip(passes, saved, dy, dstate, strict=True)
    ]
    if dx is not None:
        add_up(dx, passes, [packed for _, packed in results])
    return [state for state, _ in results]


def _backward(
    p: Pass,
    saved: Saved,
    dy: Container | None,
    dstate: tuple[Array | None, ...] | None,
    want_dx: bool,
) -> tuple[State, Array | None]:
    dstates = [
        cupy.zeros_like(s) if d is None else d
        for s, d in zip(p.state, dstate or (None,) * len(p.state), strict=True)
    ]
    if saved.plan is None:
        return tuple(map(copied, dstates)), None
    plan, rows, layout = saved.plan, p.rows, _layout(p.weights)
    plan.dy[...] = 0 if dy is None else pack(cupy, dy, rows, p.reverse)
    for carried, d in zip((plan.dh, plan.dc), dstates, strict=False):
        carried[...] = _sorted(rows, d)
    plan.walk("backward", partial(_walk_back, plan, p.weights, layout))
    with plan.computing():
        _add_gradients(plan, p.weights, layout, saved.x)
        dx = _input_gradients(plan, p.weights, layout, saved.x) if want_dx else None
    for name, blocks in _biases(layout) if "bias_ih" in p.weights.params else ():
        H = p.weights.hidden_size
        slots = plan.z[:, blocks.slot * H : (blocks.slot + blocks.gates) * H]
        p.weights.grads[name][blocks.start * H : blocks.stop * H] += cupy.sum(slots, axis=0)
    first = [s for s in (plan.dh, plan.dc) if s is not None]
    order = rows.inverse_order()
    states = tuple(take(s, order) if rows.ragged else copied(s) for s in first)
    free_plans(p.weights).give(plan)
    saved.plan = None
    return states, dx


def _walk_back(plan: Plan, weights: Weights, layout: Layout) -> None:
    """All steps, from the last to the first, then the initial state."""
    for step in reversed(_steps(plan)):
        product, n_rows = plan.product, step.n_next
        for stage in reversed(layout.stages):
            _apply_back(plan, weights, step, stage, product, n_rows)
            product = plan.product if stage is layout.stages[0] else plan.between
            _multiply_back(plan, weights, step, stage, product)
            n_rows = step.n
    first, units = int(plan.rows.sizes[0]), weights.state_size
    buffers = [_at(b) for b in (None, plan.product)]
    rest = [_at(b) for b in (plan.mask, None, None, None, None, None, plan.dh, None, None)]
    plan.launch("state_backward", plan.rows.N, units, *buffers, first, *rest)


def _apply_back(
    plan: Plan, weights: Weights, step: Step, stage: Stage, product: Array, n_rows: int
) -> None:
    """The formula of a stage, backwards."""
    N, final = plan.rows.N, product is plan.product
    seen = _operand(plan, step, "seen").address
    plan.launch(
        stage.backward,
        step.n,
        weights.hidden_size if stage.blocks is not None else weights.state_size,
        _at(plan.z, step.row),
        _at(product),
        n_rows,
        _at(plan.mask),
        _at(plan.dy, step.row),
        _at(plan.h, N + step.row),
        _at(plan.h, step.before) if final else seen,
        _at(plan.c, N + step.row),
        _at(plan.c, step.before),
        _at(plan.dh),
        _at(plan.dc),
        _at(plan.dp, step.row),
    )


def _multiply_back(plan: Plan, weights: Weights, step: Step, stage: Stage, out: Array) -> None:
    """The gradient of the rows that a stage has multiplied."""
    blocks, units = stage.blocks, int(out.shape[1])
    if blocks is None:
        sums, width, name = Matrix.of(plan.dp, step.row), weights.state_size, "weight_hr"
    else:
        sums = Matrix.of(plan.z, step.row, blocks.slot * weights.hidden_size)
        width, name = blocks.gates * weights.hidden_size, "weight_hh"
    weight = _weight(weights, name, blocks)
    sizes = (step.n, units, width)
    plan.multiply(sizes, sums, weight, Matrix.of(out))


def _add_gradients(plan: Plan, weights: Weights, layout: Layout, x: Array) -> None:
    """Add the gradients of all weights, each one product over all rows."""
    H, total = weights.hidden_size, plan.rows.total
    grads = weights.grads
    operands = {"seen": plan.seen if plan.shape.masked else _previous(plan), "hidden": plan.hidden}
    found: list[tuple[str, Blocks | None, Array]] = [("weight_ih", b, x) for b in layout.inputs]
    for stage in layout.stages:
        name = "weight_hr" if stage.blocks is None else "weight_hh"
        found.append((name, stage.blocks, operands[stage.operand]))
    for name, blocks, operand in found:
        if blocks is None:
            width, sums, grad = weights.state_size, Matrix.of(plan.dp), Matrix.of(grads[name])
        else:
            width, sums = blocks.gates * H, Matrix.of(plan.z, column=blocks.slot * H)
            grad = Matrix.of(grads[name], blocks.start * H)
        plan.multiply(
            (width, int(operand.shape[1]), total),
            sums,
            Matrix.of(operand),
            grad,
            a_transposed=True,
            add=True,
        )


def _previous(plan: Plan) -> Array:
    """The h that each row's step has begun with, (total, S)."""
    rows = plan.rows
    if not rows.ragged:
        return plan.h[: rows.total]
    step = np.repeat(np.arange(rows.T), rows.sizes)
    place = np.arange(rows.total) - rows.base[step]
    begin = np.where(step > 0, rows.N + rows.base[np.maximum(step, 1) - 1], 0)
    return take(plan.h, begin + place)


def _input_gradients(plan: Plan, weights: Weights, layout: Layout, x: Array) -> Array:
    """The gradient of the packed inputs."""
    H, dx = weights.hidden_size, cupy.empty_like(x)
    for blocks in layout.inputs:
        plan.multiply(
            (plan.rows.total, int(x.shape[1]), blocks.gates * H),
            Matrix.of(plan.z, column=blocks.slot * H),
            _weight(weights, "weight_ih", blocks),
            Matrix.of(dx),
            add=blocks is not layout.inputs[0],
        )
    return dx


# --- trace ---------------------------------------------------------------------------------------


def trace_gates(p: Pass, saved: Saved) -> dict[str, Container]:
    """Return h, c and every gate by name, each a container of N times (T_i, width)."""
    H, plan = p.weights.hidden_size, saved.plan
    traced: dict[str, Container] = {"h": p.y}
    if len(p.state) == 2:
        traced["c"] = _unpacked(p, H, plan and plan.c[p.rows.N :])
    for name, slot in _layout(p.weights).traced.items():
        traced[name] = _unpacked(p, H, plan and plan.z[:, slot * H : (slot + 1) * H])
    return traced


def _unpacked(p: Pass, width: int, packed: Array | None) -> Container:
    """Rows in step order as a container of x's form."""
    dtype = p.state[0].dtype
    if isinstance(p.x, list):
        values: Container = [cupy.empty((x.shape[0], width), dtype=dtype) for x in p.x]
    else:
        values = cupy.zeros((*p.x.shape[:2], width), dtype=dtype)
    if packed is not None:
        unpack(cupy, packed, values, p.rows, p.reverse)
    return values
