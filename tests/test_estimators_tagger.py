"""SequenceTagger: X and y as people have them, one label for each step, wrong input."""

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
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.utils import get_tags
from sklearn_checks import WITH_DATA, WITHOUT_DATA, run_check

from fastrnn import SequenceTagger

SMALL: dict[str, Any] = {"hidden_size": 8, "max_iter": 40, "random_state": 0,
                         "learning_rate_init": 0.02}  # fmt: skip
WORDS: dict[str, Any] = {**SMALL, "embedding_dim": 8, "char_embedding_dim": 6,
                         "char_hidden_size": 6}  # fmt: skip


def numbers(n: int = 40, D: int = 2) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Ragged sequences; the label tells whether the first channel has risen."""
    rng = np.random.default_rng(1)
    X = [rng.standard_normal((3 + i % 5, D)) for i in range(n)]
    return X, [np.where(np.diff(x[:, 0], prepend=0) > 0, "up", "down") for x in X]


def padded(X: list[np.ndarray], fill: Any = 0.0) -> np.ndarray:
    T = max(map(len, X))
    out = np.full((len(X), T, *X[0].shape[1:]), fill, X[0].dtype)
    for row, x in zip(out, X, strict=True):
        row[: len(x)] = x
    return out


X, Y = numbers()
LENGTHS = np.array([len(x) for x in X])
SENTENCES = [s.split() for s in (
    "the cat walked home", "a dog barked", "cats walk", "dogs bark loudly",
    "the dogs walked slowly", "a bird sang", "birds sing", "the bird barked quickly",
)] * 3  # fmt: skip
KIND = {"the": "DET", "a": "DET", "home": "ADV", "cat": "NOUN", "cats": "NOUN", "dog": "NOUN",
        "dogs": "NOUN", "bird": "NOUN", "birds": "NOUN", "loudly": "ADV", "slowly": "ADV",
        "quickly": "ADV"}  # fmt: skip
TAGS = [[KIND.get(word, "VERB") for word in sentence] for sentence in SENTENCES]


@pytest.fixture(scope="module")
def fitted() -> SequenceTagger:
    return SequenceTagger(**SMALL).fit(X, Y)


@pytest.fixture(scope="module")
def speller() -> SequenceTagger:
    return SequenceTagger(chars=True, **WORDS).fit(SENTENCES, TAGS)


# Forms of X and y


def test_lists(fitted: SequenceTagger) -> None:
    assert fitted.score(X, Y) > 0.9
    found = fitted.predict(X)
    assert isinstance(found, list)
    assert [one.shape for one in found] == [(len(x),) for x in X]
    assert fitted.score(X, Y) == pytest.approx(np.mean(np.concatenate(found) == np.concatenate(Y)))
    assert fitted.classes_.tolist() == ["down", "up"]
    assert fitted.n_features_in_ == 2
    assert [one.shape for one in fitted.predict_proba(X)] == [(len(x), 2) for x in X]
    assert [one.shape for one in fitted.decision_function(X)] == [(len(x),) for x in X]
    lists = [list(y) for y in Y]
    same = SequenceTagger(**SMALL).fit(tuple(X), lists)
    np.testing.assert_array_equal(same.predict_proba(X)[7], fitted.predict_proba(X)[7])


def test_padded_arrays(fitted: SequenceTagger) -> None:
    """As the lists; what stands in padding does not count."""
    whole, labels = padded(X, np.nan), padded(Y, "?")
    whole[np.isnan(whole)] = 1e6
    model = SequenceTagger(**SMALL).fit(whole, labels, lengths=LENGTHS)
    assert model.classes_.tolist() == ["down", "up"]
    found = model.predict(whole, lengths=LENGTHS)
    assert isinstance(found, np.ndarray) and found.shape == (40, 7)
    proba = model.predict_proba(whole, lengths=LENGTHS)
    assert proba.shape == (40, 7, 2)
    logits = model.decision_function(whole, lengths=LENGTHS)
    assert logits.shape == (40, 7)
    for i, (labels_i, p) in enumerate(zip(fitted.predict(X), fitted.predict_proba(X), strict=True)):
        n = LENGTHS[i]
        assert found[i, :n].tolist() == labels_i.tolist()
        assert (found[i, n:] == "").all()
        np.testing.assert_allclose(proba[i, :n], p, rtol=0, atol=1e-9)
        assert not proba[i, n:].any() and not logits[i, n:].any()
    score = model.score(whole, labels, lengths=LENGTHS)
    assert score == pytest.approx(fitted.score(X, Y))


def test_tables() -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((30, 6))
    labels = (np.diff(table, prepend=0) > 0).astype(int)
    model = SequenceTagger(**SMALL).fit(table, labels)
    assert model.n_features_in_ == 6
    found = model.predict(table)
    assert isinstance(found, np.ndarray) and found.shape == (30, 6) and found.dtype == labels.dtype
    assert model.score(table, labels) > 0.9
    as_lists = model.predict(list(table))
    assert isinstance(as_lists, list)
    np.testing.assert_array_equal(np.stack(as_lists), found)
    # Python lists of equal length are lists too.
    assert isinstance(model.predict(table.tolist()), list)
    three = SequenceTagger(**SMALL).fit(table[:, :, None], labels)
    np.testing.assert_allclose(three.predict_proba(table[:, :, None]), model.predict_proba(table))
    channels_first = SequenceTagger(input_layout="ndt", **SMALL).fit(table[:, None], labels)
    assert channels_first.predict(table[:, None]).shape == (30, 6)
    # The labels of an array may be a list, too.
    np.testing.assert_array_equal(
        SequenceTagger(**SMALL).fit(table, labels.tolist()).predict(table), found
    )


def test_frames_and_series() -> None:
    pandas = pytest.importorskip("pandas")
    table = np.random.default_rng(0).standard_normal((30, 6))
    labels = (np.diff(table, prepend=0) > 0).astype(int)
    frame = pandas.DataFrame(table, columns=list("abcdef"))
    model = SequenceTagger(**SMALL).fit(frame, pandas.DataFrame(labels))
    assert model.feature_names_in_.tolist() == list("abcdef")
    assert model.predict(frame).shape == (30, 6)
    for options, sequences, labels in ((SMALL, X, Y), (WORDS, SENTENCES, TAGS)):
        model = SequenceTagger(**options)
        model.fit(pandas.Series(list(sequences)), pandas.Series(list(labels)))
        assert isinstance(model.predict(pandas.Series(list(sequences))), list)
        assert model.score(sequences, labels) > 0.9


@pytest.mark.parametrize("form", [list, lambda s: np.array(s, dtype=object), tuple])
@pytest.mark.parametrize("chars", [False, True])
def test_tokens(form: Any, chars: bool) -> None:
    model = SequenceTagger(chars=chars, **WORDS).fit(form(SENTENCES), TAGS)
    found = model.predict(form(SENTENCES))
    assert isinstance(found, list)
    assert [one.tolist() for one in found] == TAGS
    assert model.classes_.tolist() == ["ADV", "DET", "NOUN", "VERB"]
    assert "cats" in model.vocabulary_
    assert hasattr(model, "characters_") == chars
    assert not hasattr(model, "n_features_in_") and not hasattr(model, "channels_")
    assert ("char_rnn" in model.layers_) == chars


def test_tokens_of_equal_number_in_an_array() -> None:
    table = np.array([["the", "cat", "walked"], ["a", "dog", "barked"]] * 5)
    labels = np.array([["DET", "NOUN", "VERB"]] * 10)
    model = SequenceTagger(**WORDS).fit(table, labels)
    np.testing.assert_array_equal(model.predict(table), labels)
    assert [one.tolist() for one in model.predict(table.tolist())] == labels.tolist()


def test_spelling_tells_of_new_words() -> None:
    rng = np.random.default_rng(0)
    endings = {"s": "NOUN", "ed": "VERB", "ly": "ADV"}
    words, tags = [], []
    for ending, tag in list(endings.items()) * 60:
        words.append(["".join(rng.choice(list("abdeilmnorty"), 4)) + ending])
        tags.append([tag])
    score = {}
    for chars in (False, True):
        model = SequenceTagger(chars=chars, unknown_rate=2.0, **WORDS).fit(words[:120], tags[:120])
        assert words[0][0] in model.vocabulary_ and words[-1][0] not in model.vocabulary_
        score[chars] = model.score(words[120:], tags[120:])
    assert score[True] > 0.9
    assert score[False] < 0.5


def test_a_sequences_answer_does_not_depend_on_others(
    fitted: SequenceTagger, speller: SequenceTagger
) -> None:
    for model, all_of in ((fitted, X), (speller, SENTENCES)):
        whole = model.predict_proba(all_of)
        for i in (0, 3):
            alone = model.predict_proba([all_of[i]])
            np.testing.assert_allclose(alone[0], whole[i], atol=1e-5)


def test_directions_see_what_comes() -> None:
    """The label is of the next step, which one direction alone cannot tell."""
    later = [np.append(y[1:], "up") for y in Y]
    assert SequenceTagger(**SMALL).fit(X, later).score(X, later) > 0.9
    assert SequenceTagger(bidirectional=False, **SMALL).fit(X, later).score(X, later) < 0.9


# Weights


def test_weights_of_steps_and_sequences() -> None:
    each = [np.full(len(x), 2.0) for x in X]
    ragged = SequenceTagger(**SMALL).fit(X, Y, sample_weight=each)
    plain = SequenceTagger(**SMALL).fit(X, Y, sample_weight=np.full(40, 2.0))
    np.testing.assert_array_equal(ragged.predict_proba(X)[0], plain.predict_proba(X)[0])
    whole = SequenceTagger(**SMALL).fit(
        padded(X), padded(Y), lengths=LENGTHS, sample_weight=padded(each, 7.0)
    )
    np.testing.assert_allclose(whole.predict_proba(X)[0], plain.predict_proba(X)[0], atol=1e-9)


def test_steps_without_weight_say_nothing() -> None:
    """Neither in training nor in the score; labels that are wrong there change nothing."""
    wrong = [y.copy() for y in Y]
    weight = [np.ones(len(y)) for y in Y]
    for y, w in zip(wrong, weight, strict=True):
        y[::2] = "up"
        w[::2] = 0
    first = SequenceTagger(standardize=False, **SMALL).fit(X, Y, sample_weight=weight)
    second = SequenceTagger(standardize=False, **SMALL).fit(X, wrong, sample_weight=weight)
    np.testing.assert_array_equal(first.predict_proba(X)[0], second.predict_proba(X)[0])
    assert first.score(X, wrong, sample_weight=weight) == first.score(X, Y, sample_weight=weight)
    assert first.score(X, wrong) < first.score(X, wrong, sample_weight=weight)


def test_channels_are_scaled_with_the_weights_of_steps() -> None:
    weight = [np.arange(len(x), dtype=float) for x in X]
    model = SequenceTagger(**{**SMALL, "max_iter": 1}).fit(X, Y, sample_weight=weight)
    steps, w = np.concatenate(X), np.concatenate(weight)
    mean = np.average(steps, axis=0, weights=w)
    np.testing.assert_allclose(model.channels_.mean, mean, atol=1e-12)
    spread = np.sqrt(np.average((steps - mean) ** 2, axis=0, weights=w))
    np.testing.assert_allclose(model.channels_.scale, spread, atol=1e-12)


def test_class_weight() -> None:
    model = SequenceTagger(class_weight={"up": 0}, **SMALL).fit(X, Y)
    assert set(np.concatenate(model.predict(X))) == {"down"}
    rare = [np.where(np.arange(len(y)) == 2, "third", y) for y in Y]
    balanced = SequenceTagger(class_weight="balanced", **SMALL).fit(X, rare)
    assert balanced.score(X, rare) > 0.7


# Fitting


def test_partial_fit_fixes_classes_and_vocabulary() -> None:
    model = SequenceTagger(chars=True, **WORDS)
    model.partial_fit(SENTENCES[:3], TAGS[:3], classes=["ADV", "DET", "NOUN", "VERB"])
    tokens = model.vocabulary_.tokens
    for _ in range(40):
        model.partial_fit(SENTENCES, TAGS)
    assert model.vocabulary_.tokens == tokens and model.n_iter_ == 41
    assert model.score(SENTENCES, TAGS) > 0.9
    with pytest.raises(
        ValueError, match=r"y: expected the classes \['ADV', .*got also \['PUNCT'\]"
    ):
        model.partial_fit([["cat", "!"]], [["NOUN", "PUNCT"]])
    with pytest.raises(ValueError, match=r"classes: expected .*'ADV', 'DET', 'NOUN', 'VERB'"):
        model.partial_fit(SENTENCES, TAGS, classes=["ADV", "DET"])


def test_warm_start_goes_on() -> None:
    model = SequenceTagger(warm_start=True, **{**SMALL, "max_iter": 2}).fit(X, Y)
    layers = model.layers_
    assert model.fit(X, Y).layers_ is layers
    assert model.n_iter_ == 4


def test_early_stopping() -> None:
    model = SequenceTagger(early_stopping=True, **SMALL).fit(X, Y)
    assert len(model.history_["validation_loss"]) == model.n_iter_
    held = SequenceTagger(early_stopping=True, **WORDS)
    held.fit(SENTENCES, TAGS, eval_set=(SENTENCES[:4], TAGS[:4]))
    assert len(held.history_["validation_loss"]) == held.n_iter_
    with pytest.raises(ValueError, match=r"eval_set\[1\]: expected 3 labels, .*, got 4"):
        held.fit(SENTENCES, TAGS, eval_set=(SENTENCES[:4], [TAGS[0]] * 4))


def test_windows() -> None:
    model = SequenceTagger(bidirectional=False, tbptt_steps=2, **SMALL).fit(X, Y)
    assert model.score(X, Y) > 0.9


def test_same_seed_same_bits(speller: SequenceTagger) -> None:
    again = clone(speller).set_params(n_threads=2).fit(SENTENCES, TAGS)
    for one, other in zip(
        again.predict_proba(SENTENCES), speller.predict_proba(SENTENCES), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_float64() -> None:
    model = SequenceTagger(chars=True, dtype="float64", **WORDS).fit(SENTENCES, TAGS)
    assert model.predict_proba(SENTENCES)[0].dtype == np.float64
    single = SequenceTagger(**SMALL).fit([x.astype(np.float32) for x in X], Y)
    assert single.predict_proba(X)[0].dtype == np.float32


# scikit-learn


class EachStep(SequenceTagger):
    """Takes the targets of scikit-learn's checks for those of every step."""

    def _read_y(self, y: Any, samples: Any, name: str = "y") -> Any:
        each = [np.full(T, v) for v, T in zip(y, samples.lengths, strict=True)]
        return super()._read_y(each, samples, name)

    def score(self, X: Any, y: Any, sample_weight: Any = None, lengths: Any = None) -> float:
        return super().score(X, y, sample_weight, lengths)


