"""Tokens to vectors in PyTorch, from the weights of one of `fastrnn.text.encoders`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from bench.adapters import pytorch
from fastrnn.sequences.network import pad
from fastrnn.text.encoders import SpellingEncoder, TokenEncoder

__all__ = ["Tokens"]

Tensor = torch.Tensor


class Tokens(nn.Module):
    """Vectors of tokens, beside the last states over their characters where they are spelled."""

    def __init__(self, encoder: TokenEncoder) -> None:
        super().__init__()
        if encoder.masks:
            raise ValueError("encoder: expected one without dropout and unknown tokens")
        self.embedding = _embedding(encoder.embedding)
        self.spells = isinstance(encoder, SpellingEncoder)
        if self.spells:
            self.characters = _embedding(encoder.layers["char_embedding"])
            self.rnn = pytorch.network(encoder.layers["char_rnn"])
            self.rnn.batch_first = True

    def forward(self, items: Any) -> tuple[Tensor, Tensor]:
        """Vectors (N, T, D), zero in padding but for the words' own, and lengths (N,)."""
        ids, lengths = pad([item.ids for item in items] if self.spells else items)
        x = self.embedding(torch.from_numpy(ids))
        if self.spells:
            words = np.concatenate([item.numbers for item in items])
            letters, counts = pad([items[0].spellings[i] for i in words])
            packed = nn.utils.rnn.pack_padded_sequence(
                self.characters(torch.from_numpy(letters)), torch.from_numpy(counts),
                batch_first=True, enforce_sorted=False,
            )  # fmt: skip
            _, (h, _) = self.rnn(packed)
            spelled = x.new_zeros(*x.shape[:2], 2 * h.shape[2])
            real = torch.arange(x.shape[1]) < torch.from_numpy(lengths)[:, None]
            spelled[real] = torch.cat([h[0], h[1]], dim=1)
            x = torch.cat([x, spelled], dim=2)
        return x, torch.from_numpy(lengths)


def _embedding(layer: Any) -> nn.Embedding:
    weight = torch.from_numpy(np.array(layer.params["weight"]))
    made: nn.Embedding = nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
        weight, freeze=False
    )
    return made
