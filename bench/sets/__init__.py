"""What accuracy is measured on: tasks, each a set, an estimator for it, and what stands beside.

The data are looked for in the folder that FASTRNN_DATA names, else in ../shared/data. Nothing of
them is copied.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import fastrnn

__all__ = ["Labels", "Split", "Task", "folder"]


def folder() -> Path:
    """Where real data lie, if they do."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("FASTRNN_DATA") or beside)


class Task(Protocol):
    """A set, an estimator for it, and what stands beside.

    Attributes
    ----------
    measure, dtype : str
        What it is judged by, and what the networks compute in.
    """

    measure: ClassVar[str]
    dtype: ClassVar[str]

    @property
    def name(self) -> str:
        """Of its row."""
        ...

    @property
    def splits(self) -> bool:
        """Whether the data, and so what stands beside, depend on the seed."""
        ...

    @property
    def seeds(self) -> int:
        """How many fits."""
        ...

    @property
    def torch_seeds(self) -> int:
        """How many of them beside PyTorch, from the first seed on."""
        ...

    def brief(self) -> Self:
        """The same with less work, to see that it runs."""
        ...

    def data(self, seed: int) -> Any:
        """What the other methods take; FileNotFoundError if the set is not there."""
        ...

    def make(self, seed: int, threads: int | None = None) -> Any:
        """The estimator."""
        ...

    def fitted(self, estimator: Any, data: Any) -> tuple[float, float]:
        """The measure after a fit, and the fit's seconds."""
        ...

    def others(self, data: Any) -> dict[str, float]:
        """The measure of what stands beside."""
        ...

    def compared(self, value: float, others: Mapping[str, float]) -> dict[str, float]:
        """What targets ask for beside the measure's mean, from the means of others."""
        ...

    def shape(self, data: Any) -> dict[str, int]:
        """How much there is."""
        ...


class Split(NamedTuple):
    """Training and test data.

    Attributes
    ----------
    X_train, X_test
        As the estimator takes them.
    y_train, y_test
    """

    X_train: Any
    y_train: Any
    X_test: Any
    y_test: Any


@dataclass(frozen=True)
class Labels:
    """To tell classes, judged by accuracy on test data.

    Attributes
    ----------
    name : str
    read : callable
        ``read(seed) -> Split``.
    parameters : mapping
        What the estimator has beside its defaults.
    estimator : str
        Its class.
    baselines : mapping of str to callable
        Functions that make other estimators.
    rival : str
        The baseline whose accuracy the target depends on, if any.
    splits : bool
        Whether the seed splits the data.
    seeds, torch_seeds : int
    brief_parameters : mapping
        What `brief` has instead.
    """

    measure: ClassVar[str] = "accuracy"
    dtype: ClassVar[str] = "float32"

    name: str
    read: Callable[[int], Split]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    estimator: str = "RNNClassifier"
    baselines: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    rival: str = ""
    splits: bool = False
    seeds: int = 5
    torch_seeds: int = 5
    brief_parameters: Mapping[str, Any] = field(default_factory=dict)

    def brief(self) -> Self:
        """One seed."""
        parameters = {**self.parameters, **self.brief_parameters}
        return replace(self, seeds=1, parameters=parameters)

    def data(self, seed: int) -> Split:
        """Training and test data."""
        return self.read(seed)

    def make(self, seed: int, threads: int | None = None) -> Any:
        """The estimator."""
        kind = getattr(fastrnn, self.estimator)
        return kind(**self.parameters, random_state=seed, n_threads=threads)

    def fitted(self, estimator: Any, data: Split) -> tuple[float, float]:
        """Accuracy, and the seconds of the fit alone."""
        begun = time.perf_counter()
        estimator.fit(data.X_train, data.y_train)
        seconds = time.perf_counter() - begun
        return float(estimator.score(data.X_test, data.y_test)), seconds

    def others(self, data: Split) -> dict[str, float]:
        """The baselines' accuracy."""
        return {name: self.fitted(make(), data)[0] for name, make in self.baselines.items()}

    def compared(self, value: float, others: Mapping[str, float]) -> dict[str, float]:
        """How far it is above the rival."""
        return {f"accuracy - {self.rival}": value - others[self.rival]} if self.rival else {}

    def shape(self, data: Split) -> dict[str, int]:
        """The number of sequences to train on."""
        return {"n": len(data.y_train)}


def lines_of(*path: str) -> Sequence[str]:
    """The lines of one of the files."""
    return folder().joinpath(*path).read_text(encoding="utf-8").splitlines()
