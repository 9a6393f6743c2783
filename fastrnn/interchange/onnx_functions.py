"""ONNX's activation functions, and the recurrent cells that use them: the variants beyond ours.

Where a node asks for nothing but the functions that RNN, LSTM and GRU have, the native layers
compute it. For the rest (other functions, clipping, peepholes, a forget gate coupled to the input
gate) this module makes cells for the array twin, from the formulas of the operators' documentation,
https://onnx.ai/onnx/operators/. Where it leaves a question open, onnxruntime's answer is taken:
clipping bounds the gates' sums, and not what the LSTM's last function takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fastrnn.cells import Cell, Stage, Values, relu, sigmoid, step
from fastrnn.checks import Array

__all__ = [
    "DEFAULTS", "GATES", "OWN_GATES", "PEEPHOLES", "TAKES_ALPHA", "TAKES_BETA", "USUAL", "Function",
    "cell",
]  # fmt: skip

# ONNX's order of the gates' blocks, by our names of them; ours is that of the second list.
GATES = {"RNN": ("a",), "GRU": ("z", "r", "n"), "LSTM": ("i", "o", "f", "g")}
OWN_GATES = {"RNN": ("a",), "GRU": ("r", "z", "n"), "LSTM": ("i", "f", "g", "o")}
PEEPHOLES = ("peephole_i", "peephole_o", "peephole_f")

USUAL = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
"""The activation functions of a node that names none."""

_Formula = Callable[..., Array]

# Name: function of (xp, a, alpha, beta), and its derivative there.
_FORMULAS: dict[str, tuple[_Formula, _Formula]] = {
    "Relu": (lambda xp, a, p, q: relu(xp, a), lambda xp, a, p, q: step(xp, a)),
    "Tanh": (lambda xp, a, p, q: xp.tanh(a), lambda xp, a, p, q: 1 - xp.tanh(a) ** 2),
    "Sigmoid": (
        lambda xp, a, p, q: sigmoid(xp, a),
        lambda xp, a, p, q: sigmoid(xp, a) * sigmoid(xp, -a),
    ),
    "Affine": (lambda xp, a, p, q: p * a + q, lambda xp, a, p, q: p * xp.ones_like(a)),
    "LeakyRelu": (
        lambda xp, a, p, q: xp.where(a >= 0, a, p * a),
        lambda xp, a, p, q: xp.where(a >= 0, xp.ones_like(a), p * xp.ones_like(a)),
    ),
    "ThresholdedRelu": (
        lambda xp, a, p, q: xp.where(a >= p, a, xp.zeros_like(a)),
        lambda xp, a, p, q: xp.where(a >= p, xp.ones_like(a), xp.zeros_like(a)),
    ),
    "ScaledTanh": (
        lambda xp, a, p, q: p * xp.tanh(q * a),
        lambda xp, a, p, q: p * q * (1 - xp.tanh(q * a) ** 2),
    ),
    "HardSigmoid": (
        lambda xp, a, p, q: 1 - relu(xp, 1 - relu(xp, p * a + q)),
        lambda xp, a, p, q: p * step(xp, p * a + q) * step(xp, 1 - (p * a + q)),
    ),
    "Elu": (
        lambda xp, a, p, q: xp.where(a >= 0, a, p * xp.expm1(-relu(xp, -a))),
        lambda xp, a, p, q: xp.where(a >= 0, xp.ones_like(a), p * xp.exp(-relu(xp, -a))),
    ),
    "Softsign": (
        lambda xp, a, p, q: a / (1 + xp.abs(a)),
        lambda xp, a, p, q: 1 / (1 + xp.abs(a)) ** 2,
    ),
    "Softplus": (
        lambda xp, a, p, q: relu(xp, a) + xp.log1p(xp.exp(-xp.abs(a))),
        lambda xp, a, p, q: sigmoid(xp, a),
    ),
}

DEFAULTS: dict[str, tuple[float | None, float | None]] = {
    **dict.fromkeys(_FORMULAS, (0.0, 0.0)),
    "Affine": (None, None),
    "LeakyRelu": (0.01, 0.0),
    "ThresholdedRelu": (1.0, 0.0),
    "ScaledTanh": (None, None),
    "HardSigmoid": (0.2, 0.5),
    "Elu": (1.0, 0.0),
}
"""alpha and beta of each function where a model names none; None where it must."""

TAKES_ALPHA = ("Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu")
TAKES_BETA = ("Affine", "ScaledTanh", "HardSigmoid")


@dataclass(frozen=True)
class Function:
    """An activation function with its numbers, of sums that may be bounded first."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0
    clip: float | None = None

    def _bounded(self, xp: Any, a: Array) -> Array:
        if self.clip is None:
            return a
        low, high = -self.clip * xp.ones_like(a), self.clip * xp.ones_like(a)
        return xp.where(a > high, high, xp.where(a < low, low, a))

    def __call__(self, xp: Any, a: Array) -> Array:
        """The value at a."""
        return _FORMULAS[self.name][0](xp, self._bounded(xp, a), self.alpha, self.beta)

    def slope(self, xp: Any, a: Array) -> Array:
        """The derivative at a."""
        slope = _FORMULAS[self.name][1](xp, self._bounded(xp, a), self.alpha, self.beta)
        if self.clip is None:
            return slope
        return xp.where(xp.abs(a) <= self.clip, slope, xp.zeros_like(a))


