"""All results in one JSON file: rows by the name of the run, each with where it was measured."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.targets import Row

HERE = Path(__file__).parent
FILE = HERE / "results.json"
OTHERS = sorted(HERE.glob("results_*.json"))
"""What was measured on other machines, shown by their targets alone."""
# What a run writes itself, as git is told to leave it out.
WRITTEN = [f":(exclude,top){name}" for name in ("README.md", "bench/README.md")]
WRITTEN += [f":(exclude,top)bench/{name}" for name in ("results*.json", "speed.svg")]


def read(path: Path = FILE) -> dict[str, dict[str, Any]]:
    """The runs of a file by name; none if there is no file."""
    if not path.exists():
        return {}
    runs: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return runs


def write(runs: Mapping[str, Any], path: Path = FILE) -> None:
    """Replace the file as a whole, so that a run cut short leaves the last one."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    fresh.replace(path)


def rows_of(runs: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """The rows of all runs."""
    return [Row.read(values) for run in runs.values() for values in run["rows"]]


def commit() -> str:
    """The commit that is checked out, with a + where other files than results differ from it."""
    differing = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", *WRITTEN)
    return (_git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if differing else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(HERE), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
