"""How the numeric estimators are trained: weights, calls in parts, validation, and copies."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sequences import SMALL, assert_equal_parameters, differ, parameters, problem, ragged
from sklearn.base import clone
from sklearn.utils import estimator_html_repr

from fastrnn import RNNClassifier, RNNRegressor
from fastrnn.estimators.targets import class_factors
from fastrnn.training.plan import SOLVERS

both = pytest.mark.parametrize("cls", [RNNClassifier, RNNRegressor])


# Weights


@both
@pytest.mark.parametrize("form", ["array", "list"])
def test_weights_are_repetitions(cls: Any, form: str) -> None:
    X, y = problem(20)
    lists, _ = ragged(X)
    items = lists if form == "list" else X
    weight = np.random.default_rng(0).integers(0, 4, len(y))
    index = np.repeat(np.arange(len(y)), weight)
    repeated = [items[i] for i in index] if form == "list" else items[index]
    weighted = cls(**SMALL).fit(items, y, sample_weight=weight)
    assert_equal_parameters(weighted, cls(**SMALL).fit(repeated, y[index]), 1e-10)
    assert differ(weighted, cls(**SMALL).fit(items, y))
    # Their unit is of no consequence.
    scaled = cls(**SMALL).fit(items, y, sample_weight=weight * 17.0)
    np.testing.assert_allclose(scaled.loss_curve_, weighted.loss_curve_, rtol=1e-3)


def test_class_weights_multiply_sample_weights() -> None:
    X, y = problem(20, classes=3)
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    factors = {0: 2.0, 2: 0.5}  # 1 for those it does not name
    model = RNNClassifier(class_weight=factors, **SMALL).fit(X, y, sample_weight=weight)
    expected = RNNClassifier(**SMALL)
    # Scaling is learned from sample_weight alone.
    expected = RNNClassifier(standardize=False, **SMALL).fit(
        X, y, sample_weight=weight * np.array([2, 1, 0.5])[y]
    )
    model = RNNClassifier(class_weight=factors, standardize=False, **SMALL)
    assert_equal_parameters(model.fit(X, y, sample_weight=weight), expected, 1e-12)


def test_balanced_classes_weigh_the_same() -> None:
    X, y = problem(30)
    names = np.where((y == 1) & (np.arange(30) < 10), "rare", "common")
    weight = np.random.default_rng(0).uniform(0.5, 2, 30)
    sums = {name: weight[names == name].sum() for name in ("rare", "common")}
    own = {name: weight.sum() / (2 * total) for name, total in sums.items()}
    model = RNNClassifier(class_weight="balanced", **SMALL).fit(X, names, sample_weight=weight)
    expected = RNNClassifier(class_weight=own, **SMALL).fit(X, names, sample_weight=weight)
    assert_equal_parameters(model, expected, 1e-12)
    assert differ(model, RNNClassifier(**SMALL).fit(X, names, sample_weight=weight))
    plain = RNNClassifier(class_weight="balanced", **SMALL).fit(X, names)
    counts = RNNClassifier(class_weight={"rare": 3.0, "common": 0.6}, **SMALL).fit(X, names)
    assert (names == "rare").sum() == 5
    assert_equal_parameters(plain, counts, 1e-12)


def test_factors_of_classes() -> None:
    classes, codes, weight = np.array([3, 5, 9]), np.array([0, 0, 2]), np.array([1.0, 2.0, 1.0])
    assert class_factors(None, classes, codes, weight) is None
    # Of two classes that occur each weighs half of the sum, and the third never weighs anything.
    found = class_factors("balanced", classes, codes, weight)
    np.testing.assert_allclose(found, [4 / (2 * 3), 0, 4 / (2 * 1)])
    assert class_factors({5: 2, 9: 0}, classes, codes, weight).tolist() == [1, 2, 0]


@pytest.mark.parametrize("solver", ["adam", "adamw"])
def test_the_penalty_is_of_one_sequence_in_a_batch(solver: str) -> None:
    """alpha / batch size, as in MLPClassifier; with weights by what a batch weighs."""
    X, y = problem(24)
    model = RNNRegressor(batch_size=8, alpha=0.6, solver=solver, **SMALL)
    seen: list[float] = []
    found = model._batches_and_plan

    def spy(*arguments: Any) -> Any:
        result = found(*arguments)
        seen.append(result[1].alpha)
        return result

    model._batches_and_plan = spy
    model.fit(X, y).fit(X, y, sample_weight=np.full(24, 2.0))
    expected = [0.6, 0.6] if solver == "adamw" else [0.6 / 8, 0.6 / 16]
    np.testing.assert_allclose(seen, expected)


def test_classes_of_large_weight_win() -> None:
    X, y = np.random.default_rng(0).standard_normal((40, 4, 1)), np.arange(40) % 2
    for winner in (0, 1):
        model = RNNClassifier(class_weight={winner: 100.0}, **(SMALL | {"max_iter": 30}))
        assert (model.fit(X, y).predict(X) == winner).all()


def test_an_eval_set_has_the_training_classes_weights() -> None:
    X, y = problem(30)
    rare = (y == 1) & (np.arange(30) < 10)
    model = RNNClassifier(class_weight="balanced", **SMALL)
    model.fit(X, rare, eval_set=(X[:8], rare[:8]))
    p = model.predict_proba(X[:8])[np.arange(8), rare[:8].astype(int)]
    factor = np.where(rare[:8], 3.0, 0.6)
    assert model.history_["validation_loss"][-1] == pytest.approx(
        np.average(-np.log(p), weights=factor)
    )


# Validation


@both
def test_early_stopping_ends_with_the_best_weights(cls: Any) -> None:
    X, y = problem(60)
    options = {**SMALL, "max_iter": 30, "learning_rate_init": 0.1, "tol": 0.0}
    model = cls(early_stopping=True, n_iter_no_change=3, **options)
    model.fit(X[:40], y[:40], eval_set=(X[40:], y[40:]))
    curve = model.history_["validation_loss"]
    assert len(curve) == model.n_iter_
    assert model.best_loss_ == min(curve)
    if cls is RNNClassifier:
        p = model.predict_proba(X[40:])[np.arange(20), y[40:]]
        assert -np.log(p).mean() == pytest.approx(min(curve))
    else:
        error = (model.predict(X[40:]) - y[40:]) / y[:40].std()
        assert (error**2).mean() == pytest.approx(min(curve))


@both
def test_an_eval_set_alone_is_only_measured(cls: Any) -> None:
    X, y = problem(40)
    lists, lengths = ragged(X)
    plain = cls(**SMALL).fit(lists[:30], y[:30])
    model = cls(**SMALL).fit(lists[:30], y[:30], eval_set=(X[30:], y[30:], lengths[30:]))
    assert_equal_parameters(plain, model)
    assert len(model.history_["validation_loss"]) == 3
    assert model.best_loss_ == min(model.loss_curve_)
    same = cls(**SMALL).fit(lists[:30], y[:30], eval_set=[lists[30:], y[30:]])
    assert same.history_["validation_loss"] == model.history_["validation_loss"]


def test_a_split_holds_out_each_class() -> None:
    X, _ = problem(50)
    y = np.r_[np.zeros(40, int), np.ones(10, int)]
    kept: list[Any] = []
    model = RNNClassifier(early_stopping=True, validation_fraction=0.2, **SMALL)
    train = model._train
    model._train = lambda *a, **k: kept.extend(a[2:4]) or train(*a, **k)
    model.fit(X, y)
    examples, held_out = kept
    assert np.bincount(held_out.targets).tolist() == [8, 2]
    assert np.bincount(examples.targets).tolist() == [32, 8]
    found = [tuple(item[0]) for part in kept for item in part.items]
    assert len(set(found)) == 50, "no sequence is in both"
    assert "validation_loss" in model.history_


def test_a_split_of_what_is_rare() -> None:
    """A class of one sequence is trained on; sequences of no weight are no reason to stop."""
    X, y = problem(21)
    y = y.copy()
    y[20] = 2
    model = RNNClassifier(early_stopping=True, **SMALL).fit(X, y)
    assert model.classes_.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="validation_fraction: expected sequences to hold out"):
        RNNRegressor(early_stopping=True, **SMALL).fit(X[:1], y[:1])
    weight = np.zeros(21)
    weight[0] = 1
    with pytest.raises(ValueError, match="sample_weight: expected some weights above 0 of what"):
        RNNClassifier(early_stopping=True, **SMALL).fit(X, y, sample_weight=weight)


# Calls in parts


@both
@pytest.mark.parametrize("solver", SOLVERS)
def test_partial_fits_are_epochs(cls: Any, solver: str) -> None:
    """The optimizer's state is kept: three calls are the three epochs of one fit."""
    X, y = problem()
    options = {**SMALL, "solver": solver, "batch_size": 10}
    whole = cls(**options).fit(X, y)
    parts = cls(**options)
    for i in range(3):
        assert parts.partial_fit(X, y) is parts
        assert parts.n_iter_ == i + 1
    assert_equal_parameters(parts, whole)
    assert parts.loss_curve_ == whole.loss_curve_
    assert parts.best_loss_ == whole.best_loss_


