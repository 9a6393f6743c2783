"""Fitted networks that judge sequences, and all that goes with them, in files and out of them.

A file is read in an order that costs nothing before it is known to fit: first the names and shapes
of all layers' arrays, from the configuration alone, then the layers, then the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn.files import FormatError, build, check_tensors, find
from fastrnn.sequences.data import LAYOUTS, MISSING, Channels
from fastrnn.sequences.network import Encoder, SequenceNetwork, Spec, network_specs
from fastrnn.sequences.pooling import POOLINGS
from fastrnn.sequences.reading import NumberReader
from fastrnn.sequences.targets import Classes, Labels, Quantities
from fastrnn.serving.judge import Judge
from fastrnn.text.encoders import SpellingEncoder, TokenEncoder, encoder_specs
from fastrnn.text.reading import StepReader, TokenReader
from fastrnn.text.vocabulary import LEVELS, TOKENS, Vocabulary
from fastrnn.training.records import plain_parameters

__all__ = ["TARGETS", "Front", "Tensors", "describe_judge", "describe_network", "expect",
           "network_dtype", "read_judge", "read_network"]  # fmt: skip

Array = NDArray[Any]
Described = tuple[dict[str, Any], dict[str, Array]]

TARGETS = {
    "RNNClassifier": ("classes", "labels"),
    "RNNRegressor": ("quantities",),
    "TextClassifier": ("classes", "labels"),
    "SequenceTagger": ("classes",),
}
DTYPES = ("float32", "float64")
NUMBERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
           "float16", "float32", "float64")  # fmt: skip


class Tensors:
    """The arrays of a file, each to be taken once."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._left = dict(tensors)

    def take(self, name: str, ndim: int, dtype: type = np.float64) -> Array:
        """The array of a name, of so many dimensions and this dtype."""
        if name not in self._left:
            raise FormatError(f"{name}: expected an array of {ndim} dimensions, got none")
        array: Array = self._left.pop(name)
        if array.ndim != ndim or array.dtype.newbyteorder("=") != dtype:
            raise FormatError(
                f"{name}: expected an array of {ndim} dimensions and {np.dtype(dtype)}, "
                f"got {array.ndim} and {array.dtype}"
            )
        return array

    def rest(self) -> dict[str, Any]:
        """Those that nobody has taken."""
        return self._left


def expect(mapping: Any, key: str, kind: type, *, optional: bool = False) -> Any:
    """A value that a file must tell, of exactly this type; None if it may be.

    Raises
    ------
    FormatError
        If it is of another.
    """
    if not isinstance(mapping, dict):
        raise FormatError(f"{key}: expected named values, got {mapping!r:.80}")
    value = mapping.get(key)
    if type(value) is not kind and not (optional and value is None):
        raise FormatError(f"{key}: expected {kind.__name__}, got {value!r:.80}")
    return value


# Networks


def describe_network(network: SequenceNetwork, made_with: Mapping[str, Any]) -> Described:
    """What a network was made with, and the arrays as ``<layer>.<name>``."""
    tensors = {
        f"{key}.{name}": array
        for key, layer in network.named.items()
        for name, array in layer.params.items()
    }
    told = {
        "made": plain_parameters(made_with, made_with),
        "pooling": network.pool.pooling,
        "dtype": network.rnn.dtype.name,
    }
    return told, tensors


class Front(NamedTuple):
    """What stands before the recurrent layers.

    Attributes
    ----------
    width : int
        D, of what enters them.
    specs : mapping of str to Spec
        Its layers.
    make : callable or None
        The encoder of these layers.
    beside : int
        E, of what the linear layer sees past the recurrent layers.
    aside : callable or None
        What gives that.
    """

    width: int
    specs: Mapping[str, Spec] = {}
    make: Callable[[Mapping[str, Any]], Encoder] | None = None
    beside: int = 0
    aside: Callable[[Sequence[Any]], Array] | None = None


def network_dtype(told: Mapping[str, Any]) -> np.dtype:
    """What a network of a file computes in."""
    dtype = expect(told, "dtype", str)
    if dtype not in DTYPES:
        raise FormatError(f"dtype: expected {' or '.join(DTYPES)}, got {dtype!r:.80}")
    return np.dtype(dtype)


