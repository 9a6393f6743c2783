"""X of numbers, read as the sequences that a model has been fitted to were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.sequences.data import Channels, Samples, form_of, read_samples

__all__ = ["NumberReader"]


@dataclass(frozen=True, slots=True)
class NumberReader:
    """Reads arrays, tables and lists of arrays.

    Attributes
    ----------
    width : int
        D, channels of every sequence.
    dtype : dtype
        What they are converted to.
    channels : Channels or None
        How they are scaled.
    layout : {"ntd", "ndt"}
    missing : {"error", "skip"}
    columns : int or None
        How many columns a table has, if a table was fitted to.
    names : tuple of str or None
        What they are called, if that table was a frame.
    """

    width: int
    dtype: np.dtype
    channels: Channels | None
    layout: str = "ntd"
    missing: str = "error"
    columns: int | None = None
    names: tuple[str, ...] | None = None

    def read(self, X: Any, lengths: Any, name: str = "X", missing: str | None = None) -> Samples:
        """The sequences of X; see `read_samples` for `missing`."""
        if form_of(X) == "table":
            X = self._table(X, name)
        samples = read_samples(X, lengths, self.dtype, self.layout, missing or self.missing, name)
        if samples.width != self.width:
            raise ValueError(
                f"{name}: expected sequences of {self.width} channels, as fit has seen, "
                f"got {samples.width}"
            )
        return samples

    def items(self, samples: Samples) -> list[Any]:
        """The sequences as the network takes them."""
        return (samples if self.channels is None else self.channels.scaled(samples)).items

    def _table(self, X: Any, name: str) -> Any:
        """A table whose columns are those that fit has seen."""
        if hasattr(X, "columns"):  # a frame
            found = tuple(X.columns)
            if self.names is not None and found != self.names:
                raise ValueError(
                    f"{name}: expected the columns {list(self.names)!r:.80}, as fit has seen, "
                    f"got {list(found)!r:.80}"
                )
            X = np.asarray(X)
        shape = np.shape(X)
        if self.columns is not None and len(shape) == 2 and shape[1] != self.columns:
            raise ValueError(
                f"{name}: expected {self.columns} columns, as fit has seen, got {shape[1]}"
            )
        return X
