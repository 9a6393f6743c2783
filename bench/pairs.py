"""The same recurrent layer twice, here and in PyTorch, and the options that choose rows of a table.

Import it after `common.clean_process()`, since it imports NumPy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from common import Peak, interleave, machine, print_table

import fastrnn
from fastrnn._native import chosen_isa

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
Layer = fastrnn.RNN | fastrnn.LSTM | fastrnn.GRU
Shapes = Sequence[tuple[int, int, int]]  # T, D, H


@dataclass(frozen=True)
class Case:
    """One row of a table."""

    cell: str
    N: int
    T: int
    D: int
    H: int

    @property
    def operations(self) -> float:
        """Operations of the products of one forward pass."""
        return 2.0 * GATES[self.cell] * self.H * (self.D + self.H) * self.N * self.T


def pair(case: Case) -> tuple[Layer, torch.nn.RNNBase]:
    """The layer and PyTorch's with the same weights; PyTorch's takes steps first, its best way."""
    ours: Layer
    theirs: torch.nn.RNNBase
    if case.cell == "lstm":
        ours = fastrnn.LSTM(case.D, case.H, random_state=0)
        theirs = torch.nn.LSTM(case.D, case.H)
    elif case.cell == "gru":
        ours = fastrnn.GRU(case.D, case.H, reset_after=True, random_state=0)
        theirs = torch.nn.GRU(case.D, case.H)
    else:
        ours = fastrnn.RNN(case.D, case.H, random_state=0)
        theirs = torch.nn.RNN(case.D, case.H)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(torch.from_numpy(np.array(ours.params[name])))
    return ours, theirs


def random_rows(N: int, T: int, width: int, seed: int) -> tuple[np.ndarray, torch.Tensor]:
    """Normal numbers as (N, T, width), and the same as PyTorch's (T, N, width)."""
    x = np.random.default_rng(seed).standard_normal((N, T, width), dtype=np.float32)
    return x, torch.from_numpy(x.transpose(1, 0, 2).copy())


def same(what: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    """Stop where two results differ: times of different things cannot be compared."""
    if not np.allclose(ours, theirs, rtol=0, atol=1e-4 * float(np.abs(theirs).max())):
        raise SystemExit(f"{what}: fastrnn and torch differ, so their times mean nothing")


def arguments(
    document: str, batches: list[int], shapes: Shapes, quick: Shapes
) -> argparse.Namespace:
    """Parse the options; `--quick` takes the first batch size with the shapes `quick`."""

    def shape(text: str) -> tuple[int, ...]:
        return tuple(int(size) for size in text.split(","))

    parser = argparse.ArgumentParser(description=document.splitlines()[0])
    parser.add_argument("--cells", nargs="+", default=list(GATES), choices=list(GATES))
    parser.add_argument("--batches", nargs="+", type=int, default=batches, metavar="N")
    parser.add_argument("--shapes", nargs="+", type=shape, default=shapes, metavar="T,D,H")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=2.0, help="per candidate and row")
    parser.add_argument("--quick", action="store_true", help="few rows, half a second each")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.batches, chosen.shapes, chosen.seconds = batches[:1], quick, 0.5
    return chosen


def print_pairs(
    chosen: argparse.Namespace,
    candidates: Callable[[Case], Mapping[str, Callable[[], object]]],
    passes: int,
) -> None:
    """Time `candidates(case)`, called fastrnn and torch, for every chosen row, and print the table.

    Parameters
    ----------
    chosen : argparse.Namespace
        What `arguments` answered.
    candidates : callable
        From a case to its two candidates.
    passes : int
        Work of one call in forward passes: 1, or 3 with the backward pass, which is two.
    """

    def rows() -> Iterator[list[str]]:
        peak = Peak()
        for threads in chosen.threads:
            fastrnn.set_num_threads(threads)
            torch.set_num_threads(threads)
            for cell in chosen.cells:
                for shape in chosen.shapes:
                    for batch in chosen.batches:
                        case = Case(cell, batch, *shape)
                        ceiling = peak.measure(threads)
                        times = interleave(candidates(case), chosen.seconds)
                        ceiling = max(ceiling, peak.measure(threads))
                        ours, theirs = times["fastrnn"], times["torch"]
                        rate = passes * case.operations / ours.median
                        yield [
                            cell,
                            *(str(size) for size in (case.N, case.T, case.D, case.H, threads)),
                            f"{ours.median * 1e3:.3g}",
                            f"{theirs.median * 1e3:.3g}",
                            f"{ours.ratio(theirs):.2f}",
                            f"{rate / ceiling:.0%}",
                        ]

    print(machine(chosen_isa(), ["numpy", "scipy", "torch"]))
    heads = ["cell", *"NTDH", "threads", "fastrnn ms", "torch ms", "torch / fastrnn", "of peak"]
    print_table(heads, rows())
