"""The small examples run, as a user runs them, and what they print is what they promise."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
from test_examples import module, run


def test_peephole_lstm(root: Path) -> None:
    printed = run(root, root / "examples" / "peephole_lstm.py")
    errors = re.findall(r"^(\w+) +(\d\.\de[-+]\d\d)$", printed, re.MULTILINE)
    names = [name for name, _ in errors]
    assert {"x", "h", "c", "weight_hh_l0", "peephole_o_l0_reverse"} <= set(names)
    assert len(set(names)) == len(names) == 17
    assert max(float(error) for _, error in errors) < 1e-6
    first, last = re.search(r"loss (\d\.\d+) at first, (\d\.\d+) at last", printed).groups()
    assert float(first) > 0.5 and float(last) < 0.02


def test_layers(root: Path) -> None:
    printed = run(root, root / "examples" / "layers.py")
    accuracies = [float(a) for a in re.findall(r"test accuracy (\d\.\d+)", printed)]
    assert len(accuracies) == 6
    assert accuracies[0] < 0.9 < 0.99 < accuracies[-1]


def test_streaming(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTRNN_GEMM", "packed")
    printed = run(root, root / "examples" / "streaming.py")
    right, clients = re.search(r"(\d+) of (\d+) clients got the bits", printed).groups()
    assert right == clients and int(clients) > 20
    assert re.search(r"one step of one sequence: \d+ µs", printed)


def test_classify_sequences(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    printed = run(root, root / "examples" / "classify_sequences.py", "--out", tmp_path / "out")
    assert (
        len(re.findall(r"^cell=\w+  cross-validated accuracy 0\.\d+$", printed, re.MULTILINE)) == 2
    )
    assert float(re.search(r"accuracy +(\d\.\d+) +300", printed)[1]) > 0.95
    found, chance = re.search(r"on the pattern: (\d\.\d+), by chance (\d\.\d+)", printed).groups()
    assert float(found) > 3 * float(chance)
    for name in ("history", "confusion", "attention"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_regress_sequences(root: Path) -> None:
    pytest.importorskip("sklearn")
    printed = run(root, root / "examples" / "regress_sequences.py")
    scores = [float(score) for score in re.findall(r"sequences  R² +(-?\d\.\d+)", printed)]
    assert len(scores) == 6 and scores[-1] > 0.95
    assert float(re.search(r"ridge on all steps +R² +(-?\d\.\d+)", printed)[1]) < 0.2


def test_service(root: Path) -> None:
    printed = run(root, root / "examples" / "service.py", "--quick")
    found = re.fullmatch(r"2 workers at http://127.0.0.1:\d+/predict answer: \[(.*)\]\n", printed)
    assert found is not None
    probabilities = [float(word) for word in found[1].split()]
    assert len(probabilities) == 3
    assert sum(probabilities) == pytest.approx(1, abs=1e-6)


def test_gpu_where_there_is_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    printed = run(root, root / "examples" / "gpu.py")
    assert "trains on the CPU: " in printed
    assert float(re.search(r"served on cpu: error (\d\.\d+)", printed)[1]) < 0.1


def test_gpu_on_a_stand_in(
    root: Path, fake_cupy: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    error = module(root / "examples" / "gpu.py").main(20)
    printed = capsys.readouterr().out
    assert "step   20 on cuda:0" in printed
    assert f"served on cpu: error {error:.4f}" in printed
    assert fake_cupy.made.graph_launches
