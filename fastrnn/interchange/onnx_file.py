"""ONNX files as graphs of nodes: read without the onnx package, every size checked before use.

Of the format (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) this reads the graph, its
nodes with their attributes, and tensors; it skips documentation, functions and training, and
refuses graphs within graphs, sparse tensors and data in other files where they are asked for.
Tensors stay views into the file's bytes until someone wants their values.
"""

from __future__ import annotations

import math
import mmap
import os
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from fastrnn.interchange.protobuf import Budget, as_signed, fields, integers
from fastrnn.tensorfile import FormatError, path_name

__all__ = ["DTYPES", "Graph", "Node", "Tensor", "read"]

Source = str | os.PathLike[str] | bytes | bytearray | memoryview

DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"), 2: np.dtype("u1"), 3: np.dtype("i1"), 6: np.dtype("<i4"),
    7: np.dtype("<i8"), 9: np.dtype("?"), 10: np.dtype("<f2"), 11: np.dtype("<f8"),
}  # fmt: skip
"""NumPy's types by TensorProto's numbers; of the others no tensor is read."""

LARGEST_RANK = 32


@dataclass(frozen=True, slots=True)
class Tensor:
    """A TensorProto whose values have not been looked at yet."""

    raw: memoryview
    budget: Budget

    def name(self) -> str:
        """Its name."""
        for number, value in fields(self.raw, self.budget):
            if number == 8:
                return text(value)
        return ""

    def array(self) -> np.ndarray:
        """Its values: where they lie in the file, if they are numbers of fixed size."""
        kind, dims, external = 0, [], False
        chunks: dict[int, list[Any]] = {}
        for number, value in fields(self.raw, self.budget):
            if number == 1:
                dims += integers(value, self.budget)
            elif number == 2:
                kind = whole(value)
            elif number in (13, 14):
                external = external or number == 13 or value != 0
            elif number in _VALUES:
                chunks.setdefault(number, []).append(value)
        if external:
            raise FormatError("tensor: expected its values in this file, got those in another")
        if kind not in DTYPES:
            raise FormatError(f"tensor: expected a data type among {sorted(DTYPES)}, got {kind}")
        if len(dims) > LARGEST_RANK or not all(0 <= n < 2**31 for n in dims):
            raise FormatError(f"tensor: expected sizes in [0, 2^31), got {dims!s:.80}")
        dtype, count = DTYPES[kind], math.prod(dims)
        if len(chunks) > 1:
            raise FormatError("tensor: expected its values in one form, got several")
        for number, parts in chunks.items():
            flat = _values(number, parts, dtype, self.budget)
            if flat.size != count:
                raise FormatError(
                    f"tensor: expected {count} values for shape {tuple(dims)}, got {flat.size}"
                )
            return flat.reshape(dims)
        if count:
            raise FormatError(f"tensor: expected {count} values for shape {tuple(dims)}, got none")
        return np.empty(dims, dtype)


# Where a tensor's values may stand, and of which type they are there; int32_data also holds small
# types.
_VALUES: dict[int, Any] = {4: "<f4", 10: "<f8", 5: None, 7: None, 9: bytes}
_IN_INTEGERS = {5: "<i4 u1 i1 ? <f2", 7: "<i8"}


def _values(number: int, parts: list[Any], dtype: np.dtype, budget: Budget) -> np.ndarray:
    """The values in the parts of one field, flat."""
    if number in _IN_INTEGERS:
        if dtype not in [np.dtype(code) for code in _IN_INTEGERS[number].split()]:
            raise FormatError(f"tensor: expected values of {dtype}, got integers")
        whole_numbers = [one for part in parts for one in integers(part, budget)]
        wide = np.array(whole_numbers, np.int64)
        return wide.astype(np.uint16).view("<f2") if dtype == np.float16 else wide.astype(dtype)
    if _VALUES[number] is bytes:
        if len(parts) > 1:
            raise FormatError("tensor: expected its bytes once, got them again")
    elif dtype != np.dtype(_VALUES[number]):
        raise FormatError(f"tensor: expected values of {dtype}, got those of {_VALUES[number]}")
    views = []
    for part in parts:
        if isinstance(part, int) or len(part) % dtype.itemsize:
            raise FormatError(f"tensor: expected whole numbers of {dtype.itemsize} bytes")
        views.append(np.frombuffer(part, dtype))
    return views[0] if len(views) == 1 else np.concatenate(views)


