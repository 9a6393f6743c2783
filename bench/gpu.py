"""Layers on a CUDA device beside PyTorch's, which are cuDNN's; needs CuPy, PyTorch and the device.

Times are CUDA events', medians over turns; both in full float32, without TF32. A graph is captured
in the calls before those that are timed.

python -m bench.gpu --quick
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.common import clean_process

clean_process()

import cupy  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from bench.adapters.pytorch import network  # noqa: E402
from bench.layers import Case  # noqa: E402
from bench.rows import same  # noqa: E402
from bench.table import print_table  # noqa: E402
from bench.targets import OURS, Row, Target, judge, judge_means  # noqa: E402

BATCHES, STEPS, UNITS = [1, 32, 128], [50, 200], [128, 256, 512, 1024]
WORKS = ["gpu inference", "gpu training"]
BEFORE = "reset before"
TARGETS = [
    *(Target(work, "torch", 0.5, {"cell": ["lstm"]}, mean=True) for work in WORKS),
    *(Target(work, f"{BEFORE} / reset after", 1.5, {"cell": ["gru"]}, most=True) for work in WORKS),
]
HEADS = ["work", "cell", "N", "T", "H", f"{OURS} ms", "torch", f"{BEFORE} / reset after", "verdict"]

Call = Callable[[], Any]


def ours(case: Case, training: bool, **more: Any) -> Call:
    """Our layer's answer: y, or y, dx and the gradients of the weights."""
    layer = case.layer() if not more else type(case.layer())(case.D, case.H, random_state=0, **more)
    layer.to("cuda")
    x, dy = (cupy.asarray(case.rows(width)) for width in (case.D, case.H))

    def infer() -> list[Any]:
        return [layer(x)[0]]

    def train() -> list[Any]:
        layer.zero_grad()
        y, _, backward = layer.forward(x)
        dx, _ = backward(dy)
        return [y, dx, layer.grads["weight_ih_l0"], layer.grads["weight_hh_l0"]]

    return train if training else infer


def theirs(case: Case, training: bool) -> Call:
    """The same of PyTorch's layer, steps first, as cuDNN likes them."""
    layer = network(case.layer()).cuda()
    x, dy = (
        torch.from_numpy(case.rows(width).swapaxes(0, 1).copy()).cuda()
        for width in (case.D, case.H)
    )
    x.requires_grad_(training)

    def infer() -> list[Any]:
        with torch.inference_mode():
            return [layer(x)[0].transpose(0, 1)]

    def train() -> list[Any]:
        layer.zero_grad()
        x.grad = None
        y = layer(x)[0]
        y.backward(dy)
        gradient: Any = x.grad
        weights = [layer.weight_ih_l0.grad, layer.weight_hh_l0.grad]
        return [y.detach().transpose(0, 1), gradient.transpose(0, 1), *weights]

    return train if training else infer


def on_host(array: Any) -> np.ndarray:
    """Numbers to compare."""
    return array.cpu().numpy() if isinstance(array, torch.Tensor) else cupy.asnumpy(array)


def milliseconds(call: Call, calls: int) -> float:
    """Of one call, by events on the device around several."""
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    stream = cupy.cuda.Stream.null  # PyTorch's, too
    begin.record(stream)
    for _ in range(calls):
        call()
    end.record(stream)
    end.synchronize()
    return float(cupy.cuda.get_elapsed_time(begin, end)) / calls


def interleaved(candidates: Mapping[str, Call], turns: int, seconds: float) -> dict[str, float]:
    """Medians of the candidates' turns, one after the other, in milliseconds."""
    for call in candidates.values():
        milliseconds(call, 3)  # kernels are compiled and a graph is captured
    once = {name: milliseconds(call, 3) for name, call in candidates.items()}
    found: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(turns):
        for name in list(candidates)[:: -1 if turn % 2 else 1]:
            calls = max(3, int(seconds * 1e3 / turns / max(once[name], 1e-3)))
            found[name].append(milliseconds(candidates[name], calls))
    return {name: statistics.median(values) for name, values in found.items()}


def rows(chosen: argparse.Namespace) -> Iterator[Row]:
    """A row for each work, cell and size."""
    cases = [
        Case(cell, N, T, H, H)
        for cell in chosen.cells
        for N in chosen.batches
        for T in chosen.steps
        for H in chosen.units
    ]
    for work in WORKS:
        training = work == "gpu training"
        for case in cases[:: 7 if chosen.quick else 1]:
            candidates = {OURS: ours(case, training), "torch": theirs(case, training)}
            for a, b in zip(*(call() for call in candidates.values()), strict=True):
                same(f"{work} {case}", on_host(a), on_host(b))
            if case.cell == "gru":
                candidates[BEFORE] = ours(case, training, reset_after=False)
            times = interleaved(candidates, 3 if chosen.quick else 9, chosen.seconds)
            measures = {"torch": times["torch"] / times[OURS]}
            if BEFORE in times:
                measures[f"{BEFORE} / reset after"] = times[BEFORE] / times[OURS]
            shape = {"N": case.N, "T": case.T, "H": case.H}
            seconds = {name: value / 1e3 for name, value in times.items()}
            yield Row(work, case.cell, shape, 1, seconds, measures)


def cells(row: Row) -> list[str]:
    """A row of the table."""
    others = [row.measures.get(name) for name in ("torch", f"{BEFORE} / reset after")]
    return [
        row.work,
        row.cell,
        *map(str, row.shape.values()),
        f"{row.times[OURS] * 1e3:.3g}",
        *("-" if value is None else f"{value:.2f}" for value in others),
        "; ".join(str(verdict) for verdict in judge(row, TARGETS)) or "-",
    ]


def main() -> None:
    """Print the table and what its means say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cells", nargs="+", default=["lstm", "gru", "rnn"])
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--steps", nargs="+", type=int, default=STEPS)
    parser.add_argument("--units", nargs="+", type=int, default=UNITS)
    parser.add_argument("--seconds", type=float, default=0.3, help="per candidate and row")
    parser.add_argument("--quick", action="store_true", help="few rows, little time for each")
    parser.add_argument("--json", type=Path, help="write the rows to this file, too")
    chosen = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    name = torch.cuda.get_device_name()
    print(f"{name}; cupy {cupy.__version__}, torch {torch.__version__}")
    found: list[Row] = []

    def each() -> Iterator[list[str]]:
        for row in rows(chosen):
            found.append(row)
            yield cells(row)

    print_table(HEADS, each())
    for verdict, count in judge_means(found, TARGETS):
        print(f"{verdict} in the geometric mean of {count} rows")
    if chosen.json:
        shown = {"device": name, "rows": [dataclasses.asdict(row) for row in found]}
        chosen.json.write_text(json.dumps(shown, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
