"""Fitted estimators where scikit-learn is not installed, or not wanted: they answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastrnn import files
from fastrnn.engine.devices import HOST, find
from fastrnn.engine.movable import Movable
from fastrnn.engine.parameters import prepare_layer
from fastrnn.files import FormatError
from fastrnn.sequences.network import SequenceNetwork
from fastrnn.series.serving import Forecasts
from fastrnn.serving.judge import Judge
from fastrnn.serving.stored import TARGETS, Tensors, expect, read_judge
from fastrnn.serving.stored_series import read_forecasts
from fastrnn.serving.streams import AnswerStream
from fastrnn.training.records import check_header

__all__ = ["Predictor", "prepare_network"]

Array = NDArray[Any]


class Predictor(Movable):
    """What a saved estimator answers with, without scikit-learn: NumPy and SciPy are enough.

    `fastrnn.load` gives one for the file of an estimator where scikit-learn is not installed, and
    ``Predictor.load`` anywhere. Its answers have the bits of the estimator's own.

    Attributes
    ----------
    estimator : str
        The name of the class that was fitted.
    parameters : dict
        Those that it was made with.
    history_ : dict of str to list of float
        Of its training.
    layers_ : dict of str to layer
    n_threads : int or None
        Threads while answering; None leaves the number as it is.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import Predictor, RNNRegressor
    >>> X = np.linspace(0, 1, 60).reshape(5, 12)
    >>> RNNRegressor(max_iter=5, random_state=0).fit(X, X.sum(axis=1)).save("sums.safetensors")
    >>> predictor = Predictor.load("sums.safetensors").prepare()
    >>> predictor
    Predictor(RNNRegressor)
    >>> predictor.predict(X).shape
    (5,)
    """

    def __init__(self, estimator: str, answers: Judge | Forecasts) -> None:
        self.estimator = estimator
        self._answers = answers
        self.parameters: dict[str, Any] = {}
        self.history_: dict[str, list[float]] = {}
        if isinstance(answers, Judge) and hasattr(answers.targets, "classes"):
            self.classes_: Array = answers.targets.classes

    def __repr__(self) -> str:
        return f"Predictor({self.estimator})"

    @staticmethod
    def load(
        path: files.Path, *, check_finite: bool = False, mmap: bool = False, device: Any = "cpu"
    ) -> Predictor:
        """Read a file that an estimator's ``save`` has written.

        Parameters
        ----------
        path, check_finite, mmap, device
            As for `fastrnn.load`.

        Returns
        -------
        Predictor

        Raises
        ------
        FormatError
            See `fastrnn.load`; and if the file holds no estimator.
        """
        target = find(device)
        found = files.load_as(path, check_finite=check_finite, mmap=mmap, predictor=True)
        if not isinstance(found, Predictor):
            raise FormatError(f"path: expected the file of an estimator, got {found!r:.80}")
        return found if target is HOST else found.to(target)

    @classmethod
    def from_file(cls, remembered: Mapping[str, Any], tensors: Mapping[str, Any]) -> Self:
        """The predictor of what an estimator's ``to_file`` has described."""
        name = expect(remembered, "estimator", str)
        check_header(remembered, {})
        n_threads = remembered["config"].get("n_threads")
        if n_threads is not None and (type(n_threads) is not int or n_threads < 1):
            raise FormatError(f"n_threads: expected a number or None, got {n_threads!r:.80}")
        left = Tensors(tensors)
        answers: Judge | Forecasts
        if name == "Forecaster":
            left.take("mase_scale", 1)
            answers = read_forecasts(remembered, left, n_threads)
        elif name in TARGETS:
            if expect(remembered, "counted", bool):
                left.take("counts", 1, np.int64)
            answers = read_judge(remembered, left, TARGETS[name], n_threads)
        else:
            raise FormatError(f"estimator: expected one of {', '.join(TARGETS)}, got {name!r:.80}")
        if (answers.network.pool.pooling is None) != (name == "SequenceTagger"):
            raise FormatError(f"pooling: expected that of a {name}")
        found = cls(name, answers)
        found.parameters, found.history_ = remembered["config"], remembered["history"]
        return found

    def _fitted_layers(self) -> dict[str, Any]:
        return self.layers_

    @property
    def layers_(self) -> dict[str, Any]:
        """The layers by name."""
        return self._answers.network.named

    @property
    def n_threads(self) -> int | None:
        """Threads while answering."""
        return self._answers.n_threads

    @n_threads.setter
    def n_threads(self, value: int | None) -> None:
        self._answers.n_threads = value

    def prepare(self) -> Self:
        """Pack the weights for serving, before a fork, so that its processes share them.

        The layers' parameters become read-only.
        """
        prepare_network(self._answers.network)
        return self

    # Answers

    def predict(self, *args: Any, **named: Any) -> Any:
        """Answer as the estimator's own ``predict``.

        Parameters
        ----------
        *args, **named
            ``X, lengths=None``; of a forecaster ``n=None, X=None, context=None``.
        """
        if isinstance(self._answers, Forecasts):
            return self._answers.predict(*_of_forecast(*args, **named))
        return self._answers.predict(self._read(*args, **named))

    def predict_proba(self, X: Any, lengths: Any = None) -> Any:
        """Tell the probability of each class or label, as the classifier's own ``predict_proba``.

        Parameters
        ----------
        X, lengths
            As for its `predict`.
        """
        return self._judge("predict_proba").predict_proba(self._read(X, lengths))

    def decision_function(self, X: Any, lengths: Any = None) -> Any:
        """Tell the logits, as the classifier's own ``decision_function``.

        Parameters
        ----------
        X, lengths
            As for its `predict`.
        """
        return self._judge("decision_function").decision_function(self._read(X, lengths))

    def transform(self, X: Any, lengths: Any = None) -> Array:
        """Compute the pooled states, as the estimator's own ``transform``.

        Parameters
        ----------
        X, lengths
            As for its `predict`.
        """
        return self._judge("transform").transform(self._read(X, lengths))

    def predict_quantiles(self, n: int | None = None, X: Any = None, context: Any = None) -> Array:
        """Tell the quantiles of what follows, as the forecaster's own ``predict_quantiles``.

        Parameters
        ----------
        n, X, context
            As for its `predict`.
        """
        if not isinstance(self._answers, Forecasts):
            raise self._cannot("predict_quantiles")
        return self._answers.predict_quantiles(n, X, context)

    def stream(self, batch_size: int = 1, answer: str = "predict") -> AnswerStream:
        """Answer about sequences that arrive step by step.

        Parameters
        ----------
        batch_size : int
            How many sequences.
        answer : {"predict", "predict_proba", "decision_function", "transform"}
            What to tell after each step.

        Raises
        ------
        ValueError
            Of texts, of recurrent layers of both directions, and of pooling by a mean or attention.
        """
        if isinstance(self._answers, Forecasts):
            raise self._cannot("stream")
        return AnswerStream(self._answers, batch_size, answer)

    def _read(self, X: Any, lengths: Any = None) -> Any:
        assert isinstance(self._answers, Judge)
        return self._answers.reader.read(X, lengths)

    def _judge(self, method: str) -> Judge:
        """What answers, if it is asked for what it can tell."""
        judge = self._answers
        if isinstance(judge, Forecasts):
            raise self._cannot(method)
        tells = judge.network.pool.pooling if method == "transform" else hasattr(
            judge.targets, method
        )  # fmt: skip
        if not tells:
            raise self._cannot(method)
        return judge

    def _cannot(self, method: str) -> TypeError:
        return TypeError(f"{method}: expected an estimator that has it, got a {self.estimator}")


def _of_forecast(n: int | None = None, X: Any = None, context: Any = None) -> tuple[Any, Any, Any]:
    return n, X, context


def prepare_network(network: SequenceNetwork) -> None:
    """Make a network's parameters read-only, and pack them once."""
    for layer in network.named.values():
        prepare_layer(layer)
