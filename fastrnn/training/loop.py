"""The one training loop: all that estimators share, and nothing of what they are.

The loop knows a *learner*, which turns a batch into a loss and gradients, and a source of
*batches*. It clips, updates, validates, keeps the best weights, stops early, reports, and writes
checkpoints from which a run goes on with the same bits.

A run stands *between two steps* or inside one. Ctrl-C and checkpoints only ever keep the former:
what a step changes before its update (gradients, dropout counters) is taken back when the step
is broken off, and the update itself is marked, so that half of one is never written to a file.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from fastrnn import optim
from fastrnn.checks import namespace
from fastrnn.engine.arrays import entered, to_host
from fastrnn.engine.mask_numbers import mask_numbers, set_mask_numbers
from fastrnn.tensorfile import FormatError
from fastrnn.thread_count import threads
from fastrnn.training.checkpoint import (
    Path,
    beside_like,
    check_like,
    copy_into,
    on_host,
    read_checkpoint,
    write_checkpoint,
)
from fastrnn.training.minibatches import Batch, Batches
from fastrnn.training.plan import History, Plan, TrainingState
from fastrnn.training.progress import Progress
from fastrnn.training.schedules import learning_rate
from fastrnn.training.solvers import add_penalty, make_optimizer

__all__ = ["Learner", "Outcome", "Training", "train"]


class Learner(Protocol):
    """What the loop trains.

    ``layers`` are all objects with ``params`` and ``grads``. Both methods take the state that the
    batch before has left, None for a batch that is ``fresh``, and return the mean loss, its weight
    (how many predictions it is the mean of) and the state to carry, detached: no gradient flows
    through it.
    """

    @property
    def layers(self) -> Sequence[Any]:
        """All that has parameters."""

    def learn(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
        """Forward and backward in training mode; adds to the layers' gradients."""

    def assess(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
        """Forward alone, as in inference."""


@dataclass(slots=True)
class Outcome:
    """What `train` returns.

    Attributes
    ----------
    history : dict of str to list of float
        For each complete epoch: ``loss`` (mean training loss, measured while the weights changed),
        ``validation_loss`` if there is validation, ``learning_rate`` (of its last step),
        ``grad_norm`` (the largest, before clipping), ``seconds``.
    best_loss : float
        The lowest loss watched, infinite before the first epoch is complete.
    best_epoch : int
        The epoch of it, from 1; 0 if none is complete.
    interrupted : bool
        Whether Ctrl-C ended it.
    """

    history: History
    best_loss: float
    best_epoch: int
    interrupted: bool


def train(
    learner: Learner,
    batches: Batches,
    plan: Plan,
    generator: np.random.Generator,
    *,
    validation: Batches | None = None,
    resume: bool = False,
    identity: Mapping[str, Any] | None = None,
    model: Any = None,
) -> Outcome:
    """Train the learner's layers, in place.

    Parameters
    ----------
    learner : Learner
        What to train.
    batches : Batches
        What to train on.
    plan : Plan
        How.
    generator : numpy.random.Generator
        Draws the order of each epoch, and nothing else.
    validation : Batches, optional
        What to measure after every epoch; needed for early stopping.
    resume : bool, default False
        Go on from ``plan.checkpoint`` if that file exists. The result has the same bits as if the
        run had never been interrupted. A run that was complete goes on if ``max_iter`` has grown.
    identity : mapping of str to numbers or text, optional
        What data and configuration this is; a checkpoint that differs in it is refused.
    model : object, optional
        What callbacks see.

    Returns
    -------
    Outcome

    Raises
    ------
    FloatingPointError
        A loss, gradient or weight became NaN or infinite in the first epoch. The weights are then
        those from before it. In a later epoch this is a RuntimeWarning instead, training ends, and
        the weights are those of the best epoch.
    FormatError
        The checkpoint is truncated or altered.
    ValueError
        The checkpoint is of other data or another configuration.

    Warns
    -----
    UserWarning
        On Ctrl-C, which ends training as a last epoch does: the model keeps what it has learned
        (with early stopping, the best weights so far), and a checkpoint is written if one is asked
        for. A second Ctrl-C meanwhile is an ordinary KeyboardInterrupt.
    """
    training = Training(
        learner, batches, plan, generator, validation=validation, identity=identity, model=model
    )
    if resume:
        training.resume()
    return training.run()


class _NotFiniteError(Exception):
    """A loss or gradient is not finite; the message tells which, and where."""


@dataclass(slots=True)
class _Sums:
    """What an epoch's steps add up to."""

    loss: float = 0.0  # each step's mean times its weight
    weight: float = 0.0
    grad_norm: float = 0.0  # the largest
    seconds: float = 0.0

    @property
    def mean(self) -> float:
        return self.loss / self.weight if self.weight else 0.0


class Training:
    """What `train` does, in two steps: `resume`, which may refuse a checkpoint, and `run`.

    Parameters are those of `train`, and an optimizer of the learner's layers to go on with.
    """

    def __init__(
        self,
        learner: Learner,
        batches: Batches,
        plan: Plan,
        generator: np.random.Generator,
        *,
        validation: Batches | None = None,
        identity: Mapping[str, Any] | None = None,
        model: Any = None,
        optimizer: Any = None,
    ) -> None:
        if plan.early_stopping and validation is None:
            raise ValueError("early_stopping: expected data to validate on, got none")
        self.learner, self.batches, self.plan = learner, batches, plan
        self.generator, self.validation = generator, validation
        self.identity, self.model = dict(identity or {}), model
        self.layers = list(learner.layers)
        self.optimizer = make_optimizer(plan, self.layers) if optimizer is None else optimizer
        self.progress = Progress(plan.verbose, plan.max_iter)
        self.epoch = 0  # complete ones
        self.order: Any = None  # of the current epoch; None while it is not drawn
        self.position = 0  # steps done in it
        self.carried: Any = None
        self.rate = math.nan  # what a callable schedule has said for the current epoch
        self.sums = _Sums()
        self.history: History = {"loss": []}
        if validation is not None:
            self.history["validation_loss"] = []
        self.history |= {"learning_rate": [], "grad_norm": [], "seconds": []}
        self.best = [_copy(layer.params) for layer in self.layers]
        self.best_loss, self.best_epoch = math.inf, 0
        self.target = math.inf  # a watched loss below this is a change
        self.no_change = 0
        self.torn = False  # inside an update: not a place to go on from
        self.stopped = False
        self.saved_at = time.monotonic()

    # The loop

    def run(self) -> Outcome:
        """Train until the end; see `train`."""
        where = entered(self._like)
        with threads(self.plan.n_threads), where, contextlib.closing(self.progress):
            return self._run()

    @property
    def _like(self) -> Any:
        """An array where the layers are, all of them."""
        params = (param for layer in self.layers for param in layer.params.values())
        return next(params, None)

    def _run(self) -> Outcome:
        interrupted = False
        try:
            while not self._finished():
                self._run_epoch()
            if self.plan.early_stopping:
                self._take_best()
        except _NotFiniteError as error:
            self._take_best()
            if not self.best_epoch:
                raise FloatingPointError(f"{error}; the weights are as before training") from None
            message = f"{error}; training ends with the weights of epoch {self.best_epoch}"
            warnings.warn(message, RuntimeWarning, stacklevel=5)
        except KeyboardInterrupt:
            interrupted = True
            if self.plan.checkpoint is not None and not self.torn:
                self.save(self.plan.checkpoint)
            if self.plan.early_stopping:
                self._take_best()
            message = (
                f"training was interrupted after {self.epoch} epochs and {self.position} steps; "
                "the model keeps what it has learned"
            )
            warnings.warn(message, stacklevel=5)
        return Outcome(self.history, self.best_loss, self.best_epoch, interrupted)

    def _finished(self) -> bool:
        return (
            self.stopped
            or self.epoch >= self.plan.max_iter
            or self.no_change >= self.plan.n_iter_no_change
        )

    def _run_epoch(self) -> None:
        if self.order is None:
            self.torn = True  # the generator has gone on, and the order is not there yet
            self.order = self.batches.order(self.generator)
            self.torn = False
        steps = self.batches.count(self.order)
        self.progress.begin_epoch(self.epoch, self.position, steps)
        while self.position < steps:
            rate = self._learning_rate(steps)
            self._step(rate)
            self.progress.step(self.sums.mean)
            self._call("after_step", steps, rate)
            if self.stopped:
                return
            age = time.monotonic() - self.saved_at
            if self.plan.checkpoint is not None and age >= self.plan.checkpoint_interval:
                self.save(self.plan.checkpoint)
        for layer in self.layers:
            for name, param in layer.params.items():
                if not _is_finite(param):  # a finite gradient, too large a learning rate
                    self._check_finite(f"parameter {name}", math.nan)
        self._end_epoch(self._validate(), self.optimizer.learning_rate)
        self.progress.end_epoch(self.history)
        self._call("__call__", steps, self.optimizer.learning_rate)
        if self.plan.checkpoint is not None:
            self.save(self.plan.checkpoint)

    def _step(self, rate: float) -> None:
        """One update; on any exception everything is as before it, or `torn` is set."""
        begun = time.perf_counter()
        batch = self.batches.batch(self.order, self.position)
        masks = [mask_numbers(layer) for layer in self.layers]
        try:
            for layer in self.layers:
                layer.zero_grad()
            state = None if batch.fresh else self.carried
            loss, weight, carried = self.learner.learn(batch, state)
            add_penalty(self.plan, self.layers)
            limit = math.inf if self.plan.max_grad_norm is None else self.plan.max_grad_norm
            norm = float(optim.clip_grad_norm(self.layers, limit))
            self._check_finite("loss", loss)
            self._check_finite("norm of the gradients", norm)
            self.optimizer.learning_rate = rate
            self.torn = True
        except BaseException:
            for layer, numbers in zip(self.layers, masks, strict=True):
                set_mask_numbers(layer, numbers)
            raise
        self.optimizer.step()
        self.position += 1
        self.carried = carried
        self.sums.loss += loss * weight
        self.sums.weight += weight
        self.sums.grad_norm = max(self.sums.grad_norm, norm)
        self.sums.seconds += time.perf_counter() - begun
        self.torn = False

    def _validate(self) -> float | None:
        """Mean validation loss of the weights as they are."""
        if self.validation is None:
            return None
        order = self.validation.order(np.random.default_rng(0))  # one order, epoch for epoch
        sums, state = _Sums(), None
        for i in range(self.validation.count(order)):
            batch = self.validation.batch(order, i)
            loss, weight, state = self.learner.assess(batch, None if batch.fresh else state)
            sums.loss += loss * weight
            sums.weight += weight
        self._check_finite("validation loss", sums.mean)
        return sums.mean

    def _end_epoch(self, validation_loss: float | None, rate: float) -> None:
        self.torn = True
        row = {**asdict(self.sums), "loss": self.sums.mean, "learning_rate": rate}
        watched = row["loss"]
        if validation_loss is not None:
            row["validation_loss"] = validation_loss
            if self.plan.early_stopping:
                watched = validation_loss
        # One assignment, so that Ctrl-C cannot leave lists of unlike lengths.
        self.history = {name: [*values, row[name]] for name, values in self.history.items()}
        self.epoch += 1
        if watched < self.target:
            self.target, self.no_change = watched - self.plan.tol, 0
        else:
            self.no_change += 1
        if watched < self.best_loss:
            self.best_loss, self.best_epoch = watched, self.epoch
            for layer, kept in zip(self.layers, self.best, strict=True):
                copy_into(layer.params, kept)
        self.order, self.position, self.carried = None, 0, None
        self.rate, self.sums = math.nan, _Sums()
        self.torn = False

    def _learning_rate(self, steps: int) -> float:
        plan = self.plan
        if callable(plan.learning_rate):
            if math.isnan(self.rate):
                self.rate = learning_rate(
                    plan.learning_rate, plan.learning_rate_init, self.epoch, 0.0, plan.max_iter,
                    self.history, plan.tol,
                )  # fmt: skip
            return self.rate
        return learning_rate(
            plan.learning_rate, plan.learning_rate_init, self.epoch, self.position / steps,
            plan.max_iter, self.history, plan.tol,
        )  # fmt: skip

    def _check_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise _NotFiniteError(
                f"the {what} became {value} in epoch {self.epoch + 1}, step {self.position + 1} "
                "(a smaller learning_rate_init or max_grad_norm may help)"
            )

    def _take_best(self) -> None:
        for layer, kept in zip(self.layers, self.best, strict=True):
            copy_into(kept, layer.params)

    def _call(self, method: str, steps: int, rate: float) -> None:
        """Call those of the plan's callbacks that have the method."""
        for callback in self.plan.callback_list:
            if hasattr(callback, method):
                done = method == "__call__"  # after an epoch the sums have been reset
                state = TrainingState(
                    epoch=self.epoch,
                    step=steps if done else self.position,
                    steps=steps,
                    loss=self.history["loss"][-1] if done else self.sums.mean,
                    learning_rate=rate,
                    history=self.history,
                    model=self.model,
                )
                answer = getattr(callback, method)(state)
                self.stopped = self.stopped or bool(answer) or state.stopped

    # Checkpoints

    def _state(self) -> dict[str, Any]:
        """All that decides how the run goes on."""
        return {
            "identity": self.identity,
            "params": [on_host(layer.params) for layer in self.layers],
            "masks": [mask_numbers(layer) for layer in self.layers],
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.bit_generator.state,
            "epoch": self.epoch,
            "order": self.order,
            "position": self.position,
            "carried": on_host(self.carried),
            "rate": self.rate,
            "sums": asdict(self.sums),
            "history": self.history,
            "best": self.best,
            "best_loss": self.best_loss,
            "best_epoch": self.best_epoch,
            "target": self.target,
            "no_change": self.no_change,
        }

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        write_checkpoint(path, self._state())
        self.saved_at = time.monotonic()

    def resume(self) -> None:
        """Go on where the plan's checkpoint stopped, or at the beginning if there is none."""
        if self.plan.checkpoint is None:
            raise ValueError("resume: expected a checkpoint to resume from, got checkpoint=None")
        with contextlib.suppress(FileNotFoundError):
            self.restore(self.plan.checkpoint)

    def restore(self, path: Path) -> None:
        """Go on where a checkpoint stopped; all of it is checked before any of it is used."""
        where = f"checkpoint {path}"
        found, live = read_checkpoint(path), self._state()
        theirs = found.get("identity")
        for name, value in self.identity.items():
            other = theirs.get(name) if isinstance(theirs, dict) else None
            if other != value:
                raise ValueError(f"{where}: expected one of {name}={value!r}, got {other!r:.200}")
        free = [name for name in ("order", "carried") if name in found]  # of no fixed shape
        history = found.get("history")
        epochs = max(map(_length, history.values()), default=0) if isinstance(history, dict) else 0
        live["history"] = {name: [0.0] * epochs for name in self.history}
        check_like({**found, **{name: live[name] for name in free}}, live, where)
        if found["epoch"] != epochs:
            raise FormatError(f"{where}.epoch: expected {epochs}, got {found['epoch']}")
        self._check_order(found["order"], found["position"], where)
        try:
            self.generator.bit_generator.state = found["generator"]
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise FormatError(f"{where}.generator: expected its state, got: {error}") from None
        for layer, params, numbers in zip(
            self.layers, found["params"], found["masks"], strict=True
        ):
            copy_into(params, layer.params)
            set_mask_numbers(layer, numbers)
        self.optimizer.load_state_dict(found["optimizer"])
        copy_into(found["best"], self.best)
        self.sums = _Sums(**found["sums"])
        for name in (
            "epoch", "order", "position", "carried", "rate", "history",
            "best_loss", "best_epoch", "target", "no_change",
        ):  # fmt: skip
            setattr(self, name, found[name])
        self.carried = beside_like(self.carried, self._like)

    def _check_order(self, order: Any, position: int, where: str) -> None:
        """Raise a FormatError unless `order` could have been drawn, and `position` lies in it."""
        if order is not None:
            expected = np.sort(self.batches.order(np.random.default_rng(0)))
            right = isinstance(order, np.ndarray) and order.dtype == expected.dtype
            if not (right and np.array_equal(np.sort(order), expected)):
                raise FormatError(f"{where}.order: expected an order of {len(expected)} numbers")
        steps = 0 if order is None else self.batches.count(order)
        if not 0 <= position <= steps:
            raise FormatError(f"{where}.position: expected 0 to {steps}, got {position}")


def _is_finite(array: Any) -> bool:
    xp = namespace(array)
    return bool(xp.all(xp.isfinite(array)))


def _length(values: Any) -> int:
    return len(values) if isinstance(values, list) else 0


def _copy(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.array(to_host(array)) for name, array in params.items()}
