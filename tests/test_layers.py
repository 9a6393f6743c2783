"""Recurrent layers: every form of input, states, parameters, dropout, and what is refused."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import threading
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_gradients import CELLS

import fastrnn
from fastrnn.engine.masks import keep_mask
from fastrnn.engine.recurrence import twin_only
from fastrnn.engine.stack import BETWEEN_LAYERS
from fastrnn.layers.recurrent import Recurrent

N, T, D, H = 4, 5, 3, 6
LENGTHS = [2, 0, 5, 3]

every_cell = pytest.mark.parametrize("name", CELLS)


def make(name: str = "lstm", **options: Any) -> Recurrent:
    kind, own = CELLS[name]
    return kind(D, H, **own, **({"dtype": "float64", "random_state": 1} | options))


def parts(state: Any) -> tuple[np.ndarray, ...]:
    return state if isinstance(state, tuple) else (state,)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


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


# Parameters


@pytest.mark.parametrize("init", ["torch", "uniform", "xavier", "orthogonal"])
@every_cell
def test_initial_values(name: str, init: str) -> None:
    kind, own = CELLS[name]
    layer = kind(40, 64, num_layers=2, init=init, init_scale=0.25, random_state=5, **own)
    gates = len(layer.cell.gates)
    for parameter, value in layer.params.items():
        assert value.dtype == np.float32
        if init in ("torch", "uniform"):
            bound = 64**-0.5 if init == "torch" else 0.25
            assert 0.9 * bound < np.abs(value).max() <= bound
            # four standard errors of a uniform's mean
            assert abs(value.mean()) < 4 * bound / np.sqrt(3 * value.size)
        elif value.ndim == 1:
            assert not value.any()
        elif init == "orthogonal" and parameter.startswith("weight_hh"):
            for block in value.reshape(gates, 64, -1):
                np.testing.assert_allclose(block.T @ block, np.eye(block.shape[1]), atol=1e-5)
        else:
            rows = value.shape[0] if parameter.startswith("weight_hr") else 64
            bound = np.sqrt(6 / (rows + value.shape[1]))
            assert 0.9 * bound < np.abs(value).max() <= bound


def test_orthogonal_weights_favor_no_direction() -> None:
    layers = [fastrnn.RNN(1, 3, init="orthogonal", random_state=k) for k in range(300)]
    matrices = np.array([layer.params["weight_hh_l0"] for layer in layers])
    # entries of uniformly distributed orthogonal matrices have mean 0 and variance 1/3
    assert np.abs(matrices.mean(axis=0)).max() < 4 / np.sqrt(3 * 300)
    np.testing.assert_allclose((matrices**2).mean(axis=0), 1 / 3, atol=0.08)
    assert 0.4 < (np.linalg.det(matrices) > 0).mean() < 0.6


@pytest.mark.parametrize("init", ["torch", "xavier"])
def test_forget_bias_opens_the_forget_gate(init: str) -> None:
    plain = make(num_layers=2, init=init)
    biased = make(num_layers=2, init=init, forget_bias=3.0)
    for name, value in biased.params.items():
        difference = value - plain.params[name]
        if name.startswith("bias_ih"):
            close(difference.reshape(4, H), np.outer([0, 3, 0, 0], np.ones(H)))
        else:
            assert not difference.any()


def test_seeds_repeat_and_generators_go_on() -> None:
    first, again, other = make(random_state=7), make(random_state=7), make(random_state=8)
    np.testing.assert_array_equal(first.params["weight_ih_l0"], again.params["weight_ih_l0"])
    assert (first.params["weight_ih_l0"] != other.params["weight_ih_l0"]).all()
    rng = np.random.default_rng(0)
    one, two = make(random_state=rng), make(random_state=rng)
    assert (one.params["weight_ih_l0"] != two.params["weight_ih_l0"]).all()
    fresh, fresher = make(random_state=None), make(random_state=None)
    assert (fresh.params["weight_ih_l0"] != fresher.params["weight_ih_l0"]).all()
    rebuilt = type(one)(**one.config())
    np.testing.assert_array_equal(one.params["weight_hh_l0"], rebuilt.params["weight_hh_l0"])


def test_parameters_are_fixed_arrays_that_calls_see(rng: np.random.Generator) -> None:
    layer = make()
    x = rng.standard_normal((N, T, D))
    before, _ = layer(x)
    with pytest.raises(TypeError):
        layer.params["weight_ih_l0"] = np.zeros((4 * H, D))  # type: ignore[index]
    with pytest.raises(AttributeError):
        layer.params = {}  # type: ignore[misc]
    array = layer.params["weight_ih_l0"]
    array[...] *= 2
    assert layer.params["weight_ih_l0"] is array
    assert np.abs(layer(x)[0] - before).max() > 1e-3
    assert layer.num_parameters == sum(value.size for value in layer.params.values())
    layer.grads["weight_ih_l0"][...] = 1
    layer.zero_grad()
    assert not any(grad.any() for grad in layer.grads.values())


@every_cell
def test_configuration_is_json_and_makes_the_same_layer(name: str) -> None:
    layer = make(
        name, num_layers=2, bias=False, dropout=0.25, initial_state="normal", init="xavier"
    )
    config = json.loads(json.dumps(layer.config()))
    twin = type(layer)(**config)
    assert twin.config() == layer.config()
    for key, value in layer.params.items():
        np.testing.assert_array_equal(twin.params[key], value)
    assert eval(repr(layer), vars(fastrnn)).config() == layer.config()


@every_cell
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_are_whole_and_separate(
    name: str, duplicate: Callable[[Recurrent], Recurrent], rng: np.random.Generator
) -> None:
    layer = make(name, num_layers=2, recurrent_dropout=0.5, initial_state="normal")
    x = rng.standard_normal((N, T, D))
    layer.params["weight_ih_l0"][...] += 0.5
    y, _, backward = layer.forward(x)
    backward(np.ones_like(y))
    other = duplicate(layer)
    np.testing.assert_array_equal(other(x)[0], layer(x)[0])
    np.testing.assert_array_equal(other.forward(x)[0], layer.forward(x)[0])
    for key, grad in layer.grads.items():
        np.testing.assert_array_equal(other.grads[key], grad)
    other.params["weight_ih_l0"][...] = 0
    assert layer.params["weight_ih_l0"].any()


def test_prepared_layers_answer_the_same_and_refuse_writes(rng: np.random.Generator) -> None:
    layer = make(num_layers=2, bidirectional=True)
    x = rng.standard_normal((N, T, D))
    before, _ = layer(x)
    assert layer.prepare() is layer
    np.testing.assert_array_equal(layer(x)[0], before)
    with pytest.raises(ValueError, match="read-only"):
        layer.params["weight_ih_l0"][...] = 0
    other = pickle.loads(pickle.dumps(layer))
    np.testing.assert_array_equal(other(x)[0], before)
    with pytest.raises(ValueError, match="read-only"):
        other.params["weight_ih_l0"][...] = 0


# Backward


def test_backward_runs_once_and_what_it_refuses_does_not_count(rng: np.random.Generator) -> None:
    layer = make()
    y, _, backward = layer.forward(rng.standard_normal((N, T, D)))
    with pytest.raises(ValueError, match=r"dy: expected shape \(4, 5, 6\)"):
        backward(np.ones((N, T, H + 1)))
    with pytest.raises(ValueError, match=r"dy: expected a gradient of y, or one of the state"):
        backward(None)
    with pytest.raises(ValueError, match=r"dy: expected a gradient of y, or one of the state"):
        backward(None, (None, None))
    with pytest.raises(ValueError, match=r"dstate: expected 2 arrays \(h, c\)"):
        backward(None, np.ones((1, N, H)))
    with pytest.raises(ValueError, match=r"dstate \(c\): expected shape \(1, 4, 6\)"):
        backward(None, (None, np.ones((1, N, H + 1))))
    assert not any(grad.any() for grad in layer.grads.values())
    backward(np.ones_like(y))
    before = {name: grad.copy() for name, grad in layer.grads.items()}
    with pytest.raises(RuntimeError, match="backward: expected one call"):
        backward(np.ones_like(y))
    for name, grad in layer.grads.items():
        np.testing.assert_array_equal(grad, before[name])


def test_backward_lets_go_of_what_forward_kept(rng: np.random.Generator) -> None:
    layer = make(num_layers=2)
    x = rng.standard_normal((N, T, D))
    y, _, backward = layer.forward(x)
    held = weakref.ref(x)
    del x
    gc.collect()
    assert held() is not None
    backward(np.ones_like(y))
    gc.collect()
    assert held() is None
    x = rng.standard_normal((N, T, D))
    _, _, backward = layer.forward(x)
    held = weakref.ref(x)
    del x, backward
    gc.collect()
    assert held() is None


def test_outputs_of_forward_are_read_only(rng: np.random.Generator) -> None:
    layer = make()
    y, _, _ = layer.forward(rng.standard_normal((N, T, D)))
    with pytest.raises(ValueError, match="read-only"):
        y[...] = 0
    y, _, _ = layer.forward([rng.standard_normal((2, D))])
    with pytest.raises(ValueError, match="read-only"):
        y[0][...] = 0
    layer(rng.standard_normal((N, T, D)))[0][...] = 0


def test_several_forwards_may_wait_for_their_backwards(rng: np.random.Generator) -> None:
    layer = make("gru", num_layers=2)
    xs = [rng.standard_normal((2, t, D)) for t in (3, 5, 4)]
    expected = []
    for x in xs:
        y, _, backward = layer.forward(x)
        expected.append(backward(np.ones_like(y))[0])
    grads = {name: grad.copy() for name, grad in layer.grads.items()}
    layer.zero_grad()
    waiting = [layer.forward(x) for x in xs]
    for k in (1, 2, 0):
        y, _, backward = waiting[k]
        np.testing.assert_array_equal(backward(np.ones_like(y))[0], expected[k])
    for name, grad in layer.grads.items():
        close(grad, grads[name])


def test_threads_share_a_layer(rng: np.random.Generator) -> None:
    layer = make("lstm", num_layers=2, bidirectional=True)
    xs = [rng.standard_normal((N, T, D)) for _ in range(4)]
    alone = []
    for x in xs:
        y, _, backward = layer.forward(x)
        alone.append((y.copy(), backward(np.ones_like(y))[0]))
    grads = {name: 5 * grad for name, grad in layer.grads.items()}
    layer.zero_grad()
    failures = []

    def work(k: int) -> None:
        for _ in range(5):
            y, _, backward = layer.forward(xs[k])
            dx = backward(np.ones_like(y))[0]
            if not (np.array_equal(y, alone[k][0]) and np.array_equal(dx, alone[k][1])):
                failures.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert layer.call_count == 24
    for name, grad in layer.grads.items():
        np.testing.assert_allclose(grad, grads[name], rtol=1e-10, atol=1e-12)


# Dropout


def test_dropout_is_for_training_alone_and_a_function_of_the_call(
    rng: np.random.Generator,
) -> None:
    layer = make(num_layers=2, dropout=0.5, recurrent_dropout=0.5)
    plain = make(num_layers=2)
    x = rng.standard_normal((N, T, D))
    np.testing.assert_array_equal(layer(x)[0], plain(x)[0])
    assert layer.call_count == 0
    first, second = layer.forward(x)[0], layer.forward(x)[0]
    assert layer.call_count == 2
    assert np.abs(first - second).max() > 1e-3
    layer.call_count = 0
    np.testing.assert_array_equal(layer.forward(x)[0], first)
    with pytest.raises(ValueError, match="call_count: expected an integer of at least 0"):
        layer.call_count = -1


def test_masks_depend_on_the_sequences_place_not_on_its_company(
    rng: np.random.Generator,
) -> None:
    layer = make(num_layers=2, bidirectional=True, dropout=0.5, recurrent_dropout=0.5)
    x = rng.standard_normal((N, T, D))
    y = layer.forward(x, lengths=LENGTHS)[0]
    layer.call_count = 0
    few = layer.forward(x[:3], lengths=LENGTHS[:3])[0]
    close(few, y[:3])
    layer.call_count = 0
    as_list = layer.forward([x[n, :k] for n, k in enumerate(LENGTHS)])[0]
    for n, k in enumerate(LENGTHS):
        close(as_list[n], y[n, :k])


def test_recurrent_dropout_is_one_mask_for_all_steps(rng: np.random.Generator) -> None:
    layer = make("rnn tanh", recurrent_dropout=0.4)
    x = rng.standard_normal((N, T, D))
    y = layer.forward(x)[0]
    p = {name.removesuffix("_l0"): value for name, value in layer.params.items()}
    mask = keep_mask(1, 0, 0, 0, np.arange(N), None, H, 0.4, np.float64)
    assert set(np.unique(mask)) == {0.0, 1 / 0.6}
    h = np.zeros((N, H))
    for t in range(T):
        sums = x[:, t] @ p["weight_ih"].T + (h * mask) @ p["weight_hh"].T
        h = np.tanh(sums + p["bias_ih"] + p["bias_hh"])
        close(y[:, t], h)


def test_recurrent_masks_differ_by_layer_and_direction() -> None:
    # Of zero weights but W_hh, h is a constant of the biases, and its next value tells the mask.
    layer = make("rnn tanh", num_layers=2, bidirectional=True, recurrent_dropout=0.5)
    for name, value in layer.params.items():
        if name.startswith("weight_hh"):
            value[...] = np.eye(H)
        else:
            value[...] = 0.1 if name.startswith("bias") else 0
    _, last, _ = layer.forward(np.zeros((8, 2, D)))
    kept = last > np.tanh(0.2) + 1e-3
    assert kept.shape == (4, 8, H)
    assert 0.3 < kept.mean() < 0.7
    assert len(np.unique(kept.reshape(4, -1), axis=0)) == 4


def test_dropout_between_layers_is_new_at_every_step(rng: np.random.Generator) -> None:
    layer = make(num_layers=2, dropout=0.4)
    lower, upper = make(), fastrnn.LSTM(H, H, dtype="float64")
    for name in lower.params:
        lower.params[name][...] = layer.params[name]
        upper.params[name][...] = layer.params[name.replace("l0", "l1")]
    x = rng.standard_normal((N, T, D))
    mask = keep_mask(1, 0, 0, BETWEEN_LAYERS, np.arange(N), np.arange(T), H, 0.4, np.float64)
    assert len(np.unique(mask.reshape(N * T, H), axis=0)) > N
    close(layer.forward(x)[0], upper(lower(x)[0] * mask)[0])


# Trace and gradient flow


@every_cell
@pytest.mark.parametrize("as_list", [False, True])
def test_trace_names_everything_a_step_computes(
    name: str, as_list: bool, rng: np.random.Generator
) -> None:
    layer = make(name, num_layers=2, bidirectional=True)
    x = rng.standard_normal((N, T, D))
    lengths = None if as_list else LENGTHS
    given = [x[n, :k] for n, k in enumerate(LENGTHS)] if as_list else x
    traced = layer.trace(given, lengths=lengths)
    y, state = layer(given, lengths=lengths)
    ends = ("l0", "l0_reverse", "l1", "l1_reverse")
    gates = () if name.startswith("rnn") else layer.cell.gates
    names = (*layer.cell.states, *gates)
    assert set(traced) == {f"{value}_{end}" for value in names for end in ends}
    S = layer.output_size // 2
    for n, k in enumerate(LENGTHS):
        close(traced["h_l1"][n][:k], y[n][:k, :S])
        close(traced["h_l1_reverse"][n][:k], y[n][:k, S:])
        if k:
            for label, part in zip(layer.cell.states, parts(state), strict=True):
                close(traced[f"{label}_l0"][n][k - 1], part[0, n])
                close(traced[f"{label}_l0_reverse"][n][0], part[1, n])
        for key, value in traced.items():
            assert len(value[n]) == (k if as_list else T)
            assert not value[n][k:].any()
            if key[0] in "ifzro":
                assert ((value[n][:k] > 0) & (value[n][:k] < 1)).all()


def test_traced_gates_obey_the_formulas(rng: np.random.Generator) -> None:
    layer = make("lstm", bidirectional=True)
    x = rng.standard_normal((2, T, D))
    v = dict(layer.trace(x).items())
    for end, before in (("l0", -1), ("l0_reverse", 1)):
        c, i, f, g, o = (v[f"{name}_{end}"] for name in "cifgo")
        c_before = np.roll(c, -before, axis=1)
        c_before[:, 0 if before < 0 else -1] = 0
        close(c, f * c_before + i * g)
        close(v[f"h_{end}"], o * np.tanh(c))
    layer = make("gru")
    v = {name.removesuffix("_l0"): value for name, value in layer.trace(x).items()}
    h_before = np.concatenate([np.zeros((2, 1, H)), v["h"][:, :-1]], axis=1)
    close(v["h"], v["z"] * h_before + (1 - v["z"]) * v["n"])


def test_gradient_flow_is_the_gradient_of_every_h(rng: np.random.Generator) -> None:
    # dL/dh_t is the gradient of the initial state of what follows step t.
    layer = make("gru", num_layers=2)
    x = rng.standard_normal((3, T, D))
    dy = rng.standard_normal((3, T, H))
    flow = fastrnn.gradient_flow(layer, x, dy)
    assert flow.names == ("l0", "l1")
    assert flow.norms.shape == (2, T)
    for t in range(T):
        _, state = layer(x[:, : t + 1])
        _, _, backward = layer.forward(x[:, t + 1 :], state)
        _, dh = backward(dy[:, t + 1 :], np.zeros_like(state))
        # the top layer's h_t is also an output; the lower one's feeds the top at step t too
        close(flow["l1"][t], np.linalg.norm(dh[1] + dy[:, t]))
    np.testing.assert_array_equal(
        flow.norms, fastrnn.gradient_flow(layer, x, lambda y: (0.0, dy)).norms
    )


def test_gradient_flow_in_each_sequences_own_steps(rng: np.random.Generator) -> None:
    layer = make("lstm", bidirectional=True)
    x = rng.standard_normal((N, T, D))
    flow = fastrnn.gradient_flow(layer, x, lengths=LENGTHS)
    assert not any(grad.any() for grad in layer.grads.values())
    squares = np.zeros((2, T))
    for n, k in enumerate(LENGTHS):
        squares[:, :k] += fastrnn.gradient_flow(layer, [x[n, :k]]).norms ** 2
    close(flow.norms, np.sqrt(squares))
    assert flow.norms[1, 0] >= np.sqrt(3 * H)  # the loss, final h, arises at reverse's first steps


def test_gradient_flow_draws_itself(rng: np.random.Generator) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    layer = make("lstm", num_layers=2)
    flow = fastrnn.gradient_flow(layer, rng.standard_normal((2, T, D)))
    axes = flow.plot()
    assert axes.get_yscale() == "log"
    assert [line.get_label() for line in axes.get_lines()] == ["l0", "l1"]
    np.testing.assert_array_equal(axes.get_lines()[1].get_ydata(), flow["l1"])
    assert flow.plot(axes) is axes
    matplotlib.pyplot.close("all")


# Arrays of other namespaces


@every_cell
@pytest.mark.parametrize("as_list", [False, True])
def test_other_arrays_get_their_own_kind_back(
    name: str, as_list: bool, rng: np.random.Generator
) -> None:
    xp = pytest.importorskip("array_api_strict")
    options = {"num_layers": 2, "bidirectional": True, "initial_state": "learned"}
    layer, other = make(name, **options), make(name, **options)
    dropped = {"dropout": 0.3, "recurrent_dropout": 0.3}
    layer, other = make(name, **options, **dropped), make(name, **options, **dropped)
    x = rng.standard_normal((N, T, D))
    given: Any = [x[n, :k] for n, k in enumerate(LENGTHS)] if as_list else x
    theirs: Any = [xp.asarray(one) for one in given] if as_list else xp.asarray(x)
    lengths = None if as_list else np.array(LENGTHS)
    y, state, backward = layer.forward(given, lengths=lengths)
    their_lengths = None if as_list else xp.asarray(lengths)
    found, found_state, other_backward = other.forward(theirs, lengths=their_lengths)
    for mine, its in zip(y, found, strict=True) if as_list else [(y, found)]:
        assert type(its) is type(theirs[0] if as_list else theirs)
        close(np.asarray(its), mine)
    for mine, its in zip(parts(state), parts(found_state), strict=True):
        close(np.asarray(its), mine)
    dx, dstate = backward(y, state)
    their_dx, their_dstate = other_backward(found, found_state)
    for mine, its in zip(dx, their_dx, strict=True) if as_list else [(dx, their_dx)]:
        close(np.asarray(its), mine)
    for mine, its in zip(parts(dstate), parts(their_dstate), strict=True):
        close(np.asarray(its), mine)
    for key, grad in layer.grads.items():
        assert isinstance(other.grads[key], np.ndarray)
        np.testing.assert_allclose(other.grads[key], grad, rtol=1e-10, atol=1e-12)
    traced = layer.trace(given, lengths=lengths)
    for key, value in other.trace(theirs, lengths=their_lengths).items():
        for n, k in enumerate(LENGTHS):
            close(np.asarray(value[n][:k, ...] if as_list else value[n, :k, :]), traced[key][n][:k])
    flow = fastrnn.gradient_flow(layer, given, lengths=lengths)
    close(fastrnn.gradient_flow(other, theirs, lengths=their_lengths).norms, flow.norms)


def test_kinds_of_arrays_are_not_mixed(rng: np.random.Generator) -> None:
    xp = pytest.importorskip("array_api_strict")
    layer = make("gru")
    x = rng.standard_normal((N, T, D))
    state = np.zeros((1, N, H))
    with pytest.raises(TypeError, match="state: expected an array of array_api_strict"):
        layer(xp.asarray(x), state)
    with pytest.raises(TypeError, match="state: expected an array of numpy"):
        layer(x, xp.asarray(state))
    with pytest.raises(TypeError, match=r"x\[1\]: expected an array of numpy"):
        layer([x[0], xp.asarray(x[1])])


# What is refused


class Odd:
    pass


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"input_size": 0}, ValueError, "input_size: expected an integer of at least 1, got 0"),
        ({"hidden_size": -1}, ValueError, "hidden_size: expected"),
        ({"hidden_size": 2.5}, TypeError, "hidden_size: expected an integer"),
        ({"num_layers": 0}, ValueError, "num_layers: expected"),
        ({"num_layers": True}, TypeError, "num_layers: expected"),
        ({"proj_size": -1}, ValueError, "proj_size: expected"),
        ({"forget_bias": np.nan}, ValueError, "forget_bias: expected"),
        ({"forget_bias": 1.0, "bias": False}, ValueError, "forget_bias: expected 0"),
        ({"bias": 1}, TypeError, "bias: expected True or False"),
        ({"bidirectional": "no"}, TypeError, "bidirectional: expected True or False"),
        ({"dropout": 1.0}, ValueError, "dropout: expected"),
        ({"recurrent_dropout": -0.1}, ValueError, "recurrent_dropout: expected"),
        ({"init": "he"}, ValueError, "init: expected one of 'torch', 'uniform'"),
        ({"init_scale": -1.0}, ValueError, "init_scale: expected"),
        ({"initial_state": "ones"}, ValueError, "initial_state: expected one of 'zeros'"),
        ({"dtype": "float16"}, ValueError, "dtype: expected 'float32' or 'float64'"),
        ({"random_state": -1}, ValueError, "random_state: expected"),
        ({"random_state": "seed"}, TypeError, "random_state: expected an int"),
    ],
)
def test_wrong_constructor_arguments(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fastrnn.LSTM(**({"input_size": D, "hidden_size": H} | arguments))


def test_wrong_cell_arguments() -> None:
    with pytest.raises(ValueError, match="nonlinearity: expected one of 'tanh', 'relu', 'sigmoid'"):
        fastrnn.RNN(D, H, nonlinearity="elu")
    with pytest.raises(TypeError, match="reset_after: expected True or False"):
        fastrnn.GRU(D, H, reset_after=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="proj_size"):
        fastrnn.GRU(D, H, proj_size=2)  # type: ignore[call-arg]


good = np.zeros((N, T, D))


@pytest.mark.parametrize(
    ("x", "lengths", "error", "message"),
    [
        (good[0], None, ValueError, r"x: expected 3 dimensions \(N, T, D\), got 2 with shape"),
        (good[None], None, ValueError, "x: expected 3 dimensions"),
        (np.zeros((N, T, D + 1)), None, ValueError, "x: expected shape"),
        (good.astype(complex), None, TypeError, "x: expected real numbers, got dtype complex128"),
        (good.astype(object), None, TypeError, "x: expected real numbers, got dtype object"),
        (good.astype("U"), None, TypeError, "x: expected real numbers"),
        (good.astype("M8[s]"), None, TypeError, "x: expected real numbers"),
        (Odd(), None, TypeError, "x: expected real numbers"),
        (None, None, TypeError, "x: expected real numbers"),
        ([good[0], good], None, ValueError, r"x\[1\]: expected 2 dimensions \(T_i, width\)"),
        ([good[0], good[0, :, :2]], None, ValueError, r"x\[1\]: expected shape \(any, 3\)"),
        ([good[0], good[0] * 1j], None, TypeError, r"x\[1\]: expected real numbers"),
        ([good[0]], [T], ValueError, "lengths: expected none with a list"),
        (good, [1, 2, 3], ValueError, r"lengths: expected shape \(4,\)"),
        (good, [[1, 2, 3, 4]], ValueError, r"lengths: expected shape \(4,\)"),
        (good, [1, 2, 3, -1], ValueError, r"lengths: expected values in \[0, 5\] \(T\), got -1"),
        (good, [1, 2, 3, T + 1], ValueError, r"lengths: expected values in \[0, 5\] \(T\), got 6"),
        (good, np.uint64([1, 2, 3, 2**63]), ValueError, "lengths: expected values in"),
        (good, [1.0, 2, 3, 4], TypeError, "lengths: expected integers, got dtype float64"),
        (good, [True] * N, TypeError, "lengths: expected integers, got dtype bool"),
        (good, T, ValueError, "lengths: expected shape"),
        (good, "long", TypeError, "lengths: expected integers"),
    ],
)
@pytest.mark.parametrize("method", ["__call__", "forward", "trace"])
def test_wrong_inputs(
    x: Any, lengths: Any, error: type[Exception], message: str, method: str
) -> None:
    layer = make()
    with pytest.raises(error, match=message):
        getattr(layer, method)(x, lengths=lengths)
    assert layer.call_count == 0


h = np.zeros((1, N, H))


@pytest.mark.parametrize(
    ("name", "state", "error", "message"),
    [
        ("lstm", h, ValueError, r"state: expected 2 arrays \(h, c\)"),
        ("lstm", (h,), ValueError, r"state: expected 2 arrays \(h, c\)"),
        ("lstm", (h, None), TypeError, r"state \(c\): expected real numbers"),
        ("lstm", (h, h[:, :2]), ValueError, r"state \(c\): expected shape \(1, 4, 6\)"),
        ("lstm projected", (h, h), ValueError, r"state \(h\): expected shape \(1, 4, 2\)"),
        ("gru", h[0], ValueError, r"state: expected 3 dimensions \(L\*dirs, N, units\)"),
        ("gru", np.zeros((2, N, H)), ValueError, r"state: expected shape \(1, 4, 6\)"),
        ("gru", h + 1j, TypeError, "state: expected real numbers"),
    ],
)
def test_wrong_states(name: str, state: Any, error: type[Exception], message: str) -> None:
    layer = make(name)
    with pytest.raises(error, match=message):
        layer(good, state)


def test_gradients_of_the_wrong_form() -> None:
    layer = make("gru")
    y, _, backward = layer.forward(good)
    with pytest.raises(TypeError, match="dy: expected an array, as x was, got a list"):
        backward(list(y))
    with pytest.raises(ValueError, match="dstate: expected shape"):
        backward(y, np.zeros((2, N, H)))
    y, _, backward = layer.forward(list(good))
    with pytest.raises(TypeError, match="dy: expected a list of arrays, as x was"):
        backward(np.stack(y))
    with pytest.raises(ValueError, match="dy: expected 4 arrays, as x had, got 3"):
        backward(y[:3])
    with pytest.raises(ValueError, match=r"dy\[2\]: expected shape \(5, 6\)"):
        backward([*y[:2], y[2][:1], y[3]])
