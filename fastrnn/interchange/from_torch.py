"""Layers of PyTorch's modules and state dicts; what ``fastrnn.from_torch`` does.

Only a live module needs PyTorch. A state dict may hold anything that NumPy makes an array of, and a
``.safetensors`` file is read by :mod:`fastrnn.tensorfile`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn import tensorfile
from fastrnn.checks import check_option, describe
from fastrnn.files import FormatError
from fastrnn.interchange.to_torch import ACTIVATIONS
from fastrnn.interchange.values import common_dtype, layer_of
from fastrnn.layers.activation import Activation
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.modules import Dropout, LayerNorm, Linear
from fastrnn.layers.rnn import GRU, LSTM, RNN
from fastrnn.layers.sequential import Sequential

__all__ = ["from_torch"]

Values = dict[str, np.ndarray]
Path = str | os.PathLike[str]

KINDS = ("embedding", "linear")
NONLINEARITIES = ("tanh", "relu")


def from_torch(
    source: Any,
    *,
    prefix: str | Sequence[str] | None = None,
    kind: str | None = None,
    nonlinearity: str | None = None,
) -> Any:
    """A layer with the weights of PyTorch's.

    What torch computes with ``batch_first=True`` ours computes, whatever the module's own
    ``batch_first`` is: it says nothing about weights, and our layers always take (N, T, D). A GRU
    gets ``reset_after=True``, torch's formula. The weights' dtype is kept, float32 or float64;
    float16 and bfloat16 become float32.

    Parameters
    ----------
    source : torch.nn.Module, mapping of str to array, or path
        A module: ``LSTM`` (also with ``proj_size``), ``GRU``, ``RNN``, ``LSTMCell``, ``GRUCell``,
        ``RNNCell``, ``Linear``, ``Embedding``, ``LayerNorm``, ``Dropout``, ``Softmax``,
        ``LogSoftmax``, ``ReLU``, ``Sigmoid``, ``Tanh``, or ``Sequential`` of them. Or a state
        dict, of tensors, arrays or nested lists. Or the path of a ``.safetensors`` file of one,
        which needs no PyTorch. Of a state dict, names and shapes tell what layer it is, and its
        sizes; what is not in it (dropout, a LayerNorm's epsilon) is the constructor's default.
    prefix : str or sequence of str, optional
        Of a state dict that holds several layers: which of them, ``"lstm"`` for
        ``lstm.weight_ih_l0`` and so on. A sequence of prefixes gives their `Sequential`.
    kind : {"embedding", "linear"}, optional
        What a state dict's lone matrix ``weight`` is, which its names do not tell.
    nonlinearity : {"tanh", "relu"}, optional
        An RNN's, which a state dict does not tell.

    Returns
    -------
    layer
        With copies of the weights.

    Raises
    ------
    TypeError
        If the module is of another class; the message names those that are known.
    ValueError
        If it has an option that ours has not, or a state dict does not tell which layer it is, or
        has other names or shapes than such a layer.
    FormatError
        If that is so of a file.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> gates, D, H = 3, 2, 4
    >>> state_dict = {
    ...     "gru.weight_ih_l0": np.ones((gates * H, D), np.float32),
    ...     "gru.weight_hh_l0": np.ones((gates * H, H), np.float32),
    ...     "head.weight": np.ones((1, H), np.float32),
    ...     "head.bias": np.ones(1, np.float32),
    ... }
    >>> model = fastrnn.from_torch(state_dict, prefix=["gru", "head"])
    >>> y, state = model(np.ones((5, 7, D)))
    >>> y.shape
    (5, 7, 1)
    """
    if kind is not None:
        check_option("kind", kind, KINDS)
    if nonlinearity is not None:
        check_option("nonlinearity", nonlinearity, NONLINEARITIES)
    if isinstance(source, str | os.PathLike):
        where = tensorfile.path_name(source)
        if not where.endswith(".safetensors"):
            raise ValueError(
                f"source: expected a path that ends in .safetensors, got {where!r}; other files of "
                "PyTorch's are pickles: torch.load them, and give the state dict"
            )
        tensors, _ = tensorfile.read(source)
        try:
            return _from_tensors(tensors, prefix, kind, nonlinearity)
        except ValueError as error:
            raise FormatError(f"{where}: {error}") from error
    if isinstance(source, Mapping):
        return _from_tensors(source, prefix, kind, nonlinearity)
    given = {"prefix": prefix, "kind": kind, "nonlinearity": nonlinearity}
    for name, value in given.items():
        if value is not None and hasattr(source, "state_dict"):
            raise ValueError(f"{name}: expected none with a module, got {value!r}")
    return _from_module(source)


# --- modules -------------------------------------------------------------------------------------


def _from_module(module: Any) -> Any:
    # A subclass that computes as its base does, as a parametrized module's class, is one of these.
    bases: list[Any] = list(type(module).__mro__)
    for base in bases:
        reader = _READERS.get(base.__name__)
        if reader is not None and base.__module__.startswith("torch.nn."):
            if bases[0].forward is base.forward:
                return reader(module)
            break
    names = ", ".join(_READERS)
    if hasattr(module, "state_dict"):
        raise TypeError(
            f"source: expected a module of torch.nn among {names}, got a {type(module).__name__}; "
            "what it does with its layers only its code tells: give its state_dict(), and prefix="
        )
    raise TypeError(
        f"source: expected a module of torch.nn among {names}, a state dict, or the path of a "
        f".safetensors file, got {describe(module)}"
    )


def _array(value: Any) -> np.ndarray:
    """A tensor's or any array's values in host memory, brain floats as float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # NumPy has none
            value = value.float()
        return value.numpy()
    return np.asarray(value)


def _values(module: Any, names: Sequence[str]) -> Values:
    """A module's weights by name, as it computes with them: parametrized ones are attributes."""
    return {name: _array(getattr(module, name)) for name in names}


def _recurrent(module: Any) -> Any:
    options: dict[str, Any] = {
        "input_size": module.input_size,
        "hidden_size": module.hidden_size,
        "num_layers": module.num_layers,
        "bias": module.bias,
        "bidirectional": module.bidirectional,
        "dropout": module.dropout,
    }
    names = [name for group in module._all_weights for name in group]
    if module.mode == "LSTM":
        options["proj_size"] = module.proj_size
        cls: Any = LSTM
    elif module.mode == "GRU":
        options["reset_after"] = True
        cls = GRU
    else:
        options["nonlinearity"] = module.nonlinearity
        cls = RNN
    return layer_of(cls, _values(module, names), **options)


def _recurrent_cell(module: Any) -> Any:
    names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if module.bias else [])]
    return _recurrent_of(_values(module, names), getattr(module, "nonlinearity", None))


