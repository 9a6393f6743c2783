"""What fastrnn wants to reach, as data; each row of results is judged by the targets that fit it.

Ratios are a peer's time over fastrnn's, so that more is better, unless a target says `most`.
"best" is the ratio against the best peer, and 0.97 of its speed counts as level.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

OURS = "fastrnn"
LEVEL = 0.97
FLOAT32 = {"dtype": ["float32"], "isa": ["default"]}


@dataclass(frozen=True)
class Target:
    """One bound on one measure of the rows that it is for.

    Parameters
    ----------
    work : str
        The script's name.
    measure : str
        Which of a row's measures.
    bound : float or mapping of int to float
        The bound, or one for each number of threads.
    where : mapping of str to list
        The values that a row's fields must have: ``cell``, ``dtype``, ``isa``, and those of its
        shape.
    mean : bool
        Whether it is for the geometric mean over all rows of a number of threads.
    most : bool
        Whether the bound is an upper one.
    """

    work: str
    measure: str
    bound: float | Mapping[int, float]
    where: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    mean: bool = False
    most: bool = False

    def limit(self, threads: int) -> float | None:
        """The bound for a number of threads, None where there is none."""
        if isinstance(self.bound, Mapping):
            return self.bound.get(threads)
        return self.bound

    def fits(self, row: Row) -> bool:
        """Whether a row is one of those that this target is for."""
        return (
            row.work == self.work
            and self.measure in row.measures
            and self.limit(row.threads) is not None
            and all(row.field(name) in values for name, values in self.where.items())
        )


@dataclass
class Row:
    """What one script measured in one cell of its table.

    Parameters
    ----------
    work, cell : str
        The script's name and the kind of network.
    shape : dict of str to int
        N, T, D, H and the like.
    threads : int
    times : dict of str to float
        Median seconds of each candidate.
    measures : dict of str to float
        Ratios by the peer's name, "best", "peak" (share of the fused multiply-adds that the machine
        does at most), "bound" (share of our time that it needs at least), and what a script has of
        its own.
    dtype, isa : str
    others : dict of str to float
        What other methods reach in place of the first measure, by name.
    """

    work: str
    cell: str
    shape: dict[str, int]
    threads: int
    times: dict[str, float]
    measures: dict[str, float]
    dtype: str = "float32"
    isa: str = "default"
    others: dict[str, float] = field(default_factory=dict)

    def field(self, name: str) -> Any:
        """A value that targets name."""
        return self.shape[name] if name in self.shape else getattr(self, name, None)

    def at_bound(self, target: Target) -> float | None:
        """What a target's measure would be if fastrnn took no more than the machine needs.

        None where that is not known: a row that took less shows that a limit was measured too low.
        """
        share = self.measures.get("bound")
        if share is None or share > 1:
            return None
        measured = self.measures[target.measure]
        return measured * share if target.most else measured / share

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """A row from what JSON kept of it."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})


@dataclass(frozen=True)
class Verdict:
    """One target held against what was measured."""

    target: Target
    threads: int
    measured: float
    limit: float
    at_bound: float | None = None

    @property
    def met(self) -> bool:
        """Whether the target is reached; NaN reaches none."""
        if self.target.most:
            return self.measured <= self.limit
        return self.measured >= self.limit

    @property
    def beyond(self) -> bool:
        """Whether the target is missed and would be at the machine's limit; NaN shows nothing."""
        if self.met or self.at_bound is None:
            return False
        return self.at_bound > self.limit if self.target.most else self.at_bound < self.limit

    def __str__(self) -> str:
        name = self.target.measure + (" in the mean" if self.target.mean else "")
        sign = "<=" if self.target.most else ">="
        text = f"{name} {self.shown} {sign} {self.limit:.3g}"
        if self.beyond:
            return f"beyond {text}"
        return text if self.met else f"MISS {text}"

    @property
    def shown(self) -> str:
        """What was measured."""
        return self._digits(self.measured)

    @property
    def shown_at_bound(self) -> str:
        """What would be measured at the bound."""
        return "-" if self.at_bound is None else self._digits(self.at_bound)

    def _digits(self, value: float) -> str:
        """Two digits, and a third where two would look like the limit."""
        near = abs(value - self.limit) < 0.005
        return f"{value:.3f}" if near else f"{value:.2f}"


def judge(row: Row, targets: Iterable[Target] | None = None) -> list[Verdict]:
    """The verdicts on one row."""
    return [
        Verdict(target, row.threads, row.measures[target.measure], limit, row.at_bound(target))
        for target in (TARGETS if targets is None else targets)
        if not target.mean and target.fits(row)
        if (limit := target.limit(row.threads)) is not None
    ]


