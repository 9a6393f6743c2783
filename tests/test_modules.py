"""Embedding, Linear, Dropout, LayerNorm: formulas, exact gradients, every form of x, bad input."""

import copy
import gc
import pickle
import re
import threading
import weakref

import array_api_strict
import numpy as np
import pytest
from finite_differences import assert_gradients

from fastrnn.engine import masks
from fastrnn.engine.containers import join
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.modules import Dropout, LayerNorm, Linear


def raises(kind, message):
    return pytest.raises(kind, match=re.escape(message))


def make(kind, dtype="float64"):
    """A layer of each kind that works on (..., 4), with parameters that are not special."""
    layer = {
        "linear": lambda: Linear(4, 3, dtype=dtype, random_state=1),
        "linear without bias": lambda: Linear(4, 3, False, dtype=dtype, random_state=1),
        "layer norm": lambda: LayerNorm(4, dtype=dtype),
        "dropout": lambda: Dropout(0.4, dtype=dtype, random_state=5),
    }[kind]()
    rng = np.random.default_rng(2)
    for param in layer.params.values():
        param[...] = rng.standard_normal(param.shape)
    return layer


KINDS = ["linear", "linear without bias", "layer norm", "dropout"]


def inputs(form, rng, width=4):
    """The forms of x and the pieces of it as a list of arrays."""
    if form == "list":
        x = [rng.standard_normal((n, width)) for n in (3, 0, 1, 2)]
        return x, x
    shape = {"vector": (width,), "rows": (5, width), "steps": (2, 3, width), "none": (0, width)}
    x = rng.standard_normal(shape[form])
    return x, [x]


FORMS = ["vector", "rows", "steps", "none", "list"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_finite_differences(kind, form, rng):
    layer = make(kind)
    x, pieces = inputs(form, rng)
    y, backward = layer.forward(x)
    ys = y if form == "list" else [y]
    dys = [rng.standard_normal(part.shape) for part in ys]
    start = {name: rng.standard_normal(g.shape) for name, g in layer.grads.items()}
    for name, grad in layer.grads.items():
        grad[...] = start[name]
    dx = backward(dys if form == "list" else dys[0])
    dxs = dx if form == "list" else [dx]

    def loss():
        if kind == "dropout":
            layer.call_count = 0
        again, _ = layer.forward(x)
        pairs = zip(again if form == "list" else [again], dys, strict=True)
        return float(sum((a * b).sum() for a, b in pairs))

    arrays = {**dict(layer.params), **{f"x{i}": piece for i, piece in enumerate(pieces)}}
    grads = {name: grad - start[name] for name, grad in layer.grads.items()}
    grads.update({f"x{i}": piece for i, piece in enumerate(dxs)})
    assert_gradients(loss, arrays, grads)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_results_keep_the_form_and_the_dtype(kind, form, rng):
    layer = make(kind, "float32")
    x, _ = inputs(form, rng)
    for y in (layer(x), layer.forward(x)[0]):
        assert type(y) is type(x)
        for a, b in zip(y if form == "list" else [y], x if form == "list" else [x], strict=True):
            assert a.shape == (*b.shape[:-1], 3 if "linear" in kind else 4)
            assert a.dtype == np.float32
    if kind != "dropout":  # the list and the array: the same numbers
        whole = layer(np.concatenate(x) if form == "list" else x)
        joined = np.concatenate(layer(x)) if form == "list" else layer(x)
        np.testing.assert_array_equal(joined, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_of_array_give_their_own_kind_back(kind, rng):
    xp = array_api_strict
    numpy_layer, layer = make(kind), make(kind)
    x, dy = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 3 if "lin" in kind else 4))
    expected, expected_backward = numpy_layer.forward(x)
    y, backward = layer.forward(xp.asarray(x))
    dx = backward(xp.asarray(dy))
    for got, wanted in ((y, expected), (dx, expected_backward(dy))):
        assert got.__array_namespace__() is xp
        np.testing.assert_allclose(np.asarray(got), wanted, rtol=1e-12, atol=1e-12)
    for name, grad in layer.grads.items():
        assert isinstance(grad, np.ndarray)
        np.testing.assert_allclose(grad, numpy_layer.grads[name], rtol=1e-12, atol=1e-12)
    one, two = layer([xp.asarray(x[0]), xp.asarray(x[1])])
    assert one.__array_namespace__() is two.__array_namespace__() is xp


