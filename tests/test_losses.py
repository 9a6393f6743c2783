"""Losses: formulas, exact gradients, weights and reductions, extreme values, every form."""

import re
import tracemalloc

import array_api_strict
import numpy as np
import pytest
from finite_differences import assert_gradients, gradient, relative_error

from fastrnn import losses
from fastrnn.layers.modules import LayerNorm, Linear

POINTWISE = ["squared_error", "absolute_error", "huber", "binary_cross_entropy"]


def raises(kind, message):
    return pytest.raises(kind, match=re.escape(message))


def cross_entropy(logits, targets):
    """Each row's loss, written out."""
    shifted = logits - logits.max(-1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)
    return -np.log(np.take_along_axis(p, targets[..., None], -1)[..., 0])


# Softmax cross entropy


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(4,), (2, 3), (), (2, 1, 2)])
def test_cross_entropy_formula_reductions_and_gradient(shape, weighted, rng):
    logits = rng.standard_normal((*shape, 5)) * 3
    targets = rng.integers(0, 5, shape)
    weight = rng.integers(0, 3, shape) * 0.5 if weighted else None
    w = np.ones(shape) if weight is None else weight
    each = cross_entropy(logits, targets) * w
    expected = {"mean": each.sum() / max(w.sum(), 1e-300), "sum": each.sum(), "none": each}
    for reduction, value in expected.items():
        loss, grad = losses.softmax_cross_entropy(logits, targets, weight, reduction=reduction)
        np.testing.assert_allclose(loss, value, rtol=1e-12)
        assert type(loss) is float or reduction == "none"
        assert (grad.shape, grad.dtype) == (logits.shape, logits.dtype)

        def total(reduction=reduction):
            loss, _ = losses.softmax_cross_entropy(logits, targets, weight, reduction=reduction)
            return float(np.sum(loss))

        assert relative_error(grad, gradient(total, logits)) < 1e-6


def test_cross_entropy_in_float32_is_as_close_as_float32_can_be(rng):
    logits = (rng.standard_normal((50, 40)) * 5).astype(np.float32)
    targets = rng.integers(0, 40, 50)
    exact = cross_entropy(logits.astype(np.float64), targets)
    loss, grad = losses.softmax_cross_entropy(logits, targets, reduction="none")
    # differences of logits up to 40 carry half an ulp of 40, 2^-20, and the sum and log some more
    np.testing.assert_allclose(loss, exact, rtol=4e-7, atol=4 * 2.0**-20)
    assert grad.dtype == np.float32
    np.testing.assert_allclose(grad.sum(1), 0, atol=1e-6)


