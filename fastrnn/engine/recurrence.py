"""Which engine runs: the native one for NumPy arrays, CUDA's for CuPy's, else the array twin.

An engine is a module with ``forward``, ``backward`` and ``trace_gates``; see
:mod:`fastrnn.engine.twin` for what they take and give. Where the data lies decides; there is no
global device and no silent copy.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType

import numpy as np

from fastrnn.checks import is_cupy
from fastrnn.engine import native, twin
from fastrnn.engine.native import Steps
from fastrnn.engine.passes import Container, Pass, Weights

__all__ = [
    "Container",
    "Pass",
    "Steps",
    "Weights",
    "engine_for",
    "prepare",
    "stepped",
    "steps",
    "takes_symbols",
    "twin_only",
]

_twin_only: ContextVar[bool] = ContextVar("fastrnn_twin_only", default=False)


@contextmanager
def twin_only() -> Iterator[None]:
    """Run everything on the array twin inside the ``with`` block, in this thread."""
    token = _twin_only.set(True)
    try:
        yield
    finally:
        _twin_only.reset(token)


def engine_for(weights: Weights) -> ModuleType:
    """The engine that runs these weights: ``engine.native``, ``cuda.engine`` or ``engine.twin``."""
    if weights.cell.native is None or _twin_only.get():
        return twin
    if isinstance(weights.params["weight_ih"], np.ndarray):
        return native
    if is_cupy(weights.params["weight_ih"]):
        return importlib.import_module("fastrnn.cuda.engine")  # which imports CuPy
    return twin


def takes_symbols(weights: Weights) -> bool:
    """Whether the engine that runs these weights takes `Symbols` for the input."""
    return engine_for(weights) is native


def prepare(weights: Weights) -> None:
    """Pack weights that will not change any more, so that calls need not look for changes."""
    if engine_for(weights) is native:
        native.prepare(weights)


def stepped(weights: Weights) -> None:
    """Say that an optimizer has changed weights, so that the next call need not look."""
    native.stepped(weights)


def steps(weights: list[Weights], state: tuple[np.ndarray, ...]) -> Steps | None:
    """Prepare layers of one direction for one step after another; None: the twin has no such."""
    return native.steps(weights, state) if engine_for(weights[0]) is native else None
