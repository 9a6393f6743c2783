"""ONNX's RNN, GRU and LSTM nodes as layers, and the layer of their rarer variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.cells import Cell
from fastrnn.checks import check_bool, check_option, check_real, describe
from fastrnn.files import FormatError, register
from fastrnn.interchange.onnx_file import Node
from fastrnn.interchange.onnx_functions import (
    DEFAULTS,
    GATES,
    OWN_GATES,
    PEEPHOLES,
    TAKES_ALPHA,
    TAKES_BETA,
    USUAL,
    Function,
    cell,
)
from fastrnn.interchange.values import common_dtype, empty_layer
from fastrnn.layers.recurrent import Recurrent
from fastrnn.layers.reversed import Reversed
from fastrnn.layers.rnn import GRU, LSTM, RNN

__all__ = ["OnnxRecurrent", "Weights", "recurrent_layer"]

DIRECTIONS = ("forward", "reverse", "bidirectional")


@register
class OnnxRecurrent(Recurrent):
    """A recurrent layer with what ONNX's operators allow beyond RNN, GRU and LSTM.

    `fastrnn.from_onnx` makes it where a node asks for other functions, clipping, peepholes or
    coupled gates. It has all that :class:`fastrnn.LSTM` has but projection, and runs on the array
    twin, not on the native kernels.

    Parameters
    ----------
    kind : {"RNN", "GRU", "LSTM"}
    activations : sequence, optional
        The functions f (RNN), f, g (GRU) or f, g, h (LSTM), then those of the other direction if
        there are two: ONNX's names, or (name, alpha, beta). By default those of the usual cells.
    clip : float or None
        Bounds the gates' sums to [-clip, clip].
    peepholes : bool
        Whether an LSTM's gates see c: by vectors ``peephole_i_l0``, ``peephole_o_l0`` and
        ``peephole_f_l0``, the o gate the new c and the others the old one.
    input_forget : bool
        Whether an LSTM's forget gate is 1 - i.
    linear_before_reset : bool
        Whether a GRU resets the state after the product, as with ``reset_after``.
    input_size, hidden_size, num_layers, ...
        All others are those of :class:`fastrnn.LSTM`; gates stand in the same order as there.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> layer = fastrnn.OnnxRecurrent(3, 5, kind="LSTM", clip=2.0, peepholes=True, random_state=0)
    >>> layer(np.ones((2, 4, 3)))[0].shape
    (2, 4, 5)
    """

    @classmethod
    def cell_of(cls, config: Mapping[str, Any]) -> Cell:
        """The cell of a layer of this configuration."""
        return _cell_of(_Variant.read(config), 0)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        kind: str,
        activations: Sequence[Any] | None = None,
        clip: float | None = None,
        peepholes: bool = False,
        input_forget: bool = False,
        linear_before_reset: bool = False,
        bias: bool = True,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        init: str = "torch",
        init_scale: float = 0.1,
        initial_state: str = "zeros",
        dtype: Any = "float32",
        random_state: int | np.random.Generator | None = None,
    ) -> None:
        extra = {
            "kind": kind,
            "activations": activations,
            "clip": clip,
            "peepholes": peepholes,
            "input_forget": input_forget,
            "linear_before_reset": linear_before_reset,
        }
        check_bool("bidirectional", bidirectional)
        self._variant = _Variant.read({**extra, "bidirectional": bidirectional})
        extra["activations"] = [[one.name, one.alpha, one.beta] for one in self._variant.functions]
        super().__init__(
            _cell_of(self._variant, 0),
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            bidirectional=bidirectional,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            init=init,
            init_scale=init_scale,
            initial_state=initial_state,
            dtype=dtype,
            random_state=random_state,
            extra=extra,
        )

    def _cell_of_direction(self, direction: int) -> Cell:
        return _cell_of(self._variant, direction)


@dataclass(frozen=True)
class _Variant:
    """What an `OnnxRecurrent` is told of its cell, checked."""

    kind: str
    functions: tuple[Function, ...]
    clip: float | None
    peepholes: bool
    input_forget: bool
    linear_before_reset: bool

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> _Variant:
        kind = check_option("kind", config["kind"], USUAL)
        directions = 2 if config.get("bidirectional", False) else 1
        given = config.get("activations")
        if given is None:
            given = USUAL[kind] * directions
        expected = len(USUAL[kind]) * directions
        if not isinstance(given, list | tuple) or len(given) != expected:
            raise ValueError(f"activations: expected {expected} functions, got {describe(given)}")
        clip = config.get("clip")
        if clip is not None:
            clip = check_real("clip", clip, minimum=0.0)
        flags = {}
        for name, only in (
            ("peepholes", "LSTM"),
            ("input_forget", "LSTM"),
            ("linear_before_reset", "GRU"),
        ):
            flags[name] = check_bool(name, config.get(name, False))
            if flags[name] and kind != only:
                raise ValueError(f"{name}: expected False of any kind but {only}, got True")
        return cls(kind, tuple(map(_function, given)), clip, **flags)


def _function(given: Any) -> Function:
    """A function by its name, or by (name, alpha, beta), None standing for ONNX's default."""
    name, *numbers = [given] if isinstance(given, str) else given
    check_option("activations", name, DEFAULTS)
    if len(numbers) > 2:
        raise ValueError(f"activations: expected (name, alpha, beta), got {given!r:.80}")
    numbers += [None] * (2 - len(numbers))
    found = []
    for label, number, default in zip(("alpha", "beta"), numbers, DEFAULTS[name], strict=True):
        number = default if number is None else number
        if number is None:
            raise ValueError(f"activations: expected an {label} for {name}, got none")
        found.append(check_real(f"activations: {label} of {name}", number))
    return Function(name, *found)


