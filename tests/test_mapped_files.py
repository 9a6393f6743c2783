"""Files mapped into memory: parameters are read-only views of the file, with the same bits."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import fastrnn
from fastrnn import tensorfile
from fastrnn.files import FormatError

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

LAYERS = [
    fastrnn.Embedding(7, 3, random_state=1),
    fastrnn.Attention(3, 4, random_state=2),
    fastrnn.LSTM(3, 4, 2, proj_size=2, bidirectional=True, initial_state="learned", random_state=3),
    fastrnn.Reversed(fastrnn.GRU(3, 4, reset_after=True, dtype="float64", random_state=4)),
    fastrnn.Sequential(
        fastrnn.Embedding(7, 3, random_state=1),
        fastrnn.Dropout(0.5),
        fastrnn.GRU(3, 2, random_state=2),
        fastrnn.Sequential(fastrnn.Linear(2, 2, random_state=5), fastrnn.LayerNorm(2)),
    ),
]


def is_mapped(array: Any) -> bool:
    """Whether an array's numbers lie in a mapped file."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(getattr(array, "obj", array), mmap.mmap)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_layers_parameters_are_views_of_the_file(layer: Any, tmp_path: Path) -> None:
    path = tmp_path / "layer"
    layer.save(path)
    found = fastrnn.load(path, mmap=True, check_finite=True)
    assert list(found.params) == list(layer.params)
    for name, param in layer.params.items():
        assert is_mapped(found.params[name]), name
        assert not found.params[name].flags.writeable
        assert found.params[name].tobytes() == param.tobytes(), name
    assert not any(is_mapped(param) for param in fastrnn.load(path).params.values())


def test_mapped_layers_compute_the_same_whatever_becomes_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    LAYERS[-1].save(path)
    found = fastrnn.load(path, mmap=True)
    fastrnn.Linear(2, 2).save(path)  # in the file's place, not into it
    x = np.arange(6).reshape(2, 3)
    expected = LAYERS[-1](x)[0]
    assert np.array_equal(found(x)[0], expected)
    path.unlink()
    assert np.array_equal(found(x)[0], expected)
    with pytest.raises(ValueError, match="read-only"):
        found.params["0.weight"][...] = 0


def test_a_mapped_file_is_checked_as_any_other(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    fastrnn.Linear(3, 4).save(path)
    raw = path.read_bytes()
    for size in (0, 7, 50, len(raw) - 1):
        path.write_bytes(raw[:size])
        with pytest.raises(FormatError):
            fastrnn.load(path, mmap=True)
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(FormatError, match="altered"):
        fastrnn.load(path, mmap=True)


def test_the_safetensors_packages_files_can_be_mapped(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    wanted = {"a": np.arange(5.0), "empty": np.zeros((0, 2), np.float32)}
    save_file(wanted, path)
    tensors, _ = tensorfile.read(path, mmap=True)
    assert is_mapped(tensors["a"])
    for name, array in load_file(path).items():
        assert np.array_equal(tensors[name], array)
    save_file({"empty": wanted["empty"]}, path)
    assert tensorfile.read(path, mmap=True).tensors["empty"].shape == (0, 2)


def test_models_can_be_mapped(tmp_path: Path) -> None:
    path, text = tmp_path / "model", "to be or not to be " * 8
    model = fastrnn.LanguageModel(hidden_size=4, max_iter=1, random_state=0).fit(text)
    model.save(path)
    found = fastrnn.load(path, mmap=True)
    assert all(is_mapped(p) for layer in found.layers_.values() for p in layer.params.values())
    assert np.array_equal(found.log_prob("to be"), model.log_prob("to be"))


def test_predictors_can_be_mapped(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    from fastrnn import RNNClassifier

    path, x = tmp_path / "model", np.random.default_rng(0).standard_normal((6, 4, 2))
    model = RNNClassifier(hidden_size=4, max_iter=1, random_state=0).fit(x, [0, 1] * 3)
    model.save(path)
    found = fastrnn.Predictor.load(path, mmap=True).prepare()
    assert is_mapped(found.layers_["rnn"].params["weight_hh_l0"])
    assert np.array_equal(found.predict_proba(x), model.predict_proba(x))
