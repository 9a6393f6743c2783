"""CUDA devices without one: what is said where they are missing, full, or other libraries' too."""

from __future__ import annotations

import copy
import sys
from typing import Any

import numpy as np
import pytest
import stand_in_cupy
from kinds import cuda
from stand_in_cupy import failing

import fastrnn
from fastrnn import losses, optim
from fastrnn.engine.arrays import to_host

N, T, D, H = 4, 5, 3, 6


def layer(**options: Any) -> fastrnn.LSTM:
    return fastrnn.LSTM(D, H, **({"dtype": "float64", "random_state": 1} | options))


def test_the_stand_in_refuses_what_must_not_happen(fake_cupy: Any) -> None:
    x = fake_cupy.asarray(np.ones(3))
    host = np.ones(3)
    with fake_cupy.cuda.Device(1):
        other = fake_cupy.asarray(np.ones(3))
    for mistake in (
        lambda: np.asarray(x),
        lambda: np.sum(x),
        lambda: np.add.reduce(x),
        lambda: list(x),
        lambda: x + host,
        lambda: host + x,
        lambda: fake_cupy.where(x > 0, host, x),
        lambda: x[np.array([0])],
        lambda: x.__setitem__(..., host),
        lambda: x.__iadd__(host),
        lambda: host.__iadd__(x),
    ):
        with pytest.raises(TypeError):
            mistake()
    for mistake in (lambda: x + other, lambda: fake_cupy.exp(other), lambda: other * 2):
        with pytest.raises(ValueError, match="array of device 1 used on device 0"):
            mistake()
    with failing(after=1):
        x = x * 2
        with pytest.raises(MemoryError):
            x * 2
        x += 1  # in place
    np.testing.assert_array_equal((np.float64(2) * x).get(), 6 * host)


def test_devices_have_numbers(fake_cupy: Any) -> None:
    assert layer().to("cuda").device == "cuda:0"
    assert layer().to("cuda:1").device == "cuda:1"
    with pytest.raises(ValueError, match=r"^device: expected cuda:0 to cuda:1, got 'cuda:2'"):
        layer().to("cuda:2")
    moved = layer().to("cuda:0")
    param = moved.params["weight_hh_l0"]
    assert moved.to("cuda:0").params["weight_hh_l0"] is param
    with pytest.raises(ValueError, match=r"^x: expected an array on cuda:0, .* cupy on cuda:1"):
        moved(cuda(1)(np.zeros((N, T, D))))
    with pytest.raises(ValueError, match=r"^x: expected an array on cpu, .* of cupy on cuda:1"):
        layer()(cuda(1)(np.zeros((N, T, D))))


def test_no_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"^CUDA devices need CuPy.*fastrnn\[cuda\]"):
        layer().to("cuda")


