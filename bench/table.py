"""Tables that are also Markdown, of anything and of rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from bench.targets import OURS, Row, judge


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table, each as soon as its row is there; columns are as wide as the heads."""
    widths = [max(len(head), 5) for head in heads]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.rjust(w) for c, w in zip(cells, widths, strict=True)) + " |"

    yield line(heads)
    yield "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|"
    for row in rows:
        yield line(row)


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, each row as soon as it is there."""
    for line in table(heads, rows):
        print(line, flush=True)


def heads(first: Row) -> list[str]:
    """Heads of a table that begins with this row."""
    times = [f"{OURS} ms"] if OURS in first.times else []
    others = ["beside"] if first.others else []
    return ["cell", *first.shape, "threads", *times, *first.measures, *others, "verdict"]


def cells(row: Row, first: Row) -> list[str]:
    """The cells of a row in a table that begins with `first`."""
    times = [f"{row.times[OURS] * 1e3:.3g}"] if OURS in first.times else []
    verdicts = "; ".join(str(verdict) for verdict in judge(row))
    main = next(iter(row.measures))
    others = "; ".join(f"{name} {_measure(main, value)}" for name, value in row.others.items())
    return [
        row.cell,
        *(str(row.shape.get(name, "-")) for name in first.shape),
        str(row.threads),
        *times,
        *(_measure(name, row.measures.get(name)) for name in first.measures),
        *([others or "-"] if first.others else []),
        verdicts or "-",
    ]


def rows_table(rows: Sequence[Row]) -> Iterator[str]:
    """The lines of a table of rows, with everything that one of them has."""
    first = dataclasses.replace(
        rows[0],
        shape=dict.fromkeys((name for row in rows for name in row.shape), 0),
        measures=dict.fromkeys((name for row in rows for name in row.measures), 0.0),
        others=next((row.others for row in rows if row.others), {}),
    )
    return table(heads(first), (cells(row, first) for row in rows))


def _measure(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name.endswith(("accuracy", "spread")):
        return f"{value:.4f}"
    if name.endswith("MAE"):
        return f"{value:#.4g}"
    return f"{value:.0%}" if name in ("peak", "bound") else f"{value:.2f}"
