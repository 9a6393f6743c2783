"""Attention of a batch's queries to its sources, without gradients and with all of them.

A projection of queries and keys belongs to the additive score. The sizes are those of translated
sentences, and of summaries of long texts.

python -m bench.attention --quick
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from bench.common import clean_process

clean_process()

import numpy as np  # noqa: E402

from bench.adapters import Arrays, Candidate, load  # noqa: E402
from bench.bounds import FORMULAS, Need  # noqa: E402
from bench.common import interleave  # noqa: E402
from bench.rows import check, make_row, options, set_threads, show  # noqa: E402
from bench.targets import OURS, Row  # noqa: E402
from fastrnn import Attention  # noqa: E402

KINDS = ["additive", "dot"]
SHAPES = [(64, 15, 15, 256), (16, 50, 200, 256)]
# Instructions of src/attention.h for a vector of units of an additive score, forward and backward,
# that only the units of fused multiply-adds can do: fused multiply-adds, products, and a quarter of
# a division.
SCORE = (3.5, 7.5)


@dataclass(frozen=True)
class Case:
    """A score and the size of its work."""

    kind: str
    N: int
    Tq: int
    Ts: int
    H: int

    @property
    def products(self) -> tuple[float, float]:
        """Operations of the products, forward and backward."""
        pair = 2.0 * self.N * self.Tq * self.Ts * self.H  # of all queries with all steps
        projections = 2.0 * self.N * (self.Tq + self.Ts) * self.H * self.H
        if self.kind == "dot":
            return 2 * pair, 4 * pair
        return pair + projections, 2 * pair + 2 * projections

    def need(self, backward: bool) -> Need:
        """What the machine has to do at least."""
        operations = sum(self.products[: 1 + backward])
        if self.kind == "additive":
            pairs = 2.0 * self.N * self.Tq * self.Ts * self.H
            exps = 2.0 * FORMULAS["float32"]["exp"] * self.N * (self.Tq + self.Ts) * self.H
            operations += pairs * sum(SCORE[: 1 + backward]) + exps
        return Need(operations)


def ours(layer: Attention, queries: np.ndarray, keys: np.ndarray, backward: bool) -> Candidate:
    """Our layer's call, or its two passes."""
    if not backward:
        return Candidate(lambda: layer(queries, keys)[0], lambda context: {"context": context})
    ones = np.ones((*queries.shape[:2], keys.shape[2]), queries.dtype)

    def call() -> tuple[np.ndarray, np.ndarray]:
        layer.zero_grad()
        _, _, back = layer.forward(queries, keys)
        dqueries, dkeys = back(ones)
        return dqueries, dkeys

    def arrays(answer: tuple[np.ndarray, np.ndarray]) -> Arrays:
        return {"dqueries": answer[0], "dkeys": answer[1], **layer.grads}

    return Candidate(call, arrays)


def candidates(case: Case, backward: bool) -> dict[str, Candidate]:
    """Ours and PyTorch's."""
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((case.N, case.Tq, case.H)).astype(np.float32)
    keys = rng.standard_normal((case.N, case.Ts, case.H)).astype(np.float32)
    queries *= 0.1  # scores of products that leave more than one step its weight
    layer = Attention(case.H, case.H, case.kind, random_state=0)
    found = {OURS: ours(layer, queries, keys, backward)}
    if "torch" in adapters:
        from bench.adapters.pytorch_attention import attention

        dcontext = np.ones_like(queries) if backward else None
        theirs = functools.partial(attention, layer, queries, keys, dcontext)
        found["torch"] = theirs()
        if case.kind == "dot":
            found["torch fused"] = theirs(fused=True)
    return found


def rows() -> Iterator[Row]:
    """All cases with either number of passes."""
    for threads in chosen.threads:
        set_threads(threads)
        for adapter in adapters.values():
            adapter.set_threads(threads)
        for case in cases:
            for backward in (False, True):
                found = candidates(case, backward)
                check(str(case), found)
                times = interleave({name: c.call for name, c in found.items()}, chosen.seconds)
                sizes = {name: getattr(case, name) for name in ("N", "Tq", "Ts", "H")}
                yield make_row(
                    "attention",
                    case.kind,
                    {**sizes, "backward": int(backward)},
                    threads,
                    times,
                    sum(case.products[: 1 + backward]),
                    need=case.need(backward),
                )


if __name__ == "__main__":
    chosen = options(__doc__).parse_args()
    cases = [Case(kind, *shape) for kind in KINDS for shape in SHAPES]
    if chosen.quick:
        chosen.seconds, cases = min(chosen.seconds, 0.1), cases[:1]
    adapters = load(["torch"])
    show(chosen, rows)
