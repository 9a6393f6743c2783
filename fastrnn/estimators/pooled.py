"""Estimators with one target for each sequence of numbers: reading X, weights, held-out sets."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_is_fitted,
    validate_data,
)

from fastrnn.checks import check_bool, check_option, describe
from fastrnn.estimators.base import Examples, SequenceEstimator, held_out_index
from fastrnn.sequence_data import LAYOUTS, MISSING, Channels, Samples, form_of, read_samples
from fastrnn.thread_count import threads

__all__ = ["NumericSequences"]

Array = NDArray[Any]


class NumericSequences(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SequenceEstimator):
    """An estimator whose X are sequences of numbers: arrays, tables, lists.

    Fitted attributes: ``n_features_in_``, the number of columns of a table or the number of
    channels of whatever else, and ``channels_``, mean and scale of each channel (None without
    `standardize`).
    """

    def _check_parameters(self) -> Any:
        plan = super()._check_parameters()
        check_bool("standardize", self.standardize)
        check_option("input_layout", self.input_layout, LAYOUTS)
        check_option("missing", self.missing, MISSING)
        return plan

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = self.missing == "skip"
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        """The number of columns of `transform`."""
        return self._network.output.in_features

    # X

    def _read(self, X: Any, lengths: Any, *, reset: bool) -> Samples:
        """The sequences of X; with `reset` they decide what later ones must have."""
        dtype = None if self.dtype is None else np.dtype(self.dtype)
        if not reset:
            dtype = self._network.rnn.dtype
        form = form_of(X)
        if form == "table":
            X = self._read_table(X, reset)
        elif reset:
            for name in ("feature_names_in_", "_table_columns"):
                self.__dict__.pop(name, None)
        samples = read_samples(X, lengths, dtype, self.input_layout, self.missing)
        if reset:
            self._width = samples.width
            if form != "table":
                self.n_features_in_ = samples.width
        elif samples.width != self._width:
            raise ValueError(
                f"X: expected sequences of {self._width} channels, as fit has seen, "
                f"got {samples.width}"
            )
        return samples

    def _read_table(self, X: Any, reset: bool) -> Array:
        """A table (n, T) as an array, its columns compared with those of fit."""
        checks = {
            "dtype": [np.float64, np.float32],
            "ensure_all_finite": "allow-nan" if self.missing == "skip" else True,
        }
        if reset:
            X = validate_data(self, X, **checks)
            self._table_columns = X.shape[1]
            return X
        if hasattr(self, "_table_columns"):
            return validate_data(self, X, reset=False, **checks)
        return check_array(X, **checks)

    def _scaled(self, samples: Samples) -> Samples:
        return samples if self.channels_ is None else self.channels_.scaled(samples)

    def _prepared(self, X: Any, lengths: Any) -> Samples:
        """X as the network takes it."""
        check_is_fitted(self, "layers_")
        return self._scaled(self._read(X, lengths, reset=False))

    # Fitting

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        lengths: Any,
        eval_set: Any = None,
        *,
        partial: bool = False,
        classes: Any = None,
    ) -> Self:
        """Read, check, make a network or go on with the one there is, and train it."""
        plan = self._check_parameters()
        if partial:
            plan = dataclasses.replace(plan, max_iter=1, early_stopping=False)
        go_on = (partial or self.warm_start) and hasattr(self, "layers_")
        with self._unchanged_on_error() as before:
            samples = self._read(X, lengths, reset=not go_on)
            y = self._read_y(y, samples)
            weight = self._weights(sample_weight, samples)
            if not go_on:
                self._random = self._generator()
                self._targets = self._make_targets(y, weight, classes)
                self.channels_ = Channels.of(samples, weight) if self.standardize else None
            examples = self._examples(samples, y, weight)
            held_out = self._held_out(eval_set) if plan.early_stopping else None
            if plan.early_stopping and held_out is None:
                kept, held = held_out_index(
                    len(samples), self.validation_fraction, self._random, self._strata(y)
                )
                examples, held_out = examples.take(kept), examples.take(held)
            if not go_on:
                self._make_network(samples.width, self._targets.n_outputs, samples.items[0].dtype)
        return self._train(plan, self._loss(), examples, held_out, before, keep_optimizer=partial)

    def _examples(self, samples: Samples, y: Array, weight: Array, name: str = "y") -> Examples:
        """What the network learns from, or is validated with."""
        codes = self._targets.encode(y, name)
        weight = weight * self._class_weights(y)
        return Examples(self._scaled(samples).items, samples.lengths, codes, weight)

    def _held_out(self, eval_set: Any) -> Examples | None:
        """The examples of `eval_set`, (X, y) or (X, y, lengths)."""
        if eval_set is None:
            return None
        if not isinstance(eval_set, (tuple, list)) or len(eval_set) not in (2, 3):
            raise ValueError(
                f"eval_set: expected (X, y) or (X, y, lengths), got {describe(eval_set)}"
            )
        X, y, lengths = (*eval_set, None)[:3]
        samples = self._read(X, lengths, reset=False)
        return self._examples(samples, self._read_y(y, samples), np.ones(len(samples)), "eval_set")

    def _weights(self, sample_weight: Any, samples: Samples) -> Array:
        """One weight for each sequence, float64."""
        weight = _check_sample_weight(
            sample_weight, np.empty((len(samples), 1)), dtype=np.float64,
            ensure_non_negative=True,
        )  # fmt: skip
        if not weight.any():
            raise ValueError("sample_weight: expected some weights above 0, got all 0")
        return weight

    def _class_weights(self, y: Array) -> Any:
        """A factor for each sequence's weight."""
        return 1.0

    def _strata(self, y: Array) -> Array | None:
        """What a split is to have equal parts of."""
        return None

    def _answers(self, X: Any, lengths: Any) -> Array:
        """The network's outputs, a row for each sequence."""
        return self._outputs(self._prepared(X, lengths).items)

    def transform(self, X: Any, lengths: Any = None) -> Array:
        """The pooled states of sequences, what the last linear layer sees.

        Parameters
        ----------
        X : as for `fit`
        lengths : array of int (n,), optional
            Of the sequences of an array (n, T, D).

        Returns
        -------
        array (n, P)
            P is ``hidden_size``, twice that if `bidirectional`.
        """
        samples = self._prepared(X, lengths)
        with threads(self.n_threads):
            return self._network.rows(samples.items)

    def fit_transform(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, lengths: Any = None
    ) -> Array:
        """`fit`, and then `transform` of the same sequences."""
        return self.fit(X, y, sample_weight=sample_weight, lengths=lengths).transform(X, lengths)
