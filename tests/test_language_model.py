"""The language model: what it computes, and how it takes part in scikit-learn's ways."""

from __future__ import annotations

import copy
import itertools
import math
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_models import SMALL_LANGUAGE as SMALL
from made_models import TEXT, bits, softmax

from fastrnn import LanguageModel
from fastrnn.parameterized import NotFittedError
from fastrnn.text.vocabulary import Vocabulary
from fastrnn.training.plan import TrainingState

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(**{**SMALL, "max_iter": 12}, learning_rate_init=0.02).fit(TEXT)


# Probabilities


def test_log_prob_is_the_softmax_step_by_step(model: LanguageModel) -> None:
    text = "the dog sat! "
    ids = [Vocabulary.BOUNDARY, *model.vocabulary_.encode(text)]
    state, expected = None, []
    for number, target in itertools.pairwise(ids):
        y, state = model.layers_["rnn"](
            model.layers_["embedding"](np.array([[number]])), state=state
        )
        expected.append(math.log(softmax(model.layers_["output"](y[0, 0]).astype(float))[target]))
    found = model.log_prob(text)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_all_probabilities_of_a_first_token_add_up_to_one(model: LanguageModel) -> None:
    tokens = [*model.vocabulary_.tokens, "\N{SNOWMAN}"]
    total = sum(math.exp(model.log_prob(token)[0]) for token in tokens)
    # What is missing is the boundary's: it cannot be written as text.
    assert 0.9 < total < 1.0


def test_perplexity_is_exp_of_minus_the_score(model: LanguageModel) -> None:
    assert model.perplexity(TEXT) == math.exp(-model.score(TEXT))
    assert model.score(TEXT) == np.mean(model.log_prob(TEXT))
    assert isinstance(model.score(TEXT), float)
    assert isinstance(model.perplexity(TEXT), float)


def test_perplexity_of_what_is_all_but_impossible_is_infinite(model: LanguageModel) -> None:
    certain = copy.deepcopy(model)
    certain.layers_["output"].params["bias"][Vocabulary.UNKNOWN] = 1e4
    assert certain.score("the cat") < -1000
    assert certain.perplexity("the cat") == math.inf
    assert certain.perplexity(["the cat", "a"]).tolist() == [math.inf, math.inf]


def test_a_list_of_sentences_gives_one_perplexity_each(model: LanguageModel) -> None:
    sentences = ["the cat", "a", "dog ate the mat, the dog", "the cat", "xyz"]
    found = model.perplexity(sentences)
    assert found.shape == (5,)
    np.testing.assert_allclose(found, [model.perplexity(s) for s in sentences], rtol=1e-5)
    assert found[0] == found[3]
    assert [len(part) for part in model.log_prob(sentences)] == list(map(len, sentences))
    tokens = np.concatenate(model.log_prob(sentences))
    assert model.score(sentences) == pytest.approx(np.mean(tokens))


def test_the_state_is_carried_over_the_whole_stream(model: LanguageModel) -> None:
    """A long text, taken in windows, has the log-probabilities of one call."""
    text = TEXT * 8
    assert len(text) > 2 * 1024
    ids = np.concatenate([[Vocabulary.BOUNDARY], model.vocabulary_.encode(text)])
    y, _ = model.layers_["rnn"](model.layers_["embedding"](ids[None, :-1]))
    p = softmax(model.layers_["output"](y[0]).astype(float))
    expected = np.log(p[np.arange(len(text)), ids[1:]])
    np.testing.assert_allclose(model.log_prob(text), expected, rtol=1e-4, atol=1e-5)


def test_unknown_tokens_are_read_and_scored_as_one(model: LanguageModel) -> None:
    assert np.array_equal(model.log_prob("a\N{SNOWMAN}b"), model.log_prob("aQb"))
    assert np.isfinite(model.perplexity("QQQ"))


def test_texts_without_tokens(model: LanguageModel) -> None:
    assert model.log_prob("").shape == (0,)
    assert model.log_prob([]) == []
    assert model.perplexity([]).shape == (0,)
    with pytest.raises(ValueError, match="text: expected at least one token, got none"):
        model.perplexity("")
    with pytest.raises(ValueError, match=r"text\[1\]: expected at least one token, got none"):
        model.perplexity(["a", ""])
    with pytest.raises(ValueError, match="text: expected at least one token, got none"):
        model.score([])
    with pytest.raises(TypeError, match=r"text\[1\]: expected str or an iterable of.*got 3"):
        model.perplexity(["a", 3])


