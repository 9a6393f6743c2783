"""A training step of a language model in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from bench.adapters import Candidate
from bench.adapters.pytorch import network
from bench.language_parts import CLIP, RATE, Model


def training(model: Model, inputs: np.ndarray, targets: np.ndarray) -> Candidate:
    """Embedding, LSTM, softmax cross entropy, clipping, SGD, with state carried between steps.

    Everything as PyTorch's own examples have it, but with steps first.
    """
    embedding = torch.nn.Embedding(model.embedding.num_embeddings, model.embedding.embedding_dim)
    rnn = network(model.rnn)
    output = torch.nn.Linear(model.output.in_features, model.output.out_features)
    modules = torch.nn.ModuleList([embedding, rnn, output])
    with torch.no_grad():
        embedding.weight.copy_(torch.from_numpy(np.array(model.embedding.params["weight"])))
        for name, parameter in output.named_parameters():
            parameter.copy_(torch.from_numpy(np.array(model.output.params[name])))
    optimizer = torch.optim.SGD(modules.parameters(), RATE)
    x = torch.from_numpy(np.ascontiguousarray(inputs.T))
    wanted = torch.from_numpy(np.ascontiguousarray(targets.T)).flatten()
    state: Any = None

    def call() -> torch.Tensor:
        nonlocal state
        optimizer.zero_grad()
        y, (h, c) = rnn(embedding(x), state)
        state = h.detach(), c.detach()
        loss = torch.nn.functional.cross_entropy(output(y).flatten(0, 1), wanted)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(modules.parameters(), CLIP)
        optimizer.step()
        return loss

    return Candidate(
        call,
        lambda loss: {
            "loss": np.array(loss.item()),
            "embedding": embedding.weight.detach().numpy(),
            **{name: p.detach().numpy() for name, p in rnn.named_parameters()},
            **{name: p.detach().numpy() for name, p in output.named_parameters()},
        },
    )
