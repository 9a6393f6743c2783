"""The layers of an encoder and a decoder: what they are called, made and read from files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn.files import FormatError, build

__all__ = ["BRIDGES", "Spec", "layer_specs", "load_layers", "make_layers"]

Spec = tuple[str, dict[str, Any]]

BRIDGES = ("auto", "copy", "linear", "zeros")
CELLS = ("LSTM", "GRU", "RNN")
STATES = {"LSTM": ("h", "c"), "GRU": ("h",), "RNN": ("h",)}


def layer_specs(parameters: Mapping[str, Any], n_source: int, n_target: int) -> dict[str, Spec]:
    """Class and configuration of each layer, from a `Seq2Seq`'s parameters.

    Parameters
    ----------
    parameters : mapping
        ``get_params()``.
    n_source, n_target : int
        The vocabularies' numbers of tokens.
    """
    dtype = np.dtype(parameters["dtype"] or np.float32).name
    E, H = int(parameters["embedding_dim"]), int(parameters["hidden_size"])
    both = bool(parameters["bidirectional"])
    K = 2 * H if both else H
    own: dict[str, dict[str, Any]] = {
        "lstm": {"forget_bias": 1.0},
        "gru": {"reset_after": bool(parameters["reset_after"])},
        "rnn": {"nonlinearity": parameters["nonlinearity"]},
    }
    kind = parameters["cell"].upper()
    feeding = bool(parameters["input_feeding"])

    def recurrent(width: int, both: bool) -> Spec:
        return kind, {
            "input_size": width,
            "hidden_size": H,
            "num_layers": int(parameters["num_layers"]),
            "bidirectional": both,
            "dropout": float(parameters["dropout"]),
            "recurrent_dropout": float(parameters["recurrent_dropout"]),
            "dtype": dtype,
            **own[parameters["cell"]],
        }

    def embedding(count: int) -> Spec:
        return "Embedding", {"num_embeddings": count, "embedding_dim": E, "dtype": dtype}

    def linear(n: int, m: int, bias: bool = True) -> Spec:
        config = {"in_features": n, "out_features": m, "bias": bias, "dtype": dtype}
        return "Linear", config

    specs = {
        "source_embedding": embedding(n_source),
        "target_embedding": embedding(n_target),
        "encoder": recurrent(E, both),
        "decoder": recurrent(E + H if feeding else E, False),
    }
    bridge = parameters["bridge"]
    if bridge == "linear" or (bridge == "auto" and both):
        for layer in range(int(parameters["num_layers"])):
            specs |= {f"bridge_{state}_l{layer}": linear(K, H) for state in STATES[kind]}
    if parameters["attention"] is not None:
        config = {"query_size": H, "key_size": K, "kind": parameters["attention"], "dtype": dtype}
        specs |= {"attention": ("Attention", config), "combine": linear(K + H, H, bias=False)}
    return specs | {"output": linear(H, n_target)}


def make_layers(specs: Mapping[str, Spec], generator: np.random.Generator) -> dict[str, Any]:
    """New layers by class name and configuration, each with a seed of its own."""
    return {
        key: build(kind, {**config, "random_state": int(generator.integers(2**63))})
        for key, (kind, config) in specs.items()
    }


def load_layers(
    described: Mapping[str, Any],
    tensors: Mapping[str, Any],
    n_source: int,
    n_target: int,
    bridge: str,
) -> dict[str, Any]:
    """The layers that a file describes, if they fit one another and what else it says."""
    own: dict[str, dict[str, Any]] = {key: {} for key in described}
    for name, array in tensors.items():
        key, _, inner = name.partition(".")
        if key not in own:
            raise FormatError(f"{name[:80]}: expected an array of one of {_listed(described)}")
        own[key][inner] = array
    for key in ("encoder", "decoder"):
        _check_kind(described, key, CELLS)
    parts: dict[str, Any] = {}
    for key in described:
        kinds = {"encoder": CELLS, "decoder": CELLS, "attention": ("Attention",)}.get(key)
        if kinds is None:
            kinds = ("Embedding",) if key.endswith("_embedding") else ("Linear",)
        _check_kind(described, key, kinds)
        parts[key] = build(described[key]["type"], described[key]["config"], own[key])
    _check_fit(parts, n_source, n_target)
    _check_bridge(parts, bridge)
    return parts


def _check_kind(described: Mapping[str, Any], key: str, kinds: tuple[str, ...]) -> None:
    found = described.get(key)
    kind = found.get("type") if isinstance(found, dict) else None
    if kind not in kinds:
        raise FormatError(f"layers.{key}: expected {' or '.join(kinds)}, got {kind!r:.80}")
    if not isinstance(found.get("config"), dict):  # type: ignore[union-attr]
        raise FormatError(f"layers.{key}: expected a config")


def _check_fit(parts: Mapping[str, Any], n_source: int, n_target: int) -> None:
    """Raise a FormatError unless there are all layers, no others, and their sizes fit."""
    encoder, decoder = parts["encoder"], parts["decoder"]
    K, H, L = encoder.output_size, decoder.output_size, decoder.num_layers
    wanted = {"source_embedding", "target_embedding", "encoder", "decoder", "output"}
    bridges = {f"bridge_{state}_l{k}" for k in range(L) for state in decoder.cell.states}
    if bridges & set(parts):
        wanted |= bridges
    if {"attention", "combine"} & set(parts):
        wanted |= {"attention", "combine"}
    if set(parts) != wanted:
        raise FormatError(f"layers: expected {_listed(wanted)}, got {_listed(parts)}")
    source, target = parts["source_embedding"], parts["target_embedding"]
    sizes = [
        ("source_embedding: num_embeddings", n_source, source.num_embeddings),
        ("target_embedding: num_embeddings", n_target, target.num_embeddings),
        ("encoder: input_size", source.embedding_dim, encoder.input_size),
        ("decoder: bidirectional", False, decoder.bidirectional),
        ("decoder: cell", encoder.cell.name, decoder.cell.name),
        ("decoder: num_layers", encoder.num_layers, L),
        ("decoder: hidden_size", encoder.hidden_size, decoder.hidden_size),
        ("encoder: proj_size", 0, encoder.proj_size),
        ("decoder: proj_size", 0, decoder.proj_size),
        ("output: in_features", H, parts["output"].in_features),
        ("output: out_features", n_target, parts["output"].out_features),
    ]
    for key in bridges & set(parts):
        sizes += [
            (f"{key}: in_features", K, parts[key].in_features),
            (f"{key}: out_features", H, parts[key].out_features),
        ]
    if "attention" in parts:
        sizes += [
            ("attention: query_size", H, parts["attention"].query_size),
            ("attention: key_size", K, parts["attention"].key_size),
            ("combine: in_features", K + H, parts["combine"].in_features),
            ("combine: out_features", H, parts["combine"].out_features),
        ]
    sizes += [(f"{key}: dtype", decoder.dtype, part.dtype) for key, part in parts.items()]
    widths = (target.embedding_dim, target.embedding_dim + H)
    if decoder.input_size not in widths:
        raise FormatError(
            f"layers.decoder: input_size: expected one of {widths}, got {decoder.input_size}"
        )
    for what, expected, found in sizes:
        if expected != found:
            raise FormatError(f"layers.{what}: expected {expected}, got {found}")


def _check_bridge(parts: Mapping[str, Any], bridge: str) -> None:
    """Raise a FormatError unless these layers can have such a bridge."""
    if any(key.startswith("bridge_") for key in parts):
        allowed = {"linear"}
    else:
        allowed = set() if parts["encoder"].bidirectional else {"copy"}
        allowed |= {"zeros"} if "attention" in parts else set()
    if bridge not in allowed:
        raise FormatError(f"bridge: expected one of {_listed(allowed)}, got {bridge!r:.80}")


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))[:200]
