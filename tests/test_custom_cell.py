"""A user's own cell: formulas alone give a whole layer."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from peephole_lstm import PeepholeLSTM, peephole

import fastrnn
from fastrnn import files
from fastrnn.cells import Cell, Stage, Values, sigmoid

D, H, LENGTHS = 2, 2, [2, 0, 3]
OPTIONS: dict[str, Any] = {
    "init": "uniform",
    "init_scale": 0.8,
    "dtype": "float64",
    "random_state": 3,
}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients(bidirectional: bool, layers: int, bias: bool, rng: np.random.Generator) -> None:
    layer = PeepholeLSTM(
        D,
        H,
        layers,
        bidirectional=bidirectional,
        bias=bias,
        recurrent_dropout=0.3,
        initial_state="learned",
        **OPTIONS,
    )
    x = rng.standard_normal((3, 3, D))
    errors = fastrnn.gradient_check(layer, x, lengths=LENGTHS)
    assert set(errors) == {"x", *layer.params}
    assert {"peephole_i_l0", "c0_l0"} <= set(errors)
    assert max(errors.values()) < 1e-6
    if layers == 1:
        state = tuple(rng.standard_normal((layer.num_directions, 3, H)) for _ in range(2))
        assert max(fastrnn.gradient_check(layer, x, state, LENGTHS).values()) < 1e-6


def test_without_peepholes_it_is_an_lstm(rng: np.random.Generator) -> None:
    layer, lstm = PeepholeLSTM(D, H, 2, **OPTIONS), fastrnn.LSTM(D, H, 2, **OPTIONS)
    for name, value in layer.params.items():
        if name in lstm.params:
            lstm.params[name][...] = value
        else:
            value[...] = 0
    x = rng.standard_normal((3, 3, D))
    y, state, backward = layer.forward(x, lengths=LENGTHS)
    expected, expected_state, lstm_backward = lstm.forward(x, lengths=LENGTHS)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(state, expected_state, rtol=1e-12, atol=1e-14)
    dx, _ = backward(y)
    np.testing.assert_allclose(dx, lstm_backward(y)[0], rtol=1e-12, atol=1e-14)
    layer.params["peephole_o_l1"][...] = 1
    assert np.abs(layer(x, lengths=LENGTHS)[0] - expected).max() > 1e-3


def test_it_has_what_layers_have(rng: np.random.Generator) -> None:
    layer = PeepholeLSTM(D, H, 2, **OPTIONS)
    x = rng.standard_normal((4, 5, D))
    y, _ = layer(x)
    stream = layer.stream(4)
    np.testing.assert_allclose(stream.push(x), y, rtol=1e-12, atol=1e-14)
    assert layer.trace(x)["o_l1"].shape == (4, 5, H)
    assert fastrnn.gradient_flow(layer, x).norms.shape == (2, 5)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(other(x)[0], y)
    assert type(layer)(**layer.config()).config() == layer.config()
    assert files.find("PeepholeLSTM") is PeepholeLSTM
    assert layer.params["peephole_i_l0"].shape == (H,)
    xp = pytest.importorskip("array_api_strict")
    np.testing.assert_allclose(np.asarray(layer(xp.asarray(x))[0]), y, rtol=1e-12, atol=1e-14)


def test_two_stages_and_a_chain_apart(rng: np.random.Generator) -> None:
    # A cell that uses all a stage can have: operands of an earlier stage, sums kept apart, three
    # states, and a formula that reads the masked h.
    def first(xp: Any, v: Values) -> None:
        v.a = sigmoid(xp, v.a)
        v.u = xp.tanh(v.u + v.a * v.hu)
        v.mixed = v.a * v.h_seen + v.u * v.s

    def first_backward(xp: Any, v: Values, d: Values) -> None:
        d.h_seen = d.mixed * v.a
        d.s = d.mixed * v.u
        du = d.mixed * v.s * (1 - v.u**2)
        d.u, d.hu = du, du * v.a
        d.a = (d.mixed * v.h_seen + du * v.hu) * v.a * (1 - v.a)

    def second(xp: Any, v: Values) -> None:
        v.b = xp.tanh(v.b)
        v.s_next = xp.sin(v.s) + v.b
        v.k_next = v.k * v.b
        v.h_next = v.b * v.s_next + v.k

    def second_backward(xp: Any, v: Values, d: Values) -> None:
        ds = d.s_next + d.h_next * v.b
        db = ds + d.k_next * v.k + d.h_next * v.s_next
        d.b = db * (1 - v.b**2)
        d.k = d.k_next * v.b + d.h_next
        d.s_of_second = ds * xp.cos(v.s)

    def first_backward_with_second(xp: Any, v: Values, d: Values) -> None:
        first_backward(xp, v, d)
        d.s = d.s + d.s_of_second

    Strange = fastrnn.register_cell(
        Cell(
            "Strange",
            (
                Stage(("a", "u"), first, first_backward_with_second, apart={"u": "hu"}),
                Stage(("b",), second, second_backward, operand="mixed"),
            ),
            states=("h", "s", "k"),
        )
    )
    layer = Strange(D, H, 2, bidirectional=True, recurrent_dropout=0.3, **OPTIONS)
    state = tuple(rng.standard_normal((4, 3, H)) for _ in range(3))
    errors = fastrnn.gradient_check(layer, rng.standard_normal((3, 3, D)), state, LENGTHS)
    assert {"h", "s", "k"} <= set(errors)
    assert max(errors.values()) < 1e-6


def test_registering_again_and_what_is_refused() -> None:
    def forward(xp: Any, v: Values) -> None:
        v.h_next = v.a

    stage = Stage(("a",), forward, forward)
    again = Cell("Again", (stage,))
    once = fastrnn.register_cell(again)
    assert fastrnn.register_cell(Cell("Again", (stage,))) is once
    other = fastrnn.register_cell(Cell("Again", (Stage(("b",), forward, forward),)))
    assert other is not once
    assert files.find("Again") is other
    forward.__module__ = "elsewhere"
    with pytest.raises(ValueError, match="cell: expected a name not yet taken, got 'Peephole"):
        fastrnn.register_cell(Cell("PeepholeLSTM", (stage,)))
    for taken in ("LSTM", "Linear", "LanguageModel"):  # a file's class must stay what it was
        with pytest.raises(ValueError, match=f"cell: expected a name not yet taken, got '{taken}'"):
            fastrnn.register_cell(Cell(taken, (stage,)))
    assert files.find("Linear") is fastrnn.Linear
    with pytest.raises(ValueError, match="cell: expected a name that is an identifier"):
        fastrnn.register_cell(Cell("my cell", (stage,)))
    with pytest.raises(ValueError, match="'h' as the first of its states"):
        fastrnn.register_cell(Cell("Stateless", (stage,), states=("c", "h")))
    with pytest.raises(TypeError, match="cell: expected a fastrnn"):
        fastrnn.register_cell(peephole)  # type: ignore[arg-type]