def _cell_of(variant: _Variant, direction: int) -> Cell:
    count = len(USUAL[variant.kind])
    return cell(
        variant.kind,
        variant.functions[direction * count : (direction + 1) * count],
        variant.clip,
        variant.peepholes,
        variant.input_forget,
        variant.linear_before_reset,
    )


# --- nodes ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weights:
    """A recurrent node's constant inputs.

    Parameters
    ----------
    W, R : array (dirs, gates*H, D), (dirs, gates*H, H)
    B : array (dirs, 2*gates*H) or None
    P : array (dirs, 3*H) or None
        Peepholes, of i, o and f.
    initial : tuple of array (dirs, units)
        Learned initial states, h and c; empty for zeros.
    """

    W: np.ndarray
    R: np.ndarray
    B: np.ndarray | None = None
    P: np.ndarray | None = None
    initial: tuple[np.ndarray, ...] = ()


def recurrent_layer(node: Node, weights: Weights) -> Any:
    """The layer that computes what a recurrent node does, apart from the order of the axes.

    Parameters
    ----------
    node : Node
        Of type RNN, GRU or LSTM.
    weights : Weights

    Returns
    -------
    RNN, GRU, LSTM or OnnxRecurrent, or Reversed of one of them

    Raises
    ------
    FormatError
        If the node contradicts itself or its weights.
    """
    kind = node.op_type
    direction = _direction(node)
    dirs = 2 if direction == "bidirectional" else 1
    D, H = _sizes(node, weights, dirs)
    functions = _functions(node, dirs)
    clip = node.attribute("clip", float)
    if isinstance(clip, list) or (clip is not None and not clip >= 0):
        raise FormatError(f"{node}: clip: expected a number of at least 0, got {clip!r:.80}")
    flags = {
        name: bool(node.integer(name, 0))
        for name, only in (("input_forget", "LSTM"), ("linear_before_reset", "GRU"))
        if kind == only
    }
    options: dict[str, Any] = {
        "input_size": D,
        "hidden_size": H,
        "bias": weights.B is not None,
        "bidirectional": dirs == 2,
        "initial_state": "learned" if weights.initial else "zeros",
    }
    cls: Any = {"RNN": RNN, "GRU": GRU, "LSTM": LSTM}[kind]
    names = [one.name for one in functions]
    usual = list(USUAL[kind]) * dirs
    if kind == "RNN" and len(set(names)) == 1 and names[0] in ("Tanh", "Relu", "Sigmoid"):
        usual, options["nonlinearity"] = names, names[0].lower()
    if kind == "GRU":
        options["reset_after"] = flags["linear_before_reset"]
    if names != usual or clip is not None or weights.P is not None or flags.get("input_forget"):
        cls = OnnxRecurrent
        options.pop("nonlinearity", None)
        options.pop("reset_after", None)
        options |= {"kind": kind, "clip": clip, "peepholes": weights.P is not None, **flags}
        options["activations"] = [[one.name, one.alpha, one.beta] for one in functions]
    arrays = {name: getattr(weights, name) for name in ("W", "R", "B", "P")}
    given = {name: array for name, array in arrays.items() if array is not None}
    layer = empty_layer(cls, common_dtype(given), **options)
    _fill(layer.params, kind, weights, H)
    return Reversed(layer) if direction == "reverse" else layer


