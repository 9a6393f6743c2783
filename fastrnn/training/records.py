"""What a file tells of any fitted model: its parameters, and how its training went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn.files import FormatError

__all__ = ["check_header", "pairs_of", "plain_parameters"]

HEADER = {"config": dict, "history": dict, "best_loss": float, "interrupted": bool}


def plain_parameters(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as a file keeps them: numbers, text, and lists and tables of such.

    Whatever else there is, such as callables and generators, becomes its default; so does the
    path of a checkpoint, which is of one machine.
    """
    return {
        name: defaults[name] if name == "checkpoint" else _plain(name, value, defaults[name])
        for name, value in given.items()
    }


def _plain(name: str, value: Any, default: Any) -> Any:
    if name == "dtype" and value is not None:
        return np.dtype(value).name
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, Mapping):
        pairs = [[_scalar(key), _scalar(one)] for key, one in value.items()]
        plain = all(_is_plain(key) and _is_plain(one) for key, one in pairs)
        return {"pairs": pairs} if plain else default
    if isinstance(value, (list, tuple)):
        items = [_scalar(one) for one in value]
        return items if all(map(_is_plain, items)) else default
    return value if _is_plain(value) else default


def _scalar(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def pairs_of(value: Any) -> Any:
    """A table of a parameter as `plain_parameters` has written it, or the value itself."""
    if not isinstance(value, dict):
        return value
    pairs = value.get("pairs")
    if not isinstance(pairs, list) or not all(isinstance(p, list) and len(p) == 2 for p in pairs):
        raise FormatError(f"config: expected pairs of a key and a value, got {value!r:.80}")
    return dict(pairs)


def check_header(
    remembered: Mapping[str, Any], kinds: Mapping[str, type], names: set[str] | None = None
) -> None:
    """Raise a FormatError unless a file tells of parameters and training what it must.

    Parameters
    ----------
    remembered : mapping
        What the file tells.
    kinds : mapping of str to type
        Of what it must tell besides.
    names : set of str, optional
        Of all parameters.
    """
    for key, kind in {**HEADER, **kinds}.items():
        if not isinstance(remembered.get(key), kind):
            got = remembered.get(key)
            raise FormatError(f"{key}: expected {kind.__name__}, got {got!r:.80}")
    config, history = remembered["config"], remembered["history"]
    if names is not None and set(config) != names:
        raise FormatError(
            f"config: expected the names {sorted(names)}, got {sorted(config)!r:.200}"
        )
    if not all(_are_floats(values) for values in history.values()):
        raise FormatError("history: expected lists of numbers")


def _are_floats(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is float for value in values)
