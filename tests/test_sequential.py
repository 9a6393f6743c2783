"""Sequential: what it hands on, and the signature it has with and without recurrent layers."""

import copy
import pickle
import re

import numpy as np
import pytest
from finite_differences import assert_gradients

from fastrnn.engine.parameters import Backward, Layer
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.modules import Dropout, LayerNorm, Linear
from fastrnn.layers.rnn import GRU, LSTM
from fastrnn.layers.sequential import Sequential
from fastrnn.losses import softmax_cross_entropy


def raises(kind, message):
    return pytest.raises(kind, match=re.escape(message))


class Sum(Layer):
    """The least recurrent layer: h_t = w h_(t-1) + x_t, on (N, T, D), with one parameter."""

    def __init__(self, w):
        self._own({"w": np.array([w])})

    def config(self):
        return {"w": float(self.params["w"][0])}

    def __call__(self, x, state=None, lengths=None):
        y, state, _ = self.forward(x, state, lengths)
        return y, state

    def forward(self, x, state=None, lengths=None):
        n, steps, _ = x.shape
        lengths = np.full(n, steps) if lengths is None else np.asarray(lengths)
        w = self.params["w"][0]
        first = h = np.zeros_like(x[:, 0]) if state is None else state
        y = np.zeros_like(x)
        before = []
        for t in range(steps):
            alive = (t < lengths)[:, None]
            before.append(h)
            h = np.where(alive, w * h + x[:, t], h)
            y[:, t] = np.where(alive, h, 0)

        def backward(dy, dstate=None):
            dh = np.zeros_like(first) if dstate is None else np.array(dstate)
            dx = np.zeros_like(x)
            for t in reversed(range(steps)):
                alive = (t < lengths)[:, None]
                dsum = dh + (0 if dy is None else dy[:, t])
                dx[:, t] = np.where(alive, dsum, 0)
                self.grads["w"][0] += np.where(alive, dsum * before[t], 0).sum()
                dh = np.where(alive, w * dsum, dh)
            return dx, dh

        return y, h, Backward(backward)


def with_one():
    return Sequential(
        Linear(2, 3, dtype="float64", random_state=0), Sum(0.5), LayerNorm(3, dtype="float64")
    )


def with_two():
    return Sequential(
        Sum(0.5), Linear(2, 2, dtype="float64", random_state=0), Sequential(Sum(-0.8))
    )


def test_without_recurrent_layers_it_is_a_layer_without_state(rng):
    first, last = Linear(3, 4, dtype="float64"), Linear(4, 2, dtype="float64")
    seq = Sequential(first, last)
    assert not seq.recurrent
    x = rng.standard_normal((5, 3))
    np.testing.assert_array_equal(seq(x), last(first(x)))
    y, backward = seq.forward(x)
    dy = rng.standard_normal(y.shape)
    dx = backward(dy)
    arrays = {**seq.params, "x": x}
    assert_gradients(lambda: float((seq(x) * dy).sum()), arrays, {**seq.grads, "x": dx})
    for name in ("state", "lengths"):
        with raises(TypeError, f"{name}: expected None, for no layer is recurrent, got 1"):
            seq(x, **{name: 1})
    with raises(TypeError, "dstate: expected None, for no layer is recurrent"):
        seq.forward(x)[1](dy, dstate=1)
    with raises(ValueError, "dy: expected a gradient, got None"):
        seq.forward(x)[1](None)


@pytest.mark.parametrize("given", ["dy", "dstate", "both"])
@pytest.mark.parametrize("make", [with_one, with_two])
def test_gradients_of_the_input_the_states_and_all_parameters(make, given, rng):
    seq = make()
    count = sum(seq._recurrent)
    x, lengths = rng.standard_normal((3, 4, 2)), [4, 0, 2]
    width = 3 if count == 1 else 2
    states = [rng.standard_normal((3, width)) for _ in range(count)]

    def pack(parts):
        return parts[0] if count == 1 else tuple(parts)

    y, _, backward = seq.forward(x, pack(states), lengths)
    dy = rng.standard_normal(y.shape) if given != "dstate" else None
    dfinal = [rng.standard_normal(s.shape) for s in states] if given != "dy" else None
    dx, dfirst = backward(dy, None if dfinal is None else pack(dfinal))
    dfirst = [dfirst] if count == 1 else list(dfirst)

    def loss():
        y, final = seq(x, pack(states), lengths)
        total = 0.0 if dy is None else float((y * dy).sum())
        finals = [final] if count == 1 else final
        for part, d in zip(finals, dfinal or [np.zeros((3, width))] * count, strict=True):
            total += float((part * d).sum())
        return total

    arrays = {**seq.params, "x": x, **{f"state{i}": s for i, s in enumerate(states)}}
    grads = {**seq.grads, "x": dx, **{f"state{i}": d for i, d in enumerate(dfirst)}}
    assert_gradients(loss, arrays, grads)
    again, last = seq(x, pack(states), lengths)
    np.testing.assert_array_equal(again, y)
    assert isinstance(last, tuple) == (count == 2)