def read_network(
    told: Mapping[str, Any], tensors: Mapping[str, Any], front: Front, n_outputs: int
) -> SequenceNetwork:
    """The network that `describe_network` has told of, with these arrays and no others."""
    made = expect(told, "made", dict)
    pooling = expect(told, "pooling", str, optional=True)
    if pooling is not None and (pooling not in POOLINGS or made.get("pooling") != pooling):
        raise FormatError(f"pooling: expected one of {', '.join(POOLINGS)}, got {pooling!r:.80}")
    specs = network_specs(
        made, front.width, n_outputs, network_dtype(told),
        pooled=pooling is not None, beside=front.beside,
    )  # fmt: skip
    own: dict[str, dict[str, Any]] = {key: {} for key in (*front.specs, *specs)}
    for name, array in tensors.items():
        key, _, inner = name.partition(".")
        if key not in own:
            raise FormatError(f"{name[:80]}: expected no such array, got one")
        own[key][inner] = array
    every = {**front.specs, **specs}
    for key, (kind, config) in every.items():  # all of them, before any is built
        try:
            check_tensors(find(kind).shapes(config), own[key])
        except FormatError as error:
            raise FormatError(f"{key}.{error}") from None
    layers = {
        key: build(kind, {**config, "random_state": 0}, own[key])
        for key, (kind, config) in every.items()
    }
    encoder = None if front.make is None else front.make({key: layers[key] for key in front.specs})
    return SequenceNetwork(
        {key: layers[key] for key in specs}, pooling, encoder, beside=front.aside
    )


# What turns X into items and outputs into answers


def describe_judge(judge: Judge, made_with: Mapping[str, Any]) -> Described:
    """All that answers, for a file."""
    told, tensors = describe_network(judge.network, made_with)
    reader, targets = judge.reader, judge.targets
    inner = reader.inner if isinstance(reader, StepReader) else reader
    if isinstance(inner, TokenReader):
        spelled = inner.characters
        told["reader"] = {
            "kind": "tokens",
            "level": inner.level,
            "vocabulary": inner.vocabulary.config(),
            "characters": None if spelled is None else spelled.config(),
        }
    else:
        assert isinstance(inner, NumberReader)
        told["reader"] = {
            "kind": "numbers",
            "width": inner.width,
            "layout": inner.layout,
            "missing": inner.missing,
            "columns": inner.columns,
            "names": None if inner.names is None else list(map(str, inner.names)),
            "scaled": inner.channels is not None,
        }
        if inner.channels is not None:
            tensors["channels.mean"] = np.asarray(inner.channels.mean, np.float64)
            tensors["channels.scale"] = np.asarray(inner.channels.scale, np.float64)
    if isinstance(targets, Quantities):
        told["targets"] = {"kind": "quantities", "one": targets.one}
        tensors |= {"targets.center": targets.center, "targets.scale": targets.scale}
    elif isinstance(targets, Labels):
        told["targets"] = {"kind": "labels", "n": targets.n_outputs}
    else:
        told["targets"] = {"kind": "classes", **_describe_classes(targets.classes)}
    return told, tensors


def read_judge(
    told: Mapping[str, Any], tensors: Tensors, kinds: Sequence[str], n_threads: int | None
) -> Judge:
    """All that answers, out of a file.

    Parameters
    ----------
    told : mapping
        What `describe_judge` has told.
    tensors : Tensors
        Its arrays, and none besides.
    kinds : sequence of str
        Of the targets there may be.
    n_threads : int or None
    """
    steps = told.get("pooling") is None
    dtype = network_dtype(told)
    reader, front = _read_reader(told, tensors, dtype)
    n_outputs, make_targets = _read_targets(expect(told, "targets", dict), tensors, kinds)
    network = read_network(told, tensors.rest(), front, n_outputs)
    return Judge(network, StepReader(reader) if steps else reader, make_targets(), n_threads)


