"""Tables that are also Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


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
