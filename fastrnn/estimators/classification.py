"""What is said of classes, whatever the sequences are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from fastrnn.estimators.pooled import Pooled
from fastrnn.estimators.targets import read_target
from fastrnn.sequence_data import Samples
from fastrnn.sequence_network import Loss
from fastrnn.targets import Classes, Labels

__all__ = ["ClassOutputs", "SequenceClassifier"]

Array = NDArray[Any]


class ClassOutputs:
    """Classes as targets: of sequences, or of steps, whose targets are then one array in a row."""

    classes_: Array
    class_weight: Any
    _targets: Classes | Labels

    def _make_targets(self, y: Array, weight: Any, classes: Any) -> Classes | Labels:
        if type_of_target(y, input_name="y") == "multilabel-indicator":
            targets: Classes | Labels = Labels(y.shape[1])
        else:
            targets = Classes.of(y if classes is None else np.asarray(classes))
        self.classes_ = targets.classes
        return targets

    def _weights_of_classes(self, y: Array, weight: Array) -> Array:
        if self.class_weight is None:
            return weight
        return weight * compute_sample_weight(self.class_weight, y)

    def _loss(self) -> Loss:
        return self._targets.loss


class SequenceClassifier(ClassifierMixin, ClassOutputs, Pooled):
    """An estimator that tells the class, or several labels, of a whole sequence."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _read_y(self, y: Any, samples: Samples, name: str = "y") -> Array:
        y = read_target(type(self).__name__, y, len(samples), numeric=False)
        check_classification_targets(y)
        return y

    def _strata(self, y: Array) -> Array | None:
        return y if y.ndim == 1 else None

    def _accuracy(self, y: Any, predicted: Array, sample_weight: Any) -> float:
        """Of labels, the share of sequences with all of them right."""
        return float(accuracy_score(y, predicted, sample_weight=sample_weight))
