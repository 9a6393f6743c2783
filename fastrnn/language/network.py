"""A language model's layers: made, trained, and read from files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn import losses
from fastrnn.engine.arrays import beside
from fastrnn.files import FormatError, build
from fastrnn.layers.modules import Dropout
from fastrnn.layers.tied import TiedLinear, load_tied
from fastrnn.training.minibatches import Batch

__all__ = ["Network", "layer_specs", "load_layers", "make_layers"]

Spec = tuple[str, dict[str, Any]]

TYPES = {
    "embedding": ("Embedding",),
    "rnn": ("RNN", "LSTM", "GRU"),
    "output": ("Linear", "TiedLinear"),
}


class Network:
    """Embedding, recurrent layers, and a softmax over the vocabulary.

    Parameters
    ----------
    parts : mapping of str to layer
        ``"embedding"``, ``"rnn"``, ``"output"``.
    dropout : float
        Of the recurrent layers' input and output; between them it is their own.
    generator : numpy.random.Generator
        Seeds the masks.
    summed : bool, default False
        Whether the loss that is minimized is the sum over a window's steps of the mean over the
        streams, and not the mean of both.
    """

    def __init__(
        self,
        parts: Mapping[str, Any],
        dropout: float,
        generator: np.random.Generator,
        summed: bool = False,
    ) -> None:
        self.summed = summed
        self.embedding, self.rnn, self.output = parts["embedding"], parts["rnn"], parts["output"]
        self.layers = [self.embedding, self.rnn, self.output]
        self.drops = []
        if dropout:
            self.drops = [Dropout(dropout, random_state=generator) for _ in range(2)]
            self.layers += self.drops

    def learn(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
        """Loss in nats per token, the number of tokens, and the state to carry; adds gradients."""
        inputs, targets = self._here(batch)
        if self.drops:
            x, embedding_back = self.embedding.forward(inputs)
            x, input_back = self.drops[0].forward(x)
        else:
            x, embedding_back = self.embedding.forward_symbols(inputs)
        y, state, rnn_back = self.rnn.forward(x, state=state)
        if self.drops:
            y, output_back = self.drops[1].forward(y)
        loss, loss_back = losses.linear_cross_entropy(self.output, y, targets)
        factor = float(batch.targets.shape[1]) if self.summed else 1.0
        dy = loss_back(factor)
        if self.drops:
            dy = output_back(dy)
        dx, _ = rnn_back(dy)  # the gradient of the carried state ends here: truncated BPTT
        if self.drops:
            dx = input_back(dx)
        embedding_back(dx)
        return float(loss), float(np.size(batch.targets)), state

    def assess(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
        """Loss and state without dropout and without gradients."""
        inputs, targets = self._here(batch)
        x, _ = self.embedding.forward_symbols(inputs)
        y, state = self.rnn(x, state=state)
        loss, _ = losses.linear_cross_entropy(self.output, y, targets, gradient=False)
        return float(loss), float(np.size(batch.targets)), state

    def _here(self, batch: Batch) -> tuple[Any, Any]:
        """A batch's inputs and targets where the layers are."""
        like = self.embedding.params["weight"]
        return beside(batch.inputs, like), beside(batch.targets, like)


