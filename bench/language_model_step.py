"""A whole step of a word language model: embedding, 2-layer LSTM, 10,000-way softmax, clip, SGD.

The shapes are those of the Penn Treebank models of Zaremba, Sutskever and Vinyals,
arXiv:1409.2329. Inputs are random: no time here depends on what they say but for how many distinct
words there are.

python -m bench.language_model_step --quick
"""

from __future__ import annotations

from bench.common import clean_process

clean_process()

from bench.language import compare  # noqa: E402
from bench.rows import options, show  # noqa: E402

WORK = "language_model_step"
CASES = [{"N": 20, "T": T, "H": H, "L": 2} for H in (200, 650) for T in (20, 35)]

if __name__ == "__main__":
    parser = options(__doc__)
    parser.set_defaults(threads=[2])
    chosen = parser.parse_args()
    show(chosen, lambda: compare(WORK, 10_000, CASES[:1] if chosen.quick else CASES, chosen))
