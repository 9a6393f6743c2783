"""Cells: what one step computes, as short lists of stages.

A stage is a product and a formula. The product gives one sum per gate and unit,

    sums = (b_ih + b_hh) + x W_ih^T + operand W_hh^T,

and the formula, elementwise, makes gates, the next state and, where a later stage needs them,
operand rows of the sums. A stage boundary is a dependency on whole rows: the GRU's candidate needs
all of r * h before its product can begin, so the GRU with the reset before has two stages.
Everything else about a recurrent layer (time, directions, ragged batches, gradients of weights) is
the driver's and stands once, in :mod:`fastrnn.engine.twin` for arrays of any kind, and in C
for NumPy's.

Formulas take the namespace ``xp`` and named values. ``v.h``, ``v.c`` are the state before the
step, ``v.h_next``, ``v.c_next`` after it; ``v.h_seen`` is h as products see it (times the
recurrent-dropout mask, if there is one); under a gate's name stands its sum, to be replaced by the
gate. All have shape (rows, H). Backward formulas find the gradients of what their stage wrote in
``d`` and leave there those of what it read: ``d.i`` is the gradient of gate i's *sum*, ``d.c``
that of the state before the step along the formula (the driver adds what comes through the
products).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastrnn.checks import Array

Namespace = Any
"""A module of array functions: ``numpy``, ``cupy``, ``array_api_strict``, ..."""

__all__ = [
    "GRU",
    "GRU_AFTER",
    "LSTM",
    "LSTM_PROJECTED",
    "RNN",
    "Cell",
    "Stage",
    "Values",
    "relu",
    "sigmoid",
    "step",
]


class Values(dict[str, Any]):
    """Arrays by name, as items and as attributes: ``v.h`` is ``v["h"]``."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Array:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no value named {name!r}; there are {sorted(self)}") from None

    def __setattr__(self, name: str, value: Array) -> None:
        self[name] = value

    def add(self, name: str, value: Array) -> None:
        """Add to the value of that name, or begin it."""
        self[name] = self[name] + value if name in self else value


@dataclass(frozen=True)
class Stage:
    """A product of operand rows with weights, and the formula applied to its sums.

    Parameters
    ----------
    gates : tuple of str
        Names of the sums, in the order of the weights' blocks of H rows.
    forward : callable ``(xp, v)``
        Replaces sums by gates in ``v`` and adds what it computes.
    backward : callable ``(xp, v, d)``
        Sets in ``d`` the gradient of every sum and of the values read.
    operand : str
        The rows that ``weight`` multiplies: ``"h_seen"`` or a value written by an earlier stage.
    weight : str
        ``"weight_hh"``, of which this stage uses its gates' blocks, or a weight of its own, used
        whole.
    inputs : bool
        Whether x W_ih^T and the biases are part of the sums.
    apart : dict of str to str
        Gates whose product with the state (and b_hh) is not added to the inputs' sum but given to
        the formula by itself, under the name that stands here.
    """

    gates: tuple[str, ...]
    forward: Callable[[Namespace, Values], None]
    backward: Callable[[Namespace, Values, Values], None]
    operand: str = "h_seen"
    weight: str = "weight_hh"
    inputs: bool = True
    apart: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One kind of recurrent cell.

    Parameters
    ----------
    name : str
        What it is called; also the name of the layer class made of it by
        :func:`fastrnn.register_cell`.
    stages : tuple of Stage
        In the order they are computed. One of them writes ``h_next`` (and ``c_next``, ...).
    states : tuple of str
        Names of what is carried from step to step; the first is ``"h"``, the output.
    vectors : tuple of str
        Names of parameters with one value per unit, shape (H,), that formulas use. The gradient
        that a backward formula leaves under such a name has one row per row; the driver adds them
        up.
    traced : tuple of str or None
        Names of the values that ``layer.trace`` returns besides the states; by default the gates.
    native : str or None
        The compiled cell that computes the same, if there is one.
    """

    name: str
    stages: tuple[Stage, ...]
    states: tuple[str, ...] = ("h",)
    vectors: tuple[str, ...] = ()
    traced: tuple[str, ...] | None = None
    native: str | None = None

    @property
    def gates(self) -> tuple[str, ...]:
        """All gates with an inputs' sum, in the order of the blocks of weight_ih and weight_hh."""
        return tuple(gate for stage in self.stages if stage.inputs for gate in stage.gates)

    def shapes(self, D: int, H: int, P: int = 0, bias: bool = True) -> dict[str, tuple[int, ...]]:
        """Return the shapes of one direction's parameters by local name, in PyTorch's order.

        ``P`` is the width of h where a stage with a weight of its own writes it (projection), else
        0.
        """
        G, S = len(self.gates) * H, P or H
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (G, D), "weight_hh": (G, S)}
        if bias:
            shapes |= {"bias_ih": (G,), "bias_hh": (G,)}
        for stage in self.stages:
            if stage.weight != "weight_hh":
                shapes[stage.weight] = (S, H)
        return shapes | dict.fromkeys(self.vectors, (H,))


# --- functions of formulas -----------------------------------------------------------------------


