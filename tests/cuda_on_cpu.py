"""CUDA's side of CuPy on the CPU: kernels by a C++ compiler, cuBLAS by NumPy, graphs by a list.

`Cuda` has what `fastrnn.cuda` asks of CuPy and of cuBLAS, strictly: a capture records and computes
nothing, allows no allocation, and is refused on the default stream; arguments must be those of the
kernel's or function's signature. Memory is the host's, so an address is one of NumPy's.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent / "cuda"
FORWARD_ARGUMENTS, BACKWARD_ARGUMENTS = 11, 14
NUMBERS = {1: ctypes.c_float, 2: ctypes.c_double}


def compiled(folder: Path, options: tuple[str, ...], *more: str) -> ctypes.CDLL:
    """The library of steps.cu built with the options that NVRTC would get, but for its own."""
    own = [option for option in options if option.startswith(("-I", "-D"))]
    library = folder / f"steps{'_'.join(own[1:])}.so"
    if not library.exists():
        command = ["g++", "-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", *own, *more]
        command += ["-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-maybe-uninitialized"]
        command += [str(HERE / "on_cpu.cpp"), "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert not done.stderr, done.stderr
    return ctypes.CDLL(str(library))


class Cuda:
    """What happens on the device: at once, or when the graph that records it is launched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stream: Stream = Stream(self)
        self.null = self.stream
        self.recording: list[Callable[[], None]] | None = None
        self.launches = 0  # of kernels and products by themselves, not by graphs
        self.graph_launches = 0

    def do(self, work: Callable[[], None]) -> None:
        """Do it now, or record it."""
        if self.recording is not None:
            self.recording.append(work)
        else:
            self.launches += 1
            work()

    def check_not_recording(self, what: str) -> None:
        """Refuse what a capture does not allow."""
        if self.recording is not None:
            raise RuntimeError(f"{what}: not allowed while a stream is being captured")


class Stream:
    """A stream; the null stream's address is 0."""

    def __init__(self, cuda: Cuda, non_blocking: bool | None = None) -> None:
        self.cuda, self.ptr = cuda, 0 if non_blocking is None else id(self)

    def __enter__(self) -> Stream:
        self.outer, self.cuda.stream = self.cuda.stream, self
        return self

    def __exit__(self, *error: object) -> None:
        self.cuda.stream = self.outer

    def begin_capture(self) -> None:
        self.cuda.check_not_recording("begin_capture")
        assert self.ptr, "the null stream cannot be captured"
        self.cuda.recording = []

    def end_capture(self) -> Graph:
        recorded, self.cuda.recording = self.cuda.recording, None
        assert recorded is not None
        return Graph(self.cuda, recorded)


class Graph:
    """What was recorded, to be done again."""

    def __init__(self, cuda: Cuda, recorded: list[Callable[[], None]]) -> None:
        self.cuda, self.recorded = cuda, recorded

    def launch(self) -> None:
        self.cuda.check_not_recording("launch")
        self.cuda.graph_launches += 1
        for work in self.recorded:
            work()


class RawModule:
    """Kernels compiled for the CPU."""

    def __init__(self, cuda: Cuda, code: str, options: tuple[str, ...]) -> None:
        assert "steps.cu" in code or "One step of every cell" in code
        assert "--fmad=false" in options
        assert "--std=c++17" in options
        cuda.check_not_recording("a module's loading")
        self.cuda, self.library = cuda, compiled(cuda.folder, options)

    def get_function(self, name: str) -> Callable[..., None]:
        self.cuda.check_not_recording("a kernel's loading")
        kernel = ctypes.cast(getattr(self.library, name), ctypes.c_void_p)
        kind = name.rpartition("_")[2]
        launch = getattr(self.library, f"launch_{kind}")
        count = {"forward": FORWARD_ARGUMENTS, "backward": BACKWARD_ARGUMENTS}[kind]
        launch.argtypes = [ctypes.c_void_p, *[ctypes.c_uint] * 2, *[ctypes.c_longlong] * count]
        launch.restype = None

        def start(grid: tuple[int], block: tuple[int], arguments: tuple[int, ...]) -> None:
            assert len(arguments) == count, name
            assert all(type(argument) is int for argument in arguments), arguments
            self.cuda.do(lambda: launch(kernel, *grid, *block, *arguments))

        return start


