"""One step of a stream, called from Python, the state carried from call to call.

python -m bench.streaming_step --quick
python -m bench.streaming_step --cells lstm --units 64 256 --threads 1
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

from bench.common import clean_process

clean_process()

import numpy as np  # noqa: E402

from bench.adapters import Adapter, Candidate  # noqa: E402
from bench.layers import Case, compare, layer_options, peers  # noqa: E402
from bench.rows import show  # noqa: E402
from bench.targets import OURS, Row  # noqa: E402

UNITS = [64, 256, 512, 1024]
PEERS = ["torch", "onnxruntime", "openvino", "numpy"]


def candidates(case: Case, adapters: Mapping[str, Adapter]) -> dict[str, Candidate]:
    """Every library over the same input, again and again."""
    layer, x = case.layer(), case.rows(case.D)[:, 0]
    stream, out = layer.stream(), np.empty((1, case.H), np.float32)
    found = {OURS: Candidate(functools.partial(stream.step, x, out), lambda y: {"y": y})}
    found |= {name: adapter.step(layer, x) for name, adapter in adapters.items()}
    if "onnxruntime" in adapters:
        from bench.adapters import onnx_runtime

        found["onnxruntime run()"] = onnx_runtime.step_by_run(layer, x)
    return found


def rows() -> Iterator[Row]:
    """The usual ones, with microseconds."""
    which = [Case(cell, 1, 1, H, H) for cell in chosen.cells for H in chosen.units]
    for row in compare("streaming_step", chosen, adapters, candidates, 1, which, calls=3):
        row.measures["µs"] = row.times[OURS] * 1e6
        yield row


if __name__ == "__main__":
    parser = layer_options(__doc__, [1], [], PEERS, cells=["lstm", "gru"])
    parser.add_argument("--units", nargs="+", type=int, default=UNITS, metavar="H", help="also D")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.units, chosen.seconds = chosen.units[:1], 0.1
    adapters = peers(chosen)
    show(chosen, rows)
