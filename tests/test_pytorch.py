"""Equal to PyTorch, forward and every gradient: live where it is installed, else from a file.

The file's numbers were made by make_pytorch_reference.py. Differences are measured against the
largest magnitude of each array.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from make_pytorch_reference import CASES, FILE, compute

import fastrnn
from fastrnn.engine.recurrence import twin_only

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}

both_dtypes = pytest.mark.parametrize("dtype", TOLERANCE)


def compare(
    case: dict[str, np.ndarray],
    kind: str,
    options: dict[str, Any],
    lengths: list[int] | None,
    dtype: str,
) -> None:
    """Run our layer on the case's values and compare all results with the case's."""
    if kind == "GRU":
        options = {**options, "reset_after": True}
    D, H = case["x"].shape[2], case["param.weight_hh_l0"].shape[0]
    H //= {"RNN": 1, "LSTM": 4, "GRU": 3}[kind]
    layer = getattr(fastrnn, kind)(D, H, dtype=dtype, **options)
    names = [name.removeprefix("param.") for name in case if name.startswith("param.")]
    assert list(layer.params) == names
    for name in names:
        layer.params[name][...] = case[f"param.{name}"]
    pair = kind == "LSTM"
    state = (case["h0"], case["c0"]) if pair else case["h0"]
    dlast = (case["dh"], case["dc"]) if pair else case["dh"]
    y, last, backward = layer.forward(case["x"], state, lengths)
    dx, dfirst = backward(case["dy"], dlast)
    found = {"y": y, "grad.x": dx}
    for k, name in enumerate("hc" if pair else "h"):
        found |= {name: last[k] if pair else last, f"grad.{name}0": dfirst[k] if pair else dfirst}
    found |= {f"grad.{name}": grad for name, grad in layer.grads.items()}
    given = {"x", "dy", "h0", "c0", "dh", "dc"}
    assert found.keys() == {n for n in case if n not in given and not n.startswith("param.")}
    for name, value in found.items():
        assert value.dtype == dtype
        assert value.shape == case[name].shape
        difference = np.abs(value - case[name]).max() / np.abs(case[name]).max()
        assert difference <= TOLERANCE[dtype], f"{name}: {difference:.1e}"


@both_dtypes
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("engine", ["default", "twin"])
def test_equal_to_the_file(name: str, dtype: str, engine: str) -> None:
    with np.load(FILE) as file:
        case = {k.removeprefix(f"{name}/"): file[k] for k in file if k.startswith(f"{name}/")}
    assert case
    if engine == "twin":
        with twin_only():
            compare(case, *CASES[name], dtype)
    else:
        compare(case, *CASES[name], dtype)


@both_dtypes
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("H", [16, 33])
def test_equal_to_pytorch_at_work(torch: ModuleType, name: str, dtype: str, H: int) -> None:
    kind, options, lengths = CASES[name]
    lengths = None if lengths is None else [9, 2, 13, 13, 1]
    case = compute(kind, options, lengths, N=5, T=13, D=7, H=H, seed=H)
    compare(case, kind, options, lengths, dtype)


def test_the_file_is_what_pytorch_computes(torch: ModuleType) -> None:
    with np.load(FILE) as file:
        for seed, (name, arguments) in enumerate(CASES.items()):
            for key, value in compute(*arguments, seed=seed).items():
                stored = file[f"{name}/{key}"]
                np.testing.assert_allclose(stored, value, rtol=0, atol=1e-12 * np.abs(value).max())


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_state_dict_loads_by_name(torch: ModuleType, bidirectional: bool) -> None:
    theirs = torch.nn.LSTM(3, 4, 2, bidirectional=bidirectional, proj_size=2)
    ours = fastrnn.LSTM(3, 4, 2, bidirectional=bidirectional, proj_size=2)
    state_dict = theirs.state_dict()
    assert {name: value.shape for name, value in ours.params.items()} == {
        name: tuple(value.shape) for name, value in state_dict.items()
    }
    assert ours.num_parameters == sum(value.numel() for value in state_dict.values())
