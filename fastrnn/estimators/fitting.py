"""What `fit` does in all estimators that learn from examples: read, check, split, train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from fastrnn.checks import describe
from fastrnn.engine.devices import check_host, find
from fastrnn.estimators.base import Examples, SequenceEstimator, held_out_index
from fastrnn.files import FormatError
from fastrnn.sequences.data import Samples
from fastrnn.sequences.network import Encoder, Loss
from fastrnn.sequences.targets import Classes, Labels
from fastrnn.serving.judge import Judge, Reader
from fastrnn.serving.stored import TARGETS, Tensors, describe_judge, expect, read_judge
from fastrnn.serving.streams import AnswerStream

__all__ = ["Entrance", "SupervisedEstimator"]

Array = NDArray[Any]


class Entrance(NamedTuple):
    """What stands before the recurrent layers of a new network.

    Attributes
    ----------
    width : int
        D, of what enters them.
    dtype : dtype
        Of all layers.
    encoder : Encoder or None
        None: the sequences are vectors (T_i, D) already.
    """

    width: int
    dtype: np.dtype
    encoder: Encoder | None = None


class SupervisedEstimator(SequenceEstimator):
    """An estimator that is fitted to X and y.

    A subclass gives the methods under "X" and "y", or takes them from the classes of this folder
    that read numbers, tokens and classes.
    """

    _targets: Any

    # X

    def _read(self, X: Any, lengths: Any, *, reset: bool, name: str = "X") -> Samples:
        """The sequences of X; with `reset` they decide what later ones must have."""
        raise NotImplementedError

    def _learn_input(self, samples: Samples, weight: Any) -> None:
        """Learn what turns sequences into items for the network: scaling, a vocabulary."""
        raise NotImplementedError

    def _items(self, samples: Samples) -> list[Any]:
        """The sequences as the network takes them."""
        return self._reader.items(samples)

    def _entrance(self, samples: Samples) -> Entrance:
        """What a new network begins with."""
        raise NotImplementedError

    # y

    def _read_y(self, y: Any, samples: Samples, name: str = "y") -> Any:
        """The targets, one for each sequence or each step."""
        raise NotImplementedError

    def _make_targets(self, y: Any, weight: Any, classes: Any) -> Any:
        """What turns them into numbers, and outputs into predictions."""
        raise NotImplementedError

    def _loss(self) -> Loss:
        """The loss of a batch."""
        raise NotImplementedError

    def _encode(self, y: Any, name: str) -> Any:
        """The targets as the loss takes them."""
        return self._targets.encode(y, name)

    def _weights(self, sample_weight: Any, samples: Samples) -> Any:
        """A weight for each sequence, float64."""
        check_host("sample_weight", sample_weight)
        weight = _check_sample_weight(
            sample_weight, np.empty((len(samples), 1)), dtype=np.float64,
            ensure_non_negative=True,
        )  # fmt: skip
        if not weight.any():
            raise ValueError("sample_weight: expected some weights above 0, got all 0")
        return weight

    def _weigh_classes(self, y: Any, weight: Any, partial: bool) -> None:
        """Learn what `class_weight` makes of the training targets."""

    def _weights_of_classes(self, y: Any, weight: Any) -> Any:
        """The weights times what `class_weight` says of each target."""
        return weight

    def _merged(self, samples: Samples, y: Any, weight: Any) -> tuple[Samples, Any, Any]:
        """The same, with sequences that come more than once as one where that is the same."""
        return samples, y, weight

    def _strata(self, y: Any) -> Array | None:
        """What a split is to have equal parts of."""
        return None

    # Fitting

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        lengths: Any = None,
        eval_set: Any = None,
        *,
        device: Any = None,
        partial: bool = False,
        classes: Any = None,
    ) -> Self:
        """Read, check, make a network or go on with the one there is, and train it."""
        plan = self._check_parameters()
        target = None if device is None else find(device)
        if partial:
            plan = dataclasses.replace(plan, max_iter=1, early_stopping=False)
        go_on = (partial or self.warm_start) and hasattr(self, "layers_")
        if go_on:
            self._check_as_made()
        with self._unchanged_on_error() as before:
            samples = self._read(X, lengths, reset=not go_on)
            y = self._read_y(y, samples)
            weight = self._weights(sample_weight, samples)
            splits = plan.early_stopping and eval_set is None
            if not splits:
                samples, y, weight = self._merged(samples, y, weight)
            if not go_on:
                self._random = self._generator()
                self._targets = self._make_targets(y, weight, classes)
            kept, held = _counting(weight), np.arange(0)
            if splits:
                kept, held = held_out_index(
                    len(samples), self.validation_fraction, self._random, self._strata(y)
                )
            if not go_on:
                self._learn_input(samples.take(kept), _take(weight, kept))
            self._weigh_classes(y, weight, partial)
            examples = self._examples(samples, y, weight)
            held_out = None if eval_set is None else self._held_out(eval_set)
            if len(held):
                held_out = examples.take(held)
            examples = examples.take(kept)
            if not go_on:
                width, dtype, encoder = self._entrance(samples)
                self._make_network(width, self._targets.n_outputs, dtype, encoder)
        return self._train(
            plan, self._loss(), examples, held_out, before, device=target, keep_optimizer=partial
        )

    def _examples(self, samples: Samples, y: Any, weight: Any, name: str = "y") -> Examples:
        """What the network learns from, or is validated with."""
        targets = self._encode(y, name)
        weight = self._weights_of_classes(y, weight)
        return Examples(self._items(samples), samples.lengths, targets, weight)

    def _held_out(self, eval_set: Any) -> Examples:
        """The examples of `eval_set`, (X, y) or (X, y, lengths)."""
        if not isinstance(eval_set, (tuple, list)) or len(eval_set) not in (2, 3):
            raise ValueError(
                f"eval_set: expected (X, y) or (X, y, lengths), got {describe(eval_set)}"
            )
        X, y, lengths = (*eval_set, None)[:3]
        samples = self._read(X, lengths, reset=False, name="eval_set")
        y = self._read_y(y, samples, "eval_set")
        return self._examples(samples, y, self._weights(None, samples), "eval_set")

    # Inference

    @property
    def _reader(self) -> Reader:
        """How X is read that is judged."""
        raise NotImplementedError

    @property
    def _judge(self) -> Judge:
        """What answers, or scikit-learn's NotFittedError."""
        check_is_fitted(self, "layers_")
        return Judge(self._network, self._reader, self._targets, self.n_threads)

    def stream(self, batch_size: int = 1, answer: str = "predict") -> AnswerStream:
        """Answer about sequences that arrive step by step.

        Parameters
        ----------
        batch_size : int
            How many sequences.
        answer : {"predict", "predict_proba", "decision_function", "transform"}
            What to tell after each step.

        Returns
        -------
        AnswerStream
            With ``step(x_t)``, ``push(chunk)``, ``reset``, ``add`` and ``drop``.

        Raises
        ------
        ValueError
            Of texts, of recurrent layers of both directions, and of pooling by a mean or attention.
        """
        return AnswerStream(self._judge, batch_size, answer)

    # Files

    def to_file(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What `save` keeps: a description, and the arrays."""
        told, tensors = describe_judge(self._judge, self._made_with)
        counts = self.__dict__.get("_counts")
        if counts is not None:
            tensors["counts"] = np.asarray(counts, np.int64)
        return {**self._header(), **told, "counted": counts is not None}, tensors

    @classmethod
    def from_file(cls, remembered: Mapping[str, Any], tensors: Mapping[str, Any]) -> Self:
        """The estimator that `to_file` has described."""
        model = cls._from_header(remembered)
        left = Tensors(tensors)
        counts = left.take("counts", 1, np.int64) if expect(remembered, "counted", bool) else None
        judge = read_judge(remembered, left, TARGETS[cls.__name__], model.n_threads)
        if (judge.network.pool.pooling is not None) != cls._pooled:
            raise FormatError(f"pooling: expected that of a {cls.__name__}")
        model._take_input(judge, counts)
        model._targets = judge.targets
        if isinstance(judge.targets, (Classes, Labels)):
            model.classes_ = judge.targets.classes
        model._take_network(judge.network, remembered["made"])
        return model

    def _take_input(self, judge: Judge, counts: Array | None) -> None:
        """Set what turns sequences into items, out of a file."""
        raise NotImplementedError


def _counting(weight: Any) -> Array:
    """The numbers of the sequences that weigh more than nothing."""
    if isinstance(weight, np.ndarray):
        return np.flatnonzero(weight)
    return np.array([i for i, steps in enumerate(weight) if np.any(steps)], dtype=np.int64)


def _take(values: Any, index: Array) -> Any:
    """Some of an array or a list."""
    return values[index] if isinstance(values, np.ndarray) else [values[i] for i in index]
