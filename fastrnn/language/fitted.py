"""A fitted language model put to use on text: how likely it is, and how it goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn import losses, metrics
from fastrnn.checks import check_int, check_random_state, describe
from fastrnn.parameterized import Parameterized
from fastrnn.text.sampling import Sampler
from fastrnn.text.vocabulary import Ids, Vocabulary, as_documents

__all__ = ["Text", "TextMethods", "log_prob_of_many", "log_prob_of_one", "one_stream", "write"]

Layers = Mapping[str, Any]
LogProb = NDArray[np.float64]
Text = str | Sequence[str]

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
    """Pieces of text, one per token drawn, after a prompt; see `TextMethods.generate`."""
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


class TextMethods(Parameterized):
    """What `fastrnn.LanguageModel` can do once it is fitted."""

    vocabulary_: Vocabulary
    layers_: dict[str, Any]
    _texts_end: bool  # whether it has learned where texts end

    def log_prob(self, text: Text) -> Any:
        """The logarithm of each token's probability, given the tokens before it.

        Parameters
        ----------
        text : str or list of str
            One text or several, each read from its own beginning.

        Returns
        -------
        array of float64, shape (n,), or list of such arrays
            In nats, one for each token of a text; for an unknown token that of the unknown symbol.
        """
        self._check_fitted("layers_")
        documents = as_documents("text", text)
        if isinstance(text, str):
            return log_prob_of_one(self.layers_, self.vocabulary_, text)
        return log_prob_of_many(self.layers_, self.vocabulary_, documents)

    def score(self, text: Text) -> float:
        """The mean log-probability per token, in nats; higher is better.

        Parameters
        ----------
        text : str or list of str
            One text or several; the mean is over the tokens of all.

        Raises
        ------
        ValueError
            If there is no token.
        """
        found = self.log_prob(text)
        values = found if isinstance(text, str) else np.concatenate([np.zeros(0), *found])
        if not len(values):
            raise ValueError("text: expected at least one token, got none")
        return float(np.mean(values))

    def perplexity(self, text: Text) -> Any:
        """exp(-mean log-probability per token): how many equally likely tokens it is like.

        Parameters
        ----------
        text : str or list of str
            One text, whose state is carried from its first token to its last, or several, each from
            its own beginning.

        Returns
        -------
        float, or array of float64, shape (n_texts,)
            exp(-score) of a text, or of each.

        Raises
        ------
        ValueError
            If a text has no token.
        """
        if isinstance(text, str):
            return metrics.perplexity(-self.score(text))
        found = self.log_prob(text)
        for i, values in enumerate(found):
            if not len(values):
                raise ValueError(f"text[{i}]: expected at least one token, got none")
        return np.array([metrics.perplexity(-values) for values in found])

    def generate(
        self,
        n: int = 200,
        prompt: str = "",
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: Any = None,
        stop: str | Sequence[str] | None = None,
        stream: bool = False,
    ) -> Any:
        """Write text, token by token, each drawn from the model's probabilities.

        Parameters
        ----------
        n : int, default 200
            Tokens to write, at most.
        prompt : str, default ""
            What the text begins with; it is read, not repeated.
        temperature : float, default 1.0
            Logits are divided by it: below 1 likely tokens become likelier. 0 always takes the most
            likely token.
        top_k : int, optional
            Draw from the k most likely tokens alone.
        top_p : float, optional
            Draw from the most likely tokens that have at least this probability together.
        seed : int, numpy.random.Generator or None
            The same seed gives the same text.
        stop : str or list of str, optional
            Stop when the text written ends with this, or one of these; it is part of the result.
        stream : bool, default False
            Give an iterator over pieces of the text, each as soon as it is drawn.

        Returns
        -------
        str, or iterator of str
            The text without the prompt. The unknown symbol is never drawn; the end of a text ends
            it, if the model was fitted to a list of texts, and is else never drawn either.
        """
        self._check_fitted("layers_")
        if not isinstance(prompt, str):
            raise TypeError(f"prompt: expected str, got {describe(prompt)}")
        stops = () if stop is None else tuple(as_documents("stop", stop))
        if "" in stops:
            raise ValueError("stop: expected text of at least one character, got ''")
        forbidden = [Vocabulary.UNKNOWN] + [Vocabulary.BOUNDARY] * (not self._texts_end)
        sampler = Sampler(temperature, top_k, top_p, check_random_state("seed", seed), forbidden)
        n = check_int("n", n, 0)
        pieces = write(self.layers_, self.vocabulary_, n, prompt, sampler, stops)
        return pieces if stream else "".join(pieces)
