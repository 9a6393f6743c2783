"""Sequence to sequence: translation, spelling to sound, summaries, arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from fastrnn import files
from fastrnn.checks import (
    check_bool,
    check_option,
    check_probability,
    check_random_state,
    check_real,
    describe,
)
from fastrnn.docs import documented
from fastrnn.engine.devices import find
from fastrnn.seq2seq import data
from fastrnn.seq2seq.data import Texts
from fastrnn.seq2seq.network import Network
from fastrnn.seq2seq.parts import BRIDGES, layer_specs, make_layers
from fastrnn.seq2seq.stored import StoredPairs
from fastrnn.text.vocabulary import LEVELS, Vocabulary
from fastrnn.training.loop import Training
from fastrnn.training.plan import Plan

__all__ = ["Seq2Seq"]

BATCH_SIZE = 200  # batch_size="auto", at most


@files.register
@documented
class Seq2Seq(StoredPairs):
    """A recurrent network that reads a sequence of tokens and writes another.

    An encoder reads the source, of characters or words; a decoder, whose state begins where the
    encoder's ends, writes the target token by token, and at each step attends to the steps of the
    source: an embedding, recurrent layers and a linear layer with a softmax (M.-T. Luong, H. Pham
    and C. D. Manning, "Effective approaches to attention-based neural machine translation", EMNLP
    2015). It is trained to give each token of the target, and its end, a high probability after
    those before it.

    Sources and targets are lists of str, or lists of lists of tokens; the two need not be alike.
    Tokens that are not in the vocabulary are read as one unknown token, which is never written.

    Parameters
    ----------
    level : {"char", "word"}, default "char"
        What a token of a str is: a code point, or a run of characters that are not white space (a
        line's end is a token as well). `score` is that of characters or words.
    attention : {"additive", "dot"} or None, default "additive"
        How a step of the source is scored: v . tanh(Wq q + Wk k + b), or q . Wk k; see
        `fastrnn.layers.attention.Attention`. None: the decoder has the encoder's last state alone.
    cell : {"lstm", "gru", "rnn"}, default "lstm"
        The kind of recurrent layers. An LSTM's forget gates start with a bias of 1.
    hidden_size : int, default 256
        Units of each recurrent layer and direction.
    num_layers : int, default 1
        Recurrent layers of the encoder, and as many of the decoder.
    bidirectional : bool, default True
        Whether the encoder reads in both directions.
    embedding_dim : int, default 128
        The size of a token's vector.
    input_feeding : bool, default False
        Whether the decoder also reads what the step before has given to the softmax (Luong et al.,
        section 3.3). Training is then slower, as it goes step by step.
    bridge : {"auto", "copy", "linear", "zeros"}, default "auto"
        How the decoder's first state follows from the encoder's last: the same numbers, the tanh of
        a linear layer, or zeros, which need attention. "auto" is "copy" with one direction and
        "linear" with two.
    share_vocabulary : bool, default False
        Whether sources and targets have one vocabulary; each has its vectors.
    teacher_forcing : float or callable, default 1.0
        How likely, in training, the decoder reads a token of the target, not the one that it finds
        likeliest itself; or a function of the epoch (from 0) and the history, asked once an epoch,
        that gives that (S. Bengio et al., "Scheduled sampling", NeurIPS 2015).
    label_smoothing : float, default 0.0
        In training, the share of each token's probability that is asked for of all tokens alike (C.
        Szegedy et al., CVPR 2016).
    dropout : float, default 0.2
        Probability of dropping a unit, in training, of every recurrent layer's input and of what
        enters the softmax.
    alpha : float, default 0.0
        L2 penalty on weights; with ``solver="adamw"`` its weight decay.
    batch_size : int or "auto", default "auto"
        Pairs in a step of training, of like length; "auto" is min(200, n).
    max_iter : int, default 30
        Epochs, at most: passes over all pairs.
    early_stopping : bool, default False
        Measure the loss of held-out pairs after each epoch, stop when it no longer falls, and keep
        the weights of the best epoch. The pairs are `eval_set`, else those of some of the sources.
    validation_fraction : float, default 0.1
        How many of the distinct sources to hold out if `early_stopping` and no `eval_set` is given.
    n_iter_no_change : int, default 10
        Stop after so many epochs in a row without a change for the better by `tol`, of the training
        loss, or with `early_stopping` of the held-out loss.
    tol : float, default 1e-4
        In nats per token.
    min_count : int, default 1
        Tokens less frequent in the sources, or in the targets, are unknown tokens.
    max_vocabulary : int or None, default None
        At most so many tokens of each side, the most frequent, are known.
    warm_start : bool, default False
        A further `fit` goes on from the layers and the vocabularies there are, whatever parameters
        say of them.
    random_state : int, numpy.random.Generator or None, default None
        For initial weights, batches, dropout and teacher forcing.
    n_threads : int or None, default None
        Threads while training; None leaves the number as it is. Results have the same bits for any.
    dtype : {"float32", "float64"} or None, default None
        What is computed in; None is float32.
    {parameters}

    Attributes
    ----------
    source_vocabulary_, target_vocabulary_ : fastrnn.text.vocabulary.Vocabulary
        The tokens of the sources and of the targets.
    layers_ : dict of str to layer
        ``"source_embedding"``, ``"encoder"``, ``"target_embedding"``, ``"decoder"``, ``"output"``;
        with attention ``"attention"`` and ``"combine"``; with a linear bridge ``"bridge_h_l0"`` and
        the like for each state and layer.
    history_ : dict of str to list of float
        One entry per epoch: ``loss`` (nats per token, measured while the weights changed),
        ``validation_loss`` (nats per token, without smoothing, if there are held-out pairs),
        ``learning_rate``, ``grad_norm`` (the largest before clipping), ``seconds``.
    {attributes}

    Examples
    --------
    >>> from fastrnn import Seq2Seq
    >>> words = ["abc", "cab", "bca", "ba", "ac", "cb", "a", "b", "c"] * 4
    >>> model = Seq2Seq(hidden_size=32, learning_rate_init=0.01, batch_size=9, random_state=0)
    >>> model = model.fit(words, [word[::-1] for word in words])
    >>> model.predict(["cab", "ba"])
    ['bac', 'ab']
    >>> [weights.shape for weights in model.attention_]
    [(3, 3), (2, 2)]
    """

    def __init__(
        self,
        level: str = "char",
        attention: str | None = "additive",
        *,
        cell: str = "lstm",
        hidden_size: int = 256,
        num_layers: int = 1,
        bidirectional: bool = True,
        embedding_dim: int = 128,
        input_feeding: bool = False,
        bridge: str = "auto",
        share_vocabulary: bool = False,
        teacher_forcing: Any = 1.0,
        label_smoothing: float = 0.0,
        dropout: float = 0.2,
        recurrent_dropout: float = 0.0,
        reset_after: bool = False,
        nonlinearity: str = "tanh",
        solver: str = "adam",
        learning_rate_init: float = 0.003,
        learning_rate: Any = "constant",
        momentum: float = 0.9,
        alpha: float = 0.0,
        batch_size: Any = "auto",
        max_iter: int = 30,
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
        self.attention = attention
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.embedding_dim = embedding_dim
        self.input_feeding = input_feeding
        self.bridge = bridge
        self.share_vocabulary = share_vocabulary
        self.teacher_forcing = teacher_forcing
        self.label_smoothing = label_smoothing
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

    def fit(
        self,
        sources: Texts,
        targets: Texts,
        eval_set: Any = None,
        *,
        resume: bool = False,
        device: Any = None,
    ) -> Self:
        """Learn from pairs of texts.

        Parameters
        ----------
        sources, targets : lists of str, or of lists of tokens
            As many of each, the same source any number of times.
        eval_set : (sources, targets), optional
            Pairs whose loss is measured after each epoch.
        resume : bool, default False
            Go on from the file `checkpoint` if there is one, with the same bits as if that run had
            never stopped. Pairs and parameters must be the same; `max_iter` may have grown.
        device : str or array, optional
            Where to train, as `to` takes it; the model stays there. By default the CPU, or with
            `warm_start` where it is.

        Returns
        -------
        Seq2Seq
            Itself.

        Raises
        ------
        ValueError, TypeError
            For a wrong parameter, no pairs, or not as many targets as sources, before anything is
            changed.
        FloatingPointError
            If a loss or gradient is not finite in the first epoch. Later this is a RuntimeWarning:
            training ends, and the model keeps the weights of the best epoch.

        Warns
        -----
        UserWarning
            On Ctrl-C, which ends training early: the model keeps what it has learned, and
            ``interrupted_`` is True.
        """
        plan = self._check()
        place = None if device is None else find(device)
        if check_bool("resume", resume) and self.checkpoint is None:
            raise ValueError("resume: expected a checkpoint to resume from, got checkpoint=None")
        first, second = data.as_texts("sources", sources), data.as_texts("targets", targets)
        data.check_pairs(("sources", "targets"), first, second)
        held_out = None if eval_set is None else data.read_eval_set(eval_set)
        if held_out is None and self.early_stopping:
            first, second, *rest = data.hold_out(first, second, self.validation_fraction)
            held_out = (rest[0], rest[1])
        warm = bool(self.warm_start) and hasattr(self, "layers_")
        vocabularies = self._vocabularies(first, second)
        if warm:
            vocabularies = (self.source_vocabulary_, self.target_vocabulary_)
        pairs = data.encode_pairs(("sources", "targets"), (first, second), vocabularies)
        size = BATCH_SIZE if self.batch_size == "auto" else self.batch_size
        batches = data.batches_of(*pairs, min(size, len(first)))
        validation = None
        if held_out is not None:
            names = ("eval_set[0]", "eval_set[1]")
            held_out = data.encode_pairs(names, held_out, vocabularies)
            validation = data.batches_of(*held_out, min(BATCH_SIZE, len(held_out[0])))
        # From here on nothing is wrong, and the model may change.
        generator = check_random_state("random_state", self.random_state)
        before = dict(self.__dict__)
        if not warm:
            self._make(vocabularies, generator)
        longest = (max(len(s) for s in pairs[0]) - 1, max(len(t) for t in pairs[1]) - 2)
        self._longest = (max(self._longest[0], longest[0]), max(self._longest[1], longest[1]))
        self.__dict__.pop("_last", None)
        network = Network(
            self.layers_,
            self._bridge,
            float(self.dropout),
            float(self.label_smoothing),
            int(generator.integers(2**62)),
        )
        training = Training(
            network,
            batches,
            plan,
            generator,
            validation=validation,
            identity=self._identity(
                pairs=data.digest(*pairs),
                eval_set=None if held_out is None else data.digest(*held_out),
                source_vocabulary=vocabularies[0].digest(),
                target_vocabulary=vocabularies[1].digest(),
            ),
            model=self,
        )
        asked: dict[int, float] = {}  # by epoch

        def forcing() -> float:
            if training.epoch not in asked:
                asked[training.epoch] = self._forcing(training.epoch, training.history)
            return asked[training.epoch]

        network.teacher_forcing = forcing
        return self._train(training, before, resume, place)

    def initialize(self, source_tokens: Any, target_tokens: Any) -> Self:
        """Make layers for known vocabularies without any training.

        Their weights can then be written, ``model.layers_["encoder"].params["weight_ih_l0"][...] =
        ...``, or be trained by a `fit` with ``warm_start=True``. Row 0 of an embedding or of the
        output layer is the unknown token's, row 1 the boundary's: the end of a source, the first
        input of the decoder, and the end of a target; the rows of the tokens follow, in the order
        given.

        Parameters
        ----------
        source_tokens, target_tokens : fastrnn.text.vocabulary.Vocabulary, or sequence of str
            The tokens of each side, without the two symbols. A sequence makes a vocabulary of
            `level`; for one of texts that come as lists of tokens give ``Vocabulary("token",
            tokens)``.

        Returns
        -------
        Seq2Seq
            Itself.
        """
        self._check()
        vocabularies = (
            data.as_vocabulary("source_tokens", source_tokens, self.level),
            data.as_vocabulary("target_tokens", target_tokens, self.level),
        )
        if self.share_vocabulary and vocabularies[0].tokens != vocabularies[1].tokens:
            raise ValueError("target_tokens: expected those of source_tokens, got others")
        self._make(vocabularies, check_random_state("random_state", self.random_state))
        self.__dict__.pop("_last", None)
        return self

    def _make(
        self, vocabularies: tuple[Vocabulary, Vocabulary], generator: np.random.Generator
    ) -> None:
        """Begin anew."""
        self.source_vocabulary_, self.target_vocabulary_ = vocabularies
        sizes = [len(vocabulary) for vocabulary in vocabularies]
        self.layers_ = make_layers(layer_specs(self.get_params(), *sizes), generator)
        self._bridge = str(self.bridge)
        if self.bridge == "auto":
            self._bridge = "linear" if self.bidirectional else "copy"
        self._longest = (0, 0)
        self._record_nothing()

    def _check(self) -> Plan:
        plan = super()._check()
        check_option("level", self.level, LEVELS)
        check_option("attention", self.attention, ("additive", "dot", None))
        for name in ("bidirectional", "input_feeding", "share_vocabulary"):
            check_bool(name, getattr(self, name))
        check_option("bridge", self.bridge, BRIDGES)
        if self.bridge == "copy" and self.bidirectional:
            raise ValueError("bridge: expected 'linear' or 'zeros' with two directions, got 'copy'")
        if self.bridge == "zeros" and self.attention is None:
            raise ValueError("bridge: expected 'copy' or 'linear' without attention, got 'zeros'")
        if not callable(self.teacher_forcing):
            check_real("teacher_forcing", self.teacher_forcing, minimum=0.0, maximum=1.0)
        check_probability("label_smoothing", self.label_smoothing)
        return plan

    def _forcing(self, epoch: int, history: Mapping[str, Sequence[float]]) -> float:
        """The probability of reading a token of the target."""
        if not callable(self.teacher_forcing):
            return float(self.teacher_forcing)
        value = self.teacher_forcing(epoch, history)
        return check_real("teacher_forcing(epoch, history)", value, minimum=0.0, maximum=1.0)

    def _vocabularies(
        self, sources: list[Any], targets: list[Any]
    ) -> tuple[Vocabulary, Vocabulary]:
        """The vocabularies of pairs of texts."""

        def make(texts: list[Any]) -> Vocabulary:
            return Vocabulary.from_texts(
                texts,
                data.level_of(texts, self.level),
                min_count=self.min_count,
                max_size=self.max_vocabulary,
            )

        if not self.share_vocabulary:
            return make(sources), make(targets)
        if data.level_of(sources, self.level) != data.level_of(targets, self.level):
            raise TypeError(
                "targets: expected texts like the sources, with which they share a vocabulary, "
                f"got {describe(targets[0])}"
            )
        both = make(sources + targets)
        return both, both
