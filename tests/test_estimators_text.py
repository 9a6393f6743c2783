"""TextClassifier: text as people have it, scikit-learn's conventions, wrong input."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn_checks import SUBSETS, WITH_DATA, WITHOUT_DATA, run_check

from fastrnn import TextClassifier

SMALL: dict[str, Any] = {"hidden_size": 8, "embedding_dim": 8, "max_iter": 15, "random_state": 0,
                         "learning_rate_init": 0.02}  # fmt: skip
SUBJECTS = ["the cat", "a dog", "my friend", "the old man", "she", "he"]
VERBS = ["sleeps", "walks in the park", "eats fish", "sings"]
TEXTS = [f"{s} {v}" for s in SUBJECTS for v in VERBS]
TEXTS += ["le chat dort", "un chien marche", "mon ami chante", "elle mange du poisson", "il dort",
          "le vieux chante", "une amie marche", "la voisine mange"] * 3  # fmt: skip
Y = np.array(["English"] * 24 + ["French"] * 24)
TOKENS = [text.split() for text in TEXTS]


@pytest.fixture(scope="module")
def fitted() -> TextClassifier:
    return TextClassifier(**SMALL).fit(TEXTS, Y)


# Forms of X


@pytest.mark.parametrize("level", ["char", "word"])
def test_it_learns(level: str) -> None:
    model = TextClassifier(level, **SMALL).fit(TEXTS, Y)
    assert model.score(TEXTS, Y) == 1
    assert model.vocabulary_.level == level
    assert ("c" if level == "char" else "chat") in model.vocabulary_
    assert model.classes_.tolist() == ["English", "French"]
    # Of words the second text has nothing but unknown ones.
    assert model.predict(["the chat", "zzz QQQ"]).shape == (2,)
    assert model.layers_["embedding"].dtype == np.float32
    assert list(model.layers_) == ["embedding", "rnn", "output"]


@pytest.mark.parametrize(
    "form",
    [tuple, np.array, lambda X: np.array(X, dtype=object), iter, lambda X: map(np.str_, X)],
    ids=["tuple", "array", "object", "iterator", "np.str_"],
)
def test_any_row_of_strings(form: Callable[[Any], Any], fitted: TextClassifier) -> None:
    model = TextClassifier(**SMALL).fit(form(TEXTS), Y)
    np.testing.assert_array_equal(model.predict_proba(form(TEXTS)), fitted.predict_proba(TEXTS))


def test_series(fitted: TextClassifier) -> None:
    pandas = pytest.importorskip("pandas")
    model = TextClassifier(**SMALL).fit(pandas.Series(TEXTS), pandas.Series(Y))
    np.testing.assert_array_equal(
        model.predict_proba(pandas.Series(TEXTS)), fitted.predict_proba(TEXTS)
    )
    with pytest.raises(
        ValueError, match=r"X: expected texts in one dimension, got shape \(48, 1\)"
    ):
        model.predict(pandas.DataFrame({"text": TEXTS}))


@pytest.mark.parametrize("level", ["char", "word"])
def test_lists_of_tokens_are_taken_as_they_are(level: str) -> None:
    """Whatever the level; and words that are split already are those of ``level="word"``."""
    model = TextClassifier(level, **SMALL).fit(TOKENS, Y)
    words = TextClassifier("word", **SMALL).fit(TEXTS, Y)
    np.testing.assert_array_equal(model.predict_proba(TOKENS), words.predict_proba(TEXTS))
    arrays = [np.array(tokens) for tokens in TOKENS]
    np.testing.assert_array_equal(model.predict_proba(arrays), words.predict_proba(TEXTS))
    model.fit([["New York", "is"], ["Le Mans"]], ["a", "b"])
    assert set(model.vocabulary_.tokens) == {"New York", "is", "Le Mans"}


def test_rare_and_surplus_tokens_are_unknown() -> None:
    model = TextClassifier("word", min_count=2, max_vocabulary=3, **SMALL).fit(TEXTS, Y)
    assert len(model.vocabulary_.tokens) == 3
    assert model.layers_["embedding"].num_embeddings == 5
    few = TextClassifier("word", min_count=5, **SMALL).fit(TEXTS, Y)
    assert "voisine" not in few.vocabulary_ and "sleeps" in few.vocabulary_


def test_a_texts_answer_does_not_depend_on_others(fitted: TextClassifier) -> None:
    whole = fitted.decision_function(TEXTS)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    again = fitted.decision_function([TEXTS[i] for i in order])
    np.testing.assert_allclose(again, whole[order], atol=1e-5)
    for i in (0, 30):
        np.testing.assert_allclose(fitted.decision_function([TEXTS[i]]), whole[i], atol=1e-5)


# What it shares with RNNClassifier


def test_answers_agree(fitted: TextClassifier) -> None:
    proba = fitted.predict_proba(TEXTS)
    assert proba.shape == (48, 2) and proba.dtype == np.float32
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-6)
    logit = fitted.decision_function(TEXTS)
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), proba[:, 1], atol=1e-6)
    np.testing.assert_array_equal(fitted.predict(TEXTS), fitted.classes_[proba.argmax(axis=1)])
    assert is_classifier(fitted)


def test_features(fitted: TextClassifier) -> None:
    rows = fitted.transform(TEXTS)
    assert rows.shape == (48, 16)
    assert fitted.get_feature_names_out()[[0, 15]].tolist() == [
        "textclassifier0", "textclassifier15",
    ]  # fmt: skip
    output = fitted.layers_["output"]
    logits = output(rows)
    np.testing.assert_allclose(
        logits[:, 1] - logits[:, 0], fitted.decision_function(TEXTS), atol=1e-5
    )
    again = TextClassifier(**SMALL).fit_transform(TEXTS, Y)
    np.testing.assert_array_equal(again, rows)


def test_features_as_a_frame(fitted: TextClassifier) -> None:
    pytest.importorskip("pandas")
    frame = clone(fitted).set_output(transform="pandas").fit(TEXTS, Y).transform(TEXTS[:2])
    assert frame.columns[0] == "textclassifier0"


def test_attention() -> None:
    model = TextClassifier("word", pooling="attention", **SMALL).fit(TEXTS, Y)
    weights = model.attention_weights(TEXTS)
    assert [len(one) for one in weights] == [len(tokens) for tokens in TOKENS]
    np.testing.assert_allclose([one.sum() for one in weights], 1, atol=1e-6)
    assert not hasattr(TextClassifier(), "attention_weights")


def test_labels() -> None:
    y = np.stack([Y == "English", ["dort" in t or "sleeps" in t for t in TEXTS]], axis=1).astype(
        int
    )
    model = TextClassifier("word", **{**SMALL, "max_iter": 40}).fit(TEXTS, y)
    assert model.predict(TEXTS).shape == (48, 2)
    assert model.score(TEXTS, y) > 0.9
    assert model.predict_proba(TEXTS).shape == (48, 2)


def test_weights_count() -> None:
    """With the English texts at weight 0 all that is said is French."""
    weight = np.where(Y == "French", 1.0, 0.0)
    model = TextClassifier(**SMALL).fit(TEXTS, Y, sample_weight=weight)
    assert (model.predict(TEXTS) == "French").all()
    model = TextClassifier(class_weight={"English": 0}, **SMALL).fit(TEXTS, Y)
    assert (model.predict(TEXTS) == "French").all()
    assert model.score(TEXTS, Y, sample_weight=weight) == 1


def test_partial_fit_fixes_classes_and_vocabulary() -> None:
    model = TextClassifier("word", **SMALL)
    model.partial_fit(TEXTS[::2], Y[::2], classes=["English", "French", "German"])
    tokens = model.vocabulary_.tokens
    for _ in range(30):
        model.partial_fit(TEXTS, Y)
    assert model.vocabulary_.tokens == tokens
    assert model.n_iter_ == 31
    assert model.predict_proba(TEXTS).shape == (48, 3)
    assert model.score(TEXTS, Y) == 1
    with pytest.raises(
        ValueError, match=r"y: expected the classes \['English', 'French', 'Ge.*'Da"
    ):
        model.partial_fit(["hej du", "hello you"], ["Danish", "English"])


def test_warm_start_goes_on(fitted: TextClassifier) -> None:
    model = TextClassifier(**{**SMALL, "max_iter": 2}, warm_start=True).fit(TEXTS, Y)
    layers = model.layers_
    assert model.fit([*TEXTS, "new words?"], [*Y, "English"]).layers_ is layers
    assert model.n_iter_ == 4
    assert "?" not in model.vocabulary_
    model.set_params(embedding_dim=9)
    with pytest.raises(ValueError, match="embedding_dim: expected 8, with which"):
        model.fit(TEXTS, Y)


def test_early_stopping() -> None:
    model = TextClassifier("word", early_stopping=True, **SMALL).fit(TEXTS, Y)
    assert len(model.history_["validation_loss"]) == model.n_iter_
    held = TextClassifier("word", early_stopping=True, **SMALL)
    held.fit(TEXTS[::2], Y[::2], eval_set=(TEXTS[1::2], Y[1::2]))
    assert len(held.history_["validation_loss"]) == held.n_iter_
    assert "sleeps" in held.vocabulary_ and "walks" not in held.vocabulary_
    with pytest.raises(ValueError, match="lengths: expected none with texts"):
        held.fit(TEXTS, Y, eval_set=(TEXTS, Y, [3] * 48))
    with pytest.raises(TypeError, match=r"eval_set\[0\]: expected a text \(str\), as fit has seen"):
        held.fit(TEXTS, Y, eval_set=(TOKENS, Y))


def test_the_vocabulary_is_of_the_training_part_alone() -> None:
    """What is held out must meet unknown words as later texts will."""
    texts = [f"common word{i}" for i in range(40)]
    model = TextClassifier("word", early_stopping=True, validation_fraction=0.5, **SMALL)
    model.fit(texts, np.arange(40) % 2)
    assert sum(token.startswith("word") for token in model.vocabulary_.tokens) == 20


def test_float64() -> None:
    model = TextClassifier(dtype="float64", **SMALL).fit(TEXTS, Y)
    assert model.predict_proba(TEXTS).dtype == np.float64
    assert model.layers_["embedding"].dtype == np.float64


def test_same_seed_same_bits(fitted: TextClassifier) -> None:
    again = TextClassifier(**SMALL, n_threads=2).fit(TEXTS, Y)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS))
    options = {**SMALL, "dropout": 0.3, "unknown_rate": 1.0}
    first, second = (TextClassifier(**options).fit(TEXTS, Y) for _ in range(2))
    np.testing.assert_array_equal(first.transform(TEXTS), second.transform(TEXTS))


# scikit-learn


class FromNumbers(TextClassifier):
    """Reads the numbers of scikit-learn's checks as texts of their digits."""

    def _read(self, X: Any, lengths: Any, *, reset: bool, name: str = "X") -> Any:
        texts = [" ".join(f"{v:.1f}" for v in np.ravel(row)) for row in np.asarray(X)]
        return super()._read(texts, lengths, reset=reset, name=name)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.string = True, False
        return tags


