"""What a language model can be told of its text, its start and its loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import LanguageModel, losses
from fastrnn.text.vocabulary import Vocabulary
from fastrnn.training.plan import TrainingState

TEXT = "the cat sat on the mat\nthe dog ate <unk> cat\n" * 8
SMALL: dict[str, Any] = {
    "hidden_size": 8,
    "embedding_dim": 8,
    "tbptt_steps": 7,
    "max_iter": 2,
    "random_state": 0,
}


def still(**options: Any) -> LanguageModel:
    """A model that keeps the weights it begins with."""
    rate = {"solver": "sgd", "learning_rate": lambda epoch, history: 0.0, "max_iter": 1}
    return LanguageModel(**{**SMALL, **options, **rate})


# One step of training, by hand


def loss_by_hand(params: dict[str, Any], ids: np.ndarray, weight: str) -> float:
    """Sum over steps of the mean over streams, of an RNN of one layer; ids (N, T + 1)."""
    h, total = np.zeros((len(ids), 3)), 0.0
    for now, then in itertools.pairwise(ids.T):
        x = params["embedding.weight"][now]
        h = np.tanh(
            x @ params["rnn.weight_ih_l0"].T + params["rnn.bias_ih_l0"]
            + h @ params["rnn.weight_hh_l0"].T + params["rnn.bias_hh_l0"]
        )  # fmt: skip
        z = h @ params[weight].T + params["output.bias"]
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        total -= float(np.mean(log_p[np.arange(len(ids)), then]))
    return total


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("limit", [0.05, 100.0])
def test_a_step_is_the_one_computed_by_hand(tie: bool, reduction: str, limit: float) -> None:
    """Loss, its gradient, the norm over all parameters, each once, clipping and SGD."""
    text = list("abcaddcb")
    options: dict[str, Any] = {
        "level": "token", "cell": "rnn", "hidden_size": 3, "embedding_dim": 3, "batch_size": 2,
        "tbptt_steps": 3, "unknown": None, "boundary": False, "dtype": "float64",
        "tie_weights": tie, "init": "uniform", "init_scale": 0.5,
    }  # fmt: skip
    start = still(**options).fit(text)
    params = {
        f"{key}.{name}": param.copy()
        for key, layer in start.layers_.items()
        for name, param in layer.params.items()
    }
    ids = start.vocabulary_.encode(text).reshape(2, 4)
    weight = "embedding.weight" if tie else "output.weight"
    scale = 1.0 if reduction == "sum" else 1 / 3
    grads = {}
    for name, param in params.items():
        grads[name] = np.zeros_like(param)
        for i in np.ndindex(param.shape):
            ends = []
            for side in (1e-5, -2e-5):
                param[i] += side
                ends.append(scale * loss_by_hand(params, ids, weight))
            param[i] += 1e-5
            grads[name][i] = (ends[0] - ends[1]) / 2e-5
    norm = math.sqrt(sum(float((g**2).sum()) for g in grads.values()))
    assert 0.05 < norm < 100.0
    factor = min(1.0, limit / norm)
    model = LanguageModel(**{**SMALL, **options}, loss_reduction=reduction, max_grad_norm=limit)
    model.set_params(max_iter=1, solver="sgd", momentum=0.0, learning_rate_init=0.7).fit(text)
    for key, layer in model.layers_.items():
        for name, param in layer.params.items():
            full = f"{key}.{name}"
            expected = params[full] - 0.7 * factor * grads[full]
            np.testing.assert_allclose(param, expected, rtol=1e-8, atol=1e-9, err_msg=full)
    assert model.history_["loss"][0] == pytest.approx(loss_by_hand(params, ids, weight) / 3)
    assert model.history_["grad_norm"][0] == pytest.approx(norm)


def test_a_short_window_is_summed_over_its_own_steps() -> None:
    """Ten steps of a window of 64 are ten, not 64."""
    text = "abcabcabca"
    norms = {}
    for reduction in ("mean", "sum"):
        model = still(loss_reduction=reduction, tbptt_steps=64, batch_size=1, dtype="float64")
        norms[reduction] = model.fit(text).history_["grad_norm"][0]
    assert norms["sum"] == pytest.approx(10 * norms["mean"])


# How it begins


def arrays(model: LanguageModel) -> dict[str, np.ndarray]:
    return {
        f"{key}.{name}": param
        for key, layer in model.layers_.items()
        for name, param in layer.params.items()
    }


@pytest.mark.parametrize("tie", [False, True])
def test_all_may_be_uniform_in_one_bound(tie: bool) -> None:
    """The start of Zaremba et al.: biases too, and none is added to forget gates."""
    start = still(
        init="uniform", init_scale=0.1, forget_bias=0.0, tie_weights=tie, hidden_size=40,
        embedding_dim=40, num_layers=2,
    ).fit(TEXT)  # fmt: skip
    for name, param in arrays(start).items():
        assert np.abs(param).max() <= 0.1, name
        assert param.std() > 0.04, name
    assert len(arrays(start)) == 10 + (not tie)
    together = np.concatenate([param.ravel() for param in arrays(start).values()])
    assert together.std() == pytest.approx(0.1 / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize("tie", [False, True])
def test_the_ends_may_be_uniform_beside_other_layers(tie: bool) -> None:
    """The start of PyTorch's example."""
    start = still(
        init_scale=0.1, forget_bias=0.0, tie_weights=tie, hidden_size=16, embedding_dim=16
    ).fit(TEXT)
    found = arrays(start)
    assert not found.pop("output.bias").any()
    for name in {"embedding.weight", "output.weight"} & set(found):
        weight = found.pop(name)
        assert 0.09 < np.abs(weight).max() <= 0.1
    for name, param in found.items():
        assert 0.2 < np.abs(param).max() <= 0.25, name  # 1 / sqrt(16)


