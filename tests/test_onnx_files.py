"""ONNX's file format, read and written by hand: nothing in a file is believed."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import fuzz_onnx
import numpy as np
import pytest

import fastrnn
from fastrnn.interchange import onnx_file, protobuf
from fastrnn.interchange.onnx_file import DTYPES, read
from fastrnn.interchange.protobuf import Budget, data, fields, integer, integers, message, real
from fastrnn.tensorfile import FormatError


def joined(*parts: list[Any]) -> bytes:
    return b"".join(bytes(piece) for part in parts for piece in part)


def model(*parts: list[Any]) -> bytes:
    """A model whose graph has these fields."""
    return joined(message(7, parts), message(8, [integer(2, 17)]))


def test_fields_come_back() -> None:
    raw = joined(
        integer(1, 0), integer(2, 300), integer(3, -1), real(4, 1.5), data(5, "ü"),
        data(6, np.arange(3.0)), message(7, [integer(1, 2**63 - 1)]),
    )  # fmt: skip
    budget = Budget(0)
    found = dict(fields(memoryview(raw), budget))
    assert (found[1], found[2], protobuf.as_signed(found[3])) == (0, 300, -1)  # type: ignore[arg-type]
    assert np.frombuffer(found[4], "<f4") == 1.5  # type: ignore[arg-type]
    assert onnx_file.text(found[5]) == "ü"
    assert np.frombuffer(found[6], "<f8").tolist() == [0, 1, 2]  # type: ignore[arg-type]
    assert list(fields(onnx_file.message(found[7]), budget)) == [(1, 2**63 - 1)]
    packed = joined(data(1, joined(integer(1, 5), integer(1, 7))))
    ((_, value),) = fields(memoryview(packed), budget)
    assert integers(value, budget) == [8, 5, 8, 7]


BAD_FIELDS = [
    (b"\x08", "at most ten bytes"),  # a number that never comes
    (b"\x80" * 11, "at most ten bytes"),
    (b"\x00\x00", "expected a field's number, got 0"),
    (b"\x0b", "wire type 0, 1, 2 or 5, got 3"),
    (b"\x0a\x05abc", "expected at most 3 bytes more, got 5"),
    (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "expected at most 0 bytes more, got 18446"),
    (b"\x0d\x00\x00", "expected at most 2 bytes more, got 4"),
]


@pytest.mark.parametrize(("raw", "message"), BAD_FIELDS)
def test_bad_fields(raw: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        list(fields(memoryview(raw), Budget(len(raw))))
    with pytest.raises(FormatError):
        fastrnn.from_onnx(raw)


def tensor(array: np.ndarray, name: str = "c") -> list[Any]:
    code = next(code for code, dtype in DTYPES.items() if dtype == array.dtype)
    dims = [integer(1, n) for n in array.shape]
    return message(5, [*dims, integer(2, code), data(8, name), data(9, array)])


def constant(raw: bytes) -> np.ndarray:
    return read(raw).constants["c"].array()


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_tensors_come_back(dtype: np.dtype) -> None:
    for array in (
        np.arange(6).reshape(2, 3).astype(dtype),
        np.array(1, dtype),
        np.zeros((0, 2), dtype),
    ):
        found = constant(model(tensor(array)))
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, array)


def test_tensors_by_their_typed_fields() -> None:
    start = [integer(1, 2), data(8, "c")]
    floats = message(5, [*start, integer(2, 1), data(4, np.array([1.5, 2], "<f4"))])
    assert constant(model(floats)).tolist() == [1.5, 2]
    apart = message(5, [*start, integer(2, 1), real(4, 1.5), real(4, 2.0)])
    assert constant(model(apart)).tolist() == [1.5, 2]
    ints = message(5, [*start, integer(2, 7), integer(7, -1), integer(7, 5)])
    assert constant(model(ints)).tolist() == [-1, 5]
    packed = message(5, [*start, integer(2, 6), data(5, b"\x03\x04")])
    assert constant(model(packed)).tolist() == [3, 4]
    half = message(5, [*start, integer(2, 10), data(5, b"\x80\x78\x00")])  # 0x3c00 is 1
    assert constant(model(half)).tolist() == [1, 0]


C = data(8, "c")
BAD_TENSORS: list[tuple[list[Any], str]] = [
    ([C, integer(2, 16)], "expected a data type among"),
    ([C], "expected a data type among .*got 0"),
    ([C, integer(2, 1), integer(1, 2), data(9, b"1234")], "expected 2 values for shape .2,., got"),
    ([C, integer(2, 1), integer(1, 2)], "expected 2 values .* got none"),
    ([C, integer(2, 1), integer(1, 1), data(9, b"123")], "expected whole numbers of 4 bytes"),
    ([C, integer(2, 1), integer(1, -1), data(9, b"")], "expected sizes in"),
    ([C, integer(2, 1), integer(1, 2**40)], "expected sizes in"),
    ([C, integer(2, 1), *[integer(1, 1)] * 40, data(9, b"1234")], "expected sizes in"),
    ([C, integer(2, 1), *[integer(1, 2**30)] * 30], "expected [0-9]{200,} values"),
    ([C, integer(2, 1), integer(1, 1), data(4, b"1234"), data(9, b"1234")], "in one form, got sev"),
    ([C, integer(2, 1), integer(1, 2), data(9, b"1234"), data(9, b"1234")], "once, got them again"),
    ([C, integer(2, 11), integer(1, 1), data(4, b"1234")], "expected values of float64, got those"),
    ([C, integer(2, 1), integer(1, 1), integer(7, 1)], "expected values of float32, got integers"),
    ([C, integer(2, 1), integer(1, 1), integer(14, 1)], "in this file, got those in another"),
    ([C, integer(2, 1), data(13, b"")], "in this file, got those in another"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "text"), BAD_TENSORS, ids=range(len(BAD_TENSORS)))
def test_bad_tensors(parts: list[Any], text: str) -> None:
    with pytest.raises(FormatError, match=text):
        constant(model(message(5, parts)))


def test_bad_models(tmp_path: Path) -> None:
    array = tensor(np.zeros(1, np.float32))
    node = message(1, [data(2, "a"), data(4, "Relu")])
    for raw, text in (
        (b"", "model: expected an ONNX model, got no graph"),
        (joined(message(7, []), message(7, [])), "expected one graph, got a second"),
        (joined(integer(7, 1)), "expected a message, got the number 1"),
        (model(array, array), "expected one constant 'c', got a second"),
        (model(node, node), "expected a new name, got 'a' again"),
        (model(message(1, [data(4, b"\xff")])), "expected a text in UTF-8"),
        (model(message(1, [integer(4, 3)])), "expected a message, got the number 3"),
        (model(message(5, [data(2, b"x"), data(8, "c")]), message(12, [data(1, "c")])), "a number"),
    ):
        with pytest.raises(FormatError, match=text):
            fastrnn.from_onnx(raw)
    (tmp_path / "x.onnx").write_bytes(b"\x08")
    with pytest.raises(FormatError, match=r"x\.onnx: expected a number of at most ten bytes"):
        fastrnn.from_onnx(tmp_path / "x.onnx")
    with pytest.raises(FileNotFoundError):
        fastrnn.from_onnx(tmp_path / "none.onnx")
    with pytest.raises(TypeError, match="path: expected a str or a path-like object, got int"):
        fastrnn.from_onnx(3)


def hostile() -> dict[str, bytes]:
    """Files that are small and ask for much."""
    n = 12_000
    x = message(11, [data(1, "x"), message(2, [message(1, [message(2, [message(1, [])])])])])
    chain = [
        message(1, [data(1, f"{i}" if i else "x"), data(2, f"{i + 1}"), data(4, "Relu")])
        for i in range(1_500)
    ]
    weight = tensor(np.zeros((64, 64), np.float32), "W")
    used = [
        message(1, [data(1, f"{i}" if i else "x"), data(1, "W"), data(2, f"{i + 1}"),
                    data(4, "MatMul")])
        for i in range(60)
    ]  # fmt: skip
    doubled = [
        message(1, [data(1, f"c{i}"), data(1, f"c{i}"), data(2, f"c{i + 1}"), data(4, "Concat")])
        for i in range(40)
    ]
    doubled.append(message(1, [data(1, "x"), data(1, "c40"), data(2, "y"), data(4, "Gather")]))
    seed = tensor(np.zeros(8, np.float32), "c0")
    return {
        "nodes of nothing": model(*[message(1, [])] * n),
        "nodes with names": model(*[message(1, [data(2, str(i))]) for i in range(n)]),
        "small numbers": model(message(1, [message(5, [data(8, b"\x01" * n)])])),
        "small floats": model(message(1, [message(5, [data(7, bytes(4 * n))])])),
        "sizes": model(message(5, [C, data(1, b"\x01" * n)]), message(12, [data(1, "c")])),
        "a long chain": model(*chain, x, message(12, [data(1, "1500")])),
        "one weight many times": model(*used, weight, x, message(12, [data(1, "60")])),
        "constants that double": model(*doubled, seed, x, message(12, [data(1, "y")])),
        "fields within fields": joined(*[message(7, [message(1, [data(1, "x" * 100)])])]) * 500,
    }  # fmt: skip


@pytest.mark.parametrize("name", hostile())
def test_small_files_that_ask_for_much(name: str) -> None:
    raw = hostile()[name]
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            fastrnn.from_onnx(raw)
        assert tracemalloc.get_traced_memory()[1] <= 2 * len(raw) + (1 << 20)
    finally:
        tracemalloc.stop()


def test_memory_of_a_large_file(tmp_path: Path) -> None:
    """Parameters and gradients, and nothing besides: random numbers are not drawn for either."""
    path = tmp_path / "model.onnx"
    fastrnn.LSTM(200, 256).to_onnx(path)
    fastrnn.from_onnx(path)  # what is imported does not count
    tracemalloc.start()
    try:
        layer = fastrnn.from_onnx(path)
        assert tracemalloc.get_traced_memory()[1] <= 2 * path.stat().st_size + (1 << 20)
    finally:
        tracemalloc.stop()
    assert layer.params["weight_hh_l0"].any()


def test_mutated_files() -> None:
    told: Counter[str] = Counter()
    assert not list(fuzz_onnx.failures(500, 3, told))
    assert min(told["loaded"], told["refused"]) > 20


@pytest.mark.slow
def test_many_mutated_files() -> None:
    told: Counter[str] = Counter()
    assert not list(fuzz_onnx.failures(15_000, 4, told))
