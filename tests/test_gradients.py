"""Every gradient of every recurrent layer against central differences in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn.cells import Cell, Stage, Values
from fastrnn.engine.recurrence import twin_only
from fastrnn.layers.recurrent import Recurrent

TOLERANCE = 1e-6

CELLS: dict[str, tuple[Callable[..., Recurrent], dict[str, Any]]] = {
    "rnn tanh": (fastrnn.RNN, {"nonlinearity": "tanh"}),
    "rnn relu": (fastrnn.RNN, {"nonlinearity": "relu"}),
    "rnn sigmoid": (fastrnn.RNN, {"nonlinearity": "sigmoid"}),
    "lstm": (fastrnn.LSTM, {}),
    "lstm projected": (fastrnn.LSTM, {"proj_size": 2}),
    "gru": (fastrnn.GRU, {}),
    "gru reset after": (fastrnn.GRU, {"reset_after": True}),
}
FORMS = ("array", "lengths", "list")
LENGTHS = [2, 0, 4, 1]
N, T, D, H = 4, 4, 2, 3

every_cell = pytest.mark.parametrize("name", CELLS)


def make(name: str, **options: Any) -> Recurrent:
    """A small layer in float64 with parameters large enough to leave the linear regime."""
    kind, own = CELLS[name]
    options = {
        "init": "uniform",
        "init_scale": 0.8,
        "dtype": "float64",
        "random_state": 3,
    } | options
    return kind(D, H, **own, **options)


def make_input(form: str, rng: np.random.Generator) -> tuple[Any, Any]:
    """The input in one of its forms, and its lengths."""
    x = rng.standard_normal((N, T, D))
    if form == "list":
        return [one[:length] for one, length in zip(x, LENGTHS, strict=True)], None
    return x, (LENGTHS if form == "lengths" else None)


def make_state(layer: Recurrent, rng: np.random.Generator) -> Any:
    """A random state in the layer's form."""
    K = layer.num_layers * layer.num_directions
    parts = tuple(rng.standard_normal((K, N, layer._state_width(s))) for s in layer.cell.states)
    return parts if len(parts) > 1 else parts[0]


def check(layer: Recurrent, x: Any, state: Any = None, lengths: Any = None) -> None:
    """All gradients within the tolerance, none of them left out."""
    errors = fastrnn.gradient_check(layer, x, state, lengths)
    expected = {"x", *layer.params} | (set() if state is None else set(layer.cell.states))
    assert set(errors) == expected
    wrong = {name: error for name, error in errors.items() if not error < TOLERANCE}
    assert not wrong


@every_cell
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_one_layer(name: str, bidirectional: bool, bias: bool, form: str, rng: Any) -> None:
    layer = make(name, bidirectional=bidirectional, bias=bias)
    x, lengths = make_input(form, rng)
    check(layer, x, make_state(layer, rng), lengths)


@every_cell
@pytest.mark.parametrize("bidirectional", [False, True])
def test_several_layers_with_learned_states_and_dropout(
    name: str, bidirectional: bool, rng: Any
) -> None:
    layer = make(
        name,
        num_layers=3 if not bidirectional else 2,
        bidirectional=bidirectional,
        dropout=0.3,
        recurrent_dropout=0.3,
        initial_state="learned",
    )
    for parameter, value in layer.params.items():
        if "0_l" in parameter:
            value[...] = rng.standard_normal(value.shape)
    x, lengths = make_input("lengths", rng)
    check(layer, x, None, lengths)


@every_cell
def test_on_the_array_twin(name: str, rng: Any) -> None:
    layer = make(name, bidirectional=True, recurrent_dropout=0.3)
    x, lengths = make_input("lengths", rng)
    with twin_only():
        check(layer, x, make_state(layer, rng), lengths)


