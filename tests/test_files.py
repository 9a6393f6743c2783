"""Files: what is saved comes back bit by bit, and of a bad file comes nothing but a FormatError."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from fastrnn import files, tensorfile
from fastrnn.cells import Cell, Stage
from fastrnn.files import FormatError, load
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.modules import Dropout, LayerNorm, Linear
from fastrnn.layers.rnn import GRU, LSTM, RNN, register_cell
from fastrnn.layers.sequential import Sequential
from fastrnn.trees import flatten, unflatten

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

MODULES = [
    Embedding(7, 3, random_state=1),
    Linear(3, 4, random_state=2, dtype="float64"),
    Linear(3, 4, bias=False, random_state=3),
    Dropout(0.25, random_state=4),
    LayerNorm(5),
    RNN(3, 4, 2, nonlinearity="relu", bias=False, dropout=0.5, random_state=5),
    LSTM(3, 4, 2, proj_size=2, bidirectional=True, initial_state="learned", random_state=6),
    LSTM(3, 4, forget_bias=1.0, dtype="float64", random_state=7),
    GRU(3, 4, reset_after=True, recurrent_dropout=0.5, initial_state="normal", random_state=8),
    GRU(3, 4, 3, bidirectional=True, init="orthogonal", random_state=9),
    Sequential(
        Embedding(7, 3, random_state=1),
        Dropout(0.5),
        GRU(3, 2, random_state=2),
        Sequential(Linear(2, 2), LayerNorm(2)),
    ),
]


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    raw = path.read_bytes()
    (n,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + n]), raw[8 + n :]


def put(path: Path, header: Any, data: bytes, *, length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


# Tensor files


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "b.weight": rng.standard_normal((3, 4)).astype(np.float32),
        "a": rng.standard_normal(5),
        "order": np.arange(6).reshape(2, 3),
        "flags": np.array([True, False, True]),
        "bytes": np.arange(7, dtype=np.uint8),
        "counts": np.array([2**64 - 1], dtype=np.uint64),
        "small": np.array([-1], dtype=np.int32),
        "scalar": np.array(1.5),
        "empty": np.zeros((0, 3), dtype=np.float32),
    }


def test_arrays_come_back_bit_by_bit(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    wanted = arrays()
    tensorfile.write(path, wanted, {"note": "ü \ud800".encode("utf-8", "replace").decode()})
    tensors, metadata = tensorfile.read(path)
    assert set(tensors) == set(wanted)
    for name, array in wanted.items():
        assert tensors[name].dtype == array.dtype
        assert tensors[name].shape == array.shape
        assert tensors[name].tobytes() == array.tobytes()
    assert metadata["note"].startswith("ü")
    assert os.listdir(tmp_path) == ["x.safetensors"], "a temporary file was left"


def test_the_safetensors_package_reads_ours_and_we_read_its(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    wanted = arrays()
    tensorfile.write(ours, wanted, {"k": "v"})
    found = load_file(ours)
    assert set(found) == set(wanted)
    assert all(np.array_equal(found[name], array) for name, array in wanted.items())
    with safe_open(ours, framework="numpy") as file:
        assert file.metadata()["k"] == "v"
    save_file(wanted, theirs, metadata={"k": "v"})
    tensors, metadata = tensorfile.read(theirs)
    assert metadata == {"k": "v"}
    assert all(tensors[name].tobytes() == array.tobytes() for name, array in wanted.items())


def test_arrays_of_any_layout_are_written(tmp_path: Path) -> None:
    path = tmp_path / "x"
    array = np.arange(12.0).reshape(3, 4)
    swapped = array.astype(">f8")
    tensorfile.write(path, {"t": array.T, "step": array[:, ::2], "swapped": swapped}, {})
    found, _ = tensorfile.read(path)
    assert np.array_equal(found["t"], array.T)
    assert np.array_equal(found["step"], array[:, ::2])
    assert np.array_equal(found["swapped"], array)


def test_a_dtype_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"z: expected a dtype among .*float32.* got complex128"):
        tensorfile.write(tmp_path / "x", {"z": np.zeros(2, complex)}, {})
    assert not (tmp_path / "x").exists()


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    tensorfile.write(path, {"a": np.zeros(3)}, {})
    before = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        tensorfile.write(path, {"a": np.ones(3)}, {})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x"]


def test_an_error_names_the_path_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "file").write_bytes(b"old")
    layer = Linear(2, 2)
    for path, kind in (
        (os.path.join("none", "x"), FileNotFoundError),
        (tmp_path / "none" / "x", FileNotFoundError),
        (os.path.join("file", "x"), NotADirectoryError),
        (folder, IsADirectoryError),
    ):
        with pytest.raises(kind) as caught:
            layer.save(path)
        assert caught.value.filename == str(path)
        assert caught.value.filename2 is None
        assert str(caught.value).endswith(f": {str(path)!r}")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    assert os.listdir(folder) == []


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    tensorfile.write(link, {"a": np.zeros(3)}, {})
    assert link.is_symlink()
    assert np.array_equal(tensorfile.read(target).tensors["a"], np.zeros(3))


GOOD = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
BAD_HEADERS = [
    (b"[]", b"", "begins with '{'"),
    (b'{"a": ', b"", "valid JSON"),
    (b"{\xff}", b"", "valid JSON"),
    (b'{"a": NaN}', b"", "valid JSON"),
    (b'{"__metadata__": {}, "__metadata__": {}}', b"", "twice"),
    (b'{"a":' * 100_000, b"", "depth|valid JSON"),
    (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"", "depth"),
    (b'{"a":' + b"1" * 10_000 + b"}", b"", "valid JSON"),
    ({"__metadata__": {"a": 1}}, b"", "__metadata__"),
    ({"__metadata__": []}, b"", "__metadata__"),
    ({"a": []}, b"", "the keys dtype"),
    ({"a": {**GOOD["a"], "more": 1}}, bytes(8), "the keys dtype"),
    ({"a": {**GOOD["a"], "dtype": "BF16"}}, bytes(8), "dtype among"),
    ({"a": {**GOOD["a"], "dtype": ["F32"]}}, bytes(8), "dtype among"),
    ({"a": {**GOOD["a"], "shape": [-2]}}, bytes(8), "integers >= 0"),
    ({"a": {**GOOD["a"], "shape": [2.0]}}, bytes(8), "integers >= 0"),
    ({"a": {**GOOD["a"], "shape": [True, 2]}}, bytes(8), "integers >= 0"),
    ({"a": {**GOOD["a"], "shape": 2}}, bytes(8), "integers >= 0"),
    ({"a": {**GOOD["a"], "shape": [2**63, 0]}}, bytes(8), "below 2"),
    ({"a": {**GOOD["a"], "shape": [1] * 33 + [2]}}, bytes(8), "at most 32"),
    ({"a": {**GOOD["a"], "shape": [2**62, 2, 2]}}, bytes(8), "expected 73786976294838206464 bytes"),
    ({"a": {**GOOD["a"], "shape": [3]}}, bytes(8), "expected 12 bytes"),
    ({"a": {**GOOD["a"], "data_offsets": [8, 0]}}, bytes(8), "data_offsets"),
    ({"a": {**GOOD["a"], "data_offsets": [0, 8, 8]}}, bytes(8), "data_offsets"),
    ({"a": {**GOOD["a"], "data_offsets": [4, 12]}}, bytes(12), "begin at byte 0"),
    ({**GOOD, "b": {**GOOD["a"]}}, bytes(8), "begin at byte 8"),
    (GOOD, bytes(9), "expected 8 bytes of tensors, got 9"),
    (GOOD, bytes(7), "expected 8 bytes of tensors, got 7"),
    ({}, b"x", "expected 0 bytes of tensors, got 1"),
]


@pytest.mark.parametrize(("header", "data", "message"), BAD_HEADERS, ids=range(len(BAD_HEADERS)))
def test_a_bad_header_is_a_format_error(
    tmp_path: Path, header: Any, data: bytes, message: str
) -> None:
    path = tmp_path / "x"
    put(path, header, data)
    with pytest.raises(FormatError, match=message):
        tensorfile.read(path)


def test_the_header_of_those_tests_is_good(tmp_path: Path) -> None:
    put(tmp_path / "x", GOOD, np.array([1, 2], "<f4").tobytes())
    assert tensorfile.read(tmp_path / "x").tensors["a"].tolist() == [1, 2]


@pytest.mark.parametrize("length", [100, 2**40, 2**63, 2**64 - 1])
def test_a_header_longer_than_the_file_is_a_format_error(tmp_path: Path, length: int) -> None:
    put(tmp_path / "x", b"{}", b"", length=length)
    with pytest.raises(FormatError, match=f"at most 2 bytes, got {length}"):
        tensorfile.read(tmp_path / "x")


@pytest.mark.parametrize("raw", [b"", b"\x01", b"1234567"])
def test_a_file_without_a_length_is_a_format_error(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(FormatError, match=f"at least 8 bytes, got {len(raw)}"):
        tensorfile.read(tmp_path / "x")


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")


# Trees


def test_trees_come_back() -> None:
    tree = {
        "a": [1, 2.5, None, True, "text", (1, (2.0,))],
        "state": (np.arange(3), [np.ones((2, 2), np.float32)]),
        "tuple": {"tuple": [1]},
        "big": 2**127,
        "odd": {"inf": float("inf"), "minus": -float("inf")},
    }
    text, tensors = flatten(tree)
    assert json.loads(text)
    assert sorted(tensors) == ["state.0", "state.1.0"]
    found = unflatten(text, tensors, "here")
    assert np.array_equal(found["state"][0], np.arange(3))
    assert isinstance(found["state"], tuple)
    del found["state"], tree["state"]
    assert found == tree
    assert np.isnan(unflatten(flatten([float("nan")])[0], {}, "here")[0])


@pytest.mark.parametrize(
    "text",
    ['{"tensor": "gone"}', '{"tuple": 1}', '{"float": "1e5"}', '{"dict": 3}', '{"tensor": []}'],
)
def test_a_bad_tree_is_a_format_error(text: str) -> None:
    with pytest.raises(FormatError, match="here: expected a"):
        unflatten(text, {}, "here")


def test_a_value_that_cannot_be_kept_is_named() -> None:
    with pytest.raises(TypeError, match=r"a\.1: expected a value that a file can keep, got object"):
        flatten({"a": [1, object()]})


# Layers


@pytest.mark.parametrize("layer", MODULES, ids=lambda layer: type(layer).__name__)
def test_layers_come_back_bit_by_bit(layer: Any, tmp_path: Path) -> None:
    path = tmp_path / "layer.safetensors"
    layer.save(path)
    found = load(path)
    assert type(found) is type(layer)
    assert found.config() == layer.config()
    assert list(found.params) == list(layer.params)
    for name, param in layer.params.items():
        assert found.params[name].dtype == param.dtype
        assert found.params[name].tobytes() == param.tobytes()
    assert set(load_file(path)) == set(layer.params)


def test_a_class_that_is_not_registered_is_not_saved(tmp_path: Path) -> None:
    class Mine(Linear):
        pass

    with pytest.raises(TypeError, match=r"obj: expected one of .*Linear.*, got Mine"):
        Mine(2, 2).save(tmp_path / "x")


def test_a_file_of_others_is_a_format_error(tmp_path: Path) -> None:
    path = tmp_path / "x"
    save_file({"weight": np.zeros((2, 2), np.float32)}, path, metadata={"format": "pt"})
    with pytest.raises(FormatError, match="expected a file of format 'fastrnn', got 'pt'"):
        load(path)


CHANGES = [
    ({"version": "2"}, "expected version 1, got '2'"),
    ({"model": None}, "expected the key 'model'"),
    ({"model": "[]"}, "expected named values"),
    ({"model": "{}"}, "type: expected one of"),
    ({"model": '{"type": "object"}'}, "type: expected one of"),
    ({"model": '{"type": ["Linear"]}'}, "type: expected one of"),
    ({"model": '{"type": "Linear"}'}, "config: expected named values"),
    (
        {"model": '{"type": "Linear", "config": {}}'},
        "expected a value named 'out_features', got none",
    ),
]
LINEAR = {"in_features": 3, "out_features": 4, "bias": True, "dtype": "float32"}
CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"in_features": 5}, r"weight: expected shape \(4, 5\), got \(4, 3\)"),
    ({"in_features": 2**62}, "weight: expected shape"),
    ({"in_features": -3}, "weight: expected shape"),
    ({"in_features": [3]}, "weight: expected shape"),
    ({"in_features": True, "out_features": 4}, "weight: expected shape"),
    ({"bias": False}, "bias: expected no such array"),
    ({"bias": "yes"}, "bias: expected True or False"),
    ({"dtype": "float64"}, "weight: expected dtype float64, got float32"),
    ({"dtype": "object"}, "dtype: expected 'float32' or 'float64'"),
    ({"surprise": 1}, "surprise"),
]


def altered(path: Path, **changes: Any) -> None:
    tensors, metadata = tensorfile.read(path)
    merged = {k: v for k, v in {**metadata, **changes}.items() if v is not None}
    tensorfile.write(path, tensors, merged)


@pytest.mark.parametrize(("changes", "message"), CHANGES, ids=range(len(CHANGES)))
def test_a_wrong_description_is_a_format_error(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "x"
    Linear(3, 4).save(path)
    altered(path, **changes)
    with pytest.raises(FormatError, match=message):
        load(path)


@pytest.mark.parametrize(("config", "message"), CONFIGS, ids=range(len(CONFIGS)))
def test_a_configuration_that_does_not_fit_is_a_format_error(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    path = tmp_path / "x"
    Linear(3, 4).save(path)
    altered(path, model=json.dumps({"type": "Linear", "config": {**LINEAR, **config}}))
    with pytest.raises(FormatError, match=message):
        load(path)


def test_a_missing_digest_is_a_format_error(tmp_path: Path) -> None:
    path = tmp_path / "x"
    Linear(3, 4).save(path)
    header, data = header_of(path)
    del header["__metadata__"]["sha256"]
    put(path, header, data)
    with pytest.raises(FormatError, match="sha256"):
        load(path)


def test_a_model_nested_without_end_is_a_format_error(tmp_path: Path) -> None:
    path = tmp_path / "x"
    Dropout(0.5).save(path)
    inner = '{"type": "Dropout", "config": {"p": 0.5}}'
    for _ in range(400):
        inner = f'{{"type": "Sequential", "config": {{"layers": [{inner}]}}}}'
    altered(path, model=inner)
    with pytest.raises(FormatError):
        load(path)


@pytest.fixture(scope="module")
def raw_model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("raw") / "x"
    MODULES[-1].save(path)
    return path.read_bytes()


def test_truncated_anywhere_is_a_format_error(tmp_path: Path, raw_model: bytes) -> None:
    path = tmp_path / "x"
    for size in range(0, len(raw_model), 7):
        path.write_bytes(raw_model[:size])
        with pytest.raises(FormatError):
            load(path)
    path.write_bytes(raw_model + b"\0")
    with pytest.raises(FormatError):
        load(path)


def test_one_changed_byte_anywhere_is_noticed(tmp_path: Path, raw_model: bytes) -> None:
    path = tmp_path / "x"
    for place in range(0, len(raw_model), 5):
        for flip in (1, 0x80):
            raw = bytearray(raw_model)
            raw[place] ^= flip
            path.write_bytes(raw)
            try:
                found = load(path)
            except FormatError:
                continue
            # Only the spaces that fill up the header may become other white space.
            assert raw_model[place : place + 1] == b" "
            assert {n: p.tobytes() for n, p in found.params.items()} == {
                n: p.tobytes() for n, p in MODULES[-1].params.items()
            }


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_what_fits_its_digest_is_still_checked(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Change characters of the description at will, with a digest that fits."""
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    MODULES[-1].save(path)
    tensors, metadata = tensorfile.read(path)
    text = list(metadata["model"])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place] = data.draw(st.sampled_from('0123456789-.,:[]{}"eE truefalsnN'))
    tensorfile.write(path, tensors, {**metadata, "model": "".join(text)})
    try:
        found = load(path)
    except FormatError:
        return
    assert {n: p.shape for n, p in found.params.items()} == {
        n: p.shape for n, p in MODULES[-1].params.items()
    }


