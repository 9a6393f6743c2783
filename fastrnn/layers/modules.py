"""The layers around the recurrent ones: Linear, Dropout, LayerNorm; Embedding has its own file.

All work on arrays (..., D) and on lists of arrays (T_i, D), whose results are lists again, slices
of one buffer. ``layer(x)`` gives the result alone; ``layer.forward(x)`` is the training mode and
gives ``(y, backward)``, where ``backward(dy)`` may be called once, adds into ``layer.grads`` and
returns dx. Until then neither x nor the parameters may change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, overload

import numpy as np

from fastrnn._memory import empty
from fastrnn.checks import (
    Array,
    Floats,
    as_real_array,
    check_addressable,
    check_bool,
    check_dtype,
    check_positive_int,
    check_probability,
    check_random_state,
    check_real,
    check_seed,
)
from fastrnn.engine import elementwise, masks, products
from fastrnn.engine.containers import as_items, flatten
from fastrnn.engine.doors import door
from fastrnn.engine.initializers import drawn
from fastrnn.engine.locks import Lock
from fastrnn.engine.parameters import Backward, Layer
from fastrnn.files import Shape, register

__all__ = ["Dropout", "LayerNorm", "Linear"]


@register
class Linear(Layer):
    """y = x W^T + b.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
        Whether there is a b.
    dtype : {"float32", "float64"}
    random_state : int, numpy.random.Generator or None
        W and b start uniform in ±1/sqrt(in_features), as in PyTorch.

    Attributes
    ----------
    params, grads : mapping
        ``weight`` (out_features, in_features) and ``bias`` (out_features,).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: Any = "float32",
        random_state: Any = None,
    ) -> None:
        self.in_features = check_positive_int("in_features", in_features)
        self.out_features = check_positive_int("out_features", out_features)
        self.bias = check_bool("bias", bias)
        self.dtype = check_dtype("dtype", dtype)
        rng = check_random_state("random_state", random_state)
        check_addressable("in_features, out_features", (self.in_features, self.out_features))
        bound = self.in_features**-0.5
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.out_features, self.in_features)}
        if self.bias:
            shapes["bias"] = (self.out_features,)
        self._own(
            {
                name: drawn(partial(rng.uniform, -bound, bound, shape), shape, self.dtype)
                for name, shape in shapes.items()
            }
        )
        self.cache = products.Cache()

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias,
            "dtype": self.dtype.name,
        }

    @classmethod
    def shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
        """Name and shape of each parameter, from a configuration nobody has checked."""
        yield "weight", (config["out_features"], config["in_features"])
        if config.get("bias", True):
            yield "bias", (config["out_features"],)

    @property
    def parts(self) -> Mapping[str, Array]:
        """W and b, whichever layer they belong to."""
        return self.params

    @property
    def part_grads(self) -> Mapping[str, Array]:
        """Their gradients by the same names."""
        return self.grads

    @overload
    def __call__(self, x: np.ndarray) -> Floats: ...
    @overload
    def __call__(self, x: Any) -> Any: ...
    @door
    def __call__(self, x: Any) -> Any:
        """The result x W^T + b.

        Parameters
        ----------
        x : array (..., in_features), or list of arrays (T_i, in_features)

        Returns
        -------
        array (..., out_features), or list of arrays (T_i, out_features)
        """
        rows, form = flatten("x", x, self.in_features, self.dtype, self.parts["weight"])
        return form.restore(self.rows_forward(rows))

    @overload
    def forward(self, x: np.ndarray) -> tuple[Floats, Backward]: ...
    @overload
    def forward(self, x: Any) -> tuple[Any, Backward]: ...
    @door
    def forward(self, x: Any) -> tuple[Any, Backward]:
        """The same, and ``backward(dy) -> dx``."""
        rows, form = flatten("x", x, self.in_features, self.dtype, self.parts["weight"])
        call = self.call()
        y = self.rows_forward(rows, call=call)

        def backward(dy: Any) -> Any:
            drows = form.flatten("dy", dy, self.out_features, self.dtype)
            self.rows_accumulate(drows, rows)
            return form.restore(self.rows_backward(drows, call=call))

        return form.restore(y), Backward(backward)

    def _stepped(self) -> None:
        self.cache.stepped()

    # The same on rows (total, width), for losses that walk them in chunks.

    def call(self) -> products.Call:
        """What the parts of one call and of its backward share: the weight as it is now."""
        return products.Call(self.cache)

    def rows_forward(
        self, rows: Array, out: Array | None = None, call: products.Call | None = None
    ) -> Array:
        """The result for rows (total, in_features)."""
        parts = self.parts
        out = self._room(rows, self.out_features) if out is None else out
        return products.linear(rows, parts["weight"], parts.get("bias"), call or self.cache, out)

    def rows_backward(
        self, drows: Array, out: Array | None = None, call: products.Call | None = None
    ) -> Array:
        """The gradient of the rows from that of the results."""
        out = self._room(drows, self.in_features) if out is None else out
        return products.linear_backward(drows, self.parts["weight"], call or self.cache, out)

    def rows_accumulate(self, drows: Array, rows: Array) -> None:
        """Add the parameters' gradients into ``grads``."""
        with self._grads_lock:
            grads = self.part_grads
            products.accumulate(drows, rows, grads["weight"], grads.get("bias"))

    def add_scaled(self, grads: Mapping[str, Array], factor: float) -> None:
        """Add gradients that were computed apart, times a factor, into ``part_grads``."""
        with self._grads_lock:
            for name, grad in self.part_grads.items():
                elementwise.add_scaled(grad, grads[name], factor)

    def spare(self, rows: int, width: int) -> np.ndarray:
        """An uninitialized array of the layer's dtype, for numbers of its size that pass."""
        return empty(self._memory, (rows, width), self.dtype)