def test_the_recurrent_layers_may_begin_orthogonal() -> None:
    weight = still(init="orthogonal").fit(TEXT).layers_["rnn"].params["weight_hh_l0"]
    np.testing.assert_allclose(weight[:8] @ weight[:8].T, np.eye(8), atol=1e-5)


def test_a_start_without_a_scale_is_that_of_the_layers() -> None:
    start = still(hidden_size=100, embedding_dim=100).fit(TEXT)
    found = arrays(start)
    assert found["embedding.weight"].std() == pytest.approx(1.0, rel=0.1)
    assert found["output.bias"].any()
    assert np.abs(found["output.weight"]).max() <= 0.1
    tied = arrays(still(hidden_size=100, embedding_dim=100, tie_weights=True).fit(TEXT))
    assert 0.09 < np.abs(tied["embedding.weight"]).max() <= 0.1
    forget = found["rnn.bias_ih_l0"][100:200]
    assert 0.85 < forget.min() < forget.max() < 1.15
    other = arrays(still(hidden_size=100, embedding_dim=100, forget_bias=-2.0).fit(TEXT))
    np.testing.assert_allclose(other["rnn.bias_ih_l0"][100:200], forget - 3, atol=1e-6)


# Symbols


def test_a_bare_stream_is_the_text_alone() -> None:
    """As in the published recipes: the softmax is over the text's own tokens."""
    model = still(level="word", boundary=False, line_end="<eos>").fit(TEXT)
    tokens = TEXT.replace("\n", " <eos> ").split()
    assert len(model.vocabulary_) == len(set(tokens))
    assert model.vocabulary_.decode(model.vocabulary_.encode(TEXT)) == " ".join(tokens)
    assert len(model.log_prob("the cat\n")) == 2, "the first token is only read"
    whole = model.log_prob("the cat\nthe dog")
    np.testing.assert_allclose(whole[:2], model.log_prob("the cat\n"), rtol=1e-6)
    assert model.log_prob("").shape == model.log_prob("cat").shape == (0,)
    with pytest.raises(ValueError, match="text: expected at least one token after another, got"):
        model.perplexity("cat")
    with pytest.raises(ValueError, match=r"text\[1\]: expected at least one token after another"):
        model.perplexity(["the cat", "cat"])
    with pytest.raises(ValueError, match=r"prompt: expected at least one token .boundary=False"):
        model.generate(3)
    with pytest.raises(ValueError, match=r"prompt\[1\]: expected at least one token"):
        model.generate(3, ["the", ""])


def test_texts_of_a_bare_stream_stand_one_after_the_other() -> None:
    one = LanguageModel(**SMALL, level="word", boundary=False).fit(TEXT)
    several = LanguageModel(**SMALL, level="word", boundary=False).fit([TEXT[:90], TEXT[90:]])
    assert np.array_equal(one.log_prob(TEXT), several.log_prob(TEXT))


