"""Recurrent layers: arrays of other libraries, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made_layers import LENGTHS, D, H, N, T, close, every_cell, make, parts

import fastrnn

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
