"""What the benchmarks say of a package's size and of fresh processes."""

from __future__ import annotations

from pathlib import Path

import pytest

import fastrnn
from bench import fresh, installed
from bench.footprint import ANSWERS, write_models


def test_the_package_is_counted_with_its_folders() -> None:
    folder = Path(fastrnn.__file__).parent
    modules = {path: path.stat().st_size for path in folder.rglob("*.so")}
    sources = {path: path.stat().st_size for path in folder.rglob("*.py")}
    assert any(path.parent != folder for path in sources)
    size = installed.package_size()
    assert size >= sum(modules.values()) + sum(sources.values())
    assert size < 2 * (sum(modules.values()) + sum(sources.values()))


def test_requirements_count_once() -> None:
    scipy, numpy = (installed.size_with_requirements(name) for name in ("scipy", "numpy"))
    assert numpy > 10e6  # scipy requires it
    assert scipy > numpy + 50e6
    ours = installed.size_with_requirements("fastrnn")
    assert ours == pytest.approx(scipy + installed.package_size())
    assert installed.size_with_requirements("no-such-distribution") == 0


def test_fresh_processes_pay_for_what_they_do() -> None:
    quick, slow = fresh.medians(
        {"quick": "pass", "slow": "import time; time.sleep(0.2); b = bytes([1]) * 50_000_000"}, 1
    ).values()
    assert slow[0] - quick[0] > 0.19 and slow[1] - quick[1] > 45e6
    assert quick[2] == 1


def test_our_answer_needs_no_other_library(tmp_path: Path) -> None:
    paths = write_models(tmp_path, ["fastrnn"])
    assert [path.name for path in tmp_path.iterdir()] == ["lstm.safetensors"]
    taken, size, threads = fresh.measure(ANSWERS["fastrnn"].format(**paths))
    assert taken > 0 and size > 20e6 and threads >= 1
