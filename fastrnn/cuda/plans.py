"""Plans: the device memory of one walk over a batch, and the CUDA graphs that walk in it again.

A graph holds addresses, so it belongs to its buffers. A call takes a plan of its shape from those
that are free, or makes one, and gives it back when nothing of it is needed any more: forward at
once, or backward where it keeps activations. Work on a plan is ordered by its stream, which is part
of the shape; so it may go back before the device is done.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cupy
import numpy as np

from fastrnn.cuda.cublas import Matrix, products
from fastrnn.cuda.kernels import launch
from fastrnn.cuda.layouts import Layout
from fastrnn.engine.passes import Weights
from fastrnn.engine.rows import Rows

__all__ = ["Plan", "Shape", "take_plan"]

MOST_FREE = 8
"""Free plans of one direction of one layer; the one that was used longest ago goes first."""

WORKSPACE = {False: 4 << 20, True: 32 << 20}
"""Bytes that cuBLAS asks for: before compute capability 9, and since."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a plan depends on.

    Parameters
    ----------
    device, stream : int
        The CUDA device and the address of the stream.
    N, T : int
        Sequences and steps.
    keep, masked : bool
        Whether backward follows, and whether there is recurrent dropout.
    """

    device: int
    stream: int
    N: int
    T: int
    keep: bool
    masked: bool


class Plan:
    """Buffers of one pass, rows in step order.

    Parameters
    ----------
    weights : Weights
    layout : Layout
    rows : Rows
    shape : Shape

    Attributes
    ----------
    z : cupy.ndarray (total, slots * H)
        Sums, then gates, then the gradients of the sums.
    h : cupy.ndarray (N + total, S)
        The initial h, then that of every step.
    c : cupy.ndarray or None
        Likewise; if nothing is kept, (N, H): the newest.
    hidden : cupy.ndarray or None
        What the second stage's product reads, (total, H) or (N, H).
    seen : cupy.ndarray or None
        With recurrent dropout, h as the products see it, (total, S) or (N, S).
    """

    def __init__(self, weights: Weights, layout: Layout, rows: Rows, shape: Shape) -> None:
        self.dtype = np.dtype(weights.params["weight_ih"].dtype)
        self.rows, self.shape = rows, shape
        H, S, N = weights.hidden_size, weights.state_size, rows.N
        kept = rows.total if shape.keep else 0
        self.z = self._empty(rows.total, layout.slots * H)
        self.bias = self._empty(layout.slots, H)
        self.h = self._empty(N + rows.total, S)
        self.c: Any = self._empty(N + kept, H) if len(weights.cell.states) > 1 else None
        two_stages = len(layout.stages) > 1
        self.hidden: Any = self._empty(kept or N, H) if two_stages else None
        self.mask: Any = self._empty(N, S) if shape.masked else None
        self.seen: Any = self._empty(kept or N, S) if shape.masked else None
        if shape.keep:
            self.dy = self._empty(rows.total, S)
            self.dh = self._empty(N, S)
            self.dc: Any = self._empty(N, H) if self.c is not None else None
            self.product = self._empty(N, S)
            self.between: Any = self._empty(N, H) if two_stages else None
            projected = "weight_hr" in weights.params
            self.dp: Any = self._empty(rows.total, S) if projected else None
        self.workspace = _workspace(shape.device, shape.stream)
        self._graphs: dict[str, Any] = {}
        self._walked: set[str] = set()

    def _empty(self, rows: int, columns: int) -> Any:
        return cupy.empty((rows, columns), dtype=self.dtype)

    def walk(self, name: str, enqueue: Callable[[], None]) -> None:
        """Do what `enqueue` puts on the current stream: products on the device, and kernels.

        The second time it is captured, and from then on the graph is launched: the buffers, and
        the weights whose plan this is, stay where they are.
        """
        if name in self._graphs:
            self._graphs[name].launch()
        elif name in self._walked and not self.rows.ragged:
            self._graphs[name] = self._capture(enqueue)
            self._graphs[name].launch()
        else:
            with self.computing():
                enqueue()
            self._walked.add(name)  # everything has been loaded, which no capture allows

    def launch(self, kernel: str, rows: int, units: int, *arguments: int) -> None:
        """Start a kernel; see :func:`fastrnn.cuda.kernels.launch`."""
        launch(self.shape.device, self.dtype, kernel, rows, units, *arguments)

    def multiply(
        self, sizes: tuple[int, int, int], a: Matrix, b: Matrix, out: Matrix, **how: bool
    ) -> None:
        """Start a product; see :meth:`fastrnn.cuda.cublas.Products.multiply`."""
        products(self.shape.device).multiply(self.dtype, sizes, a, b, out, **how)

    def computing(self) -> Any:
        """A context for products on the current stream."""
        return products(self.shape.device).on(self.shape.stream, self.workspace)

    def _capture(self, enqueue: Callable[[], None]) -> Any:
        stream = cupy.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            try:
                with products(self.shape.device).on(stream.ptr, self.workspace):
                    enqueue()
            finally:
                graph = stream.end_capture()
        return graph


@lru_cache(maxsize=16)
def _workspace(device: int, stream: int) -> Any:
    """What cuBLAS computes in on a stream, for all plans, since they wait there for each other."""
    modern = int(cupy.cuda.Device(device).compute_capability[:-1]) >= 9
    return cupy.empty(WORKSPACE[modern], dtype=cupy.uint8)


class FreePlans:
    """The plans of one direction of one layer that nobody uses."""

    def __init__(self) -> None:
        self._free: OrderedDict[int, tuple[Shape, Plan]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, shape: Shape) -> Plan | None:
        """A plan of this shape for the caller alone, None if there is none."""
        with self._lock:
            for key, (its, plan) in reversed(self._free.items()):
                if its == shape:
                    del self._free[key]
                    return plan
        return None

    def give(self, plan: Plan) -> None:
        """Take a plan back; padding differs from batch to batch, so those of ragged ones go."""
        if plan.rows.ragged:
            return
        with self._lock:
            self._free[id(plan)] = plan.shape, plan
            while len(self._free) > MOST_FREE:
                self._free.popitem(last=False)

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._free.clear()


def free_plans(weights: Weights) -> FreePlans:
    """Those of the weights."""
    if weights.plans is None:
        weights.plans = FreePlans()
    return weights.plans


def take_plan(weights: Weights, layout: Layout, rows: Rows, keep: bool, masked: bool) -> Plan:
    """A plan for a batch, for the caller alone.

    Raises
    ------
    MemoryError
        If there is no room on the device, even without all plans that nobody uses.
    """
    stream = int(cupy.cuda.get_current_stream().ptr)
    shape = Shape(int(cupy.cuda.Device().id), stream, rows.N, rows.T, keep, masked)
    free = free_plans(weights)
    plan = None if rows.ragged else free.take(shape)
    if plan is not None:
        return plan
    try:
        return Plan(weights, layout, rows, shape)
    except MemoryError:  # as CuPy's error is
        free.clear()
        cupy.get_default_memory_pool().free_all_blocks()
        return Plan(weights, layout, rows, shape)
