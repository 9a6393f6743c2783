"""Seq2Seq: what it learns and writes, and how it searches."""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_models import SEARCHED, WORDS, bits, half_trained, reverse
from made_models import SMALL_PAIRS as SMALL

import fastrnn
from fastrnn import Seq2Seq, metrics
from fastrnn.parameterized import NotFittedError
from fastrnn.seq2seq.fitted import _Search
from fastrnn.text.vocabulary import Vocabulary
from fastrnn.training.plan import TrainingState

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@pytest.fixture(scope="module")
def model() -> Seq2Seq:
    return Seq2Seq(**SMALL).fit(WORDS, reverse(WORDS))


# Learning


@pytest.mark.parametrize(
    "options",
    [
        {"attention": None, "bidirectional": False},
        {"attention": "dot", "cell": "gru"},
        {"attention": "dot", "cell": "gru", "input_feeding": True},
        {"attention": "additive", "cell": "rnn", "num_layers": 2},
        {"attention": "additive", "bridge": "zeros", "dtype": "float64"},
        {"teacher_forcing": 0.5, "label_smoothing": 0.1, "dropout": 0.1},
        {"teacher_forcing": lambda epoch, history: 0.9**epoch},
    ],
    ids=str,
)
def test_every_kind_learns(options: dict[str, Any]) -> None:
    model = Seq2Seq(**{**SMALL, "max_iter": 60, "n_iter_no_change": 60, **options})
    model.fit(WORDS, reverse(WORDS))
    assert model.score(WORDS, reverse(WORDS)) > 0.95
    assert model.loss_curve_[-1] < 0.5 * model.loss_curve_[0]


def test_words_and_lists_of_tokens() -> None:
    sources = ["two and three", "one and one", "one and two"] * 8
    targets = ["five .", "two .", "three ."] * 8
    options = {**SMALL, "level": "word", "attention": "dot"}
    by_word = Seq2Seq(**options).fit(sources, targets)
    assert by_word.predict(["one and two"]) == ["three ."]
    assert by_word.score(sources, targets) == pytest.approx(
        metrics.bleu(by_word.predict(sources), targets)
    )
    split = Seq2Seq(**options).fit([s.split() for s in sources], [t.split() for t in targets])
    assert split.predict([["one", "and", "two"]]) == [["three", "."]]
    assert bits(split) == bits(by_word)
    mixed = Seq2Seq(**options).fit(sources, [t.split() for t in targets])
    assert mixed.predict(["one and two"]) == [["three", "."]]
    assert mixed.score(["one and two"], [["three", "."]]) == by_word.score(
        ["one and two"], ["three ."]
    )


def test_the_loss_reported_is_minus_the_log_probability() -> None:
    model = Seq2Seq(**{**SMALL, "max_iter": 1, "learning_rate_init": 1e-12}, batch_size=7)
    model.fit(WORDS, reverse(WORDS), eval_set=(WORDS[:9], reverse(WORDS[:9])))
    for name, words in (("loss", WORDS), ("validation_loss", WORDS[:9])):
        tokens = sum(map(len, words)) + len(words)
        expected = -model.log_prob(words, reverse(words)).sum() / tokens
        assert model.history_[name][0] == pytest.approx(expected, rel=1e-5)


def test_all_probabilities_add_up_to_one() -> None:
    model = Seq2Seq(hidden_size=6, random_state=0).initialize(["a", "b"], ["x", "y"])
    outputs = ["".join(o) for n in range(6) for o in itertools.product("xy?", repeat=n)]
    total = np.exp(model.log_prob(["ab"] * len(outputs), outputs)).sum()
    ended = [o for o in outputs if len(o) < 5]
    some = np.exp(model.log_prob(["ab"] * len(ended), ended)).sum()
    assert some < total < 1
    # What is missing has not ended after 5 of 4 kinds of tokens.
    assert 1 - total < 1.3 * (1 - some) ** (6 / 5)


def test_the_same_random_state_gives_the_same_bits() -> None:
    options = {**SMALL, "max_iter": 3, "dropout": 0.2, "teacher_forcing": 0.6}
    one, two = (Seq2Seq(**options).fit(WORDS, reverse(WORDS)) for _ in range(2))
    other = Seq2Seq(**{**options, "random_state": 1}).fit(WORDS, reverse(WORDS))
    assert bits(one) == bits(two)
    assert bits(one) != bits(other)