def test_only_some_states_and_gradients_of_states(rng):
    seq = with_two()
    x = rng.standard_normal((3, 4, 2))
    state = rng.standard_normal((3, 2))
    y, (one, two) = seq(x, (None, state))
    expected, first = seq.layers[0](x)
    expected, second = seq.layers[2](seq.layers[1](expected), state)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(one, first)
    np.testing.assert_array_equal(two, second)
    # only the first layer's final state has a gradient: the layers above contribute nothing
    _, _, backward = seq.forward(x)
    dx, (dfirst, dsecond) = backward(None, (np.ones((3, 2)), None))
    np.testing.assert_allclose(dx[0, :, 0], 0.5 ** np.arange(4)[::-1])
    np.testing.assert_allclose(dfirst, 0.5**4)
    assert not dsecond.any()


def test_names_of_parameters_are_prefixed_and_arrays_shared():
    seq = with_one()
    assert list(seq.params) == ["0.weight", "0.bias", "1.w", "2.weight", "2.bias"]
    assert list(seq.grads) == list(seq.params)
    assert seq.params["0.weight"] is seq.layers[0].params["weight"]
    assert seq.num_parameters == 9 + 1 + 6
    assert list(with_two().params) == ["0.w", "1.weight", "1.bias", "2.0.w"]
    seq.grads["1.w"][...] = 3
    seq.zero_grad()
    assert not seq.layers[1].grads["w"].any()
    assert (len(seq), seq[1]) == (3, seq.layers[1])


def test_it_starts_with_indices_and_takes_lists():
    seq = Sequential(Embedding(5, 3), Dropout(0.5, random_state=1), Linear(3, 5))
    y, backward = seq.forward([[1, 2], [3]])
    assert [part.shape for part in y] == [(2, 5), (1, 5)]
    assert backward([np.ones((2, 5)), np.ones((1, 5))]) is None
    assert seq.grads["0.weight"][[1, 2, 3]].any()
    assert not seq.grads["0.weight"][[0, 4]].any()


def test_a_refused_gradient_adds_nothing_and_does_not_count(rng):
    seq = with_two()
    y, _, backward = seq.forward(rng.standard_normal((3, 4, 2)))
    for dstate, message in (
        ((np.ones((3, 2)), np.ones((2, 2))), "dstate[1]: expected shape (3, 2), got (2, 2)"),
        ((np.ones((2, 2)), np.ones((3, 2))), "dstate[0]: expected shape (3, 2), got (2, 2)"),
        ((None,), "dstate: expected 2 entries, one for each recurrent layer, got 1"),
    ):
        with raises(ValueError, message):
            backward(y, dstate)
    with raises(TypeError, "dstate: expected a tuple of 2, one for each recurrent layer, got"):
        backward(y, np.ones((3, 2)))
    with raises(ValueError, "dy: expected the gradient of y or of the state, got None"):
        backward(None)
    assert not any(grad.any() for grad in seq.grads.values())
    backward(y)
    assert all(grad.any() for grad in seq.grads.values())
    with raises(RuntimeError, "backward: expected one call for each forward, got a second"):
        backward(y)


def test_bad_layers_are_named():
    with raises(ValueError, "layers: expected at least one layer, got none"):
        Sequential()
    with raises(TypeError, "layers[1]: expected a layer, got 'tanh'"):
        Sequential(Linear(2, 2), "tanh")
    twice = Linear(2, 2)
    with raises(ValueError, "layers: expected each layer once, got one at 0 again at 1"):
        Sequential(twice, twice)
    with raises(TypeError, "layers[0]: expected a layer, got"):
        Sequential([Linear(2, 2)])


def test_configuration_names_types_and_arguments():
    assert Sequential(Linear(2, 3), Sequential(Dropout(0.5, random_state=3))).config() == {
        "layers": [
            {"type": "Linear", "config": Linear(2, 3).config()},
            {
                "type": "Sequential",
                "config": {
                    "layers": [{"type": "Dropout", "config": Dropout(0.5, random_state=3).config()}]
                },
            },
        ]
    }


