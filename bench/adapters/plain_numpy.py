"""Plain NumPy, as one would write it: the input's product for all steps at once, then a loop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.adapters import Candidate, Layer
from fastrnn import GRU, LSTM

Weights = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
States = tuple[np.ndarray, ...]


def set_threads(threads: int) -> None:
    """Nothing to do: the threads of BLAS are limited for whole tables."""


def sigmoid(x: np.ndarray) -> np.ndarray:
    """The logistic function."""
    y: np.ndarray = 1 / (1 + np.exp(-x))
    return y


def lstm(sums: np.ndarray, R: np.ndarray, b: np.ndarray, states: States) -> States:
    """One step from the input's product, gates i f g o."""
    h, c = states
    i, f, g, o = np.split(sums + h @ R + b, 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru(sums: np.ndarray, R: np.ndarray, b: np.ndarray, states: States) -> States:
    """One step, gates r z n, the reset after the product."""
    (h,) = states
    r_in, z_in, n_in = np.split(sums, 3, axis=1)
    r_h, z_h, n_h = np.split(h @ R + b, 3, axis=1)
    z = sigmoid(z_in + z_h)
    n = np.tanh(n_in + sigmoid(r_in + r_h) * n_h)
    return (n + z * (h - n),)


def rnn(sums: np.ndarray, R: np.ndarray, b: np.ndarray, states: States) -> States:
    """One step, tanh."""
    return (np.tanh(sums + states[0] @ R + b),)


def formula(layer: Layer) -> Callable[[np.ndarray, np.ndarray, np.ndarray, States], States]:
    """The layer's cell."""
    return lstm if isinstance(layer, LSTM) else gru if isinstance(layer, GRU) else rnn


def weights(layer: Layer, suffix: str) -> Weights:
    """Both matrices as the products take them, and both biases, of one direction of one layer."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    W, R, b_in, b_h = (np.array(layer.params[name + suffix]) for name in names)
    return np.ascontiguousarray(W.T), np.ascontiguousarray(R.T), b_in, b_h


def walk(layer: Layer, suffix: str, x: np.ndarray) -> np.ndarray:
    """All steps of one direction; x is (T, N, D)."""
    W, R, b_in, b_h = weights(layer, suffix)
    one_step = formula(layer)
    T, N, _ = x.shape
    states = (np.zeros((N, layer.hidden_size), x.dtype),) * (2 if isinstance(layer, LSTM) else 1)
    sums = (x.reshape(T * N, -1) @ W + b_in).reshape(T, N, -1)
    y = np.empty((T, N, layer.hidden_size), x.dtype)
    for t in range(T):
        states = one_step(sums[t], R, b_h, states)
        y[t] = states[0]
    return y


def sequences(layer: Layer, x: np.ndarray) -> Candidate:
    """Inference of whole sequences, steps first."""
    x_first = np.ascontiguousarray(x.swapaxes(0, 1))

    def call() -> np.ndarray:
        y = x_first
        for index in range(layer.num_layers):
            found = [walk(layer, f"_l{index}", y)]
            if layer.bidirectional:
                found.append(walk(layer, f"_l{index}_reverse", y[::-1])[::-1])
            y = np.concatenate(found, axis=2) if layer.bidirectional else found[0]
        return y

    return Candidate(call, lambda y: {"y": y.swapaxes(0, 1)})


def step(layer: Layer, x: np.ndarray) -> Candidate:
    """A step of a stream."""
    W, R, b_in, b_h = weights(layer, "_l0")
    one_step = formula(layer)
    zeros = np.zeros((x.shape[0], layer.hidden_size), x.dtype)
    states: States = (zeros, zeros) if isinstance(layer, LSTM) else (zeros,)

    def call() -> np.ndarray:
        nonlocal states
        states = one_step(x @ W + b_in, R, b_h, states)
        return states[0]

    return Candidate(call, lambda y: {"y": y})
