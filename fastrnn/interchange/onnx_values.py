"""What a value of an ONNX graph is to `from_onnx`: a constant, data, a state, sizes, or none.

Data is known by the meaning of its axes, and by the layers it has come through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Axis", "Data", "Given", "Reason", "Sizes", "State", "Step", "Untaken", "Value", "Zeros"]


class Reason(Exception):
    """Why a node cannot be taken."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of data: which of the input's it is, or what a layer has made of it.

    ``name`` is ``"units"`` for a layer's output, ``"dirs"`` for its directions, ``"one"`` for an
    axis of size 1 that was put in, or the axis's number in the graph's input.
    """

    name: str
    size: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A layer on the way from the input, and the one before it."""

    before: Step | None
    make: Callable[[], Any]
    bias: Callable[[np.ndarray], Step] | None = None
    """Of a Linear without a bias: the same with one."""
    final: Step | None = None
    """Of a recurrent layer that ends with the last step: the same, giving its last output alone."""
    states: object = None
    """Of a recurrent layer: stands for its final states, also where it gives its last output."""


@dataclass(frozen=True, slots=True)
class Data:
    """Data after some layers; `time` and `batch` name axes once a recurrent layer has told them."""

    axes: tuple[Axis, ...]
    step: Step | None = None
    time: str | None = None
    batch: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """A recurrent layer's final state; where it is h, also as data that `Final` gives."""

    of: object
    """What the layer's step has as ``states``."""
    data: Data | None = None


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of data's axes: numbers, or the names of axes that have no fixed one."""

    sizes: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Zeros:
    """An array of zeros, of sizes that data has."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller gives besides the data, or a part of it."""


@dataclass(frozen=True, slots=True)
class Untaken:
    """What cannot be taken, and why."""

    why: str


Value = np.ndarray | Data | State | Sizes | Zeros | Given | Untaken