@lru_cache(maxsize=64)
def cell(
    kind: str,
    functions: tuple[Function, ...],
    clip: float | None = None,
    peepholes: bool = False,
    input_forget: bool = False,
    reset_after: bool = False,
) -> Cell:
    """The cell of one direction of an ONNX node.

    Parameters
    ----------
    kind : {"RNN", "GRU", "LSTM"}
    functions : tuple of Function
        f (RNN), f and g (GRU), or f, g and h (LSTM).
    clip : float or None
        Bounds the sums before f and g.
    peepholes, input_forget : bool
        The LSTM's: whether gates see c by vectors ``peephole_i``, ``peephole_o``, ``peephole_f``,
        and whether f = 1 - i.
    reset_after : bool
        The GRU's ``linear_before_reset``.
    """
    bounded = [Function(one.name, one.alpha, one.beta, clip) for one in functions[:2]]
    if kind == "RNN":
        return _rnn(bounded[0])
    if kind == "GRU":
        return (_gru_after if reset_after else _gru)(*bounded)
    return _lstm(bounded[0], bounded[1], functions[2], peepholes, input_forget)


def _rnn(f: Function) -> Cell:
    def forward(xp: Any, v: Values) -> None:
        v.h_next = f(xp, v.a)

    def backward(xp: Any, v: Values, d: Values) -> None:
        d.a = d.h_next * f.slope(xp, v.a)

    return Cell("onnx_rnn", (Stage(("a",), forward, backward),), traced=())


# Sums stay under the gates' names, for the derivatives; the gates are named anew. i = f(s_i), ...


def _lstm(f: Function, g: Function, h: Function, peepholes: bool, coupled: bool) -> Cell:
    def forward(xp: Any, v: Values) -> None:
        if peepholes:
            v.i, v.f = v.i + v.peephole_i * v.c, v.f + v.peephole_f * v.c
        v.in_gate = f(xp, v.i)
        v.forget_gate = 1 - v.in_gate if coupled else f(xp, v.f)
        v.candidate = g(xp, v.g)
        v.c_next = v.forget_gate * v.c + v.in_gate * v.candidate
        if peepholes:
            v.o = v.o + v.peephole_o * v.c_next
        v.out_gate, v.squashed_c = f(xp, v.o), h(xp, v.c_next)
        v.h_next = v.out_gate * v.squashed_c

    def backward(xp: Any, v: Values, d: Values) -> None:
        d.o = d.h_next * v.squashed_c * f.slope(xp, v.o)
        dc = d.c_next + d.h_next * v.out_gate * h.slope(xp, v.c_next)
        if peepholes:
            dc = dc + d.o * v.peephole_o
        d_in, d_forget = dc * v.candidate, dc * v.c
        if coupled:
            d_in, d_forget = d_in - d_forget, xp.zeros_like(d_forget)
        d.i, d.f = d_in * f.slope(xp, v.i), d_forget * f.slope(xp, v.f)
        d.g = dc * v.in_gate * g.slope(xp, v.g)
        d.c = dc * v.forget_gate
        if peepholes:
            d.c = d.c + d.i * v.peephole_i + d.f * v.peephole_f
            d.peephole_i, d.peephole_f, d.peephole_o = d.i * v.c, d.f * v.c, d.o * v.c_next

    return Cell(
        "onnx_lstm",
        (Stage(("i", "f", "g", "o"), forward, backward),),
        states=("h", "c"),
        vectors=("peephole_i", "peephole_o", "peephole_f") if peepholes else (),
        traced=("in_gate", "forget_gate", "candidate", "out_gate"),
    )


def _gru(f: Function, g: Function) -> Cell:
    def gates(xp: Any, v: Values) -> None:
        v.reset_gate, v.keep_gate = f(xp, v.r), f(xp, v.z)
        v.rh = v.reset_gate * v.h_seen

    def gates_backward(xp: Any, v: Values, d: Values) -> None:
        d.h_seen = d.rh * v.reset_gate
        d.r = d.rh * v.h_seen * f.slope(xp, v.r)
        d.z = d.keep_gate * f.slope(xp, v.z)

    def step_on(xp: Any, v: Values) -> None:
        v.candidate = g(xp, v.n)
        v.h_next = v.keep_gate * v.h + (1 - v.keep_gate) * v.candidate

    def step_on_backward(xp: Any, v: Values, d: Values) -> None:
        d.h, d.keep_gate = d.h_next * v.keep_gate, d.h_next * (v.h - v.candidate)
        d.n = d.h_next * (1 - v.keep_gate) * g.slope(xp, v.n)

    first = Stage(("r", "z"), gates, gates_backward)
    second = Stage(("n",), step_on, step_on_backward, operand="rh")
    return Cell("onnx_gru", (first, second), traced=("reset_gate", "keep_gate", "candidate"))


def _gru_after(f: Function, g: Function) -> Cell:
    def forward(xp: Any, v: Values) -> None:
        v.reset_gate, v.keep_gate = f(xp, v.r), f(xp, v.z)
        v.n = v.n + v.reset_gate * v.hn
        v.candidate = g(xp, v.n)
        v.h_next = v.keep_gate * v.h + (1 - v.keep_gate) * v.candidate

    def backward(xp: Any, v: Values, d: Values) -> None:
        d.h = d.h_next * v.keep_gate
        d.z = d.h_next * (v.h - v.candidate) * f.slope(xp, v.z)
        d.n = d.h_next * (1 - v.keep_gate) * g.slope(xp, v.n)
        d.hn = d.n * v.reset_gate
        d.r = d.n * v.hn * f.slope(xp, v.r)

    return Cell(
        "onnx_gru_after",
        (Stage(("r", "z", "n"), forward, backward, apart={"n": "hn"}),),
        traced=("reset_gate", "keep_gate", "candidate"),
    )
