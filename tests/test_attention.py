"""Attention: exact gradients, real steps alone, sources read once, the same bits, bad input."""

from __future__ import annotations

import pickle
import re

import array_api_strict
import numpy as np
import pytest
from finite_differences import assert_gradients

import fastrnn
from fastrnn.files import load
from fastrnn.layers.attention import Attention


def raises(kind, message):
    return pytest.raises(kind, match=re.escape(message))


KINDS = ["additive", "additive without bias", "dot", "dot of two sizes"]
Q = {"dot": 5}
LENGTHS = [6, 0, 1, 4]


def make(kind, dtype="float64"):
    """A layer with keys of 5 elements, and parameters that are not special."""
    layer = {
        "additive": lambda: Attention(3, 5, "additive", 7, dtype=dtype, random_state=1),
        "additive without bias": lambda: Attention(3, 5, bias=False, dtype=dtype, random_state=1),
        "dot": lambda: Attention(5, 5, "dot", dtype=dtype, random_state=1),
        "dot of two sizes": lambda: Attention(3, 5, "dot", dtype=dtype, random_state=1),
    }[kind]()
    rng = np.random.default_rng(2)
    for param in layer.params.values():
        param[...] = rng.standard_normal(param.shape)
    return layer


def batch(kind, rng, n=4, Tq=3, Ts=6):
    """Queries and keys."""
    return rng.standard_normal((n, Tq, Q.get(kind, 3))), rng.standard_normal((n, Ts, 5))


def in_words(layer, queries, keys, lengths):
    """The formula, one query of one source at a time."""
    p = layer.params
    context = np.zeros((*queries.shape[:2], keys.shape[2]))
    weights = np.zeros((*queries.shape[:2], keys.shape[1]))
    for n, length in enumerate(lengths):
        k = keys[n, :length]
        for t, q in enumerate(queries[n]):
            if layer.kind == "dot":
                e = (k @ p["weight_key"].T if "weight_key" in p else k) @ q
            else:
                sums = p["weight_query"] @ q + k @ p["weight_key"].T + p.get("bias", 0)
                e = np.tanh(sums) @ p["weight_score"]
            if length:
                weights[n, t, :length] = np.exp(e) / np.exp(e).sum()
                context[n, t] = weights[n, t, :length] @ k
    return context, weights