# Training


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "lstm", "num_layers": 2, "dropout": 0.1, "recurrent_dropout": 0.1},
        {"cell": "gru"},
        {"cell": "gru", "reset_after": True},
        {"cell": "rnn", "nonlinearity": "relu", "max_grad_norm": 1.0},
        {"dtype": "float64", "solver": "rmsprop", "learning_rate": "cosine"},
        {"level": "word", "batch_size": 2},
    ],
    ids=str,
)
def test_every_kind_learns(options: dict[str, Any]) -> None:
    model = LanguageModel(**{**SMALL, "max_iter": 25, "learning_rate_init": 0.02, **options})
    model.fit(TEXT)
    n = len(model.vocabulary_)
    assert model.loss_curve_[0] > 0.75 * math.log(n), "it begins near the uniform distribution"
    assert model.perplexity(TEXT) < 0.4 * n
    assert model.n_iter_ == 25
    dtype = options.get("dtype", "float32")
    assert {p.dtype.name for x in model.layers_.values() for p in x.params.values()} == {dtype}


def test_the_loss_reported_is_that_of_the_text() -> None:
    """With a rate of almost zero the training loss is the mean over the streams."""
    model = LanguageModel(**{**SMALL, "max_iter": 1}, batch_size=1, learning_rate_init=1e-12)
    model.fit(TEXT, eval_text=TEXT)
    assert model.history_["loss"][0] == pytest.approx(-model.score(TEXT), rel=1e-5)
    assert model.history_["validation_loss"][0] == pytest.approx(-model.score(TEXT), rel=1e-5)


def test_gradients_of_a_window_are_those_of_finite_differences() -> None:
    model = LanguageModel(**SMALL, dtype="float64", cell="gru", batch_size=2).fit(TEXT)
    from fastrnn.language.network import Network
    from fastrnn.training.minibatches import Streams

    ids = model.vocabulary_.encode("the cat sat")
    batch = Streams(ids, 2, 5).batch(np.arange(1), 0)
    network = Network(model.layers_, 0.0, np.random.default_rng(0))
    for layer in network.layers:
        layer.zero_grad()
    network.learn(batch, None)
    rng = np.random.default_rng(1)
    for layer in network.layers:
        for name, param in layer.params.items():
            direction = rng.standard_normal(param.shape)
            slope = float(np.sum(direction * layer.grads[name]))
            kept, ends = param.copy(), []
            for side in (1e-5, -1e-5):
                param[...] = kept + side * direction
                ends.append(network.assess(batch, None)[0])
            param[...] = kept
            assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-9), name


def test_the_same_random_state_gives_the_same_bits() -> None:
    one, two = (LanguageModel(**SMALL, dropout=0.2).fit(TEXT) for _ in range(2))
    other = LanguageModel(**{**SMALL, "random_state": 1}, dropout=0.2).fit(TEXT)
    assert bits(one) == bits(two)
    assert bits(one) != bits(other)
    from_generator = LanguageModel(**{**SMALL, "random_state": np.random.default_rng(0)})
    assert bits(from_generator.fit(TEXT)) == bits(LanguageModel(**SMALL).fit(TEXT))


def test_early_stopping_keeps_the_best_epoch() -> None:
    held_out = "zebra quartz jinx vow " * 3  # nothing to be learned for it: it gets worse soon
    model = LanguageModel(
        **{**SMALL, "max_iter": 40, "learning_rate_init": 0.03},
        early_stopping=True,
        n_iter_no_change=3,
    ).fit(TEXT, eval_text=held_out)
    losses = model.history_["validation_loss"]
    assert len(losses) < 40
    assert model.best_loss_ == min(losses)
    assert np.argmin(losses) == len(losses) - 4
    again = LanguageModel(**{**SMALL, "learning_rate_init": 0.03, "max_iter": len(losses) - 3})
    assert bits(again.fit(TEXT)) == bits(model)


def test_early_stopping_holds_out_the_end_of_the_text() -> None:
    model = LanguageModel(**SMALL, early_stopping=True, validation_fraction=0.25)
    model.fit("ab" * 60 + "cd" * 20)
    assert set(model.vocabulary_.tokens) == {"a", "b"}
    assert len(model.history_["validation_loss"]) == 2
    model.fit(["ab" * 20, "ba" * 20, "cc"])
    assert set(model.vocabulary_.tokens) == {"a", "b"}


def test_warm_start_goes_on() -> None:
    model = LanguageModel(**SMALL, warm_start=True).fit(TEXT)
    layers, before = model.layers_, bits(model)
    model.fit("the zebra " * 20)
    assert model.layers_ is layers
    assert bits(model) != before
    assert "z" not in model.vocabulary_
    assert model.n_iter_ == 4
    assert len(model.history_["grad_norm"]) == 4
    model.set_params(warm_start=False).fit(TEXT)
    assert model.layers_ is not layers
    assert model.n_iter_ == 2


