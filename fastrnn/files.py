"""Layers and models in files: ``model.save(path)`` and ``fastrnn.load(path)``.

A file is in the safetensors layout (see `fastrnn.tensorfile`): the arrays under the names they have
in ``params``, and in the metadata

    format    "fastrnn"
    version   "1", raised when a reader of the old could misread the new
    model     JSON: {"type": a registered class's name, ... what that class wants to remember}
    sha256    a digest of all the rest

Nothing in a file is executed, and nothing is looked up by a name in it but in the list of classes
that have been registered here. A class tells the names and shapes of its arrays from what is
remembered alone, so that these are compared with the file's before anything is allocated.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import numpy as np

from fastrnn import tensorfile
from fastrnn.engine import devices
from fastrnn.engine.arrays import to_host
from fastrnn.tensorfile import FormatError
from fastrnn.trees import flatten, unflatten

__all__ = [
    "FormatError", "Savable", "Shape", "build", "check_tensors", "fill", "find", "is_registered",
    "load", "load_as", "register", "save", "taken",
]  # fmt: skip

Path = str | os.PathLike[str]
Shape = tuple[int, ...]

FORMAT = "fastrnn"
VERSION = "1"
CHUNK = 2**16  # numbers looked at together
ESTIMATORS = ("Forecaster", "RNNClassifier", "RNNRegressor", "SequenceTagger", "TextClassifier")


class _Storable(Protocol):
    """What a registered class has; `Savable` gives it to whatever has ``config`` and ``params``."""

    def to_file(self) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """What to remember, and the arrays."""

    @classmethod
    def from_file(cls, remembered: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
        """The object again; a ValueError or TypeError if they do not fit."""


Class = TypeVar("Class", bound=type[_Storable])
_classes: dict[str, type[_Storable]] = {}


def register(cls: Class) -> Class:
    """Put a class on the list of those that `load` may build; to be used as a decorator."""
    _classes[cls.__name__] = cls
    return cls


class Savable:
    """Saves and loads what is described by ``config()`` and holds its arrays in ``params``."""

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        raise NotImplementedError

    @classmethod
    def shapes(cls, config: Mapping[str, Any]) -> Iterable[tuple[str, Shape]]:
        """Name and shape of each of ``params``, from a configuration nobody has checked."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """A new object of this configuration."""
        return cls(**config)

    def save(self, path: Path) -> None:
        """Write this object to a file, which `fastrnn.load` reads.

        The file is in the safetensors layout, with the arrays under their names in ``params``, and
        takes the place of an existing one only when it is complete.

        Parameters
        ----------
        path : str or path-like
        """
        save(self, path)

    def to_file(self) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """What `save` keeps: a description, and the arrays."""
        return {"config": self.config()}, self.params  # type: ignore[attr-defined]

    @classmethod
    def from_file(cls, remembered: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
        """The object that `to_file` has described."""
        config = remembered.get("config")
        if not isinstance(config, dict):
            raise FormatError(f"config: expected named values, got {config!r:.80}")
        return build(cls.__name__, config, tensors)


def save(obj: Any, path: Path) -> None:
    """Write a layer or a fitted model to a file, atomically.

    Raises
    ------
    TypeError
        If the object is of a class that is not registered, such as a subclass of one that is.
    """
    name = type(obj).__name__
    if _classes.get(name) is not type(obj):
        raise TypeError(f"obj: expected one of {_listed()}, got {name}")
    remembered, tensors = obj.to_file()
    text, inner = flatten({"type": name, **remembered})
    if inner:
        raise TypeError(f"{sorted(inner)[0]}: expected a value that is not an array")
    metadata = {"format": FORMAT, "version": VERSION, "model": text}
    tensors = {key: to_host(array) for key, array in tensors.items()}
    tensorfile.write(path, tensors, metadata)


def load(path: Path, *, check_finite: bool = False, mmap: bool = False, device: Any = "cpu") -> Any:
    """Read a layer or a fitted model that ``save`` has written.

    Parameters
    ----------
    path : str or path-like
    check_finite : bool, default False
        Whether to refuse a file with NaN or infinity among its arrays.
    mmap : bool, default False
        Whether the layers' parameters are to be read-only views of the file, mapped into memory,
        which the processes that load it share; the file must then not be written to or shortened,
        but may be replaced, as ``save`` does.
    device : str or array, default "cpu"
        Where to put it, as its ``to`` takes it; files say nothing of where a model was.

    Returns
    -------
    object
        Of the class that was saved, with the same configuration and the same bits in its arrays. Of
        an estimator without scikit-learn, a `fastrnn.Predictor`.

    Raises
    ------
    FormatError
        If the file is not in the safetensors layout, is no fastrnn file, is of a later version, or
        has been truncated or altered. The message says what was expected and what came.
    OSError
        If the file cannot be opened or read.

    Examples
    --------
    >>> import fastrnn
    >>> layer = fastrnn.LSTM(3, 4, random_state=0)
    >>> layer.save("lstm.safetensors")
    >>> fastrnn.load("lstm.safetensors").num_parameters
    144
    """
    target = devices.find(device)
    loaded = load_as(path, check_finite=check_finite, mmap=mmap)
    if target is devices.HOST:
        return loaded
    if not hasattr(loaded, "to"):
        raise ValueError(
            f"device: expected 'cpu', where a {type(loaded).__name__} computes, got {target.name}"
        )
    return loaded.to(target)


def load_as(
    path: Path, *, check_finite: bool = False, mmap: bool = False, predictor: bool = False
) -> Any:
    """The same; with `predictor`, of an estimator its `fastrnn.Predictor` in any case."""
    tensors, metadata = tensorfile.read(path, mmap)
    where = tensorfile.path_name(path)
    if metadata.get("format") != FORMAT:
        raise FormatError(
            f"{where}: expected a file of format {FORMAT!r}, got {metadata.get('format')!r:.80}"
        )
    if metadata.get("version") != VERSION:
        raise FormatError(
            f"{where}: expected version {VERSION}, got {metadata.get('version')!r:.80}; "
            "a newer fastrnn may read it"
        )
    for key in ("sha256", "model"):
        if key not in metadata:
            raise FormatError(f"{where}: expected the key {key!r} in the metadata, got none")
    if check_finite:
        for name, array in tensors.items():
            if array.dtype.kind == "f" and not _is_finite(array):
                raise FormatError(f"{where}: {name[:80]}: expected finite numbers, got others")
    remembered = unflatten(metadata["model"], {}, f"{where}: model")
    if not isinstance(remembered, dict):
        raise FormatError(f"{where}: model: expected named values, got {remembered!r:.80}")
    try:
        name = remembered.pop("type", None)
        known = isinstance(name, str) and name in ESTIMATORS
        cls = _estimator(name, predictor) if known else find(name)
        return cls.from_file(remembered, tensors)
    except (ValueError, TypeError) as error:
        # Whatever a constructor has against its arguments, they came from the file.
        raise FormatError(f"{where}: {error}") from error
    except KeyError as error:
        raise FormatError(f"{where}: expected a value named {error}, got none") from error
    except (AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise FormatError(f"{where}: expected a description that fits, got: {error}") from error


def _is_finite(array: Any) -> bool:
    """Whether all numbers are, a part at a time."""
    flat = array.reshape(-1)
    return all(np.isfinite(flat[i : i + CHUNK]).all() for i in range(0, len(flat), CHUNK))


def _estimator(name: str, predictor: bool) -> Any:
    """The class of an estimator, or without scikit-learn that which answers in its place."""
    package = sys.modules[__package__]
    if not predictor:
        try:
            return getattr(package, name)
        except ImportError:
            pass
    return package.Predictor


def _class_named(name: str) -> type[_Storable] | None:
    """The registered class of a name; a public one's module may not have been imported yet."""
    package = sys.modules[__package__]
    if name not in _classes and name in package.__all__:
        getattr(package, name)
    return _classes.get(name)


