"""The recurrent layers by name: RNN, LSTM, GRU, and those of cells that users register."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fastrnn import cells
from fastrnn.cells import Cell
from fastrnn.checks import check_bool, check_int, check_option, check_real, describe
from fastrnn.files import is_registered, register
from fastrnn.layers.recurrent import Recurrent

__all__ = ["GRU", "LSTM", "RNN", "register_cell"]

RandomState = int | np.random.Generator | None


@register
class RNN(Recurrent):
    """The simple recurrent network, h_t = f(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).

    J. L. Elman, "Finding structure in time", Cognitive Science 14 (1990).

    Parameters
    ----------
    nonlinearity : {"tanh", "relu", "sigmoid"}
        f.
    input_size, hidden_size, num_layers, ...
        All others are those of :class:`LSTM`.
    """

    @classmethod
    def cell_of(cls, config: Mapping[str, Any]) -> Cell:
        """The cell of a layer of this configuration."""
        return cells.RNN[config.get("nonlinearity", "tanh")]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: str = "tanh",
        bias: bool = True,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        init: str = "torch",
        init_scale: float = 0.1,
        initial_state: str = "zeros",
        dtype: Any = "float32",
        random_state: RandomState = None,
    ) -> None:
        self.nonlinearity = check_option("nonlinearity", nonlinearity, cells.RNN)
        super().__init__(
            cells.RNN[nonlinearity],
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            bidirectional=bidirectional,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            init=init,
            init_scale=init_scale,
            initial_state=initial_state,
            dtype=dtype,
            random_state=random_state,
            extra={"nonlinearity": nonlinearity},
        )


@register
class LSTM(Recurrent):
    """Long short-term memory.

    With sums s = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh of each gate::

        i = sigmoid(s_i)   f = sigmoid(s_f)   g = tanh(s_g)   o = sigmoid(s_o)
        c_t = f * c_{t-1} + i * g
        h_t = o * tanh(c_t)                   or W_hr (o * tanh(c_t)) with proj_size

    S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997); with
    the forget gate of F. Gers, J. Schmidhuber and F. Cummins, Neural Computation 12 (2000), and
    the projection of H. Sak, A. Senior and F. Beaufays, Interspeech 2014.

    Parameters
    ----------
    input_size : int
        D, features of each step.
    hidden_size : int
        H, units of each layer and direction.
    num_layers : int
        L; each further layer reads the outputs of the one below.
    proj_size : int
        P, the width that h is projected to; 0 for no projection.
    forget_bias : float
        Added to the initial biases of the forget gate, whose gate it opens (Gers et al.; Jozefowicz
        et al., ICML 2015, advise 1).
    bias : bool
        Whether there are b_ih and b_hh.
    bidirectional : bool
        Whether a second direction walks each sequence from its own end; outputs are side by side.
    dropout : float
        Probability of dropping an output between layers, in training.
    recurrent_dropout : float
        Probability of dropping a unit of h from all of a sequence's recurrent products, in training
        (Y. Gal and Z. Ghahramani, NeurIPS 2016).
    init : {"torch", "uniform", "xavier", "orthogonal"}
        Initial parameters: uniform in ±1/sqrt(H); uniform in ±init_scale; weights by Glorot and
        Bengio and biases 0; the same with orthogonal recurrent weights.
    init_scale : float
        For ``init="uniform"``.
    initial_state : {"zeros", "normal", "learned"}
        The state used when none is given: zeros, small normal values fixed with the layer, or
        parameters ``h0_l0``, ``c0_l0``, ``h0_l0_reverse``, ... that have gradients and begin at
        zero.
    dtype : {"float32", "float64"}
        Of parameters, computations and results.
    random_state : int, numpy.random.Generator or None
        What initial values and dropout masks follow from.

    Attributes
    ----------
    params, grads : mapping of str to array
        By PyTorch's names and shapes: ``weight_ih_l0`` (4H, D), ``weight_hh_l0`` (4H, S),
        ``bias_ih_l0`` (4H,), ``bias_hh_l0`` (4H,), ``weight_hr_l0`` (P, H),
        ``weight_ih_l0_reverse``, ``weight_ih_l1``, ...; gates in the order i f g o.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> layer = fastrnn.LSTM(3, 5, random_state=0)
    >>> x = np.ones((2, 4, 3))
    >>> y, (h, c) = layer(x, lengths=[4, 2])
    >>> y.shape, h.shape, bool((y[1, 2:] == 0).all())
    ((2, 4, 5), (1, 2, 5), True)

    Training is forward, the gradient of a loss in y, and backward:

    >>> y, state, backward = layer.forward(x, lengths=[4, 2])
    >>> dx, dstate = backward(2 * y)  # of the sum of squares
    >>> dx.shape, layer.grads["weight_hh_l0"].shape
    ((2, 4, 3), (20, 5))
    """

    @classmethod
    def cell_of(cls, config: Mapping[str, Any]) -> Cell:
        """The cell of a layer of this configuration."""
        return cells.LSTM_PROJECTED if config.get("proj_size", 0) else cells.LSTM

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        proj_size: int = 0,
        forget_bias: float = 0.0,
        bias: bool = True,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        init: str = "torch",
        init_scale: float = 0.1,
        initial_state: str = "zeros",
        dtype: Any = "float32",
        random_state: RandomState = None,
    ) -> None:
        proj_size = check_int("proj_size", proj_size, 0)
        forget_bias = check_real("forget_bias", forget_bias)
        if forget_bias and not bias:
            raise ValueError(f"forget_bias: expected 0 without biases, got {forget_bias}")
        super().__init__(
            cells.LSTM_PROJECTED if proj_size else cells.LSTM,
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            bidirectional=bidirectional,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            init=init,
            init_scale=init_scale,
            initial_state=initial_state,
            dtype=dtype,
            random_state=random_state,
            proj_size=proj_size,
            forget_bias=forget_bias,
            extra={"proj_size": proj_size, "forget_bias": forget_bias},
        )


@register
class GRU(Recurrent):
    """The gated recurrent unit.

    With the sums of input and state of each gate, biases within::

        r = sigmoid(s_r)   z = sigmoid(s_z)
        n = tanh(W_in x_t + b_in + W_hn (r * h_{t-1}) + b_hn)     the default, or
        n = tanh(W_in x_t + b_in + r * (W_hn h_{t-1} + b_hn))     with reset_after
        h_t = z * h_{t-1} + (1 - z) * n

    K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical
    machine translation", EMNLP 2014. The reset after the product is cuDNN's and PyTorch's.

    Parameters
    ----------
    reset_after : bool
        Where the reset gate acts.
    input_size, hidden_size, num_layers, ...
        All others are those of :class:`LSTM`; gates stand in the order r z n.
    """

    @classmethod
    def cell_of(cls, config: Mapping[str, Any]) -> Cell:
        """The cell of a layer of this configuration."""
        return cells.GRU_AFTER if config.get("reset_after", False) else cells.GRU

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        reset_after: bool = False,
        bias: bool = True,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        init: str = "torch",
        init_scale: float = 0.1,
        initial_state: str = "zeros",
        dtype: Any = "float32",
        random_state: RandomState = None,
    ) -> None:
        self.reset_after = check_bool("reset_after", reset_after)
        super().__init__(
            cells.GRU_AFTER if reset_after else cells.GRU,
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            bidirectional=bidirectional,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            init=init,
            init_scale=init_scale,
            initial_state=initial_state,
            dtype=dtype,
            random_state=random_state,
            extra={"reset_after": self.reset_after},
        )


# --- cells of users ------------------------------------------------------------------------------


class CustomLayer(Recurrent):
    """A recurrent layer of a user's own cell; `register_cell` makes a class of it for each cell."""

    own_cell: ClassVar[Cell]

    @classmethod
    def cell_of(cls, config: Mapping[str, Any]) -> Cell:
        return cls.own_cell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        init: str = "torch",
        init_scale: float = 0.1,
        initial_state: str = "zeros",
        dtype: Any = "float32",
        random_state: RandomState = None,
    ) -> None:
        super().__init__(
            self.own_cell,
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            bidirectional=bidirectional,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            init=init,
            init_scale=init_scale,
            initial_state=initial_state,
            dtype=dtype,
            random_state=random_state,
        )


