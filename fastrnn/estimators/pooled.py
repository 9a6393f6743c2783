"""One row for each sequence: what is judged, and what `transform` gives as features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.metaestimators import available_if

from fastrnn.estimators.fitting import SupervisedEstimator
from fastrnn.estimators.numeric import NumericSequences
from fastrnn.estimators.repeats import merge_repeats
from fastrnn.sequences.data import Samples, form_of

__all__ = ["Pooled", "PooledNumbers", "attends"]

Array = NDArray[Any]


class Pooled(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SupervisedEstimator):
    """An estimator with one target for each sequence, whose pooled states are features."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        """The number of columns of `transform`."""
        return self._network.output.in_features

    def _pooled_states(self, X: Any, lengths: Any = None) -> Array:
        """What the last linear layer sees, a row for each sequence."""
        return self._judge.transform(self._read(X, lengths, reset=False))

    def _step_weights(self, X: Any, lengths: Any = None) -> list[Array]:
        """With attention: how much each step weighs in its sequence's row."""
        return self._judge.attention(self._read(X, lengths, reset=False))


def attends(estimator: Any) -> bool:
    """Whether an estimator has weights of steps to tell."""
    return bool(estimator.pooling == "attention")


class PooledNumbers(Pooled, NumericSequences):
    """An estimator with one target for each sequence of numbers."""

    def _merged(self, samples: Samples, y: Any, weight: Any) -> tuple[Samples, Any, Any]:
        one_batch = self._batch_size(len(samples)) >= len(samples)
        if one_batch and not self.dropout and not self.recurrent_dropout:
            return merge_repeats(samples, y, weight)
        return samples, y, weight

    def transform(self, X: Any, lengths: Any = None) -> Array:
        """Compute the pooled states of sequences, what the last linear layer sees.

        Parameters
        ----------
        X : as for `fit`
        lengths : array of int (n,), optional
            How many steps of each sequence of an array (n, T, D) are real.

        Returns
        -------
        array (n, P)
            P is ``hidden_size``, twice that if `bidirectional`.

        Raises
        ------
        ValueError
            If X does not fit to what `fit` has seen.
        """
        return self._pooled_states(X, lengths)

    @available_if(attends)  # type: ignore[untyped-decorator]
    def attention_weights(self, X: Any, lengths: Any = None) -> Array | list[Array]:
        """Tell how much each step weighs in its sequence's pooled state.

        There only with ``pooling="attention"``.

        Parameters
        ----------
        X : as for `fit`
        lengths : array of int (n,), optional
            How many steps of each sequence of an array (n, T, D) are real.

        Returns
        -------
        array (n, T), or list of arrays (T_i,) for a list
            Each sequence's weights add up to 1; those of padding and of steps that
            ``missing="skip"`` leaves out are 0.
        """
        found = self._step_weights(X, lengths)
        # As long as the sequences are in X.
        whole = self._read_numbers(X, lengths, "keep", reset=False)
        rows = []
        for item, weights in zip(whole.items, found, strict=True):
            row = np.zeros(len(item), self._dtype)
            row[~np.isnan(item).all(axis=1)] = weights
            rows.append(row)
        if form_of(X) == "list":
            return rows
        shape = np.shape(X)
        T = shape[2] if len(shape) == 3 and self.input_layout == "ndt" else shape[1]
        out = np.zeros((len(rows), T), self._dtype)
        for to, row in zip(out, rows, strict=True):
            to[: len(row)] = row
        return out

    def fit_transform(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        lengths: Any = None,
        device: Any = None,
    ) -> Array:
        """Train, and compute the pooled states of the same sequences.

        Parameters
        ----------
        X, y, sample_weight, lengths, device
            As for `fit`.

        Returns
        -------
        array (n, P)
            See `transform`.
        """
        fitted = self.fit(X, y, sample_weight=sample_weight, lengths=lengths, device=device)
        return fitted.transform(X, lengths)
