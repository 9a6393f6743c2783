"""Writing text with a language model, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn.engine.arrays import beside, to_host
from fastrnn.text.sampling import Sampler
from fastrnn.text.vocabulary import TOKENS, Ids, Vocabulary, as_tokens

__all__ = ["embedded", "read_stops", "write"]


def embedded(layers: Mapping[str, Any], ids: Any) -> Any:
    """The vectors of tokens, arrays of the host, where the layers are."""
    like = layers["embedding"].params["weight"]
    if isinstance(ids, list):
        return layers["embedding"]([beside(one, like) for one in ids])
    return layers["embedding"](beside(ids, like))


def read_stops(stop: Any, level: str) -> tuple[str, ...]:
    """What ends a text, one str or several, as a tuple."""
    if stop is None:
        return ()
    if isinstance(stop, str):
        stops = [stop]
    else:
        stops = as_tokens("stop", stop, "a str or ")
    if level != TOKENS and "" in stops:
        raise ValueError("stop: expected text of at least one character, got ''")
    return tuple(stops)


class _Writer:
    """One text that is being written."""

    def __init__(
        self, first: int, sampler: Sampler, vocabulary: Vocabulary, stops: tuple[str, ...]
    ) -> None:
        self.token = first  # what is read next
        self.sampler, self.vocabulary, self.stops = sampler, vocabulary, stops
        self.before: int | None = None
        self.written = ""
        self.longest = max(map(len, stops), default=0)
        self.ended = False

    def go_on(self, logits: Any) -> str | None:
        """The next piece of text; None if it has ended."""
        if self.ended:
            return None
        self.token = self.sampler.draw(logits)
        if self.token == self.vocabulary.boundary_number:
            self.ended = True
            return None
        if self.vocabulary.level == TOKENS:
            piece = self.vocabulary.token(self.token)
            self.ended = piece in self.stops
            return piece
        piece = self.vocabulary.piece(self.token, self.before)
        self.before = self.token
        self.written = (self.written + piece)[-(self.longest + len(piece)) :]
        self.ended = bool(self.stops) and self.written.endswith(self.stops)
        return piece


def write(
    layers: Mapping[str, Any],
    vocabulary: Vocabulary,
    n: int,
    prompts: Sequence[Ids],
    samplers: Sequence[Sampler],
    stops: tuple[str, ...],
) -> Iterator[list[str | None]]:
    """Pieces of several texts, one of each per token drawn; see `TextMethods.generate`.

    Parameters
    ----------
    prompts : sequence of arrays of int
        What each text begins with, at least one number.
    samplers : sequence of Sampler
        One for each.

    Yields
    ------
    list of str or None
        The next piece of each text, None where it has ended; at most n times.
    """
    if not prompts:
        return
    writers = [
        _Writer(int(prompt[-1]), sampler, vocabulary, stops)
        for prompt, sampler in zip(prompts, samplers, strict=True)
    ]
    stream = layers["rnn"].stream(len(writers))
    _, stream.state = layers["rnn"](embedded(layers, [prompt[:-1] for prompt in prompts]))
    for _ in range(n):
        h = stream.step(embedded(layers, np.array([writer.token for writer in writers])))
        logits = to_host(layers["output"](h))
        pieces = [writer.go_on(row) for writer, row in zip(writers, logits, strict=True)]
        if any(piece is not None for piece in pieces):
            yield pieces
        if all(writer.ended for writer in writers):
            return
