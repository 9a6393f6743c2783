"""What the documentation of models and estimators has in common, written once."""

from __future__ import annotations

import ast
import inspect
from typing import Any, TypeVar

__all__ = ["ARGUMENTS", "ATTRIBUTES", "PARAMETERS", "documented"]

Class = TypeVar("Class", bound=type)

PARAMETERS = {
    "cell": """
        cell : {"lstm", "gru", "rnn"}, default "lstm"
            The kind of recurrent layer. An LSTM's forget gates start with a bias of 1.""",
    "hidden_size": """
        hidden_size : int, default 64
            H, units of each recurrent layer and direction.""",
    "num_layers": """
        num_layers : int, default 1
            Recurrent layers; each further one reads the outputs of the one below.""",
    "bidirectional": """
        bidirectional : bool, default False
            Whether a second direction walks each sequence from its end; the two stand side by
            side.""",
    "dropout": """
        dropout : float, default 0.0
            Probability, in [0, 1), of dropping a number between recurrent layers and before the
            last linear layer, and of the vectors of tokens, in training.""",
    "recurrent_dropout": """
        recurrent_dropout : float, default 0.0
            Probability, in [0, 1), of dropping a unit from all of a sequence's recurrent products,
            in training (Y. Gal and Z. Ghahramani, NeurIPS 2016).""",
    "reset_after": """
        reset_after : bool, default False
            With ``cell="gru"``: whether the reset gate acts after the product, as in PyTorch, and
            not before, as in the paper. See `fastrnn.GRU`.""",
    "nonlinearity": """
        nonlinearity : {"tanh", "relu", "sigmoid"}, default "tanh"
            With ``cell="rnn"``: the function of the sums.""",
    "pooling": """
        pooling : {"last", "mean", "max", "attention"}, default "last"
            How the states at all steps become one row for each sequence: where each direction
            ends, the mean, each unit's largest value, or the mean with learned weights (Z. Yang et
            al., NAACL 2016). Padding takes no part.""",
    "standardize": """
        standardize : bool, default True
            Subtract from each channel its mean over all real steps of the training data, and divide
            by its standard deviation, both weighted by `sample_weight`. With `partial_fit` the
            first call decides.""",
    "missing": """
        missing : {"error", "skip"}, default "error"
            What to do with NaN: refuse it, or leave out the steps that are NaN in all
            channels. A step that is NaN in some channels is always refused.""",
    "input_layout": """
        input_layout : {"ntd", "ndt"}, default "ntd"
            The axes of an X of three dimensions: sequences, steps, channels, or sequences,
            channels, steps. Arrays in a list are then (T_i, D) or (D, T_i). Never guessed.""",
    "alpha": """
        alpha : float, default 1e-4
            L2 penalty: alpha/2 times the sum of squares of all weights (not biases), divided by the
            number of sequences in a batch, is added to the loss (with `sample_weight`, by the mean
            over batches of their sums of weights). With ``solver="adamw"`` it is the decoupled
            weight decay instead. Reported losses are without it.""",
    "solver": """
        solver : {"adam", "adamw", "sgd", "rmsprop", "adagrad"}, default "adam"
            The rule of updates, see `fastrnn.optim`.""",
    "learning_rate_init": """
        learning_rate_init : float, default 0.01
            The learning rate that `learning_rate` starts from.""",
    "learning_rate": """
        learning_rate : str or callable, default "constant"
            ``"constant"``, ``"linear"`` or ``"cosine"`` (down to 0 at `max_iter`),
            ``"invscaling"``, ``"adaptive"`` (a fifth after two epochs without a gain of `tol`),
            or a function of the epoch (from 0) and `history_` that gives the epoch's rate.""",
    "momentum": """
        momentum : float, default 0.9
            For ``solver="sgd"``, in [0, 1).""",
    "batch_size": """
        batch_size : int or "auto", default "auto"
            Sequences in a step of training; "auto" is min(200, n).""",
    "shuffle": """
        shuffle : bool, default True
            Whether batches are drawn anew for each epoch, of sequences of like length. Without it
            sequences come in the order of X.""",
    "max_iter": """
        max_iter : int, default 200
            Epochs, at most: passes over all of the training data.""",
    "max_grad_norm": """
        max_grad_norm : float or None, default 5.0
            The gradients are scaled by min(1, max_grad_norm / norm), the norm taken over all of
            them. None leaves them as they are.""",
    "tbptt_steps": """
        tbptt_steps : int or None, default None
            Truncated BPTT: walk a sequence in windows of so many steps, with the state carried on
            but no gradient of it. It bounds how far back gradients reach. Not with
            `bidirectional`.""",
    "early_stopping": """
        early_stopping : bool, default False
            Whether to watch the validation loss instead of the training loss, and to end with the
            weights of the epoch where it was lowest. The validation data are
            `validation_fraction` of the training data, or the `eval_set` given to `fit`.""",
    "validation_fraction": """
        validation_fraction : float, default 0.1
            In (0, 1): how much of the data `early_stopping` holds out, of each class alike.""",
    "n_iter_no_change": """
        n_iter_no_change : int, default 50
            Stop after so many epochs in a row in which the watched loss has not fallen by
            `tol`.""",
    "tol": """
        tol : float, default 1e-4
            In the unit of the loss.""",
    "class_weight": """
        class_weight : dict, "balanced" or None, default None
            A factor of each class's weights, by class; "balanced" gives all classes the same
            weight in sum. It multiplies `sample_weight`.""",
    "warm_start": """
        warm_start : bool, default False
            Whether `fit` goes on with the weights of the last call; classes, width and scaling
            stay.""",
    "callbacks": """
        callbacks : callable, list of callables or None, default None
            Each is called with a `fastrnn.training.plan.TrainingState` after every epoch; one
            with a method ``after_step`` has that called after every step. A true answer ends
            training.""",
    "checkpoint": """
        checkpoint : str, path or None, default None
            A file to go on from if training is cut off: see `fit`. It is written after each epoch,
            on Ctrl-C, and within an epoch every `checkpoint_interval` seconds.""",
    "checkpoint_interval": """
        checkpoint_interval : float, default 600.0
            Seconds; 0 for a checkpoint after every step.""",
    "random_state": """
        random_state : int, numpy.random.Generator, numpy.random.RandomState or None, default None
            What initial weights, batches, held-out data and dropout follow from.""",
    "verbose": """
        verbose : int, default 0
            0 is silent, 1 shows lines and a bar, 2 lines alone.""",
    "n_threads": """
        n_threads : int or None, default None
            Threads of native code in `fit` and in answers; None leaves the number as it is, see
            `fastrnn.set_num_threads`. Results have the same bits for any number.""",
    "dtype": """
        dtype : {"float32", "float64"} or None, default None
            What is computed in; None follows X, whose integers become float64, and is float32 for
            text.""",
    "embedding_dim": """
        embedding_dim : int, default 64
            The size of a token's vector.""",
    "min_count": """
        min_count : int, default 1
            Tokens that come less often in the training data are unknown, as are those of later data
            that are not in the vocabulary.""",
    "max_vocabulary": """
        max_vocabulary : int or None, default None
            At most so many tokens, the most frequent, are known.""",
    "unknown_rate": """
        unknown_rate : float, default 0.25
            How often known tokens are read as unknown in training, so that the unknown token is
            learned: one that comes n times, with probability unknown_rate / (unknown_rate + n) (E.
            Kiperwasser and Y. Goldberg, TACL 4, 2016).""",
}

