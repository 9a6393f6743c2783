"""The tables in both READMEs and the chart, from results; `python -m bench.publish`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bench import chart, report, results
from bench.common import machine
from bench.table import rows_table, table
from bench.targets import LEVEL, Row, geometric_mean

Runs = Mapping[str, Mapping[str, Any]]

README = results.HERE / "README.md"
FRONT = results.HERE.parent / "README.md"
CHART = results.HERE / "speed.svg"
BEGIN = "<!-- written by python -m bench.publish -->\n"
END = "<!-- to here -->\n"

SHARED = {"accuracy"}  # works whose runs, one after the other, are in one table
WIDEST = 12  # cells of the table of those that are behind
MEANS = ["work", "cells", "1 thread: worst", "mean", "2 threads: worst", "mean"]
BEHIND = ["work", "cell", "sizes", "threads", "faster", "its time / ours"]


def publish(runs: Runs) -> None:
    """Write both tables between their marks, and draw the chart."""
    for path, lines in ((README, tables(runs)), (FRONT, front(runs))):
        text = path.read_text(encoding="utf-8")
        path.write_text(replaced(text, lines), encoding="utf-8")
    chart.draw(results.rows_of(runs), CHART)


def replaced(text: str, lines: Iterable[str]) -> str:
    """A text with other lines between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"text: expected the lines {BEGIN!r} and {END!r}")
    return before + begin + "".join(f"{line}\n" for line in lines) + end + after


def tables(runs: Runs) -> Iterator[str]:
    """What README.md here has: targets, and every run's rows."""
    yield "\n## Targets\n"
    for line in sorted({machine(run["environment"]) for run in runs.values()}):
        yield f"{line}.\n"
    yield from report.summary(runs)
    for path in results.OTHERS:
        others = results.read(path)
        yield "\n## Targets on another machine\n"
        for line in sorted({machine(run["environment"]) for run in others.values()}):
            yield f"{line}.\n"
        yield f"All rows are in `{path.name}`.\n"
        yield from report.summary(others)
    yield "\n## All rows"
    for title, group in itertools.groupby(runs, key=lambda name: _title(name, runs[name])):
        names = list(group)
        yield f"\n### {title}\n"
        for name in names:
            run = runs[name]
            about = f"Commit {run['commit']}, {run['date']}, ISA {run['environment']['isa']}."
            yield f"{name}: {about}\n" if len(names) > 1 else f"{about}\n"
        yield from rows_table(results.rows_of({name: runs[name] for name in names}))


def _title(name: str, run: Mapping[str, Any]) -> str:
    """Of the table that a run's rows are in: its own name, but for those that share one."""
    work = run["rows"][0]["work"]
    return work if work in SHARED else name


def front(runs: Runs) -> Iterator[str]:
    """What the project's README has: ratios against the best peer, and where it is ahead of us."""
    work = chart.by_work(results.rows_of(runs))
    about = next(iter(runs.values()))
    yield f"{machine(about['environment'])}; {about['date'][:10]}.\n"
    yield from table(MEANS, (_means(label, rows) for label, rows in work.items()))
    all_cells = [(label, row) for label, rows in work.items() for row in rows]
    behind = [(label, row) for label, row in all_cells if row.measures["best"] < LEVEL]
    behind.sort(key=lambda found: found[1].measures["best"])
    lost = f"{len(behind)} of {len(all_cells)} cells"
    yield f"\n**What fastrnn loses at.** In {lost} a peer is faster by more than 3 %."
    if not behind:
        return
    yield "The widest gaps:\n" if len(behind) > WIDEST else ""
    yield from table(BEHIND, (_lost(label, row) for label, row in behind[:WIDEST]))


def _means(label: str, rows: Sequence[Row]) -> list[str]:
    cells = [label, str(len(rows))]
    for threads in (1, 2):
        ratios = [row.measures["best"] for row in rows if row.threads == threads]
        cells += [f"{min(ratios):.2f}", f"{geometric_mean(ratios):.2f}"] if ratios else ["-", "-"]
    return cells


def _lost(label: str, row: Row) -> list[str]:
    best = row.measures["best"]
    peer = next(name for name, ratio in row.measures.items() if ratio == best and name != "best")
    sizes = ", ".join(f"{name} {size}" for name, size in row.shape.items())
    return [label, row.cell, sizes, str(row.threads), peer, f"{best:.2f}"]


if __name__ == "__main__":
    publish(results.read())
