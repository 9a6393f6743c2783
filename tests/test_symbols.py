"""An embedding before a recurrent layer: what one after the other gives, each product once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from finite_differences import assert_gradients

from fastrnn import _native
from fastrnn.engine import recurrence
from fastrnn.engine.batches import Symbols
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.rnn import GRU, LSTM, RNN
from fastrnn.layers.sequential import Sequential

KINDS = {
    "lstm": lambda **k: LSTM(5, 9, **k),
    "projected": lambda **k: LSTM(5, 9, proj_size=3, **k),
    "both ways": lambda **k: LSTM(5, 9, 2, bidirectional=True, **k),
    "gru": lambda **k: GRU(5, 9, **k),
    "reset after": lambda **k: GRU(5, 9, reset_after=True, **k),
    "rnn": lambda **k: RNN(5, 9, bias=False, **k),
    "masked": lambda **k: LSTM(5, 9, recurrent_dropout=0.3, **k),
}
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}
LENGTHS = np.array([11, 3, 0, 8])


def forms(symbols: int) -> dict[str, tuple[object, np.ndarray | None]]:
    """Indices as an array, a padded array and a list, with lengths."""
    ids = np.random.default_rng(0).integers(0, symbols, (4, 11))
    rows = [row[:n] for row, n in zip(ids, LENGTHS, strict=True)]
    return {"array": (ids, None), "padded": (ids, LENGTHS), "list": (rows, None)}


def equal(a: object, b: object) -> bool:
    if isinstance(a, list | tuple):
        assert isinstance(b, list | tuple)
        return all(map(equal, a, b))
    return np.array_equal(a, b)


@pytest.fixture(params=[(i, g) for i in _native.isas() for g in ("packed", "blas")], ids=str)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    isa, gemm = request.param
    with _native.force_isa(isa):
        _native.set_gemm(gemm)
        try:
            yield gemm
        finally:
            _native.set_gemm(None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["array", "padded", "list"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_are_those_of_one_layer_after_the_other(engine, kind, form, dtype) -> None:
    embedding = Embedding(7, 5, dtype=dtype, random_state=0)
    layer = KINDS[kind](dtype=dtype, random_state=1)
    both = Sequential(embedding, layer)
    x, lengths = forms(7)[form]
    assert isinstance(embedding.forward_symbols(x)[0], Symbols)
    close = equal
    if engine == "blas":  # which promises no bits

        def close(a: object, b: object) -> bool:
            if isinstance(a, list | tuple):
                return all(map(close, a, b))
            return np.allclose(a, b, rtol=0, atol=10 * TOLERANCE[dtype])

    y, state, backward = both.forward(x, lengths=lengths)
    layer.call_count = 0  # the same masks again
    vectors, embedding_backward = embedding.forward(x)
    plain, plain_state, plain_backward = layer.forward(vectors, lengths=lengths)
    assert close(y, plain)
    assert close(state, plain_state)
    assert close(both(x, lengths=lengths), layer(embedding(x), lengths=lengths))

    rng = np.random.default_rng(2)
    dy = [rng.standard_normal(one.shape).astype(dtype) for one in y]
    dy = dy if isinstance(y, list) else np.array(dy)
    dx, dstate = backward(dy)
    assert dx is None
    found = {name: grad.copy() for name, grad in both.grads.items()}
    both.zero_grad()
    dvectors, plain_dstate = plain_backward(dy)
    embedding_backward(dvectors)
    assert close(dstate, plain_dstate)
    for name, grad in both.grads.items():
        scale = max(1.0, np.abs(grad).max())
        assert np.abs(found[name] - grad).max() <= 10 * TOLERANCE[dtype] * scale, name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["array", "padded", "list"])
def test_gradients_are_right(kind, form) -> None:
    both = Sequential(
        Embedding(6, 5, dtype="float64", random_state=0), KINDS[kind](dtype="float64")
    )
    x, lengths = forms(6)[form]
    rng = np.random.default_rng(1)
    y, _, backward = both.forward(x, lengths=lengths)
    weights = [rng.standard_normal(one.shape) for one in y]

    def loss() -> float:
        both[1].call_count = 0
        y, _, _ = both.forward(x, lengths=lengths)
        return float(sum((a * b).sum() for a, b in zip(y, weights, strict=True)))

    backward(weights if isinstance(y, list) else np.array(weights))
    assert_gradients(loss, both.params, both.grads, 1e-5)


def test_gradients_add_up_and_have_the_same_bits_on_any_threads() -> None:
    ids = np.random.default_rng(0).integers(0, 40, (30, 50))
    dy = np.random.default_rng(1).standard_normal((30, 50, 70), np.float32)
    grads = {}
    for n in (1, 2, 3):
        both = Sequential(Embedding(40, 50, random_state=0), LSTM(50, 70, random_state=1))
        _native.set_thread_limit(n)
        try:
            both.forward(ids)[2](dy)
            once = {name: grad.copy() for name, grad in both.grads.items()}
            both.forward(ids)[2](dy)
        finally:
            _native.set_thread_limit(0)
        grads[n] = {name: grad.copy() for name, grad in both.grads.items()}
        for name, grad in both.grads.items():
            np.testing.assert_allclose(grad, 2 * once[name], rtol=1e-5, atol=1e-4)
            np.testing.assert_array_equal(grad, grads[1][name])


def test_only_indices_that_repeat_are_worth_it() -> None:
    embedding = Embedding(1000, 5, random_state=0)
    few, many = np.arange(40).reshape(4, 10) % 20, np.arange(40).reshape(4, 10)
    assert isinstance(embedding.forward_symbols(few)[0], Symbols)
    np.testing.assert_array_equal(embedding.forward_symbols(many)[0], embedding(many))
    layer = LSTM(5, 9, random_state=1)
    for x in (few, many, np.zeros((0, 3), int), np.zeros((3, 0), int)):
        both = Sequential(embedding, layer)
        assert equal(both(x), layer(embedding(x)))
        y, _, backward = both.forward(x)
        backward(np.ones_like(y))


def test_other_engines_and_dtypes_get_the_vectors() -> None:
    ids = np.arange(40).reshape(4, 10) % 6
    for dtype in ("float32", "float64"):
        embedding, layer = Embedding(6, 5, dtype=dtype, random_state=0), GRU(5, 9, random_state=1)
        both = Sequential(embedding, layer)
        for lists in (False, True):
            x = list(ids) if lists else ids
            with recurrence.twin_only():
                y, _, backward = both.forward(x)
                backward([np.ones_like(one) for one in y] if lists else np.ones_like(y))
                assert equal(y, layer(embedding(x))[0])
            twin = embedding.grads["weight"].copy()
            embedding.zero_grad()
            y, _, backward = both.forward(x)
            backward([np.ones_like(one) for one in y] if lists else np.ones_like(y))
            np.testing.assert_allclose(embedding.grads["weight"], twin, rtol=1e-5, atol=1e-5)
            embedding.zero_grad()


def test_layers_of_ones_own_are_asked_as_ever() -> None:
    class Doubled(Embedding):
        def forward(self, x):
            y, backward = super().forward(x)
            return 2 * y, lambda dy: backward(2 * dy)

        def __call__(self, x):
            return 2 * super().__call__(x)

    ids = np.zeros((2, 4), int)
    doubled, layer = Doubled(3, 5, random_state=0), RNN(5, 4, random_state=1)
    both = Sequential(doubled, layer)
    np.testing.assert_array_equal(both.forward(ids)[0], layer(doubled(ids))[0])
    np.testing.assert_array_equal(both(ids)[0], layer(doubled(ids))[0])


def test_mistakes_are_named() -> None:
    embedding, layer = Embedding(3, 5), LSTM(5, 4)
    both = Sequential(embedding, layer)
    with pytest.raises(ValueError, match=r"x: expected .*\[0, 3\)"):
        both(np.full((2, 9), 3))
    with pytest.raises(ValueError, match="lengths"):
        both(np.zeros((2, 9), int), lengths=[9, 10])
    with pytest.raises(ValueError, match="lengths"):
        both([np.zeros(9, int)], lengths=[9])
    with pytest.raises(ValueError, match="x: expected"):
        both(np.zeros(9, int))
    with pytest.raises(ValueError, match="expected 6 features, got 5"):
        Sequential(embedding, LSTM(6, 4))(np.zeros((2, 9), int))
    # The compiled module trusts no index, whoever made it.
    rows = np.zeros((3, 5), np.float32)
    for index in (np.full((2, 4), 3), np.full((2, 4), -1)):
        with pytest.raises(ValueError, match=r"x: expected indices in \[0, 3\)"):
            layer(Symbols(rows, index))
    with pytest.raises(ValueError, match="neighboring"):
        layer(Symbols(rows, np.zeros((2, 8), int)[:, ::2]))
