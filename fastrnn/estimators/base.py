"""What all estimators share: parameters and their checks, training, and what remains of it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

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
from fastrnn.files import FormatError
from fastrnn.sequences.network import (
    Encoder,
    Loss,
    SequenceNetwork,
    Supervised,
    Weighted,
    make_layers,
    network_specs,
)
from fastrnn.sequences.pooling import POOLINGS
from fastrnn.training.loop import Training
from fastrnn.training.minibatches import Batches, Sequences, taken
from fastrnn.training.plan import Plan
from fastrnn.training.records import check_header, pairs_of, plain_parameters

__all__ = ["Examples", "SequenceEstimator", "held_out_index"]

Array = NDArray[Any]

CELLS = ("lstm", "gru", "rnn")
BATCH = 200  # batch_size="auto": at most so many
MADE_WITH = (  # what a network is made with, so that it cannot change while training goes on
    "cell", "hidden_size", "num_layers", "bidirectional", "dropout", "recurrent_dropout",
    "reset_after", "nonlinearity", "pooling", "tbptt_steps", "standardize", "dtype",
    "level", "embedding_dim", "min_count", "max_vocabulary", "unknown_rate",
    "chars", "char_embedding_dim", "char_hidden_size",
    "horizon", "window", "strategy", "differencing", "seasonal", "seasonal_mode", "log",
    "quantiles", "skip",
)  # fmt: skip
PLAN = (
    "solver", "learning_rate_init", "learning_rate", "momentum", "alpha", "max_iter",
    "max_grad_norm", "early_stopping", "n_iter_no_change", "tol", "callbacks", "n_threads",
    "verbose",
)  # fmt: skip


class Examples(NamedTuple):
    """What a network learns from: sequences, their targets as numbers, and weights.

    Attributes
    ----------
    items : sequence of length n
        Whatever the network's encoder takes.
    lengths : array (n,) of int64
    targets : sequence of length n
        Rows of an array, or with a target per step arrays (T_i,).
    weight : sequence of length n
        Numbers, or arrays (T_i,).
    """

    items: Sequence[Any]
    lengths: Array
    targets: Any
    weight: Any

    def take(self, index: Array) -> Examples:
        """Some of them."""
        return Examples(*(taken(part, index) for part in self))


class SequenceEstimator(Movable, BaseEstimator):
    """Base of the estimators: the constructor's parameters are the subclass's own.

    A subclass reads X and y, and names its loss; this class makes the network, trains it with the
    one training loop, and keeps the history.
    """

    _pooled = True  # one row for each sequence; else one for each step

    # What a fit leaves

    history_: dict[str, list[float]]
    layers_: dict[str, Any]

    def _fitted_layers(self) -> dict[str, Any]:
        check_is_fitted(self, "layers_")
        return self.layers_

    def _check_parameters(self) -> Plan:
        """Check all shared parameters; the plan of training."""
        check_option("cell", self.cell, CELLS)
        for name in ("hidden_size", "num_layers"):
            check_positive_int(name, getattr(self, name))
        for name in ("bidirectional", "reset_after", "shuffle", "warm_start"):
            check_bool(name, getattr(self, name))
        for name in ("dropout", "recurrent_dropout"):
            check_probability(name, getattr(self, name))
        check_option("nonlinearity", self.nonlinearity, ("tanh", "relu", "sigmoid"))
        if self._pooled:
            check_option("pooling", self.pooling, POOLINGS)
        if not isinstance(self.batch_size, str):
            check_positive_int("batch_size", self.batch_size)
        elif self.batch_size != "auto":
            raise ValueError(f"batch_size: expected an integer or 'auto', got {self.batch_size!r}")
        check_real("validation_fraction", self.validation_fraction, above=0.0, below=1.0)
        if self.tbptt_steps is not None:
            check_positive_int("tbptt_steps", self.tbptt_steps)
            if self.bidirectional:
                raise ValueError(
                    "tbptt_steps: expected None with bidirectional=True, whose reverse direction "
                    f"begins at the end, got {self.tbptt_steps}"
                )
        if self.dtype is not None:
            check_dtype("dtype", self.dtype)
        if not isinstance(self.random_state, np.random.RandomState):
            check_random_state("random_state", self.random_state)
        return Plan(**{name: getattr(self, name) for name in PLAN})

    def _generator(self) -> np.random.Generator:
        """What initial weights, dropout and shuffling are drawn from."""
        state = self.random_state
        if isinstance(state, np.random.RandomState):  # scikit-learn's own
            state = int(state.randint(2**31 - 1))
        return check_random_state("random_state", state)

    # Training

    @contextlib.contextmanager
    def _unchanged_on_error(self) -> Iterator[dict[str, Any]]:
        """Take back what is set inside if it fails; gives what there was before."""
        before = dict(self.__dict__)
        try:
            yield before
        except BaseException:
            self._restore(before)
            raise

    def _restore(self, before: dict[str, Any]) -> None:
        self.__dict__.clear()
        self.__dict__.update(before)

    def _make_network(
        self,
        width: int,
        n_outputs: int,
        dtype: np.dtype,
        encoder: Encoder | None = None,
        beside: Callable[[Sequence[Any]], Array] | None = None,
        beside_width: int = 0,
    ) -> None:
        """Set a new network and what goes with it."""
        specs = network_specs(
            self.get_params(deep=False),
            width,
            n_outputs,
            dtype,
            pooled=self._pooled,
            beside=beside_width,
        )
        self._network = SequenceNetwork(
            make_layers(specs, self._random),
            self.pooling if self._pooled else None,
            encoder,
            float(self.dropout),
            self.tbptt_steps,
            int(self._random.integers(2**63)),
            beside,
        )
        self._made_with = {
            name: value for name, value in self.get_params(deep=False).items() if name in MADE_WITH
        }
        self._optimizer: Any = None
        self.layers_ = self._network.named
        self._record({}, math.inf, False)

    def _check_as_made(self) -> None:
        """Raise a ValueError unless the parameters are those that the network was made with."""
        for name, value in self._made_with.items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"{name}: expected {value!r}, with which the network was made that training "
                    f"goes on with, got {getattr(self, name)!r}"
                )

    def _train(
        self,
        plan: Plan,
        loss: Loss,
        examples: Examples,
        held_out: Examples | None,
        before: dict[str, Any],
        *,
        device: Device | None = None,
        keep_optimizer: bool = False,
    ) -> Self:
        """Train the network.

        Parameters
        ----------
        before : dict
            All attributes as they were before `fit`; so they are again if training fails.
        device : Device, optional
            Where to move the network before.
        keep_optimizer : bool
            Go on with the optimizer of the last such call, as `partial_fit` does.
        """
        back = None
        try:
            if device is not None:
                back = move(self.layers_.values(), device)
            training = Training(
                Supervised(self._network, loss),
                *self._batches_and_plan(examples, plan),
                self._random,
                validation=None if held_out is None else self._validation(held_out),
                model=self,
                optimizer=self._optimizer if keep_optimizer else None,
            )
            outcome = training.run()
        except Exception:
            if back is not None:
                back()
            self._restore(before)
            raise
        self._optimizer = training.optimizer if keep_optimizer else None
        past = self.history_
        history = {name: past.get(name, []) + new for name, new in outcome.history.items()}
        self._record(history, min(self.best_loss_, outcome.best_loss), outcome.interrupted)
        return self

    def _batches_and_plan(self, examples: Examples, plan: Plan) -> tuple[Batches, Plan]:
        """What to walk over, and the plan with its penalty as a batch of these bears it."""
        size, total = self._batch_size(len(examples.items)), _total(examples.weight)
        if not total:
            raise ValueError(
                "sample_weight: expected some weights above 0 of what is trained on, got all 0"
            )
        if plan.solver != "adamw":  # whose decay is no part of the loss
            n_batches = -(-len(examples.items) // size)
            plan = dataclasses.replace(plan, alpha=plan.alpha * n_batches / total)
        return self._batches(examples, size, self.shuffle), plan

    def _validation(self, held_out: Examples) -> Batches:
        if not _total(held_out.weight):
            raise ValueError(
                "sample_weight: expected some weights above 0 of what is held out, got all 0"
            )
        return self._batches(held_out, self._batch_size(len(held_out.items)), False)

    def _batch_size(self, n: int) -> int:
        return min(BATCH, n) if self.batch_size == "auto" else int(self.batch_size)

    @staticmethod
    def _batches(examples: Examples, size: int, shuffle: bool) -> Batches:
        items: Any = examples.items
        vectors = isinstance(items[0], np.ndarray) and items[0].ndim == 2
        if vectors and len({item.shape for item in items}) == 1:
            items = np.stack(items)  # so that a batch is taken at once
        return Sequences(
            items,
            Weighted(examples.targets, examples.weight),
            examples.lengths,
            size,
            shuffle=shuffle,
        )

    def _record(self, history: dict[str, list[float]], best_loss: float, interrupted: bool) -> None:
        """Set the fitted attributes that tell of the training."""
        self.history_ = history
        self.loss_curve_ = history.get("loss", [])
        self.n_iter_ = len(self.loss_curve_)
        self.best_loss_ = best_loss
        self.interrupted_ = interrupted

    # Files

    def save(self, path: Any) -> None:
        """Write the fitted estimator to a file that `fastrnn.load` reads.

        Kept are the layers, all that turns X into their inputs and their outputs into answers, the
        history, and all parameters that are numbers, text, or lists and tables of such; callables
        and generators come back as the defaults. An optimizer is not kept: training that goes on
        after `load` begins with a new one.

        Without scikit-learn `fastrnn.load` gives a `fastrnn.Predictor`, which answers the same.

        Parameters
        ----------
        path : str or path-like
            Replaced, if it exists, once the new file is complete.
        """
        check_is_fitted(self, "layers_")
        files.save(self, path)

    def _header(self) -> dict[str, Any]:
        """What a file tells of every estimator: parameters and training."""
        defaults = type(self)().get_params(deep=False)
        return {
            "estimator": type(self).__name__,
            "config": plain_parameters(self.get_params(deep=False), defaults),
            "history": self.history_,
            "best_loss": self.best_loss_,
            "interrupted": self.interrupted_,
        }

    @classmethod
    def _from_header(cls, remembered: Mapping[str, Any]) -> Self:
        """An estimator of the parameters and the past that a file tells of, without its layers."""
        check_header(remembered, {"made": dict}, set(cls().get_params(deep=False)))
        if remembered.get("estimator") != cls.__name__:
            got = remembered.get("estimator")
            raise FormatError(f"estimator: expected {cls.__name__}, got {got!r:.80}")
        config = {name: pairs_of(value) for name, value in remembered["config"].items()}
        model = cls(**config)
        model._check_parameters()
        model._random = model._generator()
        model._record(remembered["history"], remembered["best_loss"], remembered["interrupted"])
        return model

    def _take_network(self, network: SequenceNetwork, made_with: Mapping[str, Any]) -> None:
        """Set a network out of a file, with what else it has in training."""
        network.drop_in_training(float(self.dropout), int(self._random.integers(2**63)))
        network.tbptt_steps = self.tbptt_steps
        self._network, self._optimizer = network, None
        self._made_with = {name: pairs_of(value) for name, value in made_with.items()}
        self.layers_ = network.named


def _total(weight: Sequence[Any]) -> float:
    """The sum of weights, of sequences or of each one's steps."""
    return float(sum(np.sum(one) for one in weight))


def held_out_index(
    n: int, fraction: float, generator: np.random.Generator, strata: Array | None
) -> tuple[Array, Array]:
    """The numbers of the examples to train on and of those to validate with, each sorted.

    With `strata` (n,), as large a part of every stratum as there can be, at least one of each of
    those that have two or more.
    """
    held = []
    groups = [np.arange(n)] if strata is None else [
        np.flatnonzero(strata == value) for value in np.unique(strata)
    ]  # fmt: skip
    for group in groups:
        count = min(max(1, round(fraction * len(group))), len(group) - 1)
        held.append(generator.permutation(group)[:count])
    validation = np.sort(np.concatenate(held))
    if not len(validation):
        raise ValueError(
            f"validation_fraction: expected sequences to hold out, got {n} in all, too few"
        )
    return np.setdiff1d(np.arange(n), validation), validation
