"""Text as numbers: the vocabulary of a text's characters or words."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import check_bool, check_int, check_option, check_positive_int, describe

__all__ = ["LEVELS", "TOKENS", "Ids", "Text", "Vocabulary", "as_tokens", "read_texts"]

Ids = NDArray[np.int64]
Text = str | Iterable[str]

LEVELS = ("char", "word")
TOKENS = "token"  # the level of texts that come as lists of tokens
_LINES_AND_WORDS = re.compile(r"\n|\S+")


class Vocabulary:
    r"""The tokens of a text, each with a number, and two symbols beside them.

    First comes the unknown symbol, which stands for every token that is not in the vocabulary; then
    the boundary, which no text has: it comes before the first token of a text and, in a list of
    texts, after each. A vocabulary may do without either. The tokens follow, the most frequent
    first, equally frequent ones in the order of their code points.

    Parameters
    ----------
    level : {"char", "word", "token"}
        What a token is: one code point, or a run of characters that are not white space. With
        ``"token"`` every text is an iterable of tokens, split by whoever made it, and a token is
        any str. The other two take such texts as well.
    tokens : sequence of str
        The tokens, without the two symbols, each once.
    unknown : str or None, default "<unk>"
        How the unknown symbol reads: a token of a text that reads so is the symbol itself. None:
        there is no such symbol, and a token that is not known is an error.
    boundary : bool, default True
        Whether there is the boundary.
    line_end : str or None, default "\n"
        With ``level="word"``: the token that a line's end is. None: it only separates, as other
        white space does.

    Attributes
    ----------
    symbols : tuple of str
        How the symbols that there are are shown.
    unknown_number, boundary_number : int or None
        Their numbers: 0 and 1 where both are there.

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

    UNKNOWN = 0  # numbers of the symbols in a vocabulary that has both
    BOUNDARY = 1
    SYMBOLS = ("<unk>", "<s>")  # how they are shown unless it is said otherwise

    def __init__(
        self,
        level: str,
        tokens: Sequence[str],
        *,
        unknown: str | None = SYMBOLS[UNKNOWN],
        boundary: bool = True,
        line_end: str | None = "\n",
    ) -> None:
        self.level: str = check_option("level", level, (*LEVELS, TOKENS))
        self.unknown = _check_symbol("unknown", unknown)
        self.boundary = check_bool("boundary", boundary)
        self.line_end = _check_symbol("line_end", line_end)
        if line_end not in (None, "\n") and _LINES_AND_WORDS.findall(str(line_end)) != [line_end]:
            raise ValueError(f"line_end: expected a line's end, a word or None, got {line_end!r}")
        symbols: list[str] = [] if unknown is None else [unknown]
        self.unknown_number = None if unknown is None else 0
        self.boundary_number = len(symbols) if boundary else None
        self.symbols = (*symbols, self.SYMBOLS[self.BOUNDARY]) if boundary else tuple(symbols)
        self.tokens = tuple(tokens)
        first = len(self.symbols)
        self._ids = {token: first + i for i, token in enumerate(self.tokens)}
        for token in self.tokens:
            if not isinstance(token, str):
                raise TypeError(f"tokens: expected texts, got {describe(token)}")
            if level != TOKENS and list(self.split(token)) != [token]:
                raise ValueError(f"tokens: expected single {level}s, got {describe(token)}")
        if len(self._ids) < len(self.tokens):
            twice = next(t for t, n in Counter(self.tokens).items() if n > 1)
            raise ValueError(f"tokens: expected each once, got {describe(twice)} more than once")
        if unknown is not None and self._ids.setdefault(unknown, 0):
            raise ValueError(f"tokens: expected none that reads as unknown={unknown!r}, got one")
        self._table: Ids | None = None

    def _by_code_point(self) -> Ids:
        """Numbers by code point: a text of a million characters is encoded in milliseconds.

        Made when it is first needed, for it is as long as the largest code point.
        """
        if self._table is None:
            points = {ord(token): i for token, i in self._ids.items() if len(token) == 1}
            table = np.full(max(points, default=0) + 2, self._other, dtype=np.int64)
            table[list(points)] = list(points.values())
            self._table = table
        return self._table

    @property
    def _other(self) -> int:
        """The number of a token that is not known; -1 where that is an error."""
        return -1 if self.unknown_number is None else self.unknown_number

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[Text],
        level: str,
        *,
        min_count: int = 1,
        max_size: int | None = None,
        **symbols: Any,
    ) -> Vocabulary:
        """The vocabulary of some texts.

        Parameters
        ----------
        texts : iterable of str, or of iterables of str
            The texts, or the tokens of each.
        level : {"char", "word", "token"}
            What a token is.
        min_count : int, default 1
            Tokens that come less often are not known.
        max_size : int, optional
            At most so many tokens, the two symbols not counted: the most frequent ones.
        **symbols
            ``unknown``, ``boundary`` and ``line_end``, as for the class.
        """
        min_count = check_positive_int("min_count", min_count)
        if max_size is not None:
            max_size = check_int("max_size", max_size, 0)
        empty = cls(level, (), **symbols)
        counts: Counter[str] = Counter()
        for i, text in enumerate(texts):
            counts.update(empty.split(text, f"texts[{i}]"))
        known = ((-n, token) for token, n in counts.items() if n >= min_count)
        kept = [(n, token) for n, token in known if token != empty.unknown]
        return cls(level, [token for _, token in sorted(kept)[:max_size]], **symbols)

    def config(self) -> dict[str, Any]:
        """All that makes the vocabulary, by the names of the constructor."""
        return {
            "level": self.level,
            "tokens": list(self.tokens),
            "unknown": self.unknown,
            "boundary": self.boundary,
            "line_end": self.line_end,
        }

    def digest(self) -> str:
        """SHA-256 of all that makes the vocabulary."""
        told = repr(sorted(self.config().items()))  # of escapes alone where a token is no text
        return hashlib.sha256(told.encode()).hexdigest()

    def __len__(self) -> int:
        """How many numbers there are: the tokens and the symbols."""
        return len(self.symbols) + len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return bool(self._ids.get(token, self._other) != self._other)

    def __repr__(self) -> str:
        return f"<Vocabulary of {len(self.tokens)} {self.level}s>"

    def token(self, number: int) -> str:
        """The token with this number; ``"<unk>"`` and ``"<s>"`` for the two symbols."""
        number = check_int("number", number, 0)
        if number >= len(self):
            raise ValueError(f"number: expected below {len(self)}, got {number}")
        first = len(self.symbols)
        return self.symbols[number] if number < first else self.tokens[number - first]

    def encode(self, text: Text, name: str = "text") -> Ids:
        """The numbers of a text's tokens, int64 of shape (n,).

        Raises
        ------
        ValueError
            For a token that is not known, if there is no unknown symbol.
        """
        if self.level != "char" or not isinstance(text, str):
            text = self.split(text, name)
            get, other = self._ids.get, self._other
            found = np.array([get(token, other) for token in text], dtype=np.int64)
        else:
            points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
            table = self._by_code_point()
            found = table[np.minimum(points, len(table) - 1)]
        if self.unknown is None and (found < 0).any():
            place = int(np.argmax(found < 0))
            raise ValueError(
                f"{name}: expected tokens that are known (unknown=None), got "
                f"{describe(self.split(text)[place])}, token {place}"
            )
        return found

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
        if not isinstance(text, str) or self.level == TOKENS:
            return as_tokens(name, text, "" if self.level == TOKENS else "str or ")
        if self.level == "char":
            return text
        words = _LINES_AND_WORDS.findall(text)
        if self.line_end is None:
            return [word for word in words if word != "\n"]
        if self.line_end == "\n":
            return words
        return [self.line_end if word == "\n" else word for word in words]


