"""A language model's training is PyTorch's: the same losses from the same weights and windows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import fastrnn
from bench.torch_language import Recorder, Twin, start_of, whole, windows

STEPS = 100
WORDS = ["the", "cat", "dog", "sat", "ran", "on", "a", "mat", "\n"]


def text(words: int) -> str:
    draw = random.Random(0)
    return " ".join(draw.choices(WORDS, range(1, len(WORDS) + 1), k=words))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks as small as these lose more to waiting threads than they win."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with fastrnn.threads(1):
        yield
    torch.set_num_threads(before)


def curves(level: str, words: int = 2500, **parameters: Any) -> tuple[Any, Any]:
    """The losses of the first steps: ours, and PyTorch's."""
    model = fastrnn.LanguageModel(
        level,
        solver="sgd",
        momentum=0.0,
        hidden_size=12,
        embedding_dim=12,
        batch_size=4,
        tbptt_steps=5,
        random_state=3,
        **parameters,
    )
    start = start_of(model, text(words))
    twin, streams = Twin(start), windows(start, text(words))
    seen = Recorder(STEPS)
    model.callbacks = seen
    model.fit(text(words))
    theirs: list[float] = []
    while len(theirs) < STEPS:
        theirs += twin.epoch(streams, seen.rates[len(theirs)])
    return np.array(seen.losses), np.array(theirs[:STEPS])


# Both recipes, but smaller: Zaremba et al. 2014, and PyTorch's example of a word model, whose rate
# of 20 would take steps of length 5, too long for so few weights: any last digit soon decides. So
# would Zaremba's sum over five steps.
RECIPES: dict[str, dict[str, Any]] = {
    "zaremba": {
        "num_layers": 2,
        "init": "uniform",
        "init_scale": 0.1,
        "forget_bias": 0.0,
        "boundary": False,
        "drop_last": True,
        "loss_reduction": "sum",
        "learning_rate_init": 0.5,
        "max_grad_norm": 5.0,
    },
    "pytorch": {
        "num_layers": 2,
        "tie_weights": True,
        "forget_bias": 0.0,
        "boundary": False,
        "learning_rate_init": 2.0,
        "max_grad_norm": 0.25,
    },
}


@pytest.mark.parametrize("level", ["word", "char"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_losses(level: str, recipe: str) -> None:
    ours, theirs = curves(level, dtype="float64", **RECIPES[recipe])
    assert np.abs(ours / theirs - 1).max() < 1e-9
    assert ours[0] > 1.05 * ours[-10:].mean()  # it learns
    ours, theirs = curves(level, **RECIPES[recipe])
    assert np.abs(ours[:25] / theirs[:25] - 1).max() < 1e-4


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_losses_of_other_cells(cell: str) -> None:
    ours, theirs = curves(
        "word", dtype="float64", cell=cell, reset_after=True, **RECIPES["zaremba"]
    )
    assert np.abs(ours / theirs - 1).max() < 1e-9


def test_losses_over_several_epochs() -> None:
    def rate(epoch: int, history: Any) -> float:
        return 0.5**epoch

    # four streams of 121, of which the first is only read: 24 windows an epoch
    ours, theirs = curves("word", 483, dtype="float64", learning_rate=rate, max_grad_norm=5.0)
    assert np.abs(ours / theirs - 1).max() < 1e-9
    assert ours[24] < ours[0]


@pytest.mark.parametrize("boundary", [False, True])
def test_perplexity_of_a_text(boundary: bool) -> None:
    model = fastrnn.LanguageModel("word", hidden_size=8, boundary=boundary, random_state=0)
    start = start_of(model, text(300))
    found = Twin(start).perplexity(whole(start, text(200), 64))
    assert found == pytest.approx(start.perplexity(text(200)), rel=1e-5)
