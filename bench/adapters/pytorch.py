"""PyTorch with its own defaults, in its best layout, steps first."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from bench.adapters import Arrays, Candidate, Layer
from fastrnn import GRU, LSTM


def set_threads(threads: int) -> None:
    """Set the number for the whole process; PyTorch has no other."""
    torch.set_num_threads(threads)


def network(layer: Layer) -> torch.nn.RNNBase:
    """PyTorch's layer with the same weights."""
    kind: Any = torch.nn.RNN
    if isinstance(layer, LSTM):
        kind = torch.nn.LSTM
    elif isinstance(layer, GRU):
        kind = torch.nn.GRU
    theirs: torch.nn.RNNBase = kind(
        layer.input_size,
        layer.hidden_size,
        layer.num_layers,
        bidirectional=layer.bidirectional,
        dtype=getattr(torch, layer.dtype.name),
    )
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(torch.from_numpy(np.array(layer.params[name])))
    return theirs


def steps_first(x: np.ndarray) -> torch.Tensor:
    """An (N, T, ...) array as a tensor (T, N, ...)."""
    return torch.from_numpy(np.ascontiguousarray(x.swapaxes(0, 1)))


def sequences_first(y: torch.Tensor) -> np.ndarray:
    """A tensor (T, N, ...) as an (N, T, ...) array."""
    array: np.ndarray = y.detach().numpy().swapaxes(0, 1)
    return array


def sequences(layer: Layer, x: np.ndarray) -> Candidate:
    """Inference of whole sequences."""
    theirs, x_torch = network(layer).eval(), steps_first(x)

    @torch.inference_mode()
    def call() -> torch.Tensor:
        y: torch.Tensor = theirs(x_torch)[0]
        return y

    return Candidate(call, lambda y: {"y": sequences_first(y)})


def step(layer: Layer, x: np.ndarray) -> Candidate:
    """A step of a stream."""
    theirs, x_torch = network(layer).eval(), torch.from_numpy(x[None])
    state: Any = None

    @torch.inference_mode()
    def call() -> torch.Tensor:
        nonlocal state
        y: torch.Tensor
        y, state = theirs(x_torch, state)
        return y

    return Candidate(call, lambda y: {"y": y.numpy()[0]})


def training(layer: Layer, x: np.ndarray, dy: np.ndarray) -> Candidate:
    """Forward and all gradients, that of the input among them."""
    theirs, x_torch, dy_torch = network(layer), steps_first(x), steps_first(dy)
    x_torch.requires_grad_()

    def call() -> torch.Tensor | None:
        theirs.zero_grad(set_to_none=True)
        x_torch.grad = None
        y, _ = theirs(x_torch)
        y.backward(dy_torch)
        return x_torch.grad

    return Candidate(call, lambda dx: {"dx": sequences_first(dx), **gradients(theirs)})


def gradients(module: torch.nn.Module) -> Arrays:
    """Copies of all gradients by the parameters' names."""
    found = {}
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        found[name] = parameter.grad.numpy().copy()
    return found
