"""Kinds of arrays that the tests compute with, each on a device that is not NumPy's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import array_api_strict
import numpy as np
import pytest

ELSEWHERE = array_api_strict.Device("device1")


class Kind:
    """What puts NumPy arrays on a device.

    Attributes
    ----------
    device : str or array
        As ``layer.to`` takes it.
    """

    def __init__(self, make: Callable[[np.ndarray], Any], device: str | None = None) -> None:
        self._make = make
        self.device = make(np.zeros(0)) if device is None else device

    def __call__(self, x: Any) -> Any:
        """The same on the device, whatever the nesting."""
        if isinstance(x, (list, tuple)):
            return type(x)(map(self, x))
        return None if x is None else self._make(np.asarray(x))


def strict(device: Any) -> Kind:
    """Arrays of array_api_strict, which refuses what the standard does not promise.

    It lets arrays of two devices never meet.
    """
    return Kind(lambda x: array_api_strict.asarray(x, device=device))


def torch() -> Kind:
    """Tensors of PyTorch's, which the array twin computes with through array_api_compat."""
    pytest.importorskip("array_api_compat")
    module = pytest.importorskip("torch")
    return Kind(lambda x: module.from_numpy(x.copy()))


def cuda(number: int) -> Kind:
    """Arrays of what `stand_in_cupy` has made ``sys.modules["cupy"]``."""
    cupy = sys.modules["cupy"]

    def make(x: np.ndarray) -> Any:
        with cupy.cuda.Device(number):
            return cupy.asarray(x)

    return Kind(make, f"cuda:{number}")


KINDS: dict[str, Callable[[], Kind]] = {
    "strict device1": lambda: strict(ELSEWHERE),
    "strict cpu": lambda: strict(array_api_strict.Device("CPU_DEVICE")),
    "torch": torch,
    "cuda:0": lambda: cuda(0),
    "cuda:1": lambda: cuda(1),
}


@pytest.fixture(params=KINDS)
def put(request: pytest.FixtureRequest) -> Iterator[Kind]:
    """What puts a NumPy array where the array twin must follow it."""
    if request.param.startswith("cuda"):
        request.getfixturevalue("fake_cupy")
    if request.param != "torch":
        yield KINDS[request.param]()
        return
    module = pytest.importorskip("torch")
    threads = module.get_num_threads()
    module.set_num_threads(1)  # more cost more than they help with arrays of this size
    yield torch()
    module.set_num_threads(threads)


def stays(like: Any, found: Any) -> None:
    """Fail unless all arrays of a result are of the kind of `like` and on its device."""
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, (list, tuple)):
        for one in found:
            stays(like, one)
    elif hasattr(found, "shape"):
        assert type(found) is type(like), type(found)
        assert found.device == like.device
