"""RNNClassifier and RNNRegressor: what they learn, from which X, and what they answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sequences import SMALL, assert_equal_parameters, differ, problem, ragged
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import get_tags

import fastrnn
from fastrnn import RNNClassifier, RNNRegressor
from fastrnn.sequences.pooling import POOLINGS
from fastrnn.training.plan import SOLVERS

both = pytest.mark.parametrize("cls", [RNNClassifier, RNNRegressor])


# Learning


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_classes_are_learned(cell: str, pooling: str) -> None:
    X, y = problem(60, 8)
    names = np.array(["ham", "spam"])[y]
    model = RNNClassifier(
        cell=cell, pooling=pooling, hidden_size=8, max_iter=60, learning_rate_init=0.02,
        random_state=0,
    )  # fmt: skip
    model.fit(X[:40], names[:40])
    assert model.score(X[40:], names[40:]) > 0.9
    assert model.classes_.tolist() == ["ham", "spam"]
    assert set(model.predict(X)) <= {"ham", "spam"}


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber"])
def test_numbers_are_learned_in_their_own_units(loss: str) -> None:
    X = np.random.default_rng(0).standard_normal((120, 6, 1))
    y = 1e4 + 300 * X.sum(axis=(1, 2))
    model = RNNRegressor(
        cell="gru", hidden_size=8, loss=loss, max_iter=60, learning_rate_init=0.02, random_state=0
    )
    model.fit(X[:90], y[:90])
    assert model.score(X[90:], y[90:]) > 0.8
    assert model.score(X, y) == r2_score(y, model.predict(X))


def test_the_loss_decides(rng: np.random.Generator) -> None:
    X, y = problem()
    fitted = [
        RNNRegressor(loss=loss, **SMALL).fit(X, y + rng.standard_normal(len(y)))
        for loss in ("squared_error", "absolute_error", "huber")
    ]
    assert len({model.loss_curve_[0] for model in fitted}) == 3


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers(solver: str) -> None:
    X, y = problem()
    model = RNNClassifier(solver=solver, **(SMALL | {"max_iter": 10})).fit(X, y)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.parametrize(
    "options",
    [
        {"num_layers": 2, "dropout": 0.2, "recurrent_dropout": 0.2},
        {"bidirectional": True},
        {"cell": "gru", "reset_after": True},
        {"cell": "rnn", "nonlinearity": "relu"},
        {"tbptt_steps": 2},
        {"dtype": "float32"},
        {"batch_size": 5},
        {"batch_size": 5, "shuffle": False},
        {"learning_rate": "cosine"},
        {"learning_rate": lambda epoch, history: 0.01 / (1 + epoch)},
        {"max_grad_norm": None},
        {"alpha": 0.5},
        {"n_threads": 1},
    ],
    ids=lambda options: ",".join(options),
)
@both
def test_parameters_reach_the_network(cls: Any, options: dict[str, Any]) -> None:
    X, y = problem()
    plain, model = cls(**SMALL).fit(X, y), cls(**(SMALL | options)).fit(X, y)
    layer = model.layers_["rnn"]
    for name, value in options.items():
        if name == "cell":
            assert type(layer).__name__ == value.upper()
        elif hasattr(layer, name):
            assert getattr(layer, name) == value
    again = cls(**(SMALL | options)).fit(X, y)
    assert_equal_parameters(model, again)
    if options == {"n_threads": 1}:
        assert_equal_parameters(model, plain)
    elif options != {"max_grad_norm": None}:
        different = set(plain.layers_["rnn"].params) ^ set(layer.params)
        assert different or type(plain.layers_["rnn"]) is not type(layer) or differ(plain, model)


def test_forget_gates_start_open() -> None:
    X, y = problem()
    model = RNNClassifier(**(SMALL | {"max_iter": 1, "learning_rate_init": 1e-9})).fit(X, y)
    bias = model.layers_["rnn"].params["bias_ih_l0"]
    assert bias[4:8].mean() > 0.5 > bias[:4].mean()


@both
def test_a_full_batch_is_one_step(cls: Any) -> None:
    """Where n <= batch_size the order of sequences is of no consequence."""
    X, y = problem()
    order = np.random.default_rng(0).permutation(len(X))
    one, other = cls(**SMALL).fit(X, y), cls(**SMALL).fit(X[order], y[order])
    assert_equal_parameters(one, other, 1e-12)


@both
def test_clipping_bounds_what_is_recorded(cls: Any) -> None:
    X, y = problem()
    model = cls(**SMALL).fit(X, y)
    assert set(model.history_) == {"loss", "learning_rate", "grad_norm", "seconds"}
    assert model.history_["loss"] == model.loss_curve_
    assert model.n_iter_ == len(model.loss_curve_) == 3
    assert model.best_loss_ == min(model.loss_curve_)
    assert not model.interrupted_


def test_training_stops_where_nothing_changes() -> None:
    X, y = problem()
    model = RNNClassifier(hidden_size=4, tol=10.0, n_iter_no_change=2, max_iter=50, random_state=0)
    assert model.fit(X, y).n_iter_ == 3


def test_callbacks_see_the_estimator_and_stop_it() -> None:
    X, y = problem()
    seen: list[Any] = []

    def stop(state: Any) -> bool:
        seen.append((state.model.predict(X[:2]).shape, state.epoch))
        return state.epoch == 2

    model = RNNClassifier(hidden_size=4, callbacks=stop, random_state=0).fit(X, y)
    assert seen == [((2,), 1), ((2,), 2)]
    assert model.n_iter_ == 2


def test_random_states() -> None:
    X, y = problem()

    def fitted(state: Any) -> Any:
        return RNNClassifier(**(SMALL | {"random_state": state})).fit(X, y)

    assert_equal_parameters(fitted(3), fitted(np.random.default_rng(3)))
    assert_equal_parameters(fitted(np.random.RandomState(3)), fitted(np.random.RandomState(3)))
    assert differ(fitted(3), fitted(4))
    assert differ(fitted(np.random.RandomState(3)), fitted(np.random.RandomState(4)))
    assert differ(fitted(None), fitted(None))


# X


@both
@pytest.mark.parametrize("options", [{}, {"pooling": "attention", "bidirectional": True}])
def test_forms_of_x_are_one(cls: Any, options: dict[str, Any]) -> None:
    X, y = problem()
    lists, lengths = ragged(X)
    padded = X.copy()
    for row, length in zip(padded, lengths, strict=True):
        row[length:] = np.nan
    model = cls(**SMALL, **options).fit(padded, y, lengths=lengths)
    from_lists = cls(**SMALL, **options).fit(lists, y)
    assert_equal_parameters(model, from_lists)
    expected = model.predict(padded, lengths=lengths)
    np.testing.assert_array_equal(model.predict(lists), expected)
    objects = np.empty(len(lists), object)
    objects[:] = lists
    np.testing.assert_array_equal(from_lists.predict(objects), expected)
    assert model.score(padded, y, lengths=lengths) == from_lists.score(lists, y)
    turned = cls(**SMALL, **options, input_layout="ndt")
    turned.fit(padded.transpose(0, 2, 1), y, lengths=lengths)
    assert_equal_parameters(model, turned)
    np.testing.assert_array_equal(turned.predict([one.T for one in lists]), expected)
    assert model.n_features_in_ == turned.n_features_in_ == 2
    assert not hasattr(model, "feature_names_in_")


@both
def test_tables_are_sequences_of_one_channel(cls: Any) -> None:
    pandas = pytest.importorskip("pandas")
    X, y = problem(D=1)
    table = X[:, :, 0]
    model = cls(**SMALL).fit(table, y)
    assert model.n_features_in_ == table.shape[1]
    expected = model.predict(table)
    for form in (X, list(X), list(table)):
        np.testing.assert_array_equal(model.predict(form), expected)
        other = cls(**SMALL).fit(form, y)
        assert_equal_parameters(model, other)
        assert other.n_features_in_ == 1
        np.testing.assert_array_equal(other.predict(table), expected)
        np.testing.assert_array_equal(other.predict(table.tolist()), expected)
    frame = pandas.DataFrame(table, columns=[f"t{i}" for i in range(table.shape[1])])
    framed = cls(**SMALL).fit(frame, pandas.Series(y))
    assert_equal_parameters(model, framed)
    assert framed.feature_names_in_.tolist() == list(frame)
    with pytest.raises(ValueError, match="feature names"):
        framed.predict(frame[list(frame)[::-1]])
    framed.fit(X, y)
    assert not hasattr(framed, "feature_names_in_"), "what a later fit has not seen is gone"
    assert framed.n_features_in_ == 1


@both
def test_lengths_of_other_sequences_may_differ(cls: Any) -> None:
    X, y = problem()
    model = cls(**SMALL).fit(X, y)
    assert model.predict(X[:, :3]).shape == (len(X),)
    assert model.predict(np.concatenate([X, X], axis=1)).shape == (len(X),)
    table = cls(**SMALL).fit(X[:, :, 0], y)
    with pytest.raises(ValueError, match=r"X has 3 features, but RNN.* is expecting 6"):
        table.predict(X[:, :3, 0])


@both
def test_missing_steps_are_skipped(cls: Any) -> None:
    X, y = problem()
    X[3, [0, 4]] = np.nan
    lists = list(X)
    lists[3] = X[3][[1, 2, 3, 5]]
    model = cls(missing="skip", **SMALL).fit(X, y)
    expected = cls(**SMALL).fit(lists, y)
    assert_equal_parameters(model, expected)
    np.testing.assert_array_equal(model.predict(X), expected.predict(lists))
    np.testing.assert_array_equal(model.transform(list(X)), expected.transform(lists))
    table = X[:, :, 0]
    model.fit(table, y)
    np.testing.assert_array_equal(model.predict(table), model.predict([t[:, :1] for t in lists]))
    with pytest.raises(ValueError, match="NaN"):
        cls(**SMALL).fit(table, y)
    X[3, 1, 0] = np.nan
    with pytest.raises(ValueError, match=r"X\[3\]: expected steps that are finite, or NaN in all"):
        model.fit(X, y)


@both
@pytest.mark.parametrize(
    ("dtype", "given", "expected"),
    [(None, "float32", "float32"), (None, "float64", "float64"), (None, "int64", "float64"),
     ("float32", "float64", "float32"), ("float64", "float32", "float64")],
)  # fmt: skip
def test_dtypes(cls: Any, dtype: Any, given: str, expected: str) -> None:
    X, y = problem()
    X = (10 * X).astype(given)
    for form in (X, list(X), X[:, :, 0]):
        model = cls(dtype=dtype, **SMALL).fit(form, y)
        assert model.layers_["rnn"].dtype == expected
        assert model.transform(form).dtype == expected
        answer = model.predict_proba(form) if cls is RNNClassifier else model.predict(form)
        assert answer.dtype == expected
    other = model.transform(X[:, :, 0].astype("float64"))
    assert other.dtype == expected, "later X is converted"


@both
def test_standardize_takes_scale_away(cls: Any) -> None:
    X, y = problem()
    lists, _ = ragged(X)
    far = [1000 + one * [100, 0.01] for one in lists]
    one, other = cls(**SMALL).fit(lists, y), cls(**SMALL).fit(far, y)
    assert_equal_parameters(one, other, 1e-6)
    steps = np.concatenate(far)
    np.testing.assert_allclose(other.channels_.mean, steps.mean(axis=0))
    np.testing.assert_allclose(other.channels_.scale, steps.std(axis=0))
    raw = cls(standardize=False, **SMALL).fit(lists, y)
    assert raw.channels_ is None
    assert differ(one, raw)


@both
def test_what_is_held_out_teaches_no_scale(cls: Any) -> None:
    X, y = problem(40)
    kept: dict[str, Any] = {}
    model = cls(early_stopping=True, validation_fraction=0.5, **SMALL)
    train = model._train

    def spy(plan: Any, loss: Any, examples: Any, held_out: Any, *rest: Any, **named: Any) -> Any:
        kept["train"], kept["held out"] = np.stack(examples.items), np.stack(held_out.items)
        return train(plan, loss, examples, held_out, *rest, **named)

    model._train = spy
    model.fit(X, y)
    np.testing.assert_allclose(kept["train"].mean(axis=(0, 1)), 0, atol=1e-12)
    assert np.abs(kept["held out"].mean(axis=(0, 1))).max() > 1e-3


def test_a_test_sequence_does_not_see_the_others() -> None:
    X, y = problem(60)
    lists, _ = ragged(X)
    model = RNNClassifier(bidirectional=True, pooling="mean", **SMALL).fit(lists, y)
    whole = model.predict_proba(lists)
    for i in (0, 7, 59):
        np.testing.assert_allclose(model.predict_proba(lists[i : i + 1])[0], whole[i], atol=1e-12)
    np.testing.assert_allclose(model.predict_proba(lists[::-1]), whole[::-1], atol=1e-12)


# Answers


@pytest.mark.parametrize("classes", [2, 3])
def test_answers_of_a_classifier_agree(classes: int) -> None:
    X, y = problem(classes=classes)
    model = RNNClassifier(**SMALL).fit(X, y)
    probabilities, decision = model.predict_proba(X), model.decision_function(X)
    assert probabilities.shape == (len(X), classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    predicted = model.predict(X)
    np.testing.assert_array_equal(predicted, model.classes_[probabilities.argmax(axis=1)])
    if classes == 2:
        assert decision.shape == (len(X),)
        np.testing.assert_allclose(1 / (1 + np.exp(-decision)), probabilities[:, 1])
    else:
        e = np.exp(decision)
        np.testing.assert_allclose(e / e.sum(axis=1, keepdims=True), probabilities)
    weight = np.arange(len(y))
    assert model.score(X, y, weight) == accuracy_score(y, predicted, sample_weight=weight)


def test_labels(rng: np.random.Generator) -> None:
    Y = np.column_stack([rng.integers(0, 2, (60, 2)), np.zeros(60, int)])
    X = Y[:, None, :2] + 0.3 * rng.standard_normal((60, 6, 2))
    model = RNNClassifier(hidden_size=8, max_iter=40, random_state=0).fit(X[:40], Y[:40])
    assert model.score(X[40:], Y[40:]) > 0.8
    probabilities = model.predict_proba(X)
    assert probabilities.shape == Y.shape
    np.testing.assert_array_equal(model.predict(X), probabilities > 0.5)
    np.testing.assert_allclose(1 / (1 + np.exp(-model.decision_function(X))), probabilities)
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.predict(X).dtype.kind == "i"


def test_several_numbers() -> None:
    X = np.random.default_rng(0).standard_normal((80, 5, 1))
    Y = np.column_stack([X.sum(axis=(1, 2)), 1000 + 50 * X[:, -1, 0]])
    model = RNNRegressor(cell="gru", hidden_size=8, max_iter=60, random_state=0).fit(X, Y)
    predicted = model.predict(X)
    assert predicted.shape == Y.shape
    assert model.score(X, Y) == r2_score(Y, predicted) > 0.7
    np.testing.assert_allclose(predicted.mean(axis=0), Y.mean(axis=0), rtol=0.05, atol=0.5)


def test_a_constant_target() -> None:
    X, _ = problem()
    model = RNNRegressor(**(SMALL | {"max_iter": 60})).fit(X, np.full(len(X), 7.0))
    np.testing.assert_allclose(model.predict(X), 7, atol=0.5)


@both
def test_transform_is_what_the_last_layer_sees(cls: Any) -> None:
    X, y = problem()
    model = cls(bidirectional=True, pooling="max", **SMALL).fit(X, y)
    features = model.transform(X)
    assert features.shape == (len(X), 8)
    name = cls.__name__.lower()
    assert model.get_feature_names_out().tolist() == [f"{name}{i}" for i in range(8)]
    states, _ = model.layers_["rnn"](
        model.channels_.scaled(model._read(X, None, reset=False)).items
    )
    np.testing.assert_allclose(features, [one.max(axis=0) for one in states])
    out = model.layers_["output"](features)
    if cls is RNNClassifier:
        np.testing.assert_allclose(out[:, 1] - out[:, 0], model.decision_function(X), atol=1e-12)
    np.testing.assert_array_equal(cls(**model.get_params()).fit_transform(X, y), features)
    lists, lengths = ragged(X)
    np.testing.assert_array_equal(model.transform(lists), model.transform(X, lengths))
    fresh = cls(**model.get_params())
    np.testing.assert_array_equal(
        fresh.fit_transform(X, y, lengths=lengths), fresh.transform(lists)
    )


@both
def test_frames_as_output(cls: Any) -> None:
    pandas = pytest.importorskip("pandas")
    X, y = problem()
    model = cls(**SMALL).set_output(transform="pandas").fit(X, y)
    for form in (X, list(X), ragged(X)[0]):
        frame = model.transform(form)
        assert isinstance(frame, pandas.DataFrame)
        assert frame.columns.tolist() == model.get_feature_names_out().tolist()
    index = [f"row {i}" for i in range(len(X))]
    table = pandas.DataFrame(X[:, :, 0], index=index)
    assert model.fit_transform(table, y).index.tolist() == index


@both
def test_attention_weights(cls: Any) -> None:
    X, y = problem()
    lists, lengths = ragged(X)
    model = cls(pooling="attention", **SMALL).fit(X, y)
    weights = model.attention_weights(X, lengths)
    assert weights.shape == X.shape[:2]
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    rows = model.attention_weights(lists)
    for row, one, length in zip(weights, rows, lengths, strict=True):
        np.testing.assert_array_equal(row[:length], one)
        assert not row[length:].any()
    # The pooled states are the states' means by these weights.
    items = model.channels_.scaled(model._read(lists, None, reset=False)).items
    states, _ = model.layers_["rnn"](items)
    pooled = [w @ one for w, one in zip(rows, states, strict=True)]
    np.testing.assert_allclose(pooled, model.transform(lists), atol=1e-12)
    turned = cls(pooling="attention", input_layout="ndt", **SMALL).fit(X.transpose(0, 2, 1), y)
    np.testing.assert_array_equal(turned.attention_weights(X.transpose(0, 2, 1), lengths), weights)
    assert not hasattr(cls(pooling="mean"), "attention_weights")
    with pytest.raises(NotFittedError):
        cls(pooling="attention").attention_weights(X)


def test_attention_weights_of_missing_steps() -> None:
    X, y = problem()
    model = RNNClassifier(pooling="attention", missing="skip", **SMALL).fit(X, y)
    with_gap = X.copy()
    with_gap[2, [0, 3]] = np.nan
    weights = model.attention_weights(with_gap)
    assert weights.shape == X.shape[:2]
    assert not weights[2, [0, 3]].any()
    np.testing.assert_array_equal(
        weights[2, [1, 2, 4, 5]], model.attention_weights([X[2, [1, 2, 4, 5]]])[0]
    )


@both
def test_answers_need_a_fit(cls: Any) -> None:
    X, y = problem()
    for method in ("predict", "transform", "predict_proba", "decision_function"):
        if hasattr(cls, method):
            with pytest.raises(NotFittedError):
                getattr(cls(), method)(X)
    with pytest.raises(NotFittedError):
        cls().score(X, y)
    with pytest.raises(NotFittedError):
        cls().get_feature_names_out()


@both
def test_threads_are_taken_and_given_back(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = problem()
    before = fastrnn.get_num_threads()
    seen = []
    cls(n_threads=3, callbacks=lambda _: seen.append(fastrnn.get_num_threads()), **SMALL).fit(X, y)
    assert seen == [3] * 3
    assert fastrnn.get_num_threads() == before
    model = cls(n_threads=3, **SMALL).fit(X, y)
    network = type(model._network)
    states = network._states
    monkeypatch.setattr(
        network, "_states", lambda *a: seen.append(fastrnn.get_num_threads()) or states(*a)
    )
    model.predict(X)
    model.transform(X)
    assert seen[3:] == [3, 3]


@both
def test_tags(cls: Any) -> None:
    tags = get_tags(cls())
    assert tags.input_tags.two_d_array and tags.input_tags.three_d_array
    assert not tags.input_tags.allow_nan and not tags.input_tags.sparse
    assert get_tags(cls(missing="skip")).input_tags.allow_nan
    assert tags.transformer_tags.preserves_dtype == ["float64", "float32"]
    assert tags.target_tags.required
    if cls is RNNClassifier:
        assert tags.estimator_type == "classifier" and tags.classifier_tags.multi_label
    else:
        assert tags.estimator_type == "regressor" and tags.target_tags.multi_output