def _direction(node: Node) -> str:
    direction: str = node.attribute("direction", str, "forward")
    if direction not in DIRECTIONS:
        raise FormatError(
            f"{node}: direction: expected one of {', '.join(DIRECTIONS)}, got {direction!r:.80}"
        )
    return direction


def _sizes(node: Node, weights: Weights, dirs: int) -> tuple[int, int]:
    """D and H, from weights whose shapes fit together."""
    gates = len(GATES[node.op_type])
    for name, array in (("W", weights.W), ("R", weights.R)):
        if array.ndim != 3 or 0 in array.shape:
            raise FormatError(
                f"{node}: {name}: expected shape ({dirs}, {gates}*H, units), got {array.shape}"
            )
    H, D = weights.R.shape[2], weights.W.shape[2]
    shapes = {
        "W": (dirs, gates * H, D),
        "R": (dirs, gates * H, H),
        "B": (dirs, 2 * gates * H),
        "P": (dirs, 3 * H),
    }
    for name, shape in shapes.items():
        array = getattr(weights, name)
        if array is not None and array.shape != shape:
            raise FormatError(f"{node}: {name}: expected shape {shape}, got {array.shape}")
    for k, state in enumerate(weights.initial):
        if state.shape != (dirs, H):
            raise FormatError(
                f"{node}: initial_{'hc'[k]}: expected a row of {H} for each of {dirs} directions, "
                f"got shape {state.shape}"
            )
    if weights.P is not None and node.op_type != "LSTM":
        raise FormatError(f"{node}: expected no peepholes")
    if node.integer("hidden_size", H) != H:
        raise FormatError(
            f"{node}: hidden_size: expected {H}, as R has, got {node.integer('hidden_size', H)}"
        )
    return D, H


def _functions(node: Node, dirs: int) -> list[Function]:
    """The node's functions with their alphas and betas.

    A list of numbers as long as that of the functions has one for each; a shorter one has one for
    each function that takes one, as onnxruntime reads it.
    """
    usual = USUAL[node.op_type] * dirs
    known = {name.lower(): name for name in DEFAULTS}
    given = node.listed("activations", str) or list(usual)
    names = [known.get(name.lower(), "") for name in given]
    if len(names) != len(usual) or "" in names:
        raise FormatError(
            f"{node}: activations: expected {len(usual)} of {', '.join(DEFAULTS)}, "
            f"got {given!r:.200}"
        )
    alphas = _numbers(node, "activation_alpha", names, TAKES_ALPHA)
    betas = _numbers(node, "activation_beta", names, TAKES_BETA)
    try:
        return [_function(one) for one in zip(names, alphas, betas, strict=True)]
    except ValueError as error:
        raise FormatError(f"{node}: {error}") from None


def _numbers(
    node: Node, attribute: str, names: list[str], takers: tuple[str, ...]
) -> list[float | None]:
    numbers: list[float | None] = list(node.listed(attribute, float))
    taking = [name in takers for name in names]
    if len(numbers) == len(names):
        return [number if takes else None for number, takes in zip(numbers, taking, strict=True)]
    if len(numbers) > sum(taking):
        raise FormatError(
            f"{node}: {attribute}: expected at most {sum(taking)} numbers for {', '.join(names)}, "
            f"got {len(numbers)}"
        )
    rest = iter(numbers)
    return [next(rest, None) if takes else None for takes in taking]


def _fill(params: Mapping[str, np.ndarray], kind: str, weights: Weights, H: int) -> None:
    """Write a layer's parameters, with the gates in our order."""
    theirs = GATES[kind]
    blocks = [theirs.index(gate) for gate in OWN_GATES[kind]]

    def write(name: str, array: np.ndarray) -> None:
        for own, other in enumerate(blocks):
            params[name][own * H : (own + 1) * H] = array[other * H : (other + 1) * H]

    for d in range(weights.W.shape[0]):
        end = "l0_reverse" if d else "l0"
        write(f"weight_ih_{end}", weights.W[d])
        write(f"weight_hh_{end}", weights.R[d])
        if weights.B is not None:
            inputs, state = weights.B[d].reshape(2, -1)
            write(f"bias_ih_{end}", inputs)
            write(f"bias_hh_{end}", state)
        if weights.P is not None:
            for name, vector in zip(PEEPHOLES, weights.P[d].reshape(3, H), strict=True):
                params[f"{name}_{end}"][...] = vector
        for name, initial in zip("hc", weights.initial, strict=False):
            params[f"{name}0_{end}"][...] = initial[d]
