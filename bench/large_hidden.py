"""A layer whose weights are larger than the second cache, few sequences, without gradients.

python -m bench.large_hidden --cells lstm --batches 20 --threads 2
"""

from __future__ import annotations

from bench.common import clean_process

clean_process()

from bench.inference import candidates  # noqa: E402
from bench.layers import compare, layer_options, peers  # noqa: E402
from bench.rows import show  # noqa: E402

PEERS = ["torch", "onnxruntime", "openvino", "numpy"]

if __name__ == "__main__":
    chosen = layer_options(__doc__, [20, 32], [(35, 1500, 1500)], PEERS).parse_args()
    adapters = peers(chosen)
    show(
        chosen,
        lambda: compare(
            "large_hidden", chosen, adapters, lambda c, a: candidates(c, a, chosen.dtype), passes=1
        ),
    )
