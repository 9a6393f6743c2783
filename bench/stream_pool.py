"""Ten thousand live streams, of which some are ready at a time: the time to serve those.

Peers do the same by hand: a stream of each for itself, and onnxruntime with states gathered before
the call and scattered after it.

python -m bench.stream_pool --quick
python -m bench.stream_pool --batches 32 --units 128 --threads 1
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from bench.common import clean_process

clean_process()

import numpy as np  # noqa: E402

import fastrnn  # noqa: E402
from bench.adapters import Adapter, Candidate, Layer  # noqa: E402
from bench.layers import Case, compare, layer_options, peers  # noqa: E402
from bench.rows import show  # noqa: E402
from bench.targets import OURS, Row  # noqa: E402

BATCHES = [1, 32, 256]
TURNS = 100  # different choices of who is ready, one after the other


def candidates(case: Case, adapters: Mapping[str, Adapter]) -> dict[str, Candidate]:
    """Every way to serve the same streams in the same order."""
    layer, x = case.layer().prepare(), case.rows(case.D)[:, 0]
    rng = np.random.default_rng(1)
    ready = [rng.choice(chosen.live, case.N, replace=False) for _ in range(TURNS)]

    pool = fastrnn.StreamPool(layer, capacity=chosen.live)
    keys = pool.open(chosen.live)
    served = itertools.cycle(ready)
    found = {OURS: Candidate(lambda: pool.step(keys[next(served)], x), lambda y: {"y": y})}

    streams = [layer.stream() for _ in range(chosen.live)]
    alone = itertools.cycle(ready)

    def one_by_one() -> np.ndarray:
        return np.concatenate(
            [streams[i].step(x[n : n + 1]) for n, i in enumerate(next(alone).tolist())]
        )

    found[f"{OURS} alone"] = Candidate(one_by_one, lambda y: {"y": y})
    if "onnxruntime" in adapters:
        found["onnxruntime"] = by_hand(layer, x, ready)
    return found


def by_hand(layer: Layer, x: np.ndarray, ready: list[np.ndarray]) -> Candidate:
    """A session of a step, with states gathered for it and scattered after it."""
    from bench.adapters import onnx_runtime
    from bench.adapters.onnx_model import state_names

    running = onnx_runtime.session(layer, x.shape[0], 1, carried=True)
    names = state_names(layer)
    states = {n: np.zeros((1, chosen.live, layer.hidden_size), np.float32) for n in names}
    served = itertools.cycle(ready)

    def call() -> np.ndarray:
        rows = next(served)
        feed = {"x": x[None], **{f"{name}0": s.take(rows, axis=1) for name, s in states.items()}}
        last = running.run([f"{name}1" for name in names], feed)
        for state, new in zip(states.values(), last, strict=True):
            state[:, rows] = new
        h: np.ndarray = last[0][0]
        return h

    return Candidate(call, lambda h: {"y": h})


def rows() -> Iterator[Row]:
    """The usual ones, with what the states take and how many steps are served in a second."""
    cases = [
        Case(cell, N, 1, H, H)
        for cell in chosen.cells
        for H in chosen.units
        for N in chosen.batches
    ]
    for row in compare("stream_pool", chosen, adapters, candidates, 1, cases, calls=3):
        row.shape["live"] = chosen.live
        row.measures["steps/ms"] = row.shape["N"] / row.times[OURS] * 1e-3
        yield row


if __name__ == "__main__":
    parser = layer_options(__doc__, BATCHES, [], ["onnxruntime"], cells=["lstm"])
    parser.add_argument("--units", nargs="+", type=int, default=[128], metavar="H", help="also D")
    parser.add_argument("--live", type=int, default=10_000, help="streams that are open")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.batches, chosen.seconds, chosen.live = chosen.batches[:2], 0.05, 500
    adapters = peers(chosen)
    show(chosen, rows)
