"""Estimators that are trained, and answer, where another library's arrays are."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import put, stays
from stand_in_cupy import failing

import fastrnn

sklearn = pytest.importorskip("sklearn")

__all__ = ["put"]

N = 12
RNG = np.random.default_rng(3)
RAGGED = [RNG.standard_normal((2 + i % 4, 2)) for i in range(N)]
DENSE = RNG.standard_normal((N, 5, 2))
CLASSES = np.array(["a", "b", "c"])[np.arange(N) % 3]
LABELS = (RNG.uniform(size=(N, 3)) > 0.5).astype(int)
NUMBERS = RNG.standard_normal((N, 2))
WEIGHT = RNG.uniform(0.5, 2, N)
TEXTS = ["".join(RNG.choice(list("abcd"), 2 + i % 4)) for i in range(N)]
WORDS = [text.replace("a", "a ").split() or ["b"] for text in TEXTS]
KINDS = [np.array([len(word) > 1 for word in words]) for words in WORDS]
STEPS = [np.arange(len(one)) % 2 for one in RAGGED]
SERIES = np.sin(np.arange(30) / 3) + 2
KNOWN = RNG.standard_normal((30, 2))

SMALL = {"hidden_size": 3, "max_iter": 2, "batch_size": 5, "random_state": 1, "dtype": "float64"}
DEEP = {"bidirectional": True, "num_layers": 2, "dropout": 0.2, "recurrent_dropout": 0.1}
EARLY = {"early_stopping": True, "validation_fraction": 0.3}


def close(found: Any, expected: Any) -> None:
    if isinstance(expected, list):
        for one, other in zip(found, expected, strict=True):
            close(one, other)
        return
    assert isinstance(found, np.ndarray | float)
    if np.asarray(expected).dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
    else:
        np.testing.assert_array_equal(found, expected)


def same(its: Any, mine: Any, X: Any, methods: tuple[str, ...]) -> None:
    """Fail unless a model somewhere has learned and answers as one on the host."""
    for kind in mine.history_.keys() - {"seconds"}:
        close(np.array(its.history_[kind]), np.array(mine.history_[kind]))
    for method in methods:
        close(getattr(its, method)(X), getattr(mine, method)(X))


PROBABLE = ("predict", "predict_proba", "decision_function")
CASES: dict[str, tuple[Any, Any, Any, dict[str, Any], tuple[str, ...]]] = {
    # estimator, X, y, more for fit, and what is asked
    **{
        f"{pooling} {name}": (
            fastrnn.RNNClassifier(**SMALL | {"pooling": pooling} | options),
            X,
            CLASSES,
            {"sample_weight": WEIGHT},
            (*PROBABLE, "transform", *(["attention_weights"] if pooling == "attention" else [])),
        )
        for pooling in ("last", "mean", "max", "attention")
        for name, X, options in (("ragged", RAGGED, DEEP), ("dense", DENSE, {"cell": "gru"}))
    },
    "labels": (fastrnn.RNNClassifier(**SMALL | EARLY), RAGGED, LABELS, {}, PROBABLE),
    "one batch": (
        fastrnn.RNNClassifier(**SMALL | {"batch_size": "auto", "tbptt_steps": 2}),
        [*RAGGED, RAGGED[0]],
        [*CLASSES, "a"],
        {},
        PROBABLE,
    ),
    "numbers": (
        fastrnn.RNNRegressor(**SMALL | {"alpha": 0.1, "cell": "rnn"}),
        RAGGED,
        NUMBERS,
        {"sample_weight": WEIGHT, "eval_set": (DENSE, NUMBERS)},
        ("predict", "transform"),
    ),
    "huber": (
        fastrnn.RNNRegressor(**SMALL | {"loss": "huber", "solver": "sgd", "tbptt_steps": 2}),
        DENSE,
        NUMBERS[:, 0],
        {},
        ("predict",),
    ),
    "text": (
        fastrnn.TextClassifier(**SMALL | DEEP, embedding_dim=2),
        TEXTS,
        CLASSES,
        {"sample_weight": WEIGHT},
        (*PROBABLE, "transform"),
    ),
    "text in windows": (
        fastrnn.TextClassifier(**SMALL | {"tbptt_steps": 2, "bidirectional": False}),
        TEXTS,
        CLASSES,
        {},
        PROBABLE,
    ),
    "steps": (
        fastrnn.SequenceTagger(**SMALL | DEEP | EARLY),
        RAGGED,
        STEPS,
        {"sample_weight": [1.0 + one for one in STEPS]},
        PROBABLE,
    ),
    **{
        f"spelling, dropout {dropout}": (
            fastrnn.SequenceTagger(
                True, **SMALL | {"dropout": dropout},
                embedding_dim=2, char_embedding_dim=2, char_hidden_size=2,
            ),
            WORDS,
            KINDS,
            {},
            PROBABLE,
        )
        for dropout in (0.0, 0.3)
    },
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_estimator(case: str, put: Any) -> None:
    estimator, X, y, more, methods = CASES[case]
    mine = sklearn.base.clone(estimator).fit(X, y, **more)
    its = sklearn.base.clone(estimator)
    assert its.fit(X, y, **more, device=put.device) is its
    for layer in its.layers_.values():
        stays(put(np.zeros(1)), dict(layer.params))
    assert its.device == its.layers_["rnn"].device
    same(its, mine, X, methods)
    close(its.score(X, y), mine.score(X, y))
    # Training goes on where it was; then away from there.
    for device in (None, "cpu"):
        mine.partial_fit(X, y)
        its.partial_fit(X, y, device=device)
        same(its, mine, X, methods[:2])
    assert its.device == "cpu"


def forecaster(**options: Any) -> fastrnn.Forecaster:
    return fastrnn.Forecaster(3, 5, **SMALL | {"batch_size": 8} | options)


@pytest.mark.parametrize(
    "options",
    [
        {"quantiles": [0.2, 0.8], "seasonal": 4, "early_stopping": True},
        {"quantiles": [0.2, 0.8], "strategy": "recursive", "differencing": 1},
        {"pooling": "attention", "skip": False},
    ],
)
def test_a_forecaster(options: dict[str, Any], put: Any) -> None:
    mine = forecaster(**options).fit(SERIES, KNOWN)
    its = forecaster(**options).fit(SERIES, KNOWN, device=put.device)
    assert its.device == its.layers_["rnn"].device
    stays(put(np.zeros(1)), dict(its.layers_["rnn"].params))
    for one in (its, its.to("cpu")):
        close(np.array(one.loss_curve_), np.array(mine.loss_curve_))
        for n, X, context in ((3, KNOWN[:3], None), (3, KNOWN[:13], SERIES[5:15])):
            close(one.predict(n, X, context), mine.predict(n, X, context))
            if mine.quantiles:
                found = one.predict_quantiles(n, X, context)
                close(found, mine.predict_quantiles(n, X, context))
        close(one.score(SERIES, KNOWN), mine.score(SERIES, KNOWN))


# Files, pickles, streams


@pytest.mark.parametrize("pooling", ["last", "max"])
def test_what_becomes_of_a_fitted_one(pooling: str, put: Any, tmp_path: Path) -> None:
    its = fastrnn.RNNClassifier(**SMALL, pooling=pooling).fit(RAGGED, CLASSES, device=put.device)
    there, expected = its.device, its.predict_proba(RAGGED)
    path = tmp_path / "model.safetensors"
    its.save(path)
    assert fastrnn.load(path).device == fastrnn.Predictor.load(path).device == "cpu"
    found = [
        its,
        pickle.loads(pickle.dumps(its)),
        fastrnn.load(path, device=put.device),
        fastrnn.Predictor.load(path, device=put.device).prepare(),
        fastrnn.Predictor.load(path).to(put.device),
    ]
    for one in found:
        assert one.device == there
        close(one.predict_proba(RAGGED), expected)
        # Streams: before a move and after it.
        streams = [one.stream(2, "predict_proba"), one.stream(2, "transform")]
        if one is its:
            one.to("cpu")
        for stream, method in zip(streams, ("predict_proba", "transform"), strict=True):
            answers = stream.push(DENSE[:2, :3])
            close(answers[:, -1], getattr(one, method)(DENSE[:2, :3]))
            close(stream.step(DENSE[:2, 3]), getattr(one, method)(DENSE[:2, :4]))
            stream.drop([0])
            stream.add(1)
            close(stream.step(DENSE[1:3, 0])[1:], getattr(one, method)(DENSE[2:3, :1]))


# What is not there, and what the host cannot read


def test_a_device_that_is_not_there_changes_nothing() -> None:
    fitted = fastrnn.RNNClassifier(**SMALL).fit(RAGGED, CLASSES)
    before = fitted.predict_proba(RAGGED)
    for call in (
        lambda: fitted.fit(None, None, device="gpu"),
        lambda: fitted.partial_fit(None, None, device="gpu"),
        lambda: fitted.to("gpu"),
        lambda: forecaster().fit(None, device="gpu"),
    ):
        with pytest.raises(ValueError, match=r"^device: expected 'cpu', 'cuda'.*, got 'gpu'"):
            call()
    np.testing.assert_array_equal(fitted.predict_proba(RAGGED), before)
    for ask in (lambda one: one.device, lambda one: one.to("cpu")):
        with pytest.raises(sklearn.exceptions.NotFittedError):
            ask(fastrnn.RNNClassifier())


@pytest.mark.parametrize("name", ["new", "warm", "forecaster"])
def test_no_room_for_a_network(fake_cupy: Any, name: str) -> None:
    """Wherever memory ends, an estimator is as it was before."""
    if name == "forecaster":
        model: Any = forecaster(strategy="recursive", quantiles=[0.5])
        data: Any = SERIES[:20], KNOWN[:20]
    else:
        data = RAGGED, CLASSES
        model = fastrnn.RNNClassifier(**SMALL).fit(*data)
        model.set_params(warm_start=name == "warm")
    state, after, failed = dict(model.__dict__), 0, 0
    before = None if name == "forecaster" else model.predict_proba(RAGGED)
    while True:
        try:
            with failing(after):
                model.fit(*data, device="cuda:1")
            break
        except MemoryError:
            failed += 1
        assert model.__dict__ == state
        if before is not None:
            assert model.device == "cpu"
            np.testing.assert_array_equal(model.predict_proba(RAGGED), before)
        after += 1 + after // 10
    assert failed > 10
    assert model.device == "cuda:1"


def test_arrays_on_a_device_are_refused(fake_cupy: Any) -> None:
    """Data are read on the host; what an array elsewhere means is said before anything else."""
    from kinds import ELSEWHERE, cuda, strict

    fitted = fastrnn.RNNClassifier(**SMALL).fit(RAGGED, CLASSES)
    table = fastrnn.RNNClassifier(**SMALL).fit(DENSE[..., 0], CLASSES)
    tagger = fastrnn.SequenceTagger(**SMALL).fit(RAGGED, STEPS)
    series = forecaster().fit(SERIES)

    def calls(away: Any) -> list[tuple[str, Any]]:
        X, rows, y = away(DENSE), away(DENSE[..., 0]), away(np.arange(N) % 2)
        return [
            ("X", lambda: fitted.fit(X, y)),
            ("X", lambda: fitted.fit(rows, y)),
            (r"X\[0\]", lambda: fitted.fit(away(RAGGED), CLASSES)),
            ("X", lambda: fitted.predict(X)),
            ("X", lambda: table.predict(rows)),
            ("eval_set", lambda: fitted.fit(DENSE, CLASSES, eval_set=(X, CLASSES))),
            ("y", lambda: fitted.fit(DENSE, y)),
            ("sample_weight", lambda: fitted.fit(DENSE, CLASSES, sample_weight=away(WEIGHT))),
            ("X", lambda: tagger.predict(X)),
            (r"y", lambda: tagger.fit(DENSE, rows)),
            ("y", lambda: series.fit(away(SERIES))),
            (r"y\[1\]", lambda: series.fit([SERIES, away(SERIES)])),
            ("X", lambda: series.fit(SERIES, away(KNOWN))),
            ("chunk", lambda: fitted.stream(N).push(X)),
            ("x_t", lambda: fitted.stream(N).step(X[:, 0, :])),
        ]

    for away, where in ((cuda(0), "cupy on cuda:0"), (strict(ELSEWHERE), "array_api_strict on")):
        for name, call in calls(away):
            wanted = rf"^{name}: expected an array that the host can read, got an array of {where}"
            with pytest.raises(ValueError, match=wanted):
                call()


def test_tensors_on_the_host_are_read_as_ever(torch: Any) -> None:
    fitted = fastrnn.RNNClassifier(**SMALL).fit(torch.from_numpy(DENSE), CLASSES)
    expected = fastrnn.RNNClassifier(**SMALL).fit(DENSE, CLASSES)
    for X in (torch.from_numpy(DENSE), DENSE):
        np.testing.assert_array_equal(fitted.predict_proba(X), expected.predict_proba(DENSE))


# scikit-learn


def test_devices_are_no_parameters_and_may_be_routed(fake_cupy: Any) -> None:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    model = fastrnn.RNNClassifier(**SMALL)
    assert "device" not in model.get_params()
    fitted = model.fit(DENSE, CLASSES, device="cuda:1")
    assert not hasattr(sklearn.base.clone(fitted), "layers_")
    grid = {"cell": ["gru", "lstm"]}
    found = GridSearchCV(model, grid, cv=2, error_score="raise").fit(
        DENSE, CLASSES, device="cuda:1"
    )
    assert found.best_estimator_.device == "cuda:1"
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(model, grid, cv=2, error_score="raise")
        assert search.fit(DENSE, CLASSES).best_estimator_.device == "cpu"
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="device"):
            search.fit(DENSE, CLASSES, device="cuda:1")
        model.set_fit_request(device=True)
        pipe = make_pipeline(model, Ridge()).fit(DENSE, NUMBERS[:, 0] > 0, device="cuda:0")
        assert pipe[0].device == "cuda:0"
        found = GridSearchCV(model, grid, cv=2, error_score="raise")
        assert found.fit(DENSE, CLASSES, device="cuda:1").best_estimator_.device == "cuda:1"


def test_lengths_may_come_from_any_device(put: Any) -> None:
    """They say where data are; layers take them so, too."""
    lengths = np.arange(N) % 5 + 1
    mine = fastrnn.RNNClassifier(**SMALL).fit(DENSE, CLASSES, lengths=lengths)
    its = fastrnn.RNNClassifier(**SMALL).fit(DENSE, CLASSES, lengths=put(lengths))
    close(its.predict_proba(DENSE, put(lengths)), mine.predict_proba(DENSE, lengths))