def _read_reader(
    told: Mapping[str, Any], tensors: Tensors, dtype: np.dtype
) -> tuple[NumberReader | TokenReader, Front]:
    about = expect(told, "reader", dict)
    kind = expect(about, "kind", str)
    if kind == "tokens":
        level = expect(about, "level", str)
        if level not in (*LEVELS, TOKENS):
            raise FormatError(f"level: expected a kind of tokens, got {level!r:.80}")
        words = Vocabulary(**expect(about, "vocabulary", dict))
        spelling = expect(about, "characters", dict, optional=True)
        characters = None if spelling is None else Vocabulary(**spelling)
        made = expect(told, "made", dict)
        n = None if characters is None else len(characters)
        specs = encoder_specs(made, len(words), n, dtype)
        width = specs["embedding"][1]["embedding_dim"]
        if n is not None:
            width += 2 * specs["char_rnn"][1]["hidden_size"]
        encoder = TokenEncoder if n is None else SpellingEncoder
        front = Front(width, specs, lambda layers: encoder(layers, None, 0.0, 0))
        return TokenReader(level, words, characters), front
    if kind != "numbers":
        raise FormatError(f"reader: expected 'numbers' or 'tokens', got {kind!r:.80}")
    width = expect(about, "width", int)
    columns = expect(about, "columns", int, optional=True)
    names = expect(about, "names", list, optional=True)
    if about.get("layout") not in LAYOUTS or about.get("missing") not in MISSING:
        raise FormatError(f"reader: expected a layout and what is missing, got {about!r:.80}")
    if names is not None and not all(isinstance(name, str) for name in names):
        raise FormatError(f"names: expected texts, got {names!r:.80}")
    channels = None
    if expect(about, "scaled", bool):
        channels = Channels(tensors.take("channels.mean", 1), tensors.take("channels.scale", 1))
        if not len(channels.mean) == len(channels.scale) == width:
            raise FormatError(f"channels: expected {width} of them, got {len(channels.mean)}")
    named = None if names is None else tuple(names)
    reader = NumberReader(width, dtype, channels, about["layout"], about["missing"], columns, named)
    return reader, Front(width)


def _read_targets(
    about: Mapping[str, Any], tensors: Tensors, kinds: Sequence[str]
) -> tuple[int, Callable[[], Any]]:
    """How many outputs there are, and what makes the targets once that is known to fit."""
    kind = expect(about, "kind", str)
    if kind not in kinds:
        raise FormatError(f"targets: expected {' or '.join(kinds)}, got {kind!r:.80}")
    if kind == "labels":
        n = expect(about, "n", int)
        return n, lambda: Labels(n)
    if kind == "classes":
        classes = _read_classes(about)
        return len(classes), lambda: Classes(classes)
    center, scale = tensors.take("targets.center", 1), tensors.take("targets.scale", 1)
    one = expect(about, "one", bool)
    if len(center) != len(scale) or (one and len(center) != 1):
        raise FormatError(f"targets: expected as many scales, got {len(center)} and {len(scale)}")
    return len(center), lambda: Quantities(center, scale, one)


def _describe_classes(classes: Array) -> dict[str, Any]:
    kind = classes.dtype.kind
    if classes.dtype.name in NUMBERS:
        return {"dtype": classes.dtype.name, "values": classes.tolist()}
    if kind == "U":
        return {"dtype": "str", "values": classes.tolist()}
    if kind == "S":
        return {"dtype": "bytes", "values": [one.decode("latin-1") for one in classes.tolist()]}
    if kind == "O" and all(isinstance(one, (bool, int, float, str)) for one in classes):
        return {"dtype": "object", "values": classes.tolist()}
    raise TypeError(f"classes_: expected numbers or text, to be saved, got dtype {classes.dtype}")


def _read_classes(about: Mapping[str, Any]) -> Array:
    dtype, values = expect(about, "dtype", str), expect(about, "values", list)
    of_text = dtype in ("str", "bytes")
    fits = str if of_text else (bool, int, float, str) if dtype == "object" else (bool, int, float)
    if dtype not in (*NUMBERS, "str", "bytes", "object") or not values:
        raise FormatError(f"classes: expected some, of a dtype that is known, got {about!r:.80}")
    if not all(isinstance(value, fits) for value in values):
        raise FormatError(f"classes: expected {dtype}, got {values!r:.80}")
    if dtype == "bytes":
        return np.array([value.encode("latin-1") for value in values])
    if of_text and max(map(len, values)) * len(values) > 10 * sum(map(len, values)) + 10_000:
        raise FormatError("classes: expected texts of like length, got one far longer")
    return np.array(values, dtype=dtype)