def test_the_bits_do_not_depend_on_the_number_of_threads() -> None:
    found = []
    for n in (1, 2):
        model = Seq2Seq(**{**SMALL, "max_iter": 2, "hidden_size": 64}, n_threads=n)
        found.append(bits(model.fit(WORDS * 4, reverse(WORDS * 4))))
    if fastrnn.get_gemm() == "packed":
        assert found[0] == found[1]


def test_teacher_forcing_is_asked_for_epoch_and_history() -> None:
    seen = []

    def schedule(epoch: int, history: dict[str, list[float]]) -> float:
        seen.append((epoch, len(history["loss"])))
        return 1.0 - 0.2 * epoch

    options = {**SMALL, "max_iter": 3, "batch_size": 9}
    Seq2Seq(**options, teacher_forcing=schedule).fit(WORDS, reverse(WORDS))
    assert seen == [(0, 0), (1, 1), (2, 2)]
    bad = Seq2Seq(**SMALL, teacher_forcing=lambda epoch, history: 2)
    with pytest.raises(ValueError, match=r"teacher_forcing\(epoch, history\): expected a number"):
        bad.fit(WORDS, reverse(WORDS))


def test_early_stopping_holds_out_whole_sources_and_keeps_the_best() -> None:
    sources = [a + b for a in "abcdef" for b in "abcdef"] * 3
    targets = reverse(sources)
    model = Seq2Seq(**SMALL, early_stopping=True, n_iter_no_change=3, validation_fraction=0.25)
    model.fit(sources, targets)
    losses = model.history_["validation_loss"]
    assert model.best_loss_ == min(losses)
    best = int(np.argmin(losses)) + 1
    kept = Seq2Seq(**{**SMALL, "max_iter": best}, early_stopping=True, validation_fraction=0.25)
    assert bits(kept.fit(sources, targets)) == bits(model)
    from fastrnn.seq2seq.data import hold_out

    first, second, held, theirs = hold_out(sources, targets, 0.25)
    assert len(set(held)) == 9
    assert len(held) == 27
    assert not set(first) & set(held)
    assert len({one[0] for one in held}) > 2, "drawn from all sources, not the first"
    assert [s[::-1] for s in first + held] == second + theirs
    with pytest.raises(ValueError, match="early_stopping: expected at least two distinct sources"):
        Seq2Seq(early_stopping=True).fit(["a", "a"], ["b", "c"])


def test_warm_start_goes_on(model: Seq2Seq) -> None:
    one = copy.deepcopy(model).set_params(warm_start=True, max_iter=2)
    layers, before = one.layers_, bits(one)
    one.fit(["abz"], ["zba"])
    assert one.layers_ is layers
    assert bits(one) != before
    assert "z" not in one.source_vocabulary_
    assert one.n_iter_ == model.n_iter_ + 2
    fresh = Seq2Seq(**SMALL, warm_start=True).initialize(list("abc"), list("abc"))
    begun = fresh.layers_
    assert fresh.fit(WORDS, reverse(WORDS)).layers_ is begun


def test_callbacks_see_a_model_that_works() -> None:
    written = []

    def callback(state: TrainingState) -> bool:
        written.append(state.model.predict(["ab"])[0])
        return len(written) == 2

    model = Seq2Seq(**SMALL, callbacks=callback).fit(WORDS, reverse(WORDS))
    assert model.n_iter_ == 2
    assert written[1] == model.predict(["ab"])[0]


@pytest.mark.parametrize("seed", [0, None])
def test_resumed_in_mid_epoch_gives_the_same_bits(tmp_path: Path, seed: int | None) -> None:
    path = tmp_path / "run"

    class Stop:
        left = 11

        def after_step(self, state: TrainingState) -> None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    options = {
        **SMALL, "max_iter": 4, "batch_size": 9, "dropout": 0.3, "recurrent_dropout": 0.3,
        "teacher_forcing": 0.5, "input_feeding": True, "early_stopping": True,
        "random_state": seed,
    }  # fmt: skip
    words = (WORDS, reverse(WORDS))
    with pytest.warns(UserWarning, match="interrupted"):
        Seq2Seq(**options, checkpoint=path, callbacks=Stop()).fit(*words)
    cut = path.read_bytes()
    resumed = Seq2Seq(**options, checkpoint=path).fit(*words, resume=True)
    assert resumed.n_iter_ == 4
    if seed is not None:
        assert bits(resumed) == bits(Seq2Seq(**options).fit(*words))
    path.write_bytes(cut)
    again = Seq2Seq(**options, checkpoint=path).fit(*words, resume=True)
    assert bits(again) == bits(resumed)
    with pytest.raises(ValueError, match="expected one of pairs="):
        Seq2Seq(**options, checkpoint=path).fit(WORDS, WORDS, resume=True)
    with pytest.raises(ValueError, match="expected one of hidden_size='25', got '24'"):
        Seq2Seq(**{**options, "hidden_size": 25}, checkpoint=path).fit(*words, resume=True)
    with pytest.raises(ValueError, match="resume: expected a checkpoint to resume from"):
        Seq2Seq().fit(*words, resume=True)


