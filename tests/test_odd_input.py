"""Odd input that has a meaning: no sequences or steps, arrays of any layout, NaN and infinity.

On every instruction set and both engines, for all cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from test_bad_input import every_cell, make

import fastrnn
from fastrnn import _native

N, T, D, H = 4, 5, 3, 6
ENGINES = [(isa, gemm) for isa in fastrnn.isas() for gemm in ("packed", "blas")]


@pytest.fixture(params=ENGINES, ids="-".join)
def gemm(request: pytest.FixtureRequest) -> Iterator[str]:
    isa, name = request.param
    fastrnn.set_gemm(name)
    with _native.force_isa(isa):
        yield name
    fastrnn.set_gemm(None)


def parts(state: Any) -> tuple[np.ndarray, ...]:
    return state if isinstance(state, tuple) else (state,)


def whole(state: tuple[np.ndarray, ...]) -> Any:
    return state if len(state) > 1 else state[0]


def random_state(layer: Any, n: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    rows = layer.num_layers * layer.num_directions
    widths = [layer.proj_size or layer.hidden_size, layer.hidden_size][: len(layer.cell.states)]
    return tuple(rng.standard_normal((rows, n, width)).astype(layer.dtype) for width in widths)


def assert_same(found: Any, expected: Any) -> None:
    """Equal in every element, NaN included, whatever the form."""
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


# --- nothing -------------------------------------------------------------------------------------


EMPTY = [
    ("array", 0, T),
    ("array", N, 0),
    ("array", 0, 0),
    ("lengths", 0, T),
    ("lengths", N, T),
    ("lengths", N, 0),
    ("list", 0, 0),
    ("list", N, 0),
]


@every_cell
@pytest.mark.parametrize(("form", "n", "t"), EMPTY)
def test_no_sequences_no_steps_and_none_in_any_sequence(
    name: str, form: str, n: int, t: int, gemm: str, rng: np.random.Generator
) -> None:
    layer = make(name, num_layers=2, bidirectional=True)
    named: dict[str, Any] = {"lengths": np.zeros(n, int)} if form == "lengths" else {}
    x: Any = np.full((n, t, D), np.nan, np.float32)
    if form == "list":
        x = list(x)
    state = random_state(layer, n, rng)
    y, last, backward = layer.forward(x, whole(state), **named)
    assert_same(layer(x, whole(state), **named), (y, last))
    if form == "list":
        assert [one.shape for one in y] == [(0, layer.output_size)] * n
    else:
        assert y.shape == (n, t, layer.output_size)
        assert not y.any()
    assert_same(parts(last), state)
    gradient = random_state(layer, n, rng)
    dx, dfirst = backward([*y] if form == "list" else np.ones_like(y), whole(gradient))
    assert_same(parts(dfirst), gradient)  # with no step between, it goes straight through
    for one in dx if form == "list" else [dx]:
        assert not one.any()
    assert [one.shape for one in dx] == [one.shape for one in x]
    assert not any(grad.any() for grad in layer.grads.values())


# --- layouts -------------------------------------------------------------------------------------


def unaligned(a: np.ndarray) -> np.ndarray:
    return np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape)


def read_only(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "read-only": read_only,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "Fortran's order": np.asfortranarray,
    "every second": lambda a: a.repeat(2, axis=-1)[..., ::2],
    "backwards": lambda a: a[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "part of a larger": lambda a: np.pad(a, 2)[2:-2, 2:-2, 2:-2],
    "unaligned": unaligned,
    "a subclass": lambda a: a.view(np.memmap),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["lstm", "gru"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layouts_of_every_argument(
    layout: str, name: str, dtype: str, rng: np.random.Generator
) -> None:
    change = LAYOUTS[layout]
    layer, other = (make(name, dtype=dtype, bidirectional=True) for _ in range(2))
    x = rng.standard_normal((N, T, D)).astype(dtype)
    lengths = np.array([3, 0, 5, 2])
    state, dlast = random_state(layer, N, rng), random_state(layer, N, rng)
    y, last, backward = layer.forward(x, whole(state), lengths)
    dy = rng.standard_normal(y.shape).astype(dtype)
    found, found_last, back = other.forward(change(x), whole(tuple(map(change, state))), lengths)
    assert_same((found, found_last), (y, last))
    assert_same(back(change(dy), whole(tuple(map(change, dlast)))), backward(dy, whole(dlast)))
    assert_same(list(other.grads.values()), list(layer.grads.values()))
    stream, odd_stream = (make(name, dtype=dtype).stream(N) for _ in range(2))
    assert_same(odd_stream.push(change(x)), stream.push(x))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64", ">i4"])
def test_layouts_of_lengths(dtype: str, rng: np.random.Generator) -> None:
    layer = make()
    x = rng.standard_normal((N, T, D))
    lengths = np.array([3, 0, 5, 2], dtype)
    expected = layer(x, lengths=[3, 0, 5, 2])
    for odd in (lengths, lengths.repeat(2)[::2], lengths[::-1].copy()[::-1], tuple(lengths)):
        assert_same(layer(x, lengths=odd), expected)
    lengths.flags.writeable = False
    y, last, backward = layer.forward(x, lengths=lengths)
    assert_same((y, last), expected)
    lengths = lengths.copy()
    _, _, other = layer.forward(x, lengths=lengths)
    lengths[:] = 1  # what the caller writes later is not for that call
    assert_same(other(np.ones_like(y)), backward(np.ones_like(y)))


def test_overlapping_arrays(rng: np.random.Generator) -> None:
    """Windows of one series, one row for all, and the very outputs as gradients."""
    view = np.lib.stride_tricks.sliding_window_view
    series = rng.standard_normal((20, D)).astype(np.float32)
    windows = view(series, 6, axis=0).transpose(0, 2, 1)
    layer, other = make(), make()
    one = rng.standard_normal((1, 1, H)).astype(np.float32)
    state = (np.broadcast_to(one, (1, len(windows), H)),) * 2
    y, last, backward = layer.forward(windows, state)
    found = other.forward(windows.copy(), tuple(part.copy() for part in state))
    assert_same((y, last), found[:2])
    assert_same(backward(y, last), found[2](y.copy(), tuple(part.copy() for part in last)))
    shifted = view(rng.standard_normal(T + H + 20).astype(np.float32), H)
    for gradient in (
        np.broadcast_to(np.float32(1), y.shape),
        view(shifted, y.shape[1], axis=0).transpose(0, 2, 1)[: len(y)],
    ):
        assert gradient.shape == y.shape and min(gradient.strides) < 4 * H
        layer.zero_grad()
        other.zero_grad()
        assert_same(layer.forward(windows)[2](gradient), other.forward(windows)[2](gradient.copy()))
        assert_same(list(layer.grads.values()), list(other.grads.values()))


def test_a_stream_writes_over_its_input_or_beside_it(rng: np.random.Generator) -> None:
    layer = fastrnn.GRU(H, H, random_state=1)
    x = rng.standard_normal((N, H)).astype(np.float32)
    expected = layer.stream(N).step(x)
    buffer = np.zeros((N + 1, H), np.float32)
    buffer[:N] = x
    for out in (buffer[:N], buffer[1:]):  # all of the input, and rows of it
        buffer[:N] = x
        assert layer.stream(N).step(buffer[:N], out=out) is out
        assert_same(out.copy(), expected)
    padded = np.zeros((N, 2 * H), np.float32)
    assert_same(layer.stream(N).step(x, out=padded[:, ::2]).copy(), expected)
    assert not padded[:, 1::2].any()


# --- NaN and infinity ----------------------------------------------------------------------------


def tolerance(gemm: str) -> dict[str, float]:
    """Packed products give the same bits; BLAS promises that NaN elsewhere is not in them."""
    return {"rtol": 0, "atol": 0} if gemm == "packed" else {"rtol": 1e-5, "atol": 1e-6}


def spoil(where: str, value: float, x: Any, state: tuple[np.ndarray, ...]) -> None:
    if where == "x":
        x[2, 3, 1] = value
    else:
        state[-1][0, 2, 1] = value


@every_cell
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["x", "state"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_what_is_not_finite_stays_in_its_own_sequence(
    name: str, value: float, where: str, bidirectional: bool, gemm: str, rng: np.random.Generator
) -> None:
    layer, other = (make(name, num_layers=2, bidirectional=bidirectional) for _ in range(2))
    x = rng.standard_normal((N, T, D)).astype(np.float32)
    state = random_state(layer, N, rng)
    expected, last, expected_backward = layer.forward(x, whole(state))
    dy = rng.standard_normal(expected.shape).astype(np.float32)
    expected_dx, expected_dfirst = expected_backward(dy)
    spoiled, spoiled_state = x.copy(), tuple(part.copy() for part in state)
    spoil(where, value, spoiled, spoiled_state)
    y, found_last, backward = other.forward(spoiled, whole(spoiled_state))
    dx, dfirst = backward(dy)
    others = [0, 1, 3]
    close = tolerance(gemm)
    np.testing.assert_allclose(y[others], expected[others], **close)
    np.testing.assert_allclose(dx[others], expected_dx[others], **close)
    for found, wanted in [(found_last, last), (dfirst, expected_dfirst)]:
        for part, own in zip(parts(found), parts(wanted), strict=True):
            np.testing.assert_allclose(part[:, others], own[:, others], **close)
    if np.isnan(value) and where == "x":
        assert np.isnan(y[2, 3:]).any(axis=1).all()
        assert np.isnan(dx[2, : 3 + 1]).any()
        if not bidirectional:  # what was before it has not seen it, forwards
            np.testing.assert_allclose(y[2, :3], expected[2, :3], **close)
        assert np.isnan(other.grads["weight_ih_l0"]).any()


@every_cell
def test_nan_in_a_gradient_stays_in_its_own_sequence(
    name: str, gemm: str, rng: np.random.Generator
) -> None:
    layer = make(name, bidirectional=True)
    x = rng.standard_normal((N, T, D)).astype(np.float32)
    y, _, expected_backward = layer.forward(x)
    _, _, backward = layer.forward(x)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    expected, expected_dfirst = expected_backward(dy)
    dy[1, 2, 0] = np.nan
    dx, dfirst = backward(dy)
    others = [0, 2, 3]
    close = tolerance(gemm)
    np.testing.assert_allclose(dx[others], expected[others], **close)
    for part, own in zip(parts(dfirst), parts(expected_dfirst), strict=True):
        np.testing.assert_allclose(part[:, others], own[:, others], **close)
    # forwards it reaches the steps before, backwards those after: with both directions all but none
    assert np.isnan(dx[1, :3]).any(axis=1).all()


@every_cell
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_huge_numbers_saturate(name: str, size: float, gemm: str) -> None:
    layer = make(name)
    x = size * np.where(np.arange(N * T * D).reshape(N, T, D) % 2, 1.0, -1.0)
    y, _, backward = layer.forward(x)
    dx, _ = backward(np.ones_like(y))
    assert np.isfinite(y).all() and np.isfinite(dx).all()
    if name != "rnn relu":
        assert np.abs(y).max() <= (1 if name != "lstm projected" else H)
