"""What no numeric estimator takes: refused by name before training, with nothing changed.

Each case is tried on a new estimator, which stays unfitted, and on a fitted one, whose answers,
weights and attributes stay what they were, in `fit`, `partial_fit` and with a warm start.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

import scipy.sparse
from sequences import SMALL, parameters, problem, ragged

from fastrnn import RNNClassifier, RNNRegressor

X, Y = problem()
LISTS, LENGTHS = ragged(X)
N, T, D = X.shape

both = pytest.mark.parametrize("cls", [RNNClassifier, RNNRegressor])


def changed(form: Any, i: int, value: Any) -> Any:
    """A list or array with its i-th item replaced."""
    out = list(form)
    out[i] = value
    return out


def holed(value: float) -> np.ndarray:
    out = X.copy()
    out[2, 1, 0] = value
    return out


def attributes(model: Any) -> dict[str, Any]:
    """What is visible of an estimator, and its weights."""
    shown = {name: copy.copy(value) for name, value in vars(model).items() if name != "layers_"}
    return shown | (parameters(model) if hasattr(model, "layers_") else {})


def same(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert before.keys() == after.keys()
    for name, value in before.items():
        if isinstance(value, (np.ndarray, dict, list, int, float, str, type(None))):
            np.testing.assert_equal(after[name], value)


def refused(
    model: Any, error: Any, message: str, call: Callable[[Any], Any], epochs: list[int]
) -> None:
    before = attributes(model)
    with pytest.raises(error, match=message):
        call(model)
    assert not epochs, "training had started"
    same(before, attributes(model))


def refused_everywhere(cls: Any, error: Any, message: str, *args: Any, **named: Any) -> None:
    """By `fit` and `partial_fit`, of estimators that were fitted and that were not."""
    epochs: list[int] = []
    own, wrong = named.pop("parameters", {}), named.pop("wrong", ())
    options = {**SMALL, **own, "callbacks": lambda state: epochs.append(state.epoch)}
    good = {k: v for k, v in {**SMALL, **own}.items() if k not in wrong}
    for method in ("fit", "partial_fit"):
        if method == "partial_fit" and "eval_set" in named:
            continue

        def call(model: Any, method: str = method) -> None:
            getattr(model, method)(*args, **named)

        fresh = cls(**options)
        refused(fresh, error, message, call, epochs)
        assert not hasattr(fresh, "layers_") and not hasattr(fresh, "n_features_in_")
        for warm in (False, True):
            fitted = cls(**good, warm_start=warm).fit(X, Y)
            answers = fitted.predict(X)
            fitted.set_params(**options)
            refused(fitted, error, message, call, epochs)
            np.testing.assert_array_equal(fitted.predict(X), answers)


# X

BAD_X = {
    "channels differ": (changed(LISTS, 3, np.ones((2, 3))), ValueError,
                        r"X\[3\]: expected 2 channels, as X\[0\] has, got 3"),
    "an empty sequence": (changed(LISTS, 3, np.ones((0, 2))), ValueError,
                          r"X\[3\]: expected at least one step, got an empty sequence"),
    "NaN": (holed(np.nan), ValueError, r"X\[2\]: expected finite numbers, got NaN"),
    "infinity": (holed(np.inf), ValueError, r"X\[2\]: expected finite numbers, got infinity"),
    "NaN in a table": (holed(np.nan)[:, :, 0], ValueError, "Input X contains NaN"),
    "four dimensions": (X[..., None], ValueError, "X: expected 2 dimensions|Found .* with dim 4"),
    "one dimension": (X[:, 0, 0], ValueError, "Expected 2D array, got 1D array"),
    "none": (X[:0], ValueError, "X: expected at least one sequence|Found array with 0 sample"),
    "no channels": (X[:, :, :0], ValueError, "X: expected at least one channel, got 0"),
    "no steps": (X[:, :0], ValueError, r"X\[0\]: expected at least one step"),
    "complex": (X.astype(complex), TypeError, "X: expected real numbers, got dtype complex128"),
    "text": ([["a", "b"]] * N, ValueError, "could not convert|dtype='numeric'"),
    "bytes": (b"abc", ValueError, "got scalar array|could not convert"),
    "a list of bytes": (changed(LISTS, 3, np.array([[b"a", b"b"]])), TypeError,
                        r"X\[3\]: expected real numbers, got dtype \|S1"),
    "dates": (np.zeros(X.shape, "datetime64[s]"), TypeError, "X: expected real numbers"),
    "sparse": (scipy.sparse.csr_array(X[:, :, 0]), TypeError, "Sparse data was passed for X"),
    "None": (None, ValueError, "Expected 2D array, got scalar array"),
    "objects": (changed(LISTS, 3, np.array([[object(), 1]])), TypeError,
                r"X\[3\]: expected real numbers"),
}  # fmt: skip


@both
@pytest.mark.parametrize("case", BAD_X)
def test_bad_x(cls: Any, case: str) -> None:
    bad, error, message = BAD_X[case]
    refused_everywhere(cls, error, message, bad, Y)
    fitted = cls(**SMALL).fit(X, Y)
    if case == "no channels":
        message = "X: expected"
    for method in ("predict", "transform", "predict_proba", "decision_function"):
        if hasattr(fitted, method):
            refused(fitted, error, message, lambda m, name=method: getattr(m, name)(bad), [])


@both
def test_other_channels_than_fitted(cls: Any) -> None:
    model = cls(**SMALL).fit(X, Y)
    message = "X: expected sequences of 2 channels, as fit has seen, got"
    three = np.ones((N, T, 3))
    for bad in (three, list(three), X[:, :, 0], [one[:, 0] for one in X], X.transpose(0, 2, 1)):
        for method in ("predict", "transform"):
            refused(model, ValueError, message, lambda m, n=method, b=bad: getattr(m, n)(b), [])
        refused(model, ValueError, message, lambda m, b=bad: m.score(b, Y), [])
        refused(model, ValueError, message, lambda m, b=bad: m.partial_fit(b, Y), [])
    table = cls(**SMALL).fit(X[:, :, 0], Y)
    refused(table, ValueError, "got 2", lambda m: m.predict(X), [])
    refused(table, ValueError, "has 5 features", lambda m: m.predict(X[:, 1:, 0]), [])


# lengths

BAD_LENGTHS = {
    "too few": (LENGTHS[:-1], ValueError, rf"lengths: expected shape \({N},\)"),
    "too long": (LENGTHS + T, ValueError, rf"lengths: expected values in \[0, {T}\] \(T\)"),
    "negative": (-LENGTHS, ValueError, "lengths: expected values in"),
    "zero": (LENGTHS * (np.arange(N) != 4), ValueError, r"X\[4\]: expected at least one step"),
    "floats": (LENGTHS / 1.0, TypeError, "lengths: expected integers, got dtype float64"),
    "text": ("abc", TypeError, "lengths: expected integers"),
}


@both
@pytest.mark.parametrize("case", BAD_LENGTHS)
def test_bad_lengths(cls: Any, case: str) -> None:
    bad, error, message = BAD_LENGTHS[case]
    refused_everywhere(cls, error, message, X, Y, lengths=bad)
    refused(cls(**SMALL).fit(X, Y), error, message, lambda m: m.predict(X, lengths=bad), [])


@both
def test_lengths_of_what_has_lengths(cls: Any) -> None:
    message = "lengths: expected none with a list of sequences"
    refused_everywhere(cls, ValueError, message, LISTS, Y, lengths=LENGTHS)
    message = "lengths: expected none with two dimensions"
    refused_everywhere(cls, ValueError, message, X[:, :, 0], Y, lengths=LENGTHS)


# y


@both
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (None, "requires y to be passed, but the target y is None"),
        (Y[:-1], f"y: expected one target for each of {N} sequences, got {N - 1}"),
        (np.where(Y == 1, np.nan, 0.0), "Input y contains NaN"),
        (np.where(Y == 1, np.inf, 0.0), "Input y contains infinity"),
        (np.ones((N, 2, 2)), "dim 3|y: expected 1 or 2 dimensions"),
        (3, "at least 1 dimension"),
        (Y + 1j, "Complex data not supported"),
    ],
)
def test_bad_y(cls: Any, bad: Any, message: str) -> None:
    refused_everywhere(cls, (ValueError, TypeError), message, X, bad)


def test_targets_that_are_no_numbers() -> None:
    refused_everywhere(RNNRegressor, ValueError, "could not convert|numeric", X, ["a"] * N)
    objects = np.array([None, *range(N - 1)], object)
    refused_everywhere(RNNRegressor, (ValueError, TypeError), "None|NaN", X, objects)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros(N, int), "y: expected at least two classes, got 1 class"),
        (["one"] * N, "y: expected at least two classes, got 1 class"),
        (np.linspace(0, 1, N), "Unknown label type: continuous"),
        (np.column_stack([Y, Y + 1]), r"y: expected a class .* got \[0, 1, 2\] in shape"),
        (np.column_stack([Y, 2 * Y - 1]), r"y: expected a class .*|zeros and ones, got \[-1, 0, 1"),
        (np.column_stack([Y, Y]) + 1, r"y: expected zeros and ones, got \[1, 2\]"),
        (np.array([None, "a"] * (N // 2), object), "missing|None|NaN|unknown"),
    ],
)
def test_bad_classes(bad: Any, message: str) -> None:
    epochs: list[int] = []
    model = RNNClassifier(callbacks=lambda state: epochs.append(state.epoch), **SMALL)
    for method in ("fit", "partial_fit"):
        call = lambda m, name=method: getattr(m, name)(X, bad)  # noqa: E731
        refused(model, (ValueError, TypeError), message, call, epochs)


def test_classes_that_a_warm_start_has_not_seen() -> None:
    model = RNNClassifier(warm_start=True, **SMALL).fit(X, Y)
    for method in ("fit", "partial_fit"):
        refused(
            model, ValueError, r"y: expected the classes \[0, 1\], got also \[2\]",
            lambda m, name=method: getattr(m, name)(X, Y + 1), [],
        )  # fmt: skip


@pytest.mark.parametrize("classes", [[1], [], [0, 2]])
def test_bad_first_classes(classes: list[int]) -> None:
    message = "classes: expected at least two" if len(classes) < 2 else "y: expected the classes"
    refused(
        RNNClassifier(**SMALL), ValueError, message,
        lambda m: m.partial_fit(X, Y, classes=classes), [],
    )  # fmt: skip


# Weights and held-out data


@both
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros(N), "sample_weight: expected some|all zero|at least one non-zero"),
        (np.ones(N - 1), "sample_weight.shape"),
        (np.ones((N, 2)), "Sample weights must be 1D"),
        (-np.ones(N), "Negative values in data"),
        (np.full(N, np.nan), "NaN"),
        (["a"] * N, "could not convert"),
    ],
)
def test_bad_weights(cls: Any, bad: Any, message: str) -> None:
    refused_everywhere(cls, ValueError, message, X, Y, sample_weight=bad)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({7: 1.0}, r"class_weight: expected the classes \[0, 1\], got 7"),
        ({0: -1.0}, r"class_weight\[0\]: expected a number at least 0, got -1"),
        ({0: "a"}, r"class_weight\[0\]: expected a number"),
        ({0: 0.0, 1: 0.0}, "sample_weight: expected some weights above 0"),
        ("even", "class_weight: expected"),
        ([1, 2], "class_weight: expected a dict, 'balanced' or None, got"),
    ],
)
def test_bad_class_weights(bad: Any, message: str) -> None:
    refused_everywhere(
        RNNClassifier, (ValueError, TypeError), message, X, Y,
        parameters={"class_weight": bad}, wrong=["class_weight"],
    )  # fmt: skip


def test_class_weights_that_need_all_targets() -> None:
    model = RNNClassifier(class_weight="balanced", **SMALL)
    message = "class_weight: expected a dict or None with partial_fit"
    refused(model, ValueError, message, lambda m: m.partial_fit(X, Y), [])
    message = "class_weight: expected None with several labels"
    refused(model, ValueError, message, lambda m: m.fit(X, np.eye(2, dtype=int)[Y]), [])


@both
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (X, r"eval_set: expected \(X, y\) or \(X, y, lengths\), got"),
        ((X,), r"eval_set: expected \(X, y\)"),
        ((X, Y, None, 3), r"eval_set: expected \(X, y\)"),
        ((X[:, :, :1], Y), "eval_set: expected sequences of 2 channels, as fit has seen, got 1"),
        ((changed(LISTS, 3, np.ones((0, 2))), Y), r"eval_set\[3\]: expected at least one step"),
        ((X, Y[:-1]), "eval_set: expected one target for each of"),
        ((LISTS, Y, LENGTHS), "lengths: expected none with a list"),
        ((X, None), "y|eval_set"),
    ],
)
def test_bad_eval_sets(cls: Any, bad: Any, message: str) -> None:
    refused_everywhere(cls, (ValueError, TypeError), message, X, Y, eval_set=bad)


def test_eval_sets_of_unknown_classes() -> None:
    message = r"eval_set: expected the classes \[0, 1\], got also \[2\]"
    refused_everywhere(RNNClassifier, ValueError, message, X, Y, eval_set=(X, Y + 1))


# Parameters

BAD_PARAMETERS: list[tuple[str, Any, Any]] = [
    ("cell", "lstmm", ValueError),
    ("hidden_size", 0, ValueError),
    ("hidden_size", 3.0, TypeError),
    ("num_layers", 0, ValueError),
    ("bidirectional", 1, TypeError),
    ("dropout", 1.0, ValueError),
    ("recurrent_dropout", -0.1, ValueError),
    ("reset_after", "yes", TypeError),
    ("nonlinearity", "softplus", ValueError),
    ("pooling", "first", ValueError),
    ("pooling", None, ValueError),
    ("standardize", None, TypeError),
    ("missing", "drop", ValueError),
    ("input_layout", "tnd", ValueError),
    ("alpha", -1.0, ValueError),
    ("solver", "lbfgs", ValueError),
    ("learning_rate_init", 0.0, ValueError),
    ("learning_rate", "step", ValueError),
    ("momentum", 1.0, ValueError),
    ("batch_size", "full", ValueError),
    ("batch_size", 0, ValueError),
    ("shuffle", 0, TypeError),
    ("max_iter", 0, ValueError),
    ("max_grad_norm", 0.0, ValueError),
    ("tbptt_steps", 0, ValueError),
    ("early_stopping", "no", TypeError),
    ("validation_fraction", 0.0, ValueError),
    ("validation_fraction", 1, ValueError),
    ("n_iter_no_change", 0, ValueError),
    ("tol", "small", TypeError),
    ("warm_start", 1, TypeError),
    ("callbacks", 3, TypeError),
    ("random_state", "seed", TypeError),
    ("random_state", -1, ValueError),
    ("verbose", -1, ValueError),
    ("n_threads", 0, ValueError),
    ("dtype", "float16", ValueError),
    ("dtype", "int64", ValueError),
]


@both
@pytest.mark.parametrize(("name", "value", "error"), BAD_PARAMETERS)
def test_bad_parameters(cls: Any, name: str, value: Any, error: Any) -> None:
    """Refused before X is so much as looked at."""
    message = rf"^{name}: expected .*"
    model = cls(**{**SMALL, name: value})
    for method in ("fit", "partial_fit"):
        refused(model, error, message, lambda m, n=method: getattr(m, n)("no X", "no y"), [])
    fitted = cls(**SMALL).fit(X, Y).set_params(**{name: value})
    refused(fitted, error, message, lambda m: m.fit("no X", "no y"), [])


def test_parameters_of_one_estimator() -> None:
    message = re.escape("loss: expected one of 'squared_error', 'absolute_error', 'huber', got")
    model = RNNRegressor(loss="poisson")
    refused(model, ValueError, message, lambda m: m.fit("no X", "no y"), [])


@both
def test_parameters_that_do_not_go_together(cls: Any) -> None:
    message = "tbptt_steps: expected None with bidirectional=True"
    model = cls(tbptt_steps=5, bidirectional=True)
    refused(model, ValueError, message, lambda m: m.fit("no X", "no y"), [])


@both
def test_every_parameter_has_a_refusal(cls: Any) -> None:
    tried = {name for name, *_ in BAD_PARAMETERS} | {"loss", "class_weight"}
    assert set(cls().get_params()) <= tried
