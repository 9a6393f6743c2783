"""The benchmarks' own arithmetic: ratios, verdicts, means, limits, and one script that runs."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import bounds, chart, common, limits, publish, report, results, run, table
from bench.targets import (
    TARGETS,
    Row,
    Target,
    Verdict,
    geometric_mean,
    judge,
    judge_isas,
    judge_means,
)
from fastrnn._native import isas

ROOT = Path(__file__).resolve().parent.parent


def row(measures: dict[str, float], **own: Any) -> Row:
    values: dict[str, Any] = {"work": "training", "cell": "lstm", "shape": {"N": 20, "H": 256}}
    values |= {"threads": 1, "times": {"fastrnn": 1e-3}, "measures": measures}
    return Row(**(values | own))


def test_every_script_has_targets_and_every_target_a_script() -> None:
    scripts = {what.script for what in run.RUNS.values()}
    assert {target.work for target in TARGETS} == scripts
    assert all((ROOT / "bench" / f"{name}.py").is_file() for name in scripts)
    assert scripts <= set(results.HERE.joinpath("README.md").read_text().split("`"))


def test_ratios_are_medians_over_neighbors() -> None:
    ours, other = common.Times(turns=[1, 2, 4]), common.Times(turns=[3, 4, 40])
    assert ours.ratio(other) == 3
    assert common.Times(turns=[1, 2, 4, 8]).ratio(common.Times(turns=[2, 4])) == 2
    assert common.Times(calls=[5, 1, 2]).median == 2


def test_turns() -> None:
    called = {"a": 0, "b": 0, "c": 0}

    def count(name: str) -> Any:
        called[name] += 1

    times = common.interleave(
        {name: lambda name=name: count(name) for name in called}, 0.01, rare=["c"], rest=0
    )
    assert {name: len(found.turns) for name, found in times.items()} == {"a": 7, "b": 7, "c": 3}
    for name, found in times.items():
        assert len(found.calls) >= 5 * len(found.turns)
        assert called[name] > len(found.calls)  # such short calls are measured many at once
        assert min(found.calls) > 0


def test_verdicts() -> None:
    at_least = Target("training", "torch", {1: 1.5, 2: 2.0}, {"cell": ["lstm"], "H": [256]})
    at_most = Target("training", "time", 1.2, most=True)
    (found,) = judge(row({"torch": 1.4}), [at_least, at_most])
    assert (found.limit, found.met, str(found)) == (1.5, False, "MISS torch 1.40 >= 1.5")
    assert judge(row({"torch": 1.5}), [at_least])[0].met
    assert str(judge(row({"torch": 1.498}), [at_least])[0]) == "MISS torch 1.498 >= 1.5"
    assert not judge(row({"torch": 1.9}, threads=2), [at_least])[0].met
    assert judge(row({"torch": 9}, threads=4), [at_least]) == []
    assert judge(row({"torch": 9}, cell="gru"), [at_least]) == []
    assert judge(row({"torch": 9}, shape={"H": 512}), [at_least]) == []
    assert judge(row({"torch": 9}, work="inference"), [at_least]) == []
    assert judge(row({"time": 1.2}), [at_most])[0].met
    assert not judge(row({"time": 1.21}), [at_most])[0].met
    for target in (at_least, at_most):
        assert not Verdict(target, 1, math.nan, 1.0).met


def test_means() -> None:
    assert geometric_mean([2, 8]) == pytest.approx(4)
    target = Target("training", "torch", {1: 4.0, 2: 4.1}, mean=True)
    rows = [row({"torch": r}, threads=t) for t in (1, 2) for r in (2.0, 8.0)]
    found = [(v.threads, v.met, v.measured, n) for v, n in judge_means(rows, [target])]
    assert found == [(1, True, pytest.approx(4), 2), (2, False, pytest.approx(4), 2)]
    assert judge(rows[0], [target]) == []
    assert list(judge_means([], [target])) == []


def test_a_miss_that_the_machine_forbids_is_called_beyond() -> None:
    at_least, at_most = Target("training", "torch", 1.5), Target("training", "time", 2.0, most=True)
    for share, beyond in [(0.9, True), (0.6, False), (1.1, False), (math.nan, False)]:
        (found,) = judge(row({"torch": 1.2, "bound": share}), [at_least])
        assert (found.met, found.beyond) == (False, beyond), share
    (found,) = judge(row({"torch": 1.2, "bound": 0.9}), [at_least])
    assert found.at_bound == pytest.approx(4 / 3)
    assert (str(found), found.shown_at_bound) == ("beyond torch 1.20 >= 1.5", "1.33")
    assert judge(row({"torch": 1.2}), [at_least])[0].shown_at_bound == "-"
    assert not judge(row({"torch": 1.6, "bound": 0.9}), [at_least])[0].beyond
    assert judge(row({"time": 2.5, "bound": 0.9}), [at_most])[0].beyond
    assert not judge(row({"time": 2.5, "bound": 0.7}), [at_most])[0].beyond


def test_means_at_the_bound() -> None:
    target = Target("training", "torch", 4.0, mean=True)
    rows = [row({"torch": 2.0, "bound": 0.5}), row({"torch": 2.0, "bound": 1.0})]
    ((verdict, _),) = judge_means(rows, [target])
    assert verdict.at_bound == pytest.approx(8**0.5)
    assert verdict.beyond
    ((verdict, _),) = judge_means([*rows, row({"torch": 2.0})], [target])
    assert (verdict.at_bound, verdict.beyond) == (None, False)


def test_the_least_time_of_counted_work() -> None:
    def bandwidth(size: int) -> float:
        return {100: 10.0, 40: 4.0}[size]

    assert bounds.Need(60.0).seconds(20.0, bandwidth) == 3
    assert bounds.Need(60.0, weights=100, reads=20.0).seconds(20.0, bandwidth) == 3
    assert bounds.Need(60.0, weights=100, reads=50.0).seconds(20.0, bandwidth) == 5
    assert bounds.Need(60.0, weights=100, reads=50.0, after=40).seconds(20.0, bandwidth) == 15
    assert math.isnan(bounds.Need(60.0, 100, 50.0).seconds(math.nan, bandwidth))


def test_what_a_layer_needs_at_least() -> None:
    from bench.layers import Case

    gru = Case("gru", N=2, T=5, D=3, H=4)
    formulas = 2 * (2 * 11 + 10 + 2) * 2 * 5 * 4  # units of all steps
    products = 2 * 3 * 4 * 2 * (5 * 3 + 4 * 4)  # nothing is multiplied by the first state
    state, inputs = 4 * 3 * 4 * 4, 4 * 3 * 4 * 3
    assert gru.need(1) == bounds.Need(products + formulas, state, 4 * state + inputs)
    assert gru.need(3) == bounds.Need(3 * products + formulas, state, 2 * (4 * state + inputs))
    twice = gru.need(1, "float64")
    assert (twice.weights, twice.reads) == (2 * state, 2 * (4 * state + inputs))
    assert twice.operations == products + 2 * (2 * 16 + 15 + 2) * 2 * 5 * 4
    # A step of a stream is multiplied by the state it finds, and reads all weights every time.
    step = Case("gru", N=1, T=1, D=3, H=4).need(1)
    assert (step.weights, step.reads) == (state + inputs, state + inputs)
    assert step.operations == Case("gru", 1, 1, 3, 4).operations + 2 * 34 * 4
    deep = Case("lstm", N=1, T=2, D=3, H=4, L=2, dirs=2).need(1)
    assert deep.reads == 4 * 4 * 4 * (4 * 4 + 2 * (3 + 2 * 4))  # one step's states, all inputs
    products = 2 * 4 * 4 * (2 * 2 * (3 + 2 * 4) + 4 * 4)
    assert deep.operations == products + 2 * (3 * 11 + 2 * 10 + 3) * 2 * 4 * 4


def test_what_a_language_model_needs_at_least() -> None:
    from bench.language import need

    found = need(symbols=7, distinct=2, N=3, T=5, H=4, L=2)
    # Second layer's inputs and both states, which no gradient of the first step reaches.
    layers = 4 * 4 * 4 * (3 * (3 * 5 + 2) + 2 * 3 * (2 * 5 + 4))
    formulas = 3 * 5 * (2 * 4 * (33 + 20 + 3) + 7 * 9)
    assert found.operations == 2 * (layers + 3 * 3 * 5 * 4 * 7 + formulas)
    assert found.after == 2 * 4 * (4 * 4 * 4 * 4 + 7 * 4 + 2 * 4)
    assert found.weights == 0


@pytest.mark.skipif(not {"avx512", "avx2"} & set(isas()), reason="counts x86 instructions")
@pytest.mark.parametrize("dtype", list(bounds.FORMULAS))
def test_formulas_take_as_many_instructions_as_counted(dtype: str, tmp_path: Path) -> None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("no C compiler")
    names = list(bounds.FORMULAS[dtype])
    lines = [f"V {name}_of(V x) {{ return v{name}(x); }}" for name in names]
    source, made = tmp_path / "formulas.c", tmp_path / "formulas.s"
    source.write_text("\n".join(['#include "vecmath.h"', *lines]))
    command = [compiler, "-O3", "-S", "-mavx2", "-mfma", f"-I{ROOT / 'src'}"]
    command += [f"-DFRN_DOUBLE={int(dtype == 'float64')}", str(source), "-o", str(made)]
    subprocess.run(command, check=True)
    _, *parts = re.split(rf"^_?({'|'.join(names)})_of:", made.read_text(), flags=re.MULTILINE)
    counted = {
        name: len(re.findall(r"\tv(?:fn?m(?:add|sub)\d*|mul|div)p[sd]\b", body))
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }
    # Without AVX-512's instruction for it, exp takes three products more to apply its power of two.
    assert counted == {**bounds.FORMULAS[dtype], "exp": bounds.FORMULAS[dtype]["exp"] + 3}


def test_the_lead_on_a_limited_instruction_set() -> None:
    rows = [row({"torch": 2.0}), row({"torch": 1.0}, shape={"N": 64, "H": 256})]
    rows += [row({"torch": 1.7}, isa="avx2"), row({"torch": 7.0}, isa="avx2", shape={"N": 1})]
    ((verdict, count),) = judge_isas(rows)
    assert (verdict.met, verdict.measured, count) == (False, pytest.approx(0.85), 1)


def test_tables_say_what_is_missed() -> None:
    rows = [row({"torch": 0.5, "best": 0.5, "peak": 0.4})]
    rows += [row({"torch": 1.5, "more": 3.0}, shape={"N": 64, "H": 256})]
    lines = list(table.rows_table(rows))
    assert [head.strip() for head in lines[0].split("|")[1:-1]] == [
        *["cell", "N", "H", "threads", "fastrnn ms", "torch", "best", "peak", "more", "verdict"]
    ]
    assert "MISS torch 0.50 >= 1" in lines[2] and "40%" in lines[2]
    assert "MISS" not in lines[3] and "3.00" in lines[3]
    summary = list(report.summary({"training": {"rows": [vars(one) for one in rows]}}))
    (cells,) = [line for line in summary if "torch" in line and "mean" not in line]
    assert [cell.strip() for cell in cells.split("|")[1:-1]][2:] == [
        *["1", "torch", ">= 1", "0.50", "-", "1/2", "MISS"]
    ]


def test_the_summary_says_what_is_beyond() -> None:
    def last_cells(*shares: float) -> list[str]:
        rows = [row({"torch": 0.8, "bound": share}) for share in shares]
        rows += [row({"torch": 2.0, "bound": 0.5})]
        summary = list(report.summary({"training": {"rows": [vars(one) for one in rows]}}))
        (cells,) = [line for line in summary if "torch" in line and "mean" not in line]
        return [cell.strip() for cell in cells.split("|")[1:-1]][5:]

    assert last_cells(0.5) == ["0.80", "1.60", "1/2", "MISS"]
    assert last_cells(0.9) == ["0.80", "0.89", "1/2", "beyond"]
    assert last_cells(0.9, 0.5) == ["0.80", "0.89", "1/3", "MISS, 1 beyond"]


def test_published_tables_are_those_of_the_results() -> None:
    runs = results.read()
    assert set(runs) == set(run.RUNS)
    rows = results.rows_of(runs)
    idle = [target for target in TARGETS if not any(target.fits(one) for one in rows)]
    assert not idle, "targets that no row is held against"
    for path, lines in (
        (publish.README, publish.tables(runs)),
        (publish.FRONT, publish.front(runs)),
    ):
        text = path.read_text(encoding="utf-8")
        assert publish.replaced(text, lines) == text


def test_other_machines_ran_what_this_one_did() -> None:
    assert results.OTHERS
    for path in results.OTHERS:
        runs = results.read(path)
        assert runs
        assert set(runs) <= set(run.RUNS)
        assert f"`{path.name}`" in publish.README.read_text(encoding="utf-8")


def test_only_what_is_between_the_marks_is_replaced() -> None:
    text = f"own\n{publish.BEGIN}old\n{publish.END}more\n"
    new = publish.replaced(text, ["a", "b"])
    assert new == f"own\n{publish.BEGIN}a\nb\n{publish.END}more\n"
    assert publish.replaced(new, ["a", "b"]) == new
    with pytest.raises(ValueError, match="expected the lines"):
        publish.replaced("own\n", [])


def test_what_is_lost_is_said() -> None:
    rows = [
        row({"best": ratio, "torch": 2.0, "openvino": ratio}, threads=threads)
        for threads, ratio in [(1, 0.9), (2, 1.2)]
    ]
    run_of_rows = {
        "environment": common.environment("avx512"),
        "date": "2026-01-02 03:04 UTC",
        "rows": [vars(one) for one in rows],
    }
    lines = list(publish.front({"training_lstm": run_of_rows}))
    assert "avx512" in lines[0] and "2026-01-02" in lines[0]
    means, lost = [line for line in lines if line.startswith("| training: LSTM")]
    assert [cell.strip() for cell in means.split("|")[2:-1]] == [
        *["2", "0.90", "0.90", "1.20", "1.20"]
    ]
    assert any("In 1 of 2 cells a peer is faster" in line for line in lines)
    assert [cell.strip() for cell in lost.split("|")[2:-1]] == [
        *["lstm", "N 20, H 256", "1", "openvino", "0.90"]
    ]


def test_results_are_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert results.read(path) == {}
    kept = {"training": {"commit": "1", "rows": [vars(row({"torch": 1.0}))]}}
    results.write(kept, path)
    assert results.read(path) == kept
    assert results.rows_of(kept) == [row({"torch": 1.0})]
    assert [one.name for one in tmp_path.iterdir()] == ["results.json"]


def test_the_same_results_draw_the_same_chart(tmp_path: Path) -> None:
    rows = [row({"best": ratio}, threads=t) for t in (1, 2) for ratio in (0.8, 1.5, 6.0)]
    for name in ("a.svg", "b.svg"):
        chart.draw(rows, tmp_path / name)
    drawn = (tmp_path / "a.svg").read_bytes()
    assert drawn == (tmp_path / "b.svg").read_bytes()
    assert b"training: LSTM" in drawn and b"training: GRU" not in drawn


def test_different_results_are_not_timed() -> None:
    from bench.rows import same

    x = np.ones(3, np.float32)
    same("x", x, x + 1e-5)
    for other in (x + 1e-3, x[:2], np.full(3, np.nan, np.float32)):
        with pytest.raises(SystemExit, match="x: fastrnn's result is another"):
            same("x", x, other)


def test_what_is_not_installed_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench import adapters

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "bench.adapters.onnx_runtime", raising=False)
    assert list(adapters.load(["onnxruntime", "numpy"])) == ["numpy"]
    assert "onnxruntime is left out" in capsys.readouterr().err


def test_limits_of_this_machine() -> None:
    if limits.compiled("peak.c", "-DREAL=float") is None:
        pytest.skip("no C compiler")
    one = limits.fma_peak(1, seconds=0.01)
    assert 1e8 < one < 1e13
    assert limits.fma_peak(1, "float64", seconds=0.01) > 1e8
    for turn in (False, True):
        assert 1e8 < limits.read_bandwidth(2, 16 << 10, seconds=0.01, turn=turn) < 1e14
    sizes = list(limits.read_sizes().values())
    assert sizes == sorted(sizes)


def test_no_compiler_no_limits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", "there-is-no-such-compiler")
    limits.compiled.cache_clear()
    try:
        assert math.isnan(limits.fma_peak(1))
        assert math.isnan(limits.read_bandwidth(1, 1024))
    finally:
        limits.compiled.cache_clear()
    assert "no C compiler" in capsys.readouterr().err


def test_a_script(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    command = [sys.executable, "-m", "bench.streaming_step", "--quick", "--cells", "lstm"]
    command += ["--peers", "numpy", "--threads", "1", "--json", str(path)]
    # Peers that know no limit of instruction sets are left out where fastrnn has one.
    free = {name: value for name, value in os.environ.items() if name != "FASTRNN_ISA"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=free)
    assert done.returncode == 0, done.stderr
    assert "µs" in done.stdout and "64" in done.stdout
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert kept["environment"]["isa"] and kept["environment"]["cpu"]
    (found,) = [Row.read(values) for values in kept["rows"]]
    assert found.work == "streaming_step" and found.shape["H"] == 64
    assert found.measures["numpy"] > 0 and "best" not in found.measures
    assert {"peak", "bound"} <= set(found.measures)
    assert found.measures["µs"] == pytest.approx(found.times["fastrnn"] * 1e6)