def test_load_builds_nothing_before_the_shapes_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    Linear(3, 4).save(path)
    config = {**LINEAR, "in_features": 10**6, "out_features": 10**6}
    altered(path, model=json.dumps({"type": "Linear", "config": config}))
    monkeypatch.setattr(Linear, "__init__", lambda *a, **k: pytest.fail("built"))
    with pytest.raises(FormatError, match="weight: expected shape"):
        files.load(path)


def test_layers_of_users_cells_come_back_where_the_cell_is_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"

    def forward(xp: Any, v: Any) -> None:
        v.h_next = xp.sin(v.a)
        v.cos = xp.cos(v.a)

    def backward(xp: Any, v: Any, d: Any) -> None:
        d.a = d.h_next * v.cos

    cell = Cell("SavedSineRNN", (Stage(("a",), forward, backward),))
    layer = register_cell(cell)(3, 4, 2, bidirectional=True, random_state=0)
    layer.save(path)
    found = load(path)
    assert type(found) is type(layer)
    x = np.ones((2, 5, 3), np.float32)
    assert np.array_equal(found(x)[0], layer(x)[0])
    monkeypatch.delitem(files._classes, "SavedSineRNN")
    with pytest.raises(FormatError, match=r"type: expected one of .*LSTM.*, got 'SavedSineRNN'"):
        load(path)


def test_a_path_may_be_bytes(tmp_path: Path) -> None:
    layer = Linear(2, 3, random_state=0)
    path = os.fsencode(tmp_path / "layer.safetensors")
    layer.save(path)
    np.testing.assert_array_equal(load(path).params["weight"], layer.params["weight"])
