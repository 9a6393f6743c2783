"""Layers moved to where another library's arrays are: same results, and nothing leaves from there.

The array twin runs on array_api_strict, which refuses whatever the standard does not promise and
lets arrays of two devices never meet, on PyTorch's tensors, and on a stand-in for CuPy's arrays.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finite_differences import assert_gradients
from kinds import KINDS, put, stays

import fastrnn
from fastrnn import losses, optim
from fastrnn.engine.arrays import to_host, write
from fastrnn.engine.devices import is_host

__all__ = ["put"]

N, T, D, H = 4, 5, 3, 6
LENGTHS = np.array([3, 5, 0, 2])

CELLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rnn tanh": (fastrnn.RNN, {}),
    "rnn relu": (fastrnn.RNN, {"nonlinearity": "relu"}),
    "lstm": (fastrnn.LSTM, {}),
    "lstm projected": (fastrnn.LSTM, {"proj_size": 2}),
    "gru": (fastrnn.GRU, {}),
    "gru reset after": (fastrnn.GRU, {"reset_after": True}),
}

every_cell = pytest.mark.parametrize("name", CELLS)


def make(name: str = "lstm", width: int = D, units: int = H, **options: Any) -> Any:
    kind, own = CELLS[name]
    return kind(width, units, **({"random_state": 1, "dtype": "float64"} | own | options))


def host(tree: Any) -> Any:
    """The same on the host, whatever the nesting."""
    if isinstance(tree, (list, tuple)):
        return type(tree)(map(host, tree))
    if isinstance(tree, dict):
        return {name: host(value) for name, value in tree.items()}
    return None if tree is None else to_host(tree)


def close(found: Any, expected: Any) -> None:
    """Equal to float64's rounding, whatever the nesting."""
    found = host(found)
    if isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            close(one, other)
    elif isinstance(expected, dict):
        assert set(found) == set(expected)
        for name, value in expected.items():
            close(found[name], value)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def pair(layer: Any, put: Any) -> tuple[Any, Any]:
    """A layer, and its like where `put` puts arrays."""
    return layer, copy.deepcopy(layer).to(put.device)


# Layers


@every_cell
@pytest.mark.parametrize("as_list", [False, True])
def test_recurrent_layers(name: str, as_list: bool, put: Any, rng: np.random.Generator) -> None:
    mine, its = pair(
        make(
            name, num_layers=2, bidirectional=True, initial_state="learned",
            dropout=0.3, recurrent_dropout=0.3,
        ),
        put,
    )  # fmt: skip
    like = put(np.zeros(1))
    x: Any = rng.standard_normal((N, T, D))
    lengths: Any = LENGTHS
    if as_list:
        x, lengths = [one[:length] for one, length in zip(x, LENGTHS, strict=True)], None
    close(its(put(x), lengths=lengths), mine(x, lengths=lengths))
    y, state, backward = mine.forward(x, lengths=lengths)
    found, found_state, its_backward = its.forward(put(x), lengths=put(lengths))
    stays(like, [found, found_state])
    close([found, found_state], [y, state])
    gradients, found_gradients = backward(y, state), its_backward(found, found_state)
    stays(like, found_gradients)
    close(found_gradients, gradients)
    stays(like, dict(its.grads))
    close(dict(its.grads), dict(mine.grads))
    traced = its.trace(put(x), lengths=lengths)
    stays(like, traced)
    for key, value in mine.trace(x, lengths=lengths).items():
        for n, length in enumerate(LENGTHS):
            close(
                to_host(traced[key][n] if as_list else traced[key][n, ...])[:length],
                value[n][:length],
            )
    flow = fastrnn.gradient_flow(its, put(x), lengths=lengths)
    close(flow.norms, fastrnn.gradient_flow(mine, x, lengths=lengths).norms)


