"""Classes, or labels, of texts."""

from __future__ import annotations

from typing import Any, Self

from numpy.typing import NDArray
from sklearn.utils.metaestimators import available_if

from fastrnn import files
from fastrnn.checks import check_option, describe
from fastrnn.docs import documented
from fastrnn.estimators.classification import SequenceClassifier
from fastrnn.estimators.pooled import attends
from fastrnn.estimators.tokens import TokenSequences
from fastrnn.sequences.data import Samples
from fastrnn.text.vocabulary import LEVELS

__all__ = ["TextClassifier"]

Array = NDArray[Any]


@files.register
@documented
class TextClassifier(SequenceClassifier, TokenSequences):
    """A recurrent network that tells the class of a text, or which labels it has.

    Each token becomes a vector, recurrent layers walk the vectors, `pooling` makes one row of their
    states, and a linear layer gives a logit for each class. Trained on the cross entropy of the
    logits' softmax, or of each label's sigmoid.

    X is a list, an array or a series of strings, which `level` splits into tokens; or of lists of
    tokens, whoever has split them.

    Parameters
    ----------
    level : {"char", "word"}, default "char"
        What a token of a string is: one code point, or a run of characters that are not white space
        (a line's end is a token too). For lists of tokens it says nothing.
    {parameters}

    Attributes
    ----------
    classes_ : array (K,)
        The classes, sorted; the labels' numbers where y was (n, K) of zeros and ones.
    vocabulary_ : fastrnn.text.vocabulary.Vocabulary
        The tokens known.
    {attributes}

    See Also
    --------
    RNNClassifier : The same of sequences of numbers.
    SequenceTagger : A label for every token.

    Notes
    -----
    A token's vector is learned from the texts where it stands, and a token that later texts bring
    is read as the one unknown token; with ``level="char"`` there are few of those.

    scikit-learn splits lists of strings and of lists of tokens, so searches, cross-validation,
    pipelines, calibration, stacking and voting work on them. What makes a table of X, as bagging
    does, cannot. A text column of a frame goes through ``ColumnTransformer``, by the column's name
    as a string.

    Examples
    --------
    >>> from fastrnn import TextClassifier
    >>> texts = ["to be or not to be", "être ou ne pas être", "the cat", "le chat"] * 5
    >>> languages = ["English", "French"] * 10
    >>> model = TextClassifier(hidden_size=16, random_state=0).fit(texts, languages)
    >>> model.predict(["the dog", "le chien"])
    array(['English', 'French'], dtype='<U7')

    As a part of something larger:

    >>> from sklearn.model_selection import cross_val_score
    >>> cross_val_score(model, texts, languages, cv=2).shape
    (2,)
    """

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
        if lengths is not None:
            raise ValueError(f"lengths: expected none with texts, got {describe(lengths)}")
        return self._read_texts(X, self.level, reset, name)

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        eval_set: Any = None,
        device: Any = None,
    ) -> Self:
        """Train on texts and their classes.

        Parameters
        ----------
        X : list of n strings, or of n lists of strings
        y : array (n,), or (n, K) of zeros and ones
            A class of any kind for each text; or which of K labels each has.
        sample_weight : array (n,), optional
            How much each text counts, at least 0.
        eval_set : (X, y), optional
            What to measure ``validation_loss`` on after each epoch, and to watch with
            `early_stopping`; then nothing of X is held out.
        {device}

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If X is not of text (bytes are none), or a parameter of the wrong type.
        ValueError
            If a text has no tokens, or y, weights or parameters are not such as this says. Nothing
            is trained then, and an estimator that was fitted stays as it was.
        FloatingPointError
            If the loss becomes infinite or NaN in the first epoch.
        """
        return self._fit(X, y, sample_weight, eval_set=eval_set, device=device)

    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: Any = None,
        *,
        sample_weight: Any = None,
        device: Any = None,
    ) -> Self:
        """Train for one pass over some texts, going on where the last call stopped.

        The first call fixes classes and vocabulary; the optimizer's state is kept from call to
        call. There is no validation, and `learning_rate` is that of the first epoch.

        Parameters
        ----------
        X, y, sample_weight, device
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
        return self._fit(X, y, sample_weight, device=device, partial=True, classes=classes)

    def predict(self, X: Any) -> Array:
        """Tell the class of each text.

        Parameters
        ----------
        X : list of n strings, or of n lists of strings
            Of the kind that `fit` has seen.

        Returns
        -------
        array (n,), or (n, K) of zeros and ones for labels

        Raises
        ------
        TypeError
            If X is not of text, or of strings where `fit` has seen tokens.
        ValueError
            If a text has no tokens.
        """
        return self._judge.predict(self._read(X, None, reset=False))

    def predict_proba(self, X: Any) -> Array:
        """Tell the probability of each class, or of each label.

        Parameters
        ----------
        X
            As for `predict`.

        Returns
        -------
        array (n, K)
            In the order of `classes_`, of the dtype that is computed in.
        """
        return self._judge.predict_proba(self._read(X, None, reset=False))

    def decision_function(self, X: Any) -> Array:
        """Tell the logit of each class, or of each label.

        Parameters
        ----------
        X
            As for `predict`.

        Returns
        -------
        array (n, K), or (n,) for two classes
            Of two classes, by how much the second's logit is larger.
        """
        return self._judge.decision_function(self._read(X, None, reset=False))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Tell the mean accuracy; of labels, the share of texts with all of them right.

        Parameters
        ----------
        X
            As for `predict`.
        y : array (n,) or (n, K)
            What is right.
        sample_weight : array (n,), optional
            How much each text counts.

        Returns
        -------
        float
            In [0, 1].
        """
        return self._accuracy(y, self.predict(X), sample_weight)

    def transform(self, X: Any) -> Array:
        """Compute the pooled states of texts, what the last linear layer sees.

        Parameters
        ----------
        X
            As for `predict`.

        Returns
        -------
        array (n, P)
            P is ``hidden_size``, twice that if `bidirectional`.
        """
        return self._pooled_states(X)

    def fit_transform(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, device: Any = None
    ) -> Array:
        """Train, and compute the pooled states of the same texts.

        Parameters
        ----------
        X, y, sample_weight, device
            As for `fit`.

        Returns
        -------
        array (n, P)
            See `transform`.
        """
        return self.fit(X, y, sample_weight=sample_weight, device=device).transform(X)

    @available_if(attends)  # type: ignore[untyped-decorator]
    def attention_weights(self, X: Any) -> list[Array]:
        """Tell how much each token weighs in its text's pooled state.

        There only with ``pooling="attention"``.

        Parameters
        ----------
        X
            As for `predict`.

        Returns
        -------
        list of arrays (T_i,)
            Each text's weights, which add up to 1.
        """
        return self._step_weights(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags
