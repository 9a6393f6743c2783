"""The layers of a language model, for fastrnn and its peers to train alike."""

from __future__ import annotations

from dataclasses import dataclass

from fastrnn import LSTM, Embedding, Linear

RATE, CLIP = 0.1, 5.0


@dataclass(frozen=True)
class Model:
    """Embedding, LSTM, and the logits of the next symbol."""

    embedding: Embedding
    rnn: LSTM
    output: Linear


def make_model(symbols: int, H: int, L: int) -> Model:
    """A model whose embedding is as wide as its layers."""
    return Model(
        Embedding(symbols, H, random_state=0),
        LSTM(H, H, L, random_state=0),
        Linear(H, symbols, random_state=0),
    )
