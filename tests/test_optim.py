"""Optimizers against their formulas and PyTorch, their state, and clipping by the global norm."""

import copy
import math
import re
from types import SimpleNamespace

import array_api_strict
import numpy as np
import pytest

from fastrnn.layers.embedding import Embedding
from fastrnn.layers.modules import Linear
from fastrnn.layers.rnn import GRU, LSTM
from fastrnn.layers.sequential import Sequential
from fastrnn.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop, clip_grad_norm


def raises(kind, message):
    return pytest.raises(kind, match=re.escape(message))


# Each optimizer: how it is made, and its PyTorch twin's class and arguments.
OPTIMIZERS = {
    "sgd": (SGD, {"learning_rate": 0.1}, "SGD", {"lr": 0.1}),
    "momentum": (SGD, {"learning_rate": 0.1, "momentum": 0.9}, "SGD", {"lr": 0.1, "momentum": 0.9}),
    "momentum, decay": (
        SGD,
        {"learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.2},
        "SGD",
        {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.2},
    ),
    "sgd, decay": (
        SGD,
        {"learning_rate": 0.1, "weight_decay": 0.2},
        "SGD",
        {"lr": 0.1, "weight_decay": 0.2},
    ),
    "nesterov": (
        SGD,
        {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
    "adam": (Adam, {}, "Adam", {}),
    "adam, all": (
        Adam,
        {"learning_rate": 0.05, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 0.1, "weight_decay": 0.3},
        "Adam",
        {"lr": 0.05, "betas": (0.8, 0.9), "eps": 0.1, "weight_decay": 0.3},
    ),
    "adamw": (AdamW, {"learning_rate": 0.1}, "AdamW", {"lr": 0.1}),
    "adamw, decay": (
        AdamW,
        {"learning_rate": 0.1, "weight_decay": 0.5},
        "AdamW",
        {"lr": 0.1, "weight_decay": 0.5},
    ),
    "rmsprop": (RMSprop, {}, "RMSprop", {}),
    "rmsprop, all": (
        RMSprop,
        {"learning_rate": 0.1, "decay": 0.7, "epsilon": 0.01, "weight_decay": 0.2},
        "RMSprop",
        {"lr": 0.1, "alpha": 0.7, "eps": 0.01, "weight_decay": 0.2},
    ),
    "adagrad": (Adagrad, {}, "Adagrad", {}),
    "adagrad, all": (
        Adagrad,
        {
            "learning_rate": 0.1,
            "epsilon": 0.01,
            "initial_accumulator": 0.5,
            "weight_decay": 0.2,
        },
        "Adagrad",
        {"lr": 0.1, "eps": 0.01, "initial_accumulator_value": 0.5, "weight_decay": 0.2},
    ),
}
NAMES = list(OPTIMIZERS)


def make(name, layers):
    kind, arguments, _, _ = OPTIMIZERS[name]
    return kind(layers, **arguments)


def fill(layers, rng):
    """New gradients."""
    for layer in layers:
        for grad in layer.grads.values():
            grad[...] = rng.standard_normal(grad.shape)


def layers_of(dtype="float64"):
    return [
        Linear(3, 5, dtype=dtype, random_state=1),
        Embedding(4, 2, dtype=dtype, random_state=2),
    ]


def scalar_steps(name, p, gradients):
    """One number after steps with these gradients, by the formulas in Python floats."""
    kind, a, _, _ = OPTIMIZERS[name]
    a = dict(a)
    rate = a.get("learning_rate", 0.001 if kind in (Adam, AdamW) else 0.01)
    decay = a.get("weight_decay", 0.01 if kind is AdamW else 0.0)
    m, v = 0.0, a.get("initial_accumulator", 0.0)
    for t, g in enumerate(gradients, 1):
        if kind is not AdamW:
            g += decay * p
        if kind is SGD:
            m = a.get("momentum", 0.0) * m + g
            p -= rate * (g + a["momentum"] * m if a.get("nesterov") else m)
        elif kind in (Adam, AdamW):
            b1, b2, eps = a.get("beta_1", 0.9), a.get("beta_2", 0.999), a.get("epsilon", 1e-8)
            if kind is AdamW:
                p -= rate * decay * p
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g * g
            p -= rate * (m / (1 - b1**t)) / (math.sqrt(v / (1 - b2**t)) + eps)
        elif kind is RMSprop:
            b = a.get("decay", 0.99)
            v = b * v + (1 - b) * g * g
            p -= rate * g / (math.sqrt(v) + a.get("epsilon", 1e-8))
        else:
            v += g * g
            p -= rate * g / (math.sqrt(v) + a.get("epsilon", 1e-10))
    return p


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_formula(name, dtype, rng):
    layers = layers_of(dtype)
    starts = [{k: p.astype("f8") for k, p in layer.params.items()} for layer in layers]
    optimizer = make(name, layers)
    history = []
    for _ in range(4):
        fill(layers, rng)
        history.append([{k: g.astype("f8") for k, g in layer.grads.items()} for layer in layers])
        optimizer.step()
    assert optimizer.steps == 4
    for i, layer in enumerate(layers):
        for key, param in layer.params.items():
            expected = np.empty_like(starts[i][key])
            for at in np.ndindex(param.shape):
                gradients = [float(grads[i][key][at]) for grads in history]
                expected[at] = scalar_steps(name, float(starts[i][key][at]), gradients)
            # some twenty rounded operations on numbers of size one
            np.testing.assert_allclose(param, expected, rtol=0, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", NAMES)
def test_equals_torch(name, torch, rng):
    layers = layers_of()
    twins = [
        torch.from_numpy(p.copy()).requires_grad_()
        for layer in layers
        for p in layer.params.values()
    ]
    _, _, kind, arguments = OPTIMIZERS[name]
    optimizer, torch_optimizer = make(name, layers), getattr(torch.optim, kind)(twins, **arguments)
    for _ in range(5):
        fill(layers, rng)
        grads = [g for layer in layers for g in layer.grads.values()]
        for twin, grad in zip(twins, grads, strict=True):
            twin.grad = torch.from_numpy(grad.copy())
        optimizer.step()
        torch_optimizer.step()
    params = [p for layer in layers for p in layer.params.values()]
    for param, twin in zip(params, twins, strict=True):
        np.testing.assert_allclose(param, twin.detach().numpy(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_state_continues_with_the_same_bits(name, rng):
    layers = layers_of("float32")
    optimizer = make(name, layers)
    for _ in range(3):
        fill(layers, rng)
        optimizer.step()
    saved = optimizer.state_dict()
    params = [p.copy() for layer in layers for p in layer.params.values()]
    assert saved["steps"] == 3
    assert all(isinstance(value, np.ndarray) for value in saved.values())
    copies = {key: value.copy() for key, value in saved.items()}
    optimizer.learning_rate /= 2
    fill(layers, np.random.default_rng(5))
    optimizer.step()
    after = [p.copy() for layer in layers for p in layer.params.values()]
    for key, value in saved.items():
        np.testing.assert_array_equal(value, copies[key])  # copies, not views

    other_layers = layers_of("float32")
    for p, old in zip(
        [p for layer in other_layers for p in layer.params.values()], params, strict=True
    ):
        p[...] = old
    other = make(name, other_layers)
    other.load_state_dict(saved)
    assert other.learning_rate == optimizer.learning_rate * 2
    other.learning_rate /= 2
    fill(other_layers, np.random.default_rng(5))
    other.step()
    for p, expected in zip(
        [p for layer in other_layers for p in layer.params.values()], after, strict=True
    ):
        np.testing.assert_array_equal(p, expected)


def test_state_names_and_refusals(rng):
    layers = layers_of()
    optimizer = SGD(layers, 0.1, 0.9)
    fill(layers, rng)
    optimizer.step()
    saved = optimizer.state_dict()
    assert sorted(saved) == [
        "learning_rate",
        "mean.0.bias",
        "mean.0.weight",
        "mean.1.weight",
        "steps",
    ]
    assert sorted(SGD(layers, 0.1).state_dict()) == ["learning_rate", "steps"]
    bad = {
        "names": {k: v for k, v in saved.items() if k != "mean.0.bias"},
        "unknown": {**saved, "square.0.bias": np.zeros(5)},
        "shape": {**saved, "steps": np.array(9), "mean.1.weight": np.zeros((4, 3))},
        "dtype": {**saved, "steps": np.array(9), "mean.1.weight": np.zeros((4, 2), "f4")},
        "steps": {**saved, "steps": np.array(-1)},
        "rate": {**saved, "steps": np.array(9), "learning_rate": np.array(np.nan)},
    }
    for state in bad.values():
        with raises(ValueError, "state_dict"):
            optimizer.load_state_dict(state)
        for key, value in optimizer.state_dict().items():
            np.testing.assert_array_equal(value, saved[key])


def test_parameters_change_in_place_and_only_through_step(rng):
    layer = Linear(3, 2, random_state=0)
    weight = layer.params["weight"]
    before = weight.copy()
    optimizer = SGD(layer, 0.5)
    layer.grads["weight"][...] = 1
    np.testing.assert_array_equal(weight, before)
    optimizer.step()
    assert layer.params["weight"] is weight
    np.testing.assert_array_equal(weight, before - np.float32(0.5))
    optimizer.learning_rate = 0.0
    optimizer.step()
    np.testing.assert_array_equal(weight, before - np.float32(0.5))
    optimizer.zero_grad()
    assert not layer.grads["weight"].any()


def test_other_kinds_of_array(rng):
    xp = array_api_strict
    for name in NAMES:
        start, grad = rng.standard_normal((3, 2)), rng.standard_normal((3, 2))
        host = SimpleNamespace(params={"w": start.copy()}, grads={"w": grad.copy()})
        other = SimpleNamespace(params={"w": xp.asarray(start)}, grads={"w": xp.asarray(grad)})
        for layer in (host, other):
            optimizer = make(name, [layer])
            clip_grad_norm([layer], 1.0)
            optimizer.step()
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
        assert other.params["w"].__array_namespace__() is xp
        np.testing.assert_allclose(np.asarray(other.params["w"]), host.params["w"], rtol=1e-14)


def test_bad_arguments_are_named():
    layer = Linear(2, 2)
    with raises(ValueError, "learning_rate: expected a number at least 0, got -0.1"):
        SGD(layer, -0.1)
    with raises(ValueError, "momentum: expected a number at least 0 and below 1, got 1.0"):
        SGD(layer, 0.1, 1.0)
    with raises(ValueError, "nesterov: expected a momentum above 0 with it, got 0.0"):
        SGD(layer, 0.1, nesterov=True)
    with raises(TypeError, "learning_rate: expected a number at least 0, got '0.1'"):
        Adam(layer, "0.1")
    with raises(ValueError, "beta_2: expected"):
        Adam(layer, beta_2=1.0)
    with raises(ValueError, "weight_decay: expected"):
        AdamW(layer, weight_decay=float("inf"))
    with raises(TypeError, "layers[1]: expected a layer, got 3 (int)"):
        RMSprop([layer, 3])
    with raises(ValueError, "layers: expected each layer once, got one at 0 again at 1"):
        Adagrad([layer, layer])
    optimizer = SGD(layer, 0.1)
    with raises(ValueError, "learning_rate:"):
        optimizer.learning_rate = float("nan")
    before = layer.params["weight"].copy()
    layer.grads["weight"][...] = 1
    layer.params["bias"].flags.writeable = False
    with raises(ValueError, "layers: expected parameters that can be written, got 0.bias"):
        optimizer.step()
    np.testing.assert_array_equal(layer.params["weight"], before)
    assert optimizer.steps == 0


def test_every_optimizer_goes_downhill():
    for name in NAMES:
        layer = Linear(4, 1, dtype="float64", random_state=0)
        layer.params["weight"][...] = 0.05
        optimizer = make(name, layer)
        assert isinstance(optimizer, Optimizer)
        values = []
        for _ in range(30):
            values.append(float((layer.params["weight"] ** 2).sum()))
            layer.grads["weight"][...] = 2 * layer.params["weight"]
            optimizer.step()
        assert min(values) < 0.8 * values[0], name


# Clipping


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_gradient_that_is_mostly_zero_counts_wherever_it_is_not(dtype, decay, rng):
    layer = Embedding(300, 77, dtype=dtype, random_state=0)
    p, g = layer.params["weight"], layer.grads["weight"]
    p[::7] = rng.standard_normal(p[::7].shape)
    p[3, 5], p[250, 70] = np.nan, np.inf
    for place in rng.integers(g.size, size=12):
        g.reshape(-1)[place] = rng.standard_normal()
    g[-1, -1], g[0, 0], g[150, 20] = 1, np.nan, -0.0
    expected = p.copy()
    with np.errstate(invalid="ignore"):
        expected -= p.dtype.type(0.5) * (g + p.dtype.type(decay) * p if decay else g)
    SGD(layer, 0.5, weight_decay=decay).step()
    np.testing.assert_array_equal(p, expected)


def test_clipping_formula(rng):
    layers = layers_of()
    fill(layers, rng)
    grads = [g for layer in layers for g in layer.grads.values()]
    before = [g.copy() for g in grads]
    norm = math.sqrt(sum(float((g**2).sum()) for g in before))
    assert clip_grad_norm(layers, norm * 1.001) == pytest.approx(norm, rel=1e-14)
    for g, old in zip(grads, before, strict=True):
        np.testing.assert_array_equal(g, old)
    theta = norm / 3
    assert clip_grad_norm(layers, theta) == pytest.approx(norm, rel=1e-14)
    for g, old in zip(grads, before, strict=True):
        np.testing.assert_allclose(g, old / 3, rtol=1e-14)
    assert clip_grad_norm(layers, math.inf) == pytest.approx(theta, rel=1e-14)
    assert clip_grad_norm([], 1.0) == 0.0


def test_clipping_equals_torch(torch, rng):
    layers = layers_of("float32")
    fill(layers, rng)
    grads = [g for layer in layers for g in layer.grads.values()]
    twins = [torch.zeros(g.shape, requires_grad=True) for g in grads]
    for twin, grad in zip(twins, grads, strict=True):
        twin.grad = torch.from_numpy(grad.copy())
    expected = torch.nn.utils.clip_grad_norm_(twins, 0.7)
    assert clip_grad_norm(layers, 0.7) == pytest.approx(expected.item(), rel=1e-6)
    for twin, grad in zip(twins, grads, strict=True):
        # torch adds 1e-6 to the norm it divides by
        np.testing.assert_allclose(grad, twin.grad.numpy(), rtol=2e-6)


def test_clipping_leaves_what_is_not_finite():
    for bad in (np.nan, np.inf, -np.inf):
        layer = Linear(3, 2)
        layer.grads["weight"][...] = 5
        layer.grads["weight"][0, 1] = bad
        before = layer.grads["weight"].copy()
        norm = clip_grad_norm(layer, 1.0)
        assert math.isnan(norm) if math.isnan(bad) else norm == math.inf
        np.testing.assert_array_equal(layer.grads["weight"], before)


@pytest.mark.parametrize(("dtype", "size"), [("float32", 1e38), ("float64", 1e300)])
def test_clipping_mends_gradients_whose_squares_overflow(dtype, size):
    layer = Linear(3, 2, False, dtype=dtype)
    layer.grads["weight"][...] = size
    assert clip_grad_norm(layer, 2.0) == pytest.approx(size * math.sqrt(6), rel=1e-6)
    np.testing.assert_allclose(layer.grads["weight"], 2 / math.sqrt(6), rtol=1e-6)


def test_clipping_names_bad_input():
    for bad in (0, -1, math.nan):
        with raises(ValueError, "max_norm: expected a number above 0, got"):
            clip_grad_norm(Linear(2, 2), bad)
    with raises(TypeError, "layers[0]: expected a layer, got"):
        clip_grad_norm([np.zeros(3)], 1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(5, 4, random_state=0),
        lambda: LSTM(5, 4, 2, bidirectional=True, random_state=0),
        lambda: Sequential(GRU(5, 6, random_state=0), Linear(6, 4, random_state=0)),
    ],
    ids=["linear", "lstm", "sequential"],
)
def test_calls_see_what_steps_and_callers_write(make, rng):
    layer = make()
    optimizer = SGD(layer, 0.1)
    weight = next(param for name, param in layer.params.items() if "weight" in name)
    x = rng.standard_normal((2, 3, 5)).astype(np.float32)

    def results(layer):
        layer.zero_grad()
        y, *_, backward = layer.forward(x)
        dx = backward(np.ones_like(y))
        return [y, dx[0] if isinstance(dx, tuple) else dx, *layer.grads.values()]

    def check():
        fresh = copy.deepcopy(layer)  # without anything packed
        for got, expected in zip(results(layer), results(fresh), strict=True):
            np.testing.assert_array_equal(got, expected)

    check()
    for _ in range(2):
        optimizer.step()
        check()
        check()
        weight[...] += 1  # no step has happened
        check()
        weight[...] -= 2
        optimizer.step()
        check()
        weight[0, 0] += 1
        check()