def test_the_first_partial_fit_decides() -> None:
    X, y = problem(30, classes=3)
    model = RNNClassifier(**SMALL).partial_fit(X[:6] * 7, y[:6] % 2, classes=[2, 1, 0])
    assert model.classes_.tolist() == [0, 1, 2]
    scale = model.channels_.scale
    assert model.predict_proba(X).shape == (30, 3)
    model.partial_fit(X, y).partial_fit(X, y, classes=[0, 1, 2])
    np.testing.assert_array_equal(model.channels_.scale, scale)
    with pytest.raises(ValueError, match=r"y: expected the classes \[0, 1, 2\], got also \[5\]"):
        model.partial_fit(X, np.where(y == 1, 5, y))
    with pytest.raises(ValueError, match=r"y: expected the classes .*, got also \['a'\]"):
        model.partial_fit(X, np.where(y == 1, "a", "a"))
    with pytest.raises(ValueError, match=r"classes: expected \[0, 1, 2\], as in the first call"):
        model.partial_fit(X, y, classes=[0, 1])
    assert model.n_iter_ == 3


def test_partial_fits_of_labels_and_numbers() -> None:
    X, y = problem(30)
    Y = np.column_stack([y, 1 - y, y])
    labels = RNNClassifier(**SMALL).partial_fit(X, Y).partial_fit(X[:5], Y[:5])
    assert labels.predict(X).shape == Y.shape
    with pytest.raises(ValueError, match=r"y: expected shape \(n, 3\), got \(30, 2\)"):
        labels.partial_fit(X, Y[:, :2])
    with pytest.raises(ValueError, match=r"y: expected shape \(n, 3\), got \(30,\)"):
        labels.partial_fit(X, y)
    numbers = RNNRegressor(**SMALL).partial_fit(X, Y * 1.0)
    with pytest.raises(ValueError, match=r"y: expected 3 targets for each sequence, got shape"):
        numbers.partial_fit(X, y)