def _linear(module: Any) -> Any:
    names = ["weight"] if module.bias is None else ["weight", "bias"]
    return _linear_of(_values(module, names))


def _embedding(module: Any) -> Any:
    if module.max_norm is not None:
        raise ValueError(
            f"max_norm: expected None, for our Embedding rescales no vectors, got {module.max_norm}"
        )
    return _embedding_of(_values(module, ["weight"]))


def _layer_norm(module: Any) -> Any:
    shape = tuple(module.normalized_shape)
    if len(shape) != 1:
        raise ValueError(
            f"normalized_shape: expected one axis, the last, for our LayerNorm has no more, "
            f"got {shape}"
        )
    names = [name for name in ("weight", "bias") if getattr(module, name) is not None]
    return _layer_norm_of(_values(module, names), shape[0], epsilon=module.eps)


def _dropout(module: Any) -> Any:
    return Dropout(module.p)


def _activation(module: Any) -> Any:
    name = type(module).__name__
    if name.endswith("Softmax") and module.dim != -1:
        raise ValueError(f"dim: expected -1 of {name}, the last axis, got {module.dim}")
    return Activation(_FUNCTIONS[name])


def _sequential(module: Any) -> Any:
    children = [child for child in module if type(child).__name__ != "Identity"]
    return Sequential(*map(_from_module, children))


_FUNCTIONS = {theirs: ours for ours, theirs in ACTIVATIONS.items()}

_READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("LSTMCell", "GRUCell", "RNNCell"), _recurrent_cell),
    "Linear": _linear,
    "Embedding": _embedding,
    "LayerNorm": _layer_norm,
    "Dropout": _dropout,
    **dict.fromkeys(_FUNCTIONS, _activation),
    "Sequential": _sequential,
}


# --- state dicts ---------------------------------------------------------------------------------


def _from_tensors(
    tensors: Mapping[str, Any],
    prefix: str | Sequence[str] | None,
    kind: str | None,
    nonlinearity: str | None,
) -> Any:
    groups: dict[str, Values] = {}
    for name, value in tensors.items():
        if not isinstance(name, str):
            raise TypeError(f"source: expected a state dict with names, got the key {name!r:.80}")
        path, _, local = name.rpartition(".")
        groups.setdefault(path, {})[local] = _array(value)
    if not groups:
        raise ValueError("source: expected the parameters of a layer, got none")
    known = ", ".join(repr(path) for path in groups)
    if prefix is None:
        if len(groups) != 1:
            raise ValueError(
                f"prefix: expected that of a layer, of which there are {len(groups)}: {known}"
            )
        (prefix,) = groups
    wanted: list[Any] = [prefix] if isinstance(prefix, str) else list(prefix)
    layers = []
    for path in wanted:
        if not isinstance(path, str) or path.removesuffix(".") not in groups:
            raise ValueError(f"prefix: expected one of {known}, got {path!r}")
        path = path.removesuffix(".")
        try:
            layers.append(_from_group(groups[path], kind, nonlinearity))
        except ValueError as error:
            raise ValueError(f"{path}: {error}" if path else str(error)) from error
    return layers[0] if isinstance(prefix, str) else Sequential(*layers)


