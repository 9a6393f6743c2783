"""Recurrent layers: every form of input, how layers and directions are wired, and states."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_layers import LENGTHS, D, H, N, T, close, every_cell, make, parts
from test_gradients import CELLS

from fastrnn.engine.recurrence import twin_only

# Forms of the input


@every_cell
@pytest.mark.parametrize("bidirectional", [False, True])
def test_lists_and_lengths_are_each_sequence_by_itself(
    name: str, bidirectional: bool, rng: np.random.Generator
) -> None:
    layer = make(name, num_layers=2, bidirectional=bidirectional)
    x = rng.standard_normal((N, T, D))
    y, state = layer(x, lengths=LENGTHS)
    as_list, state_of_list = layer([x[n, :k] for n, k in enumerate(LENGTHS)])
    assert isinstance(as_list, list)
    for n, length in enumerate(LENGTHS):
        alone, state_alone = layer(x[n : n + 1, :length])
        close(y[n, :length], alone[0])
        close(as_list[n], alone[0])
        assert (y[n, length:] == 0).all()
        for whole, of_list, own in zip(
            parts(state), parts(state_of_list), parts(state_alone), strict=True
        ):
            close(whole[:, n], own[:, 0])
            close(of_list[:, n], own[:, 0])


def test_a_lists_outputs_are_slices_of_one_buffer(rng: np.random.Generator) -> None:
    y, _ = make()([rng.standard_normal((k, D)) for k in (2, 0, 3)])
    assert [one.shape for one in y] == [(2, H), (0, H), (3, H)]
    assert y[0].base is y[2].base is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.astype(">f8"),
        lambda x: np.asfortranarray(x),
        lambda x: x.repeat(2, axis=2)[:, :, ::2],
        lambda x: np.ascontiguousarray(x[:, ::-1])[:, ::-1],
        lambda x: np.ascontiguousarray(x[::-1])[::-1],
        lambda x: np.ascontiguousarray(x[:, :, ::-1])[:, :, ::-1],
        lambda x: x.transpose(1, 0, 2).copy().transpose(1, 0, 2),
        lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),
        lambda x: x.tolist() and np.array(x.tolist()),
    ],
    ids=["swapped", "fortran", "strided", "back in time", "backwards", "back", "tnd", "odd", "new"],
)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_memory_layouts_change_nothing(
    change: Callable[[np.ndarray], np.ndarray], bidirectional: bool, rng: np.random.Generator
) -> None:
    layer = make(bidirectional=bidirectional)
    x = rng.standard_normal((N, T, D))
    other = change(x)
    other.flags.writeable = False
    expected, state, backward = layer.forward(x, lengths=LENGTHS)
    y, other_state, other_backward = layer.forward(other, lengths=LENGTHS)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(other_state, state)
    dy = rng.standard_normal(y.shape)
    dx = backward(dy)[0]
    np.testing.assert_array_equal(other_backward(change(dy))[0], dx)
    as_list = [one[:k] for one, k in zip(other, LENGTHS, strict=True)]
    for found, whole, k in zip(layer(as_list)[0], expected, LENGTHS, strict=True):
        close(found, whole[:k])


@pytest.mark.parametrize("dtype", ["int8", "uint64", "bool", "float16", "float32", "longdouble"])
@pytest.mark.parametrize("own", ["float32", "float64"])
def test_other_dtypes_are_converted_once(dtype: str, own: str) -> None:
    layer = make(dtype=own)
    x = (np.arange(N * T * D).reshape(N, T, D) % 2).astype(dtype)
    y, state = layer(x)
    assert y.dtype == own
    assert all(part.dtype == own for part in state)
    np.testing.assert_array_equal(y, layer(x.astype(own))[0])


def test_overlapping_windows_are_read_in_place(rng: np.random.Generator) -> None:
    series = rng.standard_normal((20, D))
    windows = np.lib.stride_tricks.sliding_window_view(series, 6, axis=0).transpose(0, 2, 1)
    layer = make()
    y, _, backward = layer.forward(windows)
    expected, _, other = layer.forward(windows.copy())
    np.testing.assert_array_equal(y, expected)
    dy = rng.standard_normal(y.shape)
    np.testing.assert_array_equal(backward(dy)[0], other(dy)[0])


@every_cell
@pytest.mark.parametrize("shape", [(0, T, D), (N, 0, D), (0, 0, D)])
@pytest.mark.parametrize("layers", [1, 2])
def test_nothing_in_gives_nothing_and_the_state_out(
    name: str, shape: tuple[int, ...], layers: int
) -> None:
    layer = make(name, num_layers=layers, bidirectional=True)
    given = tuple(
        np.full((2 * layers, shape[0], layer._state_width(s)), 0.5) for s in layer.cell.states
    )
    y, state, backward = layer.forward(np.zeros(shape), given if len(given) > 1 else given[0])
    assert y.shape == (*shape[:2], layer.output_size)
    for part, own in zip(parts(state), given, strict=True):
        np.testing.assert_array_equal(part, own)
    dx, dstate = backward(np.zeros_like(y), state)
    assert dx.shape == shape
    for part, own in zip(parts(dstate), given, strict=True):
        np.testing.assert_array_equal(part, own)


def test_an_empty_list_is_a_batch_of_no_sequences() -> None:
    layer = make()
    y, (h, c), backward = layer.forward([])
    assert y == []
    assert h.shape == c.shape == (1, 0, H)
    assert backward([])[0] == []


def test_padding_is_neither_read_nor_given_a_gradient(rng: np.random.Generator) -> None:
    layer = make(num_layers=2, bidirectional=True)
    x = rng.standard_normal((N, T, D))
    dirty = x.copy()
    dy = rng.standard_normal((N, T, 2 * H))
    dirty_dy = dy.copy()
    for n, length in enumerate(LENGTHS):
        dirty[n, length:] = np.nan
        dirty_dy[n, length:] = np.inf
    y, state, backward = layer.forward(dirty, lengths=LENGTHS)
    expected, expected_state, clean = layer.forward(x, lengths=LENGTHS)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(state, expected_state)
    dx = backward(dirty_dy)[0]
    np.testing.assert_array_equal(dx, clean(dy)[0])
    assert all((dx[n, length:] == 0).all() for n, length in enumerate(LENGTHS))
    assert all(np.isfinite(grad).all() for grad in layer.grads.values())


@every_cell
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("engine", ["native", "twin"])
def test_what_is_not_finite_stays_in_its_own_sequence(
    name: str, bad: float, engine: str, rng: np.random.Generator
) -> None:
    layer = make(name)
    x = rng.standard_normal((N, T, D))
    with twin_only() if engine == "twin" else nullcontext():
        clean, _ = layer(x)
        x[1, 2, 0] = bad
        y, _ = layer(x)
    others = [0, 2, 3]
    close(y[others], clean[others])
    close(y[1, :2], clean[1, :2])
    if np.isnan(bad):
        assert np.isnan(y[1, 2:]).all()


# Wiring


@every_cell
def test_the_reverse_direction_is_a_layer_walking_backwards(
    name: str, rng: np.random.Generator
) -> None:
    layer = make(name, bidirectional=True)
    one_way = [make(name), make(name)]
    for parameter in one_way[0].params:
        one_way[0].params[parameter][...] = layer.params[parameter]
        one_way[1].params[parameter][...] = layer.params[f"{parameter}_reverse"]
    x = rng.standard_normal((N, T, D))
    y, state = layer(x, lengths=LENGTHS)
    for n, k in enumerate(LENGTHS):
        ahead, last = one_way[0](x[n : n + 1, :k])
        back, first = one_way[1](x[n : n + 1, :k][:, ::-1])
        close(y[n, :k], np.concatenate([ahead[0], back[0, ::-1]], axis=1))
        for whole, a, b in zip(parts(state), parts(last), parts(first), strict=True):
            close(whole[:, n], [a[0, 0], b[0, 0]])


@every_cell
def test_layers_stand_on_each_other(name: str, rng: np.random.Generator) -> None:
    layer = make(name, num_layers=2)
    lower = make(name)
    kind, own = CELLS[name]
    upper = kind(lower.output_size, H, dtype="float64", **own)
    for one, end in ((lower, "l0"), (upper, "l1")):
        for parameter in one.params:
            one.params[parameter][...] = layer.params[parameter.replace("l0", end)]
    x = rng.standard_normal((N, T, D))
    between, low = lower(x, lengths=LENGTHS)
    expected, high = upper(between, lengths=LENGTHS)
    y, state = layer(x, lengths=LENGTHS)
    close(y, expected)
    for whole, a, b in zip(parts(state), parts(low), parts(high), strict=True):
        close(whole, np.concatenate([a, b]))


@given(
    st.sampled_from(sorted(CELLS)),
    st.lists(st.integers(0, 6), max_size=6),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_any_batch_agrees_in_all_its_forms(
    name: str, lengths: list[int], layers: int, bidirectional: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    layer = make(name, num_layers=layers, bidirectional=bidirectional, random_state=seed)
    room = max(lengths, default=0) + int(rng.integers(3))
    x = rng.standard_normal((len(lengths), room, D))
    as_list = [x[n, :k] for n, k in enumerate(lengths)]
    y, state, backward = layer.forward(x, lengths=lengths)
    list_y, list_state, list_backward = layer.forward(as_list)
    for mine, its in zip(parts(state), parts(list_state), strict=True):
        close(its, mine)
    dy = rng.standard_normal(y.shape)
    dx, dfirst = backward(dy, state)
    grads = {key: grad.copy() for key, grad in layer.grads.items()}
    layer.zero_grad()
    list_dx, list_dfirst = list_backward([dy[n, :k] for n, k in enumerate(lengths)], list_state)
    for mine, its in zip(parts(dfirst), parts(list_dfirst), strict=True):
        close(its, mine)
    for n, k in enumerate(lengths):
        close(list_y[n], y[n, :k])
        close(list_dx[n], dx[n, :k])
        assert not y[n, k:].any()
        assert not dx[n, k:].any()
    for key, grad in layer.grads.items():
        np.testing.assert_allclose(grad, grads[key], rtol=1e-9, atol=1e-12)


# States


@every_cell
@pytest.mark.parametrize("initial_state", ["zeros", "normal", "learned"])
def test_the_state_when_none_is_given(
    name: str, initial_state: str, rng: np.random.Generator
) -> None:
    layer = make(name, num_layers=2, bidirectional=True, initial_state=initial_state)
    for parameter in layer.params:
        if parameter.startswith(("h0", "c0")):
            layer.params[parameter][...] = rng.standard_normal(layer.params[parameter].shape)
    _, state = layer(np.zeros((2, 0, D)))
    for label, part in zip(layer.cell.states, parts(state), strict=True):
        np.testing.assert_array_equal(part[:, 0], part[:, 1])
        if initial_state == "zeros":
            assert (part == 0).all()
        elif initial_state == "normal":
            assert 0 < np.abs(part).max() < 0.1
            assert len(np.unique(part[:, 0])) == part[:, 0].size
        else:
            ends = ("l0", "l0_reverse", "l1", "l1_reverse")
            expected = [layer.params[f"{label}0_{end}"] for end in ends]
            np.testing.assert_array_equal(part[:, 0], expected)
    x = rng.standard_normal((2, T, D))
    close(layer(x)[0], layer(x, state)[0])


def test_learned_states_add_up_over_sequences_only_where_they_were_used(
    rng: np.random.Generator,
) -> None:
    layer = make("gru", initial_state="learned")
    x = rng.standard_normal((N, T, D))
    y, _, backward = layer.forward(x, lengths=LENGTHS)
    _, dstate = backward(np.ones_like(y), np.ones((1, N, H)))
    close(layer.grads["h0_l0"], dstate[0].sum(axis=0))
    layer.zero_grad()
    y, _, backward = layer.forward(x, np.zeros((1, N, H)), LENGTHS)
    backward(np.ones_like(y))
    assert not layer.grads["h0_l0"].any()
    assert layer.grads["weight_hh_l0"].any()


@every_cell
def test_a_given_state_may_change_before_backward(name: str, rng: np.random.Generator) -> None:
    layer = make(name)
    x = rng.standard_normal((N, T, D))
    state = tuple(rng.standard_normal((1, N, layer._state_width(s))) for s in layer.cell.states)
    given = state if len(state) > 1 else state[0]
    found = []
    for change in (False, True):
        layer.zero_grad()
        y, _, backward = layer.forward(x, given)
        if change:
            for part in state:
                part[...] = np.nan
        dx, dstate = backward(np.ones_like(y))
        found.append([dx, *parts(dstate), *(grad.copy() for grad in layer.grads.values())])
    for mine, expected in zip(found[1], found[0], strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_carried_state_continues_a_sequence(rng: np.random.Generator) -> None:
    layer = make(num_layers=2)
    x = rng.standard_normal((N, 7, D))
    whole, last = layer(x)
    first, state = layer(x[:, :3])
    second, state = layer(x[:, 3:], state)
    close(np.concatenate([first, second], axis=1), whole)
    close(state, last)