@both
def test_a_warm_start_goes_on(cls: Any) -> None:
    X, y = problem()
    model = cls(warm_start=True, **SMALL).fit(X, y)
    before, network = parameters(model), model.layers_["rnn"]
    losses = list(model.loss_curve_)
    model.fit(X, y)
    assert model.layers_["rnn"] is network
    assert model.n_iter_ == 6
    assert model.loss_curve_[:3] == losses
    assert any(not np.array_equal(before[name], v) for name, v in parameters(model).items())
    cold = cls(**SMALL).fit(X, y).fit(X, y)
    assert cold.n_iter_ == 3
    assert_equal_parameters(cold, cls(**SMALL).fit(X, y))


@both
@pytest.mark.parametrize(
    ("name", "value"),
    [("hidden_size", 5), ("cell", "gru"), ("bidirectional", True), ("pooling", "max"),
     ("dropout", 0.5), ("standardize", False), ("dtype", "float32")],
)  # fmt: skip
def test_a_network_that_goes_on_cannot_change(cls: Any, name: str, value: Any) -> None:
    X, y = problem()
    for model, again in (
        (cls(warm_start=True, **SMALL).fit(X, y), "fit"),
        (cls(**SMALL).partial_fit(X, y), "partial_fit"),
    ):
        kept = parameters(model)
        old = getattr(model, name)
        model.set_params(**{name: value})
        with pytest.raises(ValueError, match=f"{name}: expected {old!r}, .* got {value!r}"):
            getattr(model, again)(X, y)
        np.testing.assert_equal(parameters(model), kept)
        model.set_params(**{name: old, "learning_rate_init": 1e-3})
        getattr(model, again)(X, y)


def test_interrupted_training_keeps_what_was_learned() -> None:
    X, y = problem()

    def interrupt(state: Any) -> None:
        if state.epoch == 2:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="training was interrupted after 2 epochs"):
        model = RNNClassifier(callbacks=interrupt, **SMALL).fit(X, y)
    assert model.interrupted_
    assert model.n_iter_ == 2
    assert_equal_parameters(model, RNNClassifier(**(SMALL | {"max_iter": 2})).fit(X, y))


# What fails leaves everything as it was


