"""Estimators of sequences with scikit-learn's interface."""

try:
    import sklearn  # noqa: F401
except ImportError as error:  # pragma: no cover - the tests of it run without scikit-learn
    raise ImportError(
        "fastrnn's estimators need scikit-learn: pip install 'fastrnn[sklearn]'"
    ) from error

from fastrnn.estimators.classifier import RNNClassifier
from fastrnn.estimators.forecaster import Forecaster
from fastrnn.estimators.regressor import RNNRegressor
from fastrnn.estimators.tagger import SequenceTagger
from fastrnn.estimators.text_classifier import TextClassifier

__all__ = ["Forecaster", "RNNClassifier", "RNNRegressor", "SequenceTagger", "TextClassifier"]