@pytest.mark.parametrize("check", WITHOUT_DATA)
def test_checks_of_scikit_learn(check: str) -> None:
    run_check(check, SequenceTagger())


@pytest.mark.parametrize("check", WITH_DATA)
def test_checks_of_scikit_learn_that_fit(check: str) -> None:
    run_check(check, EachStep(**{**SMALL, "max_iter": 2}))


def test_it_is_no_classifier() -> None:
    assert not is_classifier(SequenceTagger())
    assert get_tags(SequenceTagger()).estimator_type is None
    assert not get_tags(SequenceTagger()).input_tags.allow_nan


def test_it_is_unfitted_before_fit() -> None:
    for method in ("predict", "predict_proba", "decision_function"):
        with pytest.raises(NotFittedError):
            getattr(SequenceTagger(), method)(X)
    with pytest.raises(NotFittedError):
        SequenceTagger().score(X, Y)


def test_pickles(speller: SequenceTagger) -> None:
    copy = pickle.loads(pickle.dumps(speller))
    np.testing.assert_array_equal(
        copy.predict_proba(SENTENCES)[1], speller.predict_proba(SENTENCES)[1]
    )
    streamed = SequenceTagger(chars=True, dropout=0.3, **WORDS).partial_fit(SENTENCES, TAGS)
    other = pickle.loads(pickle.dumps(streamed))
    for model in (streamed, other):
        model.partial_fit(SENTENCES, TAGS)
    np.testing.assert_array_equal(
        other.predict_proba(SENTENCES)[1], streamed.predict_proba(SENTENCES)[1]
    )


