"""The training loop: what it does to a learner that knows nothing of it."""

from __future__ import annotations

import math
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastrnn import losses
from fastrnn.layers.modules import Linear
from fastrnn.layers.rnn import GRU
from fastrnn.training.loop import train
from fastrnn.training.minibatches import Batch, Sequences, Streams
from fastrnn.training.plan import Plan, TrainingState
from fastrnn.training.schedules import learning_rate


class Line:
    """y = w x + b with squared error: a learner whose every number can be known."""

    def __init__(self) -> None:
        self.linear = Linear(1, 1, dtype="float64", random_state=0)
        self.linear.params["weight"][...] = 0.0
        self.linear.params["bias"][...] = 0.0
        self.layers = [self.linear]
        self.batches: list[Batch] = []

    def learn(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
        self.batches.append(batch)
        y, back = self.linear.forward(np.array(batch.inputs))
        loss, dy = losses.squared_error(y, np.array(batch.targets))
        back(dy)
        return loss, len(y), None

    def assess(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
        y = self.linear(np.array(batch.inputs))
        return losses.squared_error(y, np.array(batch.targets))[0], len(y), None

    @property
    def weight(self) -> float:
        return float(self.linear.params["weight"][0, 0])


class Scripted(Line):
    """Gives the losses it is told to; its gradient is always 1."""

    def __init__(self, epochs: list[float], validation: list[float] | None = None) -> None:
        super().__init__()
        self.script, self.checks = iter(epochs), iter(validation or [])

    def learn(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
        self.linear.grads["weight"][...] += 1.0
        return next(self.script), 1.0, None

    def assess(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
        return next(self.checks), 1.0, None


def points(n: int = 40, batch_size: int = 5, **options: Any) -> Sequences:
    x = np.linspace(-1, 1, n)[:, None]
    return Sequences(list(x), list(3 * x + 1), np.ones(n, int), batch_size, **options)


def one_step() -> Sequences:
    return points(1, 1)


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


# Batches


def test_every_sequence_comes_once_and_like_lengths_together() -> None:
    lengths = np.random.default_rng(1).integers(1, 200, 1003)
    source = Sequences(range(1003), range(1003), lengths, 10)
    order = source.order(generator())
    assert source.count(order) == 101
    batches = [source.batch(order, i) for i in range(101)]
    assert sorted(j for batch in batches for j in batch.inputs) == list(range(1003))
    assert all(batch.fresh for batch in batches)
    assert [len(batch.inputs) for batch in batches] == [10] * 100 + [3]
    spread = np.mean([np.ptp(lengths[batch.which]) for batch in batches])
    assert spread < 10  # of 200; in batches drawn blindly it would be about 160
    longest = [lengths[batch.which].max() for batch in batches[:30]]
    steps = np.diff(longest)
    assert 5 < (steps < 0).sum() < 25, "batches must come in random order, not by length"


def test_the_order_follows_from_the_generator() -> None:
    source = points()
    assert np.array_equal(source.order(generator()), source.order(generator()))
    rng = generator()
    assert not np.array_equal(source.order(rng), source.order(rng))
    assert np.array_equal(points(shuffle=False).order(rng), np.arange(40))


def test_long_sequences_are_cut_into_windows_that_continue() -> None:
    sequences = [np.arange(n) for n in (5, 3, 0, 7)]
    source = Sequences(sequences, sequences, [5, 3, 0, 7], 2, n_steps=3, shuffle=False)
    order = source.order(generator())
    found = [source.batch(order, i) for i in range(source.count(order))]
    assert [[x.tolist() for x in batch.inputs] for batch in found] == [
        [[0, 1, 2], [0, 1, 2]],
        [[3, 4], []],
        [[], [0, 1, 2]],
        [[], [3, 4, 5]],
        [[], [6]],
    ]
    assert [batch.fresh for batch in found] == [True, False, True, False, False]
    assert [batch.which.tolist() for batch in found] == [[0, 1]] * 2 + [[2, 3]] * 3


def test_streams_lie_side_by_side() -> None:
    source = Streams(np.arange(26), 3, 4)  # 8 numbers for each stream, 2 left out
    order = source.order(generator())
    found = [source.batch(order, i) for i in range(source.count(order))]
    assert found[0].inputs.tolist() == [[0, 1, 2, 3], [8, 9, 10, 11], [16, 17, 18, 19]]
    assert found[1].inputs.tolist() == [[4, 5, 6], [12, 13, 14], [20, 21, 22]]
    assert [batch.fresh for batch in found] == [True, False]
    for batch in found:
        assert np.array_equal(batch.targets, batch.inputs + 1)


def test_a_shorter_last_window_may_be_left_out() -> None:
    for n, kept, dropped in ((26, 2, 1), (27, 2, 2), (15, 1, 1)):
        for drop_last, count in ((False, kept), (True, dropped)):
            source = Streams(np.arange(n), 3, 4, drop_last)
            order = source.order(generator())
            assert source.count(order) == count
    assert Streams(np.arange(26), 3, 4).digest() != Streams(np.arange(26), 3, 4, True).digest()
    with pytest.raises(ValueError, match="ids: expected at least 15 numbers, 5 for each of 3"):
        Streams(np.arange(14), 3, 4, True)
    with pytest.raises(TypeError, match="drop_last: expected True or False"):
        Streams(np.arange(14), 3, 4, 1)  # type: ignore[arg-type]


def test_bad_batches_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"ids: expected at least 8 numbers, 2 for each of 4 str.*7"
    ):
        Streams(np.arange(7), 4, 2)
    with pytest.raises(ValueError, match="targets: expected as many as inputs and lengths"):
        Sequences([1], [1, 2], [1], 2)
    with pytest.raises(ValueError, match="batch_size: expected an integer of at least 1"):
        Sequences([1], [1], [1], 0)


# Learning


@pytest.mark.parametrize("solver", ["adam", "adamw", "sgd", "rmsprop", "adagrad"])
def test_every_solver_learns_a_line(solver: str) -> None:
    learner = Line()
    rate = {"sgd": 0.05, "adagrad": 0.5}.get(solver, 0.03)
    plan = Plan(solver=solver, learning_rate_init=rate, max_iter=200, n_iter_no_change=200)
    outcome = train(learner, points(), plan, generator())
    assert outcome.history["loss"][-1] < 0.01 * outcome.history["loss"][0]
    assert learner.weight == pytest.approx(3, abs=0.15)
    assert outcome.best_loss == min(outcome.history["loss"])
    assert not outcome.interrupted


def test_the_history_has_one_entry_of_each_per_epoch() -> None:
    outcome = train(Line(), points(), Plan(max_iter=3), generator(), validation=points())
    assert {name: len(values) for name, values in outcome.history.items()} == dict.fromkeys(
        ["loss", "validation_loss", "learning_rate", "grad_norm", "seconds"], 3
    )
    assert all(type(v) is float for values in outcome.history.values() for v in values)
    assert "validation_loss" not in train(Line(), points(), Plan(max_iter=1), generator()).history


def test_the_loss_is_the_mean_over_predictions_not_over_batches() -> None:
    # 3 points in batches of 2: the last batch counts half.
    source = Sequences([[0.0]] * 3, [[1.0], [1.0], [4.0]], [1] * 3, 2, shuffle=False)
    plan = Plan(solver="sgd", learning_rate_init=1e-30, max_iter=1)
    assert train(Line(), source, plan, generator()).history["loss"] == [(1 + 1 + 16) / 3]


def test_gradients_are_clipped_to_the_norm() -> None:
    learner = Scripted([1.0])
    plan = Plan(solver="sgd", momentum=0.0, learning_rate_init=1.0, max_iter=1, max_grad_norm=0.25)
    outcome = train(learner, one_step(), plan, generator())
    assert learner.weight == -0.25
    assert outcome.history["grad_norm"] == [1.0]


def test_the_penalty_is_the_gradient_of_half_alpha_times_the_square() -> None:
    learner = Scripted([1.0])
    learner.linear.params["weight"][...] = 2.0
    learner.linear.params["bias"][...] = 2.0
    plan = Plan(solver="sgd", momentum=0.0, learning_rate_init=1.0, max_iter=1, alpha=0.125)
    train(learner, one_step(), plan, generator())
    assert learner.weight == 2.0 - (1.0 + 0.125 * 2.0)
    assert learner.linear.params["bias"][0] == 2.0, "biases are not penalized"


def test_state_is_carried_from_window_to_window_and_not_over_epochs() -> None:
    seen: list[tuple[bool, Any]] = []

    class Carrying(Line):
        def learn(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
            seen.append((batch.fresh, state))
            return 1.0, 1.0, len(seen)

    train(Carrying(), Streams(np.arange(10), 2, 2), Plan(max_iter=2), generator())
    assert seen == [(True, None), (False, 1)] * 1 + [(True, None), (False, 3)]


def test_fresh_sequences_begin_without_a_state() -> None:
    seen: list[Any] = []

    class Carrying(Line):
        def learn(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
            seen.append(state)
            return 1.0, 1.0, len(seen)

    sequences = [np.arange(4)] * 3
    source = Sequences(sequences, sequences, [4] * 3, 1, n_steps=2)
    train(Carrying(), source, Plan(max_iter=1), generator())
    assert seen == [None, 1, None, 3, None, 5]


def test_truncated_bptt_equals_one_long_call_forward(tmp_path: Path) -> None:
    """With a learning rate of (nearly) zero the windows' losses are those of the whole."""

    class Recurrent:
        def __init__(self) -> None:
            self.rnn = GRU(1, 4, dtype="float64", random_state=0)
            self.layers = [self.rnn]

        def learn(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
            y, state, back = self.rnn.forward(batch.inputs[..., None] / 9.0, state=state)
            loss, dy = losses.squared_error(y[..., :1], batch.targets[..., None] / 9.0)
            back(np.concatenate([dy, np.zeros((*dy.shape[:2], 3))], axis=2))
            return loss, batch.inputs.size, state

    learner = Recurrent()
    ids = np.arange(9.0)
    plan = Plan(solver="sgd", learning_rate_init=1e-300, max_iter=1)
    outcome = train(learner, Streams(ids, 1, 3), plan, generator())
    y, _ = learner.rnn(ids[None, :8, None] / 9)
    whole, _ = losses.squared_error(y[..., :1], ids[None, 1:, None] / 9)
    assert outcome.history["loss"][0] == pytest.approx(whole, rel=1e-12)


# Learning rates


def test_schedules_are_their_formulas() -> None:
    def rate(name: Any, epoch: int, done: float = 0.0, losses: tuple[float, ...] = ()) -> float:
        return learning_rate(name, 0.1, epoch, done, 10, {"loss": losses}, 1e-4)

    assert rate("constant", 7) == 0.1
    assert rate("linear", 2, 0.5) == pytest.approx(0.1 * 0.75)
    assert rate("cosine", 2, 0.5) == pytest.approx(0.05 * (1 + math.cos(math.pi / 4)))
    assert rate("invscaling", 3) == pytest.approx(0.05)
    assert rate("adaptive", 4, losses=(3, 2, 2, 1)) == 0.1
    assert rate("adaptive", 4, losses=(3, 2, 2, 2)) == pytest.approx(0.02)
    assert rate("adaptive", 6, losses=(3, 2, 2, 2, 1, 1, 1)) == pytest.approx(0.004)
    assert rate(lambda epoch, history: epoch + len(history["loss"]), 3, losses=(1, 1, 1)) == 6.0


def test_a_callable_rate_is_asked_once_an_epoch_and_used() -> None:
    asked = []

    def schedule(epoch: int, history: Any) -> float:
        asked.append((epoch, len(history["loss"])))
        return 0.5**epoch

    plan = Plan(solver="sgd", learning_rate=schedule, max_iter=3)
    outcome = train(Line(), points(), plan, generator())
    assert asked == [(0, 0), (1, 1), (2, 2)]
    assert outcome.history["learning_rate"] == [1.0, 0.5, 0.25]
    bad = Plan(learning_rate=lambda epoch, history: -1.0)
    with pytest.raises(ValueError, match=r"learning_rate\(epoch, history\): expected a number"):
        train(Line(), points(), bad, generator())


# Stopping


def test_training_stops_when_the_loss_no_longer_falls() -> None:
    losses = [5.0, 4.0, 3.95, 3.9, 3.89, 3.0, 1.0]
    plan = Plan(max_iter=50, tol=0.2, n_iter_no_change=3)
    assert len(train(Scripted(losses), one_step(), plan, generator()).history["loss"]) == 5


def test_early_stopping_ends_with_the_best_weights() -> None:
    learner = Scripted([1.0] * 9, [5.0, 3.0, 4.0, 4.0, 4.0, 2.0])
    plan = Plan(
        solver="sgd", momentum=0.0, learning_rate_init=1.0, early_stopping=True, n_iter_no_change=3
    )
    outcome = train(learner, one_step(), plan, generator(), validation=one_step())
    assert outcome.history["validation_loss"] == [5.0, 3.0, 4.0, 4.0, 4.0]
    assert (outcome.best_loss, outcome.best_epoch) == (3.0, 2)
    assert learner.weight == -2.0, "the weights after two steps of 1"


def test_validation_alone_neither_stops_nor_restores() -> None:
    learner = Scripted([3.0, 2.0, 1.0], [1.0, 2.0, 3.0])
    plan = Plan(solver="sgd", momentum=0.0, learning_rate_init=1.0, max_iter=3, n_iter_no_change=1)
    outcome = train(learner, one_step(), plan, generator(), validation=one_step())
    assert outcome.best_loss == 1.0
    assert learner.weight == -3.0


def test_early_stopping_needs_validation() -> None:
    with pytest.raises(ValueError, match="early_stopping: expected data to validate on, got none"):
        train(Line(), points(), Plan(early_stopping=True), generator())


# Callbacks


def test_callbacks_see_every_epoch_and_may_stop() -> None:
    seen: list[tuple[int, int, int, float]] = []

    def callback(state: TrainingState) -> bool:
        seen.append((state.epoch, state.step, state.steps, state.loss))
        assert state.model == "the model"
        return state.epoch == 2

    plan = Plan(max_iter=9, callbacks=callback)
    outcome = train(Line(), points(), plan, generator(), model="the model")
    assert seen == [(i + 1, 8, 8, loss) for i, loss in enumerate(outcome.history["loss"])]
    assert len(seen) == 2


def test_callbacks_after_steps_may_stop_within_an_epoch() -> None:
    class AfterStep:
        steps: list[int] = []  # noqa: RUF012

        def after_step(self, state: TrainingState) -> None:
            self.steps.append(state.step)
            if state.epoch == 1 and state.step == 3:
                state.stop()

    learner = Line()
    plan = Plan(callbacks=[AfterStep()])
    outcome = train(learner, points(), plan, generator())
    assert AfterStep.steps == [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3]
    assert len(learner.batches) == 11
    assert len(outcome.history["loss"]) == 1


# When something goes wrong


def test_a_first_epoch_that_is_not_finite_is_an_error_and_undone() -> None:
    learner = Scripted([1.0, math.nan])
    with pytest.raises(FloatingPointError, match=r"the loss became nan in epoch 1, step 2 \(a sm"):
        train(learner, points(2, 1), Plan(max_iter=3), generator())
    assert learner.weight == 0.0


def test_a_later_one_ends_training_with_the_best_weights() -> None:
    learner = Scripted([1.0, 2.0, math.inf])
    plan = Plan(solver="sgd", momentum=0.0, learning_rate_init=1.0, max_iter=9)
    with pytest.warns(RuntimeWarning, match="the loss became inf in epoch 3.* weights of epoch 1"):
        outcome = train(learner, one_step(), plan, generator())
    assert learner.weight == -1.0
    assert outcome.history["loss"] == [1.0, 2.0]


def test_gradients_that_are_not_finite_never_reach_the_weights() -> None:
    class Exploding(Scripted):
        def learn(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
            self.linear.grads["bias"][...] = np.inf
            return 1.0, 1.0, None

    learner = Exploding([])
    with pytest.raises(FloatingPointError, match="the norm of the gradients became"):
        train(learner, one_step(), Plan(max_grad_norm=1.0), generator())
    assert np.isfinite(learner.linear.params["bias"]).all()


def test_weights_that_are_not_finite_are_never_kept() -> None:
    learner = Scripted([1.0, 1.0, 1.0])
    learner.linear.params["weight"][...] = -1e308
    plan = Plan(solver="sgd", momentum=0.0, learning_rate_init=1.7e308, max_iter=1)
    with (
        pytest.raises(FloatingPointError, match="the parameter weight became nan in epoch 1"),
        np.errstate(over="ignore"),
    ):
        train(learner, one_step(), plan, generator())
    assert learner.weight == -1e308


def test_a_validation_loss_that_is_not_finite_is_an_error() -> None:
    learner = Scripted([1.0], [math.nan])
    with pytest.raises(FloatingPointError, match="the validation loss became nan"):
        train(learner, one_step(), Plan(), generator(), validation=one_step())


class Raising:
    """Raises KeyboardInterrupt in the n-th call of `learn`, after its gradients are there."""

    def __init__(self, learner: Any, at: int) -> None:
        self.inner, self.layers, self.left = learner, learner.layers, at

    def learn(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
        found: tuple[float, float, Any] = self.inner.learn(batch, state)
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return found

    def assess(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
        found: tuple[float, float, Any] = self.inner.assess(batch, state)
        return found


def test_ctrl_c_keeps_what_has_been_learned() -> None:
    learner = Line()
    plan = Plan(solver="sgd", learning_rate_init=0.1, max_iter=9)
    with pytest.warns(UserWarning, match="interrupted after 1 epochs and 3 steps; the model keeps"):
        outcome = train(Raising(learner, 12), points(), plan, generator())
    assert outcome.interrupted
    assert len(outcome.history["loss"]) == 1
    assert learner.weight != 0.0


def test_ctrl_c_with_early_stopping_takes_the_best_weights() -> None:
    learner = Scripted([1.0] * 9, [1.0, 2.0, 3.0])
    plan = Plan(solver="sgd", momentum=0.0, learning_rate_init=1.0, early_stopping=True)
    with pytest.warns(UserWarning, match="interrupted"):
        train(Raising(learner, 4), one_step(), plan, generator(), validation=one_step())
    assert learner.weight == -1.0


def test_a_real_signal_at_any_moment_leaves_a_usable_model() -> None:
    """SIGINT from another thread, wherever the loop happens to be."""
    for delay in (0.0, 0.003, 0.01, 0.03):
        timer = threading.Timer(delay, signal.raise_signal, [signal.SIGINT])

        class Started(Line):
            def learn(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
                if not self.batches:
                    timer.start()  # noqa: B023
                return super().learn(batch, state)

        learner = Started()
        plan = Plan(max_iter=10**6, n_iter_no_change=10**6)
        with pytest.warns(UserWarning, match="interrupted"):
            outcome = train(learner, points(), plan, generator())
        timer.join()
        assert outcome.interrupted
        assert np.isfinite(learner.weight)
        assert len({len(values) for values in outcome.history.values()}) == 1


def test_other_errors_pass_through() -> None:
    def fail(state: TrainingState) -> None:
        raise OSError("mine")

    with pytest.raises(OSError, match="mine"):
        train(Line(), points(), Plan(callbacks=fail), generator())


# The plan


BAD_PLANS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"solver": "lbfgs"}, ValueError, "solver: expected one of 'adam', 'adamw', 'sgd'"),
    ({"learning_rate_init": 0}, ValueError, "learning_rate_init: expected a number above 0"),
    ({"learning_rate_init": "fast"}, TypeError, "learning_rate_init: expected a number"),
    ({"learning_rate": "slow"}, ValueError, "learning_rate: expected one of 'constant'"),
    ({"momentum": 1.0}, ValueError, "momentum: expected a number at least 0 and below 1"),
    ({"alpha": -1}, ValueError, "alpha: expected a number at least 0"),
    ({"max_iter": 0}, ValueError, "max_iter: expected an integer of at least 1"),
    ({"max_iter": 2.5}, TypeError, "max_iter: expected an integer"),
    ({"max_grad_norm": 0}, ValueError, "max_grad_norm: expected a number above 0"),
    ({"early_stopping": 1}, TypeError, "early_stopping: expected True or False"),
    ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change: expected an integer of at least 1"),
    ({"tol": math.nan}, ValueError, "tol: expected a number"),
    ({"callbacks": 3}, TypeError, "callbacks: expected callables, got 3"),
    ({"callbacks": [3]}, TypeError, "callbacks: expected callables, got 3"),
    ({"checkpoint": 3}, TypeError, "checkpoint: expected a path, got 3"),
    ({"checkpoint": "/no/such/c"}, ValueError, "checkpoint: expected a path in a folder that ex"),
    ({"checkpoint": "/"}, ValueError, "checkpoint: expected a path of a file, got the folder '/'"),
    ({"checkpoint_interval": -1}, ValueError, "checkpoint_interval: expected a number at least 0"),
    ({"n_threads": 0}, ValueError, "n_threads: expected an integer of at least 1"),
    ({"verbose": -1}, ValueError, "verbose: expected an integer of at least 0"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_PLANS, ids=range(len(BAD_PLANS)))
def test_a_bad_plan_names_its_fault(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Plan(**options)


# Progress


def test_silent_unless_asked(capfd: pytest.CaptureFixture[str]) -> None:
    train(Line(), points(), Plan(max_iter=2), generator())
    assert capfd.readouterr() == ("", "")


def test_lines_tell_each_epoch(capfd: pytest.CaptureFixture[str]) -> None:
    train(Line(), points(), Plan(max_iter=2, verbose=2), generator(), validation=points())
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2: loss ")
    assert "validation loss" in lines[1]


def test_a_bar_where_tqdm_is_installed(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    train(Line(), points(), Plan(max_iter=1, verbose=1), generator())
    err = capfd.readouterr().err
    assert "epoch 1:" in err
    assert "epoch 1/1: loss " in err


def test_lines_alone_where_it_is_not(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    train(Line(), points(), Plan(max_iter=2, verbose=1), generator())
    assert [line[:10] for line in capfd.readouterr().err.splitlines()] == [
        "epoch 1/2:",
        "epoch 2/2:",
    ]
