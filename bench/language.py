"""A language model over the layers, as both of its scripts train it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bench.adapters import Candidate, load
from bench.bounds import FORMULAS, Need, cell_operations
from bench.common import interleave
from bench.language_parts import CLIP, RATE, Model, make_model
from bench.rows import BLAS, REPORTED, check, make_row, set_threads, with_blas
from bench.targets import OURS, Row
from fastrnn import Sequential, clip_grad_norm
from fastrnn.losses import linear_cross_entropy
from fastrnn.optim import SGD


def training(model: Model, inputs: np.ndarray, targets: np.ndarray) -> Candidate:
    """A training step with the state carried on; inputs and targets are (N, T)."""
    # In a Sequential the recurrent layer multiplies the vector of a symbol once.
    body = Sequential(model.embedding, model.rnn)
    optimizer = SGD([body, model.output], RATE)
    state: Any = None

    def call() -> float:
        nonlocal state
        optimizer.zero_grad()
        y, state, backward = body.forward(inputs, state)
        loss, loss_backward = linear_cross_entropy(model.output, y, targets)
        backward(loss_backward())
        clip_grad_norm([body, model.output], CLIP)
        optimizer.step()
        return float(loss)

    return Candidate(
        call,
        lambda loss: {
            "loss": np.array(loss),
            "embedding": model.embedding.params["weight"],
            **model.rnn.params,
            **model.output.params,
        },
    )


def need(symbols: int, distinct: int, N: int, T: int, H: int, L: int) -> Need:
    """What a step has to do at least, `distinct` of all symbols being among its inputs.

    The state is carried on, but no gradient reaches it. Once the norm of all gradients is known,
    they and the weights, of the embedding the rows in use, are read for the update.
    """
    layers = 4 * H * H * (L * N * (3 * T - 1) + 3 * ((L - 1) * N * T + distinct))
    formulas = N * T * (L * H * cell_operations("lstm") + 2 * symbols * FORMULAS["float32"]["exp"])
    parameters = 2 * L * 4 * H * H + symbols * H + distinct * H
    return Need(2.0 * (layers + 3 * N * T * H * symbols) + formulas, after=2 * 4 * parameters)


def compare(
    work: str, symbols: int, cases: Sequence[dict[str, int]], chosen: argparse.Namespace
) -> Iterator[Row]:
    """Rows of a script: cases have N, T, H and L."""
    torch = load(["torch"])
    for threads in chosen.threads:
        set_threads(threads)
        for adapter in torch.values():
            adapter.set_threads(threads)
        for case in cases:
            N, T, H, L = (case[name] for name in "NTHL")
            rng = np.random.default_rng(0)
            inputs, targets = rng.integers(symbols, size=(2, N, T))
            candidates = {OURS: training(make_model(symbols, H, L), inputs, targets)}
            if torch:
                from bench.adapters import pytorch_language

                twin = make_model(symbols, H, L)
                candidates["torch"] = pytorch_language.training(twin, inputs, targets)
                check(f"{work} {case}", candidates, calls=2)
            candidates[BLAS] = with_blas(training(make_model(symbols, H, L), inputs, targets))
            times = interleave(
                {name: c.call for name, c in candidates.items()}, chosen.seconds, rare=REPORTED
            )
            # Each layer has two matrices (4H, H); the first takes the vector of a symbol once.
            distinct = len(np.unique(inputs))
            forward = 2.0 * 4 * H * H * ((2 * L - 1) * N * T + distinct) + 2.0 * N * T * H * symbols
            least = need(symbols, distinct, **case)
            yield make_row(work, "lstm", case, threads, times, 3 * forward, need=least)