@every_cell
def test_gradients_of_y_and_state_add_up(name: str, rng: Any) -> None:
    # Finite differences check all paths at once; each alone must be its part of that.
    layer = make(name, num_layers=2, bidirectional=True, initial_state="learned")
    x, lengths = make_input("lengths", rng)
    y, state, _ = layer.forward(x, lengths=lengths)
    is_pair = isinstance(state, tuple)
    dy = rng.standard_normal(y.shape)
    dstate = make_state(layer, rng)

    def run(dy: Any, dstate: Any) -> dict[str, np.ndarray]:
        layer.zero_grad()
        _, _, backward = layer.forward(x, lengths=lengths)
        dx, dfirst = backward(dy, dstate)
        found = {name: grad.copy() for name, grad in layer.grads.items()}
        found["x"] = dx
        found |= {f"state {k}": part for k, part in enumerate(dfirst if is_pair else (dfirst,))}
        return found

    paths = [(dy, None)]
    if is_pair:
        paths += [(None, (dstate[0], None)), (None, (None, dstate[1]))]
    else:
        paths += [(None, dstate)]
    whole = run(dy, dstate)
    parts = [run(*path) for path in paths]
    for key, value in whole.items():
        total = sum(part[key] for part in parts)
        np.testing.assert_allclose(total, value, rtol=1e-12, atol=1e-12 * np.abs(value).max())
        assert all(np.abs(part[key]).max() > 0 for part in parts)
    zeros = run(np.zeros_like(y), dstate)
    for key, value in run(None, dstate).items():
        np.testing.assert_array_equal(value, zeros[key])


def test_gradients_add_to_what_is_there(rng: Any) -> None:
    layer = make("lstm")
    x = rng.standard_normal((2, 3, D))
    for _ in range(2):
        y, _, backward = layer.forward(x)
        backward(np.ones_like(y))
    twice = {name: grad.copy() for name, grad in layer.grads.items()}
    layer.zero_grad()
    y, _, backward = layer.forward(x)
    backward(np.ones_like(y))
    for name, grad in layer.grads.items():
        np.testing.assert_allclose(twice[name], 2 * grad, rtol=1e-12)


@pytest.mark.parametrize("gate", ["i", "f", "g", "o"])
def test_the_check_sees_a_wrong_formula(gate: str, rng: Any) -> None:
    cell = fastrnn.cells.LSTM
    stage = cell.stages[0]

    def wrong(xp: Any, v: Values, d: Values) -> None:
        stage.backward(xp, v, d)
        d[gate] = d[gate] * (1 + 1e-5)

    layer = make("lstm")
    broken = Cell("broken", (Stage(stage.gates, stage.forward, wrong),), states=("h", "c"))
    for directions in layer._stack.weights:
        for weights in directions:
            weights.cell = broken
    errors = fastrnn.gradient_check(layer, rng.standard_normal((2, 3, D)))
    assert max(errors.values()) > TOLERANCE


def test_the_check_leaves_the_layer_as_it_was(rng: Any) -> None:
    layer = make("gru", recurrent_dropout=0.5)
    layer.grads["weight_ih_l0"][...] = 7
    before = {name: value.copy() for name, value in layer.params.items()}
    fastrnn.gradient_check(layer, rng.standard_normal((2, 2, D)))
    for name, value in layer.params.items():
        np.testing.assert_array_equal(value, before[name])
    assert (layer.grads["weight_ih_l0"] == 7).all()
    assert not layer.grads["bias_hh_l0"].any()


def test_the_check_wants_float64() -> None:
    layer = fastrnn.GRU(D, H)
    with pytest.raises(ValueError, match=r"layer: expected dtype float64, got float32"):
        fastrnn.gradient_check(layer, np.zeros((1, 1, D)))


@pytest.mark.parametrize(("n", "t"), list(itertools.product([0, 1], repeat=2)))
def test_batches_without_rows_have_gradients(n: int, t: int) -> None:
    layer = make("lstm", bidirectional=True, initial_state="learned")
    x = np.ones((n, t, D))
    y, state, backward = layer.forward(x)
    dx, (dh, dc) = backward(np.ones_like(y), tuple(np.ones_like(part) for part in state))
    assert dx.shape == x.shape
    assert dh.shape == dc.shape == (2, n, H)
    if n and not t:  # the state goes through untouched, and so does its gradient
        assert (dh == 1).all()
        assert (layer.grads["c0_l0"] == 1).all()
    if not n * t:
        assert not layer.grads["weight_hh_l0"].any()