def test_searches_and_folds_of_lists() -> None:
    model = SequenceTagger(**WORDS)
    assert cross_val_score(model, SENTENCES, TAGS, cv=2).min() > 0.7
    search = GridSearchCV(model, {"chars": [False, True]}, cv=2).fit(SENTENCES, TAGS)
    assert search.score(SENTENCES, TAGS) > 0.9
    assert cross_val_score(SequenceTagger(**SMALL), X, Y, cv=2).min() > 0.7


def test_what_scikit_learn_cannot_do_with_lists_of_labels() -> None:
    """As the notes of the class say; arrays it can."""
    model = SequenceTagger(**SMALL)
    with pytest.raises(ValueError, match=r"inhomogeneous|dimension"):
        cross_val_predict(model, X, Y, cv=2)
    with pytest.raises(ValueError, match=r"Found unknown|not supported|inhomogeneous"):
        cross_val_score(model, X, Y, cv=2, scoring="accuracy", error_score="raise")
    table = np.random.default_rng(0).standard_normal((20, 5))
    labels = (table > 0).astype(int)
    assert cross_val_predict(model, table, labels, cv=2).shape == (20, 5)


def test_weights_of_steps_are_routed() -> None:
    import sklearn

    weight = [np.ones(len(y)) for y in Y]
    with sklearn.config_context(enable_metadata_routing=True):
        model = SequenceTagger(**SMALL).set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=True)
        scores = cross_val_score(model, X, Y, cv=2, params={"sample_weight": weight})
    np.testing.assert_array_equal(scores, cross_val_score(SequenceTagger(**SMALL), X, Y, cv=2))


