"""What a model is to say, as the numbers a network learns, and its answers as the caller's.

Each class is made from the training targets, and then turns targets into what the loss takes and
the network's outputs into predictions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn import losses

__all__ = ["REGRESSION_LOSSES", "Classes", "Labels", "Loss", "Quantities", "softmax"]

Array = NDArray[Any]
Loss = Callable[[Array, Array, Array], tuple[float, Array]]

TEXT = "OSU"  # kinds of dtypes

REGRESSION_LOSSES: dict[str, Loss] = {
    "squared_error": losses.squared_error,
    "absolute_error": losses.absolute_error,
    "huber": losses.huber,
}


def softmax(logits: Array) -> Array:
    """Probabilities over the last axis, in the logits' dtype."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    e /= e.sum(axis=-1, keepdims=True)
    return e


class Classes:
    """One of several classes, by a softmax over a logit for each.

    Parameters
    ----------
    classes : array (K,)
        What the caller calls them, sorted, each once.
    """

    loss = staticmethod(losses.softmax_cross_entropy)

    def __init__(self, classes: Array) -> None:
        self.classes = classes
        self.n_outputs = len(classes)

    @classmethod
    def of(cls, y: Array, name: str = "y") -> Classes:
        """The classes that occur."""
        classes = np.unique(y)
        if len(classes) < 2:
            raise ValueError(f"{name}: expected at least two classes, got {len(classes)} class")
        return cls(classes)

    def encode(self, y: Array, name: str = "y") -> Array:
        """The classes' numbers, int64 (n,)."""
        if y.ndim != 1:
            raise ValueError(
                f"{name}: expected one class for each sequence, (n,), got shape {y.shape}"
            )
        if (y.dtype.kind in TEXT) != (self.classes.dtype.kind in TEXT):  # nothing can be equal
            unseen = np.unique(y)
        else:
            where = np.searchsorted(self.classes, y)
            where = np.minimum(where, len(self.classes) - 1)
            unseen = np.unique(y[self.classes[where] != y])
        if len(unseen):
            raise ValueError(
                f"{name}: expected the classes {describe_values(self.classes)}, "
                f"got also {describe_values(unseen)}"
            )
        return where.astype(np.int64, copy=False)

    def predict(self, logits: Array) -> Array:
        """The most likely class of each row."""
        return self.classes[logits.argmax(axis=1)]

    def predict_proba(self, logits: Array) -> Array:
        """The probability of each class: (n, K)."""
        return softmax(logits)

    def decision_function(self, logits: Array) -> Array:
        """The logits (n, K); of two classes, by how much the second's is larger: (n,)."""
        return logits[:, 1] - logits[:, 0] if self.n_outputs == 2 else logits


class Labels:
    """Any of several labels at once, each by a sigmoid of its own.

    Parameters
    ----------
    n_labels : int
    """

    loss = staticmethod(losses.binary_cross_entropy)

    def __init__(self, n_labels: int) -> None:
        self.classes = np.arange(n_labels)
        self.n_outputs = n_labels

    def encode(self, y: Array, name: str = "y") -> Array:
        """The same, as floats, if it is (n, K) of zeros and ones."""
        if y.ndim != 2 or y.shape[1] != self.n_outputs:
            raise ValueError(f"{name}: expected shape (n, {self.n_outputs}), got {y.shape}")
        if not np.isin(y, (0, 1)).all():
            raise ValueError(
                f"{name}: expected zeros and ones, got {describe_values(np.unique(y))}"
            )
        return y.astype(np.float64)

    def predict(self, logits: Array) -> Array:
        """Zeros and ones, (n, K)."""
        return (logits > 0).astype(np.int64)

    def predict_proba(self, logits: Array) -> Array:
        """The probability of each label: (n, K)."""
        e = np.exp(-np.abs(logits))
        return np.where(logits >= 0, 1, e) / (1 + e)

    def decision_function(self, logits: Array) -> Array:
        """The logits (n, K)."""
        return logits


class Quantities:
    """Numbers, learned in units of their own spread.

    Parameters
    ----------
    center, scale : array (K,)
        The network's outputs times `scale` plus `center` are the predictions.
    one : bool
        Whether the caller's y is (n,) and not (n, K).
    """

    def __init__(self, center: Array, scale: Array, one: bool) -> None:
        self.center, self.scale, self.one = center, scale, one
        self.n_outputs = len(center)

    @classmethod
    def of(cls, y: Array, weight: Array) -> Quantities:
        """With the weighted mean and standard deviation of y, (n,) or (n, K)."""
        used = weight > 0
        columns, weight = y.reshape(len(y), -1)[used].astype(np.float64), weight[used]
        center = np.average(columns, axis=0, weights=weight)
        spread = np.sqrt(np.average((columns - center) ** 2, axis=0, weights=weight))
        return cls(center, np.where(spread > 0, spread, 1.0), y.ndim == 1)

    def encode(self, y: Array, name: str = "y") -> Array:
        """(n, K), standardized."""
        columns = y.reshape(len(y), -1)
        if columns.shape[1] != self.n_outputs:
            raise ValueError(
                f"{name}: expected {self.n_outputs} targets for each sequence, got shape {y.shape}"
            )
        return (columns - self.center) / self.scale

    def predict(self, outputs: Array) -> Array:
        """The caller's units, in the outputs' dtype: (n,) or (n, K)."""
        y = (outputs * self.scale + self.center).astype(outputs.dtype)
        return y[:, 0] if self.one else y


def describe_values(values: Array) -> str:
    """A few values for a message."""
    shown = ", ".join(repr(value) for value in values[:10].tolist())
    return f"[{shown}{', ...' if len(values) > 10 else ''}]"
