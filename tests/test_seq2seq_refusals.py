"""What Seq2Seq refuses, by name and before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_models import SMALL_PAIRS as SMALL
from made_models import WORDS, reverse

from fastrnn import Seq2Seq
from fastrnn.parameterized import NotFittedError

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@pytest.fixture(scope="module")
def model() -> Seq2Seq:
    return Seq2Seq(**SMALL).fit(WORDS, reverse(WORDS))


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"level": "byte"}, ValueError, "level: expected one of 'char', 'word', got 'byte'"),
    ({"attention": "self"}, ValueError, "attention: expected one of 'additive', 'dot', None"),
    ({"cell": "transformer"}, ValueError, "cell: expected one of 'lstm', 'gru', 'rnn'"),
    ({"hidden_size": 0}, ValueError, "hidden_size: expected an integer of at least 1"),
    ({"num_layers": 1.5}, TypeError, "num_layers: expected an integer"),
    ({"bidirectional": 2}, TypeError, "bidirectional: expected True or False"),
    ({"input_feeding": "no"}, TypeError, "input_feeding: expected True or False"),
    ({"bridge": "rope"}, ValueError, "bridge: expected one of 'auto', 'copy'"),
    ({"bridge": "copy"}, ValueError, "bridge: expected 'linear' or 'zeros' with two directions"),
    (
        {"bridge": "zeros", "attention": None},
        ValueError,
        "bridge: expected 'copy' or 'linear' without attention",
    ),
    ({"teacher_forcing": 1.1}, ValueError, "teacher_forcing: expected a number"),
    ({"teacher_forcing": "often"}, TypeError, "teacher_forcing: expected a number at least 0"),
    ({"label_smoothing": 1}, ValueError, "label_smoothing: expected a number at least 0 and below"),
    ({"dropout": 1.0}, ValueError, "dropout: expected a number at least 0 and below 1"),
    ({"recurrent_dropout": -1}, ValueError, "recurrent_dropout: expected a number"),
    ({"reset_after": "no"}, TypeError, "reset_after: expected True or False"),
    ({"nonlinearity": "gelu"}, ValueError, "nonlinearity: expected one of 'tanh'"),
    ({"solver": "lbfgs"}, ValueError, "solver: expected one of"),
    ({"batch_size": 0}, ValueError, "batch_size: expected an integer of at least 1"),
    ({"batch_size": "all"}, ValueError, "batch_size: expected an integer or 'auto', got 'all'"),
    ({"validation_fraction": 1}, ValueError, "validation_fraction: expected a number above 0"),
    ({"min_count": 0}, ValueError, "min_count: expected an integer of at least 1"),
    ({"max_vocabulary": 0}, ValueError, "max_vocabulary: expected an integer of at least 1"),
    ({"warm_start": 1}, TypeError, "warm_start: expected True or False"),
    ({"random_state": "x"}, TypeError, "random_state: expected an int"),
    ({"dtype": "int8"}, ValueError, "dtype: expected 'float32' or 'float64'"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD, ids=range(len(BAD)))
def test_bad_parameters_are_named_by_fit_before_any_work(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = Seq2Seq(**options)
    before = dict(model.__dict__)
    with pytest.raises(error, match=message):
        model.fit(WORDS, WORDS)
    assert model.__dict__ == before


@pytest.mark.parametrize(
    ("sources", "targets", "eval_set", "error", "message"),
    [
        ([], [], None, ValueError, "sources: expected at least one text, got none"),
        (["a", "b"], ["a"], None, ValueError, "targets: expected 2 texts, one for each of sources"),
        (["a"], [], None, ValueError, "targets: expected 1 texts, one for each of sources, got 0"),
        ("abc", ["a"], None, TypeError, "sources: expected a list of texts"),
        (["a"], "abc", None, TypeError, "targets: expected a list of texts"),
        ([3], ["a"], None, TypeError, r"sources\[0\]: expected str or an iterable of tokens"),
        (["a", 3], ["a", "b"], None, TypeError, r"sources\[1\]: expected str, as those before"),
        ([["a"], "b"], ["a", "b"], None, TypeError, r"sources\[1\]: expected an iterable of tok"),
        (["a"], [["b", 3]], None, TypeError, r"targets\[0\]\[1\]: expected a token"),
        (None, ["a"], None, TypeError, "sources: expected a list of texts"),
        (["a"], ["b"], ["c"], TypeError, r"eval_set: expected \(sources, targets\)"),
        (["a"], ["b"], ([], []), ValueError, r"eval_set\[0\]: expected at least one text"),
        (["a"], ["b"], (["c"], ["d", "e"]), ValueError, r"eval_set\[1\]: expected 1 texts"),
        (["a"], [["b"]], (["c"], ["d"]), TypeError, r"eval_set\[1\]\[0\]: expected an iterable"),
    ],
)
def test_bad_pairs_are_named(
    sources: Any, targets: Any, eval_set: Any, error: type[Exception], message: str
) -> None:
    model = Seq2Seq(**SMALL)
    with pytest.raises(error, match=message):
        model.fit(sources, targets, eval_set)
    assert not hasattr(model, "layers_")


def test_a_shared_vocabulary_needs_texts_alike() -> None:
    shared = Seq2Seq(**SMALL, share_vocabulary=True)
    with pytest.raises(TypeError, match="targets: expected texts like the sources"):
        shared.fit(["a"], [["b"]])
    shared.fit(["ab"] * 3, ["xy"] * 3)
    assert shared.source_vocabulary_.tokens == shared.target_vocabulary_.tokens
    assert set(shared.source_vocabulary_.tokens) == set("abxy")


PREDICT: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"sources": "abc"}, TypeError, "sources: expected a list of texts"),
    ({"sources": [3]}, TypeError, r"sources\[0\]: expected str or an iterable of tokens"),
    ({"beam_size": 0}, ValueError, "beam_size: expected an integer of at least 1, got 0"),
    ({"beam_size": 2.5}, TypeError, "beam_size: expected an integer"),
    ({"max_length": -1}, ValueError, "max_length: expected an integer of at least 0"),
    ({"length_penalty": -1}, ValueError, "length_penalty: expected a number at least 0"),
    ({"n_best": 0}, ValueError, "n_best: expected an integer of at least 1"),
    ({"n_best": 4, "beam_size": 3}, ValueError, "n_best: expected at most beam_size, which is 3"),
    ({"return_scores": "yes"}, TypeError, "return_scores: expected True or False"),
]


@pytest.mark.parametrize(("options", "error", "message"), PREDICT, ids=range(len(PREDICT)))
def test_bad_arguments_of_predict_are_named(
    model: Seq2Seq, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        model.predict(**{"sources": ["a"], **options})


def test_bad_arguments_of_the_rest_are_named(model: Seq2Seq) -> None:
    with pytest.raises(ValueError, match="targets: expected 2 texts, one for each of sources"):
        model.log_prob(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="targets: expected 1 texts"):
        model.score(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="sources: expected at least one text"):
        model.score([], [])
    with pytest.raises(ValueError, match=r"targets\[0\]: expected at least one text"):
        model.score(["a"], [[]])


@pytest.mark.parametrize("call", ["predict", "score", "log_prob", "attention_weights", "save"])
def test_what_is_not_fitted_says_so(call: str, tmp_path: Path) -> None:
    arguments: Any = {"predict": [["a"]], "save": [tmp_path / "x"]}.get(call, [["a"], ["a"]])
    with pytest.raises(NotFittedError, match="this Seq2Seq is not fitted yet"):
        getattr(Seq2Seq(), call)(*arguments)