@dataclass(frozen=True, slots=True)
class Node:
    """One operation of a graph."""

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    def __str__(self) -> str:
        return f"node {self.label!r} ({self.op_type})"

    @property
    def label(self) -> str:
        """What to call it: its name, or that of its first result."""
        return self.name or next(filter(None, self.outputs), "")

    def attribute(self, name: str, kind: type, default: Any = None) -> Any:
        """An attribute of this type, or the default if there is none.

        Raises
        ------
        FormatError
            If it is of another type.
        """
        value = self.attributes.get(name, default)
        items = value if isinstance(value, list) else [value]
        if name in self.attributes and not all(type(item) is kind for item in items):
            raise FormatError(f"{self}: {name}: expected {kind.__name__}, got {value!r:.80}")
        return value

    def integer(self, name: str, default: int) -> int:
        """An attribute that is one int."""
        value = self.attribute(name, int, default)
        if not isinstance(value, int):
            raise FormatError(f"{self}: {name}: expected one int, got {value!r:.80}")
        return value

    def listed(self, name: str, kind: type) -> list[Any]:
        """An attribute that is a list; empty if there is none."""
        value = self.attribute(name, kind, [])
        if not isinstance(value, list):
            raise FormatError(f"{self}: {name}: expected a list, got {value!r:.80}")
        return value


_NONE: dict[str, Any] = {}


@dataclass(slots=True)
class Graph:
    """What a file computes: nodes in their order, constants, inputs and outputs by name.

    Attributes
    ----------
    inputs : dict of str to tuple or None
        The sizes of each input that is no constant, None where one is not fixed, and None for all
        where even their number is not told.
    input_dtypes : dict of str to int
        TensorProto's numbers of their types.
    size : int
        Bytes of the file, which bound what is made of it.
    """

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, tuple[int | None, ...] | None] = field(default_factory=dict)
    input_dtypes: dict[str, int] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    opset: int = 1
    size: int = 0


def read(source: Source) -> Graph:
    """Read a model.

    Parameters
    ----------
    source : path, or bytes of a file

    Raises
    ------
    FormatError
        If the bytes are no ONNX model. The message names the file.
    OSError
        If the file cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        where, raw = "model", memoryview(source).cast("B")
    else:
        where = path_name(source)
        with open(source, "rb") as file:
            raw = _mapped(file)
    try:
        return _model(raw)
    except FormatError as error:
        raise FormatError(f"{where}: {error}") from None


def _mapped(file: BinaryIO) -> memoryview:
    """The file's bytes where the system keeps them, so that reading takes no memory for them."""
    try:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (ValueError, OSError):  # an empty file, or one that is no file on a disk
        return memoryview(file.read())


def _model(raw: memoryview) -> Graph:
    budget = Budget(len(raw))
    found, opset = None, 1
    for number, value in fields(raw, budget):
        if number == 7:
            if found is not None:
                raise FormatError("expected one graph, got a second")
            found = _graph(message(value), budget)
        elif number == 8:
            opset = _opset(message(value), budget, opset)
    if found is None:
        raise FormatError("expected an ONNX model, got no graph")
    found.opset, found.size = opset, len(raw)
    return found


def _opset(raw: memoryview, budget: Budget, known: int) -> int:
    domain, version = "", known
    for number, value in fields(raw, budget):
        if number == 1:
            domain = text(value)
        elif number == 2:
            version = whole(value)
    return version if domain in ("", "ai.onnx") else known


def _graph(raw: memoryview, budget: Budget) -> Graph:
    graph = Graph()
    made: set[str] = set()
    for number, value in fields(raw, budget):
        if number == 1:
            node = _node(message(value), budget)
            graph.nodes.append(node)
            for name in filter(None, node.outputs):
                if name in made:
                    raise FormatError(f"{node}: expected a new name, got {name[:80]!r} again")
                made.add(name)
        elif number == 5:
            tensor = Tensor(message(value), budget)
            name = tensor.name()
            if name in graph.constants:
                raise FormatError(f"expected one constant {name[:80]!r}, got a second")
            graph.constants[name] = tensor
        elif number == 11:
            name, kind, shape = _value_info(message(value), budget)
            graph.inputs[name] = shape
            graph.input_dtypes[name] = kind
        elif number == 12:
            graph.outputs.append(_value_info(message(value), budget)[0])
    for name in graph.constants:  # older files list constants among the inputs
        graph.inputs.pop(name, None)
    return graph


