"""Layers of values that come from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn.files import check_tensors, with_values_to_follow

__all__ = ["common_dtype", "empty_layer", "layer_of"]


def common_dtype(values: Mapping[str, np.ndarray]) -> np.dtype:
    """The one dtype that a layer of these values has: float32 or float64.

    Raises
    ------
    ValueError
        If they have several, or another.
    """
    dtypes = {value.dtype.newbyteorder("=") for value in values.values()}
    if len(dtypes) != 1:
        raise ValueError(
            f"dtype: expected one for all of {', '.join(values)}, got "
            f"{', '.join(sorted(map(str, dtypes)))}"
        )
    (dtype,) = dtypes
    if dtype == np.float16:  # whose values float32 holds exactly
        return np.dtype(np.float32)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"dtype: expected float32 or float64 of {', '.join(values)}, got {dtype}")
    return dtype


def empty_layer(cls: Any, dtype: Any, **options: Any) -> Any:
    """A layer whose values its maker is about to write."""
    with with_values_to_follow():
        return cls(**options, dtype=dtype)


def layer_of(cls: Any, values: Mapping[str, np.ndarray], **options: Any) -> Any:
    """A layer of a class, its parameters these values, their shapes checked before it is made.

    Parameters
    ----------
    cls : type
        A class of layers.
    values : mapping of str to array
        All parameters by name; of one dtype, which becomes the layer's.
    **options
        The constructor's arguments, without ``dtype``.
    """
    check_tensors(cls.shapes(options), values)
    layer = empty_layer(cls, common_dtype(values), **options)
    for name, param in layer.params.items():
        param[...] = values[name]
    return layer