def test_training_that_diverges_at_once_leaves_no_model() -> None:
    model = Seq2Seq(**{**SMALL, "learning_rate_init": 3e38}, solver="sgd", max_grad_norm=None,
        batch_size=5)  # fmt: skip
    with pytest.raises(FloatingPointError, match="in epoch 1"), np.errstate(all="ignore"):
        model.fit(WORDS, reverse(WORDS))
    assert not hasattr(model, "layers_")
    with pytest.raises(NotFittedError):
        model.predict(["a"])


# The search


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention": None, "cell": "gru"},
        {"attention": "dot", "input_feeding": True, "num_layers": 2},
    ],
    ids=str,
)
def test_beams_are_never_below_greedy_and_score_what_the_model_says(options: Any) -> None:
    model = half_trained(**options)
    greedy, lowest = model.predict(SEARCHED, return_scores=True)
    best, highest = model.predict(SEARCHED, 5, return_scores=True)
    assert (highest >= lowest).all()
    assert (highest > lowest + 1e-3).any(), "beams have found nothing that greedy has not"
    several, scores = model.predict(SEARCHED, 5, n_best=5, return_scores=True)
    for i, source in enumerate(SEARCHED):
        assert several[i][0] == best[i]
        assert len(set(several[i])) == len(several[i]) == 5
        assert scores[i].tolist() == sorted(scores[i], reverse=True)
        own = model.log_prob([source] * 5, several[i])
        np.testing.assert_allclose(scores[i], own, rtol=1e-5)
    np.testing.assert_allclose(lowest, model.log_prob(SEARCHED, greedy), rtol=1e-5)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_an_answer_has_the_same_bits_in_any_batch(beam_size: int) -> None:
    if fastrnn.get_gemm() != "packed":
        pytest.skip("the promise is the packed engine's")
    model = half_trained(hidden_size=40)
    together, scores = model.predict(SEARCHED, beam_size, return_scores=True)
    probabilities = model.log_prob(SEARCHED, together)
    for i, source in enumerate(SEARCHED):
        alone, score = model.predict([source], beam_size, return_scores=True)
        assert alone == [together[i]]
        assert score[0] == scores[i]
        assert model.log_prob([source], alone)[0] == probabilities[i] == scores[i]


def test_what_greedy_search_finds_stays_in_the_running() -> None:
    def output(score: float, *tokens: int) -> tuple[np.ndarray, float]:
        return np.array(tokens), score

    found = [output(-1.0, 2, 3), output(-3.0, 4)]
    for exponent, likely, expected in (
        (0.0, output(-2.0, 5), [-1.0, -2.0]),
        (0.0, output(-0.5, 5), [-0.5, -1.0]),
        (0.0, output(-4.0, 5), [-1.0, -3.0]),
        (0.0, output(-1.0, 2, 3), [-1.0, -3.0]),
        (9.0, output(-4.0, 5, 5, 5, 5, 5), [-4.0, -1.0]),
    ):
        joined = _Search(2, None, exponent)._joined(list(found), [likely])
        assert [score for _, score in joined] == expected


def test_a_large_beam_finds_the_likeliest_of_all_outputs() -> None:
    model = half_trained()
    every = ["".join(o) for n in range(5) for o in itertools.product("abc", repeat=n)]
    for source in ("ab", "cab"):
        scores = model.log_prob([source] * len(every), every)
        (found,) = model.predict([source], 200, max_length=4, n_best=10)
        assert found == [every[i] for i in np.argsort(-scores)[:10]]
        (long,) = model.predict([source], 200, max_length=4, length_penalty=3.0)
        lengths = np.array([len(one) + 1 for one in every])
        assert long == every[int(np.argmax(scores / ((5 + lengths) / 6) ** 3.0))]


