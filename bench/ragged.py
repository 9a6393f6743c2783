"""Batches of sequences of many lengths, uniform in T/4..T, without gradients and with them.

A real step of theirs is compared with a step of a batch in which all sequences have T steps, and
the whole with PyTorch's two ways: all sequences padded to T and masked, and packed.

python -m bench.ragged --quick
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.common import clean_process

clean_process()

import numpy as np  # noqa: E402

from bench.adapters import Candidate  # noqa: E402
from bench.common import interleave  # noqa: E402
from bench.layers import Case, cases, inference, layer_options, peers, training  # noqa: E402
from bench.rows import check, make_row, set_threads, show  # noqa: E402
from bench.targets import OURS, Row  # noqa: E402

SHAPES = [(100, 256, 256), (400, 256, 256)]
DENSE = "fastrnn dense"


def candidates(case: Case, lengths: np.ndarray, backward: bool) -> dict[str, Candidate]:
    """Ours over the real steps, ours over all, and PyTorch's two ways."""
    layer, x = case.layer(), case.rows(case.D)
    real = np.arange(case.T) < lengths[:, None]
    dense_dy = case.rows(case.H, seed=1)
    dy = dense_dy * real[:, :, None]
    if backward:
        found = {OURS: training(layer, x, dy, lengths)}
        dense = training(case.layer(), x, dense_dy)
    else:
        found = {OURS: inference(layer, x, lengths)}
        dense = inference(case.layer(), x)
    if "torch" in adapters:
        from bench.adapters import pytorch_ragged

        for packed in (False, True):
            name = "torch packed" if packed else "torch masked"
            found[name] = pytorch_ragged.sequences(
                layer, x, lengths, dy if backward else None, packed
            )
    return {**found, DENSE: Candidate(dense.call, lambda _: {})}


def rows() -> Iterator[Row]:
    """All cases with either number of passes."""
    for threads in chosen.threads:
        set_threads(threads)
        for adapter in adapters.values():
            adapter.set_threads(threads)
        for case in cases(chosen):
            rng = np.random.default_rng(0)
            lengths = rng.integers(case.T // 4, case.T + 1, case.N)
            share = float(lengths.mean()) / case.T
            for backward in (0, 1):
                found = candidates(case, lengths, bool(backward))
                check(str(case), found)
                calls = {name: c.call for name, c in found.items()}
                times = interleave(calls, chosen.seconds, rare=["torch packed"])
                operations = (1 + 2 * backward) * case.operations * share
                shape = {**case.shape, "backward": backward}
                row = make_row("ragged", case.cell, shape, threads, times, operations)
                row.measures["step / dense step"] = 1 / (row.measures[DENSE] * share)
                yield row


if __name__ == "__main__":
    parser = layer_options(__doc__, [32], SHAPES, ["torch"], cells=["lstm", "gru"])
    chosen = parser.parse_args()
    adapters = peers(chosen)
    show(chosen, rows)
