"""The numbers that decide what a layer drops next, read and put back.

Dropout masks are a function of a layer's ``random_state`` and the number of the call (see
`fastrnn.engine.masks`); layers without dropout count no calls, and a Sequential's are those of its
layers.
"""

from __future__ import annotations

from typing import Any

__all__ = ["mask_numbers", "set_mask_numbers"]


def mask_numbers(layer: Any) -> list[int]:
    """What decides the masks of a layer's next call."""
    if hasattr(layer, "call_count"):
        return [layer.random_state, layer.call_count]
    return [number for part in getattr(layer, "layers", ()) for number in mask_numbers(part)]


def set_mask_numbers(layer: Any, numbers: list[int]) -> None:
    """Let a layer's next call drop what it would have dropped when `mask_numbers` was asked."""
    if hasattr(layer, "call_count"):
        layer.random_state, layer.call_count = numbers
        return
    for part in getattr(layer, "layers", ()):
        count = len(mask_numbers(part))
        set_mask_numbers(part, numbers[:count])
        numbers = numbers[count:]
