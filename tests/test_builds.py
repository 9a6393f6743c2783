"""The other builds that setup.py offers: by clang, and with counters of what was executed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from copied_tree import NOT_LINUX, CopiedTree

from fastrnn import _native


def our_warnings(output: str) -> list[str]:
    """The lines of a compiler's output that warn of our sources, not of what Cython has written."""
    lines = re.findall(r"^\S+\.[ch]:\d.*\bwarning: .*$", output, re.MULTILINE)
    return [line for line in lines if not re.match(r"(?:\S*/)?_\w+\.c:", line)]


def test_warnings_are_told_from_those_of_written_sources() -> None:
    ours = [
        "src/pool.c:12:5: warning: unused variable 'a' [-Wunused-variable]",
        "src/isa/../vec.h:3: warning: something",
    ]
    others = [
        "src/_native.c:9:1: warning: unused",
        "clang: note: 1 warning: src/a.c",
        "/a/_b.c:1: warning: x",
    ]
    assert our_warnings("\n".join([*ours, *others, "gcc -Wall -c src/pool.c"])) == ours


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_everything_builds_and_runs_with_clang(tmp_path: Path) -> None:
    if not shutil.which("clang"):
        pytest.skip("clang is not installed")
    pytest.importorskip("Cython")
    tree = CopiedTree(tmp_path)
    output = tree.build(CC="clang", LDSHARED="clang -shared")
    assert our_warnings(output) == []
    compiler = tree.python("-c", "from fastrnn import info; print(info.collect('')['fastrnn'])")
    assert "clang" in compiler.lower()
    tree.test("native_against_twin", "same_bits", "elementwise", "info")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1500)
def test_everything_runs_with_what_every_posix_has(tmp_path: Path) -> None:
    tree = CopiedTree(tmp_path)
    tree.build(CFLAGS=NOT_LINUX)
    tree.test("arenas", "memory", "native_against_twin", "same_bits", "streams")
    used = "import fastrnn._native as n; print(len(set(n.probe_region(64, 3, 10**6))))"
    assert int(tree.python("-c", used)) > 1, "no worker took part"


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1500)
def test_counters_are_written_by_the_build_for_coverage(tmp_path: Path) -> None:
    tree = CopiedTree(tmp_path)
    tree.build(FASTRNN_COVERAGE="1", FASTRNN_DEBUG="1")
    assert not [*tmp_path.rglob("*.gcda")]
    tree.test("products")
    counted = {path.stem for path in tmp_path.rglob("*.gcda")}
    kernels = {f"{isa}_{dtype}" for isa in _native.isas() for dtype in ("f32", "f64")}
    assert {"_native", "_products", "_blas", "dispatch", "hash", "pool", *kernels} <= counted
