"""Language models in files: the same model comes back, and no other file loads."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_models import SMALL_LANGUAGE as SMALL
from made_models import TEXT, bits, changed

import fastrnn
from fastrnn import FormatError, LanguageModel, tensorfile

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(**{**SMALL, "max_iter": 12}, learning_rate_init=0.02).fit(TEXT)


@pytest.mark.parametrize("options", [{}, {"level": "word", "cell": "gru", "dtype": np.float64}])
def test_a_saved_model_is_the_same_model(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = LanguageModel(**{**SMALL, **options}, checkpoint=tmp_path / "c", callbacks=[])
    model.fit([TEXT, "\N{SNOWMAN}\ud800 \0"], eval_text="the")
    model.save(path)
    found = fastrnn.load(path)
    assert bits(found) == bits(model)
    assert found.vocabulary_.tokens == model.vocabulary_.tokens
    assert found.history_ == model.history_
    assert found.n_iter_ == 2
    assert found.best_loss_ == model.best_loss_
    assert np.array_equal(found.log_prob(TEXT), model.log_prob(TEXT))
    assert found.generate(60, seed=1) == model.generate(60, seed=1)
    assert found.hidden_size == 12
    assert found.checkpoint is None
    again = found.set_params(warm_start=True).fit(TEXT)
    assert again.n_iter_ == 4


def test_parameters_that_are_no_numbers_or_text_are_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "m"
    model = LanguageModel(
        **{**SMALL, "random_state": np.random.default_rng(0), "hidden_size": np.int64(8)},
        learning_rate=lambda epoch, history: 0.001,
        callbacks=lambda state: None,
    )
    model.fit(TEXT).save(path)
    found = fastrnn.load(path)
    assert found.learning_rate == "constant"
    assert found.callbacks is None
    assert found.random_state is None
    assert found.hidden_size == 8


def test_parameters_set_after_fit_do_not_spoil_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m"
    model = LanguageModel(**SMALL).fit(TEXT).set_params(hidden_size=99, cell="gru", level="word")
    model.save(path)
    assert bits(fastrnn.load(path)) == bits(model)


CHANGES: list[tuple[list[str], Any, str]] = [
    (["config"], None, "config: expected dict, got None"),
    (["config", "cell"], None, "config: expected the names"),
    (["config", "cell"], "transformer", "cell: expected one of"),
    (["config", "max_iter"], "many", "max_iter: expected an integer"),
    (["config", "surprise"], 1, "config: expected the names"),
    (["vocabulary"], ["a"], "vocabulary: expected dict"),
    (["vocabulary", "level"], "byte", "level: expected one of"),
    (["vocabulary", "tokens"], ["a", "a"], "tokens: expected each once"),
    (["vocabulary", "tokens"], ["a", 3], "tokens: expected texts"),
    (["vocabulary", "tokens"], ["a"], "num_embeddings: expected 3, got"),
    (["vocabulary", "boundary"], False, "num_embeddings: expected 1[0-9], got"),
    (["vocabulary", "unknown"], "a", "tokens: expected none that reads as unknown='a'"),
    (["vocabulary", "surprise"], 1, "surprise"),
    (["layers", "output", "type"], "TiedLinear", "config: expected bias alone"),
    (["layers", "rnn"], None, "layers: expected embedding, rnn, output"),
    (["layers", "rnn", "type"], "Sequential", "layers.rnn: expected RNN or LSTM or GRU"),
    (["layers", "rnn", "type"], "GRU", "weight_ih_l0: expected shape"),
    (["layers", "rnn", "config", "hidden_size"], 10**9, "weight_ih_l0: expected shape"),
    (["layers", "rnn", "config", "num_layers"], 10**12, "weight_ih_l1: expected an array"),
    (["layers", "rnn", "config", "bidirectional"], True, "expected an array"),
    (["layers", "rnn", "config", "dtype"], "float64", "expected dtype float64"),
    (["layers", "output", "config"], 3, "layers|config"),
    (["texts_end"], "yes", "texts_end: expected bool"),
    (["history"], {"loss": 3}, "history: expected lists of numbers"),
    (["best_loss"], "low", "best_loss: expected float"),
]


@pytest.mark.parametrize(("way", "value", "message"), CHANGES, ids=range(len(CHANGES)))
def test_a_file_that_does_not_fit_itself_is_a_format_error(
    model: LanguageModel, tmp_path: Path, way: list[str], value: Any, message: str
) -> None:
    path = tmp_path / "m"
    model.save(path)
    changed(path, way, value)
    with pytest.raises(FormatError, match=message):
        fastrnn.load(path)


@settings(max_examples=150)
@given(data=st.data())
def test_a_description_changed_at_will_loads_or_is_a_format_error(
    model: LanguageModel, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With a digest that fits, as one who means harm would write it."""
    path = tmp_path_factory.getbasetemp() / "fuzzed language model"
    if not path.exists():
        model.save(path)
    tensors, metadata = tensorfile.read(path)
    described = json.loads(metadata["model"])
    described["history"] = {"loss": [1.0]}  # short, so that changes meet something else
    text = list(json.dumps(described))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place] = data.draw(st.sampled_from('0123456789-.,:[]{}"eE truefalsnN'))
    other = path.with_name("other")
    tensorfile.write(other, tensors, {**metadata, "model": "".join(text)})
    try:
        found = fastrnn.load(other)
    except FormatError:
        return
    assert bits(found) == bits(model)
    assert np.isfinite(found.perplexity("the cat"))


def test_truncated_or_altered_models_are_format_errors(
    model: LanguageModel, tmp_path: Path
) -> None:
    path = tmp_path / "m"
    model.save(path)
    raw = path.read_bytes()
    for size in range(0, len(raw), 499):
        path.write_bytes(raw[:size])
        with pytest.raises(FormatError):
            fastrnn.load(path)
    for place in range(0, len(raw), 499):
        altered = bytearray(raw)
        altered[place] ^= 2
        path.write_bytes(altered)
        with pytest.raises(FormatError):
            fastrnn.load(path)


def test_a_fitted_model_can_be_pickled_and_copied(model: LanguageModel) -> None:
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert bits(twin) == bits(model)
        assert twin.generate(30, seed=1) == model.generate(30, seed=1)
        assert twin.history_ == model.history_