def test_lengths_of_outputs() -> None:
    model = half_trained()
    assert model.predict(["abc", "b"], max_length=0) == ["", ""]
    assert max(map(len, model.predict(["abc"], 3, max_length=2, n_best=3)[0])) <= 2
    # A model that never ends goes as far as the longest target, or in proportion to its source.
    model.layers_["output"].params["bias"][Vocabulary.BOUNDARY] = -1e4
    assert [len(one) for one in model.predict(["", "ab", "abc", "abcabca"])] == [3, 3, 3, 7]
    shorter = copy.deepcopy(model).set_params(warm_start=True, max_iter=1).fit(["a"], ["a"])
    assert [len(one) for one in shorter.predict(["ab", "abcabca"])] == [3, 7]
    begun = Seq2Seq(hidden_size=4, random_state=0).initialize(["a", "b"], ["a", "b"])
    begun.layers_["output"].params["bias"][Vocabulary.BOUNDARY] = -1e4
    assert [len(one) for one in begun.predict(["", "aba"])] == [10, 16]


def test_the_unknown_is_read_and_never_written() -> None:
    model = half_trained(min_count=9, max_iter=3)
    assert model.source_vocabulary_.tokens == ("a", "b", "c")
    assert model.predict(["a?b", "\N{SNOWMAN}"]) == model.predict(["a!b", "Q"])
    model.layers_["output"].params["bias"][Vocabulary.UNKNOWN] = 1e3
    found = model.predict(["abc"] * 3, 3, n_best=3)
    assert all(set(one) <= set("abc") for several in found for one in several)


def test_sources_longer_than_any_in_training(model: Seq2Seq) -> None:
    (found,) = model.predict(["abc" * 400])
    assert 0 < len(found) <= 1200
    assert np.isfinite(model.log_prob(["abc" * 400], [found])).all()


def test_of_no_sources_nothing_is_written(model: Seq2Seq) -> None:
    assert model.predict([]) == []
    assert model.predict([], 3, n_best=2, return_scores=True) == ([], [])
    assert model.predict([], return_scores=True)[1].shape == (0,)
    assert model.log_prob([], []).shape == (0,)
    assert model.attention_weights([], []) == []


def test_several_right_answers(model: Seq2Seq) -> None:
    assert model.predict(["cb", "abc"]) == ["bc", "cba"]
    assert model.score(["cb", "abc"], [["xx", "bc"], ["cba"]]) == 1.0
    assert model.score(["cb", "abc"], ["bb", "cba"]) == 0.75
    tokens = Seq2Seq(**SMALL, level="word").fit([["a", "b"]] * 9, [["b", "a", "c", "d"]] * 9)
    assert tokens.score([["a", "b"]], [["b", "a", "c", "d"]]) == pytest.approx(1.0)
    assert tokens.score([["a", "b"]], [[["x"], ["b", "a", "c", "d"]]]) == pytest.approx(1.0)


# Attention


def test_attention_is_over_the_tokens_of_the_source(model: Seq2Seq) -> None:
    sources = ["abc", "", "cabca", "b"]
    outputs = model.predict(sources)
    weights = model.attention_
    assert [w.shape for w in weights] == [
        (len(o), len(s)) for o, s in zip(outputs, sources, strict=True)
    ]
    for one in weights:
        if one.size:
            np.testing.assert_allclose(one.sum(axis=1), 1, rtol=1e-5)
    forced = model.attention_weights(sources, outputs)
    for one, other in zip(weights, forced, strict=True):
        assert np.array_equal(one, other)
    with pytest.raises(AttributeError, match="attention_: expected a call of predict before"):
        _ = Seq2Seq(hidden_size=3).initialize(["a", "b"], ["a", "b"]).attention_
    plain = half_trained(attention=None)
    plain.predict(["a"])
    assert not hasattr(plain, "attention_")
    with pytest.raises(ValueError, match="attention: expected a model with 'additive' or 'dot'"):
        plain.attention_weights(["a"], ["a"])


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["additive", "dot"])
def test_attention_learns_to_reverse(attention: str) -> None:
    """Of sequences of 10 to 20 letters the largest weight lies on T - 1 - t."""
    draw = np.random.default_rng(0)
    texts = [
        "".join(draw.choice(list("abcdefghij"), n)) for n in draw.integers(10, 21, 3100).tolist()
    ]
    model = Seq2Seq(
        "char", attention, hidden_size=64, embedding_dim=64, dropout=0.0, learning_rate_init=0.005,
        batch_size=50, max_iter=16,
        random_state=0,
    )  # fmt: skip
    model.fit(texts[:3000], reverse(texts[:3000]))
    held_out = texts[3000:]
    assert model.score(held_out, reverse(held_out)) > 0.97
    weights = model.attention_weights(held_out, reverse(held_out))
    right = [w.argmax(axis=1) == np.arange(len(w))[::-1] for w in weights]
    assert np.concatenate(right).mean() >= 0.95


