"""Nested values as JSON text and named arrays, and back: what models and checkpoints remember.

Dictionaries with text keys, lists, tuples, text, numbers, None and arrays, nested at will. Reading
builds these types and nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn.tensorfile import FormatError, parse_json

__all__ = ["flatten", "unflatten"]

# JSON has no tuples, infinities or arrays; an object with one of these keys alone stands for one.
_MARKS = ("tuple", "float", "tensor", "dict")
_SPECIAL_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def flatten(tree: Any, prefix: str = "") -> tuple[str, dict[str, Any]]:
    """JSON text and the arrays of `tree`, each named by the way to it, as in ``"best.0.bias"``.

    Raises
    ------
    TypeError
        For a value of a type that cannot be kept; the message gives the way to it.
    """
    tensors: dict[str, Any] = {}
    plain = _flatten(tree, prefix, tensors)
    return json.dumps(plain, separators=(",", ":"), allow_nan=False), tensors


def _flatten(value: Any, way: str, tensors: dict[str, Any]) -> Any:
    def inner(key: Any, item: Any) -> Any:
        return _flatten(item, f"{way}.{key}" if way else str(key), tensors)

    if isinstance(value, np.ndarray):
        tensors[way] = value
        return {"tensor": way}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, list):
        return [inner(i, item) for i, item in enumerate(value)]
    if isinstance(value, tuple):
        return {"tuple": [inner(i, item) for i, item in enumerate(value)]}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        plain = {key: inner(key, item) for key, item in value.items()}
        return {"dict": plain} if len(plain) == 1 and next(iter(plain)) in _MARKS else plain
    raise TypeError(f"{way}: expected a value that a file can keep, got {type(value).__name__}")


def unflatten(text: str, tensors: Mapping[str, Any], where: str) -> Any:
    """The tree that `flatten` turned into `text` and `tensors`.

    Raises
    ------
    FormatError
        If the text is not of `flatten`'s making, or names an array that is not in `tensors`.
    """
    parsed = parse_json(text, where)
    try:
        return _unflatten(parsed, tensors, where)
    except RecursionError:
        raise FormatError(f"{where}: expected values nested less deeply") from None


def _unflatten(value: Any, tensors: Mapping[str, Any], where: str) -> Any:
    if isinstance(value, list):  # what was parsed is changed, not copied
        for i, item in enumerate(value):
            value[i] = _unflatten(item, tensors, where)
        return value
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (mark, content) = next(iter(value.items()))
        if mark == "tuple" and isinstance(content, list):
            return tuple(_unflatten(item, tensors, where) for item in content)
        if mark == "float" and isinstance(content, str) and content in _SPECIAL_FLOATS:
            return _SPECIAL_FLOATS[content]
        if mark == "tensor" and isinstance(content, str) and content in tensors:
            return tensors[content]
        if mark == "dict" and isinstance(content, dict):
            return {key: _unflatten(item, tensors, where) for key, item in content.items()}
        if mark in _MARKS:
            raise FormatError(f"{where}: expected a {mark}, got {content!r:.80}")
    for key, item in value.items():
        value[key] = _unflatten(item, tensors, where)
    return value
