"""Estimators in files: what was fitted answers with the same bits, also without scikit-learn."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import fastrnn
from fastrnn import tensorfile
from fastrnn.files import FormatError

pytest.importorskip("sklearn")

from fastrnn import Forecaster, RNNClassifier, RNNRegressor, SequenceTagger, TextClassifier

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

SMALL: dict[str, Any] = {"hidden_size": 4, "max_iter": 2, "random_state": 0}
RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 5, 2))
RAGGED = [x[: 1 + i % 5] for i, x in enumerate(X)]
SIGN = (X.sum(axis=(1, 2)) > 0).astype(int)
TEXTS = ["to be or not", "être ou ne pas", "the cat", "le chat", "ñ"] * 2
SENTENCES = [["cats", "sleep"], ["dogs", "run", "far"], ["birds"]] * 2
KINDS = [["N", "V"], ["N", "V", "A"], ["N"]] * 2
SERIES = np.exp(np.arange(40) / 30) + np.sin(np.arange(40))
PROBABLE = ("predict", "predict_proba", "decision_function")


def cases() -> dict[str, tuple[Any, tuple[Any, ...], tuple[str, ...]]]:
    """Estimators, what each is fitted to, and what it answers of the same X."""
    pooled = (*PROBABLE, "transform")
    return {
        "classifier": (RNNClassifier(**SMALL), (X, np.array(["no", "yes"])[SIGN]), pooled),
        "attention": (
            RNNClassifier(pooling="attention", bidirectional=True, cell="gru", dropout=0.5,
                          class_weight={1: 2.0}, standardize=False, **SMALL),
            (RAGGED, SIGN),
            pooled,
        ),
        "labels": (RNNClassifier(cell="rnn", **SMALL), (X, np.stack([SIGN, 1 - SIGN], 1)), pooled),
        "table": (RNNClassifier(dtype=np.float32, **SMALL), (X[:, :, 0], SIGN > 0), pooled),
        "objects": (RNNClassifier(**SMALL), (X, np.array(["a", "bc"], object)[SIGN]), pooled),
        "regressor": (RNNRegressor(num_layers=2, **SMALL), (X, X.sum(axis=(1, 2))),
                      ("predict", "transform")),
        "several": (RNNRegressor(pooling="mean", reset_after=True, cell="gru", **SMALL),
                    (X.astype(np.float32), X.sum(axis=1)), ("predict", "transform")),
        "text": (TextClassifier(**SMALL), (TEXTS, [0, 1] * 5), pooled),
        "words": (TextClassifier("word", bidirectional=False, unknown_rate=0.0, **SMALL),
                  (TEXTS, ["en", "fr"] * 5), pooled),
        "tokens": (TextClassifier(**SMALL), (SENTENCES, [0, 1] * 3), pooled),
        "tagger": (SequenceTagger(**SMALL), (RAGGED, [(x[:, 0] > 0) * 1 for x in RAGGED]),
                   PROBABLE),
        "tagger of arrays": (SequenceTagger(**SMALL), (X, (X[:, :, 0] > 0).astype("U5")), PROBABLE),
        "tagger of words": (SequenceTagger(**SMALL), (SENTENCES, KINDS), PROBABLE),
        "tagger of spelling": (SequenceTagger(True, char_hidden_size=3, **SMALL),
                               (SENTENCES, KINDS), PROBABLE),
    }  # fmt: skip


def forecasters() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Forecasters, and what each is fitted to."""
    small = {**SMALL, "horizon": 3, "window": 6}
    known = np.arange(40.0)
    return {
        "direct": (Forecaster(quantiles=(0.1, 0.9), log=True, differencing=1, seasonal=4,
                              seasonal_mode="both", **small), (SERIES,)),
        "recursive": (Forecaster(strategy="recursive", quantiles=np.array([0.5]), **small),
                      ([SERIES, SERIES[5:]],)),
        "covariates": (Forecaster(skip=False, standardize=True, **small), (SERIES, known)),
    }  # fmt: skip


