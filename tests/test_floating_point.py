"""The caller's floating-point modes, whatever they are, are the same after every kind of call."""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import losses, optim

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or platform.libc_ver()[0] != "glibc",
    reason="reads and sets the modes as glibc keeps them on x86-64",
)

DEFAULT = 0x1F80  # no exception is raised; round to nearest
FLAGS = 0x3F  # which of them have happened
MODES = {
    "default": DEFAULT,
    "denormal results are zero": DEFAULT | 0x8000,
    "denormal inputs are zero": DEFAULT | 0x0040,
    "both": DEFAULT | 0x8040,
    "upwards": DEFAULT | 0x4000,
    "to zero, and both": DEFAULT | 0x6000 | 0x8040,
}


def modes(new: int | None = None) -> int:
    """This thread's modes, which are then set anew."""
    libm, environment = ctypes.CDLL("libm.so.6"), (ctypes.c_uint32 * 8)()
    assert libm.fegetenv(environment) == 0
    found = environment[7] & ~FLAGS  # MXCSR stands last
    if new is not None:
        environment[7] = new
        assert libm.fesetenv(environment) == 0
    return found


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    modes(DEFAULT)
    fastrnn.set_num_threads(None)
    fastrnn.set_gemm(None)


X = np.random.default_rng(0).standard_normal((24, 40, 32)).astype(np.float32)
LSTM = fastrnn.LSTM(32, 64, bidirectional=True, random_state=0)
STREAM = fastrnn.GRU(32, 256, random_state=0).stream(24)
POOL = fastrnn.StreamPool(fastrnn.GRU(32, 64, random_state=0))
KEYS = POOL.open(24)
LINEAR = fastrnn.Linear(32, 50, random_state=0)
NORM, ATTENTION = fastrnn.LayerNorm(32), fastrnn.Attention(32, 32, random_state=0)
ADAM = optim.Adam([LSTM], 0.0)


def train() -> None:
    y, _, backward = LSTM.forward(X)
    backward(y)


def whole() -> None:
    _, backward = losses.linear_cross_entropy(LINEAR, X, np.zeros((24, 40), np.int64))
    backward()


CALLS: dict[str, Callable[[], Any]] = {
    "inference": lambda: LSTM(X),
    "training": train,
    "step": lambda: STREAM.step(X[:, 0]),
    "push": lambda: STREAM.push(X),
    "pool": lambda: POOL.step(KEYS, X[:, 0]),
    "linear": lambda: LINEAR(X),
    "cross entropy": whole,
    "normalization": lambda: NORM.forward(X)[1](X),
    "attention": lambda: ATTENTION(X, X),
    "optimizer": ADAM.step,
    "clipping": lambda: fastrnn.clip_grad_norm([LSTM], 1.0),
}


@pytest.mark.parametrize("gemm", ["packed", "blas"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", MODES)
def test_modes_are_as_they_were(name: str, threads: int, gemm: str) -> None:
    fastrnn.set_num_threads(threads)
    fastrnn.set_gemm(gemm)
    for call in CALLS.values():  # so that whatever is kept between calls is there
        call()
    wrong = []
    for what, call in CALLS.items():
        modes(MODES[name])
        call()
        if modes(DEFAULT) != MODES[name]:
            wrong.append(what)
    assert not wrong


def test_errors_leave_the_modes_too() -> None:
    modes(MODES["both"])
    with pytest.raises(ValueError, match="x: expected"):
        LSTM(X[..., :3])
    assert modes(DEFAULT) == MODES["both"]


def test_threads_have_modes_of_their_own() -> None:
    wrong: list[str] = []
    start = threading.Barrier(len(MODES))

    def use(name: str) -> None:
        modes(MODES[name])
        start.wait()
        for _ in range(20):
            LSTM(X)
            if modes() != MODES[name]:
                wrong.append(name)

    threads = [threading.Thread(target=use, args=(name,)) for name in MODES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_bits_do_not_depend_on_the_callers_modes() -> None:
    fastrnn.set_gemm("packed")
    expected = LSTM(X)[0].tobytes()
    for name, mode in MODES.items():
        modes(mode)
        found = LSTM(X)[0].tobytes()
        modes(DEFAULT)
        assert found == expected, name
