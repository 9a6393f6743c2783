"""Recurrent layers: what a trace shows, and the flow of gradients."""

from __future__ import annotations

import numpy as np
import pytest
from made_layers import LENGTHS, D, H, N, T, close, every_cell, make, parts

import fastrnn

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
