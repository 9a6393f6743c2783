"""Layers of Keras 3 models; what ``fastrnn.from_keras`` does.

What Keras has is read by :mod:`fastrnn.interchange.keras_layers`; here stands what it is to us.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastrnn.checks import describe
from fastrnn.files import FormatError
from fastrnn.interchange.keras_layers import MASKS, RECURRENT, Config, Stored, from_file, from_live
from fastrnn.interchange.onnx_recurrent import OnnxRecurrent
from fastrnn.interchange.stacking import stacked
from fastrnn.interchange.values import layer_of
from fastrnn.layers.activation import Activation
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.final import Final
from fastrnn.layers.modules import Dropout, LayerNorm, Linear
from fastrnn.layers.reversed import Reversed
from fastrnn.layers.rnn import GRU, LSTM, RNN
from fastrnn.layers.sequential import Sequential
from fastrnn.tensorfile import path_name

__all__ = ["from_keras"]


def from_keras(source: Any) -> Any:
    """The layers of a Keras 3 model or layer.

    Takes LSTM, GRU (with either ``reset_after``), SimpleRNN, Bidirectional of them (side by side),
    Dense, Embedding, LayerNormalization, Dropout, Activation, ReLU, Softmax, TimeDistributed of
    what needs it not, and Sequential or functional models of them that are one chain.

    A recurrent layer without ``return_sequences`` becomes `Final` of ours. Where layers of one
    kind and size lie on top of each other they become one of several layers. What Keras masks
    (``mask_zero``, Masking) is ``lengths`` in the call here, and what it keeps between batches
    (``stateful``) is ``state``. Input dropout within a recurrent layer, which acts in training
    alone, is left out. Functions other than the usual ones are computed by `OnnxRecurrent`.

    Parameters
    ----------
    source : path of a ``.keras`` file, or a live Keras model or layer that has its weights

    Returns
    -------
    layer
        `Sequential` if there are several. Of the weights' dtype, float32 or float64.

    Raises
    ------
    FormatError
        If the file is no Keras 3 model, or has what cannot be taken. The message names the layer.
    ValueError
        If that is so of a live model.
    TypeError
        If `source` is something else.
    ImportError
        If a file is given and h5py is not installed (``pip install 'fastrnn[keras]'``).
    OSError
        If the file cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        where = path_name(source)
        try:
            return _result(from_file(where))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            # Whatever does not fit came from the file.
            said = f"expected a value named {error}" if isinstance(error, KeyError) else error
            raise FormatError(f"{where}: {said}") from error
    if not hasattr(source, "get_config") or not hasattr(source, "weights"):
        raise TypeError(
            "source: expected the path of a .keras file, or a Keras model or layer, got "
            f"{describe(source)}"
        )
    return _result(from_live(source))


def _result(stored: Stored) -> Any:
    layers = stacked(list(_layers(stored)))
    if not layers:
        raise ValueError(f"{stored.kind}: expected at least one layer, got none")
    return layers[0] if len(layers) == 1 else Sequential(*layers)


# --- layers --------------------------------------------------------------------------------------


def _layers(stored: Stored) -> Iterator[Any]:
    """Our layers for one of Keras's."""
    if stored.kind in ("Sequential", "Functional"):
        if stored.kind == "Functional":
            _check_chain(stored)
        for one in stored.inner:
            yield from _layers(one)
        return
    if stored.kind not in _MAKERS:
        raise ValueError(
            f"layer {stored.name!r}: expected one of {', '.join(_MAKERS)}, Sequential, Functional, "
            f"got {stored.kind!r:.80}"
        )
    try:
        yield from _MAKERS[stored.kind](stored)
    except ValueError as error:
        raise ValueError(f"layer {stored.name!r} ({stored.kind}): {error}") from error


def _check_chain(stored: Stored) -> None:
    """Raise unless each layer of a functional model takes what the one before it gives."""
    before: str | None = None
    for layer in stored.config["layers"]:
        if layer["class_name"] in MASKS:
            continue
        name = layer["config"]["name"]
        nodes = layer["inbound_nodes"]
        taken = [one for node in nodes for one in _tensors(node)]
        expected = [] if before is None else [before]
        if taken != expected or (before is not None and len(nodes) != 1):
            raise ValueError(
                f"layer {name!r:.80}: expected one input, what {before!r:.80} gives, "
                f"got {taken!r:.80}; branches and states handed on cannot be taken"
            )
        before = name
    outputs = stored.config["output_layers"]
    outputs = outputs[0] if isinstance(outputs[0], list | tuple) and len(outputs) == 1 else outputs
    if outputs[0] != before:
        raise ValueError(
            f"output_layers: expected the last layer {before!r:.80}, got {outputs!r:.80}"
        )


def _tensors(tree: Any) -> Iterator[str]:
    """Names of the layers whose first outputs stand in a node's arguments, but for its mask."""
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if one.get("class_name") == "__keras_tensor__":
                name, node, output = one["config"]["keras_history"]
                yield name if (node, output) == (0, 0) else f"{name}[{node}][{output}]"
            else:
                waiting += [value for key, value in one.items() if key != "mask"]
        elif isinstance(one, list | tuple):
            waiting += one


