"""The numeric estimators in scikit-learn: searches, pipelines, ensembles, processes, routing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
import sklearn
from sequences import SMALL, problem, ragged
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import fastrnn
from fastrnn import RNNClassifier, RNNRegressor

both = pytest.mark.parametrize("cls", [RNNClassifier, RNNRegressor])


def forms(n: int = 24) -> dict[str, tuple[Any, np.ndarray]]:
    X, y = problem(n)
    objects = np.empty(n, object)
    objects[:] = ragged(X)[0]
    return {"array": (X, y), "list": (ragged(X)[0], y), "objects": (objects, y),
            "table": (X[:, :, 0], y)}  # fmt: skip


each_form = pytest.mark.parametrize("form", ["array", "list", "objects", "table"])


# Searches and splits


@both
@each_form
def test_cross_validation(cls: Any, form: str) -> None:
    X, y = forms()[form]
    scores = cross_val_score(cls(**SMALL), X, y, cv=3, error_score="raise")
    assert scores.shape == (3,) and np.isfinite(scores).all()
    assert cross_val_predict(cls(**SMALL), X, y, cv=3).shape == y.shape
    found = cross_validate(
        cls(**SMALL), X, y, cv=3, return_estimator=True, return_train_score=True,
        error_score="raise",
    )  # fmt: skip
    assert {one.n_iter_ for one in found["estimator"]} == {3}
    np.testing.assert_array_equal(found["test_score"], scores)


@both
@each_form
@pytest.mark.parametrize("search", [GridSearchCV, RandomizedSearchCV])
def test_searches(cls: Any, form: str, search: Any) -> None:
    X, y = forms()[form]
    space = {"hidden_size": [2, 4], "pooling": ["last", "attention"]}
    options = {"n_iter": 3, "random_state": 0} if search is RandomizedSearchCV else {}
    found = search(cls(**SMALL), space, cv=2, error_score="raise", **options).fit(X, y)
    assert len(found.cv_results_["params"]) == (3 if options else 4)
    assert found.best_estimator_.get_params()["hidden_size"] == found.best_params_["hidden_size"]
    assert found.predict(X).shape == y.shape
    assert found.score(X, y) == found.best_estimator_.score(X, y)


def test_other_tools_of_model_selection() -> None:
    X, y = forms(40)["list"]
    sizes, *scores = learning_curve(RNNClassifier(**SMALL), X, y, cv=2, train_sizes=[0.5, 1.0])
    assert sizes.tolist() == [10, 20] and scores[1].shape == (2, 2)
    score, others, _ = permutation_test_score(
        RNNClassifier(**SMALL), X, y, cv=2, n_permutations=2, random_state=0
    )
    assert np.isfinite(score) and others.shape == (2,)


# Pipelines and ensembles


@each_form
def test_features_for_another_model(form: str) -> None:
    X, y = forms(60)[form]
    network = RNNClassifier(hidden_size=4, max_iter=30, random_state=0)
    pipe = make_pipeline(network, StandardScaler(), LogisticRegression()).fit(X, y)
    assert pipe[:-1].transform(X).shape == (60, 4)
    assert pipe.score(X, y) > 0.8
    assert pipe[:-1].get_feature_names_out().tolist() == [f"rnnclassifier{i}" for i in range(4)]
    assert clone(pipe).set_params(rnnclassifier__hidden_size=3).fit(X, y)[0].hidden_size == 3


@both
def test_the_last_step_of_a_pipeline(cls: Any) -> None:
    X, y = problem()
    pipe = make_pipeline(FunctionTransformer(np.diff, kw_args={"axis": 1}), cls(**SMALL)).fit(X, y)
    np.testing.assert_array_equal(
        pipe.predict(X), cls(**SMALL).fit(np.diff(X, axis=1), y).predict(np.diff(X, axis=1))
    )
    table = make_pipeline(StandardScaler(), cls(**SMALL)).fit(X[:, :, 0], y)
    assert np.isfinite(table.score(X[:, :, 0], y))
    search = GridSearchCV(pipe, {f"{cls.__name__.lower()}__cell": ["gru", "lstm"]}, cv=2)
    assert search.fit(X, y).predict(X).shape == y.shape


@pytest.mark.parametrize("form", ["array", "table", "list"])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration(form: str, method: str) -> None:
    X, y = forms(40)[form]
    model = CalibratedClassifierCV(RNNClassifier(**SMALL), method=method, cv=2).fit(X, y)
    probabilities = model.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert model.predict(X).shape == y.shape


@pytest.mark.parametrize("form", ["array", "table", "list"])
def test_ensembles(form: str) -> None:
    X, y = forms(40)[form]
    members = [("gru", RNNClassifier(cell="gru", **SMALL)), ("rnn", RNNClassifier(**SMALL))]
    stack = StackingClassifier(members, LogisticRegression(), cv=2).fit(X, y)
    assert stack.predict_proba(X).shape == (40, 2)
    assert stack.transform(X).shape == (40, 2)
    vote = VotingClassifier(members, voting="soft").fit(X, y)
    assert vote.predict(X).shape == y.shape


def test_targets_of_other_units() -> None:
    X, y = problem()
    model = TransformedTargetRegressor(RNNRegressor(**SMALL), func=np.log1p, inverse_func=np.expm1)
    assert model.fit(X, y).predict(X).shape == y.shape
    features = make_pipeline(RNNRegressor(**SMALL), Ridge()).fit(X, y)
    assert np.isfinite(features.score(X, y))


# Processes


class Counting(RNNClassifier):
    """Tells how many threads native code has where it is fitted, and in which process."""

    def fit(self, X: Any, y: Any, **named: Any) -> Any:
        super().fit(X, y, **named)
        self.threads_, self.process_ = fastrnn.get_num_threads(), os.getpid()
        return self


@pytest.mark.usefixtures("nothing_forced")
@pytest.mark.parametrize("form", ["array", "list"])
def test_two_processes_share_the_processors(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """joblib gives each of n processes a part of the processors, and native code keeps to it."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    X, y = forms(24)[form]
    alone = cross_val_score(RNNClassifier(**SMALL), X, y, cv=4)
    found = cross_validate(
        Counting(cell="lstm", **SMALL), X, y, cv=4, n_jobs=2, return_estimator=True,
        error_score="raise",
    )  # fmt: skip
    np.testing.assert_array_equal(found["test_score"], alone)
    share = max(1, joblib.cpu_count() // 2)
    assert {one.threads_ for one in found["estimator"]} == {share}
    assert os.getpid() not in {one.process_ for one in found["estimator"]}
    with joblib.parallel_config(backend="loky", n_jobs=2, inner_max_num_threads=1):
        found = cross_validate(Counting(**SMALL), X, y, cv=4, return_estimator=True)
    assert {one.threads_ for one in found["estimator"]} == {1}


@pytest.mark.parametrize("backend", ["threading", "multiprocessing"])
def test_other_backends(backend: str) -> None:
    X, y = problem()
    alone = cross_val_score(RNNClassifier(**SMALL), X, y, cv=4)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        np.testing.assert_array_equal(cross_val_score(RNNClassifier(**SMALL), X, y, cv=4), alone)
        search = GridSearchCV(RNNClassifier(**SMALL), {"cell": ["gru", "rnn"]}, cv=2).fit(X, y)
    assert search.best_score_ > 0


def test_large_data_comes_as_a_memory_map() -> None:
    """joblib writes arrays beyond a size into files, which workers may only read."""
    X, y = problem(40)
    with joblib.parallel_config(backend="loky", n_jobs=2, max_nbytes=100):
        scores = cross_val_score(RNNClassifier(**SMALL), X, y, cv=2, error_score="raise")
    np.testing.assert_array_equal(scores, cross_val_score(RNNClassifier(**SMALL), X, y, cv=2))


@pytest.mark.filterwarnings("ignore")  # dask's own
def test_dask() -> None:
    pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    X, y = forms()["list"]
    alone = cross_val_score(RNNClassifier(**SMALL), X, y, cv=3)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        scores = cross_val_score(RNNClassifier(**SMALL), X, y, cv=3, error_score="raise")
        search = GridSearchCV(RNNClassifier(**SMALL), {"cell": ["gru", "rnn"]}, cv=2).fit(X, y)
    np.testing.assert_array_equal(scores, alone)
    assert search.best_score_ > 0


# Metadata


@pytest.fixture
def routing() -> Iterator[None]:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def asking(cls: Any, **options: Any) -> Any:
    """An estimator that asks for lengths and weights wherever it takes them."""
    model = cls(**(SMALL | options))
    model.set_fit_request(lengths=True, sample_weight=True)
    model.set_predict_request(lengths=True)
    model.set_transform_request(lengths=True)
    model.set_score_request(lengths=True, sample_weight=True)
    if cls is RNNClassifier:
        model.set_predict_proba_request(lengths=True).set_decision_function_request(lengths=True)
    return model


@pytest.fixture
def padded() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
    """X with NaN after its lengths, which must not be read; y, lengths, weights; the same X as
    a list."""
    X, y = problem()
    lists, lengths = ragged(X)
    for row, length in zip(X, lengths, strict=True):
        row[length:] = np.nan
    return X, y, lengths, np.random.default_rng(1).uniform(0.1, 2, len(y)), lists


@pytest.mark.usefixtures("routing")
@both
def test_lengths_and_weights_go_through_cross_validation(cls: Any, padded: Any) -> None:
    X, y, lengths, weight, lists = padded
    found = cross_validate(
        asking(cls), X, y, cv=3, params={"lengths": lengths, "sample_weight": weight},
        error_score="raise",
    )  # fmt: skip
    expected = cross_validate(
        asking(cls), lists, y, cv=3, params={"sample_weight": weight}, error_score="raise"
    )
    np.testing.assert_array_equal(found["test_score"], expected["test_score"])
    unweighted = cross_validate(asking(cls), lists, y, cv=3, error_score="raise")
    assert not np.array_equal(found["test_score"], unweighted["test_score"])


@pytest.mark.usefixtures("routing")
@both
def test_lengths_and_weights_go_through_searches_and_pipelines(cls: Any, padded: Any) -> None:
    X, y, lengths, weight, lists = padded
    pipe = make_pipeline(FunctionTransformer(lambda X: 2 * X), asking(cls))
    name = cls.__name__.lower()
    search = GridSearchCV(pipe, {f"{name}__cell": ["gru", "lstm"]}, cv=2, error_score="raise")
    search.fit(X, y, lengths=lengths, sample_weight=weight)
    direct = GridSearchCV(asking(cls), {"cell": ["gru", "lstm"]}, cv=2, error_score="raise")
    direct.fit([2 * one for one in lists], y, sample_weight=weight)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], direct.cv_results_["mean_test_score"]
    )
    fitted = pipe.fit(X, y, lengths=lengths, sample_weight=weight)
    expected = asking(cls).fit([2 * one for one in lists], y, sample_weight=weight)
    np.testing.assert_array_equal(
        fitted.predict(X, lengths=lengths), expected.predict([2 * one for one in lists])
    )
    assert fitted.score(X, y, lengths=lengths, sample_weight=weight) == expected.score(
        [2 * one for one in lists], y, sample_weight=weight
    )