def sigmoid(xp: Namespace, x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), precise in both tails: exp of nothing positive."""
    e = xp.exp(-xp.abs(x))
    return xp.where(x < 0, e, xp.ones_like(e)) / (1 + e)


def relu(xp: Namespace, x: Array) -> Array:
    """Return max(x, 0); NaN stays NaN."""
    return xp.where(x <= 0, xp.zeros_like(x), x)


def step(xp: Namespace, x: Array) -> Array:
    """Return 1 where x > 0, else 0: the derivative of :func:`relu`, 0 at 0."""
    return xp.where(x > 0, xp.ones_like(x), xp.zeros_like(x))


# --- RNN: h_t = f(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh) -----------------------------------------
# Elman, "Finding structure in time", Cognitive Science 14 (1990).

Function = Callable[[Namespace, Array], Array]


def _rnn(name: str, function: Function, derivative: Function) -> Cell:
    """Return the cell of a nonlinearity; ``derivative`` is a function of its value."""

    def forward(xp: Namespace, v: Values) -> None:
        v.h_next = function(xp, v.a)

    def backward(xp: Namespace, v: Values, d: Values) -> None:
        d.a = d.h_next * derivative(xp, v.h_next)

    return Cell(name, (Stage(("a",), forward, backward),), traced=(), native=name)


RNN = {
    "tanh": _rnn("rnn_tanh", lambda xp, a: xp.tanh(a), lambda xp, h: 1 - h * h),
    "relu": _rnn("rnn_relu", relu, step),
    "sigmoid": _rnn("rnn_sigmoid", sigmoid, lambda xp, h: h * (1 - h)),
}


# --- LSTM ----------------------------------------------------------------------------------------
# i, f, o = sigmoid(...), g = tanh(...);  c_t = f * c_{t-1} + i * g;  h_t = o * tanh(c_t)
# Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9 (1997); the forget
# gate is of Gers, Schmidhuber and Cummins, "Learning to forget", Neural Computation 12 (2000).
# Projection, h_t = W_hr (o * tanh(c_t)), is of Sak, Senior and Beaufays, Interspeech 2014.


def _lstm(xp: Namespace, v: Values) -> None:
    v.i, v.f, v.o = sigmoid(xp, v.i), sigmoid(xp, v.f), sigmoid(xp, v.o)
    v.g = xp.tanh(v.g)
    v.c_next = v.f * v.c + v.i * v.g
    v.tanh_c = xp.tanh(v.c_next)
    v.m = v.o * v.tanh_c


def _lstm_backward(xp: Namespace, v: Values, d: Values) -> None:
    dc = d.c_next + d.m * v.o * (1 - v.tanh_c * v.tanh_c)
    d.i = dc * v.g * v.i * (1 - v.i)
    d.f = dc * v.c * v.f * (1 - v.f)
    d.g = dc * v.i * (1 - v.g * v.g)
    d.o = d.m * v.tanh_c * v.o * (1 - v.o)
    d.c = dc * v.f


def _lstm_unprojected(xp: Namespace, v: Values) -> None:
    _lstm(xp, v)
    v.h_next = v.m


def _lstm_unprojected_backward(xp: Namespace, v: Values, d: Values) -> None:
    d.m = d.h_next
    _lstm_backward(xp, v, d)


def _product_only(xp: Namespace, *values: Values) -> None:
    """Leave the sum, and its gradient, as they are."""


LSTM = Cell(
    "lstm",
    (Stage(("i", "f", "g", "o"), _lstm_unprojected, _lstm_unprojected_backward),),
    states=("h", "c"),
    native="lstm",
)

LSTM_PROJECTED = Cell(
    "lstm",
    (
        Stage(("i", "f", "g", "o"), _lstm, _lstm_backward),
        Stage(("h_next",), _product_only, _product_only, "m", "weight_hr", inputs=False),
    ),
    states=("h", "c"),
    native="lstm",
)


# --- GRU: h_t = z * h_{t-1} + (1 - z) * n --------------------------------------------------------
# Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014: the reset
# gate acts on h before the candidate's product. The variant with the reset after it,
# n = tanh(W_in x + b_in + r * (W_hn h + b_hn)), is cuDNN's and PyTorch's.


def _gru_gates(xp: Namespace, v: Values) -> None:
    v.r, v.z = sigmoid(xp, v.r), sigmoid(xp, v.z)
    v.rh = v.r * v.h_seen


def _gru_gates_backward(xp: Namespace, v: Values, d: Values) -> None:
    d.h_seen = d.rh * v.r
    d.r = d.rh * v.h_seen * v.r * (1 - v.r)
    d.z = d.gate_z * v.z * (1 - v.z)


def _gru_candidate(xp: Namespace, v: Values) -> None:
    v.n = xp.tanh(v.n)
    v.h_next = v.z * v.h + (1 - v.z) * v.n


def _gru_candidate_backward(xp: Namespace, v: Values, d: Values) -> None:
    d.h = d.h_next * v.z
    d.gate_z = d.h_next * (v.h - v.n)
    d.n = d.h_next * (1 - v.z) * (1 - v.n * v.n)


def _gru_after(xp: Namespace, v: Values) -> None:
    v.r, v.z = sigmoid(xp, v.r), sigmoid(xp, v.z)
    v.n = xp.tanh(v.n + v.r * v.hn)
    v.h_next = v.z * v.h + (1 - v.z) * v.n


def _gru_after_backward(xp: Namespace, v: Values, d: Values) -> None:
    d.h = d.h_next * v.z
    d.z = d.h_next * (v.h - v.n) * v.z * (1 - v.z)
    d.n = d.h_next * (1 - v.z) * (1 - v.n * v.n)
    d.hn = d.n * v.r
    d.r = d.n * v.hn * v.r * (1 - v.r)


GRU = Cell(
    "gru",
    (
        Stage(("r", "z"), _gru_gates, _gru_gates_backward),
        Stage(("n",), _gru_candidate, _gru_candidate_backward, operand="rh"),
    ),
    native="gru",
)

GRU_AFTER = Cell(
    "gru_after",
    (Stage(("r", "z", "n"), _gru_after, _gru_after_backward, apart={"n": "hn"}),),
    native="gru_after",
)
