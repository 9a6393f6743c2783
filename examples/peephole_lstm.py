"""A cell of your own: the LSTM whose gates see the cell, from its formulas alone.

    i = sigmoid(W_i x + U_i h + p_i * c)            c_next = f * c + i * g
    f = sigmoid(W_f x + U_f h + p_f * c)            o = sigmoid(W_o x + U_o h + p_o * c_next)
    g = tanh(W_g x + U_g h)                         h_next = o * tanh(c_next)

F. Gers and J. Schmidhuber, "Recurrent nets that time and count", IJCNN 2000. A formula forward, one
backward, and the names of what they use: registered, they make a layer with everything that LSTM
has. This example prints how far its gradients are from finite differences, and then lets it learn
to count.

    python examples/peephole_lstm.py
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastrnn
from fastrnn.cells import Cell, Stage, Values, sigmoid


def peephole(xp: Any, v: Values) -> None:
    """Turn the sums in v.i, v.f, v.g, v.o into gates, and step from v.h, v.c to the next."""
    v.i = sigmoid(xp, v.i + v.peephole_i * v.c)
    v.f = sigmoid(xp, v.f + v.peephole_f * v.c)
    v.g = xp.tanh(v.g)
    v.c_next = v.f * v.c + v.i * v.g
    v.o = sigmoid(xp, v.o + v.peephole_o * v.c_next)
    v.tanh_c = xp.tanh(v.c_next)
    v.h_next = v.o * v.tanh_c


def peephole_backward(xp: Any, v: Values, d: Values) -> None:
    """From d.h_next and d.c_next find the gradients of the four sums, of c and of the peepholes."""
    d.o = d.h_next * v.tanh_c * v.o * (1 - v.o)
    dc = d.c_next + d.h_next * v.o * (1 - v.tanh_c**2) + d.o * v.peephole_o
    d.i = dc * v.g * v.i * (1 - v.i)
    d.f = dc * v.c * v.f * (1 - v.f)
    d.g = dc * v.i * (1 - v.g**2)
    d.c = dc * v.f + d.i * v.peephole_i + d.f * v.peephole_f
    d.peephole_i, d.peephole_f, d.peephole_o = d.i * v.c, d.f * v.c, d.o * v.c_next


PeepholeLSTM = fastrnn.register_cell(
    Cell(
        "PeepholeLSTM",
        (Stage(("i", "f", "g", "o"), peephole, peephole_backward),),
        states=("h", "c"),
        vectors=("peephole_i", "peephole_f", "peephole_o"),
    )
)


def check_gradients() -> None:
    """Print the relative error of every gradient, for both directions and unequal lengths."""
    rng = np.random.default_rng(0)
    layer = PeepholeLSTM(2, 3, bidirectional=True, dtype="float64", random_state=0)
    ragged = [rng.standard_normal((steps, 2)) for steps in (3, 0, 4)]
    state = tuple(rng.standard_normal((2, 3, 3)) for _ in range(2))
    errors = fastrnn.gradient_check(layer, ragged, state)
    for name, error in errors.items():
        print(f"{name:24s} {error:.1e}")
    print(f"largest of {len(errors)} relative errors: {max(errors.values()):.1e}")


def learn_to_count(interval: int = 5, steps: int = 300) -> list[float]:
    """Learn to answer every spike with one `interval` steps later; return the losses."""
    rng = np.random.default_rng(0)
    layer = PeepholeLSTM(1, 8, random_state=0)
    output = fastrnn.Linear(8, 1, random_state=0)
    adam = fastrnn.optim.Adam([layer, output], learning_rate=0.03)
    curve = []
    for _ in range(steps):
        x = np.zeros((20, 3 * interval, 1), np.float32)
        spikes = rng.integers(0, 2 * interval - 1, 20)
        x[np.arange(20), spikes] = 1
        target = np.roll(x, interval, axis=1)
        y, _, backward = layer.forward(x)
        logits, backward_output = output.forward(y)
        loss, dlogits = fastrnn.losses.binary_cross_entropy(logits, target)
        adam.zero_grad()
        backward(backward_output(dlogits))
        fastrnn.clip_grad_norm([layer, output], 1.0)
        adam.step()
        curve.append(loss)
    return curve


if __name__ == "__main__":
    check_gradients()
    curve = learn_to_count()
    print(f"counting to 5: loss {curve[0]:.3f} at first, {np.mean(curve[-10:]):.3f} at last")