@both
def test_training_that_fails_leaves_the_estimator_as_it_was(cls: Any) -> None:
    X, y = problem()

    def fail(state: Any) -> None:
        raise RuntimeError("mine")

    for options in ({}, {"warm_start": True}):
        model = cls(**SMALL, **options).fit(X, y)
        answers, history = model.predict(X), model.history_
        model.set_params(callbacks=fail, hidden_size=4)
        with pytest.raises(RuntimeError, match="mine"):
            model.fit(X, y)
        assert model.history_ is history
        if not options:
            np.testing.assert_array_equal(model.predict(X), answers)
    with pytest.raises(RuntimeError, match="mine"):
        (fresh := cls(callbacks=fail, **SMALL)).fit(X, y)
    assert not hasattr(fresh, "layers_")
    assert not hasattr(fresh, "n_features_in_")


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid:RuntimeWarning")
def test_a_loss_that_is_not_finite_leaves_the_estimator_as_it_was() -> None:
    X, y = problem()
    model = RNNRegressor(cell="rnn", nonlinearity="relu", warm_start=True, **SMALL).fit(X, y)
    kept = parameters(model)
    model.set_params(learning_rate_init=1e300, max_grad_norm=None, solver="sgd", batch_size=8)
    with pytest.raises(FloatingPointError, match="epoch 1"):
        model.fit(X, y)
    np.testing.assert_equal(parameters(model), kept)


# Copies


def through_joblib(model: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


COPIES = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "joblib": through_joblib,
    "deepcopy": copy.deepcopy,
}


@both
@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_copies_answer_and_go_on(cls: Any, how: str, solver: str) -> None:
    X, y = problem()
    options = {**SMALL, "pooling": "attention", "dropout": 0.3, "recurrent_dropout": 0.2}
    model = cls(solver=solver, **options).partial_fit(X, y)
    other = COPIES[how](model)
    assert_equal_parameters(model, other)
    np.testing.assert_array_equal(other.predict(X), model.predict(X))
    np.testing.assert_array_equal(other.transform(X), model.transform(X))
    kept = parameters(model)
    other.partial_fit(X, y)
    np.testing.assert_equal(parameters(model), kept)
    assert differ(model, other), "the copy's optimizer works on the copy's layers"
    model.partial_fit(X, y)
    assert_equal_parameters(model, other)
    assert model.loss_curve_ == other.loss_curve_


def test_memory_maps(tmp_path: Path) -> None:
    X, y = problem()
    model = RNNClassifier(**SMALL).fit(X, y)
    joblib.dump((model, X), tmp_path / "model")
    other, mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    np.testing.assert_array_equal(other.predict(mapped), model.predict(X))
    other.fit(mapped, y)


@pytest.mark.parametrize("kind", ["params", "grads"])
@pytest.mark.parametrize("layer", ["rnn", "output"])
def test_pickles_with_arrays_of_other_shapes_are_refused(kind: str, layer: str) -> None:
    X, y = problem()
    found = RNNClassifier(**SMALL).fit(X, y).layers_[layer]
    state = found.__getstate__()
    name = next(iter(state[kind]))
    right = state[kind][name]
    for wrong in (right[:1], right[..., :1], np.float64(1), right.astype("float32"), right.T[None]):
        tampered = {**state, kind: {**state[kind], name: wrong}}
        with pytest.raises(ValueError, match=rf"{kind}\['{name}'\]: expected shape .* got"):
            type(found).__new__(type(found)).__setstate__(tampered)
    for wrong in ({}, {**state[kind], "more": right}):
        with pytest.raises(ValueError, match=f"{kind}: expected the names"):
            type(found).__new__(type(found)).__setstate__({**state, kind: wrong})
    type(found).__new__(type(found)).__setstate__(state)


def test_pickles_of_optimizers_are_checked() -> None:
    X, y = problem()
    optimizer = RNNClassifier(**SMALL).partial_fit(X, y)._optimizer
    state = optimizer.__getstate__()
    name = "mean.0.weight_hh_l0"
    for wrong in (state["state_dict"][name][:1], np.zeros(3)):
        tampered = {**state, "state_dict": {**state["state_dict"], name: wrong}}
        with pytest.raises(ValueError, match=rf"state_dict\['{name}'\]: expected shape"):
            type(optimizer).__new__(type(optimizer)).__setstate__(tampered)


def test_layers_that_do_not_fit_together_are_refused_at_use() -> None:
    """Whatever a pickle holds, layers check what they are given."""
    X, y = problem()
    model, other = (RNNClassifier(**(SMALL | {"hidden_size": n})).fit(X, y) for n in (4, 5))
    model._network.rnn = other._network.rnn
    with pytest.raises(ValueError, match=r"x: expected shape \(..., 4\), got"):
        model.predict(X)


@both
def test_clones_and_texts(cls: Any) -> None:
    model = cls(hidden_size=7, callbacks=[print])
    other = clone(model)
    assert other.get_params() == model.get_params()
    assert repr(model) == f"{cls.__name__}(callbacks=[<built-in function print>], hidden_size=7)"
    X, y = problem()
    html = estimator_html_repr(cls(**SMALL).fit(X, y))
    assert cls.__name__ in html and "hidden_size" in html
    assert cls.__name__ in cls()._repr_html_()
