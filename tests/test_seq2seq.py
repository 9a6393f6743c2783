"""Seq2Seq: what it learns and writes, how it searches, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastrnn import Seq2Seq
from fastrnn.text.vocabulary import Vocabulary

WORDS = ["abc", "cab", "bca", "ba", "ac", "cb", "a", "b", "c", "aab", ""] * 4
SMALL: dict[str, Any] = {
    "hidden_size": 24,
    "embedding_dim": 8,
    "learning_rate_init": 0.02,
    "max_iter": 40,
    "random_state": 0,
}


def reverse(texts: list[str]) -> list[str]:
    return [text[::-1] for text in texts]


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
