"""Estimators whose X are texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import check_positive_int, check_real
from fastrnn.estimators.fitting import Entrance, SupervisedEstimator
from fastrnn.files import FormatError
from fastrnn.sequences.data import Samples
from fastrnn.sequences.network import make_layers
from fastrnn.serving.judge import Judge, Reader
from fastrnn.text.encoders import SpellingEncoder, TokenEncoder, Unknowns, encoder_specs
from fastrnn.text.reading import StepReader, TokenReader, read_sequences
from fastrnn.text.vocabulary import Vocabulary

__all__ = ["TokenSequences"]

Array = NDArray[Any]


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
        fitted = level if reset else self._level
        samples, found = read_sequences(texts, fitted, name, fitted=not reset)
        if reset:
            self._level = found
        return samples

    @property
    def _reader(self) -> Reader:
        return self._token_reader

    @property
    def _token_reader(self) -> TokenReader:
        """How X is read that comes after fit's."""
        spelled = self.characters_ if self.chars else None
        return TokenReader(self._level, self.vocabulary_, spelled)

    def _learn_input(self, samples: Samples, weight: Any) -> None:
        self.vocabulary_ = Vocabulary.from_texts(
            samples.items, self._level, min_count=self.min_count, max_size=self.max_vocabulary
        )
        ids = np.concatenate([self.vocabulary_.encode(item) for item in samples.items])
        self._counts = np.bincount(ids, minlength=len(self.vocabulary_))
        if self.chars:
            words = {word for item in samples.items for word in item}
            self.characters_ = Vocabulary.from_texts(sorted(words), "char")

    # The network

    def _entrance(self, samples: Samples) -> Entrance:
        dtype = np.dtype(np.float32 if self.dtype is None else self.dtype)
        characters = len(self.characters_) if self.chars else None
        specs = encoder_specs(self.get_params(deep=False), len(self.vocabulary_), characters, dtype)
        layers = make_layers(specs, self._random)
        encoder = self._make_encoder(layers)
        return Entrance(encoder.width, dtype, encoder)

    def _make_encoder(self, layers: Mapping[str, Any]) -> TokenEncoder:
        """What these layers are, in training and after it."""
        rate, dropout = float(self.unknown_rate), float(self.dropout)
        seeds = [int(seed) for seed in self._random.integers(2**63, size=2)]
        unknowns = Unknowns(rate, self._counts, seeds[0]) if rate else None
        kind = SpellingEncoder if self.chars else TokenEncoder
        return kind(layers, unknowns, dropout, seeds[1])

    def _take_input(self, judge: Judge, counts: Array | None) -> None:
        reader = judge.reader.inner if isinstance(judge.reader, StepReader) else judge.reader
        if not isinstance(reader, TokenReader) or counts is None:
            raise FormatError("reader: expected one of texts, got one of numbers")
        if len(counts) != len(reader.vocabulary) or (reader.characters is not None) != self.chars:
            raise FormatError("vocabulary: expected a count of each token")
        self.vocabulary_, self._level, self._counts = reader.vocabulary, reader.level, counts
        if reader.characters is not None:
            self.characters_ = reader.characters
        judge.network.encoder = self._make_encoder(judge.network.encoder.layers)