def judge_means(
    rows: Sequence[Row], targets: Iterable[Target] | None = None
) -> Iterator[tuple[Verdict, int]]:
    """The verdicts on geometric means, each with the number of rows behind it."""
    for target in TARGETS if targets is None else targets:
        fitting = [row for row in rows if target.mean and target.fits(row)]
        for threads in sorted({row.threads for row in fitting}):
            these = [row for row in fitting if row.threads == threads]
            values = [row.measures[target.measure] for row in these]
            bounds = [bound for row in these if (bound := row.at_bound(target)) is not None]
            at_bound = geometric_mean(bounds) if len(bounds) == len(these) else None
            limit = target.limit(threads)
            assert limit is not None  # else the target would not have fitted
            yield Verdict(target, threads, geometric_mean(values), limit, at_bound), len(values)


def judge_isas(rows: Sequence[Row]) -> Iterator[tuple[Verdict, int]]:
    """Whether the lead over PyTorch is the same, to within a tenth, on a limited instruction set.

    For each kind of work the geometric mean of the ratios under FASTRNN_ISA, over that of the same
    cells without it.
    """
    rows = [row for row in rows if "torch" in row.measures]
    usual = {_cell(row): row.measures["torch"] for row in rows if row.isa == "default"}
    for work in sorted({row.work for row in rows if row.isa != "default"}):
        for isa in sorted({row.isa for row in rows if row.isa != "default"}):
            for threads in sorted({row.threads for row in rows}):
                values = [
                    row.measures["torch"] / usual[_cell(row)]
                    for row in rows
                    if (row.work, row.isa, row.threads) == (work, isa, threads)
                    and _cell(row) in usual
                ]
                if values:
                    target = Target(work, f"lead with {isa} / without", 0.9, mean=True)
                    yield Verdict(target, threads, geometric_mean(values), 0.9), len(values)


def _cell(row: Row) -> tuple[Any, ...]:
    """What makes two rows the same but for the instruction set."""
    return (row.work, row.cell, row.dtype, row.threads, *sorted(row.shape.items()))


def geometric_mean(values: Sequence[float]) -> float:
    """The exponential of the mean logarithm."""
    return math.exp(sum(math.log(value) for value in values) / len(values))


WIDE = [256, 512, 650]
ONE_SEQUENCE: list[tuple[str, list[int], float | dict[int, float]]] = [
    ("lstm", [128, 256], {1: 1.4, 2: 1.8}),
    ("gru", [128, 256], {1: 1.15, 2: 1.5}),
    ("lstm", [512], {1: LEVEL, 2: 1.1}),
    ("gru", [512], {1: LEVEL, 2: 1.1}),
    ("lstm", [1024], 1.25),
]

ACCURACIES = {
    # The estimators' defaults.
    "JapaneseVowels": 0.945,
    "ItalyPowerDemand": 0.95,
    "BasicMotions": 0.92,
    # Other networks.
    "BasicMotions, gru, 2 directions, max": 0.95,
    "MNIST-1D, gru, 2 directions, last": 0.92,
    "MNIST-1D, gru, 2 directions, max": 0.97,
    "digits": 0.95,
    # Text.
    "English or French": 0.99,
    "UD-EWT tagging": 0.93,
}

# Task, measure, bound.
SEQ2SEQ = [
    ("sums", "exact accuracy", 0.995),
    ("sums", "seconds", 120.0),
    ("reversal", "on T-1-t", 0.95),
    ("translation", "gain", 2.0),
    ("summaries", "ROUGE-L", 0.9),
    ("summaries", "gain", 0.1),
    ("g2p_en", "words alike", 500.0),
]

