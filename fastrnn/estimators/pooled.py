"""One row for each sequence: what is judged, and what `transform` gives as features."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin

from fastrnn.estimators.fitting import SupervisedEstimator
from fastrnn.estimators.numeric import NumericSequences
from fastrnn.thread_count import threads

__all__ = ["Pooled", "PooledNumbers"]

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

    def _answers(self, X: Any, lengths: Any = None) -> Array:
        """The network's outputs, a row for each sequence."""
        return self._outputs(self._prepared(X, lengths))

    def _pooled_states(self, X: Any, lengths: Any = None) -> Array:
        """What the last linear layer sees, a row for each sequence."""
        items = self._prepared(X, lengths)
        with threads(self.n_threads):
            return self._network.rows(items)


class PooledNumbers(Pooled, NumericSequences):
    """An estimator with one target for each sequence of numbers."""

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
        return self._pooled_states(X, lengths)

    def fit_transform(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, lengths: Any = None
    ) -> Array:
        """`fit`, and then `transform` of the same sequences."""
        return self.fit(X, y, sample_weight=sample_weight, lengths=lengths).transform(X, lengths)
