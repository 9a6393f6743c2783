"""GRU with the reset before the product, which is fastrnn's default, beside the reset after it.

The first needs two products of few columns in a row where the second needs one of more.

python -m bench.gru_reset_before --quick
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bench.common import clean_process

clean_process()

from bench.adapters import Adapter, Candidate  # noqa: E402
from bench.layers import Case, cases, compare, inference, layer_options, peers, training  # noqa: E402
from bench.rows import show  # noqa: E402
from bench.targets import OURS, Row  # noqa: E402
from fastrnn import GRU  # noqa: E402

BATCHES = [8, 64]
SHAPES = [(50, 128, 128), (50, 256, 256), (50, 512, 512)]
AFTER = "fastrnn reset after"


def layers(case: Case) -> tuple[GRU, GRU]:
    """One that resets before the product and one that resets after it."""
    before, after = (
        GRU(case.D, case.H, reset_after=reset_after, random_state=0)
        for reset_after in (False, True)
    )
    return before, after


def without_gradients(case: Case, adapters: Mapping[str, Adapter]) -> dict[str, Candidate]:
    """Both, and the libraries that can reset before the product."""
    (before, after), x = layers(case), case.rows(case.D)
    found = {name: adapter.sequences(before, x) for name, adapter in adapters.items()}
    return {OURS: inference(before, x), **found, AFTER: timed_only(inference(after, x))}


def with_gradients(case: Case, adapters: Mapping[str, Adapter]) -> dict[str, Candidate]:
    """Both; no peer trains with the reset before the product."""
    (before, after), x, dy = layers(case), case.rows(case.D), case.rows(case.H, seed=1)
    return {OURS: training(before, x, dy), AFTER: timed_only(training(after, x, dy))}


def timed_only(candidate: Candidate) -> Candidate:
    """Without results to compare: another formula gives others."""
    return Candidate(candidate.call, lambda _: {})


def rows() -> Iterator[Row]:
    """The usual ones without and with gradients, and the time over that of the reset after."""
    for backward, candidates in enumerate((without_gradients, with_gradients)):
        for row in compare(
            "gru_reset_before", chosen, adapters, candidates, 1 + 2 * backward, cases(chosen)
        ):
            row.shape["backward"] = backward
            row.measures.pop("bound", None)  # the target's ratio is one of two times of ours
            row.measures["time / reset after"] = 1 / row.measures[AFTER]
            yield row


if __name__ == "__main__":
    parser = layer_options(__doc__, BATCHES, SHAPES, ["onnxruntime", "openvino"], cells=["gru"])
    chosen = parser.parse_args()
    adapters = peers(chosen)
    show(chosen, rows)
