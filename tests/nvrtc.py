"""CUDA's compiler as PyPI has it (``nvidia-cuda-nvrtc``): it needs no driver and no device."""

from __future__ import annotations

import ctypes
import importlib.metadata
from pathlib import Path

import pytest


def library() -> ctypes.CDLL:
    """The compiler, or a skip where it is not installed."""
    try:
        files = importlib.metadata.files("nvidia-cuda-nvrtc") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("nvidia-cuda-nvrtc is not installed")
    (path,) = [f for f in files if f.name.startswith("libnvrtc.so.")]
    return ctypes.CDLL(str(path.locate()))


def compiled(nvrtc: ctypes.CDLL, source: Path, options: list[str]) -> tuple[bytes, str]:
    """The machine code of a source, empty where it does not compile, and what the compiler says."""
    program = ctypes.c_void_p()
    created = nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source.read_bytes(), source.name.encode(), 0, None, None
    )
    assert created == 0
    words = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    failed = nvrtc.nvrtcCompileProgram(program, len(options), words)
    log = _text(nvrtc, program, "ProgramLog").rstrip(b"\0").decode()
    code = b"" if failed else _text(nvrtc, program, "CUBIN")
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return code, log


def _text(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    assert getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
    text = ctypes.create_string_buffer(size.value)
    assert getattr(nvrtc, f"nvrtcGet{what}")(program, text) == 0
    return text.raw
