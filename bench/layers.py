"""Cells of the tables over single layers, and the options that choose among them.

Import it after `common.clean_process()`, since it imports NumPy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

import fastrnn
from bench.adapters import Adapter, Candidate, Layer, load
from bench.bounds import Need, cell_operations
from bench.common import interleave
from bench.rows import REPORTED, check, forced_isa, make_row, options, set_threads
from bench.targets import Row

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
Shapes = Sequence[tuple[int, int, int]]  # T, D, H


@dataclass(frozen=True)
class Case:
    """A layer and the size of its work. GRU resets after the product, as all peers can."""

    cell: str
    N: int
    T: int
    D: int
    H: int
    L: int = 1
    dirs: int = 1

    def layer(self, dtype: str = "float32") -> Layer:
        """A layer of random weights, the same at every call."""
        kinds: Mapping[str, Callable[..., Layer]] = {
            "lstm": fastrnn.LSTM,
            "gru": fastrnn.GRU,
            "rnn": fastrnn.RNN,
        }
        more = {"reset_after": True} if self.cell == "gru" else {}
        return kinds[self.cell](
            self.D,
            self.H,
            self.L,
            bidirectional=self.dirs == 2,
            dtype=dtype,
            random_state=0,
            **more,
        )

    def rows(self, width: int, dtype: str = "float32", seed: int = 0) -> np.ndarray:
        """Normal numbers (N, T, width)."""
        rng = np.random.default_rng(seed)
        return rng.standard_normal((self.N, self.T, width)).astype(dtype)

    @property
    def operations(self) -> float:
        """Operations of the products of one forward pass."""
        widths = self.D + self.H + (self.L - 1) * (self.dirs * self.H + self.H)
        return 2.0 * GATES[self.cell] * self.H * widths * self.dirs * self.N * self.T

    def need(self, passes: int, dtype: str = "float32") -> Need:
        """What the machine has to do at least; `passes` as in `compare`.

        A sequence's first state is zero, so that nothing is multiplied by it, forward or backward;
        a step of a stream has one. A step needs all weights of the state, one direction after the
        other; those of the inputs are read once for all steps.
        """
        size = np.dtype(dtype).itemsize
        widths = self.D + (self.L - 1) * self.dirs * self.H
        steps = max(self.T - 1, 1)
        sums = GATES[self.cell] * self.H * self.dirs
        multiplied = sums * self.N * (self.T * widths + steps * self.L * self.H)
        units = self.N * self.T * self.L * self.dirs * self.H
        state, inputs = size * GATES[self.cell] * self.H * self.H, size * sums * widths
        walks = 1 if passes == 1 else 2
        return Need(
            2.0 * passes * multiplied + units * cell_operations(self.cell, dtype),
            weights=state if self.T > 1 else state + inputs,
            reads=walks * (steps * self.L * self.dirs * state + inputs),
        )

    @property
    def shape(self) -> dict[str, int]:
        """The sizes by name, but for the numbers of layers and directions."""
        return {name: getattr(self, name) for name in "NTDH"}


def layer_options(
    document: str | None,
    batches: Sequence[int],
    shapes: Shapes,
    peers: Sequence[str],
    cells: Sequence[str] = tuple(GATES),
) -> argparse.ArgumentParser:
    """The options that choose rows and candidates."""

    def shape(text: str) -> tuple[int, ...]:
        return tuple(int(size) for size in text.split(","))

    parser = options(document)
    parser.add_argument("--cells", nargs="+", default=list(cells), choices=list(GATES))
    parser.add_argument("--batches", nargs="+", type=int, default=list(batches), metavar="N")
    parser.add_argument("--shapes", nargs="+", type=shape, default=list(shapes), metavar="T,D,H")
    parser.add_argument("--peers", nargs="*", default=list(peers), help="which take part")
    parser.add_argument(
        "--reported",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also the candidates that are no peers: NumPy, and fastrnn with BLAS",
    )
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    return parser


def cases(chosen: argparse.Namespace) -> list[Case]:
    """The chosen rows; `--quick` takes the first of each option."""
    if chosen.quick:
        chosen.seconds = min(chosen.seconds, 0.1)
        chosen.shapes, chosen.batches = chosen.shapes[:1], chosen.batches[:1]
    return [
        Case(cell, N, *shape)
        for cell in chosen.cells
        for shape in chosen.shapes
        for N in chosen.batches
    ]


def peers(chosen: argparse.Namespace) -> dict[str, Adapter]:
    """The adapters that can do what is asked for."""
    names = list(chosen.peers)
    if chosen.dtype != "float32" or forced_isa() != "default":
        print("only PyTorch computes in float64 and can be limited to an instruction set")
        names = [name for name in names if name == "torch"]
    return load(names)


def compare(
    work: str,
    chosen: argparse.Namespace,
    adapters: Mapping[str, Adapter],
    candidates: Callable[[Case, Mapping[str, Adapter]], dict[str, Candidate]],
    passes: int,
    which: Sequence[Case] | None = None,
    calls: int = 1,
) -> Iterator[Row]:
    """Check and time the candidates of every chosen case.

    Parameters
    ----------
    work : str
        The script's name.
    chosen : argparse.Namespace
        What the options say.
    adapters : mapping of str to Adapter
        Who takes part.
    candidates : callable
        From a case and the adapters to its candidates by name, fastrnn first.
    passes : int
        Work of one call in forward passes: 1, or 3 with the backward pass, which is two.
    which : sequence of Case, optional
        Instead of those that the options choose.
    calls : int
        How many calls' answers are compared.
    """
    for threads in chosen.threads:
        set_threads(threads)
        for adapter in adapters.values():
            adapter.set_threads(threads)
        for case in cases(chosen) if which is None else which:
            found = candidates(case, adapters)
            # BLAS chooses its instruction set by the processor alone.
            if not chosen.reported or forced_isa() != "default":
                found = {name: c for name, c in found.items() if name not in REPORTED}
            check(str(case), found, calls)
            times = interleave(
                {name: c.call for name, c in found.items()},
                chosen.seconds,
                rare=REPORTED,
                long_rest=0.15 if threads > 1 else 0.01,
            )
            yield make_row(
                work,
                case.cell,
                case.shape,
                threads,
                times,
                passes * case.operations,
                chosen.dtype,
                case.need(passes, chosen.dtype),
            )


def inference(layer: Layer, x: np.ndarray, lengths: np.ndarray | None = None) -> Candidate:
    """Our layer's call over x (N, T, D)."""
    return Candidate(lambda: layer(x, lengths=lengths)[0], lambda y: {"y": y})


def training(
    layer: Layer, x: np.ndarray, dy: np.ndarray, lengths: np.ndarray | None = None
) -> Candidate:
    """Our layer's training step, which leaves gradients where users find them."""

    def call() -> np.ndarray:
        layer.zero_grad()
        _, _, backward = layer.forward(x, lengths=lengths)
        dx: np.ndarray = backward(dy)[0]
        return dx

    def arrays(dx: np.ndarray) -> dict[str, np.ndarray]:
        return {"dx": dx, **{name: grad.copy() for name, grad in layer.grads.items()}}

    return Candidate(call, arrays)
