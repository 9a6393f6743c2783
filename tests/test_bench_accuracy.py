"""The reader of the archives, and the rows that accuracy is shown in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # what is installed stays before it

from bench import archives, table  # noqa: E402
from bench.targets import ACCURACIES, Row, judge  # noqa: E402

TEXT = """# about:it
@problemName Two
@classLabel true walk run
@data
1,2,3:-1,-2,-3:walk
4.5:?:run

"""


def test_ragged_channels_with_a_class_last() -> None:
    X, y = archives.parse_ts(TEXT.splitlines())
    assert [x.shape for x in X] == [(3, 2), (1, 2)]
    assert y.tolist() == ["walk", "run"]
    np.testing.assert_array_equal(X[0], [[1, -1], [2, -2], [3, -3]])
    assert X[1][0, 0] == 4.5 and np.isnan(X[1][0, 1])
    assert {(x.dtype.name, x.flags.c_contiguous) for x in X} == {("float32", True)}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1,2:1:run"], "line 2: expected channels of one length"),
        (["1:2:run", "", "3:walk"], "line 4: expected 2 channels and a class, got 1"),
    ],
)
def test_broken_lines(lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        archives.parse_ts(["@DATA", *lines])


def test_the_archives(data_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = data_file("classification/JapaneseVowels_TRAIN.ts")
    monkeypatch.setenv("FASTRNN_DATA", str(path.parent.parent))
    vowels = archives.load("JapaneseVowels")
    lengths = [len(x) for x in vowels.X_train]
    assert (len(lengths), min(lengths), max(lengths), vowels.X_train[0].shape[1]) == (
        270,
        7,
        26,
        12,
    )
    assert len(vowels.y_test) == len(vowels.X_test) == 370 and len(set(vowels.y_train)) == 9
    assert archives.load("BasicMotions").X_test.shape == (40, 100, 6)
    assert archives.load("ItalyPowerDemand").X_test.shape == (1029, 24, 1)
    assert archives.load("MNIST-1D").X_train.shape == (4000, 40, 1)


def test_a_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path))
    for name in set(archives.SETS) - {"digits"}:
        with pytest.raises(FileNotFoundError):
            archives.load(name)


def test_digits() -> None:
    pytest.importorskip("sklearn")
    split = archives.load("digits")
    assert split.X_train.shape == (1347, 8, 8) and split.X_test.shape == (450, 8, 8)
    assert np.bincount(split.y_test).min() >= 43


def test_verdicts_and_digits_shown() -> None:
    name, bound = next(iter(ACCURACIES.items()))
    row = Row("accuracy", name, {"seeds": 5}, 2, {"fastrnn": 1.0}, {"accuracy": bound - 1e-4})
    (verdict,) = judge(row)
    assert not verdict.met
    row.measures |= {"accuracy": bound, "torch": 1.5, "spread": 0.0123}
    assert [one.met for one in judge(row)] == [True, True]
    assert f"{bound:.4f}" in "\n".join(table.rows_table([row]))
    assert "0.0123" in "\n".join(table.rows_table([row]))


@pytest.mark.slow
def test_the_script(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    path = tmp_path / "rows.json"
    command = [sys.executable, "-m", "bench.accuracy", "--quick", "--only", "digits", "MNIST"]
    # Without the folder of real data, the rest is left out.
    done = subprocess.run(
        [*command, "--threads", "1", "--json", str(path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "FASTRNN_DATA": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("MNIST-1D, gru, 2 directions, max is left out") == 1
    (found,) = [Row.read(values) for values in json.loads(path.read_text())["rows"]]
    assert (found.work, found.cell, found.shape["n"]) == ("accuracy", "digits", 1347)
    assert found.measures["accuracy"] > 0.93
    if "torch" in found.measures:  # the same net, so nearly the same answers
        assert abs(found.measures["torch accuracy"] - found.measures["accuracy"]) < 0.02