class Cublas:
    """A stand-in of the library: one handle, and products by NumPy where the addresses point."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.on: int | None = None  # the stream of the handle
        self.workspace: tuple[int, int] | None = None
        self.cublasCreate_v2 = Function(self._create)
        self.cublasSetStream_v2 = Function(self._set_stream)
        self.cublasSetWorkspace_v2 = Function(self._set_workspace)
        self.cublasSgemm_v2 = Function(self._gemm(ctypes.c_float))
        self.cublasDgemm_v2 = Function(self._gemm(ctypes.c_double))

    def _create(self, handle: Any) -> int:
        handle._obj.value = 1
        return 0

    def _set_stream(self, handle: int, stream: int | None) -> int:
        self.on, self.workspace = stream or 0, None
        return 0

    def _set_workspace(self, handle: int, address: int, size: int) -> int:
        assert address and size
        self.workspace = address, size
        return 0

    def _gemm(self, number: Any) -> Callable[..., int]:
        def array(address: int, rows: int, columns: int, stride: int) -> np.ndarray:
            """A matrix as cuBLAS sees it, columns first."""
            assert stride >= max(rows, 1)
            if not rows * columns:
                return np.zeros((rows, columns), number)
            size = (columns - 1) * stride + rows
            flat = np.ctypeslib.as_array((number * size).from_address(address))
            step = flat.itemsize
            return np.lib.stride_tricks.as_strided(flat, (rows, columns), (step, stride * step))

        def gemm(
            handle: int, op_a: int, op_b: int, m: int, n: int, k: int, alpha: Any, a: int,
            a_stride: int, b: int, b_stride: int, beta: Any, c: int, c_stride: int,
        ) -> int:  # fmt: skip
            assert self.on == self.cuda.stream.ptr, "products and kernels on different streams"
            assert self.workspace, "a workspace of its own"
            scale, keep = alpha._obj.value, beta._obj.value

            def multiply() -> None:
                left = array(a, k, m, a_stride).T if op_a else array(a, m, k, a_stride)
                right = array(b, n, k, b_stride).T if op_b else array(b, k, n, b_stride)
                out = array(c, m, n, c_stride)
                out[...] = scale * (left @ right) + (keep * out if keep else 0)

            self.cuda.do(multiply)
            return 0

        return gemm


class Function:
    """A function of a C library: its arguments are converted as its ``argtypes`` say."""

    def __init__(self, function: Callable[..., int]) -> None:
        self.function = function
        self.argtypes: list[Any] = []
        self.restype: Any = None

    def __call__(self, *arguments: Any) -> int:
        assert self.restype is ctypes.c_int
        assert len(arguments) == len(self.argtypes)
        values = []
        for kind, argument in zip(self.argtypes, arguments, strict=True):
            if hasattr(argument, "_obj"):  # by reference
                assert isinstance(argument._obj, kind._type_)
                values.append(argument)
            else:
                values.append(
                    argument.value if hasattr(argument, "value") else kind(argument).value
                )
        return self.function(*values)


def attach(cupy: Any, folder: Path, patch: Any) -> Cuda:
    """Give a stand-in of CuPy what `fastrnn.cuda` asks for; `patch` takes it back."""
    from fastrnn.cuda import cublas, kernels

    cuda = Cuda(folder)
    cupy.RawModule = lambda code, options: RawModule(cuda, code, options)
    cupy.cuda.Stream = lambda non_blocking: Stream(cuda, non_blocking)
    cupy.cuda.get_current_stream = lambda: cuda.stream
    patch.setattr(cublas, "_library", lambda version: Cublas(cuda))
    for cached in (cublas.products, kernels._module, kernels._kernel):
        cached.cache_clear()
    return cuda
