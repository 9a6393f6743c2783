"""A fitted encoder and decoder in files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from fastrnn import files
from fastrnn.files import FormatError
from fastrnn.seq2seq.fitted import PairMethods
from fastrnn.seq2seq.parts import load_layers
from fastrnn.text.vocabulary import Vocabulary

__all__ = ["StoredPairs"]


class StoredPairs(PairMethods):
    """How `fastrnn.Seq2Seq` is written to files and read from them."""

    history_: dict[str, list[float]]
    loss_curve_: list[float]
    best_loss_: float
    n_iter_: int
    interrupted_: bool

    def _check(self) -> Any:
        """Check all parameters."""
        raise NotImplementedError

    def _record(self, history: dict[str, list[float]], best_loss: float, interrupted: bool) -> None:
        """Set the fitted attributes that tell of the training."""
        self.history_ = history
        self.loss_curve_ = history.get("loss", [])
        self.n_iter_ = len(self.loss_curve_)
        self.best_loss_ = best_loss
        self.interrupted_ = interrupted

    def save(self, path: Any) -> None:
        """Write the fitted model to a file that `fastrnn.load` reads.

        Kept are the layers, the vocabularies, the history and all parameters that are numbers or
        text; a callable, a generator and the checkpoint's path come back as the defaults.

        Parameters
        ----------
        path : str or path-like
            Replaced, if it exists, once the new file is complete.
        """
        self._check_fitted("layers_")
        files.save(self, path)

    def to_file(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What `save` keeps: a description, and the arrays."""
        defaults = self._defaults()
        config = {}
        for name, value in self.get_params().items():
            if name == "dtype" and value is not None:
                value = np.dtype(value).name
            elif isinstance(value, np.generic):
                value = value.item()
            plain = value is None or isinstance(value, (bool, int, float, str))
            config[name] = value if plain and name != "checkpoint" else defaults[name]
        sides = (self.source_vocabulary_, self.target_vocabulary_)
        remembered = {
            "config": config,
            "levels": [vocabulary.level for vocabulary in sides],
            "vocabularies": [list(vocabulary.tokens) for vocabulary in sides],
            "layers": {
                key: {"type": type(layer).__name__, "config": layer.config()}
                for key, layer in self.layers_.items()
            },
            "bridge": self._bridge,
            "longest": list(self._longest),
            "history": self.history_,
            "best_loss": self.best_loss_,
            "interrupted": self.interrupted_,
        }
        tensors = {
            f"{key}.{name}": array
            for key, layer in self.layers_.items()
            for name, array in layer.params.items()
        }
        return remembered, tensors

    @classmethod
    def from_file(cls, remembered: Mapping[str, Any], tensors: Mapping[str, Any]) -> Self:
        """The model that `to_file` has described."""
        kinds = {
            "config": dict, "levels": list, "vocabularies": list, "layers": dict, "bridge": str,
            "longest": list, "history": dict, "best_loss": float, "interrupted": bool,
        }  # fmt: skip
        for key, kind in kinds.items():
            if not isinstance(remembered.get(key), kind):
                got = remembered.get(key)
                raise FormatError(f"{key}: expected {kind.__name__}, got {got!r:.80}")
        config, history = remembered["config"], remembered["history"]
        if set(config) != set(cls._defaults()):
            wanted = sorted(cls._defaults())
            raise FormatError(f"config: expected the names {wanted}, got {sorted(config)!r:.200}")
        if not all(_are(float, values) for values in history.values()):
            raise FormatError("history: expected lists of numbers")
        longest = remembered["longest"]
        if len(longest) != 2 or not _are(int, longest) or min(longest) < 0:
            raise FormatError(f"longest: expected two numbers, got {longest!r:.80}")
        for key in ("levels", "vocabularies"):
            if len(remembered[key]) != 2:
                raise FormatError(f"{key}: expected two, got {remembered[key]!r:.80}")
        if not all(isinstance(tokens, list) for tokens in remembered["vocabularies"]):
            raise FormatError("vocabularies: expected lists of tokens")
        model = cls(**config)
        model._check()
        sides = [
            Vocabulary(level, tokens)
            for level, tokens in zip(remembered["levels"], remembered["vocabularies"], strict=True)
        ]
        model.source_vocabulary_, model.target_vocabulary_ = sides
        model._bridge = remembered["bridge"]
        model.layers_ = load_layers(
            remembered["layers"], tensors, len(sides[0]), len(sides[1]), model._bridge
        )
        model._longest = (longest[0], longest[1])
        model._record(history, remembered["best_loss"], remembered["interrupted"])
        return model


def _are(kind: type, values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)