@register
class Dropout(Layer):
    """Sets elements to zero with probability p in training, and scales the others by 1/(1 - p).

    Whether an element is dropped depends only on the seed, the number of the call, its sequence,
    step and unit (see `fastrnn.engine.masks`), not on the batch around it. The backward
    pass computes the mask again, so nothing is kept.

    Parameters
    ----------
    p : float
        The probability of dropping, in [0, 1).
    dtype : {"float32", "float64"} or None
        None: whatever the input has.
    random_state : int, numpy.random.Generator or None
        An int is the masks' seed itself.

    Attributes
    ----------
    random_state : int
        The masks' seed.
    call_count : int
        The number of calls of `forward` so far, of which the masks are a function; may be written.
    """

    def __init__(self, p: float = 0.5, *, dtype: Any = None, random_state: Any = None) -> None:
        self.p = check_probability("p", p)
        self.dtype = None if dtype is None else check_dtype("dtype", dtype)
        self.random_state = check_seed("random_state", random_state)
        self.call_count = 0
        self._count_lock = Lock()
        self._own({})
        self._device = None

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        dtype = None if self.dtype is None else self.dtype.name
        return {"p": self.p, "dtype": dtype, "random_state": self.random_state}

    @classmethod
    def shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
        """Name and shape of each parameter, from a configuration nobody has checked."""
        yield from ()

    @overload
    def __call__(self, x: np.ndarray) -> Floats: ...
    @overload
    def __call__(self, x: Any) -> Any: ...
    @door
    def __call__(self, x: Any) -> Any:
        """`x` itself, in the layer's dtype: nothing is dropped outside training.

        Parameters
        ----------
        x : array (N, T, D) or (..., D), or list of arrays (T_i, D)

        Returns
        -------
        array or list of arrays
            In x's form; without a dtype of the layer's own, a list's arrays have the first one's.
        """
        if not isinstance(x, (list, tuple)):
            return as_real_array("x", x, self.dtype)
        if not x:
            return []
        first = as_real_array("x[0]", x[0], self.dtype, ndim=2, axes="(T, D)")
        return as_items("x", x, int(first.shape[1]), first.dtype)

    @overload
    def forward(self, x: np.ndarray) -> tuple[Floats, Backward]: ...
    @overload
    def forward(self, x: Any) -> tuple[Any, Backward]: ...
    @door
    def forward(self, x: Any) -> tuple[Any, Backward]:
        """`x` with elements dropped, and ``backward(dy) -> dx``.

        Parameters
        ----------
        x : array (N, T, D) or (..., D), or list of arrays (T_i, D)
            In (N, T, D) and lists a row is a step of a sequence; elsewhere each row is a sequence.
        """
        whole = self(x)
        first = whole[0] if isinstance(whole, list) and whole else whole
        width = int(first.shape[-1]) if not isinstance(first, list) and first.shape else 1
        dtype = None if isinstance(first, list) else first.dtype
        rows, form = flatten("x", whole, width, dtype)
        with self._count_lock:
            call, self.call_count = self.call_count, self.call_count + 1
        keys = None
        if self.p:
            keys = self._keys(call, form)

        def drop(values: Array) -> Array:
            if keys is None:
                return values
            return masks.drop(values, keys, self.p, self._room(values, width))

        def backward(dy: Any) -> Any:
            return form.restore(drop(form.flatten("dy", dy, width, dtype)))

        return form.restore(drop(rows)), Backward(backward)

    def _keys(self, call: int, form: Any) -> np.ndarray:
        if form.lengths is not None:
            sequence = np.repeat(np.arange(len(form.lengths)), form.lengths)
            step = np.concatenate([np.arange(0), *map(np.arange, form.lengths)])
            return masks.row_keys(self.random_state, call, 0, 0, sequence, step)
        if len(form.shape) == 2:
            sequence = np.repeat(np.arange(form.shape[0]), form.shape[1])
            step = np.tile(np.arange(form.shape[1]), form.shape[0])
            return masks.row_keys(self.random_state, call, 0, 0, sequence, step)
        index = np.arange(int(np.prod(form.shape)))
        return masks.row_keys(self.random_state, call, 0, 0, index, None)


