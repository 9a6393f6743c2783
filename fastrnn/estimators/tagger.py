"""A label for each step of a sequence."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score
from sklearn.utils.multiclass import check_classification_targets

from fastrnn import files
from fastrnn.checks import check_bool, check_positive_int, describe
from fastrnn.docs import documented
from fastrnn.estimators.classification import ClassOutputs
from fastrnn.estimators.fitting import Entrance
from fastrnn.estimators.numeric import NumericSequences
from fastrnn.estimators.steps import read_steps
from fastrnn.estimators.tokens import TokenSequences
from fastrnn.sequences.data import Samples
from fastrnn.sequences.targets import Classes, Labels
from fastrnn.serving.judge import Judge, Reader
from fastrnn.text.reading import StepReader, form_of_steps, is_tokens, read_step_tokens
from fastrnn.text.vocabulary import TOKENS

__all__ = ["SequenceTagger"]

Array = NDArray[Any]


@files.register
@documented
class SequenceTagger(ClassOutputs, TokenSequences, NumericSequences):
    """A recurrent network that tells the label of every step of a sequence.

    Recurrent layers, by default of both directions, walk each sequence, and a linear layer gives a
    logit for each class at every step. Trained on the mean over all real steps of the cross entropy
    of the logits' softmax.

    X is an array (n, T, D) of n sequences of T steps and D channels, padded if there are `lengths`;
    a table (n, T), whose rows are sequences of one channel; a list of arrays (T_i, D) or (T_i,); or
    lists of tokens, such as the words of sentences. Labels and predictions have its form: lists of
    arrays (T_i,) for lists, arrays (n, T) for arrays and tables.

    Parameters
    ----------
    chars : bool, default False
        For tokens: whether to join to a word's vector the last states of a recurrent layer that
        reads its characters in both directions (W. Ling et al., "Finding function in form", EMNLP
        2015). Endings and capitals then tell of words never seen.
    {parameters}
    char_embedding_dim : int, default 32
        With `chars`: the size of a character's vector.
    char_hidden_size : int, default 32
        With `chars`: units of each direction of the LSTM over characters.

    Attributes
    ----------
    classes_ : array (K,)
        The labels, sorted.
    n_features_in_ : int
        Columns of a table, T; channels of all else, D. There is none for tokens.
    feature_names_in_ : array of str
        Names of the columns, if X was a frame that has some.
    channels_ : object or None
        With `standardize` the channels' ``mean`` and ``scale``, arrays (D,), of numbers.
    vocabulary_ : fastrnn.text.vocabulary.Vocabulary
        The tokens known.
    characters_ : fastrnn.text.vocabulary.Vocabulary
        With `chars`: the characters known.
    {attributes}

    See Also
    --------
    RNNClassifier : One class for a whole sequence.
    TextClassifier : One class for a text.

    Notes
    -----
    scikit-learn takes an estimator whose y are sequences for none of its kinds: `is_classifier` is
    False. ``cross_val_score`` and ``GridSearchCV`` split lists of sequences and lists of label
    sequences, and score them by `score`. What they cannot do with lists of labels: name a
    ``scoring`` such as "accuracy", which wants arrays; stratify the folds; join predictions of
    unequal length, as ``cross_val_predict`` does; calibrate, stack or vote. With arrays X (n, T, D)
    and y (n, T) ``cross_val_predict`` works too.

    Examples
    --------
    Which numbers are larger than the one before?

    >>> import numpy as np
    >>> from fastrnn import SequenceTagger
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.standard_normal(5 + i % 4) for i in range(100)]
    >>> y = [np.where(np.diff(x, prepend=0) > 0, "up", "down") for x in X]
    >>> model = SequenceTagger(hidden_size=16, max_iter=60, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.9
    True

    Words by their spelling:

    >>> sentences = [["cats", "sleep"], ["dogs", "run"], ["birds", "sing"]] * 4
    >>> kinds = [["NOUN", "VERB"]] * 12
    >>> model = SequenceTagger(chars=True, hidden_size=8, random_state=0).fit(sentences, kinds)
    >>> model.predict([["cats", "run"]])
    [array(['NOUN', 'VERB'], dtype='<U4')]
    """

    _pooled = False
    missing = "error"  # a step left out would leave its label without a step

    def __init__(
        self,
        chars: bool = False,
        *,
        embedding_dim: int = 64,
        min_count: int = 1,
        max_vocabulary: int | None = None,
        unknown_rate: float = 0.25,
        char_embedding_dim: int = 32,
        char_hidden_size: int = 32,
        cell: str = "lstm",
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = False,
        nonlinearity: str = "tanh",
        standardize: bool = True,
        input_layout: str = "ntd",
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
        self.chars = chars
        self.embedding_dim = embedding_dim
        self.min_count = min_count
        self.max_vocabulary = max_vocabulary
        self.unknown_rate = unknown_rate
        self.char_embedding_dim = char_embedding_dim
        self.char_hidden_size = char_hidden_size
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.reset_after = reset_after
        self.nonlinearity = nonlinearity
        self.standardize = standardize
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

    def _check_parameters(self) -> Any:
        check_bool("chars", self.chars)
        for name in ("char_embedding_dim", "char_hidden_size"):
            check_positive_int(name, getattr(self, name))
        return super()._check_parameters()

    # X

    @property
    def _input(self) -> type[TokenSequences | NumericSequences]:
        """How X is read: as fit has seen it."""
        return TokenSequences if self._of_tokens else NumericSequences

    def _read(self, X: Any, lengths: Any, *, reset: bool, name: str = "X") -> Samples:
        X, is_list, several = form_of_steps(X, name)
        if reset:
            self._of_tokens = several and any(map(is_tokens, X))
        if self._of_tokens:
            return read_step_tokens(
                X, lengths, name, lambda texts: self._read_texts(texts, TOKENS, reset, name)
            )
        if self.chars:
            raise TypeError(f"{name}: expected lists of tokens with chars=True, got {describe(X)}")
        samples = NumericSequences._read(self, X, lengths, reset=reset, name=name)
        return dataclasses.replace(samples, padded=None) if is_list else samples

    @property
    def _reader(self) -> Reader:
        """How X is read: as fit has seen it."""
        return StepReader(self._token_reader if self._of_tokens else self._number_reader)

    def _take_input(self, judge: Judge, counts: Array | None) -> None:
        self._of_tokens = counts is not None
        self._input._take_input(self, judge, counts)

    def _learn_input(self, samples: Samples, weight: Any) -> None:
        self._input._learn_input(self, samples, weight)

    def _entrance(self, samples: Samples) -> Entrance:
        return self._input._entrance(self, samples)

    # y: a list of arrays (T_i,)

    def _read_y(self, y: Any, samples: Samples, name: str = "y") -> list[Array]:
        if y is None:
            raise ValueError("SequenceTagger requires y to be passed, but the target y is None")
        return read_steps(name, y, samples, "labels")

    def _make_targets(self, y: list[Array], weight: Any, classes: Any) -> Classes | Labels:
        flat = np.concatenate(y)
        check_classification_targets(flat)
        return super()._make_targets(flat, weight, classes)

    def _encode(self, y: list[Array], name: str) -> list[Array]:
        return _parts(self._targets.encode(np.concatenate(y), name), y)

    def _weights(self, sample_weight: Any, samples: Samples) -> list[Array]:
        """Weights of the steps: those of whole sequences are those of each step."""
        if sample_weight is None or not any(np.ndim(one) for one in sample_weight):
            weight = super()._weights(sample_weight, samples)
            return [np.full(T, w) for w, T in zip(weight, samples.lengths, strict=True)]
        weights = [
            one.astype(np.float64)
            for one in read_steps("sample_weight", sample_weight, samples, "weights")
        ]
        flat = np.concatenate(weights)
        if not (np.isfinite(flat) & (flat >= 0)).all():
            raise ValueError("sample_weight: expected finite numbers of at least 0, got others")
        if not flat.any():
            raise ValueError("sample_weight: expected some weights above 0, got all 0")
        return weights

    def _weigh_classes(self, y: list[Array], weight: list[Array], partial: bool) -> None:
        super()._weigh_classes(np.concatenate(y), np.concatenate(weight), partial)

    def _weights_of_classes(self, y: list[Array], weight: list[Array]) -> list[Array]:
        flat = super()._weights_of_classes(np.concatenate(y), np.concatenate(weight))
        return _parts(flat, weight)

    # Fitting

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
        """Train on sequences and the labels of their steps.

        Parameters
        ----------
        X : array (n, T, D) or (n, T), frame, list of arrays (T_i, D) or (T_i,), or lists of str
        y : list of n sequences (T_i,), or array (n, T)
            Labels of any kind. With `lengths` those of padding do not count.
        sample_weight : array (n,) or (n, T), or list of n arrays (T_i,), optional
            How much each sequence counts, at each of its steps, or each step; at least 0.
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
            If X is neither of real numbers nor of text (bytes are none), or a parameter of the
            wrong type.
        ValueError
            If a sequence has not one label for each step, or X, y, weights or parameters are else
            not such as this says. Nothing is trained then, and an estimator that was fitted stays
            as it was.
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

        The first call fixes labels, channels and scaling or the vocabulary; the optimizer's state
        is kept from call to call. There is no validation, and `learning_rate` is that of the first
        epoch.

        Parameters
        ----------
        X, y, sample_weight, lengths, device
            As for `fit`.
        classes : array (K,), optional
            All labels that will ever come; needed by the first call unless its y has all.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            See `fit`; and if y has a label that the first call did not know, if `classes` are not
            those of the first call, or with ``class_weight="balanced"``, which would need all y.
        """
        self._check_classes(classes)
        return self._fit(X, y, sample_weight, lengths, device=device, partial=True, classes=classes)

    # Inference

    def predict(self, X: Any, lengths: Any = None) -> Any:
        """Tell the label of each step.

        Parameters
        ----------
        X : array (n, T, D) or (n, T), frame, list of arrays (T_i, D) or (T_i,), or lists of str
            Of the kind that `fit` has seen, with as many channels.
        lengths : array of int (n,), optional
            How many steps of each sequence of an array (n, T, D) are real.

        Returns
        -------
        list of n arrays (T_i,), or array (n, T)
            A list for a list. In an array padding has the zero of its dtype, of text "".

        Raises
        ------
        TypeError, ValueError
            If X does not fit to what `fit` has seen.
        """
        return self._judge.predict(self._read(X, lengths, reset=False))

    def predict_proba(self, X: Any, lengths: Any = None) -> Any:
        """Tell the probability of each label at each step.

        Parameters
        ----------
        X, lengths
            As for `predict`.

        Returns
        -------
        list of n arrays (T_i, K), or array (n, T, K)
            In the order of `classes_`, zero in padding.
        """
        return self._judge.predict_proba(self._read(X, lengths, reset=False))

    def decision_function(self, X: Any, lengths: Any = None) -> Any:
        """Tell the logit of each label at each step.

        Parameters
        ----------
        X, lengths
            As for `predict`.

        Returns
        -------
        list of n arrays (T_i, K), or array (n, T, K); for two labels (T_i,) or (n, T)
            Of two labels, by how much the second's logit is larger. Zero in padding.
        """
        return self._judge.decision_function(self._read(X, lengths, reset=False))

    def score(self, X: Any, y: Any, sample_weight: Any = None, lengths: Any = None) -> float:
        """Tell the accuracy over all real steps of all sequences.

        Parameters
        ----------
        X, lengths
            As for `predict`.
        y : list of n sequences (T_i,), or array (n, T)
            What is right.
        sample_weight : array (n,) or (n, T), or list of n arrays (T_i,), optional
            How much each sequence, or each step, counts.

        Returns
        -------
        float
            In [0, 1].
        """
        judge = self._judge
        samples = self._read(X, lengths, reset=False)
        outputs = judge.outputs(samples)
        true = np.concatenate(self._read_y(y, samples))
        weight = np.concatenate(self._weights(sample_weight, samples))
        return float(accuracy_score(true, self._targets.predict(outputs), sample_weight=weight))


def _parts(flat: Array, like: list[Array]) -> list[Array]:
    """An array of all steps as one array for each sequence."""
    return np.split(flat, np.cumsum([len(one) for one in like])[:-1])
