"""Checkpoints: everything a training run needs to go on as if it had never stopped, in one file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn import tensorfile
from fastrnn.engine.arrays import beside, to_host, write
from fastrnn.engine.devices import is_array
from fastrnn.tensorfile import FormatError
from fastrnn.trees import flatten, unflatten

__all__ = [
    "Path",
    "beside_like",
    "check_like",
    "copy_into",
    "on_host",
    "read_checkpoint",
    "write_checkpoint",
]

Path = str | os.PathLike[str]

FORMAT = "fastrnn-checkpoint"
VERSION = "1"


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write the state of a run, atomically: a crash leaves the old checkpoint or the new one."""
    text, tensors = flatten(state)
    metadata = {"format": FORMAT, "version": VERSION, "state": text}
    tensorfile.write(path, tensors, metadata)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `write_checkpoint` has written.

    Raises
    ------
    FormatError
        If the file is no checkpoint, is of a later version, or has been truncated or altered.
    """
    where = os.fspath(path)
    tensors, metadata = tensorfile.read(path)
    if metadata.get("format") != FORMAT:
        raise FormatError(
            f"{where}: expected a file of format {FORMAT!r}, got {metadata.get('format')!r:.80}"
        )
    if metadata.get("version") != VERSION:
        raise FormatError(
            f"{where}: expected a checkpoint of version {VERSION}, "
            f"got {metadata.get('version')!r:.80}"
        )
    if "sha256" not in metadata or "state" not in metadata:
        raise FormatError(f"{where}: expected a digest and a state in the metadata")
    state = unflatten(metadata["state"], tensors, where)
    if not isinstance(state, dict):
        raise FormatError(f"{where}: expected a state of named values, got {state!r:.80}")
    return state


def check_like(found: Any, live: Any, where: str) -> None:
    """Raise a FormatError unless `found` has all names, shapes and dtypes of `live`.

    Where `live` holds an array `found` must hold one of its shape and dtype; where `live` holds a
    dictionary, list or tuple, one of the same names or length; else a value of the same type.
    """
    if isinstance(live, np.ndarray):
        wanted = f"an array of shape {live.shape} and dtype {live.dtype}"
        if not isinstance(found, np.ndarray):
            raise FormatError(f"{where}: expected {wanted}, got {type(found).__name__}")
        if found.shape != live.shape or found.dtype != live.dtype:
            raise FormatError(
                f"{where}: expected {wanted}, got shape {found.shape} and dtype {found.dtype}"
            )
    elif isinstance(live, Mapping):
        if not isinstance(found, dict) or set(found) != set(live):
            got = sorted(found) if isinstance(found, dict) else type(found).__name__
            raise FormatError(f"{where}: expected the names {sorted(live)}, got {got!r:.200}")
        for name, item in live.items():
            check_like(found[name], item, f"{where}.{name}")
    elif isinstance(live, (list, tuple)):
        if not isinstance(found, type(live)) or len(found) != len(live):
            raise FormatError(f"{where}: expected {len(live)} values, got {found!r:.80}")
        for i, item in enumerate(live):
            check_like(found[i], item, f"{where}.{i}")
    elif not isinstance(found, type(live)):
        raise FormatError(
            f"{where}: expected a value of type {type(live).__name__}, got {found!r:.80}"
        )


def copy_into(found: Any, live: Any) -> None:
    """Copy the arrays of `found` into those of `live`, which is like it."""
    if is_array(live):
        write(live, beside(to_host(found), live))
    elif isinstance(live, Mapping):
        for name, item in live.items():
            copy_into(found[name], item)
    elif isinstance(live, (list, tuple)):
        for one, other in zip(found, live, strict=True):
            copy_into(one, other)


def on_host(tree: Any) -> Any:
    """The arrays in mappings and tuples as NumPy's."""
    if isinstance(tree, Mapping):
        return {name: on_host(value) for name, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(map(on_host, tree))
    return to_host(tree) if is_array(tree) else tree


def beside_like(tree: Any, like: Any) -> Any:
    """The NumPy arrays in lists and tuples as arrays of another's kind, in tuples."""
    if isinstance(tree, list | tuple):
        return tuple(beside_like(one, like) for one in tree)
    return beside(tree, like) if is_array(tree) else tree
