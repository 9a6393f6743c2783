"""One sequence at a time through a prepared layer: what serving a request takes.

python -m bench.single_sequence --quick
python -m bench.single_sequence --cells gru --shapes 100,128,256 --threads 2
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bench.common import clean_process

clean_process()

from bench.adapters import Adapter, Candidate  # noqa: E402
from bench.layers import Case, cases, compare, inference, layer_options, peers  # noqa: E402
from bench.rows import BLAS, show, with_blas  # noqa: E402
from bench.targets import OURS, Row  # noqa: E402

SHAPES = [(100, 40, 128), (100, 128, 256), (50, 512, 512), (25, 1024, 1024)]
PEERS = ["torch", "onnxruntime", "openvino", "numpy"]
DEEP = (100, 80, 256)  # in two layers of two directions


def candidates(case: Case, adapters: Mapping[str, Adapter]) -> dict[str, Candidate]:
    """Every library over the same sequence."""
    layer, x = case.layer(), case.rows(case.D)
    found = {name: adapter.sequences(layer, x) for name, adapter in adapters.items()}
    layer.prepare()
    return {OURS: inference(layer, x), **found, BLAS: with_blas(inference(case.layer(), x))}


def rows() -> Iterator[Row]:
    """The usual ones, with the numbers of layers and directions."""
    for case in which:
        for row in compare("single_sequence", chosen, adapters, candidates, 1, [case]):
            row.shape.update(L=case.L, dirs=case.dirs)
            yield row


if __name__ == "__main__":
    parser = layer_options(__doc__, [1], SHAPES, PEERS, cells=["lstm", "gru"])
    parser.add_argument("--no-deep", action="store_true", help="without two layers, two directions")
    chosen = parser.parse_args()
    which = cases(chosen)
    if not chosen.no_deep and not chosen.quick:
        which += [Case(cell, 1, *DEEP, L=2, dirs=2) for cell in chosen.cells]
    adapters = peers(chosen)
    show(chosen, rows)
