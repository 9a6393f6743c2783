"""What all results say together: a line for each target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench import results
from bench.table import table
from bench.targets import (
    TARGETS,
    Row,
    Target,
    Verdict,
    judge,
    judge_isas,
    judge_means,
)

HEADS = ["work", "rows", "threads", "measure", "target", "worst or mean", "at the bound", "met"]
HEADS += ["verdict"]


def summary(runs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A Markdown table with a line for each target and number of threads, misses called MISS.

    "at the bound" is the worst or the mean if every row took as long as the machine needs; a miss
    that would be one even there is called beyond.
    """
    return table(HEADS, _targets(results.rows_of(runs)))


def _targets(rows: Sequence[Row]) -> Iterator[list[str]]:
    """The cells of the summary's lines."""
    verdicts = {id(row): judge(row) for row in rows}
    means = {(id(v.target), v.threads): (v, count) for v, count in judge_means(rows)}
    for target in TARGETS:
        for threads in sorted({row.threads for row in rows if target.fits(row)}):
            if target.mean:
                verdict, count = means[id(target), threads]
                yield _line(verdict, [verdict], count)
                continue
            found = [
                verdict
                for row in rows
                for verdict in verdicts[id(row)]
                if verdict.target is target and verdict.threads == threads
            ]
            worst = (max if target.most else min)(found, key=lambda v: v.measured)
            yield _line(worst, found, len(found))
    for verdict, count in judge_isas(rows):
        yield _line(verdict, [verdict], count)


def _line(shown: Verdict, all_of: Sequence[Verdict], count: int) -> list[str]:
    target, met = shown.target, sum(verdict.met for verdict in all_of)
    beyond = sum(verdict.beyond for verdict in all_of)
    missed = len(all_of) - met
    words = "met" if not missed else "beyond" if beyond == missed else "MISS"
    if 0 < beyond < missed:
        words = f"MISS, {beyond} beyond"
    bounds = [verdict for verdict in all_of if verdict.at_bound is not None]
    least = (max if target.most else min)(bounds, key=lambda v: v.at_bound or 0, default=shown)
    sign = "<=" if target.most else ">="
    return [
        target.work,
        _where(target) + (f", mean of {count}" if target.mean else ""),
        str(shown.threads),
        target.measure,
        f"{sign} {shown.limit:.3g}",
        shown.shown,
        least.shown_at_bound,
        f"{met}/{len(all_of)}",
        words,
    ]


def _where(target: Target) -> str:
    """Which rows a target is for, in words."""
    usual = {"dtype": ["float32"], "isa": ["default"]}
    parts = []
    for name, values in target.where.items():
        if usual.get(name) == list(values):
            continue
        listed = ", ".join(str(value) for value in values)
        parts.append(listed if isinstance(values[0], str) else f"{name} {listed}")
    return "; ".join(parts) or "all"
