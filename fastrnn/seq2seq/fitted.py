"""A fitted encoder and decoder put to use: outputs, their probabilities and attention."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from fastrnn import metrics
from fastrnn.checks import check_bool, check_int, check_positive_int, check_real
from fastrnn.parameterized import Parameterized
from fastrnn.seq2seq import data
from fastrnn.seq2seq.data import Texts
from fastrnn.seq2seq.decoding import Hypotheses, beam_search, greedy, penalty
from fastrnn.seq2seq.network import FIRST, Network
from fastrnn.seq2seq.steps import Steps
from fastrnn.text.vocabulary import TOKENS, Ids, Vocabulary

__all__ = ["PairMethods"]

STEPS = 2**15  # of a chunk of sources: what lies between the layers stays in the caches
ROWS = 256  # of a chunk's beginnings, about
LOGITS = 2**23  # of a chunk at one step


class PairMethods(Parameterized):
    """What `fastrnn.Seq2Seq` can do once it has layers."""

    level: str
    source_vocabulary_: Vocabulary
    target_vocabulary_: Vocabulary
    layers_: dict[str, Any]
    _bridge: str
    _longest: tuple[int, int]  # source and target in training, in tokens
    _last: tuple[list[Ids], list[Ids]]  # what predict has read and written

    def _network(self) -> Network:
        return Network(self.layers_, self._bridge)

    @overload
    def predict(
        self,
        sources: Texts,
        beam_size: int = 1,
        *,
        max_length: int | None = None,
        length_penalty: float = 0.0,
        n_best: int | None = None,
        return_scores: Literal[False] = False,
    ) -> list[Any]: ...
    @overload
    def predict(
        self,
        sources: Texts,
        beam_size: int = 1,
        *,
        max_length: int | None = None,
        length_penalty: float = 0.0,
        n_best: None = None,
        return_scores: Literal[True],
    ) -> tuple[list[Any], NDArray[np.float64]]: ...
    @overload
    def predict(
        self,
        sources: Texts,
        beam_size: int = 1,
        *,
        max_length: int | None = None,
        length_penalty: float = 0.0,
        n_best: int,
        return_scores: Literal[True],
    ) -> tuple[list[list[Any]], list[NDArray[np.float64]]]: ...
    @overload
    def predict(
        self,
        sources: Texts,
        beam_size: int = 1,
        *,
        max_length: int | None = None,
        length_penalty: float = 0.0,
        n_best: int | None = None,
        return_scores: bool,
    ) -> Any: ...
    def predict(
        self,
        sources: Texts,
        beam_size: int = 1,
        *,
        max_length: int | None = None,
        length_penalty: float = 0.0,
        n_best: int | None = None,
        return_scores: bool = False,
    ) -> Any:
        """The likeliest targets that are found.

        Parameters
        ----------
        sources : list of str, or of lists of tokens
            Tokens that are not in the vocabulary are read as one unknown token.
        beam_size : int, default 1
            How many beginnings of a target are followed at each step. 1 takes the likeliest token
            at each step; with more, what that gives is among the outputs to choose from.
        max_length : int, optional
            Tokens of a target at most: its end is taken then. By default as many as the longest
            target in training has, in proportion more for sources longer than any there.
        length_penalty : float, default 0.0
            Targets are ranked by log-probability / ((5 + length) / 6)^length_penalty, their ends
            counted: the larger, the longer are preferred (Y. Wu et al., arXiv:1609.08144).
        n_best : int, optional
            Give so many targets for each source, at most `beam_size`, the best first.
        return_scores : bool, default False
            Give the targets' log-probabilities, in nats, as well: those of `log_prob`.

        Returns
        -------
        list of str, or of lists of tokens
            As the targets were that the model has learned from; with `n_best` a list of them for
            each source, shorter where there are not so many. The unknown token is never among them.
        scores : array of float64 (n,), or list of such arrays with `n_best`
            If `return_scores`.

        Raises
        ------
        ValueError, TypeError
            For a wrong argument, before any work.
        """
        self._check_fitted("layers_")
        options = _Search(beam_size, max_length, length_penalty)
        if n_best is not None and check_positive_int("n_best", n_best) > options.size:
            raise ValueError(
                f"n_best: expected at most beam_size, which is {options.size}, got {n_best}"
            )
        check_bool("return_scores", return_scores)
        items = self._read_sources("sources", data.as_texts("sources", sources))
        found = self._search(items, options)
        self._last = items, [_framed(hypotheses[0][0]) for hypotheses in found]
        best = [hypotheses[: n_best or 1] for hypotheses in found]
        texts: list[Any] = [[self._text(ids) for ids, _ in one] for one in best]
        scores: Any = [np.array([score for _, score in one]) for one in best]
        if n_best is None:
            texts, scores = [one[0] for one in texts], np.array([one[0] for one in scores])
        return (texts, scores) if return_scores else texts

    def log_prob(self, sources: Texts, targets: Texts) -> NDArray[np.float64]:
        """The logarithm of each target's probability, given its source.

        Parameters
        ----------
        sources, targets : lists of str, or of lists of tokens
            As many of each. A token that is not in the vocabulary counts as the unknown one.

        Returns
        -------
        array of float64, shape (n,)
            In nats, the sum over a target's tokens and its end.
        """
        items, written = self._read_pairs(sources, targets)
        found = np.zeros(len(items))
        network = self._network()
        for part in _chunks([len(s) + len(t) for s, t in zip(items, written, strict=True)]):
            with network.entered():
                rows = network.log_prob([items[i] for i in part], [written[i] for i in part])
            found[part] = [np.cumsum(one)[-1] for one in rows]  # in the order of the search
        return found

    def score(
        self,
        sources: Texts,
        targets: Sequence[Any],
        beam_size: int = 1,
        *,
        max_length: int | None = None,
        length_penalty: float = 0.0,
    ) -> float:
        """How good the outputs are; higher is better.

        Parameters
        ----------
        sources : list of str, or of lists of tokens
        targets : list of str, or of lists of tokens
            One for each source, or a list of several, of which each is right.
        beam_size, max_length, length_penalty
            As for `predict`.

        Returns
        -------
        float
            With ``level="word"`` BLEU (see `fastrnn.metrics.bleu`), in [0, 1]; else the mean of 1 -
            edit distance / length of the longer, of several targets the best.
        """
        self._check_fitted("layers_")
        known = [self._references(i, target) for i, target in enumerate(targets)]
        data.check_pairs(("sources", "targets"), list(sources), known)
        outputs = self.predict(
            sources, beam_size, max_length=max_length, length_penalty=length_penalty
        )
        split = self.target_vocabulary_.split
        pairs: list[Any] = [
            (list(split(one)), [list(split(other, f"targets[{i}]")) for other in several])
            for i, (one, several) in enumerate(zip(outputs, known, strict=True))
        ]
        if self.level == "word":
            return metrics.bleu([one for one, _ in pairs], [several for _, several in pairs])
        distances = [
            min(metrics.edit_distance(one, other, normalized=True) for other in several)
            for one, several in pairs
        ]
        return 1.0 - float(np.mean(distances))

    def _references(self, i: int, target: Any) -> list[Any]:
        """A target, or several, as a list of them."""
        split = self.target_vocabulary_.level == TOKENS
        if isinstance(target, str):
            one = True
        else:
            target = list(target)
            one = split and all(isinstance(token, str) for token in target)
        several = data.as_texts(f"targets[{i}]", [target] if one else target)
        if not several:
            raise ValueError(f"targets[{i}]: expected at least one text, got none")
        return several

    # Attention

    def attention_weights(self, sources: Texts, targets: Texts) -> list[NDArray[Any]]:
        """How much each token of a source weighs when each token of its target is written.

        Parameters
        ----------
        sources, targets : lists of str, or of lists of tokens
            As many of each.

        Returns
        -------
        list of n arrays (tokens of the target, tokens of the source)
            Each row adds up to 1.

        Raises
        ------
        ValueError
            If the model has no attention.
        """
        return self._weights(*self._read_pairs(sources, targets))

    @property
    def attention_(self) -> list[NDArray[Any]]:
        """`attention_weights` of what `predict` has read and written last."""
        if not hasattr(self, "_last"):
            raise AttributeError("attention_: expected a call of predict before, got none")
        if "attention" not in self.layers_:
            raise AttributeError("attention_: expected a model with 'additive' or 'dot', got None")
        return self._weights(*self._last)

    def _weights(self, sources: list[Ids], targets: list[Ids]) -> list[NDArray[Any]]:
        if "attention" not in self.layers_:
            raise ValueError("attention: expected a model with 'additive' or 'dot', got None")
        found: list[Any] = [None] * len(sources)
        network = self._network()
        for part in _chunks([len(s) + len(t) for s, t in zip(sources, targets, strict=True)]):
            with network.entered():
                weights = network.weights([sources[i] for i in part], [targets[i] for i in part])
            for i, one in zip(part, weights, strict=True):
                found[i] = one
        return found

    # The search

    def _search(self, items: list[Ids], options: _Search) -> list[Hypotheses]:
        network = self._network()
        found: list[Hypotheses] = [[]] * len(items)
        limits = np.array([options.limit(len(ids) - 1, self._longest) for ids in items], np.int64)
        at_once = max(1, min(ROWS, LOGITS // len(self.target_vocabulary_)) // options.size)
        for part in _chunks([len(ids) for ids in items], at_once):
            with network.entered():
                outputs = options.run(network, [items[i] for i in part], limits[part])
            for i, one in zip(part, outputs, strict=True):
                found[i] = one
        return found

    def _text(self, ids: Ids) -> Any:
        """A target as those that were learned."""
        vocabulary = self.target_vocabulary_
        if vocabulary.level == TOKENS:
            return [vocabulary.token(number) for number in ids.tolist()]
        return vocabulary.decode(ids)

    def _read_sources(self, name: str, texts: list[Any]) -> list[Ids]:
        return data.encode_sources(name, texts, self.source_vocabulary_)

    def _read_pairs(self, sources: Texts, targets: Texts) -> tuple[list[Ids], list[Ids]]:
        self._check_fitted("layers_")
        first, second = data.as_texts("sources", sources), data.as_texts("targets", targets)
        if first or second:
            data.check_pairs(("sources", "targets"), first, second)
        return (
            self._read_sources("sources", first),
            data.encode_targets("targets", second, self.target_vocabulary_),
        )


class _Search:
    """How outputs are searched for: the arguments of `predict`, checked."""

    def __init__(self, beam_size: int, max_length: int | None, length_penalty: float) -> None:
        self.size = check_positive_int("beam_size", beam_size)
        self.max_length = None if max_length is None else check_int("max_length", max_length, 0)
        self.exponent = check_real("length_penalty", length_penalty, minimum=0.0)

    def limit(self, length: int, longest: tuple[int, int]) -> int:
        """The most tokens of the output for a source of so many."""
        if self.max_length is not None:
            return self.max_length
        source, target = longest
        if not source:  # no pair has been seen
            return 2 * length + 10
        return max(target, -(-target * length // source))

    def run(self, network: Network, items: list[Ids], limits: NDArray[Any]) -> list[Hypotheses]:
        """The outputs of some sources, the best first."""
        end = Vocabulary.BOUNDARY
        likely = greedy(Steps(network, items), limits, end, FIRST)
        if self.size == 1:
            return likely
        found = beam_search(Steps(network, items), limits, end, FIRST, self.size, self.exponent)
        return [self._joined(*both) for both in zip(found, likely, strict=True)]

    def _joined(self, found: Hypotheses, likely: Hypotheses) -> Hypotheses:
        """What the beams have found, with the greedy output in its place if they have not."""
        known = [ids.tobytes() for ids, _ in found]
        new = [one for one in likely if one[0].tobytes() not in known]
        ranked = sorted(
            found + new, key=lambda one: -one[1] / penalty(len(one[0]) + 1, self.exponent)
        )
        return ranked[: self.size]


def _framed(ids: Ids) -> Ids:
    """A target between its boundaries."""
    return np.concatenate([data.BOUNDARY, ids, data.BOUNDARY])


def _chunks(lengths: list[int], at_once: int = ROWS) -> Iterator[list[int]]:
    """Numbers of sequences, those of like length together, not too many at once."""
    part: list[int] = []
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    for i in order:
        if part and (len(part) == at_once or lengths[i] * (len(part) + 1) > STEPS):
            yield part
            part = []
        part.append(i)
    if part:
        yield part
