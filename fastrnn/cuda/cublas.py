"""cuBLAS through its C interface: products in place, on any stream, one being captured too.

CuPy's own functions refuse to be captured, whatever the circumstances, and know no rows with room
between them. CUDA's documentation allows captures as long as the workspace is the caller's.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_double, c_float, c_int, c_size_t, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np

from fastrnn.checks import Array

__all__ = ["Matrix", "Products", "products"]

OP_N, OP_T = 0, 1
SIGNATURES: dict[str, list[Any]] = {
    "cublasCreate_v2": [POINTER(c_void_p)],
    "cublasSetStream_v2": [c_void_p, c_void_p],
    "cublasSetWorkspace_v2": [c_void_p, c_void_p, c_size_t],
}
GEMM: dict[np.dtype, tuple[str, Any]] = {
    np.dtype(np.float32): ("cublasSgemm_v2", c_float),
    np.dtype(np.float64): ("cublasDgemm_v2", c_double),
}
for gemm, number in GEMM.values():
    scalar = POINTER(number)
    SIGNATURES[gemm] = [c_void_p, *[c_int] * 5, scalar, c_void_p, c_int, c_void_p, c_int]
    SIGNATURES[gemm] += [scalar, c_void_p, c_int]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows in device memory.

    Parameters
    ----------
    address : int
        Of the first number.
    stride : int
        Numbers from row to row.
    """

    address: int
    stride: int

    @classmethod
    def of(cls, array: Array, row: int = 0, column: int = 0) -> Self:
        """The rows of a contiguous array (rows, columns) from here on, also if that is its end."""
        stride = int(array.shape[1])
        return cls(int(array.data.ptr) + (row * stride + column) * array.itemsize, stride)


class Products:
    """One handle of cuBLAS, and the products it computes one after the other.

    Parameters
    ----------
    library : ctypes.CDLL
        With the functions of `SIGNATURES`.
    """

    def __init__(self, library: Any) -> None:
        self._functions = {}
        for name, arguments in SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, c_int
            self._functions[name] = function
        self._handle = c_void_p()
        self._lock = threading.Lock()
        self._call("cublasCreate_v2", byref(self._handle))

    @contextmanager
    def on(self, stream: int, workspace: Any) -> Iterator[None]:
        """Compute on this stream inside the ``with`` block, with a workspace that is the block's.

        Parameters
        ----------
        stream : int
            Its address.
        workspace : cupy.ndarray of uint8
            Must live until the products are done, also those of a graph captured here.
        """
        with self._lock:
            self._call("cublasSetStream_v2", self._handle, stream)  # forgets the workspace
            size = int(workspace.size)
            self._call("cublasSetWorkspace_v2", self._handle, int(workspace.data.ptr), size)
            yield

    def multiply(
        self,
        dtype: np.dtype,
        sizes: tuple[int, int, int],
        a: Matrix,
        b: Matrix,
        out: Matrix,
        *,
        a_transposed: bool = False,
        b_transposed: bool = False,
        add: bool = False,
    ) -> None:
        """Compute ``out = a @ b`` in full precision, or add it to `out`.

        Parameters
        ----------
        dtype : numpy.dtype
            float32 or float64, of all three.
        sizes : tuple of int
            m, n, k: `out` is (m, n), the sum of k products.
        a, b, out : Matrix
            (m, k), (k, n) and (m, n); (k, m) and (n, k) where transposed.
        """
        m, n, k = sizes
        if not (m and n):
            return
        name, number = GEMM[dtype]
        one, beta = number(1), number(1 if add else 0)
        # Columns first, as cuBLAS counts, a matrix is its transpose: out^T = b^T a^T.
        self._call(
            name, self._handle, OP_T if b_transposed else OP_N, OP_T if a_transposed else OP_N,
            n, m, k, byref(one), b.address, b.stride, a.address, a.stride,
            byref(beta), out.address, out.stride,
        )  # fmt: skip

    def _call(self, name: str, *arguments: Any) -> None:
        status = self._functions[name](*arguments)
        if status:
            raise RuntimeError(f"{name}: cuBLAS answers with status {status}")


@cache
def products(device: int) -> Products:
    """The products of a CUDA device, which must be the current one."""
    import cupy

    cupy.cuda.device.get_cublas_handle()  # CuPy finds the library, wherever that is, and loads it
    return Products(_library(int(cupy.cuda.runtime.runtimeGetVersion()) // 1000))


def _library(version: int) -> Any:
    """What CuPy has loaded, by the name that Linux knows it under; else where CuPy looks for it."""
    name = f"libcublas.so.{version}"
    try:
        return ctypes.CDLL(name)
    except OSError:
        from cuda.pathfinder import load_nvidia_dynamic_lib  # CuPy needs it itself

        return ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path)