@pytest.mark.parametrize("kind", KINDS)
def test_backward_runs_once_but_a_refused_gradient_does_not_count(kind, rng):
    layer = make(kind)
    x = rng.standard_normal((2, 3, 4))
    y, backward = layer.forward(x)
    with raises(ValueError, f"dy: expected shape {y.shape}, got (2, 2, {y.shape[2]})"):
        backward(y[:, :2])
    with raises(ValueError, f"dy: expected shape {y.shape}, got a list of 2 arrays of lengths"):
        backward(list(y))
    with raises(TypeError, "dy: expected real numbers, got dtype complex128"):
        backward(y * 1j)
    for grad in layer.grads.values():
        assert not grad.any()
    backward(y)
    with raises(RuntimeError, "backward: expected one call for each forward, got a second"):
        backward(y)


def test_backward_lets_go_of_what_it_kept():
    layer = Linear(4, 3)
    x = np.zeros((2, 4), np.float32)
    watch = weakref.ref(x)
    y, backward = layer.forward(x)
    del x
    assert watch() is not None
    backward(y)
    gc.collect()
    assert watch() is None


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_named(kind):
    layer = make(kind)
    if kind != "dropout":
        with raises(ValueError, "x: expected shape (..., 4), got (4, 3)"):
            layer(np.zeros((4, 3)))
        with raises(ValueError, "x: expected shape (..., 4), got ()"):
            layer(1.0)
    with raises(ValueError, "x[1]: expected 2 dimensions (T, D), got 1 with shape (4,)"):
        layer.forward([np.zeros((3, 4)), np.zeros(4)])
    with raises(ValueError, "x[1]: expected shape (T, 4), got (3, 5)"):
        layer.forward([np.zeros((3, 4)), np.zeros((3, 5))])
    with raises(TypeError, "x: expected real numbers, got dtype"):
        layer.forward(np.zeros((3, 4), complex))
    assert layer.forward([])[0] == []


def test_linear_formula_and_start():
    layer = Linear(16, 50, random_state=3)
    weight, bias = layer.params["weight"], layer.params["bias"]
    assert weight.shape == (50, 16)
    assert layer.num_parameters == 50 * 16 + 50
    assert 0.24 < np.abs(weight).max() <= 0.25
    assert 0 < np.abs(bias).max() <= 0.25
    x = np.ones((2, 16), np.float32)
    np.testing.assert_allclose(layer(x), np.stack([weight.sum(1) + bias] * 2), rtol=1e-5)
    same = Linear(16, 50, random_state=3)
    np.testing.assert_array_equal(same.params["weight"], weight)
    assert Linear(**layer.config()).config() == layer.config()
    assert "bias" not in Linear(2, 3, False).params


def test_params_are_fixed_arrays_in_read_only_mappings():
    layer = Linear(2, 3)
    with pytest.raises(TypeError):
        layer.params["weight"] = np.zeros((3, 2))
    with pytest.raises(TypeError):
        layer.grads["weight"] = np.zeros((3, 2))
    for name in ("params", "grads"):
        with pytest.raises(AttributeError):
            setattr(layer, name, {})
    layer.params["weight"][...] = 1
    layer.params["bias"][...] = 0
    assert layer(np.ones(2, np.float32)).tolist() == [2.0, 2.0, 2.0]
    layer.params["weight"][...] = 2  # the next call sees it
    assert layer(np.ones(2, np.float32)).tolist() == [4.0, 4.0, 4.0]
    layer.grads["weight"][...] = 1
    layer.zero_grad()
    assert not layer.grads["weight"].any()


