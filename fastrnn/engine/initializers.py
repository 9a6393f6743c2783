"""Initial values of a recurrent layer's parameters.

Each initializer is a function of (name, shape, block, generator): the parameter's local name, its
shape, and the rows of one gate's block, for what is drawn per gate.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastrnn.files import values_follow

__all__ = ["INITIALIZERS", "drawn", "initializer"]

Initializer = Callable[[str, tuple[int, ...], int, np.random.Generator], np.ndarray]

INITIALIZERS = ("torch", "uniform", "xavier", "orthogonal")


def drawn(draw: Callable[[], Any], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """What `draw` gives, in this dtype; zeros of this shape where the values are to follow."""
    return np.zeros(shape, dtype) if values_follow() else draw().astype(dtype, copy=False)


def initializer(name: str, hidden_size: int, scale: float) -> Initializer:
    """Return the initializer of that name.

    Parameters
    ----------
    name : {"torch", "uniform", "xavier", "orthogonal"}
        ``"torch"``: all uniform in ±1/sqrt(H), PyTorch's choice. ``"uniform"``: all uniform in
        ±scale. ``"xavier"``: weights uniform in ±sqrt(6 / (inputs + units)) per gate, biases zero
        (Glorot and Bengio, AISTATS 2010). ``"orthogonal"``: as xavier, but recurrent weights
        orthogonal per gate (Saxe, McClelland and Ganguli, ICLR 2014).
    hidden_size : int
        H.
    scale : float
        For ``"uniform"``.
    """
    if name == "torch":
        return partial(_uniform, hidden_size**-0.5)
    if name == "uniform":
        return partial(_uniform, scale)
    return {"xavier": _xavier, "orthogonal": _orthogonal}[name]


def _uniform(
    scale: float, name: str, shape: tuple[int, ...], block: int, rng: np.random.Generator
) -> np.ndarray:
    return rng.uniform(-scale, scale, shape)


def _xavier(name: str, shape: tuple[int, ...], block: int, rng: np.random.Generator) -> np.ndarray:
    if len(shape) == 1:
        return np.zeros(shape)
    limit = np.sqrt(6 / (shape[1] + block))
    return rng.uniform(-limit, limit, shape)


def _orthogonal(
    name: str, shape: tuple[int, ...], block: int, rng: np.random.Generator
) -> np.ndarray:
    if name != "weight_hh":
        return _xavier(name, shape, block, rng)
    blocks = [_one_orthogonal(block, shape[1], rng) for _ in range(0, shape[0], block)]
    return np.concatenate(blocks, axis=0)


def _one_orthogonal(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """A matrix with orthonormal rows or columns, whichever are fewer, uniformly distributed."""
    normal = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(normal)
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)  # without this the QR's signs are not uniform
    return q if rows >= columns else q.T
