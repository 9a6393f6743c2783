"""Classes, or labels, of whole sequences."""

from __future__ import annotations

from typing import Any, Self

from numpy.typing import NDArray

from fastrnn.estimators.classification import SequenceClassifier
from fastrnn.estimators.pooled import PooledNumbers

__all__ = ["RNNClassifier"]

Array = NDArray[Any]


class RNNClassifier(SequenceClassifier, PooledNumbers):
    """A recurrent network that tells the class of a sequence."""

    def __init__(
        self,
        *,
        cell: str = "lstm",
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = False,
        nonlinearity: str = "tanh",
        pooling: str = "last",
        standardize: bool = True,
        missing: str = "error",
        input_layout: str = "ntd",
        alpha: float = 1e-4,
        solver: str = "adam",
        learning_rate_init: float = 0.005,
        learning_rate: Any = "constant",
        momentum: float = 0.9,
        batch_size: Any = "auto",
        shuffle: bool = True,
        max_iter: int = 200,
        max_grad_norm: float | None = 5.0,
        tbptt_steps: int | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        class_weight: Any = None,
        warm_start: bool = False,
        callbacks: Any = None,
        random_state: Any = None,
        verbose: int = 0,
        n_threads: int | None = None,
        dtype: Any = None,
    ) -> None:
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.reset_after = reset_after
        self.nonlinearity = nonlinearity
        self.pooling = pooling
        self.standardize = standardize
        self.missing = missing
        self.input_layout = input_layout
        self.alpha = alpha
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.max_iter = max_iter
        self.max_grad_norm = max_grad_norm
        self.tbptt_steps = tbptt_steps
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose
        self.n_threads = n_threads
        self.dtype = dtype

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        lengths: Any = None,
        eval_set: Any = None,
    ) -> Self:
        """Train on sequences and their classes."""
        return self._fit(X, y, sample_weight, lengths, eval_set)

    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: Any = None,
        *,
        sample_weight: Any = None,
        lengths: Any = None,
    ) -> Self:
        """One pass over some sequences; the first call fixes classes, width and scaling."""
        return self._fit(X, y, sample_weight, lengths, partial=True, classes=classes)

    def predict(self, X: Any, lengths: Any = None) -> Array:
        """The class of each sequence."""
        outputs = self._answers(X, lengths)
        return self._targets.predict(outputs)

    def predict_proba(self, X: Any, lengths: Any = None) -> Array:
        """The probability of each class."""
        outputs = self._answers(X, lengths)
        return self._targets.predict_proba(outputs)

    def decision_function(self, X: Any, lengths: Any = None) -> Array:
        """The logit of each class."""
        outputs = self._answers(X, lengths)
        return self._targets.decision_function(outputs)

    def score(self, X: Any, y: Any, sample_weight: Any = None, lengths: Any = None) -> float:
        """The mean accuracy; of labels, the share of sequences with all of them right."""
        return self._accuracy(y, self.predict(X, lengths), sample_weight)
