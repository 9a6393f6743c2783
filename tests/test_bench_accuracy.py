"""The sets that accuracy is measured on, what stands beside, and the rows it is shown in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import publish, table
from bench.common import environment
from bench.targets import ACCURACIES, Row, judge

ROOT = Path(__file__).resolve().parent.parent

pytest.importorskip("sklearn")
from bench import fits  # noqa: E402
from bench.sets import Labels, Split, archives, series, texts  # noqa: E402

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
    split = archives.load("digits")
    assert split.X_train.shape == (1347, 8, 8) and split.X_test.shape == (450, 8, 8)
    assert np.bincount(split.y_test).min() >= 43


def write(folder: Path, name: str, lines: list[str]) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_name_is_on_one_side(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path))
    rows = [(f"n{i % 40}", "Irish" if i < 40 else "Greek") for i in range(60)]
    write(tmp_path, "classification/names.tsv", [f"{name}\t{label}" for name, label in rows])
    split = texts.names(3)
    assert len(set(split.X_test)) == 8 and not set(split.X_test) & set(split.X_train)
    names, labels = [*split.X_train, *split.X_test], [*split.y_train, *split.y_test]
    found = list(zip(names, labels, strict=True))
    assert sorted(found) == sorted(rows)
    assert set(texts.names(4).X_test) != set(split.X_test)


def test_a_pair_is_on_one_side(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path))
    pairs = [f"e{i}\tf{i}\tfrom where it is" for i in range(20)]
    write(tmp_path, "translation/eng-fra-20k.tsv", pairs)
    X, y, X_test, y_test = texts.languages(0)
    assert (len(X), len(X_test)) == (32, 8)
    assert [text[1:] for text in X_test[::2]] == [text[1:] for text in X_test[1::2]]
    assert not {text[1:] for text in X_test} & {text[1:] for text in X}
    for text, label in zip([*X, *X_test], [*y, *y_test], strict=True):
        assert label == {"e": "English", "f": "French"}[text[0]]


def test_tags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path))
    train = ["a\tD", "dog\tN", "", "a\tD", "bit\tV", "bit\tN", "bit\tV"]
    write(tmp_path, "tagging/ud-ewt-train.tsv", train)
    write(tmp_path, "tagging/ud-ewt-dev.tsv", ["a\tN", "bit\tV", "cat\tN"])
    X, y, X_test, y_test = texts.tagging(0)
    assert X == [["a", "dog"], ["a", "bit", "bit", "bit"]] and y[1] == ["D", "V", "N", "V"]
    # "a" is wrong, "bit" is right, and so is "cat": "dog" came once, as a noun.
    assert texts.MostFrequentTag().fit(X, y).score(X_test, y_test) == pytest.approx(2 / 3)


SERIES = np.exp(np.arange(40) / 40) * (4 + np.sin(np.arange(40))) + np.arange(40) % 3
TASK = series.Forecasts(
    "made", "made.csv", 3, 6, 4, 2, {"window": 5, "max_iter": 2, "log": True, "differencing": 1}
)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("order", [0, 1])
def test_ridge_regression_on_lags(log: bool, order: int) -> None:
    """As by a loop over the origins of each fold."""
    from sklearn.linear_model import RidgeCV

    z = np.log(SERIES) if log else SERIES
    w = np.diff(z) if order else z
    made = TASK.ridge(SERIES, log=log, order=order)
    assert len(made) == 4 and TASK.ends(SERIES) == [31, 33, 35, 37]
    for end, found in zip(TASK.ends(SERIES), made, strict=True):
        origins = range(5 + order, end - 3 + 1)
        X = np.array([w[t - order - 5 : t - order] for t in [*origins, end]])
        level = {t: z[t - 1] if order else 0.0 for t in [*origins, end]}
        targets = np.array([z[t : t + 3] - level[t] for t in origins])
        X = (X - X[:-1].mean(axis=0)) / X[:-1].std(axis=0)
        model = RidgeCV(series.PENALTIES).fit(X[:-1], targets)
        expected = model.predict(X[-1:])[0] + level[end]
        np.testing.assert_allclose(found, np.exp(expected) if log else expected)


def test_what_stands_beside_a_forecaster() -> None:
    others = TASK.others(SERIES)
    ends = TASK.ends(SERIES)
    assert list(others) == [
        *["naive", "seasonal naive (6)", "ridge", "ridge, differenced", "ridge, with phase"]
    ]
    naive = [np.abs(SERIES[t : t + 3] - SERIES[t - 1]).mean() for t in ends]
    seasonal = [np.abs(SERIES[t : t + 3] - SERIES[t - 6 : t - 3]).mean() for t in ends]
    assert others["naive"] == pytest.approx(np.mean(naive))
    assert others["seasonal naive (6)"] == pytest.approx(np.mean(seasonal))
    made = TASK.ridge(SERIES, log=True, order=1)
    errors = [np.abs(SERIES[t : t + 3] - one).mean() for t, one in zip(ends, made, strict=True)]
    assert others["ridge, differenced"] == pytest.approx(np.mean(errors))
    beside = {"naive": 4.0, "ridge": 2.0, "ridge, with phase": 1.0}
    assert TASK.compared(1.5, beside) == {"MAE / best beside": 0.75}


def test_a_backtest_is_what_a_forecaster_is_judged_by() -> None:
    error, seconds = TASK.fitted(TASK.make(3), SERIES)
    found = TASK.make(3).backtest(SERIES, 4, step=2, period=6)
    assert error == found.mae["forecaster"] and 0 < seconds < 10
    assert found.mae["naive"] == pytest.approx(TASK.others(SERIES)["naive"])
    assert (TASK.brief().folds, TASK.brief().seeds) == (2, 1)


class Guess:
    """Stands for an estimator: it is right for some of the test data."""

    max_iter = 7

    def __init__(self, right: float, wait: float) -> None:
        self.right, self.wait = right, wait
        self.fits = 0

    def fit(self, X: list[int], y: list[int]) -> None:
        time.sleep(self.wait)
        self.fits += 1

    def score(self, X: list[int], y: list[int]) -> float:
        assert self.fits == 1 and X == [3]
        return self.right


class Made(Labels):
    """A task whose estimators guess."""

    def make(self, seed: int, threads: int | None = None) -> Any:
        return Guess(0.5 + seed / 10, 0.01)


@pytest.mark.parametrize("splits", [False, True])
def test_a_row_of_means_over_seeds(splits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    compared: list[int] = []

    def split(seed: int) -> Split:
        read.append(seed)
        return Split([1, 2], [1, 2], [3], [seed])

    def baseline() -> Guess:
        compared.append(read[-1])
        return Guess(0.1 * read[-1], 0.0)

    def in_torch(model: Guess, epochs: int) -> Guess:
        assert epochs == 7
        return Guess(model.right - 0.1, 0.05)

    task = Made(
        "made", split, baselines={"most": baseline}, rival="most", splits=splits,
        seeds=3, torch_seeds=2,
    )  # fmt: skip
    monkeypatch.setattr(fits, "REST", 0.0)
    assert "torch spread" not in fits.row(replace(task, torch_seeds=1), 2, in_torch).measures
    read.clear()
    compared.clear()
    row = fits.row(task, 2, in_torch)
    assert read == compared == ([0, 1, 2] if splits else [0])
    assert row.shape == {"seeds": 3, "torch seeds": 2, "n": 2, "epochs": 7}
    assert row.others == {"most": pytest.approx(0.1 if splits else 0.0)}
    assert list(row.measures) == [
        *["accuracy", "spread", "accuracy - most", "torch accuracy", "torch spread", "torch"]
    ]
    expected = [0.6, 0.02**0.5 / 3**0.5, 0.5 if splits else 0.6, 0.45, 0.05]
    np.testing.assert_allclose([*row.measures.values()][:-1], expected)
    assert 2.5 < row.measures["torch"] < 7.5
    row = fits.row(task, 2)
    assert row.shape["torch seeds"] == 0
    assert list(row.measures) == ["accuracy", "spread", "accuracy - most"]


def a_row(cell: str, measures: dict[str, float], **more: Any) -> Row:
    return Row("accuracy", cell, {"seeds": 5}, 2, {"fastrnn": 1.0}, measures, **more)


def test_verdicts_and_digits_shown() -> None:
    name, bound = next(iter(ACCURACIES.items()))
    row = a_row(name, {"accuracy": bound - 1e-4})
    (verdict,) = judge(row)
    assert not verdict.met
    row.measures |= {"accuracy": bound, "torch": 1.5, "spread": 0.0123}
    assert [one.met for one in judge(row)] == [True, True]
    assert f"{bound:.4f}" in "\n".join(table.rows_table([row]))
    assert "0.0123" in "\n".join(table.rows_table([row]))


@pytest.mark.parametrize(
    ("cell", "measure", "value", "met"),
    [
        ("names", "accuracy - TF-IDF", -0.0149, True),
        ("names", "accuracy - TF-IDF", -0.0151, False),
        ("airline, 20 folds of 12", "MAE / best beside", 0.999, True),
        ("airline, 20 folds of 12", "MAE / best beside", 1.001, False),
    ],
)
def test_targets_beside_others(cell: str, measure: str, value: float, met: bool) -> None:
    (verdict,) = judge(a_row(cell, {measure: value}))
    assert verdict.met == met


def test_every_task_has_a_target() -> None:
    tasks = [*archives.TASKS, *texts.TASKS, *texts.TAGGING, *series.TASKS]
    for task in tasks:
        measures = {task.measure: 0.5, **task.compared(0.5, dict.fromkeys(["TF-IDF", "naive"], 1))}
        assert judge(a_row(task.name, measures)), task.name
    names = [task.name for task in tasks]
    assert len(set(names)) == len(names) and set(ACCURACIES) < set(names)


def test_one_table_of_unlike_rows() -> None:
    rows = [
        a_row("digits", {"accuracy": 0.96}),
        a_row("made", {"MAE": 13.5}, others={"naive": 54.05, "ridge": 1.8}),
    ]
    rows[1].shape = {"seeds": 1, "n": 144}
    head, _, *lines = table.rows_table(rows)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (head, *lines)]
    assert cells[0] == [
        *["cell", "seeds", "n", "threads", "fastrnn ms", "accuracy", "MAE", "beside", "verdict"]
    ]
    assert cells[1][1:-1] == ["5", "-", "2", "1e+03", "0.9600", "-", "-"]
    assert cells[2][1:-1] == [*["1", "144", "2", "1e+03", "-", "13.50", "naive 54.05; ridge 1.800"]]
    about = {"date": "then", "environment": {**environment("avx2")}}
    runs = {
        name: {"commit": name[0], **about, "rows": [vars(row)]}
        for name, row in [("training", replace(rows[0], work="training")),
                          ("accuracy", rows[0]), ("made", rows[1])]
    }  # fmt: skip
    made = "\n".join(publish.tables(runs))
    _, training, shared = made.split("\n### ")
    assert training.startswith("training\n\nCommit t, then, ISA avx2.\n")
    assert shared.startswith(
        "accuracy\n\naccuracy: Commit a, then, ISA avx2.\n\nmade: Commit m, then, ISA avx2.\n"
    )
    assert shared.count("| verdict |") == 1 and "| digits |" in shared and "|  made |" in shared


def test_rows_as_older_files_have_them() -> None:
    kept = vars(a_row("digits", {"accuracy": 0.9}))
    del kept["others"]
    assert Row.read(kept) == a_row("digits", {"accuracy": 0.9})


@pytest.mark.slow
def test_the_script(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    command = [sys.executable, "-m", "bench.accuracy", "--quick", "--only"]
    command += ["digits", "MNIST", "names", "UD"]
    # Without the folder of real data, the rest is left out.
    done = subprocess.run(
        [*command, "--threads", "1", "--json", str(path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "FASTRNN_DATA": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("MNIST-1D, gru, 2 directions, max", "names", "UD-EWT tagging"):
        assert done.stderr.count(f"{name} is left out") == 1
    (found,) = [Row.read(values) for values in json.loads(path.read_text())["rows"]]
    assert (found.work, found.cell, found.shape["n"]) == ("accuracy", "digits", 1347)
    assert found.measures["accuracy"] > 0.93
    if "torch" in found.measures:  # the same net, so nearly the same answers
        assert abs(found.measures["torch accuracy"] - found.measures["accuracy"]) < 0.02
