"""Checkpoints: a run that was cut off and goes on ends with the bits of one that was not."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastrnn import losses, optim, tensorfile
from fastrnn.files import FormatError
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.modules import Dropout, Linear
from fastrnn.layers.rnn import GRU, LSTM
from fastrnn.layers.sequential import Sequential
from fastrnn.training.checkpoint import read_checkpoint, write_checkpoint
from fastrnn.training.loop import Outcome, train
from fastrnn.training.minibatches import Batch, Sequences, Streams
from fastrnn.training.plan import Plan, TrainingState

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


class Reader:
    """Reads streams of numbers, with every kind of dropout, and carries its state."""

    def __init__(self, seed: int) -> None:
        self.embedding = Embedding(6, 4, random_state=seed)
        self.drop = Dropout(0.2, random_state=seed + 1)
        self.rnn = LSTM(4, 5, 2, dropout=0.3, recurrent_dropout=0.3, random_state=seed + 2)
        self.output = Linear(5, 6, random_state=seed + 3)
        self.layers = [self.embedding, self.drop, self.rnn, self.output]

    def learn(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
        x, embedding_back = self.embedding.forward(batch.inputs)
        x, drop_back = self.drop.forward(x)
        y, state, rnn_back = self.rnn.forward(x, state=state)
        loss, back = losses.linear_cross_entropy(self.output, y, batch.targets)
        assert back is not None
        embedding_back(drop_back(rnn_back(back())[0]))
        return loss, batch.targets.size, state

    def assess(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
        y, state = self.rnn(self.embedding(batch.inputs), state=state)
        loss, _ = losses.linear_cross_entropy(self.output, y, batch.targets, gradient=False)
        return loss, batch.targets.size, state


class Labeler:
    """Sequences of unlike length in shuffled batches, through layers inside a Sequential."""

    def __init__(self, seed: int) -> None:
        self.net = Sequential(
            Dropout(0.2, random_state=seed),
            GRU(2, 4, bidirectional=True, recurrent_dropout=0.2, random_state=seed + 1),
            Linear(8, 3, random_state=seed + 2),
        )
        self.layers = [self.net]

    def learn(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
        y, _, back = self.net.forward(batch.inputs)
        loss, dy = losses.softmax_cross_entropy(y, batch.targets)
        back(dy)
        return loss, sum(map(len, batch.targets)), None

    def assess(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
        y, _ = self.net(batch.inputs)
        loss, _ = losses.softmax_cross_entropy(y, batch.targets)
        return loss, sum(map(len, batch.targets)), None


def streams() -> Streams:
    return Streams(np.random.default_rng(5).integers(0, 6, 90), 3, 5)  # 6 windows


def sequences(n: int = 23) -> Sequences:
    rng = np.random.default_rng(6)
    lengths = rng.integers(1, 9, n)
    x = [rng.standard_normal((t, 2)).astype(np.float32) for t in lengths]
    y = [rng.integers(0, 3, t) for t in lengths]
    return Sequences(x, y, lengths, 4)  # 6 batches


KINDS: dict[str, tuple[Any, Any]] = {"streams": (Reader, streams), "batches": (Labeler, sequences)}


class StopAt:
    """Raises what it is given after so many steps in all."""

    def __init__(self, steps: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.left, self.error = steps, error

    def after_step(self, state: TrainingState) -> None:
        self.left -= 1
        if not self.left:
            raise self.error


def plan(**options: Any) -> Plan:
    return Plan(
        **{
            "solver": "adam",
            "learning_rate_init": 0.02,
            "learning_rate": "cosine",
            "max_grad_norm": 0.5,
            "max_iter": 4,
            "early_stopping": True,
            "alpha": 1e-3,
            **options,
        }
    )


def run(kind: str, seed: int = 0, **options: Any) -> tuple[Any, Outcome]:
    """Train; a fresh learner and fresh data each time, as in a new process."""
    make, data = KINDS[kind]
    learner = make(seed)
    resume = options.pop("resume", False)
    outcome = train(
        learner,
        data(),
        plan(**options),
        np.random.default_rng(seed),
        validation=data(),
        resume=resume,
        identity={"kind": kind},
    )
    return learner, outcome


def bits(learner: Any) -> dict[str, bytes]:
    return {
        f"{i}.{name}": param.tobytes()
        for i, layer in enumerate(learner.layers)
        for name, param in layer.params.items()
    }


def without_time(outcome: Outcome) -> dict[str, list[float]]:
    return {name: values for name, values in outcome.history.items() if name != "seconds"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 4, 6, 7, 11, 12, 13, 23])
def test_cut_off_anywhere_and_resumed_gives_the_same_bits(
    kind: str, steps: int, tmp_path: Path
) -> None:
    path = tmp_path / "run.checkpoint"
    whole, expected = run(kind)
    with pytest.warns(UserWarning, match="interrupted"):
        run(kind, checkpoint=path, callbacks=StopAt(steps))
    # Another seed: everything that was drawn must come out of the file.
    resumed, found = run(kind, seed=77, checkpoint=path, resume=True)
    assert bits(resumed) == bits(whole)
    assert without_time(found) == without_time(expected)
    assert (found.best_loss, found.best_epoch) == (expected.best_loss, expected.best_epoch)


@pytest.mark.parametrize("solver", ["adam", "adamw", "sgd", "rmsprop", "adagrad"])
@pytest.mark.parametrize("schedule", ["constant", "adaptive"])
def test_every_solver_goes_on_with_its_state(solver: str, schedule: str, tmp_path: Path) -> None:
    options = {"solver": solver, "learning_rate": schedule, "tol": 1.0, "n_iter_no_change": 9}
    whole, _ = run("batches", **options)
    path = tmp_path / "c"
    with pytest.warns(UserWarning, match="interrupted"):
        run("batches", checkpoint=path, callbacks=StopAt(9), **options)
    resumed, _ = run("batches", seed=1, checkpoint=path, resume=True, **options)
    assert bits(resumed) == bits(whole)


def test_cut_off_many_times(tmp_path: Path) -> None:
    path = tmp_path / "c"
    whole, _ = run("streams")
    with pytest.warns(UserWarning, match="interrupted"):
        run("streams", checkpoint=path, callbacks=StopAt(3))
    for seed in range(1, 8):
        with pytest.warns(UserWarning, match="interrupted"):
            run("streams", seed, checkpoint=path, resume=True, callbacks=StopAt(2))
    resumed, _ = run("streams", 9, checkpoint=path, resume=True)
    assert bits(resumed) == bits(whole)


@pytest.mark.parametrize("where", ["learn", "clip", "validate"])
def test_interrupted_within_a_step(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a broken step has used up, above all the dropout's call numbers, is given back."""
    path = tmp_path / "c"
    whole, _ = run("streams")
    owner, name = {
        "learn": (Embedding, "zero_grad"),
        "clip": (optim, "clip_grad_norm"),
        "validate": (Reader, "assess"),
    }[where]
    original, calls = getattr(owner, name), [0]

    def interrupted(*args: Any, **named: Any) -> Any:
        calls[0] += 1
        found = original(*args, **named)
        if calls[0] == 8:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        run("streams", checkpoint=path)
    monkeypatch.undo()
    resumed, _ = run("streams", 5, checkpoint=path, resume=True)
    assert bits(resumed) == bits(whole)


