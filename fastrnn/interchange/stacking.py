"""Recurrent layers on top of each other as one layer of several."""

from __future__ import annotations

from typing import Any

from fastrnn.interchange.values import layer_of
from fastrnn.layers.recurrent import Recurrent

__all__ = ["stacked"]


def stacked(layers: list[Any]) -> list[Any]:
    """Layers one after the other, with those of one kind and size as one of several layers.

    So a model has the shape in which it would be written here, and one state for all of them.
    """
    found: list[list[Any]] = []
    for layer in layers:
        if found and _continues(found[-1][-1], layer):
            found[-1].append(layer)
        else:
            found.append([layer])
    return [group[0] if len(group) == 1 else _stack(group) for group in found]


def _continues(below: Any, layer: Any) -> bool:
    if not isinstance(layer, Recurrent) or type(below) is not type(layer):
        return False
    if layer.dropout or layer.num_layers > 1 or below.num_layers > 1:
        return False
    different = ("input_size", "random_state")
    first, second = (
        {name: value for name, value in one.config().items() if name not in different}
        for one in (below, layer)
    )
    return first == second and layer.input_size == below.output_size


def _stack(group: list[Any]) -> Any:
    values = {
        name.replace("_l0", f"_l{k}"): value
        for k, layer in enumerate(group)
        for name, value in layer.params.items()
    }
    options = {**group[0].config(), "num_layers": len(group)}
    del options["dtype"]
    return layer_of(type(group[0]), values, **options)