def test_layer_norm_formula():
    layer = LayerNorm(6, dtype="float64", epsilon=1e-3)
    x = np.random.default_rng(0).standard_normal((5, 6)) * 3 + 7
    y = layer(x)
    np.testing.assert_allclose(y.mean(1), 0, atol=1e-14)
    np.testing.assert_allclose((y**2).mean(1), x.var(1) / (x.var(1) + 1e-3), rtol=1e-12)
    constant = layer(np.full((1, 6), 3.0))
    assert not constant.any()
    with raises(ValueError, "epsilon:"):
        LayerNorm(6, epsilon=-1.0)


def test_layer_norm_equals_torch(torch, rng):
    x, dy = rng.standard_normal((3, 4, 8)), rng.standard_normal((3, 4, 8))
    layer, twin = LayerNorm(8, dtype="float64"), torch.nn.LayerNorm(8, dtype=torch.float64)
    with torch.no_grad():
        for name, param in twin.named_parameters():
            layer.params[name][...] = rng.standard_normal(8)
            param.copy_(torch.from_numpy(layer.params[name]))
    y, backward = layer.forward(x)
    tx = torch.from_numpy(x).requires_grad_()
    ty = twin(tx)
    ty.backward(torch.from_numpy(dy))
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(backward(dy), tx.grad.numpy(), rtol=0, atol=1e-12)
    for name, param in twin.named_parameters():
        np.testing.assert_allclose(layer.grads[name], param.grad.numpy(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_copies_are_equal_and_apart(copy_of, kind, rng):
    layer = make(kind)
    x = rng.standard_normal((3, 4))
    y, backward = layer.forward(x)
    backward(y)
    other = copy_of(layer)
    assert repr(other) == repr(layer)
    for which in ("params", "grads"):
        for name, array in getattr(other, which).items():
            np.testing.assert_array_equal(array, getattr(layer, which)[name])
            assert not np.shares_memory(array, getattr(layer, which)[name])
    np.testing.assert_array_equal(other.forward(x)[0], layer.forward(x)[0])
    with pytest.raises(TypeError):
        other.params["weight"] = x


@pytest.mark.parametrize("make_one", [lambda: Linear(30, 20), lambda: LayerNorm(30)])
def test_backward_passes_of_several_threads_all_count(make_one):
    layer = make_one()
    x = np.ones((200, 30), np.float32)

    def work():
        for _ in range(30):
            y, backward = layer.forward(x)
            backward(np.ones_like(y))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (layer.grads["bias"] == 4 * 30 * 200).all()


# Embedding


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_embedding_equals_the_product_with_one_hot_rows(dtype, rng):
    layer = Embedding(7, 3, dtype=dtype, random_state=0)
    table = layer.params["weight"]
    for x in (4, [1, 2, 1], rng.integers(0, 7, (2, 5)), np.zeros((0, 2), np.uint8)):
        one_hot = np.eye(7, dtype=dtype)[np.asarray(x)]
        y, backward = layer.forward(x)
        np.testing.assert_array_equal(y, one_hot @ table)
        np.testing.assert_array_equal(layer(x), y)
        dy = rng.integers(-4, 5, y.shape).astype(dtype)  # whole numbers: sums are exact
        layer.zero_grad()
        assert backward(dy) is None
        expected = one_hot.reshape(-1, 7).T @ dy.reshape(-1, 3)
        np.testing.assert_array_equal(layer.grads["weight"], expected)


def test_embedding_takes_lists_of_sequences(rng):
    layer = Embedding(9, 2, dtype="float64")
    x = [np.array([1, 8, 1]), np.array([], int), [3]]
    y, backward = layer.forward(x)
    assert [part.shape for part in y] == [(3, 2), (0, 2), (1, 2)]
    np.testing.assert_array_equal(np.concatenate(y), layer(np.array([1, 8, 1, 3])))
    assert join(y).base is y[0].base  # one buffer: the next layer copies nothing
    backward([np.ones((3, 2)), np.ones((0, 2)), np.ones((1, 2))])
    counts = np.bincount([1, 8, 1, 3], minlength=9)
    np.testing.assert_array_equal(layer.grads["weight"], np.stack([counts, counts], 1))
    assert layer([]) == []
    assert [part.shape for part in layer([[], []])] == [(0, 2), (0, 2)]


def test_embedding_gradient_touches_only_the_rows_used():
    layer = Embedding(1000, 4)
    layer.grads["weight"][...] = np.nan
    layer.grads["weight"][[3, 998]] = 0
    _, backward = layer.forward([3, 998, 3])
    backward(np.ones((3, 4)))
    assert layer.grads["weight"][3].tolist() == [2.0] * 4
    assert layer.grads["weight"][998].tolist() == [1.0] * 4
    assert np.isnan(np.delete(layer.grads["weight"], [3, 998], axis=0)).all()
    layer.zero_grad()
    assert not layer.grads["weight"].any()


def test_embedding_gradient_adds_repeated_rows_in_their_order():
    # 1 + 2^-24 is 1 in float32: only the order given makes the sum what it is here
    layer = Embedding(2, 1)
    small = np.float32(2**-24)
    for order, total in (([1, small, small], 1.0), ([small, small, 1], 1 + 2**-23)):
        layer.zero_grad()
        _, backward = layer.forward([1, 1, 1])
        backward(np.array(order, np.float32)[:, None])
        assert layer.grads["weight"][1, 0] == np.float32(total)


def test_embedding_refuses_bad_indices():
    layer = Embedding(5, 2)
    with raises(ValueError, "x: expected indices in [0, 5), got -1"):
        layer([0, -1])
    with raises(ValueError, "x: expected indices in [0, 5), got 5"):
        layer.forward(np.array([[5]]))
    with raises(TypeError, "x: expected integers, got dtype float64"):
        layer([0.5])
    with raises(ValueError, "x[1]: expected 1 dimension (T,), got 2"):
        layer([[0], [[1]]])
    with raises(ValueError, "embedding_dim: expected an integer of at least 1, got 0"):
        Embedding(3, 0)
    _, backward = layer.forward([1, 2])
    with raises(ValueError, "dy: expected shape (2, 2), got (3, 2)"):
        backward(np.zeros((3, 2)))


def test_embedding_in_another_namespace():
    xp = array_api_strict
    layer = Embedding(5, 2, dtype="float64", random_state=1)
    x = np.array([[1, 4], [1, 1]])
    y, backward = layer.forward(xp.asarray(x))
    assert y.__array_namespace__() is xp
    np.testing.assert_array_equal(np.asarray(y), layer.params["weight"][x])
    backward(xp.ones((2, 2, 2), dtype=xp.float64))
    assert layer.grads["weight"][:, 0].tolist() == [0.0, 3.0, 0.0, 0.0, 1.0]


# Dropout


def test_dropout_is_the_mask_of_its_place(rng):
    layer = Dropout(0.3, dtype="float64", random_state=77)
    assert layer.random_state == 77
    x = rng.standard_normal((3, 5, 8))
    for call in range(2):
        y, backward = layer.forward(x)
        mask = masks.keep_mask(77, call, 0, 0, range(3), range(5), 8, 0.3, np.float64)
        np.testing.assert_array_equal(y, x * mask)
        np.testing.assert_array_equal(backward(np.ones_like(x)), mask)
    layer.call_count = 0
    ragged, backward = layer.forward([x[0, :2], x[1], x[2, :0]])
    mask = masks.keep_mask(77, 0, 0, 0, range(3), range(5), 8, 0.3, np.float64)
    np.testing.assert_array_equal(ragged[0], (x * mask)[0, :2])
    np.testing.assert_array_equal(ragged[1], (x * mask)[1])
    np.testing.assert_array_equal(backward([np.ones_like(p) for p in ragged])[1], mask[1])
    layer.call_count = 0
    rows, _ = layer.forward(x[:, 0])
    mask = masks.keep_mask(77, 0, 0, 0, range(3), None, 8, 0.3, np.float64)
    np.testing.assert_array_equal(rows, x[:, 0] * mask)


def test_dropout_is_off_outside_training_and_keeps_the_dtype():
    layer = Dropout(0.9)
    for dtype in ("float32", "float64"):
        x = np.ones((2, 3, 4), dtype)
        assert layer(x) is x
        assert layer.forward(x)[0].dtype == dtype
    assert layer.forward([])[0] == []
    y, backward = Dropout(0.0).forward(np.ones((2, 3)))
    assert (y == 1).all()
    assert (backward(np.ones((2, 3))) == 1).all()
    with raises(ValueError, "p: expected a number at least 0 and below 1, got 1.0"):
        Dropout(1)


def test_dropout_takes_the_same_lists_in_training_and_outside():
    layer = Dropout(0.5, random_state=1)
    steps = np.ones((3, 2), np.float32)
    for call in (layer, lambda x: layer.forward(x)[0]):
        for bad, message in (
            ([np.ones(3), np.ones(3)], "x[0]: expected 2 dimensions (T, D), got 1 with shape (3,)"),
            ([1.0, 2.0], "x[0]: expected 2 dimensions (T, D), got 0"),
            ([steps, np.ones(2)], "x[1]: expected 2 dimensions (T, D), got 1 with shape (2,)"),
            ([steps, np.ones((1, 3))], "x[1]: expected shape (T, 2), got (1, 3)"),
        ):
            with raises(ValueError, message):
                call(bad)
        assert call([]) == []
        y = call([steps, np.ones((1, 2))])
        assert [(part.shape, part.dtype) for part in y] == [
            ((3, 2), "float32"),
            ((1, 2), "float32"),
        ]
    assert layer([steps])[0] is steps
    assert layer.call_count == 2


def test_dropout_seeds_and_configuration():
    generator = np.random.default_rng(4)
    assert (
        Dropout(0.1, random_state=generator).random_state
        != Dropout(0.1, random_state=generator).random_state
    )
    layer = Dropout(0.1, dtype="float32")
    assert Dropout(**layer.config()).random_state == layer.random_state


def test_dropout_counts_calls_of_several_threads():
    layer = Dropout(0.5)
    threads = [
        threading.Thread(target=lambda: [layer.forward(np.ones(3)) for _ in range(200)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert layer.call_count == 800


# Joining


def test_join_views_adjacent_slices_and_copies_others():
    buffer = np.arange(24.0).reshape(8, 3)
    adjacent = [buffer[0:2], buffer[2:2], buffer[2:7]]
    whole = join(adjacent)
    assert np.shares_memory(whole, buffer)
    np.testing.assert_array_equal(whole, buffer[:7])
    for parts in (
        [buffer[2:4], buffer[0:2]],
        [buffer[0:2], buffer[3:5]],
        [buffer[0:2], buffer[0:2]],
        [buffer[0:4:2], buffer[4:6]],
        [buffer[0:2, :2], buffer[2:4, :2]],
        [buffer.T[0:1].T[:4], buffer.T[1:2].T[:4]],
        [np.ones((2, 3)), np.ones((1, 3))],
    ):
        whole = join(parts)
        assert not np.shares_memory(whole, buffer)
        np.testing.assert_array_equal(whole, np.concatenate(parts))
    with raises(TypeError, "x: expected arrays of one kind"):
        join([np.ones((1, 2)), array_api_strict.ones((1, 2))])