def test_cross_entropy_equals_torch(torch, rng):
    logits, targets = rng.standard_normal((3, 4, 6)) * 4, rng.integers(0, 6, (3, 4))
    targets[1, 2] = -100  # torch leaves this out; here its weight does
    loss, grad = losses.softmax_cross_entropy(logits, targets, targets >= 0)
    t = torch.from_numpy(logits).requires_grad_()
    expected = torch.nn.functional.cross_entropy(
        t.reshape(-1, 6), torch.from_numpy(targets).reshape(-1)
    )
    expected.backward()
    assert abs(loss - expected.item()) < 1e-12
    np.testing.assert_allclose(grad, t.grad.numpy(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("classes", [3, 21, 1500])
def test_smoothed_labels_formula_and_gradient(classes, rng):
    logits, targets = rng.standard_normal((3, classes)) * 3, rng.integers(0, classes, 3)
    weight = np.array([1.0, 0.0, 2.5])
    every = -np.log(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
    each = 0.7 * every[range(3), targets] + 0.3 * every.mean(1)
    for xp in (np, array_api_strict):  # the kernel, and the formula in array operations
        z, t = xp.asarray(logits), xp.asarray(targets)
        loss, grad = losses.softmax_cross_entropy(z, t, weight, label_smoothing=0.3)
        assert loss == pytest.approx((each * weight).sum() / 3.5, rel=1e-12)
        grad = np.asarray(grad)
        p = np.exp(-every)
        p[range(3), targets] -= 0.7
        np.testing.assert_allclose(grad, (p - 0.3 / classes) * weight[:, None] / 3.5, atol=1e-15)
    single, g = losses.softmax_cross_entropy(
        logits.astype(np.float32), targets, label_smoothing=0.3, reduction="none"
    )
    np.testing.assert_allclose(single, each, rtol=1e-5)
    np.testing.assert_allclose(g, p - 0.3 / classes, atol=1e-6)
    with raises(ValueError, "label_smoothing: expected a number at least 0 and below 1, got 1"):
        losses.softmax_cross_entropy(logits, targets, label_smoothing=1)


def test_smoothed_labels_equal_torch(torch, rng):
    logits, targets = rng.standard_normal((9, 30)) * 4, rng.integers(0, 30, 9)
    loss, grad = losses.softmax_cross_entropy(logits, targets, label_smoothing=0.1)
    t = torch.from_numpy(logits).requires_grad_()
    expected = torch.nn.functional.cross_entropy(t, torch.from_numpy(targets), label_smoothing=0.1)
    expected.backward()
    assert abs(loss - expected.item()) < 1e-12
    np.testing.assert_allclose(grad, t.grad.numpy(), rtol=0, atol=1e-14)


def test_cross_entropy_of_extreme_logits():
    big = np.finfo(np.float32).max
    logits = np.array(
        [[big, 0, -big], [-big, -big, -big], [1e4, 1e4, 0], [0, -np.inf, 0]], np.float32
    )
    with np.errstate(all="raise"):
        loss, grad = losses.softmax_cross_entropy(logits, [0, 1, 0, 2], reduction="none")
    np.testing.assert_allclose(loss, [0, np.log(3), np.log(2), np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(
        grad,
        [[0, 0, 0], [1 / 3, -2 / 3, 1 / 3], [-0.5, 0.5, 0], [0.5, 0, -0.5]],
        atol=1e-7,
    )
    loss, _ = losses.softmax_cross_entropy(logits, [2, 1, 2, 1], reduction="none")
    assert loss[0] >= big
    assert loss[2] == pytest.approx(1e4 + np.log(2))
    assert loss[3] == np.inf


def test_cross_entropy_keeps_nan_in_its_own_row():
    logits = np.zeros((4, 3))
    logits[0, 1] = np.nan
    logits[1, 2] = np.inf
    logits[2] = -np.inf
    loss, grad = losses.softmax_cross_entropy(logits, [0, 0, 0, 0], reduction="none")
    assert np.isnan(loss[:3]).all()
    assert np.isnan(grad[:3]).any(1).all()
    assert loss[3] == pytest.approx(np.log(3))
    assert np.isfinite(grad[3]).all()
    # and weight 0 excludes such rows altogether
    loss, grad = losses.softmax_cross_entropy(logits, [9, -1, 0, 0], [0, 0, 0, 2])
    assert loss == pytest.approx(np.log(3))
    assert not grad[:3].any()


def test_cross_entropy_of_nothing_is_zero():
    for shape in ((0, 3), (2, 0, 3)):
        loss, grad = losses.softmax_cross_entropy(np.zeros(shape), np.zeros(shape[:-1], int))
        assert (loss, grad.shape) == (0.0, shape)
    loss, grad = losses.softmax_cross_entropy(np.ones((2, 3)), [7, 7], [0, 0])
    assert loss == 0.0
    assert not grad.any()
    assert losses.softmax_cross_entropy([], []) == (0.0, [])


def test_cross_entropy_of_lists(rng):
    logits, targets = rng.standard_normal((5, 4)), np.array([0, 3, 1, 2, 2])
    weight = np.array([1, 2, 0, 1, 1.0])
    expected, dexpected = losses.softmax_cross_entropy(logits, targets, weight)
    parts = [slice(0, 2), slice(2, 2), slice(2, 5)]
    for take in (lambda a: [a[p] for p in parts], lambda a: [a[p].copy() for p in parts]):
        loss, grad = losses.softmax_cross_entropy(take(logits), take(targets), take(weight))
        assert loss == expected
        assert isinstance(grad, list)
        for part, p in zip(grad, parts, strict=True):
            np.testing.assert_array_equal(part, dexpected[p])


def test_cross_entropy_writes_where_it_is_told(rng):
    logits = rng.standard_normal((3, 4))
    expected, dexpected = losses.softmax_cross_entropy(logits, [0, 1, 2])
    out = np.full_like(logits, np.nan)
    loss, grad = losses.softmax_cross_entropy(logits, [0, 1, 2], out=out)
    assert loss == expected
    assert np.shares_memory(grad, out)
    np.testing.assert_array_equal(out, dexpected)
    loss, grad = losses.softmax_cross_entropy(logits, [0, 1, 2], out=logits)
    assert loss == expected
    np.testing.assert_array_equal(logits, dexpected)
    before = out.copy()
    losses.softmax_cross_entropy(out, [0, 1, 2])
    np.testing.assert_array_equal(out, before)  # untouched unless told


def test_cross_entropy_in_another_namespace(rng):
    xp = array_api_strict
    logits, targets = rng.standard_normal((2, 3, 5)), rng.integers(0, 5, (2, 3))
    for weight in (None, np.array([[1, 0, 2], [0.5, 1, 0]])):
        expected, dexpected = losses.softmax_cross_entropy(logits, targets, weight)
        loss, grad = losses.softmax_cross_entropy(xp.asarray(logits), xp.asarray(targets), weight)
        assert loss == pytest.approx(expected, rel=1e-12)
        assert grad.__array_namespace__() is xp
        np.testing.assert_allclose(np.asarray(grad), dexpected, rtol=1e-12, atol=1e-16)
    logits[0, 0] = np.nan
    loss, grad = losses.softmax_cross_entropy(xp.asarray(logits), targets, targets != targets[0, 0])
    assert np.isfinite(loss)
    assert np.isfinite(np.asarray(grad)).all()
    with raises(ValueError, "targets: expected classes in [0, 5), got 5"):
        losses.softmax_cross_entropy(xp.asarray(logits), targets + 5 - targets)


def test_cross_entropy_names_bad_input():
    call = losses.softmax_cross_entropy
    z = np.zeros((2, 3))
    with raises(ValueError, "targets: expected classes in [0, 3), got 3"):
        call(z, [0, 3])
    with raises(ValueError, "targets: expected classes in [0, 3), got -1"):
        call(z, [0, -1], [1, 1e-300])
    with raises(ValueError, "targets: expected shape (2,), one for each row of logits, got (3,)"):
        call(z, [0, 1, 2])
    with raises(ValueError, "targets: expected shape a list of 1 arrays"):
        call([z], np.array([0, 1]))
    with raises(ValueError, "targets: expected shape arrays of lengths [2], one for each row"):
        call([z], [[0]])
    with raises(TypeError, "targets: expected integers, got dtype float64"):
        call(z, [0.0, 1.0])
    with raises(ValueError, "weight: expected finite numbers of at least 0, got -1.0"):
        call(z, [0, 1], [1, -1])
    with raises(ValueError, "weight: expected finite numbers of at least 0, got nan"):
        call(z, [0, 1], [1, np.nan])
    with raises(ValueError, "weight: expected shape (2,), got (3,)"):
        call(z, [0, 1], np.ones(3))
    with raises(ValueError, "logits: expected shape (..., K), got ()"):
        call(1.0, 0)
    with raises(TypeError, "logits: expected real numbers"):
        call(z + 1j, [0, 1])
    with raises(ValueError, "reduction: expected one of 'mean', 'sum', 'none', got 'avg'"):
        call(z, [0, 1], reduction="avg")
    with raises(ValueError, "out: expected shape (2, 3) and dtype float64, got (2, 3) and float32"):
        call(z, [0, 1], out=z.astype("f4"))
    with raises(ValueError, "out: expected a writable array in C order, got another"):
        call(z, [0, 1], out=np.zeros((3, 2)).T)


# Linear cross entropy


@pytest.fixture(params=["one chunk", "small chunks"])
def chunks(request, monkeypatch):
    """All rows in one chunk, or in chunks of two or three."""
    if request.param == "small chunks":
        monkeypatch.setattr(losses, "CHUNK_ROWS", 2)
        monkeypatch.setattr(losses, "CHUNK_LOGITS", 1)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.usefixtures("chunks")
def test_linear_cross_entropy_gradients(bias, reduction, weighted, rng):
    layer = Linear(3, 4, bias, dtype="float64", random_state=0)
    x, targets = rng.standard_normal((1, 7, 3)), rng.integers(0, 4, (1, 7))
    weight = rng.integers(0, 3, (1, 7)) if weighted else None
    loss, backward = losses.linear_cross_entropy(layer, x, targets, weight, reduction)
    logits, linear_backward = layer.forward(x)
    expected, dlogits = losses.softmax_cross_entropy(logits, targets, weight, reduction=reduction)
    assert loss == pytest.approx(expected, rel=1e-14)
    for grad in layer.grads.values():
        assert not grad.any()  # nothing is added before backward
        grad[...] = 1  # and it is added, not written
    dx = backward(2.5)
    assert dx.shape == x.shape
    np.testing.assert_allclose(dx, linear_backward(dlogits * 2.5), rtol=1e-12, atol=1e-15)

    def total():
        value, _ = losses.linear_cross_entropy(layer, x, targets, weight, reduction, gradient=False)
        return 2.5 * value

    for grad in layer.grads.values():
        grad -= 1
    half = {name: grad / 2 for name, grad in layer.grads.items()}  # linear_backward added as much
    assert_gradients(total, {**layer.params, "x": x}, {**half, "x": dx})
    with raises(RuntimeError, "backward: expected one call"):
        backward()


@pytest.mark.usefixtures("chunks")
def test_linear_cross_entropy_smooths_labels_in_every_chunk(rng):
    layer = Linear(3, 4, dtype="float64", random_state=0)
    x, targets = rng.standard_normal((7, 3)), rng.integers(0, 4, 7)
    loss, backward = losses.linear_cross_entropy(layer, x, targets, label_smoothing=0.2)
    dx = backward()

    def total():
        return losses.linear_cross_entropy(layer, x, targets, label_smoothing=0.2, gradient=False)[
            0
        ]

    assert loss == pytest.approx(total(), rel=1e-14)
    plain = losses.linear_cross_entropy(layer, x, targets, gradient=False)[0]
    assert abs(loss - plain) > 1e-3
    assert_gradients(total, {**layer.params, "x": x}, {**layer.grads, "x": dx})


@pytest.mark.usefixtures("chunks")
def test_linear_cross_entropy_takes_lists_and_other_arrays(rng):
    layer = Linear(3, 4, dtype="float64", random_state=0)
    x, targets = rng.standard_normal((7, 3)), rng.integers(0, 4, 7)
    expected, backward = losses.linear_cross_entropy(layer, x, targets)
    dexpected = backward()
    grads = {name: grad.copy() for name, grad in layer.grads.items()}
    xp = array_api_strict
    for pieces, classes in (
        ([x[:3], x[3:3], x[3:]], [targets[:3], targets[3:3], targets[3:]]),
        (xp.asarray(x), xp.asarray(targets)),
    ):
        layer.zero_grad()
        loss, backward = losses.linear_cross_entropy(layer, pieces, classes)
        dx = backward()
        assert loss == pytest.approx(expected, rel=1e-14)
        assert type(dx) is type(pieces)
        flat = np.concatenate(dx) if isinstance(dx, list) else np.asarray(dx)
        np.testing.assert_allclose(flat, dexpected, rtol=1e-12, atol=1e-15)
        for name, grad in grads.items():
            np.testing.assert_allclose(layer.grads[name], grad, rtol=1e-12, atol=1e-15)


def test_linear_cross_entropy_without_gradient_gives_each_loss(rng):
    layer = Linear(3, 4, dtype="float64", random_state=0)
    x, targets = rng.standard_normal((2, 5, 3)), rng.integers(0, 4, (2, 5))
    each, backward = losses.linear_cross_entropy(
        layer, x, targets, reduction="none", gradient=False
    )
    assert backward is None
    np.testing.assert_allclose(each, cross_entropy(layer(x), targets), rtol=1e-12)
    with raises(ValueError, "reduction: expected one of 'mean', 'sum', got 'none'"):
        losses.linear_cross_entropy(layer, x, targets, reduction="none")
    with raises(TypeError, "linear: expected a Linear layer, got"):
        losses.linear_cross_entropy(LayerNorm(3), x, targets)
    with raises(ValueError, "targets: expected classes in [0, 4), got 4"):
        losses.linear_cross_entropy(layer, x, targets + 4 - targets)
    with raises(ValueError, "x: expected shape (..., 3), got (2, 4)"):
        losses.linear_cross_entropy(layer, np.zeros((2, 4)), [0, 0])
    loss, backward = losses.linear_cross_entropy(layer, x[:0], targets[:0])
    assert loss == 0.0
    assert backward().shape == (0, 5, 3)


@pytest.mark.parametrize("gradient", [False, True])
def test_linear_cross_entropy_never_holds_all_logits(gradient):
    layer = Linear(4, 4000, random_state=0)
    x, targets = np.zeros((4096, 4), np.float32), np.zeros(4096, int)
    all_logits = 4096 * 4000 * 4
    tracemalloc.start()
    _, backward = losses.linear_cross_entropy(layer, x, targets, gradient=gradient)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # what is in the layer's own memory and what it keeps of it is as much as it ever had at once
    peak += layer._memory.nbytes_in_use + layer._memory.nbytes_retained
    chunk = 512 * 4000 * 4
    assert chunk <= peak < 1.5 * chunk < all_logits / 4
    assert (backward is not None) == gradient


def test_linear_cross_entropy_keeps_its_memory_for_the_next_call():
    layer = Linear(4, 300, random_state=0)
    x, targets = np.zeros((600, 4), np.float32), np.zeros(600, int)
    for _ in range(3):
        _, backward = losses.linear_cross_entropy(layer, x, targets)
        backward()
        del backward
    assert layer._memory.nbytes_in_use == 0
    assert layer._memory.nbytes_retained >= 600 * 300 * 4


# Losses element by element


def formula(name, p, t):
    """Each element's loss, written out."""
    r = p - t
    if name == "squared_error":
        return r**2
    if name == "absolute_error":
        return np.abs(r)
    if name == "huber":
        return np.where(np.abs(r) <= 1, r**2 / 2, np.abs(r) - 0.5)
    s = 1 / (1 + np.exp(-p))
    return -t * np.log(s) - (1 - t) * np.log(1 - s)


@pytest.mark.parametrize("weighting", ["none", "elements", "rows"])
@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_formula_reductions_and_gradient(name, weighting, rng):
    call = getattr(losses, name)
    p, t = rng.standard_normal((2, 3, 4)) * 2, rng.random((2, 3, 4))
    weight = {"none": None, "elements": rng.integers(0, 3, p.shape), "rows": np.eye(2, 3)}[
        weighting
    ]
    w = np.ones(p.shape)
    if weight is not None:
        w = w * (weight if weighting == "elements" else weight[..., None])
    each = formula(name, p, t) * w
    for reduction, value in {"mean": each.sum() / w.sum(), "sum": each.sum(), "none": each}.items():
        loss, grad = call(p, t, weight, reduction=reduction)
        np.testing.assert_allclose(loss, value, rtol=1e-12, atol=1e-15)

        def total(reduction=reduction):
            return float(np.sum(call(p, t, weight, reduction=reduction)[0]))

        assert relative_error(grad, gradient(total, p)) < 1e-6


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_equals_torch(name, torch, rng):
    function = {
        "squared_error": torch.nn.functional.mse_loss,
        "absolute_error": torch.nn.functional.l1_loss,
        "huber": torch.nn.functional.huber_loss,
        "binary_cross_entropy": torch.nn.functional.binary_cross_entropy_with_logits,
    }[name]
    p, t = rng.standard_normal((3, 4)) * 2, rng.random((3, 4))
    loss, grad = getattr(losses, name)(p, t)
    tp = torch.from_numpy(p).requires_grad_()
    expected = function(tp, torch.from_numpy(t))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-13)
    np.testing.assert_allclose(grad, tp.grad.numpy(), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_forms_dtypes_and_namespaces(name, rng):
    call = getattr(losses, name)
    p, t = rng.standard_normal((5, 2)), rng.random((5, 2))
    loss, dp = call(p, t)
    got, grad = call([p[:2], p[2:]], [t[:2], t[2:]])
    assert got == loss
    np.testing.assert_array_equal(np.concatenate(grad), dp)
    got, grad = call([p[:2, 0], p[2:, 0]], [t[:2, 0], t[2:, 0]], [np.ones(2), np.ones(3)])
    assert got == pytest.approx(call(p[:, 0], t[:, 0])[0], rel=1e-15)
    assert [part.shape for part in grad] == [(2,), (3,)]
    xp = array_api_strict
    got, grad = call(xp.asarray(p), t, np.ones(5))
    assert got == pytest.approx(loss, rel=1e-14)
    assert grad.__array_namespace__() is xp
    single, grad = call(p.astype(np.float32), t)
    assert grad.dtype == np.float32
    assert single == pytest.approx(loss, rel=1e-5)
    assert call(np.zeros((0, 2)), np.zeros((0, 2)))[0] == 0.0
    assert call(p, t, np.zeros(5))[0] == 0.0


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_excludes_what_has_no_weight(name):
    p, t = np.array([np.nan, 0.5, np.inf, np.inf]), np.array([0.0, 1.0, np.nan, 0.0])
    loss, grad = getattr(losses, name)(p, t, [0, 2, 0, 0])
    assert loss == pytest.approx(formula(name, 0.5, 1.0))
    assert grad[[0, 2, 3]].tolist() == [0, 0, 0]
    assert np.isnan(getattr(losses, name)([np.nan, 0.5], [1.0, 1.0])[0])


def test_binary_cross_entropy_of_extreme_logits():
    z, t = np.array([800.0, -800, 800, -800, np.inf, -np.inf]), np.array([1.0, 0, 0, 1, 1, 0])
    loss, grad = losses.binary_cross_entropy(z, t, reduction="none")
    np.testing.assert_array_equal(loss, [0, 0, 800, 800, 0, 0])
    np.testing.assert_array_equal(grad, [0, 0, 1, -1, 0, 0])
    with raises(ValueError, "targets: expected probabilities in [0, 1], got 1.5"):
        losses.binary_cross_entropy([0.0, 0.0], [0.5, 1.5])


def test_huber_threshold():
    loss, grad = losses.huber([0.5, 2.0, 2.5], [0.0, 0.0, 0.0], delta=2.0, reduction="none")
    np.testing.assert_allclose(loss, [0.125, 2.0, 3.0])
    np.testing.assert_allclose(grad, [0.5, 2.0, 2.0])
    with raises(ValueError, "delta: expected a number above 0, got 0.0"):
        losses.huber([1.0], [1.0], delta=0)


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_names_bad_input(name):
    call = getattr(losses, name)
    what = "logits" if "cross" in name else "predictions"
    with raises(ValueError, f"targets: expected shape (2, 3) as {what} have, got shape (3, 2)"):
        call(np.zeros((2, 3)), np.zeros((3, 2)))
    with raises(ValueError, "weight: expected shape (2, 3) as"):
        call(np.zeros((2, 3)), np.zeros((2, 3)), np.ones(3))
    with raises(ValueError, "weight: expected finite numbers of at least 0, got -2.0"):
        call(np.zeros((2, 3)), np.zeros((2, 3)), [-2, 1])
    with raises(TypeError, f"{what}: expected real numbers, got dtype"):
        call(np.zeros(2, complex), np.zeros(2))
    with raises(ValueError, "targets: expected a list of 2 arrays"):
        call([np.zeros(2), np.zeros(1)], [np.zeros(1), np.zeros(2)])


def test_targets_and_weights_may_be_strided() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((6, 1, 4))
    targets = rng.integers(0, 4, (6, 5))[:, 2:3]  # one step of six streams
    weight = rng.uniform(0, 1, (6, 5))[:, 2:3]
    loss, grad = losses.softmax_cross_entropy(logits, targets, weight)
    expected = losses.softmax_cross_entropy(logits, targets.copy(), weight.copy())
    assert loss == expected[0]
    assert np.array_equal(grad, expected[1])
    linear = Linear(4, 4, dtype="float64", random_state=0)
    loss, _ = losses.linear_cross_entropy(linear, logits, targets, weight, gradient=False)
    wanted = losses.linear_cross_entropy(
        linear, logits, targets.copy(), weight.copy(), gradient=False
    )
    assert loss == wanted[0]


# Quantiles


@pytest.mark.parametrize("weighted", [None, "rows", "elements"])
@pytest.mark.parametrize("shape", [(4,), (2, 3), (), (2, 0)])
def test_quantile_error_formula_reductions_and_gradient(shape, weighted, rng):
    q = np.array([0.1, 0.5, 0.75])
    p, t = rng.standard_normal((*shape, 3)), rng.standard_normal(shape)
    r = t[..., None] - p
    w = {
        None: np.ones((*shape, 3)),
        "rows": np.broadcast_to(rng.integers(0, 3, shape)[..., None] * 0.5, (*shape, 3)),
        "elements": rng.integers(0, 3, (*shape, 3)) * 0.5,
    }[weighted]
    weight = {None: None, "rows": w[..., 0], "elements": w}[weighted]
    each = np.maximum(q * r, (q - 1) * r) * w
    expected = {"mean": each.sum() / max(w.sum(), 1e-300), "sum": each.sum(), "none": each}
    for reduction, value in expected.items():
        loss, grad = losses.quantile_error(p, t, q, weight, reduction=reduction)
        np.testing.assert_allclose(loss, value, rtol=1e-12, atol=1e-15)
        assert type(loss) is float or reduction == "none"
        assert (grad.shape, grad.dtype) == (p.shape, p.dtype)

        def total(reduction=reduction):
            loss, _ = losses.quantile_error(p, t, q, weight, reduction=reduction)
            return float(np.sum(loss))

        assert not p.size or relative_error(grad, gradient(total, p)) < 1e-6


def test_quantile_error_is_lowest_at_the_quantile(rng):
    t, q = rng.standard_normal(2000), [0.05, 0.5, 0.9]
    best = np.quantile(t, q)

    def mean(p):
        return losses.quantile_error(np.tile(p, (len(t), 1)), t, q)[0]

    for shift in (-0.1, 0.1):
        for i in range(3):
            assert mean(best) < mean(best + shift * np.eye(3)[i])


def test_quantile_error_where_it_is_not_smooth_or_not_finite():
    loss, grad = losses.quantile_error(np.ones((1, 2)), [1.0], [0.2, 0.8], reduction="none")
    assert loss.tolist() == grad.tolist() == [[0, 0]]
    loss, grad = losses.quantile_error(
        np.array([[np.nan], [np.inf], [0.0]]), [1.0, 1.0, np.nan], [0.2], reduction="none"
    )
    assert np.isnan(loss).tolist() == [[True], [False], [True]]
    assert loss[1, 0] == np.inf
    loss, grad = losses.quantile_error(np.array([[np.nan], [3.0]]), [1.0, 1.0], [0.25], [0, 1])
    assert loss == 1.5
    assert grad.tolist() == [[0], [0.75]]


def test_quantile_error_of_lists_and_other_arrays(rng):
    p, t, q = rng.standard_normal((5, 2)), rng.standard_normal(5), [0.3, 0.6]
    w = rng.uniform(0, 1, 5)
    expected, dexpected = losses.quantile_error(p, t, q, w)
    cut = [2, 2]
    loss, grad = losses.quantile_error(np.split(p, cut), np.split(t, cut), q, np.split(w, cut))
    assert loss == expected
    assert [len(g) for g in grad] == [2, 0, 3]
    np.testing.assert_array_equal(np.concatenate(grad), dexpected)
    xp = array_api_strict
    loss, grad = losses.quantile_error(xp.asarray(p), xp.asarray(t), q, xp.asarray(w))
    assert loss == pytest.approx(expected, rel=1e-14)
    assert grad.__array_namespace__() is xp
    np.testing.assert_allclose(np.asarray(grad), dexpected, rtol=1e-14)


def test_quantile_error_names_bad_input():
    call = losses.quantile_error
    with raises(ValueError, "quantiles: expected numbers between 0 and 1, got [0.5, 1.0]"):
        call(np.zeros((2, 2)), np.zeros(2), [0.5, 1])
    with raises(ValueError, "quantiles: expected 1 dimension, got 0"):
        call(np.zeros((2, 2)), np.zeros(2), 0.5)
    with raises(ValueError, "predictions: expected 2 in the last axis, one for each of the quant"):
        call(np.zeros((2, 3)), np.zeros(2), [0.1, 0.9])
    with raises(ValueError, "predictions: expected 2 in the last axis, one for each of the quant"):
        call([np.zeros(2)], np.zeros(2), [0.1, 0.9])
    with raises(ValueError, "targets: expected one for each row of predictions, shape (2,), got"):
        call(np.zeros((2, 2)), np.zeros((2, 2)), [0.1, 0.9])
    with raises(ValueError, "weight: expected finite numbers of at least 0, got -1.0"):
        call(np.zeros((2, 1)), np.zeros(2), [0.1], [1, -1])