def _check_symbol(name: str, symbol: Any) -> str | None:
    if symbol is not None and not isinstance(symbol, str):
        raise TypeError(f"{name}: expected a str or None, got {describe(symbol)}")
    if symbol == "":
        raise ValueError(f"{name}: expected at least one character or None, got ''")
    return symbol


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


def read_texts(name: str, text: Any, level: str) -> tuple[list[Text], bool]:
    """One text or several, and whether it was one.

    Parameters
    ----------
    name : str
        The argument's name.
    text : str, or iterable
        A str is one text, an iterable of them are several; so are iterables of tokens, each a text.
        With ``level="token"`` an iterable of str is one text, and a str is none.
    level : {"char", "word", "token"}
    """
    whole = level != TOKENS  # whether a str is a text
    if isinstance(text, str) and whole:
        return [text], True
    if isinstance(text, (str, bytes, dict)) or not isinstance(text, Iterable):
        wanted = "tokens (str) or a list of lists of them"
        if whole:
            wanted = "a str or a list of str or of lists of tokens"
        raise TypeError(f"{name}: expected {wanted}, got {describe(text)}")
    texts = list(text)
    if not whole and not any(map(_is_nested, texts)):
        return [as_tokens(name, texts)], True
    found: list[Text] = []
    for i, one in enumerate(texts):
        as_is = whole and isinstance(one, str)
        found.append(one if as_is else as_tokens(f"{name}[{i}]", one, "str or " if whole else ""))
    return found, False


def _is_nested(text: Any) -> bool:
    return isinstance(text, Iterable) and not isinstance(text, (str, bytes, dict))
