"""Layers one after the other, recurrent ones among them."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Self

from fastrnn.checks import Array, as_real_array, describe, namespace
from fastrnn.engine.devices import HOST, Device
from fastrnn.engine.doors import door
from fastrnn.engine.parameters import Backward, Layer, check_layers, prepare_layer, tell_stepped
from fastrnn.files import Shape, build, find, register
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.recurrent import Recurrent
from fastrnn.layers.sequential_stream import SequentialStream

__all__ = ["Sequential"]


def _is_recurrent(layer: Any) -> bool:
    """Whether the layer carries a state and takes lengths."""
    if isinstance(layer, Sequential):
        return layer.recurrent
    return "lengths" in inspect.signature(layer.forward).parameters


def _hands_symbols(first: Any, second: Any) -> bool:
    """Whether an embedding stands before a recurrent layer, which then multiplies a vector once."""
    return _is_plain(first, Embedding) and _is_plain(second, Recurrent)


def _is_plain(layer: Any, kind: type) -> bool:
    """Whether a layer computes what its class `kind` does; a subclass may do otherwise."""
    return isinstance(layer, kind) and all(
        getattr(type(layer), name) is getattr(kind, name) for name in ("__call__", "forward")
    )


@register
class Sequential(Layer):
    """Layers one after the other: each works on what the one before it gave.

    Without recurrent layers it has the signature of a layer without state, ``y = seq(x)`` and
    ``y, backward = seq.forward(x)``. Where it holds recurrent layers it has theirs::

        y, state = seq(x, state=None, lengths=None)
        y, state, backward = seq.forward(x, state=None, lengths=None)
        dx, dstate = backward(dy, dstate=None)

    Where an `Embedding` stands before a recurrent layer, the product of that layer's weights with a
    vector is computed once however often its index occurs, and so are the gradients through it.

    `lengths` goes to the layers that take it; the others also compute the padding, whose results
    mean nothing and whose gradients should be zero. The state of a single recurrent layer has that
    layer's own form, that of several is a tuple with one entry for each of them.

    Parameters
    ----------
    *layers : layer
        At least one; none of them twice.

    Attributes
    ----------
    layers : tuple
    recurrent : bool
        Whether it holds recurrent layers.
    params, grads : mapping of str to array
        Those of all layers, each name after its layer's number: ``"0.weight"``.
    """

    def __init__(self, *layers: Any) -> None:
        if not layers:
            raise ValueError("layers: expected at least one layer, got none")
        for i, layer in enumerate(layers):
            if not callable(layer) or not hasattr(layer, "forward"):
                raise TypeError(f"layers[{i}]: expected a layer, got {describe(layer)}")
        check_layers("layers", layers)
        self.layers = tuple(layers)
        self._recurrent = tuple(_is_recurrent(layer) for layer in layers)
        self.recurrent = any(self._recurrent)
        self._kept: dict[str, tuple[list[Any], Mapping[str, Array]]] = {}
        pairs = itertools.pairwise(layers)
        self._symbolic = (*(_hands_symbols(first, second) for first, second in pairs), False)

    @property
    def params(self) -> Mapping[str, Array]:
        """The parameters of all layers by name."""
        return self._named("params")

    @property
    def grads(self) -> Mapping[str, Array]:
        """Their gradients by the same names."""
        return self._named("grads")

    @property
    def _device(self) -> Device | None:  # type: ignore[override]
        for layer in self.layers:
            device = getattr(layer, "_device", HOST)
            if device is not None:
                return device
        return None

    def _leaves(self) -> Iterator[Layer]:
        for i, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise TypeError(
                    f"layers[{i}]: expected a layer that can be moved, got {describe(layer)}"
                )
            yield from layer._leaves()

    def _named(self, which: str) -> Mapping[str, Array]:
        found = [getattr(layer, which) for layer in self.layers]
        kept = self._kept.get(which)
        if kept is None or any(a is not b for a, b in zip(kept[0], found, strict=True)):
            kept = self._kept[which] = found, self._joined(which)  # a layer has been moved
        return kept[1]

    def _joined(self, which: str) -> Mapping[str, Array]:
        return MappingProxyType(
            {
                f"{i}.{name}": array
                for i, layer in enumerate(self.layers)
                for name, array in getattr(layer, which).items()
            }
        )

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"

    def __getstate__(self) -> dict[str, Any]:
        return {"layers": self.layers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(*state["layers"])  # type: ignore[misc]

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        for layer in self.layers:
            layer.zero_grad()

    def _stepped(self) -> None:
        for layer in self.layers:
            tell_stepped(layer)

    def config(self) -> dict[str, Any]:
        """The layers' types and the arguments of their constructors."""
        return {
            "layers": [
                {"type": type(layer).__name__, "config": layer.config()} for layer in self.layers
            ]
        }

    @classmethod
    def shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
        """Name and shape of each parameter, from a configuration nobody has checked."""
        for i, part in enumerate(config["layers"]):
            for name, shape in find(part["type"]).shapes(part["config"]):
                yield f"{i}.{name}", shape

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Sequential:
        """New layers of this configuration, one after the other."""
        return cls(*(build(part["type"], part["config"]) for part in config["layers"]))

    def __getitem__(self, index: int) -> Any:
        """One of the layers."""
        return self.layers[index]

    def __len__(self) -> int:
        """How many layers there are."""
        return len(self.layers)

    def _states(self, name: str, state: Any, lengths: Any = None) -> list[Any]:
        """One state for each recurrent layer, None where none is given."""
        if not self.recurrent:
            for argument, value in ((name, state), ("lengths", lengths)):
                if value is not None:
                    raise TypeError(
                        f"{argument}: expected None, for no layer is recurrent, "
                        f"got {describe(value)}"
                    )
            return []
        count = sum(self._recurrent)
        if count == 1:
            return [state]
        if state is None:
            return [None] * count
        if not isinstance(state, (tuple, list)):
            raise TypeError(
                f"{name}: expected a tuple of {count}, one for each recurrent layer, "
                f"got {describe(state)}"
            )
        if len(state) != count:
            raise ValueError(
                f"{name}: expected {count} entries, one for each recurrent layer, got {len(state)}"
            )
        return list(state)

    def _state(self, states: list[Any]) -> Any:
        return states[0] if len(states) == 1 else tuple(states)

    @door
    def __call__(self, x: Any, state: Any = None, lengths: Any = None) -> Any:
        """The last layer's result for `x`, and the final states where a layer is recurrent.

        Parameters
        ----------
        x : what the first layer takes
        state : state of the recurrent layers, optional
        lengths : array of int (N,), optional
            Steps of each sequence of a padded array.

        Returns
        -------
        y, or (y, state)
        """
        given = iter(self._states("state", state, lengths))
        final = []
        for i, layer in enumerate(self.layers):
            if self._recurrent[i]:
                x, last = layer(x, state=next(given), lengths=lengths)
                final.append(last)
            else:
                x = layer.forward_symbols(x)[0] if self._symbolic[i] else layer(x)
        return (x, self._state(final)) if self.recurrent else x

    def prepare(self) -> Self:
        """Make all parameters read-only, and pack recurrent layers' once; before a fork, say."""
        for layer in self.layers:
            prepare_layer(layer)
        return self

    def stream(self, batch_size: int = 1) -> SequentialStream:
        """A stream of ``batch_size`` sequences that arrive step by step.

        Its ``step`` takes a step's input, (N, D), or (N,) where an `Embedding` comes first, and
        gives what the last layer gives for that step, with the bits of a whole call. It serves the
        layers as they are now; those without a state are copied, unless all their parameters are
        read-only.

        Raises
        ------
        ValueError
            If no layer is recurrent, one begins with the last step (a bidirectional one,
            `Reversed`), or the layers do not fit one another.
        """
        parts = list(self._served())
        return SequentialStream(parts, [_is_recurrent(layer) for layer in parts], batch_size)

    def _served(self) -> Iterator[Any]:
        """The layers, with those of a Sequential without a state in its place."""
        for layer, recurrent in zip(self.layers, self._recurrent, strict=True):
            if isinstance(layer, Sequential) and not recurrent:
                yield from layer._served()
            else:
                yield layer

    @door
    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> Any:
        """The same in training mode, and the backward pass.

        Returns
        -------
        (y, backward), or (y, state, backward)
            ``backward(dy)`` gives dx, or ``backward(dy, dstate=None)`` gives (dx, dstate); dx is
            None where the first layer takes indices.
        """
        given = iter(self._states("state", state, lengths))
        final: list[Any] = []
        passes: list[Any] = []
        for i, layer in enumerate(self.layers):
            if self._recurrent[i]:
                x, last, back = layer.forward(x, state=next(given), lengths=lengths)
                final.append(last)
            else:
                x, back = (layer.forward_symbols if self._symbolic[i] else layer.forward)(x)
            passes.append(back)

        def backward(dy: Any, dstate: Any = None) -> Any:
            # Checked here, before any layer adds to its gradients.
            dfinal = self._states("dstate", dstate)
            for i, last in enumerate(final):
                name = "dstate" if len(final) == 1 else f"dstate[{i}]"
                dfinal[i] = _as_like(name, dfinal[i], last)
            if dy is None and all(d is None for d in dfinal):
                wanted = "the gradient of y or of the state" if self.recurrent else "a gradient"
                raise ValueError(f"dy: expected {wanted}, got None")
            return self._backward(passes, final, dy, dfinal)

        back = Backward(backward)
        return (x, self._state(final), back) if self.recurrent else (x, back)

    def _backward(self, passes: list[Any], final: list[Any], dy: Any, dfinal: list[Any]) -> Any:
        dinitial: list[Any] = []
        number = len(final)
        while passes:
            back = passes[-1]
            try:
                if self._recurrent[len(passes) - 1]:
                    number -= 1
                    dlast = dfinal[number]
                    if dy is None and dlast is None:
                        dlast = _zeros_like(final[number])
                    dy, dfirst = back(dy, dstate=dlast)
                    dinitial.append(dfirst)
                elif dy is not None:
                    dy = back(dy)
            except (TypeError, ValueError) as error:
                if len(passes) == len(self.layers):
                    raise  # the caller's gradient was refused, and nothing has been added
                raise RuntimeError(
                    f"backward: layers[{len(passes) - 1}] failed after those behind it had added "
                    "their gradients"
                ) from error
            passes.pop()  # and with it what the layer kept
        return (dy, self._state(dinitial[::-1])) if self.recurrent else dy


def _as_like(name: str, value: Any, like: Any) -> Any:
    """`value` checked to have the form of the state `like`; None stands for zeros."""
    if value is None:
        return None
    if isinstance(like, tuple):
        if not isinstance(value, (tuple, list)) or len(value) != len(like):
            raise ValueError(f"{name}: expected a tuple of {len(like)}, got {describe(value)}")
        return tuple(
            _as_like(f"{name}[{i}]", v, part)
            for i, (v, part) in enumerate(zip(value, like, strict=True))
        )
    return as_real_array(name, value, like.dtype, shape=tuple(like.shape))


def _zeros_like(state: Any) -> Any:
    """Zeros in the form of a state, be it an array or a tuple of states."""
    if isinstance(state, tuple):
        return tuple(_zeros_like(part) for part in state)
    array: Array = state
    return namespace(array).zeros_like(array)
