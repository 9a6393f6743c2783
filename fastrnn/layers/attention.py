"""Attention: for each query the mean over a source's steps, weighted by how well they fit it.

A decoder's states are the queries, an encoder's outputs the keys. Both layers' kinds of score are
here, and two ways to them::

    context, weights, backward = attention.forward(queries, keys, lengths)  # all queries at once
    dqueries, dkeys = backward(dcontext)

    memory = attention.read(keys, lengths)  # what all queries of a source have in common, once
    context, weights, back = memory.forward(queries)  # as often as there are steps
    dqueries = back(dcontext)  # in any order
    dkeys = memory.backward()  # at the end

and without training ``attention(queries, keys, lengths)`` and ``memory(queries)``, which give
``(context, weights)`` with the same bits. Several queries for one source, such as those of a beam,
are queries (N, beams, Q) of one call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastrnn.checks import (
    Array,
    as_real_array,
    check_addressable,
    check_bool,
    check_dtype,
    check_option,
    check_positive_int,
    check_random_state,
    namespace,
)
from fastrnn.engine import elementwise, products
from fastrnn.engine.arrays import masked, placed, unmasked
from fastrnn.engine.attending import Gradients, attend, attend_backward, read
from fastrnn.engine.containers import flatten
from fastrnn.engine.devices import Device, check_kind, is_array
from fastrnn.engine.doors import Door, door
from fastrnn.engine.locks import Lock
from fastrnn.engine.parameters import Backward, Layer
from fastrnn.engine.rows import read_lengths
from fastrnn.files import Shape, register

__all__ = ["Attention", "Memory"]

KINDS = ("additive", "dot")


@register
class Attention(Layer):
    """Contexts: means over a source's real steps, weighted by their scores' softmax.

    With queries q_t and keys k_s the additive score is v . tanh(Wq q_t + Wk k_s + b): D. Bahdanau,
    K. Cho and Y. Bengio, "Neural machine translation by jointly learning to align and translate",
    ICLR 2015, section 3.1 and appendix A.1.2. The other one is q_t . k_s, or q_t . Wk k_s where
    the sizes differ: M.-T. Luong, H. Pham and C. D. Manning, "Effective approaches to
    attention-based neural machine translation", EMNLP 2015, equation 8, "dot" and "general". The
    weights a[t, :] are the softmax of a query's scores over the steps that the source has, and the
    context is the sum over s of a[t, s] k_s.

    Parameters
    ----------
    query_size, key_size : int
        Q and K.
    kind : {"additive", "dot"}
        The score.
    attention_size : int, optional
        A, the units of the additive score; None: `query_size`.
    bias : bool
        Whether the additive score has a b. To q . (Wk k + b) it would add the same for all steps.
    dtype : {"float32", "float64"}
    random_state : int, numpy.random.Generator or None
        A parameter starts uniform in ±1/sqrt(the size of its last axis), b as Wk.

    Attributes
    ----------
    params, grads : mapping
        Additive: ``weight_query`` (A, Q), ``weight_key`` (A, K), ``bias`` (A,) and
        ``weight_score`` (A,). Dot: nothing where Q equals K, else ``weight_key`` (Q, K).
    """

    def __init__(
        self,
        query_size: int,
        key_size: int,
        kind: str = "additive",
        attention_size: int | None = None,
        bias: bool = True,
        *,
        dtype: Any = "float32",
        random_state: Any = None,
    ) -> None:
        self.query_size = check_positive_int("query_size", query_size)
        self.key_size = check_positive_int("key_size", key_size)
        self.kind = check_option("kind", kind, KINDS)
        if attention_size is not None and self.kind == "dot":
            raise ValueError(
                f"attention_size: expected None for kind='dot', which has no units of its own, "
                f"got {attention_size!r}"
            )
        self.attention_size = (
            self.query_size
            if attention_size is None
            else check_positive_int("attention_size", attention_size)
        )
        self.bias = check_bool("bias", bias)
        self.dtype = check_dtype("dtype", dtype)
        rng = check_random_state("random_state", random_state)
        check_addressable(
            "query_size, key_size, attention_size",
            (self.attention_size, max(self.query_size, self.key_size)),
        )
        params = {}
        for name, shape in self.shapes(self.config()):
            bound = (self.key_size if name == "bias" else shape[-1]) ** -0.5
            params[name] = rng.uniform(-bound, bound, shape).astype(self.dtype)
        self._own(params)
        self.caches = {name: products.Cache() for name in params if name.startswith("weight")}

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "query_size": self.query_size,
            "key_size": self.key_size,
            "kind": self.kind,
            "attention_size": self.attention_size if self.kind == "additive" else None,
            "bias": self.bias,
            "dtype": self.dtype.name,
        }

    @classmethod
    def shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
        """Name and shape of each parameter, from a configuration nobody has checked."""
        Q, K = config["query_size"], config["key_size"]
        if config.get("kind", "additive") == "dot":
            if Q != K:
                yield "weight_key", (Q, K)
            return
        given = config.get("attention_size")
        A = Q if given is None else given
        yield "weight_query", (A, Q)
        yield "weight_key", (A, K)
        if config.get("bias", True):
            yield "bias", (A,)
        yield "weight_score", (A,)

    @door
    def __call__(self, queries: Any, keys: Any, lengths: Any = None) -> tuple[Array, Array]:
        """The contexts and the weights.

        Parameters
        ----------
        queries : array (N, Tq, query_size)
        keys : array (N, Ts, key_size), or list of N arrays (T_i, key_size)
            Where it has no padding or `lengths` name it, its values do not matter.
        lengths : array of int (N,), optional
            Real steps of each source, in [0, Ts]; None: all of them. Not with a list.

        Returns
        -------
        context : array (N, Tq, key_size)
            Zero where a source has no steps.
        weights : array (N, Tq, Ts)
            Each query's, zero beyond a source's length; Ts is a list's longest.

        Raises
        ------
        ValueError
            If a shape or a length is not as above.
        TypeError
            If an array is not of real numbers, or `queries` and `keys` are of two kinds.
        """
        _check_kinds(queries, keys)
        return self.read(keys, lengths)(queries)

    @door
    def forward(
        self, queries: Any, keys: Any, lengths: Any = None
    ) -> tuple[Array, Array, Backward]:
        """The same, and ``backward(dcontext) -> (dqueries, dkeys)``; dkeys has the form of keys."""
        _check_kinds(queries, keys)
        memory = self.read(keys, lengths)
        context, weights, back = memory.forward(queries)

        def backward(dcontext: Any) -> tuple[Array, Any]:
            dqueries = back(dcontext)
            return dqueries, memory.backward()

        return context, weights, Backward(backward)

    def read(self, keys: Any, lengths: Any = None) -> Memory:
        """What all queries of a batch of sources have in common, computed once.

        Parameters
        ----------
        keys, lengths
            As above; until the last query neither `keys` nor the parameters may change.

        Returns
        -------
        Memory
            ``memory(queries)`` attends, ``memory.forward(queries)`` for training.
        """
        return Memory(self, keys, lengths)

    def _stepped(self) -> None:
        for cache in self.caches.values():
            cache.stepped()


class Memory:
    """Sources that have been read, to be attended by any number of queries; see `Attention.read`.

    Parameters
    ----------
    layer : Attention
    keys : array (N, Ts, K), or list of N arrays (T_i, K)
    lengths : array of int (N,) or None
    """

    def __init__(self, layer: Attention, keys: Any, lengths: Any) -> None:
        self.layer = layer
        self._door = Door(layer._device, "keys", keys)
        with self._door.device.entered():
            self._read(self._door.take("keys", keys), lengths)
        self._gradients: Gradients | None = None
        self._finished = False
        self._lock = Lock()  # so that several threads' backward passes all count

    @property
    def _device(self) -> Device | None:
        return self.layer._device

    def _read(self, keys: Any, lengths: Any) -> None:
        layer = self.layer
        rows, self._restore, lengths, steps = _real_rows(keys, lengths, layer)
        params = layer.params
        # Whether a weight has changed is looked at once, not at every step.
        self._calls = {name: products.Call(cache) for name, cache in layer.caches.items()}
        projected = rows
        if "weight_key" in params:
            projected = products.linear(
                rows, params["weight_key"], params.get("bias"), self._calls["weight_key"]
            )
        self._sources = read(rows, projected, params.get("weight_score"), lengths, steps)

    @door
    def __call__(self, queries: Any) -> tuple[Array, Array]:
        """The contexts (N, Tq, K) and the weights (N, Tq, Ts) of queries (N, Tq, Q)."""
        return attend(self._project(self._check_queries(queries)), self._sources)

    @door
    def forward(self, queries: Any) -> tuple[Array, Array, Backward]:
        """The same, and ``back(dcontext) -> dqueries``.

        Each ``back`` adds to what `backward` gives at the end; a call without one counts as zero.
        """
        queries = self._check_queries(queries)
        projected = self._project(queries)
        context, weights = attend(projected, self._sources)
        shape = tuple(context.shape)

        def back(dcontext: Any) -> Array:
            dcontext = as_real_array("dcontext", dcontext, self.layer.dtype, shape=shape)
            check_kind("dcontext", dcontext, self._sources.keys)
            with self._lock:
                dprojected = attend_backward(
                    dcontext, projected, weights, self._sources, self._sums()
                )
            return self._project_backward(dprojected, queries)

        return context, weights, Backward(back)

    def backward(self) -> Any:
        """The gradient of `keys`, in its form, once all steps' ``back`` have been called.

        Adds the gradients of ``weight_key``, ``bias`` and ``weight_score``; each ``back`` has added
        those of ``weight_query``.

        Raises
        ------
        RuntimeError
            If it is called a second time, or a ``back`` after it.
        """
        return self._door.call(self._backward)

    def _backward(self) -> Any:
        with self._lock:
            if self._finished:
                raise RuntimeError("backward: expected one call for each memory, got a second")
            self._finished = True
            sums, self._gradients = self._gradients, None
        rows, layer = self._sources.keys, self.layer
        if sums is None:
            return self._restore(namespace(rows).zeros_like(rows))
        dkeys = sums.keys
        with layer._grads_lock:
            if "weight_key" in layer.grads:
                products.accumulate(
                    sums.projected, rows, layer.grads["weight_key"], layer.grads.get("bias")
                )
            if sums.score is not None:
                layer.grads["weight_score"][...] += namespace(rows).sum(sums.score, axis=0)
        if "weight_key" in layer.params:
            weight = layer.params["weight_key"]
            through = products.linear_backward(sums.projected, weight, self._calls["weight_key"])
            elementwise.add_scaled(dkeys, through)
        return self._restore(dkeys)

    def _sums(self) -> Gradients:
        if self._finished:
            raise RuntimeError("back: expected a call before the memory's backward, got one after")
        if self._gradients is None:
            s = self._sources
            xp = namespace(s.keys)
            dkeys = xp.zeros_like(s.keys)
            dscore = None
            if s.score is not None:
                shape = (len(s.lengths), s.score.shape[0])
                dscore = xp.zeros(shape, dtype=s.keys.dtype, **placed(s.keys))
            dprojected = dkeys if s.projected is s.keys else xp.zeros_like(s.projected)
            self._gradients = Gradients(dkeys, dprojected, dscore)
        return self._gradients

    def _check_queries(self, queries: Any) -> Array:
        N, keys = len(self._sources.lengths), self._sources.keys
        queries = as_real_array(
            "queries", queries, self.layer.dtype, shape=(N, None, self.layer.query_size)
        )
        check_kind("queries", queries, keys)
        return queries

    def _project(self, queries: Array) -> Array:
        """What the scores see of queries (N, Tq, Q): (N, Tq, A)."""
        if "weight_query" not in self.layer.params:
            return queries
        xp = namespace(queries)
        rows = xp.reshape(queries, (-1, queries.shape[2]))
        weight = self.layer.params["weight_query"]
        projected = products.linear(rows, weight, None, self._calls["weight_query"])
        return xp.reshape(projected, (*queries.shape[:2], weight.shape[0]))

    def _project_backward(self, dprojected: Array, queries: Array) -> Array:
        """The gradient of the queries; adds the weight's."""
        if "weight_query" not in self.layer.params:
            return dprojected
        xp = namespace(queries)
        drows = xp.reshape(dprojected, (-1, dprojected.shape[2]))
        rows = xp.reshape(queries, (-1, queries.shape[2]))
        with self.layer._grads_lock:
            products.accumulate(drows, rows, self.layer.grads["weight_query"])
        weight = self.layer.params["weight_query"]
        dqueries = products.linear_backward(drows, weight, self._calls["weight_query"])
        return xp.reshape(dqueries, queries.shape)