def test_a_list_of_texts_teaches_where_texts_end() -> None:
    model = LanguageModel(**{**SMALL, "max_iter": 60, "learning_rate_init": 0.03})
    model.fit(["abcd"] * 60)
    assert model.generate(50, seed=0, temperature=0) == "abcd"
    one = LanguageModel(**{**SMALL, "max_iter": 20, "learning_rate_init": 0.03}).fit("abcd" * 60)
    assert one.generate(50, seed=0, temperature=0) == ("abcd" * 13)[:50]


def test_batch_size_auto_is_twenty_streams_where_the_text_has_them() -> None:
    sizes = []

    class Look:
        def after_step(self, state: TrainingState) -> bool:
            sizes.append(state.steps)
            return True

    for text in ("ab" * 1000, "ab" * 20, "ab"):
        LanguageModel(**SMALL, callbacks=Look()).fit(text)
    assert sizes == [15, 1, 1]  # predictions: 20 streams of 99, 5 of 7, 1 of 2; windows of 7


def test_callbacks_see_a_model_that_works() -> None:
    written = []

    def callback(state: TrainingState) -> None:
        written.append(state.model.generate(5, seed=0))

    model = LanguageModel(**SMALL, callbacks=callback).fit(TEXT)
    assert [len(text) for text in written] == [5, 5]
    assert written[-1] == model.generate(5, seed=0)


def test_ctrl_c_leaves_a_model_that_works() -> None:
    timer = threading.Timer(0.05, signal.raise_signal, [signal.SIGINT])

    class Start:
        started = False

        def after_step(self, state: TrainingState) -> None:
            if not self.started:
                self.started = True
                timer.start()

    model = LanguageModel(**{**SMALL, "max_iter": 10**6}, tol=-math.inf, callbacks=Start())
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(TEXT)
    timer.join()
    assert model.interrupted_
    assert np.isfinite(model.perplexity(TEXT))
    assert model.n_iter_ == len(model.history_["loss"])


@pytest.mark.parametrize("seed", [0, None])
def test_resumed_in_mid_epoch_gives_the_same_bits(tmp_path: Path, seed: int | None) -> None:
    path = tmp_path / "run"

    class Stop:
        left = 11

        def after_step(self, state: TrainingState) -> None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    options = {**SMALL, "max_iter": 4, "dropout": 0.3, "recurrent_dropout": 0.3, "num_layers": 2}
    options["random_state"] = seed
    cut = LanguageModel(**options, checkpoint=path, callbacks=Stop())
    with pytest.warns(UserWarning, match="interrupted"):
        cut.fit(TEXT, eval_text="the cat")
    copy = path.read_bytes()
    resumed = LanguageModel(**options, checkpoint=path).fit(TEXT, "the cat", resume=True)
    assert resumed.n_iter_ == 4
    if seed is not None:
        assert bits(resumed) == bits(LanguageModel(**options).fit(TEXT, eval_text="the cat"))
    path.write_bytes(copy)
    again = LanguageModel(**options, checkpoint=path).fit(TEXT, "the cat", resume=True)
    assert bits(again) == bits(resumed)


def test_a_checkpoint_of_another_text_or_configuration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    LanguageModel(**SMALL, checkpoint=path).fit(TEXT)
    model = LanguageModel(**SMALL, checkpoint=path)
    with pytest.raises(ValueError, match="expected one of text="):
        model.fit(TEXT[::-1], resume=True)
    assert not hasattr(model, "layers_")
    with pytest.raises(ValueError, match="expected one of hidden_size='13', got '12'"):
        model.set_params(hidden_size=13).fit(TEXT, resume=True)
    with pytest.raises(ValueError, match="resume: expected a checkpoint to resume from"):
        LanguageModel(**SMALL).fit(TEXT, resume=True)


def test_an_error_of_a_callback_leaves_what_was_learned() -> None:
    def fail(state: TrainingState) -> None:
        raise ValueError("mine")

    model = LanguageModel(**SMALL, callbacks=fail)
    with pytest.raises(ValueError, match="mine"):
        model.fit(TEXT)
    assert np.isfinite(model.perplexity(TEXT))
    assert model.n_iter_ == 0


def test_training_that_diverges_at_once_leaves_no_model() -> None:
    model = LanguageModel(**SMALL, solver="sgd", learning_rate_init=3e38, max_grad_norm=None)
    with pytest.raises(FloatingPointError, match="in epoch 1"), np.errstate(all="ignore"):
        model.fit(TEXT)
    with pytest.raises(NotFittedError):
        model.perplexity("a")


