"""A language model's layers put to use on text: how likely it is, and how it goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn import losses
from fastrnn.sampling import Sampler
from fastrnn.text import Ids, Vocabulary

__all__ = ["log_prob_of_many", "log_prob_of_one", "one_stream", "write"]

Layers = Mapping[str, Any]
LogProb = NDArray[np.float64]

WINDOW = 1024  # steps of one text taken at once
ROWS = 4096  # rows of a batch of texts, about
TEXTS = 64  # texts in a batch, at most


def one_stream(documents: list[str], vocabulary: Vocabulary) -> Ids:
    """Texts as one sequence of numbers, each after a boundary, several with one at the end."""
    boundary = np.array([Vocabulary.BOUNDARY])
    parts = [part for text in documents for part in (boundary, vocabulary.encode(text))]
    return np.concatenate([*parts, boundary] if len(documents) > 1 else parts)


def log_prob_of_one(layers: Layers, vocabulary: Vocabulary, text: str) -> LogProb:
    """The log-probability of each token, window by window: memory does not grow with the text."""
    ids = one_stream([text], vocabulary)
    found, state = [np.zeros(0)], None
    for begin in range(0, len(ids) - 1, WINDOW):
        end = min(begin + WINDOW, len(ids) - 1)
        y, state = layers["rnn"](layers["embedding"](ids[None, begin:end]), state=state)
        found.append(_log_prob(layers, y[0], ids[begin + 1 : end + 1]))
    return np.concatenate(found)


def log_prob_of_many(layers: Layers, vocabulary: Vocabulary, texts: list[str]) -> list[LogProb]:
    """The same for each of several texts, those of like length together."""
    ids = [one_stream([text], vocabulary) for text in texts]
    found: list[LogProb] = [np.zeros(0)] * len(ids)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    batch: list[int] = []
    for i in order:
        batch.append(i)
        rows = len(batch) * len(ids[i])  # the last is the longest
        if rows >= ROWS or len(batch) == TEXTS or i == order[-1]:
            y, _ = layers["rnn"](layers["embedding"]([ids[j][:-1] for j in batch]))
            for j, rows_of_one in zip(batch, y, strict=True):
                found[j] = _log_prob(layers, rows_of_one, ids[j][1:])
            batch = []
    return found


def _log_prob(layers: Layers, y: Any, targets: Ids) -> LogProb:
    loss, _ = losses.linear_cross_entropy(
        layers["output"], y, targets, reduction="none", gradient=False
    )
    return -np.asarray(loss, dtype=np.float64)


def write(
    layers: Layers,
    vocabulary: Vocabulary,
    n: int,
    prompt: str,
    sampler: Sampler,
    stops: tuple[str, ...],
) -> Iterator[str]:
    """Pieces of text, one per token drawn, after a prompt; see `LanguageModel.generate`."""
    stream = layers["rnn"].stream(1)
    read = one_stream([prompt], vocabulary)
    if len(read) > 1:
        stream.push(layers["embedding"](read[None, :-1]))
    token, before = int(read[-1]), None
    written, longest = "", max(map(len, stops), default=0)
    for _ in range(n):
        h = stream.step(layers["embedding"](np.array([token])))
        token = sampler.draw(layers["output"](h)[0])
        if token == Vocabulary.BOUNDARY:
            return
        piece = vocabulary.piece(token, before)
        before = token
        yield piece
        written = (written + piece)[-(longest + len(piece)) :]
        if stops and written.endswith(stops):
            return
