"""Training is PyTorch's: the same loss curve from the same weights, batch for batch, in float64."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("torch")

import fastrnn
from bench.torch_twin import Twin, in_torch, start_of

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


def with_our_draws(twin: Twin) -> Twin:
    """The same net with the masks and the unknown tokens of ours."""
    import torch

    def mask(ours: Any) -> Any:
        if ours is None:
            return torch.nn.Identity()
        drop = copy.deepcopy(ours)
        return lambda x: x * torch.from_numpy(drop.forward(np.ones(x.shape))[0])

    network = copy.deepcopy(twin.network)
    del twin.net.drop
    twin.net.drop = mask(network.drop)
    if twin.net.encoder is not None:
        unknowns = network.encoder.unknowns
        del twin.net.encoder.unknowns, twin.net.encoder.drop
        twin.net.encoder.drop = mask(network.encoder.drop)
        twin.net.encoder.unknowns = lambda ids: (
            ids if unknowns is None else torch.from_numpy(unknowns(ids.numpy()))
        )
    return twin


def curves(estimator: Any, *data: Any, **more: Any) -> tuple[list[float], list[float]]:
    """The mean loss of the epoch so far after each of the first steps: ours, and PyTorch's."""
    ours: list[float] = []

    class Watch:
        def after_step(self, state: Any) -> bool:
            ours.append(state.loss)
            return len(ours) == STEPS

    estimator.set_params(max_iter=STEPS, n_iter_no_change=STEPS, tol=-1e9, random_state=5)
    twin = with_our_draws(Twin(start_of(estimator, *data, **more)))
    estimator.set_params(callbacks=Watch()).fit(*data, **more)
    theirs: list[float] = []
    while len(theirs) < STEPS:
        loss, weight = np.array(twin.epoch()).T
        theirs += list((loss * weight).cumsum() / weight.cumsum())
    return ours, theirs[:STEPS]


def same(estimator: Any, *data: Any, **more: Any) -> None:
    ours, theirs = curves(estimator, *data, **more)
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
        hidden_size=8, pooling=pooling, dropout=0.2, batch_size=10, dtype="float64"
    )
    same(model, texts, ["cat" in one for one in texts])


@pytest.mark.parametrize("chars", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_tokens(chars: bool) -> None:
    X = words()
    y = [[len(word) % 3 for word in one] for one in X]
    model = fastrnn.SequenceTagger(
        chars, hidden_size=8, dropout=0.1, batch_size=10, dtype="float64"
    )
    same(model, X, y, sample_weight=np.linspace(0.5, 2, 24))


@pytest.mark.parametrize("strategy", ["direct", "recursive"])
def test_series(strategy: str) -> None:
    """Rows beside the recurrent layers, covariates, a rate that falls with every step."""
    t = np.arange(60.0)
    y = np.exp(t / 50) * (5 + np.sin(t / 2)) + np.random.default_rng(0).normal(size=60) / 4
    model = fastrnn.Forecaster(
        4, 10, strategy, 1, 12, True, hidden_size=8, cell="gru", reset_after=True, batch_size=16
    )
    same(model, y, np.cos(t / 5))


def test_estimators_that_answer_in_pytorch() -> None:
    X = sequences(True, 60)
    y = np.array([x.mean() > 0 for x in X])
    model = fastrnn.RNNClassifier(hidden_size=8, max_iter=30, random_state=1).fit(X, y)
    twin = in_torch(model, model.n_iter_).fit(X, y)
    np.testing.assert_allclose(twin.predict_proba(X), model.predict_proba(X), rtol=1e-6)
    assert twin.score(X, y) == model.score(X, y) > 0.9
    assert (
        np.abs(in_torch(model, 1).fit(X, y).predict_proba(X) - model.predict_proba(X)).max() > 0.1
    )

    series = np.sin(np.arange(80) / 3)
    forecaster = fastrnn.Forecaster(4, 12, max_iter=20, random_state=2)
    theirs = in_torch(forecaster, 20).backtest(series, 3)
    np.testing.assert_allclose(theirs.forecast, forecaster.backtest(series, 3).forecast, rtol=1e-6)


def test_what_pytorch_draws_itself() -> None:
    """As much is dropped, and as often a token is unknown, as by ours; in inference nothing."""
    texts = ["a", "a", "b"] * 300
    model = fastrnn.TextClassifier(dropout=0.3, unknown_rate=2.0, random_state=0)
    twin = Twin(start_of(model, texts, [0, 1, 1] * 300))
    import torch

    ids = torch.from_numpy(np.full((50, 40), 1))
    (counts,) = (np.unique(ids.numpy(), return_counts=True)[1],)
    encoder = twin.net.encoder
    unknown = (encoder.unknowns(ids) == 0).float().mean()
    expected = float(twin.network.encoder.unknowns.p[1])
    assert counts.sum() == 2000 and unknown == pytest.approx(expected, abs=0.02)
    for drop in (encoder.drop, twin.net.drop):
        dropped = drop(torch.ones(100, 100))
        assert (dropped == 0).float().mean() == pytest.approx(0.3, abs=0.03)
        assert dropped.max() == pytest.approx(1 / 0.7)
    items = twin.batches.batch(np.arange(3), 0).inputs
    np.testing.assert_allclose(twin.answers(items), twin.network.outputs(items), rtol=1e-5)


def test_steps() -> None:
    X = sequences(True)
    same(fastrnn.SequenceTagger(hidden_size=8), X, [(x[:, 0] > 0).astype(int) for x in X])


def test_what_a_start_is_leaves_the_estimator_alone() -> None:
    X, y = sequences(False), np.arange(24) % 2
    model = fastrnn.RNNClassifier(hidden_size=4, random_state=0)
    start = start_of(model, X, y)
    assert not hasattr(model, "layers_")
    assert start.plan.alpha == pytest.approx(1e-4 / 24)
    items = start.batches.batch(np.arange(24), 0).inputs
    np.testing.assert_allclose(Twin(start).answers(items), start.network.outputs(items))


@pytest.mark.parametrize(
    "parameters",
    [
        {"recurrent_dropout": 0.5},
        {"dropout": 0.5, "num_layers": 2},
        {"tbptt_steps": 3},
        {"solver": "sgd"},
        {"early_stopping": True},
        {"learning_rate": "adaptive"},
    ],
)
def test_what_has_no_twin_is_refused(parameters: dict[str, Any]) -> None:
    X, y = sequences(False), np.arange(24) % 2
    with pytest.raises(ValueError, match="expected"):
        Twin(start_of(fastrnn.RNNClassifier(random_state=0, **parameters), X, y))
