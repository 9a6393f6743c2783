"""A fitted network's answers about sequences, or about each of their steps."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastrnn.sequences.data import Samples
from fastrnn.sequences.network import SequenceNetwork
from fastrnn.thread_count import threads

__all__ = ["Judge", "Reader"]

Array = NDArray[Any]


class Reader(Protocol):
    """From X to what a network takes."""

    def read(self, X: Any, lengths: Any, name: str = "X") -> Samples:
        """The sequences of X, checked."""

    def items(self, samples: Samples) -> list[Any]:
        """The sequences as the network takes them."""


class Judge:
    """What estimators and `fastrnn.Predictor` answer with.

    Parameters
    ----------
    network : SequenceNetwork
        With a row for each sequence, or for each step.
    reader : Reader
    targets : Classes, Labels or Quantities
        What becomes of the network's outputs.
    n_threads : int or None
        Threads while answering; None leaves the number as it is.
    """

    def __init__(
        self, network: SequenceNetwork, reader: Reader, targets: Any, n_threads: int | None
    ) -> None:
        self.network, self.reader, self.targets = network, reader, targets
        self.n_threads = n_threads

    def outputs(self, samples: Samples) -> Array:
        """What leaves the network: a row for each sequence, or for each step of each."""
        items = self.reader.items(samples)
        with threads(self.n_threads):
            return self.network.outputs(items)

    def predict(self, samples: Samples) -> Any:
        """Classes, labels or numbers."""
        return self._in_form(self.targets.predict(self.outputs(samples)), samples)

    def predict_proba(self, samples: Samples) -> Any:
        """Probabilities of classes or labels."""
        return self._in_form(self.targets.predict_proba(self.outputs(samples)), samples)

    def decision_function(self, samples: Samples) -> Any:
        """Logits."""
        return self._in_form(self.targets.decision_function(self.outputs(samples)), samples)

    def transform(self, samples: Samples) -> Array:
        """What the last linear layer sees, a row for each sequence."""
        items = self.reader.items(samples)
        with threads(self.n_threads):
            return self.network.rows(items)

    def attention(self, samples: Samples) -> list[Array]:
        """With attention: how much each step weighs in its sequence's row."""
        items = self.reader.items(samples)
        with threads(self.n_threads):
            return self.network.attention(items)

    def _in_form(self, rows: Array, samples: Samples) -> Any:
        """The rows of all steps as a list, or as an array that is zero in padding."""
        if self.network.pool.pooling is not None:
            return rows
        if samples.padded is None:
            return np.split(rows, np.cumsum(samples.lengths)[:-1])
        out = np.zeros((len(samples), samples.padded, *rows.shape[1:]), rows.dtype)
        out[np.arange(samples.padded) < samples.lengths[:, None]] = rows
        return out