@pytest.mark.parametrize("put", ["strict device1", "torch", "cuda:1"], indirect=True)
@every_cell
def test_gradients_are_finite_differences(name: str, put: Any, rng: np.random.Generator) -> None:
    layer = make(name, 2, 2, bidirectional=True).to(put.device)
    lengths = np.array([1, 3, 2])
    x = rng.standard_normal((3, 3, 2))
    y, last, backward = layer.forward(put(x), lengths=lengths)
    pairs = isinstance(last, tuple)
    state = [rng.standard_normal(part.shape) for part in (last if pairs else (last,))]
    dstate = [rng.standard_normal(part.shape) for part in state]
    dy = rng.standard_normal(y.shape)
    params = host(dict(layer.params))

    def form(parts: list[np.ndarray]) -> Any:
        return put(tuple(parts) if pairs else parts[0])

    def loss() -> float:
        for key, value in params.items():
            write(layer.params[key], put(value))
        y, last = layer(put(x), form(state), lengths)
        ends = zip(last if pairs else (last,), dstate, strict=True)
        return float((to_host(y) * dy).sum() + sum((to_host(h) * d).sum() for h, d in ends))

    layer.zero_grad()
    _, _, backward = layer.forward(put(x), form(state), lengths)
    dx, first = backward(put(dy), form(dstate))
    names = [f"state {i}" for i in range(len(state))]
    arrays = {"x": x, **dict(zip(names, state, strict=True)), **params}
    found = [host(dx), *host(list(first) if pairs else [first]), *host(dict(layer.grads)).values()]
    assert_gradients(loss, arrays, dict(zip(arrays, found, strict=True)))


def single(kind: str) -> Any:
    options: dict[str, Any] = {"dtype": "float64", "random_state": 1}
    return {
        "linear": lambda: fastrnn.Linear(D, 4, **options),
        "linear without bias": lambda: fastrnn.Linear(D, 4, bias=False, **options),
        "layer norm": lambda: fastrnn.LayerNorm(D, dtype="float64"),
        "dropout": lambda: fastrnn.Dropout(0.4, random_state=1),
        "softmax": lambda: fastrnn.Activation("softmax"),
        "tanh": lambda: fastrnn.Activation("tanh"),
    }[kind]()


SINGLE = ("linear", "linear without bias", "layer norm", "dropout", "softmax", "tanh")


@pytest.mark.parametrize("kind", SINGLE)
@pytest.mark.parametrize("as_list", [False, True])
def test_layers_of_rows(kind: str, as_list: bool, put: Any, rng: np.random.Generator) -> None:
    mine, its = pair(single(kind), put)
    x: Any = rng.standard_normal((N, T, D))
    if as_list:
        x = [one[:length] for one, length in zip(x, LENGTHS, strict=True)]
    close(its(put(x)), mine(x))
    y, backward = mine.forward(x)
    found, its_backward = its.forward(put(x))
    stays(put(np.zeros(1)), found)
    close(found, y)
    dx = its_backward(found)
    stays(put(np.zeros(1)), dx)
    close(dx, backward(y))
    close(dict(its.grads), dict(mine.grads))
    if kind == "layer norm" or kind.startswith("linear"):
        stays(put(np.zeros(1)), dict(its.grads))


def test_linear_gradients_are_finite_differences(put: Any, rng: np.random.Generator) -> None:
    layer = fastrnn.Linear(D, 2, dtype="float64", random_state=1).to(put.device)
    x, dy = rng.standard_normal((2, D)), rng.standard_normal((2, 2))
    params = host(dict(layer.params))

    def loss() -> float:
        for key, value in params.items():
            write(layer.params[key], put(value))
        return float((to_host(layer(put(x))) * dy).sum())

    _, backward = layer.forward(put(x))
    dx = backward(put(dy))
    assert_gradients(loss, {"x": x, **params}, {"x": host(dx), **host(dict(layer.grads))})


def test_embedding(put: Any, rng: np.random.Generator) -> None:
    mine, its = pair(fastrnn.Embedding(7, D, dtype="float64", random_state=1), put)
    x = rng.integers(0, 7, (N, T))
    close(its(put(x)), mine(x))
    for method in ("forward", "forward_symbols"):
        found, its_backward = getattr(its, method)(put(x))
        stays(put(np.zeros(1)), found)
        y, backward = mine.forward(x)
        close(found, y)
        backward(np.ones_like(y))
        its_backward(put(np.ones_like(y)))
    close(dict(its.grads), dict(mine.grads))
    with pytest.raises(ValueError, match=r"x: expected indices in \[0, 7\), got 7"):
        its(put(x + 7 - x))