def _listed() -> str:
    """The names of all classes on the list."""
    for name in sys.modules[__package__].__all__:
        _class_named(name)
    return ", ".join(sorted(_classes))


def is_registered(name: str) -> bool:
    """Whether a class of this name is on the list."""
    return _class_named(name) is not None


def find(name: Any) -> Any:
    """The registered class of a name that a file gives; a FormatError if there is none."""
    cls = _class_named(name) if isinstance(name, str) else None
    if cls is None:
        raise FormatError(f"type: expected one of {_listed()}, got {name!r:.80}")
    return cls


_values_follow: ContextVar[bool] = ContextVar("fastrnn_values_follow", default=False)


def values_follow() -> bool:
    """Whether a layer being made need draw no values, for its maker is about to write all."""
    return _values_follow.get()


@contextmanager
def with_values_to_follow() -> Iterator[None]:
    """Make layers without drawing values inside the ``with`` block, in this thread.

    Random numbers are of float64 before they are of a layer's dtype: drawing those of a layer that
    is read from a file would take more memory than the file.
    """
    token = _values_follow.set(True)
    try:
        yield
    finally:
        _values_follow.reset(token)


_taken: ContextVar[Iterator[tuple[str, Any]] | None] = ContextVar("fastrnn_taken", default=None)


