"""The README's chart: how many times faster fastrnn is than the best peer, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.targets import Row, geometric_mean

# What a row of the chart shows: its label, the script, and the kinds of cell.
LINES = [
    ("stream, one step: LSTM", "streaming_step", ["lstm"]),
    ("stream, one step: GRU", "streaming_step", ["gru"]),
    ("one sequence: LSTM", "single_sequence", ["lstm"]),
    ("one sequence: GRU", "single_sequence", ["gru"]),
    ("batches: LSTM", "inference", ["lstm"]),
    ("batches: GRU", "inference", ["gru"]),
    ("batches: RNN", "inference", ["rnn"]),
    ("1500 units: all", "large_hidden", ["lstm", "gru", "rnn"]),
    ("training: LSTM", "training", ["lstm"]),
    ("training: GRU", "training", ["gru"]),
    ("training: RNN", "training", ["rnn"]),
    ("training, ragged: all", "ragged", ["lstm", "gru"]),
    ("character model's step", "character_model", ["lstm"]),
    ("language model's step", "language_model_step", ["lstm"]),
]
COLORS = {1: "#7a9cc6", 2: "#1f4e8c"}


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the chart as SVG: a dot for each cell, a bar for the geometric mean."""
    import matplotlib

    # The same results must give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "fastrnn"
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib.figure import Figure

    usual = [row for row in rows if (row.dtype, row.isa) == ("float32", "default")]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(1, color="black", linewidth=1)
    labels: list[str] = []
    for label, work, cells in LINES:
        chosen = [row for row in usual if row.work == work and row.cell in cells]
        chosen = [row for row in chosen if "best" in row.measures]
        if not chosen:
            continue
        place = -len(labels)
        labels.append(label)
        for threads, color in COLORS.items():
            ratios = [row.measures["best"] for row in chosen if row.threads == threads]
            y = place + (0.17 if threads == 1 else -0.17)
            axes.plot(ratios, [y] * len(ratios), "o", color=color, alpha=0.5, markersize=4)
            if ratios:
                mean = geometric_mean(ratios)
                axes.plot([mean] * 2, [y - 0.16, y + 0.16], color=color, linewidth=3)
    for threads, color in COLORS.items():
        axes.plot([], [], "o", color=color, label=f"{threads} thread{'s' * (threads > 1)}")
    axes.set(
        xscale="log",
        xlabel="time of the best of PyTorch, onnxruntime and OpenVINO / time of fastrnn",
        yticks=[-i for i in range(len(labels))],
        yticklabels=labels,
    )
    ticks = [0.5, 0.7, 1, 1.5, 2, 3, 5, 10]
    low, high = axes.get_xlim()
    shown = [tick for tick in ticks if low <= tick <= high]
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    axes.set_xticks([], minor=True)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right", title="dots: cells; bars: geometric means")
    figure.savefig(path, metadata={"Date": None})