TARGETS = [
    # Whole sequences in batches.
    Target("inference", "best", LEVEL, FLOAT32),
    Target("inference", "best", {1: 1.1, 2: 1.05}, {"cell": ["lstm"], **FLOAT32}, mean=True),
    Target("inference", "best", 1.1, {"cell": ["gru", "rnn"], **FLOAT32}, mean=True),
    Target("inference", "peak", 0.9, {"N": [32], "H": WIDE, **FLOAT32}),
    Target("inference", "torch", 1.0, {"dtype": ["float64"]}),
    # Weights larger than the second cache.
    Target("large_hidden", "best", 1.3),
    # GRU, the reset before the product: its time over that of the reset after.
    Target("gru_reset_before", "time / reset after", 1.2, most=True),
    # One sequence.
    *(
        Target("single_sequence", "best", bound, {"cell": [cell], "H": H, "L": [1], "dirs": [1]})
        for cell, H, bound in ONE_SEQUENCE
    ),
    Target("single_sequence", "best", {1: 1.4, 2: 1.8}, {"L": [2], "dirs": [2]}),
    # A step of a stream.
    Target("streaming_step", "µs", 2.0, {"cell": ["lstm"], "H": [64]}, most=True),
    *(
        Target("streaming_step", "onnxruntime", bound, {"cell": ["lstm"], "H": [H]})
        for H, bound in [
            (256, {1: 2.0, 2: 2.8}),
            (512, {1: 1.1, 2: 1.4}),
            (1024, {1: 1.5, 2: 1.8}),
        ]
    ),
    # Ten thousand live streams, of which N are ready.
    Target("stream_pool", "best", 1.0),
    Target("stream_pool", "fastrnn alone", 2.0, {"N": [32, 256]}),
    # Queries and their sources; all the tanh of an additive score.
    Target("attention", "best", 4.0, {"cell": ["additive"]}),
    Target("attention", "torch", 1.0, {"cell": ["dot"]}),
    # Forward and all gradients.
    Target("training", "torch", 1.0, {"cell": ["lstm"], **FLOAT32}),
    Target("training", "torch", {2: 1.3}, {"cell": ["lstm"], **FLOAT32}, mean=True),
    Target("training", "torch", 2.0, {"cell": ["gru", "rnn"], **FLOAT32}),
    Target("training", "torch", {1: 2.8, 2: 3.0}, {"cell": ["gru"], **FLOAT32}, mean=True),
    Target("training", "torch", {1: 2.7, 2: 2.8}, {"cell": ["rnn"], **FLOAT32}, mean=True),
    Target("training", "peak", 0.9, {"N": [64], "H": WIDE, **FLOAT32}),
    Target("training", "peak", 0.85, {"N": [20], "H": WIDE, **FLOAT32}),
    Target("training", "peak", 0.75, {"H": [128], **FLOAT32}),
    Target("training", "torch", 1.0, {"dtype": ["float64"]}),
    # Sequences of many lengths; the first is the time of a real step over that of a dense one.
    Target("ragged", "step / dense step", 1.15, most=True),
    Target("ragged", "torch masked", 1.5, {"backward": [1]}),
    Target("ragged", "torch packed", 3.0, {"backward": [1]}),
    # Whole steps of training.
    Target("language_model_step", "torch", {2: 2.0}, {"H": [200]}),
    Target("language_model_step", "torch", {2: 1.6}, {"H": [650], "T": [20]}),
    Target("language_model_step", "torch", {2: 1.5}, {"H": [650], "T": [35]}),
    Target("character_model", "torch", 1.25),
    Target("character_model", "torch", 1.5, mean=True),
    # Estimators on real data; the time of whole fits beside PyTorch's.
    *(
        Target("accuracy", "accuracy", bound, {"cell": [name]})
        for name, bound in ACCURACIES.items()
    ),
    Target("accuracy", "accuracy - TF-IDF", -0.015, {"cell": ["names"]}),
    Target("accuracy", "MAE / best beside", 1.0, most=True),
    Target("accuracy", "torch", 1.5),
    # Language models beside PyTorch's, from the same weights over the same windows.
    Target("language_curves", "digits alike", 4.0),
    Target("language_curves", "perplexity apart, %", 1.0, most=True),
    Target("language_curves", "torch", {2: 2.0}),
    # What sequence-to-sequence models learn.
    *(
        Target("seq2seq_tasks", measure, bound, {"cell": [name]}, most=measure == "seconds")
        for name, measure, bound in SEQ2SEQ
    ),
    # Other work on the machine: times over those of a quiet machine, or of two threads.
    Target("busy_neighbor", "time / quiet", 1.9, {"neighbors": [1]}, most=True),
    Target("busy_neighbor", "time / two threads", 1.3, {"neighbors": [0]}, most=True),
    # Megabytes and numbers of threads.
    # The formula counts neither final states nor the rest of a last page.
    Target("memory", "kept / formula", 1.02, most=True),
    Target("memory", "growth with T, MB", 2.1, most=True),
    Target("memory", "growth over calls, MB", 2.0, most=True),
    Target("import_time", "ms beyond NumPy", 20.0, most=True),
    Target("import_time", "MB beyond NumPy", 6.0, most=True),
    Target("import_time", "threads started", 0.0, most=True),
    Target("import_time", "package, MB", 5.0, most=True),
    # One answer of a fresh process; the others' rows stand beside.
    Target("footprint", "first answer, ms", 200.0, {"cell": ["fastrnn"]}, most=True),
    Target("footprint", "resident, MB", 60.0, {"cell": ["fastrnn"]}, most=True),
    # Two workers under load, each answer waited for by one of many clients.
    Target("service", "errors", 0.0, {"cell": ["fastrnn"]}, most=True),
    Target("service", "growth, MB", 2.0, {"cell": ["fastrnn"]}, most=True),
    Target("service", "onnxruntime", LEVEL, {"cell": ["fastrnn"]}),
    Target("service", "onnxruntime p99", LEVEL, {"cell": ["fastrnn"]}),
]
