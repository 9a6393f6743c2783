"""One recurrent layer over batches of whole sequences, without gradients.

python -m bench.inference --quick
python -m bench.inference --cells lstm --shapes 50,512,512 --batches 32 --threads 2
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.common import clean_process

clean_process()

from bench.adapters import Adapter, Candidate  # noqa: E402
from bench.layers import Case, compare, inference, layer_options, peers  # noqa: E402
from bench.rows import BLAS, show, with_blas  # noqa: E402
from bench.targets import OURS  # noqa: E402

BATCHES = [8, 32, 64, 256]
SHAPES = [(50, 128, 128), (50, 256, 256), (50, 512, 512), (35, 650, 650)]
PEERS = ["torch", "onnxruntime", "openvino", "numpy"]


def candidates(
    case: Case, adapters: Mapping[str, Adapter], dtype: str = "float32"
) -> dict[str, Candidate]:
    """Every library over the same sequences."""
    layer, x = case.layer(dtype), case.rows(case.D, dtype)
    return {
        OURS: inference(layer, x),
        **{name: adapter.sequences(layer, x) for name, adapter in adapters.items()},
        BLAS: with_blas(inference(case.layer(dtype), x)),
    }


if __name__ == "__main__":
    chosen = layer_options(__doc__, BATCHES, SHAPES, PEERS).parse_args()
    adapters = peers(chosen)
    show(
        chosen,
        lambda: compare(
            "inference", chosen, adapters, lambda c, a: candidates(c, a, chosen.dtype), passes=1
        ),
    )
