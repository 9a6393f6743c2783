"""Run every benchmark, or some, each in a fresh process, and say which targets are met.

After each run its rows are written to a JSON file, so that a run cut short can be taken up again
with --missing. With --publish the tables of bench/README.md and the chart are made anew from them.

python -m bench.run
python -m bench.run training_lstm single_sequence --seconds 0.2
python -m bench.run --missing --publish
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import publish, report, results


@dataclass(frozen=True)
class Run:
    """A script with its options and what its environment has beside that of this process."""

    script: str
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


# A few cells are enough to see other instruction sets and double precision beside the defaults.
FEW_BATCHES = ["--batches", "8", "64", "--shapes", "50,256,256", "35,650,650"]
FEW_STEPS = ["--batches", "20", "64", "--shapes", "50,256,256", "35,650,650"]
AVX2 = {"FASTRNN_ISA": "avx2"}
CELLS = ["lstm", "gru", "rnn"]  # apart, so that a run is a matter of a few minutes
RUNS = {
    "single_sequence": Run("single_sequence"),
    "streaming_step": Run("streaming_step"),
    "stream_pool": Run("stream_pool"),
    **{f"inference_{cell}": Run("inference", ["--cells", cell]) for cell in CELLS},
    "large_hidden": Run("large_hidden"),
    "gru_reset_before": Run("gru_reset_before"),
    **{f"training_{cell}": Run("training", ["--cells", cell]) for cell in CELLS},
    "ragged": Run("ragged"),
    "language_model_step": Run("language_model_step"),
    "character_model": Run("character_model"),
    "attention": Run("attention"),
    "inference_avx2": Run("inference", ["--cells", "lstm", *FEW_BATCHES], AVX2),
    "training_avx2": Run("training", ["--cells", "lstm", *FEW_STEPS], AVX2),
    "inference_float64": Run("inference", ["--dtype", "float64", *FEW_BATCHES]),
    "training_float64": Run("training", ["--dtype", "float64", *FEW_STEPS]),
    "accuracy": Run("accuracy", ["--kinds", "numbers"]),
    "accuracy_texts": Run("accuracy", ["--kinds", "texts"]),
    "accuracy_tagging": Run("accuracy", ["--kinds", "tagging"]),
    "accuracy_series": Run("accuracy", ["--only", "sunspots", "airline"]),
    "accuracy_temperatures": Run("accuracy", ["--only", "temperatures"]),
    "language_curves": Run("language_curves"),
    "seq2seq_tasks": Run("seq2seq_tasks"),
    "busy_neighbor": Run("busy_neighbor"),
    "memory": Run("memory"),
    "import_time": Run("import_time"),
    "footprint": Run("footprint"),
    "service": Run("service"),
}


def run(name: str, more: Sequence[str]) -> dict[str, Any] | None:
    """One run's rows and environment, or None if it failed."""
    what = RUNS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [sys.executable, "-m", f"bench.{what.script}", *what.options, *more]
        begun = time.monotonic()
        done = subprocess.run(
            [*command, "--json", str(path)],
            check=False,
            cwd=results.HERE.parent,
            env={**os.environ, **what.environment},
        )
        if done.returncode or not path.exists():
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {
        "commit": results.commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": round(time.monotonic() - begun),
        **found,
    }


def main() -> int:
    """Run what is asked for; the answer is 1 if a script failed, misses are no failure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(RUNS)}")
    parser.add_argument("--quick", action="store_true", help="few rows, little time for each")
    parser.add_argument("--seconds", type=float, help="per candidate and row")
    parser.add_argument("--missing", action="store_true", help="what this commit has not run")
    parser.add_argument("--publish", action="store_true", help="write README.md and the chart")
    parser.add_argument("--json", type=Path, help="where results are kept, by default here")
    chosen = parser.parse_args()
    # What --quick finds must not replace what a whole run found.
    kept = chosen.json or (None if chosen.quick else results.FILE)
    unknown = set(chosen.names) - set(RUNS)
    if unknown:
        parser.error(f"no such run: {', '.join(sorted(unknown))}")
    more = ["--quick"] if chosen.quick else []
    if chosen.seconds:
        more += ["--seconds", str(chosen.seconds)]
    runs = results.read(kept) if kept else {}
    failed = []
    for name in chosen.names or RUNS:
        if chosen.missing and runs.get(name, {}).get("commit") == results.commit():
            continue
        print(f"\n=== {name}", flush=True)
        found = run(name, more)
        if found is None:
            failed.append(name)
            continue
        runs[name] = found
        runs = {key: runs[key] for key in RUNS if key in runs}  # whatever ran first
        if kept:
            results.write(runs, kept)
    print()
    for line in report.summary(runs):
        print(line)
    if chosen.publish:
        publish.publish(runs)
    for name in failed:
        print(f"FAILED: {name}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