def test_copies_hold_copies_of_the_layers():
    seq = Sequential(Linear(2, 3, dtype="float64"), Dropout(0.5), Linear(3, 2, dtype="float64"))
    seq.forward(np.ones((2, 2)))
    for other in (copy.deepcopy(seq), pickle.loads(pickle.dumps(seq))):
        assert repr(other) == repr(seq)
        assert other[1].call_count == 1
        np.testing.assert_array_equal(other(np.ones((3, 2))), seq(np.ones((3, 2))))
        other.params["0.weight"][...] = 0
        assert not other[0].params["weight"].any()
        assert seq[0].params["weight"].all()


def language_network():
    return Sequential(
        Embedding(5, 3, dtype="float64", random_state=0),
        LSTM(3, 4, bidirectional=True, dtype="float64", random_state=1),
        Dropout(0.3, random_state=2),
        GRU(8, 3, dtype="float64", random_state=3),
        LayerNorm(3, dtype="float64"),
        Linear(3, 5, dtype="float64", random_state=4),
    )


TOKENS = [[0, 3, 1, 4], [2], [], [1, 1, 0]]
TARGETS = [[3, 1, 4, 4], [2], [], [1, 0, 2]]


def padded(lists):
    whole = np.zeros((4, 4), int)
    for row, values in zip(whole, lists, strict=True):
        row[: len(values)] = values
    return whole, np.array([4, 1, 0, 3])


def test_a_language_network_learns_from_ragged_sequences_exactly():
    seq = language_network()
    y, _, backward = seq.forward(TOKENS)
    _, dlogits = softmax_cross_entropy(y, TARGETS)
    dx, _ = backward(dlogits)
    assert dx is None

    def loss():
        seq[2].call_count = 0  # the same masks each time
        y, _, _ = seq.forward(TOKENS)
        return softmax_cross_entropy(y, TARGETS)[0]

    assert_gradients(loss, seq.params, seq.grads)


def test_lists_and_padded_arrays_are_the_same_to_it():
    listed, seq = language_network(), language_network()
    y, (lstm, gru), backward = listed.forward(TOKENS)
    loss, dlogits = softmax_cross_entropy(y, TARGETS)
    backward(dlogits)
    x, lengths = padded(TOKENS)
    targets, _ = padded(TARGETS)
    weight = np.arange(4) < lengths[:, None]
    y2, (lstm2, gru2), backward = seq.forward(x, lengths=lengths)
    loss2, dlogits = softmax_cross_entropy(y2, targets, weight)
    backward(dlogits)
    for part, row in zip(y, y2, strict=True):
        np.testing.assert_allclose(part, row[: len(part)], rtol=0, atol=1e-14)
    assert loss2 == pytest.approx(loss, rel=1e-14)
    for a, b in zip((*lstm, gru), (*lstm2, gru2), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)
    for name, grad in listed.grads.items():
        np.testing.assert_allclose(seq.grads[name], grad, rtol=0, atol=1e-14, err_msg=name)


def test_states_go_in_and_come_out_of_real_layers():
    x = np.array([[0, 3, 1, 4], [2, 2, 1, 0]])
    one_way = Sequential(
        Embedding(5, 3, dtype="float64"), LSTM(3, 4, dtype="float64"), GRU(4, 2, dtype="float64")
    )
    y, state = one_way(x)
    first, carried = one_way(x[:, :2])
    second, last = one_way(x[:, 2:], carried)
    np.testing.assert_array_equal(np.concatenate([first, second], 1), y)
    np.testing.assert_array_equal(last[1], state[1])
    np.testing.assert_array_equal(last[0][1], state[0][1])
    with raises(ValueError, "state: expected 2 entries, one for each recurrent layer, got 3"):
        one_way(x, (None, None, None))


def test_a_layer_that_fails_half_way_is_named_and_not_tried_again():
    class Broken(Linear):
        def forward(self, x):
            y, _ = super().forward(x)

            def backward(dy):
                raise ValueError("my own mistake")

            return y, Backward(backward)

    y, backward = Sequential(Linear(2, 3), Broken(3, 3), Linear(3, 2)).forward(np.ones((1, 2)))
    with raises(RuntimeError, "backward: layers[1] failed after those behind it had added"):
        backward(y)
    with raises(RuntimeError, "backward: expected one call for each forward, got a second"):
        backward(y)


def test_prepared_layers_answer_with_the_same_bits_and_do_not_change():
    inner = Sequential(LayerNorm(4), GRU(4, 3, random_state=2))
    seq = Sequential(LSTM(2, 4, random_state=1), inner, Dropout(0.5), Linear(3, 2, random_state=3))
    x = np.random.default_rng(0).standard_normal((3, 5, 2)).astype(np.float32)
    expected, _ = seq(x)
    assert seq.prepare() is seq
    np.testing.assert_array_equal(seq(x)[0], expected)
    for name, param in seq.params.items():
        with raises(ValueError, "read-only"):
            param[...] = 0
        assert not param.flags.writeable, name