_registered: dict[str, type[CustomLayer]] = {}


def register_cell(cell: Cell) -> type[CustomLayer]:
    """Make a layer class of a user's own cell.

    The class has all that :class:`LSTM` has but projection: several layers, directions, ragged
    batches, initial states, dropout, BPTT, trace, streams and files. It runs on the array twin.
    Formulas are arbitrary elementwise functions; check their gradients with
    :func:`fastrnn.gradient_check`.

    Parameters
    ----------
    cell : Cell
        Its name becomes the class's; to make layers that can be pickled, assign the class to that
        name in the module of the formulas.

    Returns
    -------
    type
        A subclass of :class:`~fastrnn.layers.recurrent.Recurrent`.

    Raises
    ------
    TypeError
        If ``cell`` is no Cell.
    ValueError
        If its name is taken by another module or no identifier, or its parts do not fit together.

    Examples
    --------
    >>> import fastrnn
    >>> from fastrnn.cells import Cell, Stage
    >>> def forward(xp, v):
    ...     v.h_next = xp.sin(v.a)
    ...     v.cos = xp.cos(v.a)
    >>> def backward(xp, v, d):
    ...     d.a = d.h_next * v.cos
    >>> SineRNN = fastrnn.register_cell(Cell("SineRNN", (Stage(("a",), forward, backward),)))
    >>> layer = SineRNN(3, 5, bidirectional=True, dtype="float64", random_state=0)
    >>> errors = fastrnn.gradient_check(layer, [[[0.1, 0.2, 0.3]] * 4])
    >>> max(errors.values()) < 1e-6
    True
    """
    if not isinstance(cell, Cell):
        raise TypeError(f"cell: expected a fastrnn.cells.Cell, got {describe(cell)}")
    if not cell.name.isidentifier():
        raise ValueError(f"cell: expected a name that is an identifier, got {cell.name!r}")
    known = _registered.get(cell.name)
    if known is not None and known.own_cell == cell:
        return known
    if is_registered(cell.name) and (known is None or _origin(known.own_cell) != _origin(cell)):
        raise ValueError(f"cell: expected a name not yet taken, got {cell.name!r}")
    if not cell.gates or not cell.states or cell.states[0] != "h":
        raise ValueError("cell: expected gates, and 'h' as the first of its states")
    if any(stage.inputs != (stage.weight == "weight_hh") for stage in cell.stages):
        raise ValueError("cell: expected 'weight_hh' as the weight of the stages with inputs")

    description = f"A recurrent layer of the registered cell {cell.name}."
    members = {"own_cell": cell, "__module__": _origin(cell), "__doc__": description}
    made = type(cell.name, (CustomLayer,), members)
    _registered[cell.name] = register(made)
    return made


def _origin(cell: Cell) -> str:
    """The module of a cell's formulas, which may register it again: a notebook's does."""
    return cell.stages[0].forward.__module__
