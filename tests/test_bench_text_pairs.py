"""The sources and targets that sequence-to-sequence models are shown with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.targets import Row
from bench.text_pairs import (
    MARK,
    Pairs,
    arithmetic,
    reversals,
    summaries,
    translations,
    words_of,
)

ROOT = Path(__file__).resolve().parent.parent


def check(pairs: Pairs, n: int, held_out: int) -> None:
    assert len(pairs.sources) == len(pairs.targets) == n - held_out
    assert len(pairs.held_sources) == len(pairs.references) == held_out
    assert not set(pairs.sources) & set(pairs.held_sources)


def test_arithmetic() -> None:
    pairs = arithmetic(3_000, 300)
    check(pairs, 3_000, 300)
    assert pairs == arithmetic(3_000, 300) != arithmetic(3_000, 300, seed=1)
    answers = [*pairs.targets, *(answer for (answer,) in pairs.references)]
    asked = [[int(a) for a in text.split("+")] for text in pairs.sources + pairs.held_sources]
    assert answers == [str(a + b) for a, b in asked]
    assert len({tuple(sorted(numbers)) for numbers in asked}) == 3_000
    assert {len(str(a)) for numbers in asked for a in numbers} == {1, 2, 3}
    assert all(str(int(a)) == a for text in pairs.sources for a in text.split("+"))
    with pytest.raises(ValueError, match="n: expected at most a third of 100, got 60"):
        arithmetic(60, 6, digits=1)
    with pytest.raises(ValueError, match="held_out: expected a number from 1 to 9, got 10"):
        arithmetic(10, 10)


def test_reversals() -> None:
    pairs = reversals(500, 50, (2, 6), "abc")
    check(pairs, 500, 50)
    assert all(target == source[::-1] for source, target in zip(*pairs[:2], strict=True))
    assert pairs.references == [[source[::-1]] for source in pairs.held_sources]
    assert {len(source) for source in pairs.sources} == {2, 3, 4, 5, 6}


def test_summaries() -> None:
    pairs = summaries(60, 10, words=20)
    check(pairs, 60, 10)
    targets = [*pairs.targets, *(target for (target,) in pairs.references)]
    for source, target in zip(pairs.sources + pairs.held_sources, targets, strict=True):
        assert len(source.split()) == 200
        sentences = re.findall(r"[^.]+ \.", source)
        assert {len(one.replace(MARK, "").split()) for one in sentences} <= set(range(6, 12))
        marked = [one.strip()[2:] for one in sentences if MARK in one]
        assert len(marked) == 3 and " ".join(marked) == target


def test_words() -> None:
    assert words_of("J'ai  vu\u202f: «L'été» !") == "j' ai vu : « l' été » !"
    assert words_of("Don't go.") == "don' t go ."


def test_translations(tmp_path: Path) -> None:
    lines = [f"Word {i}.\tMot {i}{j} !" for i in range(20) for j in range(i % 3 + 1)]
    file = tmp_path / "pairs.tsv"
    file.write_text("\n".join([*lines, "word 5 .\tmot 50 !", "WORD 5.\tEncore"]) + "\n")
    pairs = translations(file, 0.25)
    assert len(pairs.held_sources) == 5 and not set(pairs.sources) & set(pairs.held_sources)
    for source, several in zip(pairs.held_sources, pairs.references, strict=True):
        i = int(source.split()[1])
        expected = {f"mot {i}{j} !" for j in range(i % 3 + 1)} | ({"encore"} if i == 5 else set())
        assert set(several) == expected and len(several) == len(expected)
    every = [*zip(pairs.sources, pairs.targets, strict=True)]
    assert len(every) == len(set(every))
    total = len(every) + sum(map(len, pairs.references))
    assert total == len(lines) + 1  # one twice, one more


def test_the_real_translations(data_file: Callable[[str], Path]) -> None:
    pairs = translations(data_file("translation/eng-fra-20k.tsv"))
    assert len(pairs.held_sources) > 1000
    assert not set(pairs.sources) & set(pairs.held_sources)
    assert len({len(several) for several in pairs.references}) > 5
    assert all(len(set(several)) == len(several) for several in pairs.references)


@pytest.mark.slow
def test_the_tasks(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench.seq2seq_tasks", "--quick", "--json", str(path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "FASTRNN_DATA": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is left out") == 2  # without the folder of real data
    found = [Row.read(values) for values in json.loads(path.read_text())["rows"]]
    assert [row.cell for row in found] == ["sums", "reversal", "summaries"]
    assert found[0].measures["seconds"] > 0 and "gain" in found[2].measures
