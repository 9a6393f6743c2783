"""Fixtures and settings that every test module shares."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # for `bench`; what is installed stays before it

# A busy machine must not turn a slow example into a failure, and a run must be repeatable.
settings.register_profile("fastrnn", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("fastrnn")

# What a shell starts in the background ignores Ctrl-C, and tests that send it would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Leave modules and tests out of what the garbage collector walks over, again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder that holds pyproject.toml, the C sources, the examples and the README."""
    return ROOT


@pytest.fixture(scope="session")
def data_file() -> Callable[[str], Path]:
    """`data_file("text/tiny_shakespeare.txt")`: a file of the optional real data, or a skip.

    The data lies in the folder that FASTRNN_DATA names, else in ../shared/data.
    """
    folder = Path(os.environ.get("FASTRNN_DATA") or ROOT.parent / "shared" / "data")

    def find(name: str) -> Path:
        path = folder / name
        if not path.is_file():
            pytest.skip(f"{name} is not there: set FASTRNN_DATA to the folder of real data")
        return path

    return find


@pytest.fixture(scope="session")
def torch() -> ModuleType:
    """PyTorch, or a skip where it is not installed."""
    return pytest.importorskip("torch")


@pytest.fixture(scope="session")
def cupy() -> ModuleType:
    """CuPy with a device to run on, or a skip; goes with `@pytest.mark.gpu`."""
    module = pytest.importorskip("cupy")
    try:
        devices = module.cuda.runtime.getDeviceCount()
    except module.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"CuPy finds no CUDA device: {error}")
    if devices == 0:
        pytest.skip("CuPy finds no CUDA device")
    return module


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed, fresh for each test."""
    return np.random.default_rng(20)


@pytest.fixture
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files be written without the wait until they lie on the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def nothing_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide what the environment asks for; the suite also runs with it set, to try other kernels."""
    for name in ("FASTRNN_GEMM", "FASTRNN_ISA", "FASTRNN_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def threads_restored() -> Iterator[None]:
    """Set back how many threads are used, whatever a test has asked for."""
    import fastrnn
    from fastrnn import _native

    yield
    _native.set_thread_limit(0)
    fastrnn.set_num_threads(None)


# A stand-in for CUDA


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the CUDA kernels that are compiled for the CPU lie."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def fake_cupy(built: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A stand-in for CuPy with two devices, installed as it; `made` counts what they do."""
    import stand_in_cupy
    from cuda_on_cpu import attach

    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler for the kernels")
    module = stand_in_cupy.make()
    module.made = attach(module, built, monkeypatch)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy", module)
    importing = ("fastrnn.cuda.plans", "fastrnn.cuda.engine")
    for name in importing:  # they may have imported another
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield module
    for name in importing:
        sys.modules.pop(name, None)
