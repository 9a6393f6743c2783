"""X of text: strings, or lists of tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.checks import describe
from fastrnn.sequences.data import Samples
from fastrnn.sequences.reading import NumberReader
from fastrnn.text.encoders import spell
from fastrnn.text.vocabulary import TOKENS, Vocabulary

__all__ = ["StepReader", "TokenReader", "form_of_steps", "is_tokens",
           "read_sequences", "read_step_tokens"]  # fmt: skip


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


def read_sequences(
    texts: Any, level: str, name: str = "X", *, fitted: bool = True
) -> tuple[Samples, str]:
    """Strings, which `level` splits, or lists of tokens, all of one kind; and that kind.

    Parameters
    ----------
    texts : iterable of str, or of iterables of str
    level : {"char", "word", "token"}
    name : str
        Of the argument.
    fitted : bool
        Whether the level is that of the texts that were fitted to; else the first text may turn out
        to be a list of tokens.
    """
    if not isinstance(texts, Iterable) or isinstance(texts, (str, bytes, dict)):
        raise TypeError(f"{name}: expected a list of texts, got {describe(texts)}")
    shape = getattr(texts, "shape", (0,))
    if len(shape) != 1:
        raise ValueError(f"{name}: expected texts in one dimension, got shape {shape}")
    texts = list(texts)
    if not texts:
        raise ValueError(f"{name}: expected at least one text, got none")
    if not fitted and is_tokens(texts[0]):
        level = TOKENS
    split = Vocabulary(level, ()).split
    items = []
    for i, text in enumerate(texts):
        if not _is_of_level(text, level):
            wanted = "a list of tokens" if level == TOKENS else "a text (str)"
            others = "fit has seen" if fitted or not i else "other texts"
            raise TypeError(f"{name}[{i}]: expected {wanted}, as {others}, got {describe(text)}")
        items.append(split(text, f"{name}[{i}]"))
        if not len(items[i]):
            raise ValueError(f"{name}[{i}]: expected at least one token, got {describe(text)}")
    return Samples(items, np.array([len(item) for item in items], dtype=np.int64)), level


@dataclass(frozen=True, slots=True)
class TokenReader:
    """Reads texts.

    Attributes
    ----------
    level : {"char", "word", "token"}
        What a token is.
    vocabulary : Vocabulary
    characters : Vocabulary or None
        Those of its words, if these are spelled too.
    """

    level: str
    vocabulary: Vocabulary
    characters: Vocabulary | None = None

    def read(self, X: Any, lengths: Any = None, name: str = "X") -> Samples:
        """The tokens of each text."""
        if lengths is not None:
            raise ValueError(f"lengths: expected none with texts, got {describe(lengths)}")
        return read_sequences(X, self.level, name)[0]

    def items(self, samples: Samples) -> list[Any]:
        """The sequences as the network takes them."""
        if self.characters is not None:
            return spell(samples.items, self.vocabulary, self.characters)
        return [self.vocabulary.encode(item) for item in samples.items]


def form_of_steps(X: Any, name: str = "X") -> tuple[Any, bool, bool]:
    """X of sequences whose steps are labeled, whether it is a list, and whether of many things."""
    if hasattr(X, "to_numpy") and X.ndim == 1:  # a series
        X = list(X)
    is_list = isinstance(X, (list, tuple))
    several = is_list or (isinstance(X, np.ndarray) and X.dtype.kind in "OUS")
    for i, one in enumerate(X if several else ()):
        if isinstance(one, (str, bytes)):
            raise TypeError(
                f"{name}[{i}]: expected a list of tokens or an array of numbers, "
                f"got {describe(one)}"
            )
    return X, is_list, several


def read_step_tokens(X: Any, lengths: Any, name: str, read: Callable[[Any], Samples]) -> Samples:
    """Lists of tokens, or an array of them, by a function that reads lists."""
    if lengths is not None:
        raise ValueError(f"lengths: expected none with tokens, got {describe(lengths)}")
    table = isinstance(X, np.ndarray) and X.ndim == 2
    samples = read(list(X) if table else X)
    return dataclasses.replace(samples, padded=X.shape[1]) if table else samples


@dataclass(frozen=True, slots=True)
class StepReader:
    """Reads sequences whose steps are labeled: answers have the form of X.

    Attributes
    ----------
    inner : TokenReader or NumberReader
        Of what the sequences are.
    """

    inner: TokenReader | NumberReader

    def read(self, X: Any, lengths: Any = None, name: str = "X") -> Samples:
        """The sequences; ``padded`` where they came as an array."""
        X, is_list, _ = form_of_steps(X, name)
        if isinstance(self.inner, NumberReader):
            samples = self.inner.read(X, lengths, name)
            return dataclasses.replace(samples, padded=None) if is_list else samples
        inner = self.inner
        return read_step_tokens(X, lengths, name, lambda texts: inner.read(texts, None, name))

    def items(self, samples: Samples) -> list[Any]:
        """The sequences as the network takes them."""
        return self.inner.items(samples)