@register
class LayerNorm(Layer):
    """y = (x - mean) / sqrt(var + epsilon) * weight + bias, over the last axis.

    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization", arXiv:1607.06450; the variance is
    the mean of squared deviations.

    Parameters
    ----------
    features : int
        The size of the last axis.
    epsilon : float
        Keeps the root away from zero.
    dtype : {"float32", "float64"}
    random_state : int, numpy.random.Generator or None
        Not used: the layer starts with weight 1 and bias 0.

    Attributes
    ----------
    params, grads : mapping
        ``weight`` and ``bias``, each (features,).
    """

    def __init__(
        self,
        features: int,
        *,
        epsilon: float = 1e-5,
        dtype: Any = "float32",
        random_state: Any = None,
    ) -> None:
        self.features = check_positive_int("features", features)
        check_addressable("features", (self.features,))
        self.epsilon = check_real("epsilon", epsilon, minimum=0.0)
        self.dtype = check_dtype("dtype", dtype)
        check_random_state("random_state", random_state)
        self._own(
            {
                "weight": np.ones(self.features, self.dtype),
                "bias": np.zeros(self.features, self.dtype),
            }
        )

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"features": self.features, "epsilon": self.epsilon, "dtype": self.dtype.name}

    @classmethod
    def shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
        """Name and shape of each parameter, from a configuration nobody has checked."""
        yield "weight", (config["features"],)
        yield "bias", (config["features"],)

    def _normalize(self, rows: Array) -> tuple[Array, elementwise.Moments]:
        room = self._room(rows, self.features)
        weight, bias = self.params["weight"], self.params["bias"]
        return elementwise.layer_norm(rows, weight, bias, self.epsilon, room)

    @overload
    def __call__(self, x: np.ndarray) -> Floats: ...
    @overload
    def __call__(self, x: Any) -> Any: ...
    @door
    def __call__(self, x: Any) -> Any:
        """The normalized x.

        Parameters
        ----------
        x : array (..., features), or list of arrays (T_i, features)

        Returns
        -------
        as `x`
        """
        rows, form = flatten("x", x, self.features, self.dtype, self.params["weight"])
        return form.restore(self._normalize(rows)[0])

    @overload
    def forward(self, x: np.ndarray) -> tuple[Floats, Backward]: ...
    @overload
    def forward(self, x: Any) -> tuple[Any, Backward]: ...
    @door
    def forward(self, x: Any) -> tuple[Any, Backward]:
        """The same, and ``backward(dy) -> dx``."""
        rows, form = flatten("x", x, self.features, self.dtype, self.params["weight"])
        y, moments = self._normalize(rows)

        def backward(dy: Any) -> Any:
            drows = form.flatten("dy", dy, self.features, self.dtype)
            room = self._room(rows, self.features)
            weight = self.params["weight"]
            dweight, dbias = self.grads["weight"], self.grads["bias"]
            with self._grads_lock:
                dx = elementwise.layer_norm_backward(
                    drows, rows, moments, weight, dweight, dbias, room
                )
            return form.restore(dx)

        return form.restore(y), Backward(backward)