@pytest.mark.parametrize("check", WITHOUT_DATA)
def test_checks_of_scikit_learn(check: str) -> None:
    run_check(check, TextClassifier())


@pytest.mark.parametrize("check", WITH_DATA + SUBSETS)
def test_checks_of_scikit_learn_that_fit(check: str) -> None:
    """On numbers written out: the text between is the only thing that differs."""
    run_check(check, FromNumbers(**{**SMALL, "max_iter": 2}))


def test_tags() -> None:
    tags = get_tags(TextClassifier())
    assert tags.input_tags.string and not tags.input_tags.two_d_array
    assert tags.classifier_tags.multi_label
    assert not tags.no_validation


def test_it_is_unfitted_before_fit() -> None:
    for method in ("predict", "predict_proba", "decision_function", "transform"):
        with pytest.raises(NotFittedError):
            getattr(TextClassifier(), method)(TEXTS)


def test_pickles(fitted: TextClassifier) -> None:
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.predict_proba(TEXTS), fitted.predict_proba(TEXTS))
    streamed = TextClassifier(dropout=0.2, **SMALL)
    streamed.partial_fit(TEXTS, Y)
    other = pickle.loads(pickle.dumps(streamed))
    for model in (streamed, other):
        model.partial_fit(TEXTS, Y)
    np.testing.assert_array_equal(other.transform(TEXTS), streamed.transform(TEXTS))


