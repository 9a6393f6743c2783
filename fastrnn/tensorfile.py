"""Named arrays in one file, in the safetensors layout, written atomically and checked before use.

The layout is that of the ``safetensors`` package (version 0.x), which reads these files too::

    8 bytes     n, the size of the header, little-endian
    n bytes     JSON: {"__metadata__": {text: text},
                       name: {"dtype": "F32", "shape": [...], "data_offsets": [begin, end]}, ...}
    the rest    the arrays' bytes, little-endian and C-ordered, one directly after the other

`write` adds a SHA-256 digest of everything to the metadata, so that a file altered by accident is
refused. The digest is no signature: whoever alters a file on purpose can also renew it, and
therefore `read` checks every size and offset before it allocates or copies anything.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from mmap import ACCESS_READ
from mmap import mmap as mapped
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["FormatError", "TensorFile", "atomic_file", "parse_json", "read", "write"]

Path = str | os.PathLike[str]
Array = NDArray[Any]

HEADER_LIMIT = 100_000_000  # bytes; the safetensors package refuses larger headers, and so do we
DATA_ALIGNMENT = 64  # of the first array: a cache line, so that a mapped file can be read in place

_DTYPES = {
    "F64": "<f8", "F32": "<f4",
    "I64": "<i8", "U64": "<u8", "I32": "<i4", "U32": "<u4", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}


class FormatError(ValueError):
    """A file is not what it should be; the message says what was expected and what came."""


class TensorFile(NamedTuple):
    """What `read` found: the arrays by name, and the metadata (text to text)."""

    tensors: dict[str, Array]
    metadata: dict[str, str]


class _Entry(NamedTuple):
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


# -------------------------------------------------------------------------------------- writing


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that takes the place of `path` only when the block ends without error.

    The bytes go to a new file in the same folder, reach the disk (fsync), and are renamed over
    `path`: a reader sees the old file or the whole new one, also after a crash. On an error, or
    Ctrl-C, the new file is removed and the old one stays. Errors name `path`.
    """
    target = os.path.realpath(path_name(path))  # a link stays a link: what it points to is replaced
    folder, base = os.path.split(target)
    temporary = os.path.join(folder, f".{base}.{secrets.token_hex(6)}")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename == temporary:
            # The caller knows no other name; OSError makes the class that belongs to the number.
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None
        raise
    # The rename itself is only durable once the folder is; not every system lets one open folders.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def path_name(path: Path) -> str:
    """The path as text, for messages.

    Raises
    ------
    TypeError
        If `path` is none.
    """
    try:
        return os.fsdecode(path)
    except TypeError:
        got = type(path).__name__
        raise TypeError(f"path: expected a str or a path-like object, got {got}") from None