def layer_specs(parameters: Mapping[str, Any], n_tokens: int) -> dict[str, Spec]:
    """Class and configuration of each layer, from a `LanguageModel`'s parameters."""
    dtype = np.dtype(parameters["dtype"] or np.float32).name
    own: dict[str, dict[str, Any]] = {
        "lstm": {"forget_bias": float(parameters["forget_bias"])},
        "gru": {"reset_after": parameters["reset_after"]},
        "rnn": {"nonlinearity": parameters["nonlinearity"]},
    }
    recurrent = {
        "input_size": int(parameters["embedding_dim"]),
        "hidden_size": int(parameters["hidden_size"]),
        "num_layers": int(parameters["num_layers"]),
        "dropout": float(parameters["dropout"]),
        "recurrent_dropout": float(parameters["recurrent_dropout"]),
        "init": parameters["init"],
        "dtype": dtype,
        **own[parameters["cell"]],
    }
    if parameters["init"] == "uniform":
        recurrent["init_scale"] = float(parameters["init_scale"])
    embedding = {
        "num_embeddings": n_tokens,
        "embedding_dim": recurrent["input_size"],
        "dtype": dtype,
    }
    output: Spec = (
        "Linear",
        {"in_features": recurrent["hidden_size"], "out_features": n_tokens, "dtype": dtype},
    )
    return {
        "embedding": ("Embedding", embedding),
        "rnn": (parameters["cell"].upper(), recurrent),
        "output": ("TiedLinear", {}) if parameters["tie_weights"] else output,
    }


def make_layers(
    specs: Mapping[str, Spec],
    generator: np.random.Generator,
    init: str = "torch",
    init_scale: float | None = None,
) -> dict[str, Any]:
    """New layers by class name and configuration, each with a seed of its own.

    Parameters
    ----------
    specs : mapping of str to Spec
        What `layer_specs` has given.
    generator : numpy.random.Generator
        Draws the seeds.
    init, init_scale
        See `fastrnn.LanguageModel`; the recurrent layers' are in their configuration.
    """
    seeds = {key: int(generator.integers(2**63)) for key in specs}
    tied = specs["output"][0] == "TiedLinear"
    parts = {
        key: build(kind, {**config, "random_state": seeds[key]})
        for key, (kind, config) in specs.items()
        if key != "output" or not tied
    }
    if tied:
        parts["output"] = TiedLinear(parts["embedding"])
        init_scale = parts["embedding"].embedding_dim ** -0.5 if init_scale is None else init_scale
    if init_scale is not None:
        draw = np.random.default_rng(seeds["output"]).uniform
        for layer in (parts["embedding"], parts["output"]):
            for name, param in layer.params.items():
                drawn = name == "weight" or init == "uniform"
                param[...] = draw(-init_scale, init_scale, param.shape) if drawn else 0.0
    return parts


def load_layers(
    described: Mapping[str, Any], tensors: Mapping[str, Any], n_tokens: int
) -> dict[str, Any]:
    """The layers that a file describes, if they fit one another and the vocabulary."""
    if set(described) != set(TYPES):
        raise FormatError(f"layers: expected {', '.join(TYPES)}, got {sorted(described)!r:.80}")
    own: dict[str, dict[str, Any]] = {key: {} for key in TYPES}
    for name, array in tensors.items():
        key, _, inner = name.partition(".")
        if key not in own:
            raise FormatError(f"{name[:80]}: expected an array of {', '.join(TYPES)}")
        own[key][inner] = array
    parts: dict[str, Any] = {}
    for key, kinds in TYPES.items():
        kind, config = described[key]["type"], described[key]["config"]
        if kind not in kinds:
            raise FormatError(f"layers.{key}: expected {' or '.join(kinds)}, got {kind!r:.80}")
        if kind == "TiedLinear":
            parts[key] = load_tied(parts["embedding"], config, own[key])
        else:
            parts[key] = build(kind, config, own[key])
    embedding, rnn, output = parts["embedding"], parts["rnn"], parts["output"]
    for what, expected, found in (
        ("embedding: num_embeddings", n_tokens, embedding.num_embeddings),
        ("output: out_features", n_tokens, output.out_features),
        ("rnn: input_size", embedding.embedding_dim, rnn.input_size),
        ("rnn: bidirectional", False, rnn.bidirectional),
        ("output: in_features", rnn.output_size, output.in_features),
        ("embedding: dtype", rnn.dtype, embedding.dtype),
        ("output: dtype", rnn.dtype, output.dtype),
    ):
        if expected != found:
            raise FormatError(f"layers.{what}: expected {expected}, got {found}")
    return parts
