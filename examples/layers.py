"""Layers by hand: a training loop of your own over sequences of unequal length.

The task: of two marked letters in a sequence, which came first? A bidirectional GRU reads a list of
sequences, no padding anywhere; a linear layer judges by its final states alone, so that the
gradient enters backpropagation through time by `dstate`.

    python examples/layers.py
"""

from __future__ import annotations

import numpy as np

import fastrnn

LETTERS, HIDDEN = 6, 32


def draw(rng: np.random.Generator, n: int) -> tuple[list[np.ndarray], np.ndarray]:
    """N sequences of letters in which 0 and 1 stand once each, and which of them is first."""
    sequences = []
    for length in rng.integers(5, 60, n):
        letters = rng.integers(2, LETTERS, length)
        letters[rng.choice(length, 2, replace=False)] = rng.permutation(2)
        sequences.append(letters)
    return sequences, np.array([letters[letters < 2][0] for letters in sequences])


def main() -> float:
    """Train, print the accuracy as it grows, and return the last."""
    rng = np.random.default_rng(0)
    embedding = fastrnn.Embedding(LETTERS, 8, random_state=0)
    gru = fastrnn.GRU(8, HIDDEN, bidirectional=True, random_state=0)
    output = fastrnn.Linear(2 * HIDDEN, 2, random_state=0)
    layers = [embedding, gru, output]
    adam = fastrnn.optim.Adam(layers, learning_rate=0.01)
    test, first = draw(rng, 1000)
    print(f"{sum(layer.num_parameters for layer in layers)} parameters")

    for step in range(1, 61):
        sequences, targets = draw(rng, 32)

        vectors, embedding_backward = embedding.forward(sequences)  # a list (T_i, 8)
        _, state, gru_backward = gru.forward(vectors)  # (2, 32, HIDDEN): both directions' ends
        features = np.concatenate(list(state), axis=1)
        logits, output_backward = output.forward(features)
        loss, dlogits = fastrnn.losses.softmax_cross_entropy(logits, targets)

        adam.zero_grad()
        dfeatures = output_backward(dlogits)
        dstate = np.stack(np.split(dfeatures, 2, axis=1))
        dvectors, _ = gru_backward(None, dstate)
        embedding_backward(dvectors)
        norm = fastrnn.clip_grad_norm(layers, 1.0)
        adam.step()

        if step % 10 == 0:
            _, state = gru(embedding(test))
            answers = output(np.concatenate(list(state), axis=1)).argmax(axis=1)
            accuracy = float(np.mean(answers == first))
            print(f"step {step:2d}  loss {loss:.3f}  |g| {norm:.2f}  test accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    main()
