"""An output layer whose weight is an embedding's table: one array, one gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from fastrnn.checks import Array, check_bool, describe
from fastrnn.engine import products
from fastrnn.engine.parameters import Layer
from fastrnn.files import FormatError, Shape, check_tensors, fill
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.modules import Linear

__all__ = ["TiedLinear", "load_tied"]


class TiedLinear(Linear):
    """y = x E^T + b, where E is the table of an embedding.

    O. Press and L. Wolf, "Using the output embedding to improve language models", EACL 2017. The
    table stays the embedding's: it alone has it among its ``params``, so that an optimizer, a norm,
    a file and a count of parameters that see both layers see it once. ``backward`` adds the
    gradient of this use to the embedding's own.

    Parameters
    ----------
    embedding : Embedding
        Its ``num_embeddings`` are the outputs, its ``embedding_dim`` is the width of x.
    bias : bool
        Whether there is a b, which starts at 0.

    Attributes
    ----------
    params, grads : mapping
        ``bias`` (num_embeddings,), if there is one.
    """

    def __init__(self, embedding: Embedding, bias: bool = True) -> None:
        if not isinstance(embedding, Embedding):
            raise TypeError(f"embedding: expected an Embedding, got {describe(embedding)}")
        self.embedding = embedding
        self.in_features, self.out_features = embedding.embedding_dim, embedding.num_embeddings
        self.bias = check_bool("bias", bias)
        self.dtype = embedding.dtype
        self._own({"bias": np.zeros(self.out_features, self.dtype)} if self.bias else {})
        self._grads_lock = embedding._grads_lock  # one for one gradient
        self.cache = products.Cache()

    def config(self) -> dict[str, Any]:
        """The constructor's arguments but the embedding."""
        return {"bias": self.bias}

    @classmethod
    def shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
        """Names and shapes are known with the embedding alone, which no configuration holds."""
        raise TypeError("TiedLinear: expected to be built with its embedding")

    def _leaves(self) -> Iterator[Layer]:
        yield self.embedding
        yield self

    @property
    def parts(self) -> Mapping[str, Array]:
        """W and b, whichever layer they belong to."""
        return MappingProxyType({"weight": self.embedding.params["weight"], **self.params})

    @property
    def part_grads(self) -> Mapping[str, Array]:
        """Their gradients by the same names."""
        return MappingProxyType({"weight": self.embedding.grads["weight"], **self.grads})

    # A copy belongs to a copy of the embedding, the same one if both are copied at once.

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "embedding": self.embedding}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["embedding"], **state["config"])  # type: ignore[misc]
        self._restore_arrays(state)


def load_tied(embedding: Embedding, config: Any, tensors: Mapping[str, Any]) -> TiedLinear:
    """A layer by its configuration and arrays out of a file, and its embedding."""
    if not isinstance(config, dict) or set(config) != {"bias"}:
        raise FormatError(f"config: expected bias alone, got {config!r:.80}")
    layer = TiedLinear(embedding, **config)
    check_tensors([(name, param.shape) for name, param in layer.params.items()], tensors)
    fill(layer, tensors)
    return layer
