"""Keras 3 layers as plain values: kinds, configurations and weights, of files and of live layers.

A ``.keras`` file is a zip of ``config.json``, which tells the layers, and ``model.weights.h5``,
which holds their weights; both are read without Keras, the second with h5py. A live model or layer
is asked for the same by its own methods.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastrnn.tensorfile import FormatError, parse_json

__all__ = ["MASKS", "RECURRENT", "Config", "Stored", "from_file", "from_live"]

Config = dict[str, Any]

MASKS = ("NotEqual", "Any")
"""Operations that compute masks in functional models; their names stand among the layers'."""

RECURRENT = ("LSTM", "GRU", "SimpleRNN")
_WITH_WEIGHTS = (*RECURRENT, "Dense", "Embedding")

SLACK = 1 << 20
"""Bytes that a file's parts may have beyond twice its size, so that a small one asks for little."""

DEEPEST = 16
"""How deep models may lie within models."""


@dataclass
class Stored:
    """A Keras layer as plain values, whether it was live or in a file.

    Attributes
    ----------
    kind : str
        Its class's name.
    config : dict
    weights : list of array
        In Keras's order: kernel, recurrent kernel, bias.
    inner : list of Stored
        A model's layers, a wrapper's one, a Bidirectional's two.
    """

    kind: str
    config: Config
    weights: list[np.ndarray] = field(default_factory=list)
    inner: list[Stored] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its own name, for messages."""
        return str(self.config.get("name", ""))[:80]


# --- live ----------------------------------------------------------------------------------------


def from_live(layer: Any) -> Stored:
    """A live layer's or model's values."""
    stored = Stored(type(layer).__name__, {**layer.get_config(), **_built(layer)})
    if stored.kind in ("Sequential", "Functional"):
        stored.inner = [from_live(one) for one in layer.layers]
    elif stored.kind == "Bidirectional":
        stored.inner = [from_live(layer.forward_layer), from_live(layer.backward_layer)]
    elif stored.kind == "TimeDistributed":
        stored.inner = [from_live(layer.layer)]
    else:
        stored.weights = [_array(weight) for weight in layer.weights]
        if not stored.weights and stored.kind in _WITH_WEIGHTS:
            raise ValueError(f"{stored.name}: expected a layer with weights, got one not yet built")
    return stored


def _built(layer: Any) -> Config:
    return {"build_config": layer.get_build_config() or {}}


def _array(weight: Any) -> np.ndarray:
    from keras import ops

    array = np.asarray(ops.convert_to_numpy(weight))
    return array if array.dtype.kind == "f" and array.dtype.itemsize > 1 else array.astype("f4")


# --- files ---------------------------------------------------------------------------------------


def from_file(where: str) -> Stored:
    """A file's model; a FormatError or an error of what does not fit if it is none."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            "from_keras needs h5py for a .keras file: pip install 'fastrnn[keras]'"
        ) from error
    limit = 2 * os.stat(where).st_size + SLACK
    try:
        with zipfile.ZipFile(where) as file:
            text = _member(file, "config.json", limit)
            weights = _member(file, "model.weights.h5", limit)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise FormatError(f"expected a Keras 3 file, which is a zip, got: {error}") from None
    config = parse_json(text, "config.json")
    try:
        with h5py.File(io.BytesIO(weights), "r") as root:
            return _read(h5py, config, root, limit, 0)
    except (OSError, RuntimeError) as error:  # h5py's, of a file that is none
        raise FormatError(f"model.weights.h5: expected an HDF5 file, got: {error}") from None


def _member(file: zipfile.ZipFile, name: str, limit: int) -> bytes:
    if name not in file.namelist():
        raise FormatError(f"expected a member {name}, got {', '.join(file.namelist()[:10])}")
    size = file.getinfo(name).file_size
    if size > limit:
        raise FormatError(f"{name}: expected at most {limit} bytes, got {size}")
    return file.read(name)


def _read(h5py: Any, described: Any, group: Any, limit: int, depth: int) -> Stored:
    """A layer described in the configuration, with the weights in its group."""
    if not isinstance(described, dict) or not isinstance(described.get("config"), dict):
        raise FormatError(
            f"config.json: expected a layer's class_name and config, got {described!r:.80}"
        )
    if depth > DEEPEST:
        raise FormatError(f"config.json: expected models at most {DEEPEST} deep, got more")
    built = {"build_config": described.get("build_config", {})}
    stored = Stored(str(described["class_name"]), {**described["config"], **built})

    def inner(one: Any, path: str) -> Stored:
        return _read(h5py, one, _child(h5py, group, path), limit, depth + 1)

    if stored.kind in ("Sequential", "Functional"):
        layers = [one for one in stored.config["layers"] if one["class_name"] not in MASKS]
        paths = _paths(h5py, group, layers)
        stored.inner = [inner(one, path) for one, path in zip(layers, paths, strict=True)]
    elif stored.kind == "Bidirectional":
        first = stored.config["layer"]
        second = stored.config.get("backward_layer", first)
        stored.inner = [inner(first, "forward_layer"), inner(second, "backward_layer")]
    elif stored.kind == "TimeDistributed":
        stored.inner = [inner(stored.config["layer"], "layer")]
    else:
        held = "cell/vars" if stored.kind in RECURRENT else "vars"
        found = _child(h5py, group, held)
        for k in range(len(found) if found is not None else 0):
            stored.weights.append(_dataset(h5py, found, str(k), limit))
    return stored


def _paths(h5py: Any, group: Any, layers: Any) -> list[str]:
    """Where each layer's weights are: by its name where the file tells it, else by its class.

    Keras numbers the layers of each class in their order: lstm, lstm_1, dense, ...
    """
    held = _child(h5py, group, "layers")
    named = {}
    for key in held if held is not None else ():
        variables = _child(h5py, held, f"{key}/vars")
        name = None if variables is None else variables.attrs.get("name")
        if isinstance(name, str):
            named[name] = f"layers/{key}"
    count: dict[str, int] = {}
    paths = []
    for layer in layers:
        key = _snake_case(str(layer["class_name"]))
        number = count.get(key, 0)
        count[key] = number + 1
        by_class = f"layers/{key}_{number}" if number else f"layers/{key}"
        paths.append(named.get(layer["config"].get("name"), by_class))
    return paths


def _snake_case(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _child(h5py: Any, group: Any, path: str) -> Any:
    """A group within this file; None if there is none."""
    for key in path.split("/"):
        if group is None or not isinstance(group, h5py.Group):
            return None
        link = group.get(key, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise FormatError(f"{key}: expected what lies in the file, got a link out of it")
        group = group[key]
    return group


def _dataset(h5py: Any, group: Any, key: str, limit: int) -> np.ndarray:
    found = _child(h5py, group, key)
    if not isinstance(found, h5py.Dataset) or found.external:
        raise FormatError(f"model.weights.h5: {group.name}: expected an array {key!r}")
    if found.dtype.kind != "f" or found.dtype.itemsize not in (2, 4, 8):
        raise FormatError(f"model.weights.h5: {found.name}: expected floats, got {found.dtype}")
    if found.nbytes > limit:
        raise FormatError(f"model.weights.h5: {found.name}: expected at most {limit} bytes")
    return np.asarray(found[()])
