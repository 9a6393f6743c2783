"""Training is PyTorch's: the same loss curve from the same weights, batch for batch, in float64."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("torch")
sys.path.append(str(Path(__file__).resolve().parent.parent))  # what is installed stays before it

import fastrnn
from bench.torch_twin import Twin, start_of

STEPS = 100


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks as small as these lose more to waiting threads than they win."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with fastrnn.threads(1):
        yield
    torch.set_num_threads(before)


def sequences(ragged: bool, n: int = 24, channels: int = 3) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    lengths = draw.integers(2, 13, n) if ragged else [9] * n
    return [draw.normal(size=(T, channels)).cumsum(axis=0) for T in lengths]


def curves(estimator: Any, X: Any, y: Any, **more: Any) -> tuple[list[float], list[float]]:
    """The mean loss of the epoch so far after each of the first steps: ours, and PyTorch's."""
    ours: list[float] = []

    class Watch:
        def after_step(self, state: Any) -> bool:
            ours.append(state.loss)
            return len(ours) == STEPS

    estimator.set_params(max_iter=STEPS, n_iter_no_change=STEPS, tol=-1e9, random_state=5)
    twin = Twin(start_of(estimator, X, y, **more))
    estimator.set_params(callbacks=Watch()).fit(X, y, **more)
    theirs: list[float] = []
    while len(theirs) < STEPS:
        loss, weight = np.array(twin.epoch()).T
        theirs += list((loss * weight).cumsum() / weight.cumsum())
    return ours, theirs[:STEPS]


def same(estimator: Any, X: Any, y: Any, **more: Any) -> None:
    ours, theirs = curves(estimator, X, y, **more)
    assert len(ours) == STEPS
    assert min(ours) < 0.8 * ours[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


CELLS = {
    "lstm": {"cell": "lstm"},
    "gru": {"cell": "gru", "reset_after": True},
    "rnn": {"cell": "rnn"},
}


@pytest.mark.parametrize("ragged", [False, True], ids=["dense", "ragged"])
@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
@pytest.mark.parametrize("cell", CELLS)
def test_classifier(cell: str, pooling: str, ragged: bool) -> None:
    X = sequences(ragged)
    y = np.arange(24) % 3
    model = fastrnn.RNNClassifier(
        hidden_size=8, pooling=pooling, bidirectional=ragged, **CELLS[cell]
    )
    same(model, X, y)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber"])
@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
def test_regressor(pooling: str, loss: str) -> None:
    X = sequences(True)
    y = np.array([[x.mean(), x[:, 0].max()] for x in X])
    model = fastrnn.RNNRegressor(
        hidden_size=8, pooling=pooling, loss=loss, learning_rate_init=0.005
    )
    same(model, X, y, sample_weight=np.linspace(0.5, 2, 24))


def test_labels_in_small_batches_with_a_strong_penalty_and_clipping() -> None:
    X = sequences(True)
    y = np.array([[x.mean() > 0, len(x) > 6] for x in X]).astype(int)
    model = fastrnn.RNNClassifier(
        hidden_size=8, num_layers=2, batch_size=7, alpha=0.3, max_grad_norm=0.1
    )
    same(model, X, y)


def words(n: int = 24) -> list[list[str]]:
    draw = np.random.default_rng(0)
    known = ["the", "a", "cat", "dogs", "sleep", "walked", "home", "slowly"]
    return [list(map(str, draw.choice(known, draw.integers(1, 7)))) for _ in range(n)]


@pytest.mark.parametrize("pooling", ["last", "max"])
def test_texts(pooling: str) -> None:
    texts = [" ".join(one) for one in words()]
    model = fastrnn.TextClassifier(
        hidden_size=8, pooling=pooling, unknown_rate=0.0, batch_size=10, dtype="float64"
    )
    same(model, texts, ["cat" in one for one in texts])


@pytest.mark.parametrize("chars", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_tokens(chars: bool) -> None:
    X = words()
    y = [[len(word) % 3 for word in one] for one in X]
    model = fastrnn.SequenceTagger(
        chars, hidden_size=8, unknown_rate=0.0, batch_size=10, dtype="float64"
    )
    same(model, X, y, sample_weight=np.linspace(0.5, 2, 24))


def test_steps() -> None:
    X = sequences(True)
    same(fastrnn.SequenceTagger(hidden_size=8), X, [(x[:, 0] > 0).astype(int) for x in X])


def test_what_a_start_is_leaves_the_estimator_alone() -> None:
    X, y = sequences(False), np.arange(24) % 2
    model = fastrnn.RNNClassifier(hidden_size=4, random_state=0)
    start = start_of(model, X, y)
    assert not hasattr(model, "layers_")
    assert start.plan.alpha == pytest.approx(1e-4 / 24)
    twin = Twin(start)
    answers = twin.answers(start.estimator._prepared(X))
    np.testing.assert_allclose(answers, start.network.outputs(start.estimator._prepared(X)))


@pytest.mark.parametrize(
    "parameters",
    [{"dropout": 0.5}, {"tbptt_steps": 3}, {"solver": "sgd"}, {"early_stopping": True}],
)
def test_what_has_no_twin_is_refused(parameters: dict[str, Any]) -> None:
    X, y = sequences(False), np.arange(24) % 2
    with pytest.raises(ValueError, match="expected"):
        Twin(start_of(fastrnn.RNNClassifier(random_state=0, **parameters), X, y))
    with pytest.raises(ValueError, match="encoder: expected one without"):
        Twin(start_of(fastrnn.TextClassifier(random_state=0), ["a", "b"], [0, 1]))