def test_searches_and_folds() -> None:
    model = TextClassifier("word", **SMALL)
    assert (cross_val_score(model, TEXTS, Y, cv=3) > 0.6).all()
    assert cross_val_predict(model, TEXTS, Y, cv=2).shape == (48,)
    assert cross_val_predict(model, TEXTS, Y, cv=2, method="predict_proba").shape == (48, 2)
    search = GridSearchCV(model, {"level": ["char", "word"], "embedding_dim": [4]}, cv=2)
    search.fit(TEXTS, Y)
    assert search.best_estimator_.embedding_dim == 4
    assert search.score(TEXTS, Y) > 0.9
    lists = GridSearchCV(model, {"unknown_rate": [0.0, 0.5]}, cv=2, scoring="roc_auc")
    assert lists.fit(TOKENS, Y).best_score_ > 0.6


def test_ensembles() -> None:
    model = TextClassifier("word", **SMALL)
    for X in (TEXTS, TOKENS):
        proba = CalibratedClassifierCV(model, cv=2).fit(X, Y).predict_proba(X)
        assert proba.shape == (48, 2)
    counts = make_pipeline(CountVectorizer(), LogisticRegression())
    for both in (
        StackingClassifier([("rnn", model), ("counts", counts)], cv=2),
        VotingClassifier([("rnn", model), ("counts", counts)], voting="soft"),
    ):
        assert both.fit(TEXTS, Y).score(TEXTS, Y) > 0.9


