"""One recurrent layer over whole sequences, without gradients, against PyTorch.

python bench/inference.py --quick
python bench/inference.py --cells lstm --shapes 50,512,512 --batches 32
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from common import clean_process

clean_process()

import torch  # noqa: E402
from pairs import Case, arguments, pair, print_pairs, random_rows, same  # noqa: E402

BATCHES = [1, 8, 32, 128]
SHAPES = [(100, 128, 256), (50, 256, 256), (50, 512, 512)]
QUICK = [(50, 256, 256)]


def calls(case: Case) -> dict[str, Callable[[], Any]]:
    """The candidates; each call runs the layer over all steps and answers all outputs."""
    ours, theirs = pair(case)
    x, x_torch = random_rows(case.N, case.T, case.D, seed=0)

    def call_ours() -> Any:
        y, _ = ours(x)
        return y

    @torch.inference_mode()
    def call_theirs() -> Any:
        y, _ = theirs(x_torch)
        return y

    same(f"{case}: y", call_ours(), call_theirs().numpy().transpose(1, 0, 2))
    return {"fastrnn": call_ours, "torch": call_theirs}


if __name__ == "__main__":
    print_pairs(arguments(__doc__, BATCHES, SHAPES, QUICK), calls, passes=1)
