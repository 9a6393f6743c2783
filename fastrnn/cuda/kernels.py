"""The kernels of ``steps.cu``, which CuPy compiles for the device when they are first needed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FOLDER", "launch", "options"]

FOLDER = Path(__file__).resolve().parent
THREADS = 128  # of a block


def options(dtype: np.dtype) -> tuple[str, ...]:
    """What the compiler is told; a product is fused where the source says so, as on the CPU."""
    double = int(dtype == np.float64)
    return (f"-I{FOLDER}", f"-DFRN_DOUBLE={double}", "--std=c++17", "--fmad=false")


@cache
def _module(dtype: np.dtype) -> Any:
    import cupy

    source = (FOLDER / "steps.cu").read_text(encoding="utf-8")
    return cupy.RawModule(code=source, options=options(dtype))


@cache
def _kernel(device: int, dtype: np.dtype, name: str) -> Any:
    return _module(dtype).get_function(name)


def launch(device: int, dtype: np.dtype, name: str, rows: int, units: int, *arguments: int) -> None:
    """Start a kernel on the current stream, a thread for each unit of each row.

    Parameters
    ----------
    device : int
        The current device.
    dtype : numpy.dtype
    name : str
        Its name in ``steps.cu``.
    rows, units : int
    *arguments : int
        The others of its arguments: addresses, 0 for NULL, and counts.
    """
    if rows * units:
        blocks = (rows * units + THREADS - 1) // THREADS
        _kernel(device, dtype, name)((blocks,), (THREADS,), (rows, units, *arguments))
