"""PyTorch's two ways to take sequences of many lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bench.adapters import Arrays, Candidate, Layer
from bench.adapters.pytorch import gradients, network, sequences_first, steps_first


def sequences(
    layer: Layer, x: np.ndarray, lengths: np.ndarray, dy: np.ndarray | None, packed: bool
) -> Candidate:
    """A pass over x (N, T, D), with all gradients where `dy` is given, its padding zero.

    Parameters
    ----------
    layer : Layer
    x, dy : array (N, T, D) and (N, T, units)
    lengths : array (N,)
    packed : bool
        Whether the padding is packed away, or computed and then masked.
    """
    theirs, x_torch = network(layer), steps_first(x)
    steps = torch.arange(x.shape[1])[:, None, None]
    mask = (steps < torch.from_numpy(lengths)[None, :, None]).to(x_torch.dtype)
    counts = torch.from_numpy(lengths)

    def forward() -> torch.Tensor:
        if packed:
            rows = pack_padded_sequence(x_torch, counts, enforce_sorted=False)
            y, _ = pad_packed_sequence(theirs(rows)[0], total_length=x.shape[1])
            return y
        masked: torch.Tensor = theirs(x_torch)[0] * mask
        return masked

    if dy is None:
        return Candidate(torch.inference_mode()(forward), lambda y: {"y": sequences_first(y)})
    dy_torch = steps_first(dy)
    x_torch.requires_grad_()

    def call() -> Any:
        theirs.zero_grad(set_to_none=True)
        x_torch.grad = None
        torch.autograd.backward(forward(), dy_torch)
        return x_torch.grad

    def arrays(dx: torch.Tensor) -> Arrays:
        return {"dx": sequences_first(dx), **gradients(theirs)}

    return Candidate(call, arrays)
