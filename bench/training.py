"""A training step of one recurrent layer: the forward pass and every gradient, also the input's.

python -m bench.training --quick
python -m bench.training --cells lstm gru --shapes 35,650,650 --batches 20 --threads 2
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.common import clean_process

clean_process()

from bench.adapters import Adapter, Candidate  # noqa: E402
from bench.layers import Case, compare, layer_options, peers, training  # noqa: E402
from bench.rows import BLAS, show, with_blas  # noqa: E402
from bench.targets import OURS  # noqa: E402

BATCHES = [20, 64, 128]
SHAPES = [
    (35, 200, 200),
    (35, 650, 650),
    (50, 128, 128),
    (50, 256, 256),
    (100, 512, 512),
    (28, 28, 128),
]


def candidates(case: Case, adapters: Mapping[str, Adapter], dtype: str) -> dict[str, Candidate]:
    """Every library that trains, with the same gradient of the output."""
    layer, x = case.layer(dtype), case.rows(case.D, dtype)
    dy = case.rows(case.H, dtype, seed=1)
    found = {OURS: training(layer, x, dy)}
    if "torch" in adapters:
        from bench.adapters import pytorch

        found["torch"] = pytorch.training(layer, x, dy)
    return {**found, BLAS: with_blas(training(case.layer(dtype), x, dy))}


if __name__ == "__main__":
    chosen = layer_options(__doc__, BATCHES, SHAPES, ["torch"]).parse_args()
    adapters = peers(chosen)
    show(
        chosen,
        lambda: compare(
            "training", chosen, adapters, lambda c, a: candidates(c, a, chosen.dtype), passes=3
        ),
    )