CASES, SERIES_CASES = cases(), forecasters()


def fitted(name: str) -> Any:
    estimator, given, *_ = (CASES | SERIES_CASES)[name]  # type: ignore[operator]
    if not hasattr(estimator, "layers_"):
        estimator.fit(*given)
    return estimator


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    alike = found.dtype == expected.dtype and found.shape == expected.shape
    return bool(alike and np.array_equal(found, expected))


@pytest.mark.parametrize("name", CASES)
def test_estimators_come_back_and_answer_with_the_same_bits(name: str, tmp_path: Path) -> None:
    estimator, path = fitted(name), tmp_path / "model"
    _, (given, *_), methods = CASES[name]
    estimator.save(path)
    again, predictor = fastrnn.load(path), fastrnn.Predictor.load(path)
    assert type(again) is type(estimator)
    assert isinstance(predictor, fastrnn.Predictor)
    assert predictor.estimator == type(estimator).__name__
    for found in (again, predictor, predictor.prepare()):
        for method in methods:
            assert same(getattr(found, method)(given), getattr(estimator, method)(given)), method
        if hasattr(estimator, "classes_"):
            assert same(found.classes_, estimator.classes_)
        assert found.history_ == estimator.history_
    assert set(load_file(path)) >= {"output.weight", "output.bias"}


@pytest.mark.parametrize("name", CASES)
def test_what_comes_back_goes_on_learning(name: str, tmp_path: Path) -> None:
    estimator, path = fitted(name), tmp_path / "model"
    estimator.save(path)
    again = fastrnn.load(path)
    before = again.layers_["output"].params["weight"].copy()
    again.partial_fit(*CASES[name][1])
    assert again.n_iter_ == estimator.n_iter_ + 1
    assert not np.array_equal(again.layers_["output"].params["weight"], before)
    again.set_params(warm_start=True).fit(*CASES[name][1])
    again.save(path)
    assert fastrnn.load(path).n_iter_ == again.n_iter_


@pytest.mark.parametrize("name", SERIES_CASES)
def test_forecasters_come_back_and_forecast_with_the_same_bits(name: str, tmp_path: Path) -> None:
    estimator, path = fitted(name), tmp_path / "model"
    y, *known = SERIES_CASES[name][1]
    ahead = {"X": np.arange(3.0)} if known else {}
    whole = {"X": np.arange(43.0)} if known else {}
    estimator.save(path)
    again, predictor = fastrnn.load(path), fastrnn.Predictor.load(path)
    for found in (again, predictor, predictor.prepare()):
        assert same(found.predict(**ahead), estimator.predict(**ahead))
        assert same(found.predict(2, context=y, **whole), estimator.predict(2, context=y, **whole))
        if estimator.quantiles is not None:
            assert same(found.predict_quantiles(), estimator.predict_quantiles())
    assert again.score(y, *known) == estimator.score(y, *known)
    again.set_params(warm_start=True).fit(y, *known)
    assert again.n_iter_ == 2 * estimator.n_iter_


WITHOUT = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "sklearn":
            raise ImportError("refused: " + name)

sys.meta_path.insert(0, Refused())
import json
import numpy as np
import fastrnn

folder = sys.argv[1]
given = np.load(folder + "/given.npy")
for case in json.load(open(folder + "/cases.json")):
    model = fastrnn.load(folder + "/" + case["name"])
    assert type(model) is fastrnn.Predictor, model
    X = case["X"] if case["X"] is not None else given
    for method, expected in case["answers"].items():
        call = getattr(model, method)
        found = call() if case["series"] else call(X)
        np.save(folder + "/found.npy", found)
        wanted = np.load(folder + "/" + expected)
        assert found.dtype == wanted.dtype and found.tobytes() == wanted.tobytes(), (case, found)
