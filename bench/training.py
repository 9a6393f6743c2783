"""A training step of one recurrent layer, against PyTorch.

One step is the forward pass and every gradient, of parameters and input. Results are compared
before anything is timed.

Some rows: `python bench/training.py --cells lstm gru --shapes 35,650,650 --batches 20 --threads 2`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from common import clean_process

clean_process()

from pairs import Case, arguments, pair, print_pairs, random_rows, same  # noqa: E402

BATCHES = [20, 64, 128]
SHAPES = [
    (35, 200, 200),
    (35, 650, 650),
    (50, 128, 128),
    (50, 256, 256),
    (100, 512, 512),
    (28, 28, 128),
]
QUICK = [(35, 200, 200), (50, 256, 256)]


def steps(case: Case) -> dict[str, Callable[[], Any]]:
    """The candidates; each call does one step and leaves gradients where users find them."""
    ours, theirs = pair(case)
    x, x_torch = random_rows(case.N, case.T, case.D, seed=0)
    dy, dy_torch = random_rows(case.N, case.T, case.H, seed=1)
    x_torch.requires_grad_()

    def step_ours() -> Any:
        ours.zero_grad()
        _, _, backward = ours.forward(x)
        dx, _ = backward(dy)
        return dx

    def step_theirs() -> Any:
        theirs.zero_grad(set_to_none=True)
        x_torch.grad = None
        y, _ = theirs(x_torch)
        y.backward(dy_torch)
        return x_torch.grad

    dx, dx_torch = step_ours(), step_theirs()
    same(f"{case}: dx", dx, dx_torch.numpy().transpose(1, 0, 2))
    for name, parameter in theirs.named_parameters():
        assert parameter.grad is not None
        same(f"{case}: {name}", ours.grads[name], parameter.grad.numpy())
    return {"fastrnn": step_ours, "torch": step_theirs}


if __name__ == "__main__":
    print_pairs(arguments(__doc__, BATCHES, SHAPES, QUICK), steps, passes=3)
