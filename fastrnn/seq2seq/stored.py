"""A fitted encoder and decoder in files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from fastrnn.files import FormatError
from fastrnn.seq2seq.data import check_symbols
from fastrnn.seq2seq.fitted import PairMethods
from fastrnn.seq2seq.parts import load_layers
from fastrnn.text.vocabulary import Vocabulary
from fastrnn.training.trainable import Trainable, describe_layers

__all__ = ["StoredPairs"]


class StoredPairs(PairMethods, Trainable):
    """How `fastrnn.Seq2Seq` is written to files and read from them."""

    def to_file(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What `save` keeps: a description, and the arrays."""
        described, tensors = describe_layers(self.layers_)
        sides = (self.source_vocabulary_, self.target_vocabulary_)
        own = {
            "vocabularies": [vocabulary.config() for vocabulary in sides],
            "layers": described,
            "bridge": self._bridge,
            "longest": list(self._longest),
        }
        return {**self._header(), **own}, tensors

    @classmethod
    def from_file(cls, remembered: Mapping[str, Any], tensors: Mapping[str, Any]) -> Self:
        """The model that `to_file` has described."""
        kinds = {"vocabularies": list, "layers": dict, "bridge": str, "longest": list}
        model = cls._from_header(remembered, kinds)
        longest, told = remembered["longest"], remembered["vocabularies"]
        if len(longest) != 2 or not all(type(n) is int for n in longest) or min(longest) < 0:
            raise FormatError(f"longest: expected two numbers, got {longest!r:.80}")
        if len(told) != 2 or not all(isinstance(one, dict) for one in told):
            raise FormatError(f"vocabularies: expected two, got {told!r:.80}")
        names = ("vocabularies[0]", "vocabularies[1]")
        sides = [
            check_symbols(name, Vocabulary(**one)) for name, one in zip(names, told, strict=True)
        ]
        model.source_vocabulary_, model.target_vocabulary_ = sides
        model._bridge = remembered["bridge"]
        model.layers_ = load_layers(
            remembered["layers"], tensors, len(sides[0]), len(sides[1]), model._bridge
        )
        model._longest = (longest[0], longest[1])
        return model