@pytest.mark.parametrize("kind", ["additive", "dot"])
def test_attention(kind: str, put: Any, rng: np.random.Generator) -> None:
    mine, its = pair(fastrnn.Attention(D, 4, kind, dtype="float64", random_state=1), put)
    queries, keys = rng.standard_normal((N, 2, D)), rng.standard_normal((N, T, 4))
    context, weights, backward = mine.forward(queries, keys, LENGTHS)
    found, found_weights, its_backward = its.forward(put(queries), put(keys), LENGTHS)
    stays(put(np.zeros(1)), [found, found_weights])
    close([found, found_weights], [context, weights])
    gradients = its_backward(found)
    stays(put(np.zeros(1)), gradients)
    close(gradients, backward(context))
    close(dict(its.grads), dict(mine.grads))
    memory, its_memory = mine.read(keys, LENGTHS), its.read(put(keys), LENGTHS)
    context, _, back = memory.forward(queries)
    found, _, its_back = its_memory.forward(put(queries))
    close([its_back(found), its_memory.backward()], [back(context), memory.backward()])


def network(random_state: int = 1, **options: Any) -> fastrnn.Sequential:
    own = {"dtype": "float64", "random_state": random_state}
    return fastrnn.Sequential(
        fastrnn.Embedding(7, D, **own),
        fastrnn.Dropout(0.2, **own),
        fastrnn.LSTM(D, H, **own, **options),
        fastrnn.LayerNorm(H, dtype="float64"),
        fastrnn.Linear(H, 7, **own),
    )


def test_sequential(put: Any, rng: np.random.Generator) -> None:
    mine, its = pair(network(), put)
    x = rng.integers(0, 7, (N, T))
    close(its(put(x), lengths=LENGTHS), mine(x, lengths=LENGTHS))
    y, state, backward = mine.forward(x, lengths=LENGTHS)
    found, found_state, its_backward = its.forward(put(x), lengths=LENGTHS)
    stays(put(np.zeros(1)), [found, found_state])
    close([found, found_state], [y, state])
    close(its_backward(found, found_state)[1], backward(y, state)[1])
    stays(put(np.zeros(1)), dict(its.grads))
    close(dict(its.grads), dict(mine.grads))


@pytest.mark.parametrize("kind", [fastrnn.Final, fastrnn.Reversed])
def test_wrappers(kind: Any, put: Any, rng: np.random.Generator) -> None:
    mine, its = pair(kind(make(num_layers=2)), put)
    x = rng.standard_normal((N, T, D))
    lengths = np.array([3, 5, 1, 2])
    y, state, backward = mine.forward(x, lengths=lengths)
    found, found_state, its_backward = its.forward(put(x), lengths=lengths)
    stays(put(np.zeros(1)), [found, found_state])
    close([found, found_state], [y, state])
    close(its_backward(found, found_state), backward(y, state))
    close(dict(its.grads), dict(mine.grads))


# Losses and optimizers


def tasks(rng: np.random.Generator) -> dict[str, tuple[Callable[..., Any], Any, Any]]:
    x = rng.standard_normal((N, T, D))
    y = rng.standard_normal((N, T, D))
    return {
        "softmax": (losses.softmax_cross_entropy, x, rng.integers(0, D, (N, T))),
        "squared": (losses.squared_error, x, y),
        "absolute": (losses.absolute_error, x, y),
        "huber": (losses.huber, x, y),
        "binary": (losses.binary_cross_entropy, x, (y > 0) * 1.0),
    }