def test_an_old_cupy(fake_cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(fake_cupy, "concat")
    monkeypatch.setattr(fake_cupy, "__version__", "12.0.0")
    with pytest.raises(ImportError, match=r"^CUDA devices need CuPy 14 or later.*got 12.0.0"):
        layer().to("cuda")


def test_no_driver(fake_cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise stand_in_cupy.CUDARuntimeError("cudaErrorInsufficientDriver: ...")

    monkeypatch.setattr(fake_cupy.cuda.runtime, "getDeviceCount", fail)
    with pytest.raises(
        RuntimeError, match=r"^device: .* CuPy finds no driver .*InsufficientDriver"
    ):
        layer().to("cuda")


def test_no_device(fake_cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_cupy.cuda.runtime, "getDeviceCount", lambda: 0)
    with pytest.raises(RuntimeError, match=r"^device: expected a CUDA device for 'cuda:1', but"):
        layer().to("cuda:1")


# Out of memory


def values(net: Any) -> list[np.ndarray]:
    return [to_host(param) for param in net.params.values()]


def network() -> fastrnn.Sequential:
    own: dict[str, Any] = {"dtype": "float64", "random_state": 1}
    return fastrnn.Sequential(fastrnn.Embedding(7, D, **own), layer(), fastrnn.Linear(H, 7, **own))


def step(net: Any, optimizer: Any, x: Any, targets: Any) -> float:
    net.zero_grad()
    y, _, backward = net.forward(x)
    loss, dy = losses.softmax_cross_entropy(y, targets)
    backward(dy)
    fastrnn.clip_grad_norm(net, 1.0)
    optimizer.step()
    return loss


@pytest.mark.parametrize("device", [0, 1])
def test_a_step_without_room_changes_nothing(
    device: int, fake_cupy: Any, rng: np.random.Generator
) -> None:
    put = cuda(device)
    net = network().to(put.device)
    x, targets = put(rng.integers(0, 7, (N, T))), put(rng.integers(0, 7, (N, T)))
    optimizer = optim.Adam(net, 0.01)
    step(net, optimizer, x, targets)
    net_2 = copy.deepcopy(net)
    optimizer_2 = optim.Adam(net_2, 0.01)
    optimizer_2.load_state_dict(optimizer.state_dict())
    before, failures, after = values(net), 0, 0
    while True:
        try:
            with failing(after):
                loss = step(net, optimizer, x, targets)
        except MemoryError:
            failures += 1
            after += 7
            for found, expected in zip(values(net), before, strict=True):
                np.testing.assert_array_equal(found, expected)
            continue
        break
    assert failures > 20
    # Nothing was lost: the step that had room is the one that would have come first.
    assert step(net_2, optimizer_2, x, targets) == loss
    for found, expected in zip(values(net), values(net_2), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_move_without_room_moves_nothing(fake_cupy: Any, rng: np.random.Generator) -> None:
    net = network()
    x = rng.integers(0, 7, (N, T))
    y = net(x)[0]
    for after in range(0, 14, 3):
        with failing(after), pytest.raises(MemoryError):
            net.to("cuda")
        assert net.device == "cpu"
        np.testing.assert_array_equal(net(x)[0], y)
    net.to("cuda")
    before = values(net)
    with failing(3), pytest.raises(MemoryError):
        net.to("cuda:1")
    assert [one.device for one in net.layers] == ["cuda:0"] * 3
    for found, expected in zip(values(net), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_stream_without_room_goes_on(fake_cupy: Any, rng: np.random.Generator) -> None:
    put = cuda(1)
    moved = layer().to("cuda:1")
    x = rng.standard_normal((N, T, D))
    stream, pool = moved.stream(N), fastrnn.StreamPool(moved)
    keys = pool.open(N)
    stream.step(put(x[:, 0]))
    pool.step(keys, put(x[:, 0]))
    rows = put(x[:, 1])
    expected = layer()(x[:, :2])[0][:, 1]
    for step in (lambda: stream.step(rows), lambda: pool.step(keys, rows)):
        y, refused = None, 0
        while y is None:  # with ever more room, until there is enough
            try:
                with failing(refused):
                    y = step()
            except MemoryError:
                refused += 1
        assert refused > 2
        np.testing.assert_allclose(y.get(), expected, rtol=1e-12)


# Other libraries' arrays on a CUDA device


class Guest:
    """An array of a library called ``guest`` on a CUDA device, which DLPack hands over."""

    __module__ = "guest"

    def __init__(self, values: np.ndarray, number: int) -> None:
        self.values, self.number = values, number
        self.shape, self.dtype, self.device = values.shape, values.dtype, f"gpu {number}"

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.number

    def __dlpack__(self, **options: Any) -> Any:
        return self.values, self.number


def test_other_libraries_on_the_device(
    fake_cupy: Any, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    def from_dlpack(array: Any) -> Guest:
        return Guest(*array.__dlpack__())

    module = type(sys)("guest")
    module.from_dlpack = from_dlpack  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "guest", module)
    x = rng.standard_normal((N, T, D))
    moved = layer().to("cuda:1")
    y, (h, _), backward = moved.forward(Guest(x, 1))
    dx, _ = backward(y)
    for one in (y, h, dx):
        assert type(one) is Guest and one.number == 1
    expected, _, host_backward = layer().forward(x)
    np.testing.assert_allclose(y.values, expected, rtol=1e-12)
    np.testing.assert_allclose(dx.values, host_backward(expected)[0], rtol=1e-10)
    with pytest.raises(ValueError, match=r"^x: expected an array on cuda:1, .* of guest on gpu 0"):
        moved(Guest(x, 0))
    with pytest.raises(ValueError, match=r"^x: expected an array on cpu, .* of guest on gpu 1"):
        layer()(Guest(x, 1))
    with pytest.raises(TypeError, match=r"^dy: expected an array of .*guest.*, .* one of .*cupy"):
        moved.forward(Guest(x, 1))[2](cuda(1)(np.zeros((N, T, H))))