def write(path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write named arrays and text to `path`, atomically.

    Parameters
    ----------
    path : str or path-like
        The file; an existing one is replaced once the new one is complete.
    tensors : mapping of str to array
        Arrays of float64, float32, int64, uint64, int32, uint32, uint8 or bool, of any shape.
    metadata : mapping of str to str
        Anything else; `write` adds the key ``"sha256"``.

    Raises
    ------
    TypeError
        An array of another dtype.
    """
    where = path_name(path)
    arrays = {}
    for name, tensor in tensors.items():
        array = np.asarray(tensor)
        dtype = array.dtype.newbyteorder("<")
        if dtype not in _NAMES:
            raise TypeError(f"{name}: expected a dtype among {_dtype_list()}, got {array.dtype}")
        arrays[name] = np.ascontiguousarray(array, dtype=dtype).reshape(array.shape)
    # Wide items first: then every array begins at a multiple of its own item size.
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    entries, end = [], 0
    for name in names:
        array = arrays[name]
        begin, end = end, end + array.nbytes
        entries.append(_Entry(name, array.dtype, array.shape, begin, end))
    digest = _digest(entries, metadata, (_bytes(arrays[name]) for name in names))
    header = _header(entries, {**metadata, "sha256": digest})
    if len(header) > HEADER_LIMIT:
        raise ValueError(
            f"{where}: expected names, shapes and metadata of at most {HEADER_LIMIT} "
            f"bytes, got {len(header)}"
        )
    with atomic_file(path) as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for name in names:
            file.write(_bytes(arrays[name]))


def _header(entries: list[_Entry], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    for entry in entries:
        header[entry.name] = {
            "dtype": _NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [entry.begin, entry.end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-(8 + len(text)) % DATA_ALIGNMENT)


def _bytes(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _digest(
    entries: list[_Entry], metadata: Mapping[str, str], chunks: Iterator[memoryview]
) -> str:
    """SHA-256 over the header without its digest, in a canonical spelling, and the arrays."""
    text = {key: value for key, value in sorted(metadata.items()) if key != "sha256"}
    sha = hashlib.sha256(_header(sorted(entries, key=lambda entry: entry.name), text))
    for chunk in chunks:
        sha.update(chunk)
    return sha.hexdigest()


def _dtype_list() -> str:
    return ", ".join(str(dtype) for dtype in _NAMES)


# -------------------------------------------------------------------------------------- reading


def read(path: Path, mmap: bool = False) -> TensorFile:
    """Read what `write`, or the safetensors package, has written.

    Everything is checked first: the header's size, its JSON (no duplicate names, no NaN, no
    depth that exhausts the stack), each dtype, shape and size, that the arrays lie one directly
    after the other and end with the file, and the digest where there is one.

    Parameters
    ----------
    path : str or path-like
    mmap : bool
        Whether the arrays are to be read-only views of the file, mapped into memory.

    Returns
    -------
    TensorFile
        ``tensors``, arrays that share one buffer in memory and may be written to, and
        ``metadata``. The file itself is closed and no longer needed; a mapped one must not be
        written to or shortened, but may be replaced or removed.

    Raises
    ------
    FormatError
        Something in the file is not as it should be.
    OSError
        The file cannot be opened or read.
    MemoryError
        There is no room for the arrays.
    """
    where = path_name(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = file.read(8)
        if len(length) < 8:
            raise FormatError(f"{where}: expected at least 8 bytes, got {len(length)}")
        n = int.from_bytes(length, "little")
        if n > min(HEADER_LIMIT, size - 8):
            raise FormatError(
                f"{where}: expected a header of at most {min(HEADER_LIMIT, size - 8)} bytes, "
                f"got {n}"
            )
        header = file.read(n)
        entries, metadata = _parse_header(header, size - 8 - n, where)
        if mmap and entries and size > 8 + n:
            data = np.frombuffer(_map(file, where), dtype=np.uint8, offset=8 + n)
            got = len(data)
        else:
            data = np.empty(size - 8 - n, dtype=np.uint8)
            got = _read_into(file, data)
        if len(header) + got < n + len(data):
            raise FormatError(f"{where}: expected {size} bytes, got {8 + len(header) + got}")
    if "sha256" in metadata:
        chunks = (data[entry.begin : entry.end].data for entry in entries)
        digest = _digest(entries, metadata, chunks)
        if digest != metadata["sha256"]:
            raise FormatError(
                f"{where}: the file has been altered: expected the digest {metadata['sha256']!r}, "
                f"got {digest!r}"
            )
    tensors = {
        entry.name: data[entry.begin : entry.end].view(entry.dtype).reshape(entry.shape)
        for entry in entries
    }
    return TensorFile(tensors, metadata)


def _map(file: BinaryIO, where: str) -> mapped:
    try:
        return mapped(file.fileno(), 0, access=ACCESS_READ)
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        raise MemoryError(f"{where}: expected addresses for the file, but there are none") from None


def _read_into(file: BinaryIO, data: Array) -> int:
    view, got = data.data, 0
    while got < len(view):
        count = file.readinto(view[got:])  # type: ignore[attr-defined]
        if not count:
            break
        got += count
    return got


def parse_json(text: str | bytes, where: str) -> Any:
    """Parse JSON from a file nobody vouches for; any fault is a `FormatError` beginning `where`."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise FormatError(f"{where}: expected JSON of moderate depth, got deeper nesting") from None
    except ValueError as error:  # bad UTF-8, bad JSON, a duplicate name, endless digits
        raise FormatError(f"{where}: expected valid JSON, got: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:80]!r} twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"the constant {name}")


def _parse_header(header: bytes, data_size: int, where: str) -> tuple[list[_Entry], dict[str, str]]:
    """Entries in the order of their bytes, every one checked against the others and the size."""
    if not header.startswith(b"{"):
        raise FormatError(f"{where}: expected a header that begins with '{{', got {header[:8]!r}")
    parsed = parse_json(header, f"{where}: header")
    if not isinstance(parsed, dict):
        raise FormatError(f"{where}: header: expected an object, got {type(parsed).__name__}")
    metadata = parsed.pop("__metadata__", {})
    if not (isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())):
        raise FormatError(f"{where}: __metadata__: expected an object of texts")
    entries = [_parse_entry(name, value, where) for name, value in parsed.items()]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    end = 0
    for entry in entries:
        if entry.begin != end:
            raise FormatError(
                f"{where}: tensor {entry.name[:80]!r}: expected to begin at byte {end}, "
                f"right after the one before it, got {entry.begin}"
            )
        end = entry.end
    if end != data_size:
        raise FormatError(f"{where}: expected {end} bytes of tensors, got {data_size}")
    return entries, metadata


def _parse_entry(name: str, value: Any, where: str) -> _Entry:
    what = f"{where}: tensor {name[:80]!r}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(
            f"{what}: expected the keys dtype, shape and data_offsets, got {value!r:.80}"
        )
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(code, str) or code not in _DTYPES:
        raise FormatError(f"{what}: expected a dtype among {', '.join(_DTYPES)}, got {code!r:.80}")
    if not _are_sizes(shape):
        raise FormatError(f"{what}: expected a shape of integers >= 0, got {shape!r:.80}")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise FormatError(f"{what}: expected data_offsets [begin, end], got {offsets!r:.80}")
    if len(shape) > 32 or max(shape, default=0) >= 2**63:
        raise FormatError(f"{what}: expected at most 32 dimensions below 2^63, got {shape!r:.80}")
    dtype = np.dtype(_DTYPES[code])
    expected = math.prod(shape) * dtype.itemsize  # Python's integers: nothing can overflow
    if offsets[1] - offsets[0] != expected:
        raise FormatError(
            f"{what}: expected {expected} bytes for shape {tuple(shape)} of {code}, "
            f"got {offsets[1] - offsets[0]}"
        )
    return _Entry(name, dtype, tuple(shape), offsets[0], offsets[1])


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
