"""Classes, or labels, of texts."""

from __future__ import annotations

from typing import Any, Self

from numpy.typing import NDArray

from fastrnn.checks import check_option
from fastrnn.estimators.classification import SequenceClassifier
from fastrnn.estimators.tokens import TokenSequences
from fastrnn.sequence_data import Samples
from fastrnn.text import LEVELS

__all__ = ["TextClassifier"]

Array = NDArray[Any]


class TextClassifier(SequenceClassifier, TokenSequences):
    """A recurrent network that tells the class of a text."""

    def __init__(
        self,
        level: str = "char",
        *,
        embedding_dim: int = 64,
        min_count: int = 1,
        max_vocabulary: int | None = None,
        unknown_rate: float = 0.25,
        cell: str = "lstm",
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = False,
        nonlinearity: str = "tanh",
        pooling: str = "max",
        alpha: float = 1e-4,
        solver: str = "adam",
        learning_rate_init: float = 0.005,
        learning_rate: Any = "constant",
        momentum: float = 0.9,
        batch_size: Any = "auto",
        shuffle: bool = True,
        max_iter: int = 20,
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
        self.level = level
        self.embedding_dim = embedding_dim
        self.min_count = min_count
        self.max_vocabulary = max_vocabulary
        self.unknown_rate = unknown_rate
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.reset_after = reset_after
        self.nonlinearity = nonlinearity
        self.pooling = pooling
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

    def _check_parameters(self) -> Any:
        check_option("level", self.level, LEVELS)
        return super()._check_parameters()

    def _read(self, X: Any, lengths: Any, *, reset: bool, name: str = "X") -> Samples:
        return self._read_texts(X, self.level, reset, name)

    def fit(self, X: Any, y: Any, *, sample_weight: Any = None, eval_set: Any = None) -> Self:
        """Train on texts and their classes."""
        return self._fit(X, y, sample_weight, eval_set=eval_set)

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, *, sample_weight: Any = None
    ) -> Self:
        """One pass over some texts; the first call fixes classes and vocabulary."""
        self._check_classes(classes)
        return self._fit(X, y, sample_weight, partial=True, classes=classes)

    def predict(self, X: Any) -> Array:
        """The class of each text."""
        return self._targets.predict(self._answers(X))

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class."""
        return self._targets.predict_proba(self._answers(X))

    def decision_function(self, X: Any) -> Array:
        """The logit of each class."""
        return self._targets.decision_function(self._answers(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The mean accuracy; of labels, the share of texts with all of them right."""
        return self._accuracy(y, self.predict(X), sample_weight)

    def transform(self, X: Any) -> Array:
        """The pooled states of texts, what the last linear layer sees."""
        return self._pooled_states(X)

    def fit_transform(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> Array:
        """`fit`, and then `transform` of the same texts."""
        return self.fit(X, y, sample_weight=sample_weight).transform(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags
