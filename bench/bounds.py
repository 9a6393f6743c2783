"""The least time that the machine needs for a row, from counted work and measured limits.

Work is counted so that no way to compute the same can do with less: README.md here says what is
taken for granted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# What only the units of fused multiply-adds can do, in instructions per vector of results: fused
# multiply-adds, products, and a division as one. From src/vecmath.h; a test counts them.
FORMULAS = {
    "float32": {"sigmoid": 11, "tanh": 10, "exp": 9},
    "float64": {"sigmoid": 16, "tanh": 15, "exp": 14},
}
# Forward, for each unit: sigmoids, hyperbolic tangents, and products between gates and states.
CELLS = {"lstm": (3, 2, 3), "gru": (2, 1, 2), "rnn": (0, 1, 0)}


def cell_operations(cell: str, dtype: str = "float32") -> float:
    """Operations of a cell's formula for one unit of one step, two for each instruction."""
    sigmoids, tangents, products = CELLS[cell]
    cost = FORMULAS[dtype]
    return 2.0 * (sigmoids * cost["sigmoid"] + tangents * cost["tanh"] + products)


@dataclass(frozen=True)
class Need:
    """What one call needs at least.

    Parameters
    ----------
    operations : float
        Of products and formulas, for the units of fused multiply-adds.
    weights : int
        Bytes that are read again and again.
    reads : float
        Bytes that are read of them in all.
    after : int
        Bytes that are read once everything else is done.
    """

    operations: float
    weights: int = 0
    reads: float = 0
    after: int = 0

    def seconds(self, peak: float, bandwidth: Callable[[int], float]) -> float:
        """The least time, given operations per second and bytes per second by how many they are.

        Operations and reading may overlap, so that the longer counts; what is left after them may
        not.
        """
        least = self.operations / peak
        if self.weights:
            least = max(least, self.reads / bandwidth(self.weights))
        return least + (self.after / bandwidth(self.after) if self.after else 0)
