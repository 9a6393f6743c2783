"""PyTorch's module with the weights of one of our layers; what ``layer.to_torch()`` does.

Layers stand above this module: it knows them by their registered names, configurations and
parameters alone, as a file does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn.files import find, is_registered

__all__ = ["import_torch", "to_torch", "type_name"]

Config = dict[str, Any]
Make = Callable[[Any, Config, Any], Any]

ACTIVATIONS = {
    "softmax": "Softmax",
    "log_softmax": "LogSoftmax",
    "relu": "ReLU",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
}
"""Names of torch.nn by the names of :class:`fastrnn.Activation`."""


def import_torch(what: str) -> Any:
    """PyTorch, or an ImportError that says what needs it."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"{what} needs PyTorch: pip install torch") from error
    return torch


def type_name(layer: Any) -> str:
    """The registered name of a layer's class; "" for a class that is none of ours."""
    name = type(layer).__name__
    return name if is_registered(name) and find(name) is type(layer) else ""


def to_torch(layer: Any) -> Any:
    """The ``torch.nn`` module that computes what a layer computes, with copies of its weights.

    Parameters
    ----------
    layer : LSTM, GRU, RNN, Linear, Embedding, LayerNorm, Dropout, Activation, or Sequential of them

    Returns
    -------
    torch.nn.Module
        Recurrent modules are ``batch_first``, as our layers are.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError
        If it has no such module.
    ValueError
        If its module lacks what the layer does: a GRU whose reset gate acts before the product, an
        RNN of sigmoids, recurrent dropout, initial states other than zeros.
    """
    torch = import_torch("to_torch")
    name = type_name(layer)
    if name == "Sequential":
        return _sequential(torch, layer)
    if name not in _MAKERS:
        got = type(layer).__name__
        raise TypeError(f"to_torch: expected one of {', '.join(_MAKERS)}, Sequential, got {got}")
    module = _MAKERS[name](torch, layer.config(), getattr(torch, str(layer.dtype or "float32")))
    with torch.no_grad():
        for key, param in module.named_parameters():
            param.copy_(torch.from_numpy(np.array(layer.params[key])))
    return module


def _sequential(torch: Any, layer: Any) -> Any:
    if layer.recurrent:
        raise ValueError(
            "to_torch: expected a Sequential without recurrent layers, for torch.nn.Sequential "
            "cannot hand on the output of one alone; convert each of its layers by itself"
        )
    return torch.nn.Sequential(*map(to_torch, layer.layers))


def _unset(cls: Any, dtype: Any, *arguments: Any, **named: Any) -> Any:
    """A module without values yet, so that torch's random numbers stay where they are."""
    return cls(*arguments, **named, dtype=dtype, device="meta").to_empty(device="cpu")


def _recurrent(kind: str, own: Callable[[Config], Config]) -> Make:
    """What makes the recurrent module of a kind; `own` finds the arguments that it alone has."""

    def make(torch: Any, config: Config, dtype: Any) -> Any:
        if config["recurrent_dropout"]:
            raise ValueError(
                f"recurrent_dropout: expected 0, for torch.nn.{kind} has none, got "
                f"{config['recurrent_dropout']}"
            )
        if config["initial_state"] != "zeros":
            raise ValueError(
                f"initial_state: expected 'zeros', for torch.nn.{kind} begins with no other, got "
                f"{config['initial_state']!r}"
            )
        names = ("input_size", "hidden_size", "num_layers", "bias", "bidirectional", "dropout")
        arguments = {name: config[name] for name in names} | own(config)
        return _unset(getattr(torch.nn, kind), dtype, **arguments, batch_first=True)

    return make


def _lstm_arguments(config: Config) -> Config:
    return {"proj_size": config["proj_size"]}


def _gru_arguments(config: Config) -> Config:
    if not config["reset_after"]:
        raise ValueError(
            "reset_after: expected True, for torch.nn.GRU knows no reset before the product, "
            "got False"
        )
    return {}


def _rnn_arguments(config: Config) -> Config:
    if config["nonlinearity"] == "sigmoid":
        raise ValueError(
            "nonlinearity: expected 'tanh' or 'relu', which torch.nn.RNN knows, got 'sigmoid'"
        )
    return {"nonlinearity": config["nonlinearity"]}


def _linear(torch: Any, config: Config, dtype: Any) -> Any:
    sizes = config["in_features"], config["out_features"], config["bias"]
    return _unset(torch.nn.Linear, dtype, *sizes)


def _embedding(torch: Any, config: Config, dtype: Any) -> Any:
    sizes = config["num_embeddings"], config["embedding_dim"]
    return _unset(torch.nn.Embedding, dtype, *sizes)


def _layer_norm(torch: Any, config: Config, dtype: Any) -> Any:
    return torch.nn.LayerNorm(config["features"], eps=config["epsilon"], dtype=dtype)


def _dropout(torch: Any, config: Config, dtype: Any) -> Any:
    return torch.nn.Dropout(config["p"])


def _activation(torch: Any, config: Config, dtype: Any) -> Any:
    function = config["function"]
    module = getattr(torch.nn, ACTIVATIONS[function])
    return module(dim=-1) if function.endswith("softmax") else module()


_MAKERS: dict[str, Make] = {
    "LSTM": _recurrent("LSTM", _lstm_arguments),
    "GRU": _recurrent("GRU", _gru_arguments),
    "RNN": _recurrent("RNN", _rnn_arguments),
    "Linear": _linear,
    "Embedding": _embedding,
    "LayerNorm": _layer_norm,
    "Dropout": _dropout,
    "Activation": _activation,
}
