"""Recurrent layers: how parameters begin, are copied and frozen, and what backward keeps."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import threading
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from made_layers import D, H, N, T, close, every_cell, make
from test_gradients import CELLS

import fastrnn
from fastrnn.layers.recurrent import Recurrent

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