def _from_group(values: Values, kind: str | None, nonlinearity: str | None) -> Any:
    """The layer of one group of parameters, by their local names."""
    if any(name.startswith("weight_ih") for name in values):
        return _recurrent_of(values, nonlinearity)
    shapes = {name: value.shape for name, value in values.items()}
    rank = values["weight"].ndim if "weight" in values else None
    if set(values) <= {"weight", "bias"} and rank == 1:
        return _layer_norm_of(values, values["weight"].shape[0])
    if set(values) == {"weight", "bias"} and rank == 2:
        return _linear_of(values)
    if set(values) == {"weight"} and rank == 2:
        if kind is None:
            raise ValueError(
                "kind: expected 'embedding' or 'linear', for a lone weight of shape "
                f"{shapes['weight']} may be either"
            )
        return (_linear_of if kind == "linear" else _embedding_of)(values)
    raise ValueError(
        "state dict: expected the names of a recurrent layer (weight_ih_l0, ...), Linear, "
        f"Embedding or LayerNorm (weight, bias), got {shapes}"
    )


_NAME = re.compile(r"(?:weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(?:_l(\d{1,6})(_reverse)?)?")


def _recurrent_of(values: Values, nonlinearity: str | None) -> Any:
    """The recurrent layer whose parameters these are."""
    found = {}
    layers = {0}
    reverse = []
    for name, value in values.items():
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"{name}: expected a parameter of an LSTM, GRU or RNN")
        if match.group(1) is None:  # LSTMCell and its like have one layer and no number
            name = f"{name}_l0"
        layers.add(int(match.group(1) or 0))
        reverse.append(match[2] is not None)
        found[name] = value
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in found or found[name].ndim != 2 or 0 in found[name].shape:
            shape = found[name].shape if name in found else "none"
            raise ValueError(f"{name}: expected a matrix (gates*H, units), got {shape}")
    projection = found.get("weight_hr_l0")
    if projection is not None and projection.ndim != 2:
        raise ValueError(f"weight_hr_l0: expected a matrix (P, H), got shape {projection.shape}")
    (rows, D), S = found["weight_ih_l0"].shape, found["weight_hh_l0"].shape[1]
    H = S if projection is None else projection.shape[1]
    arguments: dict[str, Any] = {
        "input_size": D,
        "hidden_size": H,
        "num_layers": len(layers),
        "bias": "bias_ih_l0" in found,
        "bidirectional": any(reverse),
    }
    gates = rows / H if H else 0
    if gates == 4:
        arguments["proj_size"] = 0 if projection is None else projection.shape[0]
        return layer_of(LSTM, found, **arguments)
    if gates == 3 and projection is None:
        return layer_of(GRU, found, **arguments, reset_after=True)
    if gates == 1 and projection is None:
        if nonlinearity is None:
            raise ValueError(
                "nonlinearity: expected 'tanh' or 'relu', which the weights of an RNN do not tell"
            )
        return layer_of(RNN, found, **arguments, nonlinearity=nonlinearity)
    raise ValueError(
        f"weight_ih_l0: expected 4 (LSTM), 3 (GRU) or 1 (RNN) times {H} rows, got {rows}"
    )


def _linear_of(values: Values) -> Any:
    out_features, in_features = values["weight"].shape
    sizes = {"in_features": in_features, "out_features": out_features}
    return layer_of(Linear, values, **sizes, bias="bias" in values)


def _embedding_of(values: Values) -> Any:
    num_embeddings, embedding_dim = values["weight"].shape
    sizes = {"num_embeddings": num_embeddings, "embedding_dim": embedding_dim}
    return layer_of(Embedding, values, **sizes)


def _layer_norm_of(values: Values, features: int, **options: Any) -> Any:
    """A LayerNorm; torch's may lack the factor or the offset, which are then 1 and 0."""
    dtype = common_dtype(values) if values else np.dtype(np.float32)
    whole = {"weight": np.ones(features, dtype), "bias": np.zeros(features, dtype), **values}
    return layer_of(LayerNorm, whole, features=features, **options)
