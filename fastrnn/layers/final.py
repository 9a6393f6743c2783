"""The output of a recurrent layer at a sequence's end, and nothing of the steps before."""

from __future__ import annotations

from typing import Any

from fastrnn.checks import Array, as_real_array, describe, namespace
from fastrnn.engine.arrays import copied, placed
from fastrnn.engine.doors import door
from fastrnn.engine.parameters import Backward
from fastrnn.files import register
from fastrnn.layers.recurrent import Recurrent
from fastrnn.layers.reversed import Reversed
from fastrnn.layers.wrapper import Wrapper

__all__ = ["Final"]


@register
class Final(Wrapper):
    """A recurrent layer whose output is the last of each sequence: what a classifier reads.

    y is (N, dirs*S), the final h of the last layer: forward after a sequence's own last step, and
    beside it the other direction's, after its first.

    Parameters
    ----------
    layer : RNN, LSTM, GRU, a layer of a registered cell, or Reversed

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> model = fastrnn.Sequential(fastrnn.Final(fastrnn.GRU(3, 4)), fastrnn.Linear(4, 2))
    >>> y, state = model(np.ones((5, 7, 3)), lengths=[7, 1, 2, 3, 4])
    >>> y.shape
    (5, 2)
    """

    def __init__(self, layer: Any) -> None:
        if not isinstance(layer, Recurrent | Reversed):
            raise TypeError(f"layer: expected a recurrent layer, got {describe(layer)}")
        super().__init__(layer)
        self._dirs = layer.num_directions if isinstance(layer, Recurrent) else 1

    @door
    def __call__(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Any, Any]:
        """The last outputs (N, dirs*S) and the final states; takes what the layer takes."""
        _, last = self.layer(x, state, lengths)
        return self._side_by_side(last), last

    @door
    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Any, Any, Backward]:
        """The same in training mode, and ``backward(dy, dstate=None) -> (dx, dstate)``."""
        _, last, back = self.layer.forward(x, state, lengths)
        y = self._side_by_side(last)

        def backward(dy: Any, dstate: Any = None) -> tuple[Any, Any]:
            if dy is None:
                return back(None, dstate)
            dy = as_real_array("dy", dy, self.dtype, shape=tuple(y.shape))
            dh = self._one_below_the_other(dy)
            pair = isinstance(last, tuple)
            if dstate is None:
                return back(None, (dh, *[None] * (len(last) - 1)) if pair else dh)
            given = tuple(dstate) if pair else (dstate,)
            total = dh if given[0] is None else dh + given[0]
            return back(None, (total, *given[1:]) if pair else total)

        return y, last, Backward(backward)

    def _side_by_side(self, last: Any) -> Array:
        """The last layer's h (L*dirs, N, S) as (N, dirs*S)."""
        h = last[0] if isinstance(last, tuple) else last
        xp, top = namespace(h), h[-self._dirs :, ...]
        moved = xp.permute_dims(top, (1, 0, 2))
        return xp.reshape(moved, (moved.shape[0], self._dirs * moved.shape[2]))

    def _one_below_the_other(self, dy: Array) -> Array:
        """The gradient of h from that of y: zero for the layers below the last."""
        xp, N = namespace(dy), dy.shape[0]
        S = self.output_size // self._dirs
        top = xp.permute_dims(xp.reshape(dy, (N, self._dirs, S)), (1, 0, 2))
        below = (getattr(self.layer, "num_layers", 1) - 1) * self._dirs
        if not below:
            return copied(top)
        return xp.concat([xp.zeros((below, N, S), dtype=top.dtype, **placed(top)), top], axis=0)
