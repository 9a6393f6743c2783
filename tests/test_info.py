"""``python -m fastrnn info``."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import __main__ as command
from fastrnn import _native, info

pytestmark = pytest.mark.usefixtures("nothing_forced")


def collect() -> dict[str, Any]:
    return info.collect(fastrnn.__version__)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FASTRNN_")}
    return subprocess.run(
        [sys.executable, "-m", "fastrnn", *arguments],
        capture_output=True,
        text=True,
        env={**kept, **environment},
        timeout=60,
        check=False,
    )


def test_it_tells_what_runs_here() -> None:
    found = collect()
    assert found["fastrnn"]["version"] == fastrnn.__version__
    assert re.search(r"(?i)(gcc|clang) (version )?\d", found["fastrnn"]["compiler"])
    assert found["instruction_set"]["usable"] == fastrnn.isas()
    assert found["instruction_set"]["chosen"] == _native.chosen_isa()
    assert found["threads"]["number"] == fastrnn.get_num_threads()
    assert found["threads"]["affinity"] == _native.affinity_count()
    assert found["products"]["engine"] == fastrnn.get_gemm()
    assert found["blas"]["name"]
    assert found["python"]["python"] == platform.python_version()
    assert found["python"]["numpy"] == np.__version__


def test_it_tells_why() -> None:
    best, *others = fastrnn.isas()
    with _native.force_isa(best), fastrnn.threads(3):
        found = collect()
        assert found["threads"]["why"] == "limit of this thread"
        assert found["instruction_set"]["why"] != "forced in this process"
    for name in others:
        with _native.force_isa(name):
            found = collect()
            assert found["instruction_set"]["why"] == "forced in this process"
            assert found["products"]["why"].endswith(f"tuned for {name}")


def test_it_says_where_the_promise_of_equal_bits_is_not_made() -> None:
    try:
        fastrnn.set_gemm("blas")
        assert collect()["products"]["same_bits"].startswith("not promised")
        fastrnn.set_gemm("packed")
        assert not collect()["products"]["same_bits"].startswith("not promised")
    finally:
        fastrnn.set_gemm(None)


def test_blas_is_the_one_that_threadpoolctl_finds() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    found = collect()["blas"]
    names = {
        os.path.basename(library["filepath"]): library.get("architecture")
        for library in threadpoolctl.threadpool_info()
        if library["user_api"] == "blas"
    }
    assert names.get(found["library"]) == found["architecture"]


def test_without_threadpoolctl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    found = collect()["blas"]
    assert found["architecture"] is None
    assert "threadpoolctl" in found["note"]


def test_the_command_prints_every_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["info"]) == 0
    text = capsys.readouterr().out
    assert text.strip() == info.render(collect())
    for section in ("fastrnn", "instruction set", "threads", "products", "blas", "python"):
        assert f"\n{section}\n" in f"\n{text}"
    assert fastrnn.__version__ in text
    assert "cgroup quota" in text


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == collect()


def test_in_a_process_of_its_own() -> None:
    done = run("info", "--json", FASTRNN_ISA="baseline", FASTRNN_NUM_THREADS="3")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["instruction_set"]["chosen"] == "baseline"
    assert found["instruction_set"]["why"] == "FASTRNN_ISA"
    assert (found["threads"]["number"], found["threads"]["why"]) == (3, "FASTRNN_NUM_THREADS")
    assert found["threads"]["running"] == 0


def test_settings_that_cannot_be_followed_are_shown() -> None:
    done = run("info", FASTRNN_ISA="sse9", FASTRNN_GEMM="mkl")
    assert done.returncode == 1
    assert "got 'sse9'" in done.stdout
    assert "got 'mkl'" in done.stdout
    assert "\npython\n" in done.stdout
    assert "Traceback" not in done.stderr


def test_usage() -> None:
    done = run()
    assert done.returncode == 2
    assert "info" in done.stderr
    done = run("--version")
    assert done.stdout.strip() == f"fastrnn {fastrnn.__version__}"