def _node(raw: memoryview, budget: Budget) -> Node:
    inputs, outputs, attributes = [], [], {}
    name = op_type = domain = ""
    for number, value in fields(raw, budget):
        if number == 1:
            inputs.append(text(value))
        elif number == 2:
            outputs.append(text(value))
        elif number == 3:
            name = text(value)
        elif number == 4:
            op_type = text(value)
        elif number == 5:
            key, content = _attribute(message(value), budget)
            attributes[key] = content
        elif number == 7:
            domain = text(value)
    domain = "" if domain == "ai.onnx" else domain
    return Node(name, op_type, domain, tuple(inputs), tuple(outputs), attributes or _NONE)


def _attribute(raw: memoryview, budget: Budget) -> tuple[str, Any]:
    """Name and value; None for a value of a kind that no operation here has."""
    name, kind = "", 0
    one: dict[int, Any] = {2: 0.0, 3: 0, 4: "", 5: None}
    many: dict[int, list[Any]] = {7: [], 8: [], 9: []}
    found = 0
    for number, value in fields(raw, budget):
        if number == 1:
            name = text(value)
        elif number == 20:
            kind = whole(value)
        elif number == 2:
            one[2] = _floats(value, budget)[-1]
        elif number == 3:
            one[3] = as_signed(whole(value))
        elif number == 4:
            one[4] = str(message(value), "utf-8", "replace")
        elif number == 5:
            one[5] = Tensor(message(value), budget)
        elif number == 7:
            many[7] += _floats(value, budget)
        elif number == 8:
            many[8] += integers(value, budget)
        elif number == 9:
            many[9].append(str(message(value), "utf-8", "replace"))
        if number in one or number in many:
            found = number
    # AttributeProto's types are the fields' numbers but one; files before 2017 leave them out.
    number = kind + 1 if 1 <= kind <= 8 else found
    return name, many[number] if number in many else one.get(number)


def _floats(value: Any, budget: Budget) -> list[float]:
    if isinstance(value, int) or not len(value) or len(value) % 4:
        raise FormatError("expected floats of four bytes")
    budget.take(len(value) // 4)
    return np.frombuffer(value, "<f4").tolist()


def _value_info(raw: memoryview, budget: Budget) -> tuple[str, int, tuple[int | None, ...] | None]:
    """Name, type of the elements, and sizes."""
    name, kind, shape = "", 0, None
    for number, value in fields(raw, budget):
        if number == 1:
            name = text(value)
        elif number == 2:
            for inner, tensor in fields(message(value), budget):
                if inner == 1:
                    kind, shape = _tensor_type(message(tensor), budget)
    return name, kind, shape


def _tensor_type(raw: memoryview, budget: Budget) -> tuple[int, tuple[int | None, ...] | None]:
    kind, shape = 0, None
    for number, value in fields(raw, budget):
        if number == 1:
            kind = whole(value)
        elif number == 2:
            sizes: list[int | None] = []
            for inner, dim in fields(message(value), budget):
                if inner == 1:
                    size = None
                    for one, content in fields(message(dim), budget):
                        size = as_signed(whole(content)) if one == 1 else size
                    sizes.append(size if size is None or size >= 0 else None)
            shape = tuple(sizes)
    return kind, shape


def message(value: int | memoryview) -> memoryview:
    """A field's value that must be bytes."""
    if isinstance(value, int):
        raise FormatError(f"expected a message, got the number {value}")
    return value


def whole(value: int | memoryview) -> int:
    """A field's value that must be a number."""
    if not isinstance(value, int):
        raise FormatError(f"expected a number, got {len(value)} bytes")
    return value


def text(value: int | memoryview) -> str:
    """A field's value that must be a text."""
    try:
        return str(message(value), "utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"expected a text in UTF-8, got: {error}") from None