def _check_kinds(queries: Any, keys: Any) -> None:
    first = keys[0] if isinstance(keys, (list, tuple)) and len(keys) else keys
    if is_array(queries) and is_array(first):
        check_kind("keys", first, queries)


def _real_rows(keys: Any, lengths: Any, layer: Attention) -> tuple[Array, Any, np.ndarray, int]:
    """The rows of real steps, what puts rows like them in the form of keys, the lengths, and Ts."""
    like = next(iter(layer.params.values()), None)
    if isinstance(keys, (list, tuple)):
        if lengths is not None:
            raise ValueError("lengths: expected None where keys are a list, whose arrays have them")
        rows, form = flatten("keys", keys, layer.key_size, layer.dtype, like)
        found = np.array(form.lengths, np.int64)
        return rows, form.restore, found, int(found.max(initial=0))
    keys = as_real_array("keys", keys, layer.dtype, shape=(None, None, layer.key_size))
    if like is not None:
        check_kind("keys", keys, like)
    xp = namespace(keys)
    N, Ts, K = (int(n) for n in keys.shape)
    rows = xp.reshape(keys, (N * Ts, K))
    if lengths is None:
        return rows, lambda drows: xp.reshape(drows, (N, Ts, K)), np.full(N, Ts, np.int64), Ts
    lengths = read_lengths("lengths", lengths, N, Ts)
    real = np.arange(Ts) < lengths[:, None]
    if real.all():
        return rows, lambda drows: xp.reshape(drows, (N, Ts, K)), lengths, Ts
    # Rows of padding may hold anything, and must not meet a gradient of zero.
    return masked(keys, real), lambda drows: unmasked(drows, real), lengths, Ts
