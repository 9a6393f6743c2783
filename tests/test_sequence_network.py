"""The network of all models of sequences: gradients, windows, chunks, and rows on their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from finite_differences import assert_gradients

from fastrnn import Embedding, get_gemm, losses
from fastrnn.sequences import network as module
from fastrnn.sequences.network import (
    SequenceNetwork,
    Supervised,
    make_layers,
    network_specs,
    pad,
)
from fastrnn.sequences.pooling import POOLINGS
from fastrnn.training.minibatches import Batch

D, H, K = 2, 3, 3
LENGTHS = (5, 2, 7, 1)

CELLS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "gru": {},
    "gru reset after": {"reset_after": True},
    "rnn": {},
    "rnn relu": {"nonlinearity": "relu"},
}


def network(
    cell: str = "lstm",
    pooling: str | None = "last",
    dtype: str = "float64",
    encoder: Any = None,
    **options: Any,
) -> SequenceNetwork:
    parameters = {
        "cell": cell.split()[0], "hidden_size": H, "num_layers": 1, "bidirectional": False,
        "dropout": 0.0, "recurrent_dropout": 0.0, "reset_after": False, "nonlinearity": "tanh",
        "pooling": pooling, "tbptt_steps": None, **CELLS.get(cell, {}), **options,
    }  # fmt: skip
    specs = network_specs(parameters, D, K, np.dtype(dtype), pooled=pooling is not None)
    layers = make_layers(specs, np.random.default_rng(3))
    dropout, steps = parameters["dropout"], parameters["tbptt_steps"]
    return SequenceNetwork(layers, pooling, encoder, dropout, steps, seed=4)


def sequences(rng: np.random.Generator, dtype: str = "float64") -> list[np.ndarray]:
    return [rng.standard_normal((length, D)).astype(dtype) for length in LENGTHS]


def params(net: SequenceNetwork) -> dict[str, np.ndarray]:
    return {f"{k}.{n}": p for k, layer in net.named.items() for n, p in layer.params.items()}


def grads(net: SequenceNetwork) -> dict[str, np.ndarray]:
    return {f"{k}.{n}": g for k, layer in net.named.items() for n, g in layer.grads.items()}


def targets(pooling: str | None, rng: np.random.Generator) -> list[tuple[Any, Any]]:
    if pooling is not None:
        return [(int(rng.integers(K)), float(w)) for w in (1.0, 0.5, 2.0, 0.0)]
    return [(rng.integers(0, K, n), rng.uniform(0, 2, n)) for n in LENGTHS]


def learn(net: SequenceNetwork, batch: Batch) -> tuple[float, float]:
    for layer in net.layers:
        layer.zero_grad()
    loss, weight, state = Supervised(net, losses.softmax_cross_entropy).learn(batch, None)
    assert state is None
    return loss, weight


# Gradients


@pytest.mark.parametrize("pooling", [*POOLINGS, None])
@pytest.mark.parametrize(
    "options", [{}, {"bidirectional": True, "num_layers": 2}], ids=["plain", "deep"]
)
def test_gradients(pooling: str | None, options: dict[str, Any], rng: np.random.Generator) -> None:
    net = network("lstm", pooling, **options)
    batch = Batch(sequences(rng), targets(pooling, rng), np.arange(4), True)
    learn(net, batch)
    learner = Supervised(net, losses.softmax_cross_entropy)
    # The gradient of attention's bias is small beside the rounding of the differences.
    tolerance = 2e-5 if pooling == "attention" else 2e-6
    assert_gradients(lambda: learner.assess(batch, None)[0], params(net), grads(net), tolerance)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_cells(cell: str, rng: np.random.Generator) -> None:
    net = network(cell, "mean")
    batch = Batch(sequences(rng), targets("mean", rng), np.arange(4), True)
    learn(net, batch)
    learner = Supervised(net, losses.softmax_cross_entropy)
    assert_gradients(lambda: learner.assess(batch, None)[0], params(net), grads(net), 2e-6)


@pytest.mark.parametrize("loss", [losses.squared_error, losses.huber])
def test_gradients_of_numbers(loss: Any, rng: np.random.Generator) -> None:
    net = network(pooling="attention")
    rows = [(rng.standard_normal(K), 1.0 + i) for i in range(4)]
    batch = Batch(sequences(rng), rows, np.arange(4), True)
    learner = Supervised(net, loss)
    learner.learn(batch, None)
    assert_gradients(lambda: learner.assess(batch, None)[0], params(net), grads(net), 2e-6)


class Vectors:
    """An encoder of integers to the rows of a table."""

    masks = ()

    def __init__(self) -> None:
        self.table = Embedding(5, D, dtype="float64", random_state=0)

    @property
    def layers(self) -> Mapping[str, Any]:
        return {"embedding": self.table}

    def forward(self, items: Sequence[Any], training: bool) -> Any:
        ids, lengths = pad(items)
        vectors, backward = self.table.forward(ids)
        return vectors, lengths, lambda dx: backward(dx)


@pytest.mark.parametrize("steps", [None, 20])
def test_gradients_reach_the_encoder(steps: int | None, rng: np.random.Generator) -> None:
    net = network(encoder=Vectors(), tbptt_steps=steps)
    items = [rng.integers(0, 5, length) for length in LENGTHS]
    batch = Batch(items, targets("last", rng), np.arange(4), True)
    learn(net, batch)
    learner = Supervised(net, losses.softmax_cross_entropy)
    assert "embedding.weight" in params(net)
    assert_gradients(lambda: learner.assess(batch, None)[0], params(net), grads(net), 2e-6)


# Truncated BPTT


@pytest.mark.parametrize("pooling", [*POOLINGS, None])
def test_one_window_is_full_bptt(pooling: str | None, rng: np.random.Generator) -> None:
    batch = Batch(sequences(rng), targets(pooling, rng), np.arange(4), True)
    found = []
    for steps in (None, max(LENGTHS)):
        net = network("gru", pooling, tbptt_steps=steps)
        found.append((learn(net, batch), grads(net)))
    (loss, expected), (again, got) = found
    assert again == loss
    for name, gradient in expected.items():
        np.testing.assert_array_equal(got[name], gradient)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("pooling", [*POOLINGS, None])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_windows_carry_the_state(
    cell: str, pooling: str | None, steps: int, rng: np.random.Generator
) -> None:
    """Outputs are those of the whole sequence, whatever the windows."""
    items = sequences(rng)
    whole, _ = network(cell, pooling).forward(items)
    cut, _ = network(cell, pooling, tbptt_steps=steps).forward(items)
    # Equal bits are the packed engine's promise alone.
    np.testing.assert_allclose(cut, whole, rtol=0 if get_gemm() == "packed" else 1e-12)


def test_what_windows_cut(rng: np.random.Generator) -> None:
    """Gradients are those of a loss in which the state that a window begins with is a constant."""
    steps, length = 3, 8
    x = rng.standard_normal((length, D))
    weights = rng.standard_normal((length, K))
    net = network("rnn", None, tbptt_steps=steps)
    out, backward = net.forward([x])
    assert out.shape == (length, K)
    backward(weights)
    begins = range(0, length, steps)
    states = [None]
    for begin in begins:
        states.append(net.rnn(x[None, begin : begin + steps], states[-1])[1])

    def loss() -> float:
        total = 0.0
        for begin, state in zip(begins, states, strict=False):
            y, _ = net.rnn(x[None, begin : begin + steps], state)
            total += float((net.output(y[0]) * weights[begin : begin + steps]).sum())
        return total

    assert_gradients(loss, params(net), grads(net), 2e-6)
    full = network("rnn", None)
    full.forward([x])[1](weights)
    name = "rnn.weight_hh_l0"
    assert not np.allclose(grads(full)[name], grads(net)[name]), "nothing was cut"


def test_windows_of_ragged_sequences_with_the_last_state(rng: np.random.Generator) -> None:
    """A sequence that ends in an early window has the gradients of that window alone."""
    short, long = rng.standard_normal((2, D)), rng.standard_normal((7, D))
    drow = rng.standard_normal((1, K))

    def gradients(items: list[np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
        net = network("lstm", "last", tbptt_steps=3)
        net.forward(items)[1](rows)
        return grads(net)

    alone = gradients([short], drow)
    beside = gradients([short, long], np.concatenate([drow, np.zeros_like(drow)]))
    for name, gradient in alone.items():
        np.testing.assert_allclose(beside[name], gradient, rtol=0, atol=1e-15)


# Rows on their own


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_rows_do_not_depend_on_their_place(
    pooling: str, dtype: str, rng: np.random.Generator
) -> None:
    net = network(pooling=pooling, dtype=dtype, bidirectional=True)
    items = sequences(rng, dtype)
    tolerance = 1e-12 if dtype == "float64" else 1e-6
    for function in (net.rows, net.outputs):
        whole = function(items)
        assert whole.dtype == dtype
        order = [2, 0, 3, 1]
        shuffled = function([items[i] for i in order])
        np.testing.assert_allclose(shuffled, whole[order], rtol=0, atol=tolerance)
        for i, item in enumerate(items):
            alone = function([item])
            np.testing.assert_allclose(alone[0], whole[i], rtol=0, atol=tolerance)


@pytest.mark.parametrize("pooling", [*POOLINGS, None])
def test_chunks_change_nothing(
    pooling: str | None, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network(pooling=pooling)
    items = [rng.standard_normal((length, D)) for length in rng.integers(1, 9, 40)]
    rows, outputs = net.rows(items), net.outputs(items)
    weights = net.attention(items) if pooling == "attention" else []
    sizes = []

    def states(part: Any) -> Any:
        sizes.append(len(part) * max(map(len, part)))
        return SequenceNetwork._states(net, part)

    monkeypatch.setattr(module, "STEPS", 20)
    monkeypatch.setattr(net, "_states", states)
    np.testing.assert_allclose(net.rows(items), rows, rtol=0, atol=1e-14)
    np.testing.assert_allclose(net.outputs(items), outputs, rtol=0, atol=1e-14)
    assert len(sizes) > 10
    assert max(sizes) <= 20
    if pooling == "attention":
        for one, item, again in zip(weights, items, net.attention(items), strict=True):
            assert one.shape == (len(item),)
            assert one.sum() == pytest.approx(1)
            np.testing.assert_allclose(again, one, rtol=0, atol=1e-14)


def test_dropout_is_for_training_alone(rng: np.random.Generator) -> None:
    items = sequences(rng)
    plain, dropped = network(), network(dropout=0.5)
    np.testing.assert_array_equal(dropped.outputs(items), plain.outputs(items))
    np.testing.assert_array_equal(plain.forward(items)[0], plain.outputs(items))
    first, backward = dropped.forward(items)
    second, _ = dropped.forward(items)
    assert not np.array_equal(first, second), "each call drops anew"
    assert not np.allclose(first, plain.outputs(items))
    # The gradient goes where rows were kept: that of the output's weight is zero elsewhere.
    backward(np.ones_like(first))
    assert any(layer is dropped.drop for layer in dropped.layers), "its calls are counted"


def test_dropout_has_its_gradient(rng: np.random.Generator) -> None:
    net = network("gru", "max", dropout=0.4, num_layers=2, recurrent_dropout=0.3)
    batch = Batch(sequences(rng), targets("max", rng), np.arange(4), True)
    learner = Supervised(net, losses.softmax_cross_entropy)

    def loss() -> float:
        net.rnn.call_count = net.drop.call_count = 0
        return learner.learn(batch, None)[0]

    loss()
    found = {name: g.copy() for name, g in grads(net).items()}
    assert_gradients(loss, params(net), found, 1e-6)


# Batches


def test_the_loss_is_the_weighted_mean(rng: np.random.Generator) -> None:
    net = network()
    items = sequences(rng)
    one = [(int(i % K), w) for i, w in enumerate((1.0, 0.5, 2.0, 0.0))]
    loss, weight = learn(net, Batch(items, one, np.arange(4), True))
    each = [
        losses.softmax_cross_entropy(net.outputs([item]), np.array([k]))[0]
        for item, (k, _) in zip(items, one, strict=True)
    ]
    assert weight == 3.5
    assert loss == pytest.approx(np.average(each, weights=[w for _, w in one]), abs=1e-14)


def test_pad() -> None:
    x, lengths = pad([np.ones((2, D), "float32"), np.full((3, D), 2, "float32")])
    assert x.dtype == np.float32 and x.shape == (2, 3, D)
    assert lengths.tolist() == [2, 3]
    assert not x[0, 2:].any() and (x[1] == 2).all()


def test_layers_have_seeds_of_their_own() -> None:
    specs = network_specs(
        {"cell": "gru", "hidden_size": 4, "num_layers": 1, "bidirectional": True, "dropout": 0,
         "recurrent_dropout": 0, "reset_after": True, "nonlinearity": "tanh",
         "pooling": "attention"},
        4, 4, np.dtype("float32"), pooled=True,
    )  # fmt: skip
    assert list(specs) == ["rnn", "attention", "score", "output"]
    made = make_layers(specs, np.random.default_rng(0))
    again = make_layers(specs, np.random.default_rng(0))
    other = make_layers(specs, np.random.default_rng(1))
    assert made["rnn"].reset_after and made["rnn"].bidirectional
    weight = made["attention"].params["weight"]
    np.testing.assert_array_equal(weight, again["attention"].params["weight"])
    assert not np.array_equal(weight, other["attention"].params["weight"])
