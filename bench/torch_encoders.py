"""Tokens to vectors in PyTorch, from the weights of one of `fastrnn.text.encoders`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from bench.adapters import pytorch
from fastrnn.sequences.network import pad
from fastrnn.text.encoders import SpellingEncoder, TokenEncoder, Unknowns
from fastrnn.text.vocabulary import Vocabulary

__all__ = ["Tokens", "dropout"]

Tensor = torch.Tensor


def dropout(ours: Any) -> nn.Module:
    """PyTorch's dropout of the same probability, with masks of its own."""
    return nn.Identity() if ours is None else nn.Dropout(ours.p)


class Unknown(nn.Module):
    """Tokens, some of them read as unknown, by the probabilities of ours."""

    def __init__(self, ours: Unknowns) -> None:
        super().__init__()
        self.p = torch.from_numpy(ours.p).float()

    def forward(self, ids: Tensor) -> Tensor:
        """The tokens (N, T)."""
        if not self.training:
            return ids
        return torch.where(torch.rand(ids.shape) < self.p[ids], Vocabulary.UNKNOWN, ids)


class Tokens(nn.Module):
    """Vectors of tokens, beside the last states over their characters where they are spelled."""

    def __init__(self, encoder: TokenEncoder) -> None:
        super().__init__()
        unknowns = encoder.unknowns
        self.unknowns = nn.Identity() if unknowns is None else Unknown(unknowns)
        self.drop = dropout(encoder.drop)
        self.embedding = _embedding(encoder.embedding)
        self.spells = isinstance(encoder, SpellingEncoder)
        if self.spells:
            self.characters = _embedding(encoder.layers["char_embedding"])
            self.rnn = pytorch.network(encoder.layers["char_rnn"])
            self.rnn.batch_first = True

    def forward(self, items: Any) -> tuple[Tensor, Tensor]:
        """Vectors (N, T, D), zero in padding but for the words' own, and lengths (N,)."""
        ids, lengths = pad([item.ids for item in items] if self.spells else items)
        x = self.embedding(self.unknowns(torch.from_numpy(ids)))
        if self.spells:
            words = np.concatenate([item.numbers for item in items])
            used, which = np.unique(words, return_inverse=True)
            spelled = x.new_zeros(*x.shape[:2], 2 * self.rnn.hidden_size)
            real = torch.arange(x.shape[1]) < torch.from_numpy(lengths)[:, None]
            spelled[real] = self._read([items[0].spellings[i] for i in used])[which]
            x = torch.cat([x, spelled], dim=2)
        return self.drop(x), torch.from_numpy(lengths)

    def _read(self, spellings: Any) -> Tensor:
        """The last states of both directions over each spelling: (U, 2 H)."""
        letters, counts = pad(spellings)
        packed = nn.utils.rnn.pack_padded_sequence(
            self.characters(torch.from_numpy(letters)), torch.from_numpy(counts),
            batch_first=True, enforce_sorted=False,
        )  # fmt: skip
        _, (h, _) = self.rnn(packed)
        return torch.cat([h[0], h[1]], dim=1)


def _embedding(layer: Any) -> nn.Embedding:
    weight = torch.from_numpy(np.array(layer.params["weight"]))
    made: nn.Embedding = nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
        weight, freeze=False
    )
    return made