@pytest.mark.parametrize("kind", KINDS)
def test_the_formula(kind, rng):
    layer = make(kind)
    queries, keys = batch(kind, rng)
    for lengths in (None, LENGTHS):
        expected = in_words(layer, queries, keys, [6] * 4 if lengths is None else lengths)
        for got, wanted in zip(layer(queries, keys, lengths), expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("form", ["whole", "lengths", "list"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_finite_differences(kind, form, rng):
    layer = make(kind)
    queries, keys = batch(kind, rng)
    lengths = LENGTHS if form == "lengths" else None
    pieces = {"keys": keys}
    if form == "list":
        keys = [k[:n].copy() for k, n in zip(keys, LENGTHS, strict=True)]
        pieces = {f"keys{i}": k for i, k in enumerate(keys)}
    context, _, backward = layer.forward(queries, keys, lengths)
    dcontext = rng.standard_normal(context.shape)
    start = {name: rng.standard_normal(g.shape) for name, g in layer.grads.items()}
    for name, grad in layer.grads.items():
        grad[...] = start[name]
    dqueries, dkeys = backward(dcontext)

    def loss():
        return float((layer(queries, keys, lengths)[0] * dcontext).sum())

    arrays = {**dict(layer.params), "queries": queries, **pieces}
    grads = {name: grad - start[name] for name, grad in layer.grads.items()}
    grads["queries"] = dqueries
    grads.update(zip(pieces, dkeys if form == "list" else [dkeys], strict=True))
    assert_gradients(loss, arrays, grads)


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_in_padding_is_not_looked_at(kind, rng):
    layer = make(kind)
    queries, keys = batch(kind, rng)
    real = np.arange(6) < np.array(LENGTHS)[:, None]
    clean, spoiled = np.where(real[..., None], keys, 0), np.where(real[..., None], keys, np.nan)
    results = []
    for these in (clean, spoiled, [k[:n] for k, n in zip(keys, LENGTHS, strict=True)]):
        layer.zero_grad()
        lengths = None if isinstance(these, list) else LENGTHS
        context, weights, backward = layer.forward(queries, these, lengths)
        dqueries, dkeys = backward(np.ones_like(context))
        if isinstance(dkeys, list):
            dkeys = np.stack([np.pad(d, ((0, 6 - len(d)), (0, 0))) for d in dkeys])
        grads = [grad.copy() for grad in layer.grads.values()]
        results.append([context, weights, dqueries, dkeys, *grads])
    assert not results[0][1][~np.broadcast_to(real[:, None], (4, 3, 6))].any()
    assert not results[0][3][~real].any()
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_sources_without_steps_give_nothing(kind, rng):
    layer = make(kind)
    for n, Tq, Ts in ((2, 3, 0), (0, 3, 4), (2, 0, 4), (0, 0, 0)):
        queries, keys = batch(kind, rng, n, Tq, Ts)
        context, weights, backward = layer.forward(queries, keys)
        assert context.shape == (n, Tq, 5)
        assert weights.shape == (n, Tq, Ts)
        assert not context.any()
        dqueries, dkeys = backward(np.ones_like(context))
        assert dqueries.shape == queries.shape
        assert dkeys.shape == keys.shape
        assert not dqueries.any()
    queries, keys = batch(kind, rng)
    context, weights, backward = layer.forward(queries, keys, LENGTHS)
    assert not context[1].any()
    assert not weights[1].any()
    np.testing.assert_array_equal(weights[2, :, 0], 1.0)
    dqueries, _ = backward(np.ones_like(context))
    assert np.isfinite(dqueries).all()
    assert not dqueries[1].any()
    assert layer.read([]).forward(queries[:0])[0].shape == (0, 3, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_memory_gives_step_by_step_what_one_call_gives(kind, rng):
    layer = make(kind)
    queries, keys = batch(kind, rng)
    context, weights, backward = layer.forward(queries, keys, LENGTHS)
    dcontext = rng.standard_normal(context.shape)
    expected = backward(dcontext)
    grads = {name: grad.copy() for name, grad in layer.grads.items()}
    layer.zero_grad()
    memory = layer.read(keys, LENGTHS)
    steps = [memory.forward(queries[:, t : t + 1]) for t in range(3)]
    memory.forward(queries)  # whose backward nobody calls
    for t, step in enumerate(steps):
        alone = memory(queries[:, t : t + 1])
        for got, again, whole in zip(step[:2], alone, (context, weights), strict=True):
            np.testing.assert_allclose(got, whole[:, t : t + 1], rtol=1e-12)
            np.testing.assert_array_equal(again, got)
    dqueries = [steps[t][2](dcontext[:, t : t + 1]) for t in reversed(range(3))]
    dkeys = memory.backward()
    np.testing.assert_allclose(np.concatenate(dqueries[::-1], 1), expected[0], rtol=1e-12)
    np.testing.assert_allclose(dkeys, expected[1], rtol=1e-12, atol=1e-14)
    for name, grad in layer.grads.items():
        np.testing.assert_allclose(grad, grads[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_torch_gives_the_same(kind, rng, torch):
    layer = make(kind)
    queries, keys = batch(kind, rng)
    lengths = np.array([6, 2, 1, 4])
    context, weights, backward = layer.forward(queries, keys, lengths)
    dcontext = rng.standard_normal(context.shape)
    dqueries, dkeys = backward(dcontext)
    q, k = (torch.tensor(array, requires_grad=True) for array in (queries, keys))
    p = {name: torch.tensor(param, requires_grad=True) for name, param in layer.params.items()}
    seen = k @ p["weight_key"].T if "weight_key" in p else k
    if layer.kind == "dot":
        scores = q @ seen.transpose(1, 2)
    else:
        seen = seen + p["bias"] if "bias" in p else seen
        sums = (q @ p["weight_query"].T)[:, :, None] + seen[:, None]
        scores = torch.tanh(sums) @ p["weight_score"]
    real = torch.arange(6) < torch.tensor(lengths)[:, None]
    expected = torch.softmax(scores.masked_fill(~real[:, None], -np.inf), dim=2)
    np.testing.assert_allclose(weights, expected.detach().numpy(), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(context, (expected @ k).detach().numpy(), rtol=1e-10, atol=1e-13)
    (expected @ k).backward(torch.tensor(dcontext))
    found = {"queries": dqueries, "keys": dkeys, **dict(layer.grads)}
    for name, tensor in {"queries": q, "keys": k, **p}.items():
        np.testing.assert_allclose(
            found[name], tensor.grad.numpy(), rtol=1e-10, atol=1e-12, err_msg=name
        )


def test_the_same_bits_for_any_threads_and_batch(rng):
    fastrnn.set_gemm("packed")
    layer = Attention(70, 66, attention_size=75, random_state=1)
    queries = rng.standard_normal((5, 20, 70)).astype(np.float32)
    keys = rng.standard_normal((5, 30, 66)).astype(np.float32)
    lengths = np.array([30, 7, 0, 1, 22])
    results = []
    for threads in (1, 2, 4):
        layer.zero_grad()
        with fastrnn.threads(threads):
            context, weights, backward = layer.forward(queries, keys, lengths)
            dqueries, dkeys = backward(context)
        grads = [grad.copy() for grad in layer.grads.values()]
        results.append([context, weights, dqueries, dkeys, *grads])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
    for n, length in enumerate(lengths):
        context, weights = layer(queries[n : n + 1, 3:4], keys[n : n + 1, :length])
        np.testing.assert_array_equal(context[0, 0], results[0][0][n, 3])
        np.testing.assert_array_equal(weights[0, 0], results[0][1][n, 3, :length])
    fastrnn.set_gemm(None)


def test_backward_runs_once(rng):
    layer = make("additive")
    queries, keys = batch("additive", rng)
    context, _, backward = layer.forward(queries, keys)
    with raises(ValueError, "dcontext: expected shape (4, 3, 5), got (4, 2, 5)"):
        backward(context[:, :2])
    assert not any(grad.any() for grad in layer.grads.values())
    backward(context)
    with raises(RuntimeError, "backward: expected one call for each forward, got a second"):
        backward(context)
    memory = layer.read(keys)
    _, _, back = memory.forward(queries)
    _, _, late = memory.forward(queries)
    back(context)
    with raises(RuntimeError, "backward: expected one call for each forward, got a second"):
        back(context)
    memory.backward()
    with raises(RuntimeError, "backward: expected one call for each memory, got a second"):
        memory.backward()
    with raises(RuntimeError, "back: expected a call before the memory's backward, got one after"):
        late(context)
    assert not layer.read(keys).backward().any()  # nobody has asked it


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_of_array_give_their_own_kind_back(kind, rng):
    xp = array_api_strict
    numpy_layer, layer = make(kind), make(kind)
    queries, keys = batch(kind, rng)
    context, weights, backward = numpy_layer.forward(queries, keys, LENGTHS)
    expected = (context, weights, *backward(np.ones_like(context)))
    context, weights, backward = layer.forward(xp.asarray(queries), xp.asarray(keys), LENGTHS)
    got = (context, weights, *backward(xp.ones_like(context)))
    for array, wanted in zip(got, expected, strict=True):
        assert array.__array_namespace__() is xp
        np.testing.assert_allclose(np.asarray(array), wanted, rtol=1e-12, atol=1e-12)
    for name, grad in layer.grads.items():
        assert isinstance(grad, np.ndarray)
        np.testing.assert_allclose(grad, numpy_layer.grads[name], rtol=1e-12, atol=1e-12)
    with raises(
        TypeError, "keys: expected an array of numpy, as the other arguments are, got one of"
    ):
        layer(queries, xp.asarray(keys))


def test_bad_input_is_named(rng):
    layer = make("additive")
    queries, keys = batch("additive", rng)
    with raises(ValueError, "queries: expected shape (4, any, 3), got (3, 3, 3)"):
        layer(queries[:3], keys)
    with raises(ValueError, "keys: expected shape (any, any, 5), got (4, 6, 4)"):
        layer(queries, keys[..., :4])
    with raises(ValueError, "keys[0]: expected shape (T, 5), got (6, 4)"):
        layer(queries, list(keys[..., :4]))
    with raises(ValueError, "queries: expected 3 dimensions, got 2 with shape (3, 3)"):
        layer(queries[0], keys)
    with raises(TypeError, "queries: expected real numbers, got dtype complex128"):
        layer(queries * 1j, keys)
    with raises(ValueError, "lengths: expected shape (4,), one for each sequence, got (3,)"):
        layer(queries, keys, [1, 2, 3])
    with raises(ValueError, "lengths: expected values in [0, 6] (T), got 7"):
        layer(queries, keys, [1, 2, 3, 7])
    with raises(TypeError, "lengths: expected integers, got dtype float64"):
        layer(queries, keys, [1.0, 2, 3, 4])
    with raises(ValueError, "lengths: expected None where keys are a list"):
        layer(queries, list(keys), LENGTHS)
    with raises(ValueError, "kind: expected one of 'additive', 'dot', got 'general'"):
        Attention(3, 4, "general")
    with raises(ValueError, "attention_size: expected None for kind='dot'"):
        Attention(3, 4, "dot", 5)
    with raises(ValueError, "attention_size: expected an integer of at least 1, got 0"):
        Attention(3, 4, attention_size=0)
    with raises(TypeError, "bias: expected True or False, got 1"):
        Attention(3, 4, bias=1)


@pytest.mark.parametrize("kind", KINDS)
def test_files_and_pickles_keep_it(kind, rng, tmp_path):
    layer = make(kind, "float32")
    layer.save(tmp_path / "attention")
    queries, keys = batch(kind, rng)
    for again in (load(tmp_path / "attention"), pickle.loads(pickle.dumps(layer))):
        assert again.config() == layer.config()
        for a, b in zip(layer(queries, keys), again(queries, keys), strict=True):
            assert a.dtype == np.float32
            np.testing.assert_array_equal(a, b)
    shapes = {name: param.shape for name, param in layer.params.items()}
    assert layer.num_parameters == sum(int(np.prod(shape)) for shape in shapes.values())
    assert shapes == {
        "additive": {
            "weight_query": (7, 3), "weight_key": (7, 5), "bias": (7,), "weight_score": (7,),
        },
        "additive without bias": {
            "weight_query": (3, 3), "weight_key": (3, 5), "weight_score": (3,),
        },
        "dot": {},
        "dot of two sizes": {"weight_key": (3, 5)},
    }[kind]  # fmt: skip