def test_half_an_update_is_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c"
    whole, _ = run("streams")
    step, calls = optim.Adam.step, [0]

    def interrupted(optimizer: Any) -> None:
        step(optimizer)
        calls[0] += 1
        if calls[0] == 10:  # its parameters have changed, and the run does not know of it
            raise KeyboardInterrupt

    monkeypatch.setattr(optim.Adam, "step", interrupted)
    with pytest.warns(UserWarning, match="interrupted after 1 epochs and 3 steps"):
        run("streams", checkpoint=path)
    monkeypatch.undo()
    state = read_checkpoint(path)
    assert (state["epoch"], state["position"]) == (1, 0), "the one of the epoch's end must stay"
    resumed, _ = run("streams", 5, checkpoint=path, resume=True)
    assert bits(resumed) == bits(whole)


def test_a_process_that_dies_leaves_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    """No exception, no tidying up: the process is gone in the middle of an epoch."""
    path = tmp_path / "c"
    whole, _ = run("batches")
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_checkpoint as t
class Die:
    left = 9
    def after_step(self, state):
        self.left -= 1
        if not self.left:
            os._exit(7)
t.run("batches", checkpoint={str(path)!r}, checkpoint_interval=0.0, callbacks=Die())
"""
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    state = read_checkpoint(path)
    assert (state["epoch"], state["position"]) == (1, 2)
    resumed, _ = run("batches", 3, checkpoint=path, resume=True)
    assert bits(resumed) == bits(whole)


def test_a_finished_run_goes_on_when_it_may_have_more_epochs(tmp_path: Path) -> None:
    path = tmp_path / "c"
    options = {"learning_rate": "constant"}
    whole, expected = run("batches", max_iter=6, **options)
    run("batches", max_iter=3, checkpoint=path, **options)
    resumed, found = run("batches", 2, max_iter=6, checkpoint=path, resume=True, **options)
    assert bits(resumed) == bits(whole)
    assert without_time(found) == without_time(expected)
    again, found = run("batches", 4, max_iter=6, checkpoint=path, resume=True, **options)
    assert bits(again) == bits(whole), "nothing is left to do but to take the best weights"


def test_without_a_file_a_resumed_run_begins(tmp_path: Path) -> None:
    whole, _ = run("batches")
    begun, _ = run("batches", checkpoint=tmp_path / "c", resume=True)
    assert bits(begun) == bits(whole)
    assert (tmp_path / "c").exists()


def test_checkpoints_do_not_change_the_result(tmp_path: Path) -> None:
    whole, _ = run("streams")
    often, _ = run("streams", checkpoint=tmp_path / "c", checkpoint_interval=0.0)
    assert bits(often) == bits(whole)


@pytest.mark.parametrize("bits_of", [np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_generators_of_every_kind_are_kept(bits_of: Any, tmp_path: Path) -> None:
    path = tmp_path / "c"

    def go(seed: int, **options: Any) -> Any:
        learner = Labeler(seed)
        resume = options.pop("resume", False)
        rng = np.random.Generator(bits_of(seed))
        train(learner, sequences(), plan(early_stopping=False, **options), rng, resume=resume)
        return learner

    whole = go(0)
    with pytest.warns(UserWarning, match="interrupted"):
        go(0, checkpoint=path, callbacks=StopAt(8))
    assert bits(go(1, checkpoint=path, resume=True)) == bits(whole)


# Checkpoints that do not fit


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "c"
    with pytest.warns(UserWarning, match="interrupted"):
        run("batches", checkpoint=path, callbacks=StopAt(8))
    return path


def refuse(path: Path, message: str, **options: Any) -> None:
    learner = Labeler(1)
    before = bits(learner)
    rng = np.random.default_rng(1)
    state = rng.bit_generator.state
    with pytest.raises(ValueError, match=message):
        train(
            learner,
            options.pop("data", sequences()),
            plan(checkpoint=path, **options),
            rng,
            validation=sequences(),
            resume=True,
            identity={"kind": "batches"},
        )
    assert bits(learner) == before, "a refused checkpoint must leave no trace"
    assert rng.bit_generator.state == state


def test_that_of_other_data_is_refused(checkpoint: Path) -> None:
    state = read_checkpoint(checkpoint)
    write_checkpoint(checkpoint, {**state, "identity": {"kind": "others"}})
    refuse(checkpoint, "expected one of kind='batches', got 'others'")


def test_that_of_another_solver_is_refused(checkpoint: Path) -> None:
    refuse(checkpoint, "optimizer: expected the names", solver="sgd")


def test_that_of_other_batches_is_refused(checkpoint: Path) -> None:
    refuse(checkpoint, "order: expected an order of 24 numbers", data=sequences(24))


def histories(values: Any) -> dict[str, Any]:
    names = ["loss", "validation_loss", "learning_rate", "grad_norm", "seconds"]
    return dict.fromkeys(names, values)


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"epoch": "1"}, "epoch: expected a value of type int"),
    ({"position": 99}, "position: expected 0 to 6, got 99"),
    ({"position": -1}, "position: expected 0 to 6, got -1"),
    ({"order": np.zeros(23, np.int64)}, "order: expected an order of 23 numbers"),
    ({"order": np.arange(23.0)}, "order: expected an order of 23 numbers"),
    ({"order": "first"}, "order: expected an order of 23 numbers"),
    ({"params": []}, "params: expected 1 values"),
    ({"masks": [[1]]}, "masks.0: expected 4 values"),
    ({"best": [{}]}, "best.0: expected the names"),
    ({"generator": {}}, "generator: expected the names"),
    ({"history": {}}, "history: expected the names"),
    ({"history": 3}, "history: expected the names"),
    ({"history": histories(3)}, "history.loss: expected 0 values"),
    ({"history": histories([])}, "epoch: expected 0, got 1"),
    ({"history": {**histories([1.0]), "loss": []}}, "history.loss: expected 1 value"),
    ({"epoch": 10**15}, "epoch: expected 1, got 1000000000000000"),
    ({"history": histories(["1"])}, "history.loss.0: expected a value of type float"),
    ({"sums": {"loss": 1.0}}, "sums: expected the names"),
    ({"identity": 3}, "expected one of kind='batches', got None"),
    ({"more": 3}, "expected the names"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES, ids=range(len(CHANGES)))
def test_a_state_that_does_not_fit_is_refused_whole(
    checkpoint: Path, change: dict[str, Any], message: str
) -> None:
    write_checkpoint(checkpoint, {**read_checkpoint(checkpoint), **change})
    refuse(checkpoint, message)


def test_weights_of_another_shape_are_refused(checkpoint: Path) -> None:
    state = read_checkpoint(checkpoint)
    name = next(iter(state["params"][0]))
    state["params"][0][name] = np.zeros((2, 2), np.float32)
    write_checkpoint(checkpoint, state)
    refuse(checkpoint, rf"params\.0\.{name}: expected an array of shape")


def test_truncated_or_altered_checkpoints_are_format_errors(checkpoint: Path) -> None:
    raw = checkpoint.read_bytes()
    for size in range(0, len(raw), 997):
        checkpoint.write_bytes(raw[:size])
        with pytest.raises(FormatError):
            read_checkpoint(checkpoint)
    for place in range(20, len(raw), 997):
        altered = bytearray(raw)
        altered[place] ^= 4
        checkpoint.write_bytes(altered)
        with pytest.raises(FormatError):
            read_checkpoint(checkpoint)


def test_another_file_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "x"
    Linear(2, 2).save(path)
    with pytest.raises(FormatError, match="expected a file of format 'fastrnn-checkpoint', got 'f"):
        read_checkpoint(path)
    tensorfile.write(path, {}, {"format": "fastrnn-checkpoint", "version": "9"})
    with pytest.raises(FormatError, match="expected a checkpoint of version 1, got '9'"):
        read_checkpoint(path)


def test_to_resume_a_path_is_needed() -> None:
    with pytest.raises(ValueError, match="resume: expected a checkpoint to resume from"):
        run("batches", resume=True)


def test_a_disk_that_is_full_keeps_the_last_checkpoint(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checkpoint.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        run("batches", checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before


def test_special_numbers_survive(tmp_path: Path) -> None:
    path = tmp_path / "c"
    write_checkpoint(path, {"a": math.inf, "b": (None, -math.inf), "c": 2**200, "d": 0.1 + 0.2})
    assert read_checkpoint(path) == {
        "a": math.inf,
        "b": (None, -math.inf),
        "c": 2**200,
        "d": 0.1 + 0.2,
    }
