"""Batches and layers of every kind, and all that a layer finds in one, to be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from test_gradients import CELLS

from fastrnn.engine.recurrence import twin_only
from fastrnn.layers.recurrent import Recurrent

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


@dataclass(frozen=True)
class Case:
    """One batch and the layer it goes through."""

    N: int
    T: int
    D: int
    H: int
    layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    form: str = "array"  # or "lengths" or "list"
    recurrent_dropout: float = 0.0
    seed: int = 0


# H on both sides of every vector width (2 to 16 lanes) and of a panel of four vectors
CASES = [
    Case(1, 1, 1, 1),
    Case(2, 3, 1, 2, form="lengths", layers=2),
    Case(3, 2, 2, 3, bidirectional=True),
    Case(5, 4, 3, 4, form="list", recurrent_dropout=0.4),
    Case(6, 3, 5, 5, bidirectional=True, form="lengths"),
    Case(7, 2, 4, 7, bias=False, layers=2),
    Case(4, 5, 9, 8, bidirectional=True, form="list", layers=2, recurrent_dropout=0.3),
    Case(13, 3, 7, 9, form="lengths", bias=False),
    Case(1, 9, 16, 15, layers=3),
    Case(12, 2, 17, 16, bidirectional=True, form="lengths", recurrent_dropout=0.5),
    Case(8, 4, 15, 17, form="list", bidirectional=True),
    Case(3, 6, 33, 31, form="lengths", layers=2),
    Case(25, 3, 2, 33, bidirectional=True, form="lengths"),
    Case(2, 4, 40, 63, layers=2, bidirectional=True),
    Case(6, 3, 64, 65, form="list"),
    Case(5, 3, 70, 130, form="lengths", bidirectional=True),
    Case(0, 3, 4, 5, bidirectional=True),
    Case(3, 0, 4, 5, bidirectional=True, layers=2),
    Case(0, 0, 4, 17, form="list"),
    Case(4, 3, 2, 8, form="none alive"),
]


def run(
    name: str, dtype: str, case: Case, device: str = "cpu", put: Callable[[Any], Any] | None = None
) -> dict[str, np.ndarray]:
    """All that a forward, its backward and a trace give, as flat arrays by name.

    `put` makes arrays of the device of NumPy's.
    """
    kind, own = CELLS[name]
    layer: Recurrent = kind(
        case.D,
        case.H,
        case.layers,
        bidirectional=case.bidirectional,
        bias=case.bias,
        recurrent_dropout=case.recurrent_dropout,
        dtype=dtype,
        random_state=case.seed,
        **own,
    )
    if put is not None:
        layer.to(device)
    put = put or np.asarray
    rng = np.random.default_rng(case.seed)
    lengths: Any = None
    x: Any = rng.standard_normal((case.N, case.T, case.D))
    dy: Any = rng.standard_normal((case.N, case.T, layer.output_size))
    if case.form == "lengths":
        lengths = rng.integers(0, case.T + 1, case.N)
    elif case.form == "none alive":
        lengths = np.zeros(case.N, np.int64)
    elif case.form == "list":
        ends = rng.integers(0, case.T + 1, case.N)
        x = [put(one[:k]) for one, k in zip(x, ends, strict=True)]
        dy = [put(one[:k]) for one, k in zip(dy, ends, strict=True)]
    if case.form != "list":
        x, dy = put(x), put(dy)
    K = layer.num_layers * layer.num_directions
    widths = [layer._state_width(label) for label in layer.cell.states]
    state, dlast = (
        tuple(put(rng.standard_normal((K, case.N, width))) for width in widths) for _ in range(2)
    )
    single = len(widths) == 1
    y, last, backward = layer.forward(x, state[0] if single else state, lengths)
    dx, dfirst = backward(dy, dlast[0] if single else dlast)
    found = {"y": y, "dx": dx}
    for k, label in enumerate(layer.cell.states):
        found[f"last {label}"] = last if single else last[k]
        found[f"d first {label}"] = dfirst if single else dfirst[k]
    found |= {f"d {key}": grad for key, grad in layer.grads.items()}
    plain, plain_state = layer(x, state[0] if single else state, lengths)
    found["y without dropout"] = plain
    found["last h without dropout"] = plain_state if single else plain_state[0]
    found |= {f"traced {key}": value for key, value in layer.trace(x, None, lengths).items()}
    return {key: flat(value) for key, value in found.items()}


def flat(container: Any) -> np.ndarray:
    """All values of a container, one after the other."""
    if isinstance(container, list):
        return np.concatenate([flat(one) for one in container] or [np.empty(0)])
    return np.array(container.get() if hasattr(container, "get") else container).ravel()


@cache
def expected(name: str, dtype: str, case: Case) -> dict[str, np.ndarray]:
    """What the twin finds."""
    with twin_only():
        return run(name, dtype, case)


def compare(name: str, dtype: str, case: Case, **where: Any) -> None:
    """What a layer finds, by default the native engine, against the twin."""
    found = run(name, dtype, case, **where)
    twins = expected(name, dtype, case)
    assert found.keys() == twins.keys()
    for key, value in twins.items():
        assert found[key].shape == value.shape
        if value.size:
            difference = np.abs(found[key] - value).max()
            largest = np.abs(value).max()
            assert difference <= TOLERANCE[dtype] * largest, f"{case}, {key}: {difference:.1e}"
