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
    # A file says nothing of where a model was, and a move changes no number.
    path = tmp_path / "model.safetensors"
    its.save(path)
    here, there = fastrnn.load(path), fastrnn.load(path, device=put.device)
    assert here.device == "cpu"
    assert there.device == its.device
    for one in (here, there, its.to("cpu")):
        close(one.perplexity("the cat"), mine.perplexity("the cat"))


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
