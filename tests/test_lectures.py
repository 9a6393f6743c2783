"""Each formula of the lectures on recurrent networks, written literally in NumPy, one step and one
sequence at a time, against the library.

Columns are vectors here, as on a blackboard: W h + U x + b. Everything is float64, where the two
ways of rounding differ by some units in the last place of each step's sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import GRU, LSTM, RNN, Embedding, Linear, Sequential, losses, metrics, optim
from fastrnn.cells import Cell, Stage

N, T, D, H = 3, 6, 4, 5


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def softmax(z: np.ndarray) -> np.ndarray:
    return np.exp(z) / np.exp(z).sum()


def make(kind: Any, *sizes: int, **options: Any) -> Any:
    """A float64 layer whose weights are large enough for every nonlinearity to bend."""
    large = {"dtype": "float64", "random_state": 3, "init": "uniform", "init_scale": 1.0}
    return kind(*(sizes or (D, H)), **(large | options))


def blocks(layer: Any, gates: str, end: str = "l0") -> Iterator[tuple[np.ndarray, ...]]:
    """(U, W, b) of each gate: U multiplies x, W multiplies h, b is the sum of both biases."""
    size = layer.hidden_size
    bias = layer.params[f"bias_ih_{end}"] + layer.params[f"bias_hh_{end}"]
    for k in range(len(gates)):
        rows = slice(k * size, (k + 1) * size)
        yield (
            layer.params[f"weight_ih_{end}"][rows],
            layer.params[f"weight_hh_{end}"][rows],
            bias[rows],
        )


def steps_of(
    step: Callable[..., tuple[np.ndarray, ...]], x: np.ndarray, *state: np.ndarray
) -> np.ndarray:
    """h_1 ... h_T of one sequence (T, D), by ``step(x_t, h[, c]) -> (h[, c])``."""
    found = []
    for x_t in x:
        state = step(x_t, *state)
        found.append(state[0])
    return np.array(found)


# --- RNN -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "f"), [("tanh", np.tanh), ("sigmoid", sigmoid)])
def test_rnn(name: str, f: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator) -> None:
    layer = make(RNN, nonlinearity=name)
    ((U, W, b),) = blocks(layer, "h")
    x, h_0 = rng.standard_normal((N, T, D)), rng.standard_normal((N, H))
    y, h_T = layer(x, h_0[None])
    for n in range(N):
        expected = steps_of(lambda x_t, h: (f(W @ h + U @ x_t + b),), x[n], h_0[n])
        close(y[n], expected)
        close(h_T[0, n], expected[-1])


def f_of_h_and_x(xp: Any, v: Any) -> None:
    """h_t = h_{t-1} / 2 + sin(W h_{t-1} + U x_t + b): the state also outside the product."""
    v.h_next = v.h / 2 + xp.sin(v.a)
    v.cos = xp.cos(v.a)


def f_of_h_and_x_backward(xp: Any, v: Any, d: Any) -> None:
    d.a = d.h_next * v.cos
    d.h = d.h_next / 2


def test_a_general_function_of_h_and_x(rng: np.random.Generator) -> None:
    stage = Stage(("a",), f_of_h_and_x, f_of_h_and_x_backward)
    layer = make(fastrnn.register_cell(Cell("GeneralFunction", (stage,))))
    ((U, W, b),) = blocks(layer, "a")
    x, h_0 = rng.standard_normal((N, T, D)), rng.standard_normal((N, H))
    y, _ = layer(x, h_0[None])
    for n in range(N):
        close(y[n], steps_of(lambda x_t, h: (h / 2 + np.sin(W @ h + U @ x_t + b),), x[n], h_0[n]))
    assert max(fastrnn.gradient_check(layer, x[:2, :3], h_0[None, :2]).values()) < 1e-6


# --- output and loss -----------------------------------------------------------------------------


def test_softmax_output_and_cross_entropy_summed_over_time(rng: np.random.Generator) -> None:
    K = 7
    rnn, out = make(RNN), Linear(H, K, dtype="float64", random_state=4)
    V, c = out.params["weight"], out.params["bias"]
    x, targets = rng.standard_normal((1, T, D)), rng.integers(0, K, (1, T))
    h = rnn(x)[0]
    loss, dlogits = losses.softmax_cross_entropy(out(h), targets, reduction="sum")
    expected = 0.0
    for t in range(T):
        y_hat = softmax(V @ h[0, t] + c)
        expected -= np.log(y_hat[targets[0, t]])
        close(dlogits[0, t], y_hat - np.eye(K)[targets[0, t]])
    close(loss, expected)
    close(losses.linear_cross_entropy(out, h, targets, reduction="sum")[0], expected)


def test_the_gradient_of_w_is_the_sum_over_steps(rng: np.random.Generator) -> None:
    """dL/dW = sum_t sum_{k<=t} dL_t/dh_t (prod_{k<j<=t} dh_j/dh_{j-1}) dh_k/dW, Jacobian by
    Jacobian, with dh_j/dh_{j-1} = diag(1 - h_j^2) W.
    """
    K = 7
    rnn, out = make(RNN), Linear(H, K, dtype="float64", random_state=4)
    ((U, W, b),) = blocks(rnn, "h")
    V, c = out.params["weight"], out.params["bias"]
    x, targets, h_0 = rng.standard_normal((T, D)), rng.integers(0, K, T), rng.standard_normal(H)
    h = np.vstack([h_0, steps_of(lambda x_t, h: (np.tanh(W @ h + U @ x_t + b),), x, h_0)])
    dW, dU, db, dV = np.zeros_like(W), np.zeros_like(U), np.zeros_like(b), np.zeros_like(V)
    for t in range(1, T + 1):
        error = softmax(V @ h[t] + c) - np.eye(K)[targets[t - 1]]
        dV += np.outer(error, h[t])
        for k in range(1, t + 1):
            through = np.eye(H)
            for j in range(k + 1, t + 1):
                through = np.diag(1 - h[j] ** 2) @ W @ through
            delta = error @ V @ through * (1 - h[k] ** 2)
            dW += np.outer(delta, h[k - 1])
            dU += np.outer(delta, x[k - 1])
            db += delta
    y, _, back_in_time = rnn.forward(x[None], h_0[None, None])
    logits, back = out.forward(y)
    back_in_time(back(losses.softmax_cross_entropy(logits, targets[None], reduction="sum")[1]))
    close(rnn.grads["weight_hh_l0"], dW)
    close(rnn.grads["weight_ih_l0"], dU)
    close(rnn.grads["bias_ih_l0"], db)
    close(rnn.grads["bias_hh_l0"], db)
    close(out.grads["weight"], dV)


# --- LSTM ----------------------------------------------------------------------------------------

Notation = Callable[[Any, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def lstm_w_h_u_x(layer: LSTM, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> Any:
    """i = sigmoid(W_i h + U_i x + b_i) and so on; vectors are columns."""
    (U_i, W_i, b_i), (U_f, W_f, b_f), (U_g, W_g, b_g), (U_o, W_o, b_o) = blocks(layer, "ifgo")
    i = sigmoid(W_i @ h + U_i @ x + b_i)
    f = sigmoid(W_f @ h + U_f @ x + b_f)
    o = sigmoid(W_o @ h + U_o @ x + b_o)
    c_tilde = np.tanh(W_g @ h + U_g @ x + b_g)
    c = f * c + i * c_tilde
    h = o * np.tanh(c)
    return h, c


def lstm_w_of_both(layer: LSTM, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> Any:
    """f = sigmoid(W_f [h, x] + b_f) and so on: one matrix for both, side by side."""
    (W_i, b_i), (W_f, b_f), (W_C, b_C), (W_o, b_o) = (
        (np.hstack([W, U]), b) for U, W, b in blocks(layer, "ifgo")
    )
    h_x = np.concatenate([h, x])
    f = sigmoid(W_f @ h_x + b_f)
    i = sigmoid(W_i @ h_x + b_i)
    C_tilde = np.tanh(W_C @ h_x + b_C)
    C = f * c + i * C_tilde
    o = sigmoid(W_o @ h_x + b_o)
    h = o * np.tanh(C)
    return h, C


def lstm_x_w_h_w(layer: LSTM, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> Any:
    """I = sigmoid(X W_xi + H W_hi + b_i) and so on: rows are the sequences of a batch."""
    (W_xi, W_hi, b_i), (W_xf, W_hf, b_f), (W_xc, W_hc, b_c), (W_xo, W_ho, b_o) = (
        (U.T, W.T, b) for U, W, b in blocks(layer, "ifgo")
    )
    inputs = sigmoid(x @ W_xi + h @ W_hi + b_i)
    forget = sigmoid(x @ W_xf + h @ W_hf + b_f)
    output = sigmoid(x @ W_xo + h @ W_ho + b_o)
    c_tilde = np.tanh(x @ W_xc + h @ W_hc + b_c)
    c = forget * c + inputs * c_tilde
    h = output * np.tanh(c)
    return h, c


@pytest.mark.parametrize("notation", [lstm_w_h_u_x, lstm_w_of_both])
def test_lstm_in_columns(notation: Notation, rng: np.random.Generator) -> None:
    layer = make(LSTM)
    x, h_0, c_0 = (rng.standard_normal(shape) for shape in [(N, T, D), (N, H), (N, H)])
    y, (h_T, c_T) = layer(x, (h_0[None], c_0[None]))
    for n in range(N):
        h, c = h_0[n], c_0[n]
        for t in range(T):
            h, c = notation(layer, x[n, t], h, c)
            close(y[n, t], h)
        close(h_T[0, n], h)
        close(c_T[0, n], c)


def test_lstm_in_rows(rng: np.random.Generator) -> None:
    layer = make(LSTM)
    x, h, c = (rng.standard_normal(shape) for shape in [(N, T, D), (N, H), (N, H)])
    y, (h_T, c_T) = layer(x, (h[None], c[None]))
    for t in range(T):
        h, c = lstm_x_w_h_w(layer, x[:, t], h, c)
        close(y[:, t], h)
    close(h_T[0], h)
    close(c_T[0], c)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_gates_lie_between_0_and_1_and_h_between_minus_1_and_1(
    kind: Any, dtype: str, rng: np.random.Generator
) -> None:
    layer = make(kind, D, 33, dtype=dtype, init_scale=8.0)
    traced = layer.trace(20 * rng.standard_normal((N, 50, D)))
    for gate in "ifo" if kind is LSTM else "rz":
        values = traced[f"{gate}_l0"]
        assert values.min() >= 0 and values.max() <= 1
        assert values.min() < 0.01 and values.max() > 0.99  # the ends have been tried
    assert np.abs(traced["h_l0"]).max() <= 1
    candidate = traced["g_l0" if kind is LSTM else "n_l0"]
    assert 0.99 < np.abs(candidate).max() <= 1


def set_gates(layer: LSTM, **sums: float) -> None:
    """Let gates have these sums whatever x and h are."""
    for param in layer.params.values():
        param[...] = 0
    for gate, value in sums.items():
        start = "ifgo".index(gate) * layer.hidden_size
        layer.params["bias_ih_l0"][start : start + layer.hidden_size] = value


def test_a_cell_may_exceed_1_where_h_may_not() -> None:
    layer = make(LSTM)
    set_gates(layer, i=40, f=40, g=20, o=40)  # sigmoid(40) and tanh(20) round to 1
    traced = layer.trace(np.zeros((1, 10, D)))
    np.testing.assert_array_equal(traced["c_l0"][0, :, 0], np.arange(1.0, 11.0))
    close(traced["h_l0"][0, :, 0], np.tanh(np.arange(1.0, 11.0)))
    assert traced["h_l0"].max() <= 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_open_forget_gate_and_a_closed_input_gate_keep_c(
    dtype: str, rng: np.random.Generator
) -> None:
    layer = make(LSTM, dtype=dtype)
    set_gates(layer, i=-2000, f=2000, g=0.3, o=0.1)
    x = rng.standard_normal((N, 1000, D)).astype(dtype)
    h_0 = np.zeros((1, N, H), dtype)
    c_0 = (100 * rng.standard_normal((1, N, H))).astype(dtype)
    c_0[0, 0, :3] = 0.0, 1e-30, -1e30
    traced = layer.trace(x, (h_0, c_0))
    np.testing.assert_array_equal(traced["i_l0"], 0)
    np.testing.assert_array_equal(traced["f_l0"], 1)
    assert layer(x, (h_0, c_0))[1][1].tobytes() == c_0.tobytes()
    np.testing.assert_array_equal(traced["c_l0"], np.repeat(c_0[0][:, None], 1000, axis=1))


# --- GRU -----------------------------------------------------------------------------------------


def test_gru(rng: np.random.Generator) -> None:
    layer = make(GRU)
    (U_r, W_r, b_r), (U_z, W_z, b_z), (U, W, b) = blocks(layer, "rzn")

    def step(x: np.ndarray, h: np.ndarray) -> tuple[np.ndarray]:
        z = sigmoid(W_z @ h + U_z @ x + b_z)
        r = sigmoid(W_r @ h + U_r @ x + b_r)
        h_tilde = np.tanh(W @ (r * h) + U @ x + b)
        return (z * h + (1 - z) * h_tilde,)

    x, h_0 = rng.standard_normal((N, T, D)), rng.standard_normal((N, H))
    y, h_T = layer(x, h_0[None])
    for n in range(N):
        expected = steps_of(step, x[n], h_0[n])
        close(y[n], expected)
        close(h_T[0, n], expected[-1])


# --- words, clipping, perplexity -----------------------------------------------------------------


def test_an_embedding_is_e_times_one_hot(rng: np.random.Generator) -> None:
    V = 11
    embedding = Embedding(V, D, dtype="float64", random_state=5)
    E = embedding.params["weight"].T
    words = rng.integers(0, V, (N, T))
    found, backward = embedding.forward(words)
    dy = rng.standard_normal(found.shape)
    backward(dy)
    dE = np.zeros_like(E)
    for n, t in np.ndindex(N, T):
        one_hot = np.zeros(V)
        one_hot[words[n, t]] = 1
        np.testing.assert_array_equal(found[n, t], E @ one_hot)  # adding zeros changes no bit
        dE += np.outer(dy[n, t], one_hot)
    close(embedding.grads["weight"].T, dE)


@pytest.mark.parametrize("theta", [0.5, 3.0, 1e6])
def test_clipping_to_a_radius(theta: float, rng: np.random.Generator) -> None:
    layers = [make(RNN), Linear(H, 2, dtype="float64", random_state=1)]
    before = []
    for layer in layers:
        for grad in layer.grads.values():
            grad[...] = rng.standard_normal(grad.shape)
            before.append(grad.copy())
    g = np.concatenate([grad.ravel() for grad in before])
    norm = np.sqrt(np.sum(g**2))
    close(fastrnn.clip_grad_norm(layers, theta), norm)
    after = np.concatenate([grad.ravel() for layer in layers for grad in layer.grads.values()])
    close(after, g * min(1, theta / norm))
    if theta > norm:
        np.testing.assert_array_equal(after, g)
    else:
        close(np.sqrt(np.sum(after**2)), theta)


def test_perplexity(rng: np.random.Generator) -> None:
    p = rng.uniform(0.01, 1, 20)
    close(metrics.perplexity(-np.log(p)), np.exp(-np.mean(np.log(p))))
    close(metrics.perplexity(-np.log(p)), np.prod(1 / p) ** (1 / 20))
    close(metrics.perplexity(-np.log(np.full(5, 1 / 50))), 50)  # as if choosing among 50
    assert metrics.perplexity(np.zeros(4)) == 1
    assert metrics.perplexity([0.1, np.inf]) == np.inf


# --- the character network -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_4_3_4_network_learns_hell_to_ello_with_plain_sgd(seed: int) -> None:
    letters = "helo"
    x = np.eye(4)[[letters.index(letter) for letter in "hell"]][None]
    targets = np.array([[letters.index(letter) for letter in "ello"]])
    rnn = RNN(4, 3, dtype="float64", random_state=seed)
    out = Linear(3, 4, dtype="float64", random_state=seed)
    network = Sequential(rnn, out)
    sgd = optim.SGD([network], learning_rate=0.1)
    history = []
    for _ in range(2000):
        logits, _, backward = network.forward(x)
        loss, dlogits = losses.softmax_cross_entropy(logits, targets, reduction="sum")
        network.zero_grad()
        backward(dlogits)
        sgd.step()
        history.append(loss)
    y, _ = network(x)
    assert "".join(letters[k] for k in y[0].argmax(axis=1)) == "ello"
    assert history[0] > 3 and history[-1] < 0.1
    # x alone does not tell the two l apart: what comes after each is in h
    assert np.abs(y[0, 2] - y[0, 3]).max() > 1


# --- directions and layers -----------------------------------------------------------------------


def rnn_by_hand(layer: Any, x: np.ndarray, end: str) -> np.ndarray:
    ((U, W, b),) = blocks(layer, "h", end)
    return steps_of(lambda x_t, h: (np.tanh(W @ h + U @ x_t + b),), x, np.zeros(H))


def test_bidirectional_as_wired_by_hand(rng: np.random.Generator) -> None:
    layer = make(RNN, bidirectional=True)
    x = rng.standard_normal((N, T, D))
    y, h_T = layer(x)
    for n in range(N):
        there = rnn_by_hand(layer, x[n], "l0")
        back = rnn_by_hand(layer, x[n, ::-1], "l0_reverse")[::-1]
        close(y[n], np.hstack([there, back]))
        close(h_T[:, n], [there[-1], back[0]])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_multilayer_as_wired_by_hand(bidirectional: bool, rng: np.random.Generator) -> None:
    layer = make(RNN, D, H, 3, bidirectional=bidirectional)
    x = rng.standard_normal((N, T, D))
    y, _ = layer(x)
    for n in range(N):
        h = x[n]
        for k in range(3):
            below = h
            h = rnn_by_hand(layer, below, f"l{k}")
            if bidirectional:
                back = rnn_by_hand(layer, below[::-1], f"l{k}_reverse")[::-1]
                h = np.hstack([h, back])
        close(y[n], h)


# --- gradient flow -------------------------------------------------------------------------------


def with_radius(layer: Any, radius: float) -> Any:
    """The same layer, the spectral radius of its recurrent matrix set."""
    W = layer.params["weight_hh_l0"]
    W *= radius / np.abs(np.linalg.eigvals(W)).max()
    return layer


def first_over_last(layer: Any, x: np.ndarray) -> float:
    """|dL/dh_1| / |dL/dh_T|, for a loss in the last step alone."""
    norms = fastrnn.gradient_flow(layer, x)["l0"]
    return float(norms[0] / norms[-1])


@pytest.mark.parametrize("seed", range(3))
def test_gradients_vanish_survive_and_explode(seed: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 100, D))
    options = {"dtype": "float64", "random_state": seed}
    assert first_over_last(with_radius(RNN(D, 32, **options), 0.8), x) < 1e-6
    assert first_over_last(LSTM(D, 32, forget_bias=5.0, **options), x) > 1e-2
    # 1e-25 grows to 1e-25 * 1.5^100 = 4e-8, where tanh is still a straight line
    assert first_over_last(with_radius(RNN(D, 32, bias=False, **options), 1.5), 1e-25 * x) > 1e3


def test_gradient_flow_is_the_product_of_jacobians(rng: np.random.Generator) -> None:
    layer = with_radius(make(RNN), 0.8)
    _, W, _ = next(blocks(layer, "h"))
    x = rng.standard_normal((1, 100, D))
    h = layer(x)[0][0]
    dh, expected = np.ones(H), []
    for t in reversed(range(100)):
        expected.append(np.linalg.norm(dh))
        dh = dh @ np.diag(1 - h[t] ** 2) @ W
    found = fastrnn.gradient_flow(layer, x)["l0"]
    np.testing.assert_allclose(found, expected[::-1], rtol=1e-11)


def test_clipping_bounds_what_explodes(rng: np.random.Generator) -> None:
    layer = with_radius(RNN(D, 32, dtype="float64", random_state=0), 1.5)
    for name in ("bias_ih_l0", "bias_hh_l0"):
        layer.params[name][...] = 0
    y, _, backward = layer.forward(1e-25 * rng.standard_normal((4, 100, D)))
    dy = np.zeros(y.shape)
    dy[:, -1] = 1
    backward(dy)
    assert fastrnn.clip_grad_norm(layer, 5.0) > 1e3
    norm = np.sqrt(sum(np.sum(grad**2) for grad in layer.grads.values()))
    close(norm, 5.0)


# --- long memory ---------------------------------------------------------------------------------


def adding_problem(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n sequences of 100 pairs (number, mark), and the sum of the two marked numbers of each.

    Hochreiter and Schmidhuber (1997), section 5.4. One mark lies in either half; answering 1
    always has a mean squared error of 1/6.
    """
    x = np.zeros((n, 100, 2), np.float32)
    x[:, :, 0] = rng.random((n, 100))
    marked = rng.integers(0, 50, n), rng.integers(50, 100, n)
    for steps in marked:
        x[np.arange(n), steps, 1] = 1
    return x, sum(x[np.arange(n), steps, :1] for steps in marked)


def error_after_training(layer: Any, seed: int) -> float:
    out = Linear(32, 1, random_state=seed)
    adam = optim.Adam([layer, out], learning_rate=0.01)
    rng = np.random.default_rng(seed)
    for _ in range(2000):
        x, targets = adding_problem(rng, 50)
        y, _, backward = layer.forward(x)
        sums, backward_out = out.forward(y[:, -1])
        adam.zero_grad()
        dy = np.zeros_like(y)
        dy[:, -1] = backward_out(losses.squared_error(sums, targets)[1])
        backward(dy)
        fastrnn.clip_grad_norm([layer, out], 1.0)
        adam.step()
    x, targets = adding_problem(np.random.default_rng(99), 1000)
    return float(np.mean((out(layer(x)[0][:, -1]) - targets) ** 2))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_an_lstm_adds_over_100_steps_where_a_tanh_rnn_cannot(seed: int) -> None:
    assert error_after_training(LSTM(2, 32, forget_bias=1.0, random_state=seed), seed) < 0.01
    assert error_after_training(RNN(2, 32, random_state=seed), seed) > 0.1