@pytest.mark.usefixtures("routing")
@both
def test_lengths_reach_a_transformer(cls: Any, padded: Any) -> None:
    X, y, lengths, weight, lists = padded
    pipe = make_pipeline(asking(cls), Ridge().set_fit_request(sample_weight=True))
    pipe.fit(X, y, lengths=lengths, sample_weight=weight)
    expected = asking(cls).fit_transform(lists, y, sample_weight=weight)
    np.testing.assert_array_equal(pipe[0].transform(X, lengths=lengths), expected)
    assert pipe.predict(X, lengths=lengths).shape == y.shape


@pytest.mark.usefixtures("routing")
def test_calibration_and_stacking_hand_weights_on(padded: Any) -> None:
    _, y, _, weight, lists = padded
    request = RNNClassifier(**SMALL).set_fit_request(sample_weight=True)
    found = CalibratedClassifierCV(request, cv=2).fit(lists, y, sample_weight=weight)
    plain = CalibratedClassifierCV(RNNClassifier(**SMALL), cv=2).fit(lists, y)
    assert not np.array_equal(found.predict_proba(lists), plain.predict_proba(lists))
    stack = StackingClassifier(
        [("rnn", request)], LogisticRegression().set_fit_request(sample_weight=True), cv=2
    )
    assert stack.fit(lists, y, sample_weight=weight).predict(lists).shape == y.shape


@pytest.mark.usefixtures("routing")
def test_what_is_not_asked_for_is_refused(padded: Any) -> None:
    X, y, lengths, *_ = padded
    with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="lengths"):
        cross_validate(RNNClassifier(**SMALL), X, y, cv=2, params={"lengths": lengths})


def test_without_routing_lengths_go_to_fit_alone(padded: Any) -> None:
    """scikit-learn's rule; so ragged data are better lists there."""
    X, y, lengths, _, lists = padded
    X = np.nan_to_num(X)
    scores = cross_val_score(
        RNNClassifier(**SMALL), X, y, cv=2, params={"lengths": lengths}, error_score="raise"
    )
    assert np.isfinite(scores).all()
    assert np.isfinite(cross_val_score(RNNClassifier(**SMALL), lists, y, cv=2)).all()
