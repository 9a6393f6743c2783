"""Numbers that belong to whole sequences."""

from __future__ import annotations

from typing import Any, Self

from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from fastrnn.checks import check_option
from fastrnn.estimators.pooled import PooledNumbers
from fastrnn.estimators.targets import read_target
from fastrnn.plan import Plan
from fastrnn.sequence_data import Samples
from fastrnn.sequence_network import Loss
from fastrnn.targets import REGRESSION_LOSSES, Quantities

__all__ = ["RNNRegressor"]

Array = NDArray[Any]


class RNNRegressor(RegressorMixin, PooledNumbers):
    """A recurrent network that tells one or more numbers of a sequence."""

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
        loss: str = "squared_error",
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
        self.loss = loss
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
        """Train on sequences and their numbers."""
        return self._fit(X, y, sample_weight, lengths, eval_set)

    def partial_fit(
        self, X: Any, y: Any, *, sample_weight: Any = None, lengths: Any = None
    ) -> Self:
        """One pass over some sequences; the first call fixes widths and scaling."""
        return self._fit(X, y, sample_weight, lengths, partial=True)

    def predict(self, X: Any, lengths: Any = None) -> Array:
        """The number of each sequence, (n,), or several, (n, K), as y was."""
        outputs = self._answers(X, lengths)
        return self._targets.predict(outputs)

    def score(self, X: Any, y: Any, sample_weight: Any = None, lengths: Any = None) -> float:
        """R², the share of the variance that is explained."""
        return float(r2_score(y, self.predict(X, lengths), sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    # What `fit` asks of y

    def _check_parameters(self) -> Plan:
        check_option("loss", self.loss, REGRESSION_LOSSES)
        return super()._check_parameters()

    def _read_y(self, y: Any, samples: Samples, name: str = "y") -> Array:
        return read_target(type(self).__name__, y, len(samples), numeric=True)

    def _make_targets(self, y: Array, weight: Array, classes: Any) -> Quantities:
        return Quantities.of(y, weight)

    def _loss(self) -> Loss:
        return REGRESSION_LOSSES[self.loss]