# Bad parameters


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"level": "byte"}, ValueError, "level: expected one of 'char', 'word', 'token', got 'byte'"),
    ({"cell": "transformer"}, ValueError, "cell: expected one of 'lstm', 'gru', 'rnn'"),
    ({"hidden_size": 0}, ValueError, "hidden_size: expected an integer of at least 1"),
    ({"num_layers": 1.5}, TypeError, "num_layers: expected an integer"),
    ({"embedding_dim": None}, TypeError, "embedding_dim: expected an integer"),
    ({"dropout": 1.0}, ValueError, "dropout: expected a number at least 0 and below 1"),
    ({"recurrent_dropout": -1}, ValueError, "recurrent_dropout: expected a number"),
    ({"reset_after": "no"}, TypeError, "reset_after: expected True or False"),
    ({"nonlinearity": "gelu"}, ValueError, "nonlinearity: expected one of 'tanh'"),
    ({"solver": "lbfgs"}, ValueError, "solver: expected one of"),
    ({"batch_size": 0}, ValueError, "batch_size: expected an integer of at least 1"),
    ({"batch_size": "all"}, ValueError, "batch_size: expected an integer or 'auto', got 'all'"),
    (
        {"batch_size": 181},
        ValueError,
        "text: expected at least 362 tokens and boundaries, 2 for each of 181 streams, got 361",
    ),
    ({"tbptt_steps": 0}, ValueError, "tbptt_steps: expected an integer of at least 1"),
    ({"validation_fraction": 0}, ValueError, "validation_fraction: expected a number above 0"),
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
    model = LanguageModel(**options)  # as in scikit-learn, the constructor stores and says nothing
    before = dict(model.__dict__)
    with pytest.raises(error, match=message):
        model.fit(TEXT)
    assert model.__dict__ == before


@pytest.mark.parametrize(
    ("text", "eval_text", "error", "message"),
    [
        ("", None, ValueError, "text: expected at least one token, got none"),
        ([], None, ValueError, "text: expected at least one token, got none"),
        (["", ""], None, ValueError, "text: expected at least one token, got none"),
        (3, None, TypeError, "text: expected a str or a list of str or"),
        (b"abc", None, TypeError, "text: expected a str or a list of str"),
        (["a", None], None, TypeError, r"text\[1\]: expected str or an iter.*None"),
        ("abc", "", ValueError, "eval_text: expected at least one token, got none"),
        ("abc", 3, TypeError, "eval_text: expected a str or a list of str"),
    ],
)
def test_bad_texts_are_named(
    text: Any, eval_text: Any, error: type[Exception], message: str
) -> None:
    model = LanguageModel(**SMALL)
    with pytest.raises(error, match=message):
        model.fit(text, eval_text)
    assert not hasattr(model, "layers_")


# scikit-learn's ways


def test_parameters_are_stored_as_given_and_come_back() -> None:
    callback = print
    model = LanguageModel("word", hidden_size=7, callbacks=callback)
    params = model.get_params()
    assert params["level"] == "word"
    assert params["callbacks"] is callback
    assert model.set_params(hidden_size=9) is model
    assert model.hidden_size == 9
    with pytest.raises(ValueError, match="units: expected one of the parameters"):
        model.set_params(hidden_size=3, units=4)
    assert model.hidden_size == 9
    assert repr(LanguageModel()) == "LanguageModel()"
    assert repr(LanguageModel("word", dropout=0.5)) == "LanguageModel(level='word', dropout=0.5)"


def test_scikit_learn_clones_and_searches() -> None:
    base = pytest.importorskip("sklearn.base")
    model_selection = pytest.importorskip("sklearn.model_selection")
    model = LanguageModel(**SMALL)
    copy = base.clone(model)
    assert copy is not model
    assert copy.get_params() == model.get_params()
    search = model_selection.GridSearchCV(model, {"hidden_size": [4, 8]}, cv=2)
    search.fit(["the cat", "the dog", "a cat", "a dog"] * 3)
    assert search.best_params_["hidden_size"] in (4, 8)
    assert search.best_score_ < 0


@pytest.mark.parametrize("call", ["perplexity", "score", "log_prob"])
def test_what_is_not_fitted_says_so(call: str, tmp_path: Path) -> None:
    with pytest.raises(NotFittedError, match="this LanguageModel is not fitted yet"):
        getattr(LanguageModel(), call)("a")
    with pytest.raises(NotFittedError):
        LanguageModel().generate(3)
    with pytest.raises(NotFittedError):
        LanguageModel().save(tmp_path / "x")
