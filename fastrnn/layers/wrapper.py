"""Layers that stand around another and have its parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

from fastrnn.checks import Array
from fastrnn.engine.devices import Device
from fastrnn.engine.parameters import Layer, tell_stepped
from fastrnn.files import Shape, build, find

__all__ = ["Wrapper"]


class Wrapper(Layer):
    """A layer around a recurrent one, whose parameters and sizes it has.

    Parameters
    ----------
    layer : Recurrent or Wrapper
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.dtype = layer.dtype
        self.input_size, self.output_size = layer.input_size, layer.output_size

    @property
    def _device(self) -> Device | None:  # type: ignore[override]
        return self.layer._device

    def _leaves(self) -> Iterator[Layer]:
        yield from self.layer._leaves()

    @property
    def params(self) -> Mapping[str, Array]:
        """The layer's parameters by name."""
        return self.layer.params

    @property
    def grads(self) -> Mapping[str, Array]:
        """Their gradients by the same names."""
        return self.layer.grads

    def config(self) -> dict[str, Any]:
        """The layer's type and the arguments of its constructor."""
        return {"layer": {"type": type(self.layer).__name__, "config": self.layer.config()}}

    @classmethod
    def shapes(cls, config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
        """Name and shape of each parameter, from a configuration nobody has checked."""
        inner = config["layer"]
        yield from find(inner["type"]).shapes(inner["config"])

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A new layer of this configuration."""
        inner = config["layer"]
        return cls(build(inner["type"], inner["config"]))

    def __getstate__(self) -> dict[str, Any]:
        return {"layer": self.layer}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["layer"])  # type: ignore[misc]

    def _stepped(self) -> None:
        tell_stepped(self.layer)

    def prepare(self) -> Self:
        """Make parameters read-only and pack them once; see :meth:`fastrnn.LSTM.prepare`."""
        self.layer.prepare()
        return self
