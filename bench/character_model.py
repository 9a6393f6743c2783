"""A training step of a character model: embedding, 1 to 3 layers of LSTM, softmax, clip, SGD.

python -m bench.character_model --quick
"""

from __future__ import annotations

from bench.common import clean_process

clean_process()

from bench.language import compare  # noqa: E402
from bench.rows import options, show  # noqa: E402

WORK = "character_model"
CASES = [{"N": 50, "T": 50, "H": H, "L": L} for H in (128, 256, 512) for L in (1, 2, 3)]

if __name__ == "__main__":
    chosen = options(__doc__).parse_args()
    show(chosen, lambda: compare(WORK, 65, CASES[:1] if chosen.quick else CASES, chosen))
