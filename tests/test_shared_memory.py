"""Arrays of other libraries in the host's memory: computed natively, where they are."""

from __future__ import annotations

from typing import Any

import array_api_strict
import numpy as np
import pytest

import fastrnn
from fastrnn import losses

N, T, D, H = 4, 5, 3, 6


@pytest.fixture(params=["torch", "strict"])
def guest(request: pytest.FixtureRequest) -> Any:
    """What gives an array of another library, in the memory of a NumPy array."""
    if request.param == "torch":
        return pytest.importorskip("torch").from_numpy
    return lambda x: array_api_strict.from_dlpack(x)


def address(x: Any) -> int:
    return np.from_dlpack(x).ctypes.data


def same(found: Any, expected: Any, like: Any) -> None:
    """Of the guest's library, with the same bits."""
    if isinstance(expected, (tuple, list)):
        assert type(found) is type(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other, like)
        return
    assert type(found) is type(like)
    np.testing.assert_array_equal(np.from_dlpack(found), expected)


def test_the_same_bits_as_numpy(guest: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((N, T, D)).astype(np.float32)
    lengths = np.array([2, 5, 0, 1])
    one = fastrnn.LSTM(D, H, 2, bidirectional=True, dropout=0.2, random_state=1)
    two = fastrnn.LSTM(D, H, 2, bidirectional=True, dropout=0.2, random_state=1)
    like = guest(x)
    same(two(like, lengths=guest(lengths)), one(x, lengths=lengths), like)
    y, state, backward = one.forward(x, lengths=lengths)
    found, found_state, its_backward = two.forward(like, lengths=lengths)
    same([found, found_state], [y, state], like)
    same(its_backward(found, found_state), backward(y, state), like)
    for name, grad in one.grads.items():
        assert isinstance(two.grads[name], np.ndarray)
        np.testing.assert_array_equal(two.grads[name], grad)
    sequences = [x[0, :2], x[1]]
    same(two([guest(part) for part in sequences]), one(sequences), like)
    loss, dy = losses.squared_error(y, np.zeros_like(y))
    found_loss, found_dy = losses.squared_error(found, guest(np.zeros_like(y)))
    assert found_loss == loss
    same(found_dy, dy, like)


def test_nothing_is_copied(
    guest: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = fastrnn.GRU(D, H, random_state=1)
    x = rng.standard_normal((N, T, D)).astype(np.float32)
    seen = []
    stack = type(layer._stack)
    forward = stack.forward

    def spy(self: Any, container: Any, *rest: Any) -> Any:
        found = forward(self, container, *rest)
        seen.append((container, found[0]))
        return found

    monkeypatch.setattr(stack, "forward", spy)
    for call in (layer, layer.forward):
        y = call(guest(x))[0]
        container, inside = seen.pop()
        assert container.ctypes.data == x.ctypes.data
        assert inside.ctypes.data == address(y)
    stream = layer.stream(N)
    out = np.zeros((N, H), np.float32)
    given = guest(out)
    assert stream.step(guest(x[:, 0]), given) is given
    np.testing.assert_array_equal(out, layer(x[:, :1])[0][:, 0])
    found = stream.push(guest(x[:, 1:]))
    assert seen.pop()[1].ctypes.data == address(found)
    same(found, layer(x)[0][:, 1:], given)


def test_a_tensor_with_a_graph_is_refused(torch: Any) -> None:
    layer = fastrnn.Linear(3, 2)
    x = torch.ones((2, 3), requires_grad=True)
    with pytest.raises(
        TypeError, match=r"^x: expected a tensor without requires_grad, for fastrnn"
    ):
        layer(x)
    assert layer(x.detach()).shape == (2, 2)


def test_dtypes_that_numpy_has_not_are_refused(torch: Any) -> None:
    layer = fastrnn.Linear(3, 2)
    with pytest.raises(TypeError, match=r"^x: expected an array of real numbers .* read in place"):
        layer(torch.ones((2, 3), dtype=torch.bfloat16))
    with pytest.raises(TypeError, match=r"^x: expected real numbers, got dtype complex64"):
        layer(torch.ones((2, 3), dtype=torch.complex64))


def test_libraries_are_not_mixed(torch: Any, rng: np.random.Generator) -> None:
    layer = fastrnn.GRU(D, H)
    x = rng.standard_normal((N, T, D)).astype(np.float32)
    state = np.zeros((1, N, H), np.float32)
    with pytest.raises(TypeError, match=r"^state: expected an array of .*torch, .* one of numpy"):
        layer(torch.from_numpy(x), state)
    with pytest.raises(TypeError, match=r"^state: expected an array of numpy, .* one of .*torch"):
        layer(x, torch.from_numpy(state))
    with pytest.raises(TypeError, match=r"^x\[1\]: expected an array of numpy"):
        layer([x[0], torch.from_numpy(x[1])])
    _, _, backward = layer.forward(torch.from_numpy(x))
    with pytest.raises(TypeError, match=r"^dy: expected an array of .*torch, .* one of numpy"):
        backward(np.zeros((N, T, H), np.float32))
