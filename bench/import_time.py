"""What `import fastrnn` costs beyond NumPy's own import: time, memory, threads; and its size.

Fresh processes take turns; the medians are of their own clocks and of /proc/self/status.

python -m bench.import_time --quick
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from bench.common import clean_process

clean_process()

from bench.fresh import medians  # noqa: E402
from bench.installed import package_size  # noqa: E402
from bench.rows import options, show  # noqa: E402
from bench.targets import Row  # noqa: E402

NUMPY, OURS = "import numpy", "import fastrnn"
# Some of fastrnn is imported when it is first used.
LAYER = "import fastrnn; fastrnn.LSTM(8, 8)"


def rows(chosen: argparse.Namespace) -> Iterator[Row]:
    """One row."""
    turns = 3 if chosen.quick else 31
    numpy, ours, layer = medians({c: c for c in (NUMPY, OURS, LAYER)}, turns).values()
    measures = {
        "NumPy ms": numpy[0] * 1e3,
        "ms beyond NumPy": (ours[0] - numpy[0]) * 1e3,
        "with a layer": (layer[0] - numpy[0]) * 1e3,
        "MB beyond NumPy": (ours[1] - numpy[1]) / 1e6,
        "threads started": ours[2] - numpy[2],
        "package, MB": package_size() / 1e6,
    }
    yield Row("import_time", "import", {}, 1, {"fastrnn": ours[0]}, measures)


if __name__ == "__main__":
    chosen = options(__doc__).parse_args()
    show(chosen, lambda: rows(chosen))
