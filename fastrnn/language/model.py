"""Language models: the probability of the next character or word, given all before it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from fastrnn import files
from fastrnn.checks import (
    check_bool,
    check_dtype,
    check_option,
    check_positive_int,
    check_probability,
    check_random_state,
    check_real,
)
from fastrnn.files import FormatError
from fastrnn.language.fitted import Text, TextMethods, one_stream
from fastrnn.language.network import Network, layer_specs, load_layers, make_layers
from fastrnn.text.vocabulary import LEVELS, Vocabulary, as_documents
from fastrnn.training.loop import Training
from fastrnn.training.minibatches import Streams
from fastrnn.training.plan import Plan

__all__ = ["LanguageModel"]

CELLS = ("lstm", "gru", "rnn")
STREAMS = 20  # batch_size="auto"
PLAN = (
    "solver", "learning_rate_init", "learning_rate", "momentum", "alpha", "max_iter",
    "max_grad_norm", "early_stopping", "n_iter_no_change", "tol", "callbacks", "checkpoint",
    "checkpoint_interval", "n_threads", "verbose",
)  # fmt: skip
# What a resumed run may change: none of it decides which bits the next step computes.
FREE = ("max_iter", "callbacks", "checkpoint", "checkpoint_interval", "n_threads", "verbose",
        "warm_start", "random_state")  # fmt: skip


@files.register
class LanguageModel(TextMethods):
    """A recurrent language model of characters or words.

    The model reads a text token by token and gives, after each, the probability of the next:
    an embedding, one or more recurrent layers, and a linear layer with a softmax. It is trained by
    truncated backpropagation through time: the text is cut into `batch_size` streams, read side by
    side in windows of `tbptt_steps` tokens, and the state is carried from window to window.

    Every text begins with a boundary symbol, so that its first token has a probability too. A list
    of texts is read as one, with the boundary between them, and the model learns where texts end.
    Tokens that are not in the vocabulary are read, and predicted, as one unknown token.

    Parameters
    ----------
    level : {"char", "word"}, default "char"
        What a token is: a code point, or a run of characters that are not white space (a line's end
        is a token as well).
    cell : {"lstm", "gru", "rnn"}, default "lstm"
        The kind of recurrent layer. An LSTM's forget gates start with a bias of 1.
    hidden_size : int, default 256
        Units in each recurrent layer.
    num_layers : int, default 1
        Recurrent layers.
    embedding_dim : int, default 64
        The size of a token's vector.
    dropout : float, default 0.0
        Probability of dropping a unit, in training, of every recurrent layer's input and of the
        last one's output.
    recurrent_dropout : float, default 0.0
        Probability of dropping a unit of h on its way to the next step, the same units in all steps
        of a window.
    reset_after : bool, default False
        For ``cell="gru"``: reset the state after the product, as cuDNN does, not before it.
    nonlinearity : {"tanh", "relu", "sigmoid"}, default "tanh"
        For ``cell="rnn"``.
    solver : {"adam", "adamw", "sgd", "rmsprop", "adagrad"}, default "adam"
        The rule of updates.
    learning_rate_init : float, default 0.002
        The learning rate that `learning_rate` starts from.
    learning_rate : str or callable, default "constant"
        ``"constant"``, ``"linear"``, ``"cosine"``, ``"invscaling"``, ``"adaptive"``, or a function
        of the epoch (from 0) and the history that gives the epoch's rate.
    momentum : float, default 0.9
        For ``solver="sgd"``.
    alpha : float, default 0.0
        L2 penalty on weights; with ``solver="adamw"`` its weight decay.
    batch_size : int or "auto", default "auto"
        Parallel streams; "auto" is 20, fewer for a text that has not 20 windows.
    tbptt_steps : int, default 64
        Tokens in a window: how far gradients reach back.
    max_iter : int, default 20
        Passes over the text, at most.
    max_grad_norm : float or None, default 5.0
        Largest norm of all gradients together; larger ones are scaled down to it.
    early_stopping : bool, default False
        Measure the loss of held-out text after each epoch, stop when it no longer falls, and keep
        the weights of the best epoch. The text is `eval_text`, else the last part of the text.
    validation_fraction : float, default 0.1
        How much of the text to hold out if `early_stopping` and no `eval_text` is given.
    n_iter_no_change : int, default 10
        Stop after so many epochs in a row without a change for the better by `tol`, of the training
        loss, or with `early_stopping` of the held-out loss.
    tol : float, default 1e-4
        In nats per token.
    min_count : int, default 1
        Tokens less frequent in the text are unknown tokens.
    max_vocabulary : int or None, default None
        At most so many tokens, the most frequent, are known.
    warm_start : bool, default False
        A further `fit` goes on from the layers and the vocabulary there are, whatever parameters
        say of them.
    checkpoint : str, path or None, default None
        A file to go on from if training is cut off: see `fit`. It is written after each epoch, on
        Ctrl-C, and within an epoch every `checkpoint_interval` seconds.
    checkpoint_interval : float, default 600.0
        Seconds; 0 for a checkpoint after every step.
    callbacks : callable, sequence of callables, or None, default None
        Called after every epoch with a `fastrnn.training.plan.TrainingState`; one that has a method
        ``after_step`` has that called after every step. A true answer ends training.
    random_state : int, numpy.random.Generator or None, default None
        For initial weights and dropout.
    verbose : int, default 0
        0 is silent; 1 writes a line per epoch to the standard error stream, with a progress bar if
        tqdm is installed; 2 writes the lines alone.
    n_threads : int or None, default None
        Threads while training; None leaves the number as it is.
    dtype : {"float32", "float64"} or None, default None
        None is float32.

    Attributes
    ----------
    vocabulary_ : fastrnn.text.vocabulary.Vocabulary
        The tokens known.
    layers_ : dict of str to layer
        ``"embedding"``, ``"rnn"``, ``"output"``.
    history_ : dict of str to list of float
        One entry per epoch: ``loss`` (nats per token, measured while the weights changed),
        ``validation_loss`` (nats per token over `batch_size` streams, if there is held-out text),
        ``learning_rate``, ``grad_norm`` (the largest before clipping), ``seconds``.
    loss_curve_ : list of float
        ``history_["loss"]``.
    best_loss_ : float
        The lowest loss watched.
    n_iter_ : int
        Epochs run.
    interrupted_ : bool
        Whether Ctrl-C ended training.

    Examples
    --------
    >>> from fastrnn import LanguageModel
    >>> model = LanguageModel(hidden_size=32, learning_rate_init=0.02, random_state=0)
    >>> model = model.fit("the cat sat on the mat. " * 100)
    >>> model.perplexity("the cat sat on the mat. ") < 1.5
    True
    >>> model.generate(14, prompt="the cat ", temperature=0)
    'sat on the mat'
    """

    history_: dict[str, list[float]]
    loss_curve_: list[float]
    best_loss_: float
    n_iter_: int
    interrupted_: bool

    def __init__(
        self,
        level: str = "char",
        *,
        cell: str = "lstm",
        hidden_size: int = 256,
        num_layers: int = 1,
        embedding_dim: int = 64,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = False,
        nonlinearity: str = "tanh",
        solver: str = "adam",
        learning_rate_init: float = 0.002,
        learning_rate: Any = "constant",
        momentum: float = 0.9,
        alpha: float = 0.0,
        batch_size: Any = "auto",
        tbptt_steps: int = 64,
        max_iter: int = 20,
        max_grad_norm: float | None = 5.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        min_count: int = 1,
        max_vocabulary: int | None = None,
        warm_start: bool = False,
        checkpoint: Any = None,
        checkpoint_interval: float = 600.0,
        callbacks: Any = None,
        random_state: Any = None,
        verbose: int = 0,
        n_threads: int | None = None,
        dtype: Any = None,
    ) -> None:
        self.level = level
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.embedding_dim = embedding_dim
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.reset_after = reset_after
        self.nonlinearity = nonlinearity
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.alpha = alpha
        self.batch_size = batch_size
        self.tbptt_steps = tbptt_steps
        self.max_iter = max_iter
        self.max_grad_norm = max_grad_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.min_count = min_count
        self.max_vocabulary = max_vocabulary
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.checkpoint_interval = checkpoint_interval
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose
        self.n_threads = n_threads
        self.dtype = dtype

    # Training

    def fit(self, text: Text, eval_text: Text | None = None, *, resume: bool = False) -> Self:
        """Learn from a text.

        Parameters
        ----------
        text : str or list of str
            One text, or several, each of which begins and ends by itself.
        eval_text : str or list of str, optional
            Text whose loss is measured after each epoch.
        resume : bool, default False
            Go on from the file `checkpoint` if there is one, with the same bits as if that run had
            never stopped. Text and parameters must be the same; `max_iter` may have grown.

        Returns
        -------
        LanguageModel
            Itself.

        Raises
        ------
        ValueError, TypeError
            For a wrong parameter, a text without tokens, or one too short for `batch_size`, before
            anything is changed.
        FloatingPointError
            If a loss or gradient is not finite in the first epoch. Later this is a RuntimeWarning:
            training ends, and the model keeps the weights of the best epoch.

        Warns
        -----
        UserWarning
            On Ctrl-C, which ends training early: the model keeps what it has learned, and
            ``interrupted_`` is True.

        Notes
        -----
        With n tokens, streams of n // batch_size tokens are read; the fewer than `batch_size`
        tokens that are left at the end are not learned from. A list of texts is read in its order.
        """
        plan = self._check()
        if check_bool("resume", resume) and self.checkpoint is None:
            raise ValueError("resume: expected a checkpoint to resume from, got checkpoint=None")
        documents = as_documents("text", text)
        held_out = None if eval_text is None else as_documents("eval_text", eval_text)
        warm = bool(self.warm_start) and hasattr(self, "layers_")
        if held_out is None and self.early_stopping:
            documents, held_out = self._hold_out(documents)
        if warm:
            vocabulary = self.vocabulary_
        else:
            vocabulary = Vocabulary.from_texts(
                documents, self.level, min_count=self.min_count, max_size=self.max_vocabulary
            )
        batches = self._streams("text", documents, vocabulary)
        validation = None
        if held_out is not None:
            validation = self._streams("eval_text", held_out, vocabulary, batches.n_streams)
        # From here on nothing is wrong, and the model may change.
        generator = check_random_state("random_state", self.random_state)
        before = dict(self.__dict__)
        if not warm:
            self.vocabulary_ = vocabulary
            self.layers_ = make_layers(layer_specs(self.get_params(), len(vocabulary)), generator)
            self._record({}, math.inf, False)
            self._texts_end = False
        self._texts_end = self._texts_end or len(documents) > 1
        training = Training(
            Network(self.layers_, float(self.dropout), generator),
            batches,
            plan,
            generator,
            validation=validation,
            identity=self._identity(batches, validation),
            model=self,
        )
        learned = False
        try:
            if resume:
                training.resume()
            learned = True  # and stays so, whatever a callback may raise
            outcome = training.run()
        except FloatingPointError:
            learned = False
            raise
        finally:
            if not learned:  # the model is again what it was, fitted or not
                self.__dict__.clear()
                self.__dict__.update(before)
        past = self.history_
        history = {name: past.get(name, []) + new for name, new in outcome.history.items()}
        self._record(history, outcome.best_loss, outcome.interrupted)
        return self

    def _record(self, history: dict[str, list[float]], best_loss: float, interrupted: bool) -> None:
        """Set the fitted attributes that tell of the training."""
        self.history_ = history
        self.loss_curve_ = history.get("loss", [])
        self.n_iter_ = len(self.loss_curve_)
        self.best_loss_ = best_loss
        self.interrupted_ = interrupted

    def _check(self) -> Plan:
        """Check all parameters; the plan of training."""
        check_option("level", self.level, LEVELS)
        check_option("cell", self.cell, CELLS)
        for name in ("hidden_size", "num_layers", "embedding_dim", "tbptt_steps", "min_count"):
            check_positive_int(name, getattr(self, name))
        check_probability("dropout", self.dropout)
        check_probability("recurrent_dropout", self.recurrent_dropout)
        check_bool("reset_after", self.reset_after)
        check_option("nonlinearity", self.nonlinearity, ("tanh", "relu", "sigmoid"))
        if not isinstance(self.batch_size, str):
            check_positive_int("batch_size", self.batch_size)
        elif self.batch_size != "auto":
            raise ValueError(f"batch_size: expected an integer or 'auto', got {self.batch_size!r}")
        check_real("validation_fraction", self.validation_fraction, above=0.0, below=1.0)
        if self.max_vocabulary is not None:
            check_positive_int("max_vocabulary", self.max_vocabulary)
        check_bool("warm_start", self.warm_start)
        if self.dtype is not None:
            check_dtype("dtype", self.dtype)
        if not isinstance(self.random_state, np.random.Generator):
            check_random_state("random_state", self.random_state)
        return Plan(**{name: getattr(self, name) for name in PLAN})

    def _hold_out(self, documents: list[str]) -> tuple[list[str], list[str]]:
        """The last `validation_fraction` of a text's characters, or of the texts."""
        if len(documents) == 1:
            (text,) = documents
            kept = len(text) - max(1, round(self.validation_fraction * len(text)))
            return [text[:kept]], [text[kept:]]
        kept = len(documents) - max(1, round(self.validation_fraction * len(documents)))
        return documents[:kept], documents[kept:]

    def _streams(
        self, name: str, documents: list[str], vocabulary: Vocabulary, n_streams: int | None = None
    ) -> Streams:
        ids = one_stream(documents, vocabulary) if documents else np.zeros(0, np.int64)
        n = len(ids) - 1
        if not (ids != Vocabulary.BOUNDARY).any():
            raise ValueError(f"{name}: expected at least one token, got none")
        if n_streams is not None or self.batch_size == "auto":
            # A stream begins without a state: short ones would know too little.
            n_streams = min(n_streams or STREAMS, max(1, n // self.tbptt_steps))
            return Streams(ids, n_streams, self.tbptt_steps)
        if n < self.batch_size:
            raise ValueError(
                f"{name}: expected at least batch_size={self.batch_size} tokens, got {n}"
            )
        return Streams(ids, self.batch_size, self.tbptt_steps)

    def _identity(self, batches: Streams, validation: Streams | None) -> dict[str, Any]:
        """What a checkpoint must agree with."""
        free = {*FREE, "learning_rate"} if callable(self.learning_rate) else FREE
        parts: dict[str, Any] = {n: repr(v) for n, v in self.get_params().items() if n not in free}
        parts["text"] = batches.digest()
        parts["eval_text"] = None if validation is None else validation.digest()
        parts["vocabulary"] = hashlib.sha256(repr(self.vocabulary_.tokens).encode()).hexdigest()
        return parts

    # Files

    def save(self, path: Any) -> None:
        """Write the fitted model to a file that `fastrnn.load` reads.

        Kept are the layers, the vocabulary, the history and all parameters that are numbers or
        text; a callable, a generator and the checkpoint's path come back as the defaults.

        Parameters
        ----------
        path : str or path-like
            Replaced, if it exists, once the new file is complete.
        """
        self._check_fitted("layers_")
        files.save(self, path)

    def to_file(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What `save` keeps: a description, and the arrays."""
        defaults = self._defaults()
        config = {}
        for name, value in self.get_params().items():
            if name == "dtype" and value is not None:
                value = np.dtype(value).name
            elif isinstance(value, np.generic):
                value = value.item()
            plain = value is None or isinstance(value, (bool, int, float, str))
            config[name] = value if plain and name != "checkpoint" else defaults[name]
        remembered = {
            "config": config,
            "level": self.vocabulary_.level,
            "vocabulary": list(self.vocabulary_.tokens),
            "layers": {
                key: {"type": type(layer).__name__, "config": layer.config()}
                for key, layer in self.layers_.items()
            },
            "texts_end": self._texts_end,
            "history": self.history_,
            "best_loss": self.best_loss_,
            "interrupted": self.interrupted_,
        }
        tensors = {
            f"{key}.{name}": array
            for key, layer in self.layers_.items()
            for name, array in layer.params.items()
        }
        return remembered, tensors

    @classmethod
    def from_file(cls, remembered: Mapping[str, Any], tensors: Mapping[str, Any]) -> Self:
        """The model that `to_file` has described."""
        kinds = {
            "config": dict, "level": str, "vocabulary": list, "layers": dict, "texts_end": bool,
            "history": dict, "best_loss": float, "interrupted": bool,
        }  # fmt: skip
        for key, kind in kinds.items():
            if not isinstance(remembered.get(key), kind):
                got = remembered.get(key)
                raise FormatError(f"{key}: expected {kind.__name__}, got {got!r:.80}")
        config, history = remembered["config"], remembered["history"]
        if set(config) != set(cls._defaults()):
            wanted = sorted(cls._defaults())
            raise FormatError(f"config: expected the names {wanted}, got {sorted(config)!r:.200}")
        if not all(_are_floats(values) for values in history.values()):
            raise FormatError("history: expected lists of numbers")
        model = cls(**config)
        model._check()
        model.vocabulary_ = Vocabulary(remembered["level"], remembered["vocabulary"])
        model.layers_ = load_layers(remembered["layers"], tensors, len(model.vocabulary_))
        model._record(history, remembered["best_loss"], remembered["interrupted"])
        model._texts_end = remembered["texts_end"]
        return model


def _are_floats(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is float for value in values)
