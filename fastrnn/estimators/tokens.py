"""X of text: strings, or lists of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import check_positive_int, check_real, describe
from fastrnn.estimators.fitting import Entrance, SupervisedEstimator
from fastrnn.sequences.data import Samples
from fastrnn.sequences.network import Spec, make_layers
from fastrnn.text.encoders import SpellingEncoder, TokenEncoder, Unknowns, spell
from fastrnn.text.vocabulary import TOKENS, Vocabulary

__all__ = ["TokenSequences", "is_tokens"]

Array = NDArray[Any]


def is_tokens(text: Any) -> bool:
    """Whether this is a list of tokens; of wrong ones too, which are then told by name."""
    if not isinstance(text, (list, tuple, np.ndarray)) or not np.size(text[:1]):
        return False
    return isinstance(text[0], (str, bytes))


def _is_of_level(text: Any, level: str) -> bool:
    """Whether this is a string, or for lists of tokens, something that may be one."""
    if level != TOKENS:
        return isinstance(text, str)
    numbers = isinstance(text, np.ndarray) and text.dtype.kind not in "OUS"
    return not isinstance(text, str) and not numbers


class TokenSequences(SupervisedEstimator):
    """An estimator whose X are texts.

    Fitted attributes: ``vocabulary_``, and with ``chars=True`` ``characters_``, those of its words.
    """

    chars = False  # whether words are spelled too; a parameter of those that can
    vocabulary_: Vocabulary
    characters_: Vocabulary
    _level: str  # of the texts that fit has seen
    _counts: Array  # how often each token of the vocabulary came

    def _check_parameters(self) -> Any:
        plan = super()._check_parameters()
        for name in ("embedding_dim", "min_count"):
            check_positive_int(name, getattr(self, name))
        if self.max_vocabulary is not None:
            check_positive_int("max_vocabulary", self.max_vocabulary)
        check_real("unknown_rate", self.unknown_rate, minimum=0.0)
        return plan

    # X

    def _read_texts(self, texts: Any, level: str, reset: bool, name: str) -> Samples:
        """Strings, which `level` splits, or lists of tokens, all of one kind."""
        if not isinstance(texts, Iterable) or isinstance(texts, (str, bytes, dict)):
            raise TypeError(f"{name}: expected a list of texts, got {describe(texts)}")
        shape = getattr(texts, "shape", (0,))
        if len(shape) != 1:
            raise ValueError(f"{name}: expected texts in one dimension, got shape {shape}")
        texts = list(texts)
        if not texts:
            raise ValueError(f"{name}: expected at least one text, got none")
        if reset:
            self._level = TOKENS if is_tokens(texts[0]) else level
        split = Vocabulary(self._level, ()).split
        items = []
        for i, text in enumerate(texts):
            if not _is_of_level(text, self._level):
                wanted = "a list of tokens" if self._level == TOKENS else "a text (str)"
                others = "other texts" if reset and i else "fit has seen"
                raise TypeError(
                    f"{name}[{i}]: expected {wanted}, as {others}, got {describe(text)}"
                )
            items.append(split(text, f"{name}[{i}]"))
            if not len(items[i]):
                raise ValueError(f"{name}[{i}]: expected at least one token, got {describe(text)}")
        return Samples(items, np.array([len(item) for item in items], dtype=np.int64))

    def _learn_input(self, samples: Samples, weight: Any) -> None:
        self.vocabulary_ = Vocabulary.from_texts(
            samples.items, self._level, min_count=self.min_count, max_size=self.max_vocabulary
        )
        ids = np.concatenate([self.vocabulary_.encode(item) for item in samples.items])
        self._counts = np.bincount(ids, minlength=len(self.vocabulary_))
        if self.chars:
            words = {word for item in samples.items for word in item}
            self.characters_ = Vocabulary.from_texts(sorted(words), "char")

    def _items(self, samples: Samples) -> list[Any]:
        if self.chars:
            return spell(samples.items, self.vocabulary_, self.characters_)
        return [self.vocabulary_.encode(item) for item in samples.items]

    # The network

    def _entrance(self, samples: Samples) -> Entrance:
        dtype = np.dtype(np.float32 if self.dtype is None else self.dtype)
        layers = make_layers(self._encoder_specs(dtype), self._random)
        rate, dropout = float(self.unknown_rate), float(self.dropout)
        seeds = [int(seed) for seed in self._random.integers(2**63, size=2)]
        unknowns = Unknowns(rate, self._counts, seeds[0]) if rate else None
        kind = SpellingEncoder if self.chars else TokenEncoder
        encoder = kind(layers, unknowns, dropout, seeds[1])
        return Entrance(encoder.width, dtype, encoder)

    def _encoder_specs(self, dtype: np.dtype) -> dict[str, Spec]:
        """Class and configuration of each of the encoder's layers."""

        def embedding(vocabulary: Vocabulary, size: Any) -> Spec:
            config = {"num_embeddings": len(vocabulary), "embedding_dim": int(size)}
            return "Embedding", {**config, "dtype": dtype.name}

        specs = {"embedding": embedding(self.vocabulary_, self.embedding_dim)}
        if self.chars:
            specs["char_embedding"] = embedding(self.characters_, self.char_embedding_dim)
            config = {"input_size": int(self.char_embedding_dim), "forget_bias": 1.0}
            config |= {"hidden_size": int(self.char_hidden_size), "bidirectional": True}
            specs["char_rnn"] = ("LSTM", {**config, "dtype": dtype.name})
        return specs