# Known weights


def test_the_pronunciations_of_g2p_en(data_file: Callable[[str], Path]) -> None:
    """A GRU encoder and decoder without attention, trained by others: 500 words as they have it."""
    weights = np.load(data_file("models/g2p_en/checkpoint20.npz"))
    symbols = json.loads(data_file("models/g2p_en/symbols.json").read_text())
    letters, sounds = symbols["graphemes"], symbols["phonemes"]
    model = Seq2Seq(
        cell="gru", reset_after=True, attention=None, bidirectional=False, hidden_size=256,
        embedding_dim=256,
    )  # fmt: skip
    model.initialize(letters[3:], Vocabulary("token", sounds[4:]))
    own = model.layers_
    # Theirs: padding, unknown, (start,) end, tokens; ours: unknown, boundary, tokens.
    own["source_embedding"].params["weight"][...] = weights["enc_emb"][1:]
    start = [sounds.index("<unk>"), sounds.index("<s>"), *range(4, len(sounds))]
    own["target_embedding"].params["weight"][...] = weights["dec_emb"][start]
    end = [sounds.index("<unk>"), sounds.index("</s>"), *range(4, len(sounds))]
    own["output"].params["weight"][...] = weights["fc_w"][end]
    own["output"].params["bias"][...] = weights["fc_b"][end]
    for key, short in (("encoder", "enc"), ("decoder", "dec")):
        for name in ("w_ih", "w_hh", "b_ih", "b_hh"):
            whole = name.replace("w_", "weight_").replace("b_", "bias_") + "_l0"
            own[key].params[whole][...] = weights[f"{short}_{name}"]
    lines = data_file("models/g2p_en/reference_500.tsv").read_text().splitlines()
    words, expected, _ = zip(*(line.split("\t") for line in lines), strict=True)
    assert len(words) == 500
    found = model.predict(words, max_length=20)
    assert [" ".join(one) for one in found] == list(expected)


def test_initialize_makes_layers_for_known_tokens() -> None:
    model = Seq2Seq(hidden_size=4, random_state=0).initialize(
        ["a", "b"], Vocabulary("token", ["X1", "Y"])
    )
    assert model.source_vocabulary_.tokens == ("a", "b")
    assert model.layers_["source_embedding"].params["weight"].shape == (4, 128)
    assert model.layers_["output"].params["weight"].shape == (4, 4)
    assert set(model.predict(["ab"])[0]) <= {"X1", "Y"}
    assert model.n_iter_ == 0
    shared = Seq2Seq(hidden_size=4, share_vocabulary=True)
    with pytest.raises(ValueError, match="target_tokens: expected those of source_tokens"):
        shared.initialize(["a", "b"], ["b", "a"])
    with pytest.raises(ValueError, match="tokens: expected single chars, got 'X1'"):
        model.initialize(["a", "b"], ["X1"])
    with pytest.raises(TypeError, match="source_tokens: expected a Vocabulary or an iterable"):
        model.initialize(3, ["a"])
    for options in ({"unknown": None}, {"boundary": False}):
        with pytest.raises(ValueError, match="source_tokens: expected a vocabulary with"):
            model.initialize(Vocabulary("char", ["a"], **options), ["a"])


# scikit-learn's ways


def test_parameters_are_stored_as_given_and_come_back() -> None:
    model = Seq2Seq("word", "dot", hidden_size=7)
    assert model.get_params()["attention"] == "dot"
    assert repr(model) == "Seq2Seq(level='word', attention='dot', hidden_size=7)"
    base = pytest.importorskip("sklearn.base")
    assert base.clone(model).get_params() == model.get_params()
    assert math.isfinite(Seq2Seq().learning_rate_init)
