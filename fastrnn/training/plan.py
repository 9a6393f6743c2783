"""How to train, and what a callback sees of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastrnn.checks import (
    check_bool,
    check_int,
    check_option,
    check_positive_int,
    check_real,
    describe,
)
from fastrnn.training.checkpoint import Path
from fastrnn.training.schedules import Schedule, check_schedule

__all__ = ["SOLVERS", "Callback", "History", "Plan", "TrainingState"]

SOLVERS = ("adam", "adamw", "sgd", "rmsprop", "adagrad")

Callback = Callable[["TrainingState"], Any]
History = dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to train; the names are those of the estimators' parameters.

    Parameters
    ----------
    solver : {"adam", "adamw", "sgd", "rmsprop", "adagrad"}
        The rule of updates.
    learning_rate_init : float
        The learning rate that `learning_rate` starts from.
    learning_rate : str or callable
        ``"constant"``, ``"linear"``, ``"cosine"``, ``"invscaling"``, ``"adaptive"``, or a function
        of the epoch (from 0) and the history that gives the epoch's rate; see
        `fastrnn.training.schedules.learning_rate`.
    momentum : float
        For ``solver="sgd"``, in [0, 1).
    alpha : float
        L2 penalty: alpha/2 times the sum of squares of all weights (not biases) is added to the
        mean loss; its gradient is clipped with the rest. ``"adamw"`` takes it as its decoupled
        weight decay instead. Reported losses are without it.
    max_iter : int
        Epochs, at most.
    max_grad_norm : float or None
        The gradients are scaled by min(1, max_grad_norm / norm), with the norm over all of them.
    early_stopping : bool
        Watch the validation loss instead of the training loss, and end with the weights of the
        epoch where it was lowest.
    n_iter_no_change : int
        Stop after so many epochs in a row in which the watched loss has not fallen by `tol`.
    tol : float
        In the unit of the loss.
    callbacks : callable, or sequence of callables, or None
        Each is called with a `TrainingState` after every epoch; one that has a method
        ``after_step`` has that called after every step. A true answer, or ``state.stop()``, ends
        training.
    checkpoint : path or None
        Where to write checkpoints: after every epoch, on Ctrl-C, and within an epoch when the last
        is `checkpoint_interval` seconds old.
    checkpoint_interval : float
        Seconds; 0 for a checkpoint after every step.
    n_threads : int or None
        Threads while training; None leaves the number as it is.
    verbose : int
        0 is silent, 1 shows lines and a bar, 2 lines alone.
    """

    solver: str = "adam"
    learning_rate_init: float = 0.001
    learning_rate: Schedule = "constant"
    momentum: float = 0.9
    alpha: float = 0.0
    max_iter: int = 200
    max_grad_norm: float | None = None
    early_stopping: bool = False
    n_iter_no_change: int = 10
    tol: float = 1e-4
    callbacks: Callback | Sequence[Callback] | None = None
    checkpoint: Path | None = None
    checkpoint_interval: float = 600.0
    n_threads: int | None = None
    verbose: int = 0

    def __post_init__(self) -> None:
        check_option("solver", self.solver, SOLVERS)
        check_real("learning_rate_init", self.learning_rate_init, above=0.0)
        check_schedule("learning_rate", self.learning_rate)
        check_real("momentum", self.momentum, minimum=0.0, below=1.0)
        check_real("alpha", self.alpha, minimum=0.0)
        check_positive_int("max_iter", self.max_iter)
        if self.max_grad_norm is not None:
            check_real("max_grad_norm", self.max_grad_norm, above=0.0, finite=False)
        check_bool("early_stopping", self.early_stopping)
        check_positive_int("n_iter_no_change", self.n_iter_no_change)
        check_real("tol", self.tol, finite=False)
        if self.checkpoint is not None:
            _check_path("checkpoint", self.checkpoint)
        check_real("checkpoint_interval", self.checkpoint_interval, minimum=0.0, finite=False)
        if self.n_threads is not None:
            check_positive_int("n_threads", self.n_threads)
        check_int("verbose", int(self.verbose), 0)  # True counts as 1
        for callback in self.callback_list:
            if not callable(callback) and not hasattr(callback, "after_step"):
                raise TypeError(f"callbacks: expected callables, got {describe(callback)}")

    @property
    def callback_list(self) -> list[Any]:
        """The callbacks as a list."""
        if self.callbacks is None:
            return []
        if isinstance(self.callbacks, Sequence):
            return list(self.callbacks)
        return [self.callbacks]


@dataclass(slots=True)
class TrainingState:
    """What a callback sees.

    Attributes
    ----------
    epoch : int
        Complete epochs.
    step, steps : int
        Steps done in the current epoch, and how many it has; after an epoch both are its number.
    loss : float
        Mean training loss of the epoch so far.
    learning_rate : float
        That of the last step.
    history : dict of str to list of float
        One entry for each complete epoch.
    model : object
        The model or estimator that is being trained; it can be used, not changed.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    learning_rate: float
    history: History
    model: Any
    stopped: bool = False

    def stop(self) -> None:
        """End training after this step, as if it had reached its last epoch."""
        self.stopped = True


def _check_path(name: str, path: object) -> None:
    """Raise an error now if a file could not be written there after an hour of training."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name}: expected a path, got {describe(path)}")
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise ValueError(
            f"{name}: expected a path in a folder that exists, got {os.fspath(path)!r}"
        )
    if os.path.isdir(path):
        raise ValueError(f"{name}: expected a path of a file, got the folder {os.fspath(path)!r}")