def test_a_column_of_a_frame() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": TEXTS, "number": np.arange(48.0)})
    both = ColumnTransformer([("text", TextClassifier(**SMALL), "text")], remainder="passthrough")
    assert both.fit_transform(frame, Y).shape == (48, 17)


@pytest.mark.slow
def test_two_processes() -> None:
    search = GridSearchCV(TextClassifier("word", **SMALL), {"embedding_dim": [4, 8]}, n_jobs=2)
    one = GridSearchCV(TextClassifier("word", **SMALL), {"embedding_dim": [4, 8]})
    search.fit(TEXTS, Y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], one.fit(TEXTS, Y).cv_results_["mean_test_score"]
    )


def test_pipelines() -> None:
    line = make_pipeline(TextClassifier("word", **SMALL), StandardScaler(), LogisticRegression())
    assert line.fit(TEXTS, Y).score(TEXTS, Y) == 1


# Wrong input, refused before anything is trained

BAD_X: list[tuple[Any, type[Exception], str]] = [
    ("one text", TypeError, "X: expected a list of texts, got 'one text'"),
    (b"bytes", TypeError, "X: expected a list of texts, got b'bytes'"),
    (3, TypeError, "X: expected a list of texts, got 3"),
    ({"a": "b"}, TypeError, "X: expected a list of texts"),
    ([], ValueError, "X: expected at least one text, got none"),
    ([b"abc", b"d"], TypeError, r"X\[0\]: expected a text \(str\), as fit has seen, got b'abc'"),
    (["abc", b"d"], TypeError, r"X\[1\]: expected a text \(str\), as .*, got b'd'"),
    (["abc", 3], TypeError, r"X\[1\]: expected a text \(str\), as .*, got 3"),
    (["abc", None], TypeError, r"X\[1\]: expected a text \(str\), as .*, got None"),
    (["abc", ["a"]], TypeError, r"X\[1\]: expected a text \(str\), as .*, got \['a'\]"),
    (["abc", ""], ValueError, r"X\[1\]: expected at least one token, got ''"),
    (np.zeros((2, 3)), ValueError, r"X: expected texts in one dimension, got shape \(2, 3\)"),
    (np.zeros(2), TypeError, r"X\[0\]: expected a text \(str\)"),
]


