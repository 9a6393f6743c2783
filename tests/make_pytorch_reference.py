"""Write tests/data/pytorch.npz: what PyTorch computes, for where it is not installed.

Run it with PyTorch in the environment: ``python tests/make_pytorch_reference.py``. The same
function that makes the file's numbers makes those of the live comparison in test_pytorch.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "data" / "pytorch.npz"

# name: PyTorch's class, its arguments, lengths or None
CASES: dict[str, tuple[str, dict[str, Any], list[int] | None]] = {
    "rnn_tanh": ("RNN", {"nonlinearity": "tanh", "num_layers": 2}, None),
    "rnn_relu": ("RNN", {"nonlinearity": "relu", "bidirectional": True}, [3, 6, 1]),
    "lstm": ("LSTM", {"num_layers": 2, "bidirectional": True}, [3, 6, 1]),
    "lstm_one": ("LSTM", {"bias": False}, None),
    "lstm_projected": ("LSTM", {"proj_size": 3, "num_layers": 2, "bidirectional": True}, None),
    "gru_after": ("GRU", {"num_layers": 2, "bidirectional": True}, [3, 6, 1]),
}


def compute(
    kind: str,
    options: dict[str, Any],
    lengths: list[int] | None,
    *,
    N: int = 3,
    T: int = 6,
    D: int = 4,
    H: int = 5,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Run a PyTorch layer forward and backward in float64, from random values for everything.

    Returns
    -------
    dict of str to ndarray
        ``x``, ``dy``, ``h0``, ``dh`` (gradient in the last h), for LSTM ``c0`` and ``dc``,
        parameters under ``param.NAME``; results ``y``, ``h``, ``c``; gradients ``grad.x``,
        ``grad.h0``, ``grad.c0``, ``grad.NAME``.
    """
    import torch

    torch.set_num_threads(1)  # so small that more only wait for each other
    rng = np.random.default_rng(seed)

    def random(*shape: int) -> Any:
        return torch.tensor(rng.standard_normal(shape), dtype=torch.float64)

    layer = getattr(torch.nn, kind)(D, H, batch_first=True, dtype=torch.float64, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            # of spectral radius about 1: chaos would magnify float32's rounding without bound
            parameter[...] = H**-0.5 * random(*parameter.shape)
    dirs = 2 if options.get("bidirectional") else 1
    K, S = options.get("num_layers", 1) * dirs, options.get("proj_size") or H
    x, dy = random(N, T, D).requires_grad_(), random(N, T, dirs * S)
    first, dlast = [random(K, N, S).requires_grad_()], [random(K, N, S)]
    if kind == "LSTM":
        first.append(random(K, N, H).requires_grad_())
        dlast.append(random(K, N, H))
    state = tuple(first) if kind == "LSTM" else first[0]
    if lengths is None:
        y, last = layer(x, state)
    else:
        rnn = torch.nn.utils.rnn
        packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        packed, last = layer(packed, state)
        y = rnn.pad_packed_sequence(packed, batch_first=True, total_length=T)[0]
    lasts = last if kind == "LSTM" else (last,)
    loss = (y * dy).sum()
    for part, gradient in zip(lasts, dlast, strict=True):
        loss = loss + (part * gradient).sum()
    loss.backward()
    found = {"x": x, "dy": dy, "y": y, "grad.x": x.grad}
    for name, initial, final, gradient in zip("hc", first, lasts, dlast, strict=False):
        found |= {f"{name}0": initial, name: final, f"d{name}": gradient}
        found[f"grad.{name}0"] = initial.grad
    for name, parameter in layer.named_parameters():
        found |= {f"param.{name}": parameter, f"grad.{name}": parameter.grad}
    return {name: value.detach().numpy() for name, value in found.items()}


def main() -> None:
    """Compute all cases and write the file."""
    arrays = {}
    for seed, (case, arguments) in enumerate(CASES.items()):
        for name, value in compute(*arguments, seed=seed).items():
            arrays[f"{case}/{name}"] = value
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main()