# Wrong input, refused before anything is trained

BAD: list[tuple[Any, Any, type[Exception], str]] = [
    (X, Y[:3], ValueError, "y: expected labels for each of 40 sequences, got 3"),
    (
        X,
        [*Y[:39], Y[0]],
        ValueError,
        r"y\[39\]: expected 7 labels, one for each step of X\[39\], "
        "got 3",
    ),
    (X, None, ValueError, "requires y to be passed"),
    (X, np.zeros(40), ValueError, r"y: expected labels of every step, in 2 dim.*got shape \(40,\)"),
    (X, [0] * 40, TypeError, r"y\[0\]: expected a sequence of labels, got 0"),
    (X, ["up"] * 40, TypeError, r"y\[0\]: expected a sequence of labels, got 'up'"),
    (X, "labels", TypeError, "y: expected a list of sequences of labels, got 'labels'"),
    (X, [[y] for y in Y], ValueError, r"y\[0\]: expected labels in one dimension"),
    (
        X,
        [Y[0], *[np.zeros(len(y), int) for y in Y[1:]]],
        TypeError,
        r"y\[1\]: expected labels of one kind, as y\[0\] has with dtype <U4, got dtype int64",
    ),
    (X, [np.full(len(y), "up") for y in Y], ValueError, "y: expected at least two classes, got 1"),
    (X, [np.linspace(0, 0.9, len(y)) for y in Y], ValueError, "Unknown label type"),
    ([*X[:39], X[0][:0]], Y, ValueError, r"X\[39\]: expected at least one step, got an empty"),
    ([*X[:39], X[0][:, :1]], Y, ValueError, r"X\[39\]: expected 2 channels, as X\[0\] has, got 1"),
    (
        [*X[:39], np.full((7, 2), np.nan)],
        Y,
        ValueError,
        r"X\[39\]: expected finite numbers, got NaN",
    ),
    (
        ["a text", "b"],
        [["x"], ["y"]],
        TypeError,
        r"X\[0\]: expected a list of tokens or an array of "
        "numbers, got 'a text'",
    ),
    ([b"bytes"], [["x"]], TypeError, r"X\[0\]: expected a list of tokens or an array of numbers"),
    ([["a", b"b"]], [["x", "y"]], TypeError, r"X\[0\]\[1\]: expected a token \(str\), got b'b'"),
    ([["a"], []], [["x"], ["y"]], ValueError, r"X\[1\]: expected at least one token, got \[\]"),
    ([["a", "b"]], [["x"]], ValueError, r"y\[0\]: expected 2 labels, one for each step of X\[0\]"),
]


