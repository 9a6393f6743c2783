"""What models that need NumPy alone share: checks of parameters, training, history and files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

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
from fastrnn.engine.devices import Device
from fastrnn.engine.movable import Movable
from fastrnn.engine.parameters import move
from fastrnn.parameterized import Parameterized
from fastrnn.training.loop import Training
from fastrnn.training.plan import Plan
from fastrnn.training.records import check_header, plain_parameters

__all__ = ["Trainable", "describe_layers"]

CELLS = ("lstm", "gru", "rnn")
PLAN = (
    "solver", "learning_rate_init", "learning_rate", "momentum", "alpha", "max_iter",
    "max_grad_norm", "early_stopping", "n_iter_no_change", "tol", "callbacks", "checkpoint",
    "checkpoint_interval", "n_threads", "verbose",
)  # fmt: skip
# What a resumed run may change: none of it decides which bits the next step computes.
FREE = ("max_iter", "callbacks", "checkpoint", "checkpoint_interval", "n_threads", "verbose",
        "warm_start", "random_state")  # fmt: skip
SCHEDULES = ("learning_rate", "teacher_forcing")  # which may be callables, that nothing tells apart


class Trainable(Movable, Parameterized):
    """Base of `fastrnn.LanguageModel` and `fastrnn.Seq2Seq`, which add what they are.

    A subclass's parameters have the names that are checked here, and further ones of its own.
    """

    layers_: dict[str, Any]
    history_: dict[str, list[float]]
    loss_curve_: list[float]
    best_loss_: float
    n_iter_: int
    interrupted_: bool

    _sizes: ClassVar[Sequence[str]] = ("hidden_size", "num_layers", "embedding_dim", "min_count")

    def _fitted_layers(self) -> dict[str, Any]:
        self._check_fitted("layers_")
        return self.layers_

    def _check(self) -> Plan:
        """Check the parameters that such models have in common; the plan of training."""
        model: Any = self
        check_option("cell", model.cell, CELLS)
        for name in self._sizes:
            check_positive_int(name, getattr(self, name))
        for name in ("dropout", "recurrent_dropout"):
            check_probability(name, getattr(self, name))
        for name in ("reset_after", "warm_start"):
            check_bool(name, getattr(self, name))
        check_option("nonlinearity", model.nonlinearity, ("tanh", "relu", "sigmoid"))
        if not isinstance(model.batch_size, str):
            check_positive_int("batch_size", model.batch_size)
        elif model.batch_size != "auto":
            raise ValueError(f"batch_size: expected an integer or 'auto', got {model.batch_size!r}")
        check_real("validation_fraction", model.validation_fraction, above=0.0, below=1.0)
        if model.max_vocabulary is not None:
            check_positive_int("max_vocabulary", model.max_vocabulary)
        if model.dtype is not None:
            check_dtype("dtype", model.dtype)
        if not isinstance(model.random_state, np.random.Generator):
            check_random_state("random_state", model.random_state)
        return Plan(**{name: getattr(self, name) for name in PLAN})

    # Training

    def _train(
        self,
        training: Training,
        before: Mapping[str, Any],
        resume: bool,
        device: Device | None = None,
    ) -> Self:
        """Train, and add to the history.

        Parameters
        ----------
        training : Training
            Of this model's layers.
        before : mapping
            All attributes as they were before `fit`; so they are again, and the layers where they
            were, if nothing was learned because a checkpoint is refused or the first epoch fails.
        resume : bool
            Whether to go on from the checkpoint.
        device : Device, optional
            Where to move the layers before.
        """
        learned, back = False, None
        try:
            if device is not None:
                back = move(self.layers_.values(), device)
            if resume:
                training.resume()
            learned = True  # and stays so, whatever a callback may raise
            outcome = training.run()
        except FloatingPointError:
            learned = False
            raise
        finally:
            if not learned:
                if back is not None:
                    back()
                self.__dict__.clear()
                self.__dict__.update(before)
        past = self.history_
        history = {name: past.get(name, []) + new for name, new in outcome.history.items()}
        self._record(history, outcome.best_loss, outcome.interrupted)
        return self

    def _identity(self, **digests: str | None) -> dict[str, str | None]:
        """What a checkpoint must agree with: parameters, and digests of what is learned from."""
        given = self.get_params()
        called = {name for name in SCHEDULES if callable(given.get(name))}
        parameters = {n: repr(v) for n, v in given.items() if n not in {*FREE, *called}}
        return {**parameters, **digests}

    def _record(self, history: dict[str, list[float]], best_loss: float, interrupted: bool) -> None:
        """Set the fitted attributes that tell of the training."""
        self.history_ = history
        self.loss_curve_ = history.get("loss", [])
        self.n_iter_ = len(self.loss_curve_)
        self.best_loss_ = best_loss
        self.interrupted_ = interrupted

    def _record_nothing(self) -> None:
        """Set them as they are before any training."""
        self._record({}, math.inf, False)

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

    def _header(self) -> dict[str, Any]:
        """What a file tells of every such model: parameters and training."""
        return {
            "config": plain_parameters(self.get_params(), self._defaults()),
            "history": self.history_,
            "best_loss": self.best_loss_,
            "interrupted": self.interrupted_,
        }

    @classmethod
    def _from_header(cls, remembered: Mapping[str, Any], kinds: Mapping[str, type]) -> Self:
        """A model of the parameters and the past that a file tells of, without its layers.

        Parameters
        ----------
        remembered : mapping
            What the file tells.
        kinds : mapping of str to type
            Of what it must tell besides.
        """
        check_header(remembered, kinds, set(cls._defaults()))
        config, history = remembered["config"], remembered["history"]
        model = cls(**config)
        model._check()
        model._record(history, remembered["best_loss"], remembered["interrupted"])
        return model


def describe_layers(layers: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Layers for a file: class and configuration of each, and the arrays as ``<layer>.<name>``."""
    described = {
        key: {"type": type(layer).__name__, "config": layer.config()}
        for key, layer in layers.items()
    }
    tensors = {
        f"{key}.{name}": array
        for key, layer in layers.items()
        for name, array in layer.params.items()
    }
    return described, tensors