assert not [name for name in sys.modules if name.partition(".")[0] in ("sklearn", "pandas")]
"""


def test_predictors_need_no_scikit_learn(tmp_path: Path) -> None:
    told = []
    np.save(tmp_path / "given.npy", X)
    for name in ("classifier", "regressor", "text", "tagger of arrays", "direct"):
        estimator = fitted(name)
        estimator.save(tmp_path / name)
        series = name == "direct"
        methods = ("predict", "predict_quantiles") if series else CASES[name][2]
        answers = {}
        for method in methods:
            answers[method] = f"{name}.{method}.npy"
            call = getattr(estimator, method)
            np.save(tmp_path / answers[method], call() if series else call(CASES[name][1][0]))
        of_text = CASES[name][1][0] if name == "text" else None
        told.append({"name": name, "series": series, "answers": answers, "X": of_text})
    (tmp_path / "cases.json").write_text(json.dumps(told))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_callables_and_generators_come_back_as_defaults(tmp_path: Path) -> None:
    path = tmp_path / "model"
    model = RNNRegressor(hidden_size=2, max_iter=1, learning_rate=lambda epoch, history: 0.1,
                         callbacks=[print and (lambda *a: None)],
                         random_state=np.random.RandomState(0)).fit(X, SIGN * 1.0)  # fmt: skip
    model.save(path)
    params = fastrnn.load(path).get_params()
    assert params["learning_rate"] == "constant"
    assert params["callbacks"] is None
    assert params["random_state"] is None
    assert params["hidden_size"] == 2


def test_parameters_changed_after_fit_change_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "model"
    model = RNNClassifier(**SMALL).fit(X, SIGN)
    model.set_params(hidden_size=9, cell="gru")
    model.save(path)
    again = fastrnn.load(path)
    assert again.hidden_size == 9
    assert same(again.predict_proba(X), model.predict_proba(X))
    assert same(fastrnn.Predictor.load(path).predict_proba(X), model.predict_proba(X))


def test_frames_keep_their_columns(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "model"
    frame = pandas.DataFrame(X[:, :, 0], columns=list("abcde"))
    model = RNNClassifier(**SMALL).fit(frame, SIGN)
    model.save(path)
    for found in (fastrnn.load(path), fastrnn.Predictor.load(path)):
        assert same(found.predict(frame), model.predict(frame))
        with pytest.raises(ValueError, match=r"columns|feature"):
            found.predict(frame[list("edcba")])
        with pytest.raises(ValueError, match=r"columns|feature"):
            found.predict(frame[list("abcd")])


def test_what_is_not_fitted_is_not_saved(tmp_path: Path) -> None:
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        RNNClassifier().save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_predictor_is_of_an_estimator(tmp_path: Path) -> None:
    fastrnn.Linear(2, 3).save(tmp_path / "model")
    with pytest.raises(FormatError, match="expected the file of an estimator, got Linear"):
        fastrnn.Predictor.load(tmp_path / "model")


def test_a_predictor_names_what_it_cannot_answer(tmp_path: Path) -> None:
    for name, methods in (
        ("regressor", ("predict_proba", "decision_function", "predict_quantiles")),
        ("tagger", ("transform",)),
        ("direct", ("predict_proba", "transform", "stream")),
    ):
        fitted(name).save(tmp_path / name)
        predictor = fastrnn.Predictor.load(tmp_path / name)
        for method in methods:
            with pytest.raises(TypeError, match=f"{method}: expected an estimator that has it"):
                getattr(predictor, method)(*([] if method in ("predict_quantiles", "stream")
                                             else [X]))  # fmt: skip


def alike(found: Any, expected: Any) -> bool:
    """The same bits, which whole sequences and their steps have of the packed engine alone."""
    if fastrnn.get_gemm() == "packed":
        return same(found, expected)
    return np.shape(found) == np.shape(expected) and np.allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("pooling", ["last", "max"])
def test_streams_answer_after_every_step_with_the_bits_of_whole_sequences(
    pooling: str, tmp_path: Path
) -> None:
    model = RNNClassifier(pooling=pooling, **SMALL).fit(X, SIGN)
    model.save(tmp_path / "model")
    predictor = fastrnn.Predictor.load(tmp_path / "model")
    for answer in (*PROBABLE, "transform"):
        stream = predictor.stream(3, answer)
        assert same(model.stream(3, answer).push(X[:3]), predictor.stream(3, answer).push(X[:3]))
        first = [stream.step(X[:3, t]) for t in range(2)]
        rest = stream.push(X[:3, 2:])
        found = np.concatenate([np.stack(first, axis=1), rest], axis=1)
        for t in range(5):
            assert alike(found[:, t], getattr(model, answer)(X[:3, : t + 1])), (answer, t)
    assert stream.add(1).tolist() == [3]
    stream.drop([0, 2])
    stream.reset(0)
    found = stream.push(X[4:6])
    assert alike(found[0, -1:], model.transform(X[4:5]))
    assert stream.batch_size == 2


def test_streams_of_steps_answer_for_each(tmp_path: Path) -> None:
    model = SequenceTagger(bidirectional=False, **SMALL).fit(X, X[:, :, 0] > 0)
    model.save(tmp_path / "model")
    stream = fastrnn.Predictor.load(tmp_path / "model").stream(12, "decision_function")
    assert alike(stream.push(X), model.decision_function(X))
    with pytest.raises(ValueError, match="chunk: expected shape"):
        stream.push(X[:3])
    with pytest.raises(ValueError, match="finite"):
        stream.step(np.full((12, 2), np.nan))


def test_streams_of_what_looks_ahead_are_refused(tmp_path: Path) -> None:
    for name, message in (
        ("attention", "pooling 'last' or 'max'"),
        ("tagger", "bidirectional"),
        ("text", "numbers"),
    ):
        fitted(name).save(tmp_path / name)
        with pytest.raises(ValueError, match=message):
            fastrnn.Predictor.load(tmp_path / name).stream()


CHANGES: list[tuple[str, Any, str]] = [
    ("estimator", "RNNRegressor", "estimator|targets"),
    ("pooling", None, "pooling"),
    ("pooling", "max", "pooling"),
    ("made", {}, "pooling|value named"),
    ("dtype", "float16", "dtype"),
    ("dtype", "float32", "dtype"),
    ("reader", {"kind": "numbers"}, "width"),
    ("reader", {"kind": "tokens"}, "level"),
    ("targets", {"kind": "labels", "n": 10**12}, "output.weight: expected shape"),
    ("targets", {"kind": "labels", "n": -1}, "output.weight: expected shape"),
    ("targets", {"kind": "classes", "dtype": "datetime64", "values": [1]}, "classes"),
    ("targets", {"kind": "classes", "dtype": "int64", "values": ["a", "b"]}, "classes"),
    ("targets", {"kind": "classes", "dtype": "int8", "values": [1, 10**9]}, "fits|bounds|range"),
    ("config", {}, "config"),
    ("history", {"loss": ["x"]}, "history"),
    ("counted", True, "counts"),
]


@pytest.mark.parametrize(("key", "value", "message"), CHANGES, ids=range(len(CHANGES)))
def test_a_wrong_description_is_a_format_error(
    key: str, value: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "model"
    fitted("classifier").save(path)
    tensors, metadata = tensorfile.read(path)
    told = json.loads(metadata["model"])
    tensorfile.write(path, tensors, {**metadata, "model": json.dumps({**told, key: value})})
    with pytest.raises(FormatError, match=message):
        fastrnn.load(path)
    if key not in ("estimator", "config"):
        with pytest.raises(FormatError, match=message):
            fastrnn.Predictor.load(path)


def test_weights_that_are_not_finite_are_refused_on_request(tmp_path: Path) -> None:
    path = tmp_path / "model"
    layer = fastrnn.Linear(300, 300)
    layer.params["weight"][-1, -1] = np.nan
    layer.save(path)
    assert np.isnan(fastrnn.load(path).params["weight"]).sum() == 1
    with pytest.raises(FormatError, match="weight: expected finite numbers"):
        fastrnn.load(path, check_finite=True)