def test_the_unknown_symbol_is_written_where_it_is_wanted() -> None:
    options = {**SMALL, "max_iter": 60, "learning_rate_init": 0.03, "level": "word"}
    model = LanguageModel(**options, line_end="<eos>").fit("the <unk> sat\n" * 40)
    prompt = "the <unk> sat\nthe"
    assert model.generate(3, prompt, temperature=0, allow_unknown=True) == "<unk> sat <eos>"
    assert "<unk>" not in model.generate(30, prompt, seed=0)
    shown = LanguageModel(**options, unknown="???").fit("the ??? sat\n" * 40)
    assert shown.generate(2, "the", temperature=0, allow_unknown=True) == "??? sat"
    assert math.exp(shown.log_prob("the xyz")[1]) > 0.9


def test_without_an_unknown_symbol_unknown_tokens_are_errors() -> None:
    model = LanguageModel(**SMALL, unknown=None).fit("abcabc" * 9)
    assert len(model.vocabulary_) == 4
    assert model.generate(20, seed=0).strip("abc") == ""
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: model.log_prob("abx"), r"text: expected tokens .* got 'x', token 2"),
        (lambda: model.perplexity(["ab", "ay"]), r"text\[1\]: expected tokens .* got 'y', token 1"),
        (lambda: model.generate(2, "z"), r"prompt: expected tokens .* got 'z', token 0"),
        (lambda: model.fit("abc", eval_text="abd"), "eval_text: expected tokens .* got 'd'"),
        (lambda: LanguageModel(min_count=2, unknown=None).fit("aab"), "text: .* got 'b', token 2"),
        (lambda: model.set_params(warm_start=True).fit("abcd"), "text: .* got 'd', token 3"),
    ]
    for call, message in calls:
        with pytest.raises(ValueError, match=message):
            call()
    assert model.n_iter_ == 2


def test_unseen_words_of_a_prompt_are_read_as_the_unknown_symbol() -> None:
    model = LanguageModel(**SMALL, level="word").fit(TEXT)
    prompts = ["the zebra", "the <unk>", "the quagga"]
    assert len({model.generate(9, prompt, seed=0) for prompt in prompts}) == 1


def test_nothing_can_be_written_where_nothing_is_known() -> None:
    model = LanguageModel(**SMALL, min_count=99).fit("abc")
    with pytest.raises(ValueError, match="allow_unknown: expected True, for no other token"):
        model.generate(3)
    assert model.generate(2, allow_unknown=True) == "<unk><unk>"


# Tokens


def test_tokens_may_come_one_by_one() -> None:
    tokens = ["New York", "is", "big", "."] * 20
    model = LanguageModel("token", **{**SMALL, "max_iter": 30}, learning_rate_init=0.03)
    model.fit(iter(tokens), eval_text=tuple(tokens[:9]))
    assert set(model.vocabulary_.tokens) == set(tokens)
    assert model.perplexity(tokens) < 1.5
    assert model.log_prob(tokens).shape == (80,)
    assert [len(part) for part in model.log_prob([tokens, ["is"], []])] == [80, 1, 0]
    written = model.generate(3, ["New York"], temperature=0)
    assert written == ["is", "big", "."]
    assert list(model.generate(3, ["New York"], temperature=0, stream=True)) == written
    assert model.generate(9, ["New York"], temperature=0, stop="big") == ["is", "big"]
    assert model.generate(9, ["is"], temperature=0, stop=["New York", "."]) == ["big", "."]
    assert model.generate(2, temperature=0) == ["New York", "is"]
    for call in (model.fit, model.log_prob, lambda text: model.generate(1, text)):
        with pytest.raises(TypeError, match=r"(text|prompt): expected tokens \(str\) or a list of"):
            call("New York")


