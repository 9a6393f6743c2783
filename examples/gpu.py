"""The same layers on a GPU: trained on CuPy arrays, saved, and served on the CPU.

The task: a running sum. The sequence is a row of random numbers, the target at each step the sum of
what has come so far. Needs CuPy and a CUDA device; without them it says so and trains on the CPU.

    python examples/gpu.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import fastrnn

HIDDEN, STEPS, SEQUENCES = 64, 40, 128


def device_at_hand() -> tuple[str, ModuleType]:
    """Where to train, and the namespace of the arrays there."""
    try:
        fastrnn.Linear(1, 1).to("cuda")
        import cupy
    except (ImportError, RuntimeError) as error:
        print(f"trains on the CPU: {error}")
        return "cpu", np
    return "cuda", cupy


def sums(xp: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    """Sequences (N, T, 1) and what is to be said of them, on the device."""
    x = rng.standard_normal((SEQUENCES, STEPS, 1), dtype=np.float32) * 0.3
    return xp.asarray(x), xp.asarray(x.cumsum(axis=1))


def main(steps: int = 300) -> float:
    """Train, move the layers to the CPU, and return the error there."""
    device, xp = device_at_hand()
    rng = np.random.default_rng(0)
    model = fastrnn.Sequential(
        fastrnn.LSTM(1, HIDDEN, random_state=0), fastrnn.Linear(HIDDEN, 1, random_state=0)
    )
    model.to(device)  # parameters and gradients; the optimizer's state follows
    adam = fastrnn.optim.Adam([model], learning_rate=3e-3)
    for step in range(1, steps + 1):
        x, target = sums(xp, rng)
        y, _, backward = model.forward(x)
        loss, dy = fastrnn.losses.squared_error(y, target)
        adam.zero_grad()
        backward(dy)
        fastrnn.clip_grad_norm([model], 1.0)
        adam.step()
        if step % max(1, steps // 5) == 0:
            print(f"step {step:4d} on {model.device}  error {loss:.4f}")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sums.safetensors"
        model.save(path)  # the same file wherever the parameters are
        served = fastrnn.load(path)  # on the CPU
    x, target = sums(np, np.random.default_rng(1))
    error = float(np.mean((served(x)[0] - target) ** 2))
    print(f"served on {served.device}: error {error:.4f}")
    return error


if __name__ == "__main__":
    main(20 if "--quick" in sys.argv else 300)
