"""What is said of classes, whatever the sequences are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from fastrnn.estimators.pooled import Pooled
from fastrnn.estimators.targets import class_factors, read_target
from fastrnn.sequences.data import Samples
from fastrnn.sequences.network import Loss
from fastrnn.sequences.targets import Classes, Labels, describe_values

__all__ = ["ClassOutputs", "SequenceClassifier"]

Array = NDArray[Any]


class ClassOutputs:
    """Classes as targets: of sequences, or of steps, whose targets are then one array in a row."""

    classes_: Array
    class_weight: Any
    _targets: Classes | Labels
    _factors: Array | None  # of the weights of each class

    def _make_targets(self, y: Any, weight: Any, classes: Any) -> Classes | Labels:
        if y.ndim == 2:
            targets: Classes | Labels = Labels(y.shape[1])
        elif classes is None:
            targets = Classes.of(y)
        else:
            targets = Classes.of(np.asarray(classes), "classes")
        self.classes_ = targets.classes
        return targets

    def _weigh_classes(self, y: Any, weight: Any, partial: bool) -> None:
        if isinstance(self.class_weight, str) and partial:
            raise ValueError(
                "class_weight: expected a dict or None with partial_fit, which does not see all "
                f"targets, got {self.class_weight!r}"
            )
        if isinstance(self._targets, Labels) and self.class_weight is not None:
            raise ValueError(
                "class_weight: expected None with several labels for each sequence, got "
                f"{self.class_weight!r} (sample_weight does as much)"
            )
        codes = self._targets.encode(y)
        self._factors = class_factors(self.class_weight, self.classes_, codes, weight)

    def _weights_of_classes(self, y: Any, weight: Any) -> Any:
        return weight if self._factors is None else weight * self._factors[self._targets.encode(y)]

    def _check_classes(self, classes: Any) -> None:
        """Raise a ValueError unless `classes` are those of the first call of `partial_fit`."""
        if classes is None or not hasattr(self, "layers_"):
            return
        given = np.unique(np.asarray(classes))
        if not np.array_equal(given, self.classes_):
            raise ValueError(
                f"classes: expected {describe_values(self.classes_)}, as in the first call, "
                f"got {describe_values(given)}"
            )

    def _loss(self) -> Loss:
        return self._targets.loss


class SequenceClassifier(ClassifierMixin, ClassOutputs, Pooled):
    """An estimator that tells the class, or several labels, of a whole sequence."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _read_y(self, y: Any, samples: Samples, name: str = "y") -> Array:
        y = read_target(type(self).__name__, y, len(samples), numeric=False, name=name)
        check_classification_targets(y)
        if y.ndim == 2 and type_of_target(y, input_name=name) != "multilabel-indicator":
            raise ValueError(
                f"{name}: expected a class for each sequence, (n,), or zeros and ones, (n, K), "
                f"got {describe_values(np.unique(y))} in shape {y.shape}"
            )
        return y

    def _strata(self, y: Array) -> Array | None:
        return y if y.ndim == 1 else None

    def _accuracy(self, y: Any, predicted: Array, sample_weight: Any) -> float:
        """Of labels, the share of sequences with all of them right."""
        return float(accuracy_score(y, predicted, sample_weight=sample_weight))