def test_split_texts_are_texts_at_any_level(tmp_path: Any) -> None:
    words = ["the cat sat", "the dog"] * 9
    given: list[tuple[str, Any, Any]] = [
        ("word", words, [text.split() for text in words]),
        ("char", words, [list(text) for text in words]),
    ]
    for level, whole, split in given:
        one = LanguageModel(level, **SMALL).fit(whole)
        two = LanguageModel(level, **SMALL).fit(split, eval_text=split[:2])
        assert np.array_equal(one.log_prob(whole[0]), two.log_prob(split[:1])[0])
        assert one.generate(9, [whole[0]], seed=1) == two.generate(9, [split[0]], seed=1)
    documents = LanguageModel("token", **{**SMALL, "max_iter": 80}, learning_rate_init=0.03)
    documents.fit([["a b", "c"]] * 40)
    assert documents.generate(9, temperature=0) == ["a b", "c"], "it learns where texts end"
    documents.save(tmp_path / "m")
    again = fastrnn.load(tmp_path / "m")
    assert again.generate(9, temperature=0) == ["a b", "c"]
    with pytest.raises(ValueError, match="tokens: expected single words, got 'a b'"):
        LanguageModel("word", **SMALL).fit([["a b"]])


def test_a_saved_model_keeps_its_symbols(tmp_path: Any) -> None:
    options = {"unknown": "???", "boundary": False, "line_end": "<eos>", "level": "word"}
    model = LanguageModel(**SMALL, **options).fit(TEXT)
    model.save(tmp_path / "m")
    again = fastrnn.load(tmp_path / "m")
    assert {name: again.get_params()[name] for name in options} == options
    assert again.vocabulary_.config() == model.vocabulary_.config()
    assert np.array_equal(again.log_prob(TEXT), model.log_prob(TEXT))
    other = LanguageModel(**SMALL, level="word").fit(TEXT).set_params(boundary=False, unknown=None)
    assert len(other.log_prob("the xyz")) == 2, "what was fitted counts"


# Several prompts


def test_prompts_are_gone_on_with_side_by_side() -> None:
    model = LanguageModel("word", **{**SMALL, "max_iter": 30}, learning_rate_init=0.03).fit(TEXT)
    prompts = ["the", "the cat sat on", "", "dog\nthe"]
    found = model.generate(12, prompts, seed=3)
    assert found == [model.generate(12, prompt, seed=3) for prompt in prompts]
    stopped = model.generate(12, prompts, seed=3, stop=["cat", "sat"])
    assert stopped == [
        model.generate(12, prompt, seed=3, stop=["cat", "sat"]) for prompt in prompts
    ]
    assert len(set(map(len, stopped))) > 1
    rng = np.random.default_rng(3)
    assert len(set(model.generate(12, ["the"] * 4, seed=rng))) > 1, "each draws for itself"
    assert model.generate(5, []) == []
    assert model.generate(5, ["the"], seed=1) == [model.generate(5, "the", seed=1)]
    with pytest.raises(ValueError, match="stream: expected one prompt with it, got a list of 2"):
        model.generate(5, ["the", "cat"], stream=True)


# Training


class Steps:
    """How many steps an epoch has."""

    count = 0

    def __call__(self, state: TrainingState) -> None:
        self.count = state.steps


@pytest.mark.parametrize(("drop_last", "steps"), [(False, 3), (True, 2)])
def test_a_shorter_last_window_is_kept_or_dropped(drop_last: bool, steps: int) -> None:
    seen = Steps()
    model = LanguageModel(
        **SMALL, batch_size=2, drop_last=drop_last, boundary=False, callbacks=seen
    )
    model.fit("ab" * 18, eval_text="ab" * 10)  # two streams of 18, 17 predictions each
    assert seen.count == steps
    with pytest.raises(ValueError, match="text: expected at least 16 tokens, 8 for each of 2 str"):
        model.set_params(drop_last=True).fit("ab" * 7)


def test_a_text_shorter_than_a_window_is_one_window() -> None:
    seen = Steps()
    model = LanguageModel(**SMALL, callbacks=seen).fit("ab")
    assert seen.count == 1
    assert np.isfinite(model.perplexity("a"))
    with pytest.raises(ValueError, match="text: expected at least 8 tokens and boundaries, 8 for"):
        LanguageModel(**SMALL, drop_last=True).fit("abcd")
    with pytest.raises(ValueError, match="text: expected at least 2 tokens, 2 for each of 1 str"):
        LanguageModel(**SMALL, boundary=False).fit("a")


