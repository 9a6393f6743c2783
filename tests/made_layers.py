"""Small recurrent layers of every kind, and how their results are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_gradients import CELLS

from fastrnn.layers.recurrent import Recurrent

N, T, D, H = 4, 5, 3, 6
LENGTHS = [2, 0, 5, 3]

every_cell = pytest.mark.parametrize("name", CELLS)


def make(name: str = "lstm", **options: Any) -> Recurrent:
    kind, own = CELLS[name]
    return kind(D, H, **own, **({"dtype": "float64", "random_state": 1} | options))


def parts(state: Any) -> tuple[np.ndarray, ...]:
    return state if isinstance(state, tuple) else (state,)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
