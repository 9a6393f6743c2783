"""Encoders and decoders in files: the same model comes back, and no other file loads."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_models import SEARCHED, WORDS, always, bits, changed, half_trained, reverse
from made_models import SMALL_PAIRS as SMALL

import fastrnn
from fastrnn import FormatError, Seq2Seq

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@pytest.fixture(scope="module")
def model() -> Seq2Seq:
    return Seq2Seq(**SMALL).fit(WORDS, reverse(WORDS))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention": None, "bidirectional": False, "cell": "gru", "dtype": np.float64},
        {"attention": "dot", "input_feeding": True, "num_layers": 2, "level": "word"},
        {"bridge": "zeros", "share_vocabulary": True, "teacher_forcing": always},
    ],
    ids=str,
)
def test_a_saved_model_is_the_same_model(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = half_trained(**options)
    model.save(path)
    for found in (fastrnn.load(path), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert bits(found) == bits(model)
        assert found.source_vocabulary_.tokens == model.source_vocabulary_.tokens
        assert found.history_ == model.history_
        assert found.predict(SEARCHED, 3) == model.predict(SEARCHED, 3)
        assert np.array_equal(found.log_prob(WORDS, WORDS), model.log_prob(WORDS, WORDS))
    assert fastrnn.load(path).teacher_forcing == 1.0
    again = fastrnn.load(path).set_params(warm_start=True).fit(WORDS, reverse(WORDS))
    assert again.n_iter_ == 8


SIDE: dict[str, Any] = {"level": "char", "tokens": ["a", "b", "c"]}

CHANGES: list[tuple[list[str], Any, str]] = [
    (["config"], None, "config: expected dict, got None"),
    (["config", "cell"], "transformer", "cell: expected one of"),
    (["config", "surprise"], 1, "config: expected the names"),
    (["vocabularies"], [SIDE], "vocabularies: expected two"),
    (["vocabularies"], ["ab", "ab"], "vocabularies: expected two"),
    (["vocabularies"], [{**SIDE, "level": "byte"}, SIDE], "level: expected one of"),
    (["vocabularies"], [{**SIDE, "tokens": ["a", "a"]}, SIDE], "tokens: expected each once"),
    (["vocabularies"], [{**SIDE, "tokens": ["a"]}, SIDE], "num_embeddings: expected 3, got 5"),
    (["vocabularies"], [{**SIDE, "boundary": False}, SIDE], r"vocabularies\[0\]: expected a voc"),
    (["vocabularies"], [{"level": "char"}, SIDE], "tokens"),
    (["layers", "encoder"], None, "expected an array of one of"),
    (["layers", "output"], None, "output.*: expected an array of one of"),
    (["layers", "more"], {"type": "Linear", "config": {}}, "expected a value named"),
    (["layers", "decoder", "type"], "GRU", "weight_ih_l0: expected shape"),
    (["layers", "encoder", "type"], "Sequential", "layers.encoder: expected LSTM or GRU or RNN"),
    (["layers", "encoder", "config", "hidden_size"], 10**9, "weight_ih_l0: expected shape"),
    (["layers", "attention", "config", "kind"], "dot", "bias: expected no such array"),
    (["bridge"], "copy", "bridge: expected one of linear, got 'copy'"),
    (["longest"], [3], "longest: expected two numbers"),
    (["longest"], [3, -1], "longest: expected two numbers"),
    (["history"], {"loss": 3}, "history: expected lists of numbers"),
    (["best_loss"], "low", "best_loss: expected float"),
]


@pytest.mark.parametrize(("way", "value", "message"), CHANGES, ids=range(len(CHANGES)))
def test_a_file_that_does_not_fit_itself_is_a_format_error(
    model: Seq2Seq, tmp_path: Path, way: list[str], value: Any, message: str
) -> None:
    path = tmp_path / "m"
    model.save(path)
    changed(path, way, value)
    with pytest.raises(FormatError, match=message):
        fastrnn.load(path)


def test_states_of_two_directions_are_not_copied_to_one(tmp_path: Path) -> None:
    path = tmp_path / "m"
    Seq2Seq(bridge="zeros", hidden_size=4).initialize(["a"], ["b"]).save(path)
    changed(path, ["bridge"], "copy")
    with pytest.raises(FormatError, match="bridge: expected one of zeros, got 'copy'"):
        fastrnn.load(path)