@pytest.mark.parametrize(("X", "error", "message"), BAD_X, ids=range(len(BAD_X)))
def test_wrong_texts_are_named(
    X: Any, error: type[Exception], message: str, fitted: TextClassifier
) -> None:
    with pytest.raises(error, match=message):
        fitted.predict(X)
    model = TextClassifier(**SMALL)
    with pytest.raises(error, match=message.replace("fit has seen", ".*")):
        model.fit(X, [0, 1])
    assert not hasattr(model, "layers_") and not hasattr(model, "vocabulary_")


def test_wrong_tokens_are_named() -> None:
    model = TextClassifier(**SMALL).fit(TOKENS, Y)
    before = model.predict_proba(TOKENS)
    for X, error, message in [
        (TEXTS, TypeError, r"X\[0\]: expected a list of tokens, as fit has seen, got 'the cat sl"),
        ([["a", b"b"]], TypeError, r"X\[0\]\[1\]: expected a token \(str\), got b'b'"),
        ([["a", 2]], TypeError, r"X\[0\]\[1\]: expected a token \(str\), got 2"),
        ([["a"], []], ValueError, r"X\[1\]: expected at least one token, got \[\]"),
    ]:
        with pytest.raises(error, match=message):
            model.predict(X)
        with pytest.raises(error, match=message.replace("as fit has seen", ".*")):
            model.set_params(warm_start=True).fit(X, Y[: len(X)])
    np.testing.assert_array_equal(model.predict_proba(TOKENS), before)
    with pytest.raises(ValueError, match=r"X\[1\]: expected at least one token, got '  '"):
        TextClassifier("word").fit(["a b", "  "], [0, 1])


BAD_Y: list[tuple[Any, str]] = [
    (["a"] * 48, "y: expected at least two classes, got 1 class"),
    (Y[:10], "y: expected one target for each of 48 sequences, got 10"),
    (None, "requires y to be passed, but the target y is None"),
    (np.linspace(0, 1, 48), "Unknown label type"),
]


@pytest.mark.parametrize(("y", "message"), BAD_Y, ids=range(len(BAD_Y)))
def test_wrong_classes_are_named(y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextClassifier(**SMALL).fit(TEXTS, y)


BAD_PARAMETERS: list[tuple[str, Any]] = [
    ("level", "letters"), ("embedding_dim", 0), ("embedding_dim", 2.5), ("min_count", 0),
    ("max_vocabulary", 0), ("unknown_rate", -1.0), ("unknown_rate", "often"), ("cell", "mlp"),
    ("pooling", "sum"),
]  # fmt: skip


@pytest.mark.parametrize(("parameter", "value"), BAD_PARAMETERS)
def test_wrong_parameters_are_named(parameter: str, value: Any) -> None:
    assert parameter in inspect.signature(TextClassifier).parameters
    with pytest.raises((ValueError, TypeError), match=f"^{parameter}: expected"):
        TextClassifier(**{parameter: value}).fit(TEXTS, Y)


# Real data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("names", "classification/names.tsv"),
        ("English or French", "translation/eng-fra-20k.tsv"),
    ],
)
def test_real_texts(name: str, file: str, data_file: Callable[[str], Path]) -> None:
    """As well as `bench.accuracy` asks for, with one seed."""
    data_file(file)
    from bench.sets.texts import TASKS, TF_IDF
    from bench.targets import ACCURACIES

    (task,) = (one for one in TASKS if one.name == name)
    data = task.data(0)
    found, _ = task.fitted(task.make(0), data)
    if name in ACCURACIES:
        assert found >= ACCURACIES[name]
    else:
        rival, _ = task.fitted(task.baselines[TF_IDF](), data)
        assert found >= rival - 0.015