# Functions of recurrent cells by ONNX's names and numbers; "sigmoid" and so on are the usual ones.
_FUNCTIONS: dict[str, tuple[str, float, float]] = {
    "tanh": ("Tanh", 0, 0),
    "sigmoid": ("Sigmoid", 0, 0),
    "relu": ("Relu", 0, 0),
    "linear": ("Affine", 1, 0),
    "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
    "elu": ("Elu", 1, 0),
    "leaky_relu": ("LeakyRelu", 0.2, 0),
    "softplus": ("Softplus", 0, 0),
    "softsign": ("Softsign", 0, 0),
}

_GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}
_ORDER = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "SimpleRNN": (0,)}
"""Our gates by their numbers in Keras: i f c o are i f g o, and z r h are r z n."""


def _function(config: Config, key: str) -> tuple[str, float, float]:
    name = config.get(key)
    if not isinstance(name, str) or name not in _FUNCTIONS:
        raise ValueError(f"{key}: expected one of {', '.join(_FUNCTIONS)}, got {name!r:.80}")
    return _FUNCTIONS[name]


def _cell(parts: list[Stored]) -> Any:
    """A recurrent layer of one direction or, of two Keras layers, of both."""
    first = parts[0]
    kind, config = first.kind, first.config
    H = config["units"]
    values: dict[str, np.ndarray] = {}
    D = 0
    for part, end in zip(parts, ("l0", "l0_reverse"), strict=False):
        D = _take(part, end, kind, H, values)
    options: dict[str, Any] = {
        "input_size": D,
        "hidden_size": H,
        "bias": bool(config["use_bias"]),
        "bidirectional": len(parts) == 2,
        "recurrent_dropout": config.get("recurrent_dropout", 0.0),
    }
    functions = [_function(config, "activation")]
    if kind != "SimpleRNN":
        functions.insert(0, _function(config, "recurrent_activation"))
    names = [name for name, _, _ in functions]
    if kind == "SimpleRNN" and names[0] in ("Tanh", "Relu", "Sigmoid"):
        return layer_of(RNN, values, **options, nonlinearity=config["activation"])
    if names == ["Sigmoid", "Tanh"]:
        if kind == "LSTM":
            return layer_of(LSTM, values, **options)
        return layer_of(GRU, values, **options, reset_after=bool(config["reset_after"]))
    functions += functions[1:] if kind == "LSTM" else []
    return layer_of(
        OnnxRecurrent,
        values,
        **options,
        kind="RNN" if kind == "SimpleRNN" else kind,
        activations=functions * len(parts),
        linear_before_reset=kind == "GRU" and bool(config["reset_after"]),
    )


def _take(part: Stored, end: str, kind: str, H: Any, values: dict[str, np.ndarray]) -> int:
    """Put one direction's weights among the values, by our names; return its inputs."""
    config, gates = part.config, _GATES[kind]
    if type(H) is not int or H < 1:
        raise ValueError(f"units: expected an integer of at least 1, got {H!r:.80}")
    bias = bool(config["use_bias"])
    two = kind == "GRU" and bool(config["reset_after"])
    if len(part.weights) != 2 + bias or part.weights[0].ndim != 2:
        shapes = [weight.shape for weight in part.weights]
        raise ValueError(f"expected a kernel, a recurrent kernel and use_bias={bias}, got {shapes}")
    D = part.weights[0].shape[0]
    expected = [(D, gates * H), (H, gates * H), (2, gates * H) if two else (gates * H,)]
    for weight, shape in zip(part.weights, expected, strict=False):
        if weight.shape != shape:
            raise ValueError(f"expected a weight of shape {shape}, got {weight.shape}")

    def ordered(array: np.ndarray) -> np.ndarray:
        blocks = np.split(array, gates, axis=-1)
        return np.concatenate([blocks[k] for k in _ORDER[kind]], axis=-1).T

    values[f"weight_ih_{end}"], values[f"weight_hh_{end}"] = map(ordered, part.weights[:2])
    if bias:
        both = part.weights[2] if two else np.stack([part.weights[2], 0 * part.weights[2]])
        values[f"bias_ih_{end}"], values[f"bias_hh_{end}"] = map(ordered, both)
    return D


def _recurrent(stored: Stored) -> Iterator[Any]:
    config, layer = stored.config, _cell([stored])
    if config.get("go_backwards"):
        if config.get("return_sequences"):
            raise ValueError(
                "go_backwards: expected False with return_sequences, for Keras gives the steps in "
                "reverse order; within Bidirectional it is taken"
            )
        layer = Reversed(layer)
    yield layer if config.get("return_sequences") else Final(layer)


_SAME = (
    "units",
    "use_bias",
    "activation",
    "recurrent_activation",
    "reset_after",
    "return_sequences",
)