@pytest.mark.parametrize(("wrong", "y", "error", "message"), BAD, ids=range(len(BAD)))
def test_wrong_input_is_named(wrong: Any, y: Any, error: type[Exception], message: str) -> None:
    model = SequenceTagger(**SMALL)
    with pytest.raises(error, match=message):
        model.fit(wrong, y)
    assert not hasattr(model, "layers_") and not hasattr(model, "classes_")
    model.fit(X, Y)
    before = model.predict_proba(X)[0]
    with pytest.raises(error, match=message):
        model.fit(wrong, y)
    np.testing.assert_array_equal(model.predict_proba(X)[0], before)


BAD_WEIGHTS: list[tuple[Any, str]] = [
    (np.ones(3), r"sample_weight.shape == \(3,\), expected \(40,\)"),
    (
        [np.ones(2)] * 40,
        r"sample_weight\[0\]: expected 3 weights, one for each step of X\[0\], got 2",
    ),
    ([np.full(len(x), -1.0) for x in X], "sample_weight: expected finite numbers of at least 0"),
    ([np.zeros(len(x)) for x in X], "sample_weight: expected some weights above 0, got all 0"),
    (np.zeros(40), "ample.weight.*(non-zero|above 0)"),
]


@pytest.mark.parametrize(("weight", "message"), BAD_WEIGHTS, ids=range(len(BAD_WEIGHTS)))
def test_wrong_weights_are_named(weight: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceTagger(**SMALL).fit(X, Y, sample_weight=weight)


def test_other_input_than_fitted_is_named(fitted: SequenceTagger, speller: SequenceTagger) -> None:
    with pytest.raises(ValueError, match="X: expected sequences of 2 channels, as fit has seen"):
        fitted.predict([x[:, :1] for x in X])
    with pytest.raises(TypeError, match=r"X\[0\]: expected real numbers"):
        fitted.predict(SENTENCES)
    with pytest.raises(TypeError, match=r"X\[0\]: expected a list of tokens, as fit has seen"):
        speller.predict(X)
    with pytest.raises(TypeError, match="X: expected lists of tokens with chars=True"):
        SequenceTagger(chars=True, **WORDS).fit(X, Y)
    with pytest.raises(ValueError, match="lengths: expected none with tokens"):
        speller.predict(SENTENCES, lengths=[1] * 24)
    with pytest.raises(ValueError, match="lengths: expected none with a list"):
        fitted.predict(X, lengths=LENGTHS)


BAD_PARAMETERS: list[tuple[str, Any]] = [
    ("chars", 1), ("char_embedding_dim", 0), ("char_hidden_size", 1.5), ("embedding_dim", 0),
    ("unknown_rate", -0.1), ("standardize", "yes"), ("input_layout", "dnt"), ("tbptt_steps", 3),
]  # fmt: skip


@pytest.mark.parametrize(("parameter", "value"), BAD_PARAMETERS)
def test_wrong_parameters_are_named(parameter: str, value: Any) -> None:
    assert parameter in inspect.signature(SequenceTagger).parameters
    with pytest.raises((ValueError, TypeError), match=f"^{parameter}: expected"):
        SequenceTagger(**{parameter: value}).fit(X, Y)


# Real data


@pytest.mark.slow
@pytest.mark.long
def test_real_sentences(data_file: Callable[[str], Path]) -> None:
    """Parts of speech of UD-EWT, with one seed."""
    from bench.sets.texts import TAGGING
    from bench.targets import ACCURACIES

    data_file("tagging/ud-ewt-dev.tsv")
    (task,) = TAGGING
    score, _ = task.fitted(task.make(0), task.data(0))
    assert score >= ACCURACIES[task.name]
