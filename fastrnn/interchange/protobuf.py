"""Protocol buffers' wire format: the little of it that ONNX files need.

Reading trusts nothing: a message is a view into the file, no length reaches beyond the message that
holds it, and a `Budget` bounds how many fields a file may have, so that neither time nor memory
exceed what its size justifies. Messages within messages are the caller's to ask for, one by one.

A message to be written is a list of pieces of bytes, so that large arrays are never copied.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastrnn.tensorfile import FormatError

__all__ = ["Budget", "Pieces", "as_signed", "data", "fields", "integer", "integers", "message"]

Pieces = list[bytes | memoryview]
Value = int | memoryview

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Budget:
    """How many more fields and numbers may be read of a file, which each take memory and time."""

    __slots__ = ("left", "whole")

    def __init__(self, file_size: int) -> None:
        self.whole = self.left = 6144 + file_size // 128

    def take(self, count: int = 1) -> None:
        """Count fields or numbers; a FormatError if they are too many."""
        self.left -= count
        if self.left < 0:
            raise FormatError(f"expected at most {self.whole} fields in a file of this size")


# --- reading -------------------------------------------------------------------------------------


def _varint(buffer: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at a byte, below 2^64, and where the next thing begins."""
    value = 0
    for shift, byte in zip(range(0, 70, 7), buffer[at : at + 10], strict=False):
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + shift // 7 + 1
    raise FormatError("expected a number of at most ten bytes, got the end or more of them")


def fields(buffer: memoryview, budget: Budget) -> Iterator[tuple[int, Value]]:
    """The fields of a message: number and value, in the file's order.

    A value is an int, or the bytes of a text, a message, an array or a fixed number.

    Raises
    ------
    FormatError
        If the bytes are no message.
    """
    at = 0
    while at < len(buffer):
        budget.take()
        tag, at = _varint(buffer, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise FormatError("expected a field's number, got 0")
        if kind == VARINT:
            value, at = _varint(buffer, at)
            yield number, value
            continue
        if kind == BYTES:
            size, at = _varint(buffer, at)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise FormatError(f"expected a field of wire type 0, 1, 2 or 5, got {kind}")
        if size > len(buffer) - at:
            raise FormatError(f"expected at most {len(buffer) - at} bytes more, got {size}")
        yield number, buffer[at : at + size]
        at += size


def as_signed(value: int) -> int:
    """The signed number that a varint stands for."""
    return value - (1 << 64) if value >= 1 << 63 else value


def integers(value: Value, budget: Budget) -> list[int]:
    """The signed numbers of one field: a number alone, or packed ones."""
    if isinstance(value, int):
        return [as_signed(value)]
    found, at = [], 0
    while at < len(value):
        budget.take()
        one, at = _varint(value, at)
        found.append(as_signed(one))
    return found


# --- writing -------------------------------------------------------------------------------------


def _encoded(value: int) -> bytes:
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def integer(number: int, value: int) -> Pieces:
    """A field that holds a number."""
    return [_encoded(number << 3 | VARINT) + _encoded(value)]


def real(number: int, value: float) -> Pieces:
    """A field that holds a float32."""
    return [_encoded(number << 3 | FIXED32) + np.array(value, "<f4").tobytes()]


def data(number: int, value: str | bytes | np.ndarray) -> Pieces:
    """A field that holds a text, or the bytes of an array."""
    if isinstance(value, str):
        value = value.encode()
    raw: Any = value if isinstance(value, bytes) else _bytes_of(value)
    return [_encoded(number << 3 | BYTES) + _encoded(len(raw)), raw]


def _bytes_of(array: np.ndarray) -> memoryview:
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return array.reshape(-1).view(np.uint8).data


def message(number: int, parts: Sequence[Pieces]) -> Pieces:
    """A field that holds a message of these fields."""
    pieces = [piece for part in parts for piece in part]
    return [_encoded(number << 3 | BYTES) + _encoded(sum(map(len, pieces))), *pieces]