def _bidirectional(stored: Stored) -> Iterator[Any]:
    if stored.config.get("merge_mode") != "concat":
        got = stored.config.get("merge_mode")
        raise ValueError(f"merge_mode: expected 'concat', got {got!r:.80}")
    first, second = stored.inner
    if first.kind not in RECURRENT or second.kind != first.kind:
        raise ValueError(
            f"expected two layers of one kind among {', '.join(RECURRENT)}, got {first.kind} and "
            f"{second.kind}"
        )
    for key in _SAME:
        if first.config.get(key) != second.config.get(key):
            raise ValueError(
                f"{key}: expected the same in both directions, got {first.config.get(key)!r:.80} "
                f"and {second.config.get(key)!r:.80}"
            )
    if first.config.get("go_backwards") or not second.config.get("go_backwards"):
        raise ValueError("go_backwards: expected the second layer alone to go backwards")
    layer = _cell([first, second])
    yield layer if first.config.get("return_sequences") else Final(layer)


def _activation(config: Config) -> Iterator[Any]:
    """The layer of an ``activation``; none for a linear one."""
    name = config.get("activation")
    if name not in ("linear", None):
        yield Activation(name)


def _dense(stored: Stored) -> Iterator[Any]:
    bias = bool(stored.config["use_bias"])
    if len(stored.weights) != 1 + bias or stored.weights[0].ndim != 2:
        shapes = [weight.shape for weight in stored.weights]
        raise ValueError(f"expected a kernel and use_bias={bias}, got weights of shapes {shapes}")
    values = {"weight": stored.weights[0].T, **({"bias": stored.weights[1]} if bias else {})}
    in_features, out_features = stored.weights[0].shape
    sizes = {"in_features": in_features, "out_features": out_features}
    yield layer_of(Linear, values, **sizes, bias=bias)
    yield from _activation(stored.config)


def _embedding(stored: Stored) -> Iterator[Any]:
    if len(stored.weights) != 1 or stored.weights[0].ndim != 2:
        raise ValueError(f"expected one matrix, got {len(stored.weights)} weights")
    V, D = stored.weights[0].shape
    sizes = {"num_embeddings": V, "embedding_dim": D}
    yield layer_of(Embedding, {"weight": stored.weights[0]}, **sizes)


def _layer_norm(stored: Stored) -> Iterator[Any]:
    config, weights = stored.config, stored.weights
    axis = config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    built = config.get("build_config", {})
    shape = built.get("input_shape") if isinstance(built, dict) else None
    last = (-1, 2) if shape is None else (-1, len(shape) - 1)
    if axis not in last or config.get("rms_scaling"):
        raise ValueError(f"axis: expected the last, without rms_scaling, got {axis!r:.80}")
    scale, center = bool(config.get("scale", True)), bool(config.get("center", True))
    if len(weights) != scale + center or not weights or any(w.ndim != 1 for w in weights):
        raise ValueError(f"expected scale or center vectors, got {len(weights)} weights")
    found = iter(weights)
    weight = next(found) if scale else np.ones_like(weights[0])
    bias = next(found) if center else np.zeros_like(weights[0])
    values = {"weight": weight, "bias": bias}
    epsilon = config.get("epsilon", 1e-3)
    yield layer_of(LayerNorm, values, features=weight.size, epsilon=epsilon)


def _softmax(stored: Stored) -> Iterator[Any]:
    if stored.config.get("axis", -1) != -1:
        raise ValueError(f"axis: expected -1, the last, got {stored.config['axis']!r:.80}")
    yield Activation("softmax")


def _relu(stored: Stored) -> Iterator[Any]:
    for key in ("max_value", "negative_slope", "threshold"):
        if stored.config.get(key):
            raise ValueError(f"{key}: expected 0 or none, got {stored.config[key]!r:.80}")
    yield Activation("relu")


def _time_distributed(stored: Stored) -> Iterator[Any]:
    (inner,) = stored.inner
    if inner.kind not in (
        "Dense",
        "Activation",
        "ReLU",
        "Softmax",
        "LayerNormalization",
        "Dropout",
    ):
        raise ValueError(f"expected a layer that works on each step by itself, got {inner.kind}")
    yield from _layers(inner)


_BY_STEPS = ("Dense", "Activation", "ReLU", "Softmax", "LayerNormalization", "Dropout")

_MAKERS: dict[str, Callable[[Stored], Iterator[Any]]] = {
    **dict.fromkeys(RECURRENT, _recurrent),
    "Bidirectional": _bidirectional,
    "Dense": _dense,
    "Embedding": _embedding,
    "LayerNormalization": _layer_norm,
    "Dropout": lambda stored: iter([Dropout(stored.config["rate"])]),
    "Activation": lambda stored: _activation(stored.config),
    "ReLU": _relu,
    "Softmax": _softmax,
    "TimeDistributed": _time_distributed,
    "InputLayer": lambda stored: iter(()),
    "Masking": lambda stored: iter(()),
}
