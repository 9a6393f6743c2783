"""The scores of `fastrnn.Attention` in PyTorch's operations."""

from __future__ import annotations

import numpy as np
import torch

from bench.adapters import Arrays, Candidate
from fastrnn import Attention


def attention(
    layer: Attention,
    queries: np.ndarray,
    keys: np.ndarray,
    dcontext: np.ndarray | None,
    fused: bool = False,
) -> Candidate:
    """The contexts of all queries, with all gradients where `dcontext` is given.

    Parameters
    ----------
    layer : Attention
        Whose parameters are taken.
    queries, keys, dcontext : array (N, Tq, H), (N, Ts, H) and (N, Tq, H)
    fused : bool
        For products as scores: by scaled_dot_product_attention, which keeps no weights.
    """
    q, k = (torch.from_numpy(array.copy()).requires_grad_() for array in (queries, keys))
    p = {n: torch.from_numpy(array.copy()).requires_grad_() for n, array in layer.params.items()}

    def forward() -> torch.Tensor:
        if fused:
            return torch.nn.functional.scaled_dot_product_attention(q, k, k, scale=1.0)
        if layer.kind == "dot":
            scores = q @ k.transpose(1, 2)
        else:
            seen = torch.nn.functional.linear(k, p["weight_key"], p["bias"])
            asked = torch.nn.functional.linear(q, p["weight_query"])
            scores = (asked[:, :, None] + seen[:, None]).tanh_() @ p["weight_score"]
        context: torch.Tensor = torch.softmax(scores, dim=2) @ k
        return context

    if dcontext is None:
        return Candidate(torch.inference_mode()(forward), lambda c: {"context": c.numpy()})
    dcontext_torch = torch.from_numpy(dcontext)

    def call() -> None:
        for tensor in (q, k, *p.values()):
            tensor.grad = None
        torch.autograd.backward(forward(), dcontext_torch)

    def arrays(_: None) -> Arrays:
        found = {"dqueries": q, "dkeys": k, **p}
        return {name: t.grad.numpy() for name, t in found.items() if t.grad is not None}

    return Candidate(call, arrays)
