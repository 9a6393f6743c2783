"""The libraries that fastrnn is compared with, each made to do the same work in its own best way.

An adapter is a module with the functions of `Adapter`; it imports its library when it is imported,
and is left out where that is not installed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np

from fastrnn import GRU, LSTM, RNN

Layer = RNN | LSTM | GRU
Arrays = dict[str, np.ndarray]

MODULES = {
    "torch": "pytorch",
    "onnxruntime": "onnx_runtime",
    "openvino": "open_vino",
    "numpy": "plain_numpy",
}


@dataclass(frozen=True)
class Candidate:
    """One call to time, and how to read what it answers.

    Parameters
    ----------
    call : callable
        Without arguments.
    arrays : callable
        From the call's answer to arrays by name, in fastrnn's shapes, to compare results by.
    """

    call: Callable[[], Any]
    arrays: Callable[[Any], Arrays]


class Adapter(Protocol):
    """What every library can do here."""

    def set_threads(self, threads: int) -> None:
        """Use so many threads in what is made from now on."""
        ...

    def sequences(self, layer: Layer, x: np.ndarray) -> Candidate:
        """Inference of the layer's network over x (N, T, D); the array is "y" (N, T, units)."""
        ...

    def step(self, layer: Layer, x: np.ndarray) -> Candidate:
        """A step of a stream over x (1, D), the state carried; the array is "y" (1, units)."""
        ...


def load(names: Sequence[str]) -> dict[str, Adapter]:
    """The adapters whose libraries are installed; a line says which are not."""
    found: dict[str, Adapter] = {}
    for name in names:
        try:
            module = importlib.import_module(f"bench.adapters.{MODULES[name]}")
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
        else:
            found[name] = cast(Adapter, module)
    return found
