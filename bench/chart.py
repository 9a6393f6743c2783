"""The README's chart: how many times faster fastrnn is than the best peer, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.targets import Row, geometric_mean

# Kinds of work: label, script, and kinds of cell.
WORK = [
    ("a step of a stream: LSTM", "streaming_step", ["lstm"]),
    ("a step of a stream: GRU", "streaming_step", ["gru"]),
    ("one sequence: LSTM", "single_sequence", ["lstm"]),
    ("one sequence: GRU", "single_sequence", ["gru"]),
    ("batches: LSTM", "inference", ["lstm"]),
    ("batches: GRU", "inference", ["gru"]),
    ("batches: RNN", "inference", ["rnn"]),
    ("batches, 1500 units: all", "large_hidden", ["lstm", "gru", "rnn"]),
    ("training: LSTM", "training", ["lstm"]),
    ("training: GRU", "training", ["gru"]),
    ("training: RNN", "training", ["rnn"]),
    ("lengths T/4 to T: LSTM, GRU", "ragged", ["lstm", "gru"]),
    ("character model: LSTM", "character_model", ["lstm"]),
    ("word model: LSTM", "language_model_step", ["lstm"]),
]
COLORS = {1: "#7a9cc6", 2: "#1f4e8c"}


def by_work(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows that have peers, by the label of their kind of work; float32, the usual ISA."""
    found = {}
    for label, work, cells in WORK:
        chosen = [
            row
            for row in rows
            if (row.work, row.dtype, row.isa) == (work, "float32", "default")
            and row.cell in cells
            and "best" in row.measures
        ]
        if chosen:
            found[label] = chosen
    return found


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the chart as SVG: a dot for each cell, a bar for the geometric mean."""
    import matplotlib

    # The same results must give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "fastrnn"
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(1, color="black", linewidth=1)
    work = by_work(rows)
    for place, chosen in enumerate(work.values()):
        for threads, color in COLORS.items():
            ratios = [row.measures["best"] for row in chosen if row.threads == threads]
            y = -place + (0.17 if threads == 1 else -0.17)
            axes.plot(ratios, [y] * len(ratios), "o", color=color, alpha=0.5, markersize=4)
            if ratios:
                mean = geometric_mean(ratios)
                axes.plot([mean] * 2, [y - 0.16, y + 0.16], color=color, linewidth=3)
    for threads, color in COLORS.items():
        axes.plot([], [], "o", color=color, label=f"{threads} thread{'s' * (threads > 1)}")
    axes.set(
        xscale="log",
        xlabel="time of the best of PyTorch, onnxruntime and OpenVINO / time of fastrnn",
        yticks=[-place for place in range(len(work))],
        yticklabels=list(work),
    )
    ticks = [0.5, 0.7, 1, 1.5, 2, 3, 5, 10]
    low, high = axes.get_xlim()
    shown = [tick for tick in ticks if low <= tick <= high]
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    axes.set_xticks([], minor=True)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right", title="dots: cells; bars: geometric means")
    figure.savefig(path, metadata={"Date": None})
