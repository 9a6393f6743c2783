"""Numbers that belong to whole sequences."""

from __future__ import annotations

from typing import Any, Self

from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from fastrnn import files
from fastrnn.checks import check_option
from fastrnn.docs import documented
from fastrnn.estimators.pooled import PooledNumbers
from fastrnn.estimators.targets import read_target
from fastrnn.sequences.data import Samples
from fastrnn.sequences.network import Loss
from fastrnn.sequences.targets import REGRESSION_LOSSES, Quantities
from fastrnn.training.plan import Plan

__all__ = ["RNNRegressor"]

Array = NDArray[Any]


@files.register
@documented
class RNNRegressor(RegressorMixin, PooledNumbers):
    """A recurrent network that tells one or more numbers of a sequence.

    Recurrent layers walk each sequence, `pooling` makes one row of their states, and a linear layer
    gives the numbers, learned in units of their own spread: inside, targets have mean 0 and
    standard deviation 1.

    X is an array (n, T, D) of n sequences of T steps and D channels, padded if there are `lengths`;
    a table (n, T), whose rows are sequences of one channel; or a list of arrays (T_i, D) or (T_i,).

    Parameters
    ----------
    loss : {"squared_error", "absolute_error", "huber"}, default "squared_error"
        Of the standardized targets; Huber's goes from the square to the line at a distance of one
        standard deviation.
    {parameters}

    Attributes
    ----------
    n_features_in_ : int
        Columns of a table, T; channels of all else, D.
    feature_names_in_ : array of str
        Names of the columns, if X was a frame that has some.
    channels_ : object or None
        With `standardize` the channels' ``mean`` and ``scale``, arrays (D,).
    {attributes}

    See Also
    --------
    RNNClassifier : Classes, or labels, of whole sequences.
    fastrnn.plots : The history and attention as pictures.

    Notes
    -----
    Where n <= batch_size, each epoch is one step on all of the data. A sequence's answer does not
    depend on those around it.

    Examples
    --------
    The sum of numbers that come one by one:

    >>> import numpy as np
    >>> from fastrnn import RNNRegressor
    >>> X = np.random.default_rng(0).standard_normal((200, 12, 1))
    >>> y = X.sum(axis=(1, 2))
    >>> model = RNNRegressor(cell="gru", hidden_size=16, max_iter=60, random_state=0)
    >>> model.fit(X[:150], y[:150]).score(X[150:], y[150:]) > 0.8
    True

    Two numbers at once:

    >>> both = np.column_stack([y, X.max(axis=(1, 2))])
    >>> model.fit(X, both).predict(X[:3]).shape
    (3, 2)
    """

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
        learning_rate_init: float = 0.01,
        learning_rate: Any = "constant",
        momentum: float = 0.9,
        batch_size: Any = "auto",
        shuffle: bool = True,
        max_iter: int = 200,
        max_grad_norm: float | None = 1.0,
        tbptt_steps: int | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 50,
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
        device: Any = None,
    ) -> Self:
        """Train on sequences and their numbers.

        Parameters
        ----------
        X : array (n, T, D) or (n, T), frame, or list of n arrays (T_i, D) or (T_i,)
        y : array (n,) or (n, K)
            One number for each sequence, or K.
        sample_weight : array (n,), optional
            How much each sequence counts, at least 0. One that weighs 2 counts as two do, one that
            weighs 0 as none; without dropout and in one batch bit for bit.
        lengths : array of int (n,), optional
            How many steps of each sequence of an array (n, T, D) are real; at least 1.
        eval_set : (X, y) or (X, y, lengths), optional
            What to measure ``validation_loss`` on after each epoch, and to watch with
            `early_stopping`; then nothing of X is held out.
        {device}

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If X is not of real numbers, or a parameter of the wrong type.
        ValueError
            If X, y, weights or parameters are not such as this says. Nothing is trained then, and
            an estimator that was fitted stays as it was.
        FloatingPointError
            If the loss becomes infinite or NaN in the first epoch.
        """
        return self._fit(X, y, sample_weight, lengths, eval_set, device=device)

    def partial_fit(
        self,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        lengths: Any = None,
        device: Any = None,
    ) -> Self:
        """Train for one pass over some sequences, going on where the last call stopped.

        The first call fixes channels, the number of targets, and both scalings; the optimizer's
        state is kept from call to call. There is no validation, and `learning_rate` is that of the
        first epoch.

        Parameters
        ----------
        X, y, sample_weight, lengths, device
            As for `fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            See `fit`; and if y has another number of targets than in the first call.
        """
        return self._fit(X, y, sample_weight, lengths, device=device, partial=True)

    def predict(self, X: Any, lengths: Any = None) -> Array:
        """Tell the number, or the numbers, of each sequence.

        Parameters
        ----------
        X : array (n, T, D) or (n, T), frame, or list of n arrays (T_i, D) or (T_i,)
            Of as many channels as `fit` has seen; steps may be more or fewer, but not in a table
            where `fit` saw a table.
        lengths : array of int (n,), optional
            How many steps of each sequence of an array (n, T, D) are real.

        Returns
        -------
        array (n,) or (n, K), as y was
            In y's units, of the dtype that is computed in.

        Raises
        ------
        ValueError
            If X does not fit to what `fit` has seen.
        """
        return self._judge.predict(self._read(X, lengths, reset=False))

    def score(self, X: Any, y: Any, sample_weight: Any = None, lengths: Any = None) -> float:
        """Tell R², the share of the variance that is explained, as a mean over the targets.

        Parameters
        ----------
        X, lengths
            As for `predict`.
        y : array (n,) or (n, K)
            What is right.
        sample_weight : array (n,), optional
            How much each sequence counts.

        Returns
        -------
        float
            At most 1.
        """
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
        return read_target(type(self).__name__, y, len(samples), numeric=True, name=name)

    def _make_targets(self, y: Array, weight: Array, classes: Any) -> Quantities:
        return Quantities.of(y, weight)

    def _loss(self) -> Loss:
        return REGRESSION_LOSSES[self.loss]
