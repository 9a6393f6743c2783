"""A recurrent layer that walks its sequences from their ends."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.checks import Array, as_array, namespace
from fastrnn.engine.arrays import take
from fastrnn.engine.doors import door
from fastrnn.engine.parameters import Backward
from fastrnn.engine.rows import read_lengths
from fastrnn.files import register
from fastrnn.layers.recurrent import check_recurrent
from fastrnn.layers.wrapper import Wrapper

__all__ = ["Reversed"]


@register
class Reversed(Wrapper):
    """A recurrent layer of one direction that begins at each sequence's own end.

    What it gives for a step stands where the step stood; the final state is the one after a
    sequence's first step.

    Parameters
    ----------
    layer : RNN, LSTM, GRU or a layer of a registered cell
        Not bidirectional.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> layer = fastrnn.Reversed(fastrnn.GRU(1, 2, random_state=0))
    >>> y, h = layer(np.ones((1, 3, 1)))
    >>> bool((y[:, 0] == h[0]).all())
    True
    """

    def __init__(self, layer: Any) -> None:
        check_recurrent("layer", layer)
        if layer.bidirectional:
            raise ValueError("layer: expected one direction, got both")
        super().__init__(layer)

    def stream(self, batch_size: int = 1) -> Any:
        """Raise a ValueError: the last step, with which this layer begins, has not come yet."""
        raise ValueError("stream: expected a layer that begins with the first step, got Reversed")

    @door
    def __call__(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Any, Any]:
        """Outputs and final states; takes and gives what the layer does."""
        y, last = self.layer(_turned(x, lengths), state, lengths)
        return _turned(y, lengths), last

    @door
    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Any, Any, Backward]:
        """The same in training mode, and ``backward(dy, dstate=None) -> (dx, dstate)``."""
        y, last, back = self.layer.forward(_turned(x, lengths), state, lengths)

        def backward(dy: Any, dstate: Any = None) -> tuple[Any, Any]:
            dx, dfirst = back(None if dy is None else _turned(dy, lengths), dstate)
            return _turned(dx, lengths), dfirst

        return _turned(y, lengths), last, Backward(backward)


def _turned(x: Any, lengths: Any) -> Any:
    """Each sequence's steps from last to first; padding stays behind them."""
    if isinstance(x, (list, tuple)):
        items = [as_array(f"x[{i}]", one) for i, one in enumerate(x)]
        return [namespace(one).flip(one, axis=0) if len(one.shape) else one for one in items]
    x = as_array("x", x)
    if len(x.shape) != 3:
        return x  # which the layer refuses
    if lengths is None:
        return namespace(x).flip(x, axis=1)
    N, T, width = (int(n) for n in x.shape)
    ends = read_lengths("lengths", lengths, N, T)[:, None]
    steps = np.arange(T)
    index = np.where(steps < ends, ends - 1 - steps, steps) + T * np.arange(N)[:, None]
    rows: Array = namespace(x).reshape(x, (N * T, width))
    return namespace(x).reshape(take(rows, index.ravel()), (N, T, width))