def test_held_out_text_may_have_streams_of_its_own() -> None:
    """Each begins without a state; the loss is the mean over the tokens of all."""
    for size, per_stream in ((1, 121), (3, 40)):
        model = LanguageModel(**SMALL, batch_size=5, eval_batch_size=size).fit(TEXT, TEXT[:120])
        ids = [Vocabulary.BOUNDARY, *model.vocabulary_.encode(TEXT[:120])][: size * per_stream]
        streams = np.reshape(ids, (size, per_stream))
        y, _ = model.layers_["rnn"](model.layers_["embedding"](streams[:, :-1]))
        logits = model.layers_["output"](y)
        expected, _ = losses.softmax_cross_entropy(logits, streams[:, 1:])
        assert model.history_["validation_loss"][-1] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="eval_text: expected at least 12 tokens and boundaries"):
        model.set_params(eval_batch_size=6).fit(TEXT, "the cat")


def test_a_rate_may_follow_the_held_out_loss() -> None:
    """A fourth each time that it has not fallen below all before, as in PyTorch's example."""

    def rate(epoch: int, history: Any) -> float:
        held_out = history["validation_loss"]
        stalls = sum(b >= min(held_out[:i], default=math.inf) for i, b in enumerate(held_out))
        return 2.0 / 4**stalls

    model = LanguageModel(
        **{**SMALL, "max_iter": 9}, solver="sgd", momentum=0.0, learning_rate=rate,
        early_stopping=True, n_iter_no_change=9,
    )  # fmt: skip
    model.fit("abcd" * 50, eval_text="dcba" * 9)
    held_out, rates = model.history_["validation_loss"], model.history_["learning_rate"]
    expected, best = 2.0, math.inf
    for i, loss in enumerate(held_out):
        assert rates[i] == expected
        expected = expected if loss < best else expected / 4
        best = min(best, loss)
    assert rates[-1] < 1.0
    assert model.best_loss_ == min(held_out)


def test_a_rate_is_given_the_history_of_one_fit() -> None:
    given: list[tuple[int, int]] = []

    def rate(epoch: int, history: Any) -> float:
        given.append((epoch, len(history["loss"])))
        return 0.001

    model = LanguageModel(**SMALL, learning_rate=rate, warm_start=True)
    assert model.fit(TEXT).fit(TEXT).n_iter_ == 4
    assert given == [(0, 0), (1, 1)] * 2


def test_a_second_fit_keeps_the_vocabulary() -> None:
    model = LanguageModel(**SMALL, level="word", warm_start=True).fit("the cat sat " * 9)
    known = model.vocabulary_
    model.set_params(line_end="<eos>", min_count=5, unknown="?", boundary=False)
    model.fit("the zebra sat\n" * 9, eval_text="the zebra")
    assert model.vocabulary_ is known
    assert model.n_iter_ == 4
    assert np.array_equal(model.log_prob("the zebra"), model.log_prob("the okapi"))
    assert len(model.log_prob("the zebra")) == 2
    before = model.log_prob("the zebra")[1]
    model.set_params(max_iter=30, learning_rate_init=0.03).fit("the zebra sat\n" * 9)
    assert model.log_prob("the zebra")[1] > before + 1, "the new text is learned"


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"loss_reduction": "none"}, ValueError, "loss_reduction: expected one of 'mean', 'sum'"),
    ({"drop_last": 1}, TypeError, "drop_last: expected True or False"),
    ({"eval_batch_size": 0}, ValueError, "eval_batch_size: expected an integer of at least 1"),
    ({"init": "zeros"}, ValueError, "init: expected one of 'torch'"),
    ({"init": "uniform"}, ValueError, "init_scale: expected a number with init='uniform'"),
    ({"init_scale": -1.0}, ValueError, "init_scale: expected a number"),
    ({"forget_bias": "one"}, TypeError, "forget_bias: expected a"),
    ({"unknown": ""}, ValueError, "unknown: expected at least one character or None, got ''"),
    ({"unknown": 0}, TypeError, "unknown: expected a str or None, got 0"),
    ({"boundary": None}, TypeError, "boundary: expected True or False, got None"),
    ({"line_end": "a b"}, ValueError, "line_end: expected a line's end, a word or None, got 'a b'"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD, ids=range(len(BAD)))
def test_bad_parameters_are_named(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = LanguageModel(**options)
    with pytest.raises(error, match=message):
        model.fit(TEXT)
    assert not hasattr(model, "layers_")