@pytest.mark.parametrize("name", ["softmax", "squared", "absolute", "huber", "binary"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_losses(name: str, reduction: str, put: Any, rng: np.random.Generator) -> None:
    function, x, y = tasks(rng)[name]
    for weight in (None, (rng.random((N, T)) > 0.3) * 1.0):
        loss, gradient = function(x, y, weight, reduction=reduction)
        found, found_gradient = function(put(x), put(y), put(weight), reduction=reduction)
        stays(put(np.zeros(1)), [found, found_gradient])
        close(found_gradient, gradient)
        close(found if reduction == "none" else np.array(found), loss)
        assert isinstance(found, float) == (reduction == "mean")


def test_loss_gradients_are_finite_differences(put: Any, rng: np.random.Generator) -> None:
    for function, x, y in tasks(rng).values():
        _, gradient = function(put(x), put(y))

        def loss(function: Any = function, x: Any = x, y: Any = y) -> float:
            return float(function(put(x), put(y))[0])

        assert_gradients(loss, {"x": x}, {"x": host(gradient)})


@pytest.mark.parametrize("chunk", [512, 3])
def test_linear_cross_entropy(
    chunk: int, put: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CHUNK_ROWS", chunk)
    monkeypatch.setattr(losses, "CHUNK_LOGITS", 1)
    mine, its = pair(fastrnn.Linear(D, 7, dtype="float64", random_state=1), put)
    x, targets = rng.standard_normal((N, T, D)), rng.integers(0, 7, (N, T))
    loss, backward = losses.linear_cross_entropy(mine, x, targets, label_smoothing=0.1)
    found, its_backward = losses.linear_cross_entropy(
        its, put(x), put(targets), label_smoothing=0.1
    )
    assert backward is not None and its_backward is not None
    close(np.array(found), loss)
    dx = its_backward(2.0)
    stays(put(np.zeros(1)), dx)
    close(dx, backward(2.0))
    close(dict(its.grads), dict(mine.grads))


OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda layer: optim.SGD(layer, 0.1, momentum=0.9, nesterov=True),
    "adam": lambda layer: optim.Adam(layer, 0.01, weight_decay=0.1),
    "adamw": lambda layer: optim.AdamW(layer, 0.01),
    "rmsprop": lambda layer: optim.RMSprop(layer, 0.01),
    "adagrad": lambda layer: optim.Adagrad(layer, 0.01),
}


def train(net: Any, optimizer: Any, x: Any, targets: Any, place: Any, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        net.zero_grad()
        y, _, backward = net.forward(place(x))
        loss, dy = losses.softmax_cross_entropy(y, place(targets))
        backward(dy)
        found += [loss, fastrnn.clip_grad_norm(net, 0.1)]
        optimizer.step()
    return found


@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_training(rule: str, put: Any, rng: np.random.Generator) -> None:
    mine, its = pair(network(), put)
    x, targets = rng.integers(0, 7, (2, N, T))
    first, second = OPTIMIZERS[rule](mine), OPTIMIZERS[rule](its)
    close(
        np.array(train(its, second, x, targets, put, 3)),
        np.array(train(mine, first, x, targets, np.asarray, 3)),
    )
    stays(put(np.zeros(1)), dict(its.params))
    close(dict(its.params), dict(mine.params))
    # The optimizer follows a layer that is moved, and goes on as if it had not been.
    its.to("cpu")
    train(its, second, x, targets, np.asarray, 2)
    train(mine, first, x, targets, np.asarray, 2)
    close(dict(its.params), dict(mine.params))
    its.to(put.device)
    train(its, second, x, targets, put, 1)
    train(mine, first, x, targets, np.asarray, 1)
    close(dict(its.params), dict(mine.params))


# Streams


@every_cell
def test_streams(name: str, put: Any, rng: np.random.Generator) -> None:
    mine, its = pair(make(name, num_layers=2, initial_state="normal"), put)
    x = rng.standard_normal((3, 4, D))
    a, b = mine.stream(3), its.stream(3)
    for t in range(2):
        y = b.step(put(x[:, t]))
        stays(put(np.zeros(1)), y)
        close(y, a.step(x[:, t]))
    out = put(np.zeros((3, mine.output_size)))
    assert b.step(put(x[:, 2]), out) is out
    close(out, a.step(x[:, 2]))
    close(b.push(put(x)), a.push(x))
    stays(put(np.zeros(1)), b.state)
    close(b.state, a.state)
    state = a.state
    for stream in (a, b):
        stream.reset([1])
        assert stream.add(2).tolist() == [3, 4]
        stream.drop([0])
    close(b.state, a.state)
    close(b.step(put(x[[0, 1, 2, 0], 3])), a.step(x[[0, 1, 2, 0], 3]))
    a, b = mine.stream(3), its.stream(3)
    a.state, b.state = state, put(state)
    close(b.step(put(x[:, 3])), a.step(x[:, 3]))
    write(mine.params["bias_ih_l0"], 1.0)
    write(its.params["bias_ih_l0"], 1.0)
    a.reload()
    b.reload()
    close(b.step(put(x[:, 3])), a.step(x[:, 3]))


def test_stream_of_a_sequential(put: Any, rng: np.random.Generator) -> None:
    mine, its = pair(network(), put)
    x = rng.integers(0, 7, (3, 4))
    a, b = mine.stream(3), its.stream(3)
    y = b.step(put(x[:, 0]))
    stays(put(np.zeros(1)), y)
    close(y, a.step(x[:, 0]))
    close(b.push(put(x[:, 1:])), a.push(x[:, 1:]))
    out = put(np.zeros((3, 7)))
    assert b.step(put(x[:, 0]), out) is out
    close(out, a.step(x[:, 0]))


@pytest.mark.parametrize("indices", [False, True])
def test_stream_pool(indices: bool, put: Any, rng: np.random.Generator) -> None:
    mine, its = pair(network() if indices else make(num_layers=2), put)
    x = rng.integers(0, 7, (3, 4)) if indices else rng.standard_normal((3, 4, D))
    a, b = fastrnn.StreamPool(mine, 1), fastrnn.StreamPool(its, 1)
    for pool in (a, b):
        assert len(pool.open(3)) == 3
    keys = [0, 1, 2]
    y = b.step(keys, put(x[:, 0]))
    stays(put(np.zeros(1)), y)
    close(y, a.step(keys, x[:, 0]))
    for pool, place in ((a, np.asarray), (b, put)):
        pool.submit(2, place(x[2, 1:3]))
        pool.submit(0, place(x[0, 1:]))
        assert pool.waiting == 5
    found, expected = b.run(), a.run()
    stays(put(np.zeros(1)), list(found.values()))
    close(found, expected)
    state = b.state([2, 0])
    stays(put(np.zeros(1)), state)
    close(state, a.state([2, 0]))
    b.set_state([1, 2], state)
    a.set_state([1, 2], a.state([2, 0]))
    b.reset(0)
    a.reset(0)
    close(b.step(keys, put(x[:, 0])), a.step(keys, x[:, 0]))
    assert b.nbytes == a.nbytes


# Moving


def test_a_move_keeps_everything(put: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.standard_normal((N, T, D))
    layer = make(num_layers=2, dropout=0.3)
    y = layer(x)
    y0, _, backward = layer.forward(x)
    backward(y0)
    params, grads = host(dict(layer.params)), host(dict(layer.grads))
    assert layer.device == "cpu"
    assert layer.to(put.device) is layer
    assert layer.device != "cpu" or "torch" in str(type(put(x)))
    assert layer.num_parameters == sum(p.size for p in params.values())
    stays(put(x), [dict(layer.params), dict(layer.grads)])
    for name, param in params.items():
        np.testing.assert_array_equal(to_host(layer.params[name]), param)
        np.testing.assert_array_equal(to_host(layer.grads[name]), grads[name])
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other.device == layer.device
        stays(put(x), other(put(x))[0])
        close(other(put(x)), y)
    # A file says nothing of where a layer was.
    layer.save(tmp_path / "layer.safetensors")
    loaded = fastrnn.load(tmp_path / "layer.safetensors")
    assert loaded.device == "cpu"
    np.testing.assert_array_equal(loaded(x)[0], y[0])
    loaded = fastrnn.load(tmp_path / "layer.safetensors", device=put.device)
    stays(put(x), loaded(put(x))[0])
    close(loaded(put(x)), y)
    np.testing.assert_array_equal(layer.to("cpu")(x)[0], y[0])
    layer.zero_grad()
    assert not any(grad.any() for grad in layer.grads.values())


def test_prepared_layers_and_streams_from_before(put: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((N, T, D))
    layer = make()
    y = layer(x)
    stream = layer.stream(N)
    layer.prepare().to(put.device)
    close(layer(put(x)), y)
    close(stream.push(x), y[0])  # its snapshot stays where it was
    np.testing.assert_array_equal(layer.to("cpu")(x)[0], y[0])
    assert not layer.params["weight_hh_l0"].flags.writeable


def elsewhere(put: Any, x: np.ndarray) -> Iterator[Any]:
    """The same array on devices that are not the one of `put`."""
    yield x
    for name, kind in KINDS.items():
        if not name.startswith("cuda"):
            other = kind()(x)
            if type(other) is not type(put(x)) or other.device != put(x).device:
                yield other


def test_what_is_elsewhere_is_refused(put: Any, rng: np.random.Generator) -> None:
    layer = make().to(put.device)
    linear = fastrnn.Linear(D, 2, dtype="float64").to(put.device)
    net = fastrnn.Sequential(make().to(put.device), fastrnn.Linear(H, 2, dtype="float64"))
    x = rng.standard_normal((N, T, D))
    y, state, backward = layer.forward(put(x))
    message = "expected an array on .*, where this is computed, got an array of .*moved silently"
    for other in elsewhere(put, x):
        for call in (layer, layer.forward, layer.trace, linear, linear.forward, net):
            with pytest.raises(ValueError, match=rf"^x: {message}"):
                call(other)
        with pytest.raises(ValueError, match=rf"^x\[0\]: {message}"):
            layer([other[n, ...] for n in range(N)])
        with pytest.raises(ValueError, match=rf"^chunk: {message}"):
            layer.stream(N).push(other)
        with pytest.raises(ValueError, match=rf"^x_t: {message}"):
            layer.stream(N).step(other[:, 0, :])
        with pytest.raises(ValueError, match=rf"^x: {message}"):
            fastrnn.StreamPool(layer).submit(0, other[0, ...])
        with pytest.raises((ValueError, TypeError), match=r"^dy: expected an array"):
            backward(next(elsewhere(put, np.zeros(y.shape))))
        if not (is_host(put(x)) and is_host(other)):  # whose memory is one
            with pytest.raises(ValueError, match=rf"^targets: {message}"):
                losses.squared_error(put(x), other)
    with pytest.raises(ValueError, match=r"^state\[0\]: expected an array on"):
        layer(put(x), (np.zeros((1, N, H)), np.zeros((1, N, H))))
    with pytest.raises(ValueError, match=r"^x: expected an array on .*, got"):
        linear([[1.0, 2.0, 3.0]])
    stays(put(x), backward(y, state))  # refused gradients have not counted


def test_no_such_device() -> None:
    layer = make()
    for device in ("gpu", "cuda:", "cuda:-1", "cuda:x", "", 3, None):
        with pytest.raises(ValueError, match=r"^device: expected 'cpu', 'cuda', .*, got"):
            layer.to(device)
    assert layer.device == "cpu"
    assert fastrnn.Dropout(0.1).device == "any"
    assert fastrnn.Dropout(0.1).to("cpu").device == "any"


@pytest.mark.parametrize("kind", ["Linear", "LayerNorm", "Embedding"])
def test_no_sequences_on_a_device(kind: str, put: Any) -> None:
    sizes = {"Linear": (3, 2), "LayerNorm": (3,), "Embedding": (4, 2)}[kind]
    layer = getattr(fastrnn, kind)(*sizes).to(put.device)
    like = put(np.zeros(1))
    assert layer([]) == []
    y, backward = layer.forward([])
    assert y == []
    assert backward([]) in ([], None)
    stays(like, dict(layer.grads))
    if isinstance(layer, fastrnn.Linear):
        loss, loss_back = fastrnn.losses.linear_cross_entropy(layer, [], [])
        assert float(loss) == 0.0
        assert loss_back() == []
        attention = fastrnn.Attention(3, 2).to(put.device)
        context, weights = attention(put(np.zeros((0, 4, 3), np.float32)), [])
        assert (context.shape, weights.shape) == ((0, 4, 2), (0, 4, 0))
        stays(like, [context, weights])


def test_lengths_may_come_from_any_device(put: Any) -> None:
    lengths, x = np.array([4, 2]), put(np.ones((2, 4, 3)))
    attention = fastrnn.Attention(3, 3, dtype="float64", random_state=0)
    for layer, given in (
        (fastrnn.GRU(3, 2, random_state=0, dtype="float64"), (x,)),
        (fastrnn.Reversed(fastrnn.GRU(3, 2, random_state=0, dtype="float64")), (x,)),
        (attention, (x, x)),
    ):
        layer.to(put.device)
        expected, found = (layer(*given, lengths=one)[0] for one in (lengths, put(lengths)))
        np.testing.assert_array_equal(to_host(found), to_host(expected))
