"""Language models: the probability of the next character or word, given all before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from fastrnn import files
from fastrnn.checks import (
    check_bool,
    check_option,
    check_positive_int,
    check_random_state,
    check_real,
)
from fastrnn.docs import documented
from fastrnn.engine.devices import find
from fastrnn.engine.initializers import INITIALIZERS
from fastrnn.language.fitted import TextMethods, Texts, one_stream
from fastrnn.language.network import Network, layer_specs, load_layers, make_layers
from fastrnn.text.vocabulary import LEVELS, TOKENS, Text, Vocabulary, read_texts
from fastrnn.training.loop import Training
from fastrnn.training.minibatches import Streams
from fastrnn.training.plan import Plan
from fastrnn.training.trainable import Trainable, describe_layers

__all__ = ["LanguageModel"]

STREAMS = 20  # batch_size="auto"


@files.register
@documented
class LanguageModel(TextMethods, Trainable):
    r"""A recurrent language model of characters, words or whatever tokens a text is split into.

    The model reads a text token by token and gives, after each, the probability of the next:
    an embedding, one or more recurrent layers, and a linear layer with a softmax. It is trained by
    truncated backpropagation through time: the text is cut into `batch_size` streams, read side by
    side in windows of `tbptt_steps` tokens, and the state is carried from window to window.

    Every text begins with a boundary symbol, so that its first token has a probability too. A list
    of texts is read as one, with the boundary between them, and the model learns where texts end.
    With ``boundary=False`` there is no such symbol: texts stand one after the other, and the first
    token of all is only read.

    Parameters
    ----------
    level : {"char", "word", "token"}, default "char"
        What a token is: a code point; a run of characters that are not white space, and
        `line_end`; or whatever str the lists hold that texts are then given as.
    cell : {"lstm", "gru", "rnn"}, default "lstm"
        The kind of recurrent layer.
    hidden_size : int, default 256
        Units in each recurrent layer.
    dropout : float, default 0.0
        Probability of dropping a unit, in training, of every recurrent layer's input and of the
        last one's output.
    forget_bias : float, default 1.0
        With ``cell="lstm"``: added to the initial biases of the forget gates.
    tie_weights : bool, default False
        Whether the embedding's table is the output layer's weight as well: one array with one
        gradient (O. Press and L. Wolf, EACL 2017). Needs ``embedding_dim == hidden_size``.
    init : {"torch", "uniform", "xavier", "orthogonal"}, default "torch"
        How the recurrent layers' parameters begin, see `fastrnn.LSTM`. With "uniform" all begin
        uniform in ±init_scale: those of the embedding and the output too, and all biases.
    init_scale : float or None, default None
        With another `init`: the embedding's and the output's weight begin uniform in ±init_scale,
        and the output's bias at 0. None, as in PyTorch: the embedding's begins standard normal, and
        the output's weight and bias uniform in ±1/sqrt(hidden_size); a tied weight as an output's.
    alpha : float, default 0.0
        L2 penalty on weights; with ``solver="adamw"`` its weight decay.
    loss_reduction : {"mean", "sum"}, default "mean"
        What of a window is minimized: the mean over its tokens, or the sum over its steps of the
        mean over the streams. Gradients are clipped, and `alpha` counts, beside that; losses are
        reported in nats per token in either case.
    batch_size : int or "auto", default "auto"
        Parallel streams; "auto" is 20, fewer for a text that has not 20 windows.
    eval_batch_size : int or None, default None
        Parallel streams of the held-out text. None: as in training, fewer where it is short.
    tbptt_steps : int, default 64
        Tokens in a window: how far gradients reach back.
    drop_last : bool, default False
        Whether to leave out the last window of an epoch in training if it is shorter.
    early_stopping : bool, default False
        Measure the loss of held-out text after each epoch, stop when it no longer falls, and keep
        the weights of the best epoch. The text is `eval_text`, else the last part of the text.
    validation_fraction : float, default 0.1
        How much of the text to hold out if `early_stopping` and no `eval_text` is given.
    min_count : int, default 1
        Tokens less frequent in the text are unknown tokens.
    unknown : str or None, default "<unk>"
        How the unknown symbol reads, as which every unknown token is read, predicted and scored: a
        token of the text that reads so is the symbol itself. None: there is no such symbol, and an
        unknown token is an error.
    boundary : bool, default True
        Whether a boundary symbol comes before each text and, of several, after.
    line_end : str or None, default "\n"
        With ``level="word"``: the token that a line's end is, for instance ``"<eos>"``, and that is
        written for it. None: it only separates, as other white space does.
    warm_start : bool, default False
        A further `fit` goes on from the layers and the vocabulary there are, whatever parameters
        say of them; tokens that are not in the vocabulary stay unknown. `history_` grows, but the
        epochs and the history that a `learning_rate` is given begin anew.
    random_state : int, numpy.random.Generator or None, default None
        For initial weights and dropout.
    dtype : {"float32", "float64"} or None, default None
        What is computed in; None is float32.
    n_threads : int or None, default None
        Threads while training; None leaves the number as it is. Results have the same bits for any.
    {parameters}

    Attributes
    ----------
    vocabulary_ : fastrnn.text.vocabulary.Vocabulary
        The tokens known.
    layers_ : dict of str to layer
        ``"embedding"``, ``"rnn"``, ``"output"``.
    history_ : dict of str to list of float
        For each epoch ``loss`` (nats per token, measured while the weights changed),
        ``validation_loss`` (nats per token over the streams of held-out text, if there is any),
        ``learning_rate``, ``grad_norm`` (the largest, before clipping) and ``seconds``.
    {attributes}

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
        forget_bias: float = 1.0,
        tie_weights: bool = False,
        init: str = "torch",
        init_scale: float | None = None,
        solver: str = "adam",
        learning_rate_init: float = 0.002,
        learning_rate: Any = "constant",
        momentum: float = 0.9,
        alpha: float = 0.0,
        loss_reduction: str = "mean",
        batch_size: Any = "auto",
        eval_batch_size: int | None = None,
        tbptt_steps: int = 64,
        drop_last: bool = False,
        max_iter: int = 20,
        max_grad_norm: float | None = 5.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        min_count: int = 1,
        max_vocabulary: int | None = None,
        unknown: str | None = "<unk>",
        boundary: bool = True,
        line_end: str | None = "\n",
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
        self.forget_bias = forget_bias
        self.tie_weights = tie_weights
        self.init = init
        self.init_scale = init_scale
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.alpha = alpha
        self.loss_reduction = loss_reduction
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.tbptt_steps = tbptt_steps
        self.drop_last = drop_last
        self.max_iter = max_iter
        self.max_grad_norm = max_grad_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.min_count = min_count
        self.max_vocabulary = max_vocabulary
        self.unknown = unknown
        self.boundary = boundary
        self.line_end = line_end
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.checkpoint_interval = checkpoint_interval
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose
        self.n_threads = n_threads
        self.dtype = dtype

    # Training

    def fit(
        self,
        text: Texts,
        eval_text: Texts | None = None,
        *,
        resume: bool = False,
        device: Any = None,
    ) -> Self:
        """Learn from a text.

        Parameters
        ----------
        text : str, list of tokens, or list of such
            A str is one text; a list of str, or of lists of tokens, are several, each of which
            begins and ends by itself. With ``level="token"`` a list of str is one text.
        eval_text : str, list of tokens, or list of such, optional
            Text whose loss is measured after each epoch.
        resume : bool, default False
            Go on from the file `checkpoint` if there is one, with the same bits as if that run had
            never stopped. Text and parameters must be the same; `max_iter` may have grown.
        device : str or array, optional
            Where to train, as `to` takes it; the model stays there. By default the CPU, or with
            `warm_start` where it is.

        Returns
        -------
        LanguageModel
            Itself.

        Raises
        ------
        ValueError, TypeError
            For a wrong parameter, a text without tokens, one too short for `batch_size`, or with
            ``unknown=None`` an unknown token, before anything is changed.
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
        With n tokens, boundaries among them, each stream has n // batch_size, of which all but the
        first are predicted; the fewer than `batch_size` tokens that are left at the end are not
        read. A text that is shorter than a window is a window by itself. A list of texts is read in
        its order.
        """
        plan = self._check()
        place = None if device is None else find(device)
        if check_bool("resume", resume) and self.checkpoint is None:
            raise ValueError("resume: expected a checkpoint to resume from, got checkpoint=None")
        warm = self.warm_start and hasattr(self, "layers_")
        level = self.vocabulary_.level if warm else self.level
        documents, _ = read_texts("text", text, level)
        held_out = None if eval_text is None else read_texts("eval_text", eval_text, level)[0]
        if held_out is None and self.early_stopping:
            documents, held_out = self._hold_out(documents)
        if warm:
            vocabulary = self.vocabulary_
        else:
            vocabulary = Vocabulary.from_texts(
                documents, self.level, min_count=self.min_count, max_size=self.max_vocabulary,
                **self._symbols(),
            )  # fmt: skip
        batches = self._streams("text", documents, vocabulary)
        validation = None
        if held_out is not None:
            validation = self._streams("eval_text", held_out, vocabulary, batches)
        # From here on nothing is wrong, and the model may change.
        generator = check_random_state("random_state", self.random_state)
        before = dict(self.__dict__)
        if not warm:
            self.vocabulary_ = vocabulary
            specs = layer_specs(self.get_params(), len(vocabulary))
            self.layers_ = make_layers(specs, generator, self.init, self.init_scale)
            self._record_nothing()
            self._texts_end = False
        self._texts_end = self._texts_end or (vocabulary.boundary and len(documents) > 1)
        network = Network(
            self.layers_, float(self.dropout), generator, self.loss_reduction == "sum"
        )
        training = Training(
            network,
            batches,
            plan,
            generator,
            validation=validation,
            identity=self._identity(
                text=batches.digest(),
                eval_text=None if validation is None else validation.digest(),
                vocabulary=vocabulary.digest(),
            ),
            model=self,
        )
        return self._train(training, before, resume, place)

    def _check(self) -> Plan:
        plan = super()._check()
        check_option("level", self.level, (*LEVELS, TOKENS))
        check_positive_int("tbptt_steps", self.tbptt_steps)
        check_real("forget_bias", self.forget_bias)
        check_option("loss_reduction", self.loss_reduction, ("mean", "sum"))
        check_bool("drop_last", self.drop_last)
        if self.eval_batch_size is not None:
            check_positive_int("eval_batch_size", self.eval_batch_size)
        if check_bool("tie_weights", self.tie_weights) and self.embedding_dim != self.hidden_size:
            raise ValueError(
                f"embedding_dim: expected hidden_size={self.hidden_size} with tie_weights=True, "
                f"got {self.embedding_dim}"
            )
        check_option("init", self.init, INITIALIZERS)
        if self.init_scale is not None:
            check_real("init_scale", self.init_scale, minimum=0.0)
        elif self.init == "uniform":
            raise ValueError("init_scale: expected a number with init='uniform', got None")
        Vocabulary(self.level, (), **self._symbols())
        return plan

    def _symbols(self) -> dict[str, Any]:
        """What the parameters say of a vocabulary's symbols."""
        return {"unknown": self.unknown, "boundary": self.boundary, "line_end": self.line_end}

    def _hold_out(self, documents: list[Text]) -> tuple[list[Text], list[Text]]:
        """The last `validation_fraction` of a text's characters or tokens, or of the texts."""
        if len(documents) == 1:
            text: Any = documents[0]
            kept = len(text) - max(1, round(self.validation_fraction * len(text)))
            return [text[:kept]], [text[kept:]]
        kept = len(documents) - max(1, round(self.validation_fraction * len(documents)))
        return documents[:kept], documents[kept:]

    def _streams(
        self,
        name: str,
        documents: Sequence[Text],
        vocabulary: Vocabulary,
        trained_on: Streams | None = None,
    ) -> Streams:
        """The texts as streams to train on; or to measure, beside those."""
        ids = one_stream(documents, vocabulary, name)
        if not (ids != vocabulary.boundary_number).any():
            raise ValueError(f"{name}: expected at least one token, got none")
        steps = self.tbptt_steps
        if trained_on is None:
            size, most, drop_last = self.batch_size, STREAMS, self.drop_last
        else:
            size, most, drop_last = self.eval_batch_size or "auto", trained_on.n_streams, False
        if size == "auto":  # a stream begins without a state: short ones would know too little
            size = min(most, max(1, (len(ids) - 1) // steps))
        least = steps + 1 if drop_last else 2
        if len(ids) < size * least:
            counted = "tokens and boundaries" if vocabulary.boundary else "tokens"
            raise ValueError(
                f"{name}: expected at least {size * least} {counted}, {least} for each of {size} "
                f"streams, got {len(ids)}"
            )
        return Streams(ids, size, steps, drop_last)

    # Files

    def to_file(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What `save` keeps: a description, and the arrays."""
        described, tensors = describe_layers(self.layers_)
        own = {"vocabulary": self.vocabulary_.config(), "texts_end": self._texts_end}
        return {**self._header(), **own, "layers": described}, tensors

    @classmethod
    def from_file(cls, remembered: Mapping[str, Any], tensors: Mapping[str, Any]) -> Self:
        """The model that `to_file` has described."""
        kinds = {"vocabulary": dict, "texts_end": bool, "layers": dict}
        model = cls._from_header(remembered, kinds)
        model.vocabulary_ = Vocabulary(**remembered["vocabulary"])
        model.layers_ = load_layers(remembered["layers"], tensors, len(model.vocabulary_))
        model._texts_end = remembered["texts_end"]
        return model