@contextmanager
def _taking(shapes: Iterable[tuple[str, Shape]], tensors: Mapping[str, Any]) -> Iterator[None]:
    """Let layers that are made inside take the arrays themselves, if they are read-only."""
    views = [(name, tensors[name]) for name, _ in shapes]
    mapped = views and not any(array.flags.writeable for _, array in views)
    token = _taken.set(iter(views) if mapped else None)
    try:
        yield
    finally:
        _taken.reset(token)


def taken(params: dict[str, Any]) -> dict[str, Any]:
    """A new layer's parameters, in their place the arrays of a mapped file that are to be them.

    Layers own their parameters in the order of ``shapes``.
    """
    views = _taken.get()
    if views is None:
        return params
    found = {}
    for name, param in params.items():
        key, view = next(views, ("", None))
        found[name] = param
        if view is None or not key.endswith(name) or not view.flags.aligned:
            continue
        if view.dtype == param.dtype and view.shape == param.shape:
            found[name] = view
    return found


def build(name: Any, config: Any, tensors: Mapping[str, Any] | None = None) -> Any:
    """A layer by its class's name and its configuration, both out of a file.

    Parameters
    ----------
    name : str
        The name of a registered class.
    config : mapping
        The constructor's arguments.
    tensors : mapping of str to array, optional
        The values of its ``params``; their names, shapes and dtype are checked first.
    """
    cls = find(name)
    if not isinstance(config, dict):
        raise FormatError(f"config: expected named values, got {config!r:.80}")
    if tensors is not None:
        check_tensors(cls.shapes(config), tensors)
    if tensors is None:
        return cls.from_config(config)
    with with_values_to_follow(), _taking(cls.shapes(config), tensors):
        layer = cls.from_config(config)
    fill(layer, tensors)
    return layer


def fill(layer: Any, tensors: Mapping[str, Any]) -> None:
    """Put arrays of the right names and shapes into a layer's ``params``, if dtypes fit too."""
    for key, param in layer.params.items():
        if tensors[key].dtype.newbyteorder("=") != param.dtype:
            raise FormatError(f"{key}: expected dtype {param.dtype}, got {tensors[key].dtype}")
    for key, param in layer.params.items():
        if param is not tensors[key]:
            param[...] = tensors[key]


def check_tensors(shapes: Iterable[tuple[str, Shape]], tensors: Mapping[str, Any]) -> None:
    """Raise a FormatError unless `tensors` has exactly these names and shapes.

    `shapes` may go on for ever: no more of it is asked for than there are tensors.
    """
    expected: dict[str, Shape] = {}
    for key, shape in itertools.islice(shapes, len(tensors) + 1):
        expected[key] = shape
        if key not in tensors:
            raise FormatError(f"{key}: expected an array of shape {shape}, got none")
        found = np.shape(tensors[key])
        if found != shape:
            raise FormatError(f"{key}: expected shape {shape}, got {found}")
    for key in tensors:
        if key not in expected:
            raise FormatError(f"{key[:80]}: expected no such array, got one")
