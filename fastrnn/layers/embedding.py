"""A table of vectors by index, and the vectors of a batch each once for a recurrent layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, overload

import numpy as np

from fastrnn.checks import (
    Array,
    Floats,
    as_index_array,
    check_addressable,
    check_dtype,
    check_positive_int,
    check_random_state,
    is_numpy,
)
from fastrnn.engine import elementwise
from fastrnn.engine.batches import Symbols
from fastrnn.engine.containers import flatten_indices
from fastrnn.engine.devices import check_kind
from fastrnn.engine.doors import door
from fastrnn.engine.initializers import drawn
from fastrnn.engine.parameters import Backward, Layer
from fastrnn.files import Shape, register

__all__ = ["Embedding"]

# Share of distinct indices below which it pays to multiply each vector once and to sum gradients.
REPEATED = 0.8


@register
class Embedding(Layer):
    """A table of vectors: row i stands for index i. Equal to one-hot(x) @ E without the product.

    Parameters
    ----------
    num_embeddings : int
        The number V of indices.
    embedding_dim : int
        The size of each vector.
    dtype : {"float32", "float64"}
    random_state : int, numpy.random.Generator or None
        The vectors start with independent normal values of standard deviation 1, as in PyTorch.

    Attributes
    ----------
    params, grads : mapping
        ``weight`` (num_embeddings, embedding_dim). ``backward`` touches only the rows of the
        gradient that were used; ``zero_grad`` clears all of it, since a caller may have written
        elsewhere.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        dtype: Any = "float32",
        random_state: Any = None,
    ) -> None:
        self.num_embeddings = check_positive_int("num_embeddings", num_embeddings)
        self.embedding_dim = check_positive_int("embedding_dim", embedding_dim)
        self.dtype = check_dtype("dtype", dtype)
        rng = check_random_state("random_state", random_state)
        shape = (self.num_embeddings, self.embedding_dim)
        check_addressable("num_embeddings, embedding_dim", shape)
        draw = partial(rng.standard_normal, shape, dtype=self.dtype)
        self._own({"weight": drawn(draw, shape, self.dtype)})

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "num_embeddings": self.num_embeddings,
            "embedding_dim": self.embedding_dim,
            "dtype": self.dtype.name,
        }

    @classmethod
    def shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
        """Name and shape of each parameter, from a configuration nobody has checked."""
        yield "weight", (config["num_embeddings"], config["embedding_dim"])

    def _look_up(self, x: Any) -> tuple[Array, Array, Any]:
        table = self.params["weight"]
        index, form = flatten_indices("x", x, table)
        index = as_index_array("x", index, self.num_embeddings)
        check_kind("x", index, table)
        room = self._room(index, self.embedding_dim, self.dtype)
        return elementwise.gather(table, index, room), index, form

    @overload
    def __call__(self, x: np.ndarray) -> Floats: ...
    @overload
    def __call__(self, x: Any) -> Any: ...
    @door
    def __call__(self, x: Any) -> Any:
        """The vectors of the indices.

        Parameters
        ----------
        x : array of int of any shape (...), or list of arrays (T_i,)
            Indices in [0, num_embeddings).

        Returns
        -------
        array (..., embedding_dim), or list of arrays (T_i, embedding_dim)

        Raises
        ------
        ValueError
            If an index is out of range.
        TypeError
            If `x` is not of integers.
        """
        y, _, form = self._look_up(x)
        return form.restore(y)

    @overload
    def forward(self, x: np.ndarray) -> tuple[Floats, Backward]: ...
    @overload
    def forward(self, x: Any) -> tuple[Any, Backward]: ...
    @door
    def forward(self, x: Any) -> tuple[Any, Backward]:
        """The same, and ``backward(dy) -> None``: indices have no gradient."""
        y, index, form = self._look_up(x)

        def backward(dy: Any) -> None:
            rows = form.flatten("dy", dy, self.embedding_dim, self.dtype)
            with self._grads_lock:
                elementwise.scatter_add(self.grads["weight"], index, rows)

        return form.restore(y), Backward(backward)

    @door
    def forward_symbols(self, x: Any) -> tuple[Any, Backward]:
        """The same for a recurrent layer behind it, which then multiplies each vector once.

        Where indices repeat, the result is `Symbols` for the recurrent layer's x, and ``backward``
        takes what that layer's gives for them; else both are those of `forward`.
        """
        index, form = flatten_indices("x", x, self.params["weight"])
        if not is_numpy(index, self.params["weight"]) or (
            form.shape is not None and len(form.shape) != 2
        ):
            return self.forward(x)
        index = as_index_array("x", index, self.num_embeddings)
        used, numbers = _distinct(index, self.num_embeddings)
        if used.shape[0] > REPEATED * index.shape[0]:
            return self.forward(x)
        room = self._room(used, self.embedding_dim, self.dtype)
        rows = elementwise.gather(self.params["weight"], used, room)

        def backward(drows: Any) -> None:
            with self._grads_lock:
                elementwise.scatter_add(self.grads["weight"], used, drows)

        return Symbols(rows, form.restore(numbers)), Backward(backward)


def _distinct(index: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct elements of `index`, all below `count`, ascending; and which of them each is."""
    found = np.zeros(count, bool)
    found[index] = True
    used = np.flatnonzero(found)
    number = np.empty(count, np.int64)
    number[used] = np.arange(used.shape[0])
    return used, number[index]
