"""A fitted language model put to use on text: how likely it is, and how it goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from fastrnn import losses, metrics
from fastrnn.checks import check_bool, check_int, check_random_state
from fastrnn.engine.arrays import beside, to_host
from fastrnn.language.writing import embedded, read_stops, write
from fastrnn.parameterized import Parameterized
from fastrnn.text.sampling import Sampler
from fastrnn.text.vocabulary import TOKENS, Ids, Text, Vocabulary, read_texts

__all__ = ["TextMethods", "Texts", "one_stream"]

Layers = Mapping[str, Any]
LogProb = NDArray[np.float64]
Texts = Text | Iterable[Text]

WINDOW = 1024  # steps of one text taken at once
ROWS = 4096  # rows of a batch of texts, about
TEXTS = 64  # texts in a batch, at most


def one_stream(documents: Sequence[Text], vocabulary: Vocabulary, name: str = "text") -> Ids:
    """Texts as one sequence of numbers, each after a boundary, several with one at the end.

    Without a boundary in the vocabulary they stand one after the other.
    """
    several = len(documents) > 1
    encoded = [
        vocabulary.encode(text, f"{name}[{i}]" if several else name)
        for i, text in enumerate(documents)
    ]
    parts = [np.zeros(0, np.int64)]
    if vocabulary.boundary_number is None:
        return np.concatenate(parts + encoded)
    boundary = np.array([vocabulary.boundary_number])
    parts += [part for ids in encoded for part in (boundary, ids)]
    return np.concatenate([*parts, boundary] if several else parts)


def log_prob_of_one(layers: Layers, ids: Ids) -> LogProb:
    """The log-probability of each number of a stream but the first.

    It goes window by window: memory does not grow with the text.
    """
    found, state = [np.zeros(0)], None
    for begin in range(0, len(ids) - 1, WINDOW):
        end = min(begin + WINDOW, len(ids) - 1)
        y, state = layers["rnn"](embedded(layers, ids[None, begin:end]), state=state)
        found.append(_log_prob(layers, y[0, ...], ids[begin + 1 : end + 1]))
    return np.concatenate(found)


def log_prob_of_many(layers: Layers, ids: list[Ids]) -> list[LogProb]:
    """The same for each of several streams, those of like length together."""
    found: list[LogProb] = [np.zeros(0)] * len(ids)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    batch: list[int] = []
    for i in order:
        batch.append(i)
        rows = len(batch) * len(ids[i])  # the last is the longest
        if rows >= ROWS or len(batch) == TEXTS or i == order[-1]:
            y, _ = layers["rnn"](embedded(layers, [ids[j][:-1] for j in batch]))
            for j, rows_of_one in zip(batch, y, strict=True):
                found[j] = _log_prob(layers, rows_of_one, ids[j][1:])
            batch = []
    return found


def _log_prob(layers: Layers, y: Any, targets: Ids) -> LogProb:
    loss, _ = losses.linear_cross_entropy(
        layers["output"], y, beside(targets, y), reduction="none", gradient=False
    )
    return -to_host(loss).astype(np.float64, copy=False)


class TextMethods(Parameterized):
    """What `fastrnn.LanguageModel` can do once it is fitted."""

    vocabulary_: Vocabulary
    layers_: dict[str, Any]
    _texts_end: bool  # whether it has learned where texts end

    def _streams_of(self, name: str, text: Any) -> tuple[list[Ids], bool]:
        """Each text as a stream of its own, and whether there is one that stands alone."""
        documents, alone = read_texts(name, text, self.vocabulary_.level)
        names = [name] if alone else [f"{name}[{i}]" for i in range(len(documents))]
        return [
            one_stream([one], self.vocabulary_, its)
            for its, one in zip(names, documents, strict=True)
        ], alone

    @overload
    def log_prob(self, text: str) -> LogProb: ...
    @overload
    def log_prob(self, text: Texts) -> Any: ...
    def log_prob(self, text: Texts) -> Any:
        """The logarithm of each token's probability, given the tokens before it.

        Parameters
        ----------
        text : str, list of tokens, or list of such
            One text or several, each read from its own beginning; see `fit` for what is which.

        Returns
        -------
        array of float64, shape (n,), or list of such arrays
            In nats, one for each token of a text; for an unknown token that of the unknown symbol.
            With ``boundary=False`` the first token is only read, and there are n - 1.

        Raises
        ------
        ValueError
            For a token that is not known, if the model was fitted with ``unknown=None``.
        """
        self._check_fitted("layers_")
        streams, alone = self._streams_of("text", text)
        if alone:
            return log_prob_of_one(self.layers_, streams[0])
        return log_prob_of_many(self.layers_, streams)

    def score(self, text: Texts) -> float:
        """The mean log-probability per token, in nats; higher is better.

        Parameters
        ----------
        text : str, list of tokens, or list of such
            One text or several; the mean is over the tokens of all.

        Raises
        ------
        ValueError
            If there is no token that has a probability.
        """
        found = self.log_prob(text)
        values = found if isinstance(found, np.ndarray) else np.concatenate([np.zeros(0), *found])
        if not len(values):
            raise ValueError(f"text: expected at least {self._at_least}, got none")
        return float(np.mean(values))

    @property
    def _at_least(self) -> str:
        return "one token" if self.vocabulary_.boundary else "one token after another"

    @overload
    def perplexity(self, text: str) -> float: ...
    @overload
    def perplexity(self, text: Texts) -> Any: ...
    def perplexity(self, text: Texts) -> Any:
        """exp(-mean log-probability per token): how many equally likely tokens it is like.

        Parameters
        ----------
        text : str, list of tokens, or list of such
            One text, whose state is carried from its first token to its last, or several, each from
            its own beginning.

        Returns
        -------
        float, or array of float64, shape (n_texts,)
            exp(-score) of a text, or of each.

        Raises
        ------
        ValueError
            If a text has no token that has a probability.
        """
        found = self.log_prob(text)
        if isinstance(found, np.ndarray):
            if not len(found):
                raise ValueError(f"text: expected at least {self._at_least}, got none")
            return metrics.perplexity(-float(np.mean(found)))
        for i, values in enumerate(found):
            if not len(values):
                raise ValueError(f"text[{i}]: expected at least {self._at_least}, got none")
        return np.array([metrics.perplexity(-values) for values in found])

    @overload
    def generate(
        self,
        n: int = 200,
        prompt: Texts | None = None,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: Any = None,
        stop: str | Sequence[str] | None = None,
        stream: Literal[True],
        allow_unknown: bool = False,
    ) -> Iterator[str]: ...
    @overload
    def generate(
        self,
        n: int,
        prompt: str,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: Any = None,
        stop: str | Sequence[str] | None = None,
        stream: Literal[False] = False,
        allow_unknown: bool = False,
    ) -> str: ...
    @overload
    def generate(
        self,
        n: int = 200,
        prompt: Texts | None = None,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: Any = None,
        stop: str | Sequence[str] | None = None,
        stream: bool = False,
        allow_unknown: bool = False,
    ) -> Any: ...
    def generate(
        self,
        n: int = 200,
        prompt: Texts | None = None,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: Any = None,
        stop: str | Sequence[str] | None = None,
        stream: bool = False,
        allow_unknown: bool = False,
    ) -> Any:
        """Write text, token by token, each drawn from the model's probabilities.

        Parameters
        ----------
        n : int, default 200
            Tokens to write, at most.
        prompt : str, list of tokens, or list of such, optional
            What the text begins with; it is read, not repeated. Several prompts, told from one as
            the texts of `fit` are, are gone on with side by side.
        temperature : float, default 1.0
            Logits are divided by it: below 1 likely tokens become likelier. 0 always takes the most
            likely token.
        top_k : int, optional
            Draw from the k most likely tokens alone.
        top_p : float, optional
            Draw from the most likely tokens that have at least this probability together.
        seed : int, numpy.random.Generator or None
            The same seed gives the same text; an int the same for a prompt alone and among others.
        stop : str or list of str, optional
            Stop when the text written ends with this, or one of these; it is part of the result.
            With ``level="token"``: when this token, or one of these, has been written.
        stream : bool, default False
            Give an iterator over pieces of the text, each as soon as it is drawn. For one prompt.
        allow_unknown : bool, default False
            Whether the unknown symbol may be drawn; it is written as it reads.

        Returns
        -------
        str, list, or iterator of str
            The text without the prompt; with ``level="token"`` a list of tokens; for several
            prompts a list of such. The end of a text ends it, if the model was fitted to several
            texts with the boundary between them, and is else never drawn.

        Raises
        ------
        ValueError
            For a prompt's token that is not known, if the model was fitted with ``unknown=None``;
            for a prompt without tokens with ``boundary=False``, where nothing else comes first.
        """
        self._check_fitted("layers_")
        vocabulary = self.vocabulary_
        if prompt is None:
            prompt = [] if vocabulary.level == TOKENS else ""
        read, alone = self._streams_of("prompt", prompt)
        for i, ids in enumerate(read):
            if not len(ids):
                where = "prompt" if alone else f"prompt[{i}]"
                raise ValueError(f"{where}: expected at least one token (boundary=False), got none")
        if check_bool("stream", stream) and not alone:
            raise ValueError(f"stream: expected one prompt with it, got a list of {len(read)}")
        stops = read_stops(stop, vocabulary.level)
        unknown = check_bool("allow_unknown", allow_unknown)
        symbols = (
            (vocabulary.unknown_number, unknown),
            (vocabulary.boundary_number, self._texts_end),
        )
        never = [number for number, drawn in symbols if number is not None and not drawn]
        if len(never) == len(vocabulary):
            raise ValueError("allow_unknown: expected True, for no other token is known, got False")
        draw = [
            Sampler(temperature, top_k, top_p, generator, never)
            for generator in _generators(seed, len(read))
        ]
        pieces = write(self.layers_, vocabulary, check_int("n", n, 0), read, draw, stops)
        if stream:
            return (piece for (piece,) in pieces if piece is not None)
        written: list[list[str]] = [[] for _ in read]
        for row in pieces:
            for one, piece in zip(written, row, strict=True):
                if piece is not None:
                    one.append(piece)
        texts = written if vocabulary.level == TOKENS else ["".join(one) for one in written]
        return texts[0] if alone else texts


def _generators(seed: Any, n: int) -> list[np.random.Generator]:
    """A generator for each of n texts: the same numbers for each from an int."""
    first = check_random_state("seed", seed)
    if n == 1:
        return [first]
    if isinstance(seed, np.random.Generator) or seed is None:
        return list(first.spawn(n))
    return [check_random_state("seed", seed) for _ in range(n)]
