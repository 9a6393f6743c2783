"""Models that are trained and used where another library's arrays are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import put, stays
from stand_in_cupy import failing

import fastrnn

__all__ = ["put"]

TEXT = "the cat sat on the mat and the dog sat on the log. " * 3


def model(**options: Any) -> fastrnn.LanguageModel:
    own = {"hidden_size": 5, "embedding_dim": 4, "batch_size": 3, "tbptt_steps": 12, "max_iter": 2}
    own |= {"dtype": "float64", "random_state": 1}
    return fastrnn.LanguageModel("char", **(own | options))


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def copies(model: Any, put: Any, folder: Path) -> list[Any]:
    """What files and moves make of a model, whose numbers must be its own."""
    path = folder / "model.safetensors"
    model.save(path)
    here, there = fastrnn.load(path), fastrnn.load(path, device=put.device)
    assert here.device == "cpu"  # a file says nothing of where a model was
    assert there.device == model.device
    return [here, there, model.to("cpu")]


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "lstm", "dropout": 0.2, "num_layers": 2},
        {"cell": "gru", "early_stopping": True, "alpha": 0.1},
        {"cell": "lstm", "hidden_size": 4, "tie_weights": True, "solver": "sgd"},
    ],
)
def test_a_language_model(options: dict[str, Any], put: Any, tmp_path: Path) -> None:
    mine = model(**options).fit(TEXT)
    its = model(**options).fit(TEXT, device=put.device)
    for layer in its.layers_.values():
        stays(put(np.zeros(1)), dict(layer.params))
    assert its.device == its.layers_["rnn"].device
    close(its.history_["loss"], mine.history_["loss"])
    close(its.history_["grad_norm"], mine.history_["grad_norm"])
    for text in ("the cat", ["the dog sat", "the log"]):
        for method in ("perplexity", "score"):
            close(getattr(its, method)(text), getattr(mine, method)(text))
    for prompt in (None, "the", ["th", "a"]):
        assert its.generate(8, prompt, seed=3) == mine.generate(8, prompt, seed=3)
    for one in copies(its, put, tmp_path):
        close(one.perplexity("the cat"), mine.perplexity("the cat"))


SOURCES = ["the cat", "a dog", "the dog", "cat", "a cat sat", "dog sat", "the", "sat"]
TARGETS = [text[::-1] for text in SOURCES]


def pairs_model(**options: Any) -> fastrnn.Seq2Seq:
    own = {"hidden_size": 5, "embedding_dim": 4, "batch_size": 3, "max_iter": 2}
    own |= {"dtype": "float64", "random_state": 1}
    return fastrnn.Seq2Seq("char", **(own | options))


@pytest.mark.parametrize(
    "options",
    [
        {"attention": "additive", "bidirectional": True, "num_layers": 2, "dropout": 0.2},
        {"attention": "dot", "cell": "gru", "input_feeding": True, "teacher_forcing": 0.5},
        {"attention": "additive", "input_feeding": True, "bidirectional": True},
        {"attention": None, "cell": "rnn", "label_smoothing": 0.1, "early_stopping": True},
        {"attention": None, "input_feeding": True, "bridge": "linear"},
    ],
)
def test_an_encoder_and_a_decoder(options: dict[str, Any], put: Any, tmp_path: Path) -> None:
    mine = pairs_model(**options).fit(SOURCES, TARGETS)
    its = pairs_model(**options).fit(SOURCES, TARGETS, device=put.device)
    for layer in its.layers_.values():
        stays(put(np.zeros(1)), dict(layer.params))
    close(its.history_["loss"], mine.history_["loss"])
    close(its.history_["grad_norm"], mine.history_["grad_norm"])
    close(its.log_prob(SOURCES, TARGETS), mine.log_prob(SOURCES, TARGETS))
    for size in (1, 3):
        found, scores = its.predict(SOURCES, size, max_length=5, return_scores=True)
        expected, expected_scores = mine.predict(SOURCES, size, max_length=5, return_scores=True)
        assert found == expected
        close(scores, expected_scores)
    if options["attention"] is not None:
        for found, expected in (
            (its.attention_, mine.attention_),
            (its.attention_weights(SOURCES, TARGETS), mine.attention_weights(SOURCES, TARGETS)),
        ):
            for one, other in zip(found, expected, strict=True):
                assert type(one) is np.ndarray
                close(one, other)
    for one in copies(its, put, tmp_path):
        close(one.log_prob(SOURCES, TARGETS), mine.log_prob(SOURCES, TARGETS))


def test_a_run_goes_on_where_it_was(put: Any, tmp_path: Path) -> None:
    whole = model(max_iter=3).fit(TEXT, device=put.device)
    path = tmp_path / "checkpoint"

    class Stop:
        def after_step(self, state: Any) -> bool:
            return state.epoch == 1 and state.step == 3

    model(max_iter=3, checkpoint=path, checkpoint_interval=0.0, callbacks=[Stop()]).fit(
        TEXT, device=put.device
    )
    found = model(max_iter=3, checkpoint=path).fit(TEXT, resume=True, device=put.device)
    np.testing.assert_array_equal(found.loss_curve_, whole.loss_curve_)
    moved = model(max_iter=4, checkpoint=path).fit(TEXT, resume=True)  # and on another device
    assert moved.device == "cpu"
    np.testing.assert_array_equal(moved.loss_curve_[:3], whole.loss_curve_)


def test_a_device_that_is_not_there_changes_nothing() -> None:
    fitted = model().fit(TEXT)
    before = fitted.perplexity("the")
    with pytest.raises(ValueError, match=r"^device: expected 'cpu', 'cuda'.*, got"):
        fitted.fit(TEXT + "!", device="gpu")
    assert fitted.perplexity("the") == before
    pairs = pairs_model().fit(SOURCES, TARGETS)
    known = pairs.log_prob(SOURCES, TARGETS)
    with pytest.raises(ValueError, match=r"^device: expected 'cpu', 'cuda'.*, got"):
        pairs.fit(TARGETS, SOURCES, device="gpu")
    np.testing.assert_array_equal(pairs.log_prob(SOURCES, TARGETS), known)


def test_no_room_for_a_model(fake_cupy: Any) -> None:
    fitted = model().fit(TEXT)
    before = fitted.perplexity("the")
    for after in (0, 5):
        with failing(after), pytest.raises(MemoryError):
            fitted.fit(TEXT, device="cuda:1")
        assert fitted.perplexity("the") == before
        assert fitted.device == "cpu"
    on_device = model().fit(TEXT, device="cuda:1")
    before = on_device.perplexity("the")
    on_device.warm_start = True
    with failing(200), pytest.raises(MemoryError):
        on_device.fit(TEXT)
    np.testing.assert_allclose(on_device.perplexity("the"), before, rtol=0.5)
    assert on_device.fit(TEXT).device == "cuda:1"


def test_no_room_for_pairs(fake_cupy: Any) -> None:
    fitted = pairs_model().fit(SOURCES, TARGETS, device="cuda:1")
    before = fitted.log_prob(SOURCES, TARGETS)
    for after in (0, 1, 5, 20):
        for ask in (fitted.log_prob, fitted.attention_weights):
            with failing(after), pytest.raises(MemoryError):
                ask(SOURCES, TARGETS)
        with failing(after), pytest.raises(MemoryError):
            fitted.predict(SOURCES, 2)
    np.testing.assert_array_equal(fitted.log_prob(SOURCES, TARGETS), before)


def test_a_checkpoint_that_is_refused_moves_nothing(put: Any, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    fitted = model(checkpoint=path, warm_start=True).fit(TEXT)
    before = fitted.perplexity("the")
    with pytest.raises(ValueError, match="expected one of"):
        fitted.fit(TEXT + "the end", resume=True, device=put.device)
    assert fitted.device == "cpu"
    stays(np.zeros(1), dict(fitted.layers_["rnn"].params))
    assert fitted.perplexity("the") == before


def test_training_that_diverges_at_once_moves_nothing(put: Any) -> None:
    fitted = model(warm_start=True).fit(TEXT)
    before = fitted.perplexity("the")
    fitted.set_params(solver="sgd", learning_rate_init=1e308, max_grad_norm=None)
    with pytest.raises(FloatingPointError, match="in epoch 1"), np.errstate(all="ignore"):
        fitted.fit(TEXT, device=put.device)
    assert fitted.device == "cpu"
    assert fitted.perplexity("the") == before
