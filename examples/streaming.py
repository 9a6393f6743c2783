"""Serving: sequences that arrive step by step, from clients that come and go.

A stream holds the state of many sequences and a snapshot of the layer's weights. Whatever the
company, each client gets the very bits that one call on the whole sequence gives (with the packed
engine, the default on AVX2 and AVX-512).

    python examples/streaming.py
"""

from __future__ import annotations

import time

import numpy as np

import fastrnn

FEATURES, HIDDEN = 16, 64


def serve(lstm: fastrnn.LSTM, rng: np.random.Generator) -> list[bool]:
    """Let clients come and go for 200 steps; tell of each whether its bits were right."""
    stream = lstm.stream(batch_size=0)
    sent: list[list[np.ndarray]] = []  # of each client that is there
    received: list[list[np.ndarray]] = []
    right = []

    def leave(row: int) -> None:
        stream.drop(row)
        whole, _ = lstm([np.reshape(sent.pop(row), (-1, FEATURES))])
        right.append(np.array_equal(whole[0], np.reshape(received.pop(row), (-1, HIDDEN))))

    for _ in range(200):
        for _ in range(rng.poisson(0.3)):
            stream.add()
            sent.append([])
            received.append([])
        while sent and rng.random() < 0.2:
            leave(int(rng.integers(len(sent))))
        x = rng.standard_normal((len(sent), FEATURES)).astype(np.float32)
        for history, answers, row, answer in zip(sent, received, x, stream.step(x), strict=True):
            history.append(row)
            answers.append(answer.copy())
    while sent:
        leave(0)
    return right


def microseconds_per_step(lstm: fastrnn.LSTM, steps: int = 2000) -> float:
    """The median time of one step of one sequence, written into memory that is there."""
    stream = lstm.stream()
    x, out = np.zeros((1, FEATURES), np.float32), np.zeros((1, HIDDEN), np.float32)
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        stream.step(x, out=out)
        times.append(time.perf_counter() - start)
    return 1e6 * float(np.median(times))


if __name__ == "__main__":
    lstm = fastrnn.LSTM(FEATURES, HIDDEN, random_state=0)
    right = serve(lstm, np.random.default_rng(0))
    print(f"{sum(right)} of {len(right)} clients got the bits of a whole call")
    print(f"one step of one sequence: {microseconds_per_step(lstm):.0f} µs")
