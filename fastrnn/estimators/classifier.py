"""Classes, or labels, of whole sequences."""

from __future__ import annotations

from typing import Any, Self

from numpy.typing import NDArray

from fastrnn import files
from fastrnn.docs import documented
from fastrnn.estimators.classification import SequenceClassifier
from fastrnn.estimators.pooled import PooledNumbers

__all__ = ["RNNClassifier"]

Array = NDArray[Any]


@files.register
@documented
class RNNClassifier(SequenceClassifier, PooledNumbers):
    """A recurrent network that tells the class of a sequence, or which labels it has.

    Recurrent layers walk each sequence, `pooling` makes one row of their states, and a linear layer
    gives a logit for each class. Trained on the cross entropy of the logits' softmax, or of each
    label's sigmoid.

    X is an array (n, T, D) of n sequences of T steps and D channels, padded if there are `lengths`;
    a table (n, T), whose rows are sequences of one channel; or a list of arrays (T_i, D) or (T_i,).

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : array (K,)
        The classes, sorted; the labels' numbers where y was (n, K) of zeros and ones.
    n_features_in_ : int
        Columns of a table, T; channels of all else, D.
    feature_names_in_ : array of str
        Names of the columns, if X was a frame that has some.
    channels_ : object or None
        With `standardize` the channels' ``mean`` and ``scale``, arrays (D,).
    {attributes}

    See Also
    --------
    RNNRegressor : Numbers of whole sequences.
    fastrnn.plots : The history, attention and confusions as pictures.

    Notes
    -----
    Where n <= batch_size, each epoch is one step on all of the data. A sequence's answer does not
    depend on those around it. What scikit-learn does with X it also does with lists of sequences:
    splits, searches and pipelines work, but not what makes arrays of X, such as `StandardScaler`.

    Examples
    --------
    Which way do noisy ramps go?

    >>> import numpy as np
    >>> from fastrnn import RNNClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = np.array(["down", "up"] * 30)
    >>> ramps = np.where(y == "up", 1, -1)[:, None] * np.linspace(-1, 1, 20)
    >>> X = ramps + 0.5 * rng.standard_normal((60, 20))
    >>> model = RNNClassifier(hidden_size=8, max_iter=30, random_state=0).fit(X[:40], y[:40])
    >>> model.score(X[40:], y[40:]) > 0.9
    True
    >>> model.predict_proba(X[40:42]).shape
    (2, 2)

    Sequences of unequal length are a list:

    >>> lists = [x[: 10 + i % 10] for i, x in enumerate(X)]
    >>> model.fit(lists, y).predict(lists[:2]).shape
    (2,)
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
        device: Any = None,
    ) -> Self:
        """Train on sequences and their classes.

        Parameters
        ----------
        X : array (n, T, D) or (n, T), frame, or list of n arrays (T_i, D) or (T_i,)
        y : array (n,), or (n, K) of zeros and ones
            A class of any kind for each sequence; or which of K labels each has.
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
        classes: Any = None,
        *,
        sample_weight: Any = None,
        lengths: Any = None,
        device: Any = None,
    ) -> Self:
        """Train for one pass over some sequences, going on where the last call stopped.

        The first call fixes classes, channels and scaling; the optimizer's state is kept from call
        to call. There is no validation, and `learning_rate` is that of the first epoch.

        Parameters
        ----------
        X, y, sample_weight, lengths, device
            As for `fit`.
        classes : array (K,), optional
            All classes that will ever come; needed by the first call unless its y has all.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            See `fit`; and if y has a class that the first call did not know, if `classes` are not
            those of the first call, or with ``class_weight="balanced"``, which would need all y.
        """
        self._check_classes(classes)
        return self._fit(X, y, sample_weight, lengths, device=device, partial=True, classes=classes)

    def predict(self, X: Any, lengths: Any = None) -> Array:
        """Tell the class of each sequence.

        Parameters
        ----------
        X : array (n, T, D) or (n, T), frame, or list of n arrays (T_i, D) or (T_i,)
            Of as many channels as `fit` has seen; steps may be more or fewer, but not in a table
            where `fit` saw a table.
        lengths : array of int (n,), optional
            How many steps of each sequence of an array (n, T, D) are real.

        Returns
        -------
        array (n,), or (n, K) of zeros and ones for labels

        Raises
        ------
        ValueError
            If X does not fit to what `fit` has seen.
        """
        return self._judge.predict(self._read(X, lengths, reset=False))

    def predict_proba(self, X: Any, lengths: Any = None) -> Array:
        """Tell the probability of each class, or of each label.

        Parameters
        ----------
        X, lengths
            As for `predict`.

        Returns
        -------
        array (n, K)
            In the order of `classes_`, of the dtype that is computed in.
        """
        return self._judge.predict_proba(self._read(X, lengths, reset=False))

    def decision_function(self, X: Any, lengths: Any = None) -> Array:
        """Tell the logit of each class, or of each label.

        Parameters
        ----------
        X, lengths
            As for `predict`.

        Returns
        -------
        array (n, K), or (n,) for two classes
            Of two classes, by how much the second's logit is larger.
        """
        return self._judge.decision_function(self._read(X, lengths, reset=False))

    def score(self, X: Any, y: Any, sample_weight: Any = None, lengths: Any = None) -> float:
        """Tell the mean accuracy; of labels, the share of sequences with all of them right.

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
            In [0, 1].
        """
        return self._accuracy(y, self.predict(X, lengths), sample_weight)
