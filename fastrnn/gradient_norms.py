"""Gradient flow: how much of the loss's gradient reaches each step.

Products of many Jacobians make it vanish or explode (Bengio, Simard and Frasconi, "Learning
long-term dependencies with gradient descent is difficult", IEEE Transactions on Neural Networks 5,
1994). The norm of dL/dh_t over t shows which, layer by layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.checks import Array, namespace
from fastrnn.engine import twin
from fastrnn.engine.arrays import to_host
from fastrnn.engine.doors import Door
from fastrnn.engine.passes import Pass, Weights
from fastrnn.engine.rows import Rows
from fastrnn.engine.stack import Stack
from fastrnn.layers.recurrent import Recurrent, check_recurrent

__all__ = ["GradientFlow", "gradient_flow"]


@dataclass(frozen=True)
class GradientFlow:
    """The norms of dL/dh_t.

    Attributes
    ----------
    norms : ndarray (L*dirs, T)
        The Euclidean norm of dL/dh_t over all sequences and units, at step t of the sequences, in
        PyTorch's order of layers and directions. dL/dh_t counts every path from h_t to the loss.
    names : tuple of str
        What the rows are: ``"l0"``, ``"l0_reverse"``, ``"l1"``, ...
    """

    norms: np.ndarray
    names: tuple[str, ...]

    def __getitem__(self, name: str) -> np.ndarray:
        """Return one layer's and direction's norms (T,) by name."""
        return self.norms[self.names.index(name)]

    def plot(self, ax: Any = None) -> Any:
        """Draw the norms over the steps, on a logarithmic scale; return matplotlib's axes."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        for name, norms in zip(self.names, self.norms, strict=True):
            # a norm of zero has no place on a logarithmic scale and leaves a gap
            ax.plot(np.arange(len(norms)), np.where(norms > 0, norms, np.nan), label=name)
        ax.set_yscale("log")
        ax.set_xlabel("step t")
        ax.set_ylabel("norm of dL/dh_t")
        ax.legend()
        return ax


def gradient_flow(
    layer: Recurrent,
    x: Any,
    dy: Any = None,
    *,
    dstate: Any = None,
    state: Any = None,
    lengths: Any = None,
) -> GradientFlow:
    """Return the norm of dL/dh_t for every step, layer and direction.

    Computed without dropout, on the array twin; ``layer.grads`` stays as it is.

    Parameters
    ----------
    layer : recurrent layer
        Any.
    x, state, lengths
        As for a call of the layer.
    dy : container, or callable, optional
        The loss's gradient in y, or a function of y that returns it, or ``(loss, gradient)`` as the
        functions of :mod:`fastrnn.losses` do.
    dstate : state, optional
        The loss's gradient in the final state. If neither is given the loss is the sum of the last
        layer's final h.

    Returns
    -------
    GradientFlow
        Its ``norms``, and ``plot()``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> layer = fastrnn.RNN(1, 8, nonlinearity="sigmoid", random_state=0)
    >>> flow = fastrnn.gradient_flow(layer, np.ones((1, 20, 1)))
    >>> bool(flow["l0"][0] < 1e-3 * flow["l0"][-1])  # little of it reaches the first step
    True
    """
    check_recurrent("layer", layer)
    opened = Door(layer._device, "x", x)
    with opened.device.entered():
        given = [opened.take(n, v) for n, v in (("x", x), ("state", state), ("lengths", lengths))]
        return _gradient_flow(layer, given, dy, opened.take("dstate", dstate), opened)


def _gradient_flow(
    layer: Recurrent, given: list[Any], dy: Any, dstate: Any, opened: Door
) -> GradientFlow:
    container, batch, states = layer._read(*given)
    stack = Stack([[_without_grads(w) for w in one] for one in layer._stack.weights], engine=twin)
    y, last, saved = stack.forward(container, batch, states, keep=True)
    assert saved is not None
    if callable(dy):
        dy = _gradient_of(dy(opened.give(y)))
    if dy is not None:
        dy = opened.take("dy", dy)
        dy = batch.check("dy", dy, layer.output_size)
    dstates: tuple[Array | None, ...] = (None,) * len(states)
    if dstate is not None:
        dstates = layer._read_state("dstate", dstate, batch)
    elif dy is None:
        dh = batch.xp.zeros_like(last[0])
        dh[-layer.num_directions :, ...] = 1
        dstates = (dh, *dstates[1:])
    watch = _Watch(batch.rows, layer.num_layers, layer.num_directions)
    saved.engine = watch
    stack.backward(saved, dy, dstates)
    return GradientFlow(np.sqrt(watch.squares), tuple(layer._passes()))


def _without_grads(weights: Weights) -> Weights:
    """The same parameters, with gradients that nobody sees."""
    zeros_like = namespace(weights.params["weight_ih"]).zeros_like
    grads = {name: zeros_like(value) for name, value in weights.params.items()}
    return Weights(weights.cell, weights.params, grads)


def _gradient_of(result: Any) -> Any:
    """The gradient in what a loss returned: itself, or (loss, gradient)."""
    if isinstance(result, tuple) and len(result) == 2 and np.ndim(result[0]) == 0:
        return result[1]
    return result


class _Watch:
    """The array twin's backward, writing down what it is told of dL/dh_t."""

    def __init__(self, rows: Rows, num_layers: int, num_directions: int) -> None:
        self.squares = np.zeros((num_layers * num_directions, rows.T))
        self._rows = rows
        self._layer = num_layers

    def backward(self, passes: list[Pass], saved: Any, dy: Any, dstate: Any, dx: Any) -> Any:
        """Backpropagate through the next layer from the top."""
        self._layer -= 1

        def watch(k: int, t: int, dh: Array) -> None:
            squares = to_host(namespace(dh).sum(dh * dh, axis=1))
            ends = self._rows.lengths[self._rows.order[: len(squares)]]
            steps = ends - 1 - t if passes[k].reverse else np.full_like(ends, t)
            np.add.at(self.squares[self._layer * len(passes) + k], steps, squares)

        return twin.backward(passes, saved, dy, dstate, dx, watch)
