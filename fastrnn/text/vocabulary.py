"""Text as numbers: the vocabulary of a text's characters or words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import check_int, check_option, check_positive_int, describe

__all__ = ["LEVELS", "TOKENS", "Text", "Vocabulary", "as_documents", "as_tokens"]

Ids = NDArray[np.int64]
Text = str | Iterable[str]

LEVELS = ("char", "word")
TOKENS = "token"  # the level of texts that come as lists of tokens
_WORDS = re.compile(r"\n|[^\s]+")  # a line's end is a token of its own: it says something


class Vocabulary:
    """The tokens of a text, each with a number, and two symbols that are no text.

    Number 0, `UNKNOWN`, stands for every token that is not in the vocabulary; number 1,
    `BOUNDARY`, comes before the first token of a text and, in a list of texts, after each. The
    tokens follow, the most frequent first, equally frequent ones in the order of their code points.

    Parameters
    ----------
    level : {"char", "word", "token"}
        What a token is: one code point, or a run of characters that are not white space. For words
        a line's end is a token too; other white space only separates. With ``"token"`` every text
        is an iterable of tokens, split by whoever made it, and a token is any str. The other two
        take such texts as well.
    tokens : sequence of str
        The tokens, without the two symbols, each once.

    Examples
    --------
    >>> vocabulary = Vocabulary.from_texts(["hello"], level="char")
    >>> vocabulary.tokens
    ('l', 'e', 'h', 'o')
    >>> vocabulary.encode("hole!")
    array([4, 5, 2, 3, 0])
    >>> vocabulary.decode([4, 5, 2, 3])
    'hole'
    >>> vocabulary = Vocabulary.from_texts([["New York", "is"], ["is"]], level="token")
    >>> vocabulary.encode(["New York", "sleeps"])
    array([3, 0])
    """

    UNKNOWN = 0
    BOUNDARY = 1
    SYMBOLS = ("<unk>", "<s>")  # how the two are shown; text that reads so is another token

    def __init__(self, level: str, tokens: Sequence[str]) -> None:
        self.level: str = check_option("level", level, (*LEVELS, TOKENS))
        self.tokens = tuple(tokens)
        first = len(self.SYMBOLS)
        self._ids = {token: first + i for i, token in enumerate(self.tokens)}
        for token in self.tokens:
            if not isinstance(token, str):
                raise TypeError(f"tokens: expected texts, got {describe(token)}")
            if level != TOKENS and list(self.split(token)) != [token]:
                raise ValueError(f"tokens: expected single {level}s, got {describe(token)}")
        if len(self._ids) < len(self.tokens):
            twice = next(t for t, n in Counter(self.tokens).items() if n > 1)
            raise ValueError(f"tokens: expected each once, got {describe(twice)} more than once")
        self._table: Ids | None = None
        if level == "char":
            # Encoding by lookup in an array: a text of a million characters in milliseconds.
            points = [ord(token) for token in self.tokens]
            self._table = np.zeros(max(points, default=0) + 2, dtype=np.int64)
            self._table[points] = np.arange(first, first + len(points))

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[Text],
        level: str,
        *,
        min_count: int = 1,
        max_size: int | None = None,
    ) -> Vocabulary:
        """The vocabulary of some texts.

        Parameters
        ----------
        texts : iterable of str, or of iterables of str
            The texts, or the tokens of each.
        level : {"char", "word", "token"}
            What a token is.
        min_count : int, default 1
            Tokens that come less often become `UNKNOWN`.
        max_size : int, optional
            At most so many tokens, the two symbols not counted: the most frequent ones.
        """
        min_count = check_positive_int("min_count", min_count)
        if max_size is not None:
            max_size = check_int("max_size", max_size, 0)
        split = cls(level, ()).split
        counts: Counter[str] = Counter()
        for i, text in enumerate(texts):
            counts.update(split(text, f"texts[{i}]"))
        kept = [(-n, token) for token, n in counts.items() if n >= min_count]
        return cls(level, [token for _, token in sorted(kept)[:max_size]])

    def __len__(self) -> int:
        """How many numbers there are: the tokens and the two symbols."""
        return len(self.SYMBOLS) + len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return token in self._ids

    def __repr__(self) -> str:
        return f"<Vocabulary of {len(self.tokens)} {self.level}s>"

    def token(self, number: int) -> str:
        """The token with this number; ``"<unk>"`` and ``"<s>"`` for the two symbols."""
        number = check_int("number", number, 0)
        if number >= len(self):
            raise ValueError(f"number: expected below {len(self)}, got {number}")
        first = len(self.SYMBOLS)
        return self.SYMBOLS[number] if number < first else self.tokens[number - first]

    def encode(self, text: Text) -> Ids:
        """The numbers of a text's tokens, int64 of shape (n,); `UNKNOWN` for those not known."""
        if self._table is None or not isinstance(text, str):
            get, unknown = self._ids.get, self.UNKNOWN
            return np.array([get(token, unknown) for token in self.split(text)], dtype=np.int64)
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        return self._table[np.minimum(points, len(self._table) - 1)]

    def decode(self, numbers: Iterable[int] | NDArray[Any]) -> str:
        """The text of some numbers; words are joined by spaces, lines by their ends."""
        parts, before = [], None
        for number in numbers:
            parts.append(self.piece(int(number), before))
            before = int(number)
        return "".join(parts)

    def piece(self, number: int, before: int | None) -> str:
        """What a token adds to the text after the one `before` it, None at a text's beginning."""
        token = self.token(number)
        if self.level == "char" or before is None or "\n" in (token, self.token(before)):
            return token
        return " " + token

    def split(self, text: Text, name: str = "text") -> Sequence[str]:
        """The tokens of a text; those of one that is split already are as they are."""
        if isinstance(text, str) and self.level != TOKENS:
            return text if self.level == "char" else _WORDS.findall(text)
        return as_tokens(name, text, "" if self.level == TOKENS else "str or ")


def as_tokens(name: str, tokens: Any, others: str = "") -> list[str]:
    """An iterable of str as a list; anything else, one str among it, is a TypeError."""
    wanted = f"{others}an iterable of tokens (str)"
    if isinstance(tokens, (str, bytes, dict)) or not isinstance(tokens, Iterable):
        raise TypeError(f"{name}: expected {wanted}, got {describe(tokens)}")
    found = list(tokens)
    for i, token in enumerate(found):
        if not isinstance(token, str):
            raise TypeError(f"{name}[{i}]: expected a token (str), got {describe(token)}")
    return found


def as_documents(name: str, text: Any) -> list[str]:
    """`text`, one str or a sequence of them, as a list; anything else is a TypeError."""
    if isinstance(text, str):
        return [text]
    wanted = "a str or a list of str"
    if isinstance(text, (bytes, dict)) or not isinstance(text, Iterable):
        raise TypeError(f"{name}: expected {wanted}, got {describe(text)}")
    documents = list(text)
    for i, document in enumerate(documents):
        if not isinstance(document, str):
            raise TypeError(f"{name}[{i}]: expected str, got {describe(document)}")
    return [str(document) for document in documents]