ATTRIBUTES = {
    "layers_": """
        layers_ : dict of str to layer
            The network's layers: ``"rnn"``, ``"output"`` and what else it has.""",
    "history_": """
        history_ : dict of str to list of float
            For each epoch ``loss``, ``validation_loss`` if there is validation,
            ``learning_rate``, ``grad_norm`` (the largest, before clipping) and ``seconds``.""",
    "loss_curve_": """
        loss_curve_ : list of float
            ``history_["loss"]``: mean training losses, measured while the weights changed.""",
    "best_loss_": """
        best_loss_ : float
            The lowest loss watched: of validation with `early_stopping`, else of training.""",
    "n_iter_": """
        n_iter_ : int
            Epochs in all.""",
    "interrupted_": """
        interrupted_ : bool
            Whether Ctrl-C ended the last training; the estimator keeps what it has learned.""",
}

ARGUMENTS = {  # of methods, by their marks
    "{device}": """
        device : str or array, optional
            Where to train, as `to` takes it; the estimator stays there. By default the CPU, or
            where a network is that training goes on with. Data are read on the host anyway.""",
}


def documented(cls: Class) -> Class:
    """Put shared texts where docstrings of a class and its methods have marks.

    A class's are ``{parameters}`` and ``{attributes}``, its methods' those of `ARGUMENTS`.
    Parameters come in the order of the constructor, with its defaults; what the docstring itself
    describes is left out.
    """
    text = inspect.cleandoc(cls.__doc__ or "")
    own = {line.split(" : ")[0] for line in text.splitlines() if " : " in line}
    parameters = [
        _with_default(inspect.cleandoc(PARAMETERS[name]), parameter.default)
        for name, parameter in inspect.signature(cls).parameters.items()
        if name in PARAMETERS and name not in own
    ]
    attributes = [inspect.cleandoc(said) for name, said in ATTRIBUTES.items() if name not in own]
    text = text.replace("{parameters}", "\n".join(parameters))
    cls.__doc__ = text.replace("{attributes}", "\n".join(attributes))
    for method in filter(inspect.isfunction, vars(cls).values()):
        for mark, said in ARGUMENTS.items():
            if method.__doc__ and mark in method.__doc__:
                text = inspect.cleandoc(method.__doc__)
                method.__doc__ = text.replace(mark, inspect.cleandoc(said))
    return cls


def _with_default(said: str, default: Any) -> str:
    """A parameter's text with the default of one class, where it is another."""
    first, _, rest = said.partition("\n")
    head, _, written = first.rpartition(", default ")
    if ast.literal_eval(written) == default:
        return said
    shown = f'"{default}"' if isinstance(default, str) else repr(default)
    return f"{head}, default {shown}\n{rest}"
