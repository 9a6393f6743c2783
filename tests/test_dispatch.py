"""Which instruction set and which product engine run, and how to force them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

import fastrnn
from fastrnn import _native

pytestmark = pytest.mark.usefixtures("nothing_forced")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    fastrnn.set_gemm(None)
    _native.force_isa(None)


def run(code: str, **environment: str) -> str:
    """The output of `code` in a process of its own, or its last line of error."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FASTRNN_")}
    done = subprocess.run(
        [sys.executable, "-c", f"import fastrnn\nfrom fastrnn import _native\n{code}"],
        capture_output=True,
        text=True,
        env={**kept, **environment},
        timeout=60,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def test_isas_are_a_part_of_those_built_best_first() -> None:
    usable, built = fastrnn.isas(), _native.built_isas()
    assert usable
    assert usable[-1] == "baseline"
    assert usable == [name for name in built if name in usable]
    order = ["avx512", "avx2", "neon", "baseline"]
    assert built == [name for name in order if name in built]


def test_isas_agree_with_what_linux_says_of_the_processor() -> None:
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((set(line.split()) for line in file if line.startswith("flags")), set())
    except OSError:
        pytest.skip("only Linux lists the processor's flags in a file")
    if not flags:
        pytest.skip("this processor lists no flags of x86")
    expected = {"baseline"}
    if {"avx2", "fma"} <= flags:
        expected.add("avx2")
        if {"avx512f", "avx512dq", "avx512vl", "avx512bw"} <= flags:
            expected.add("avx512")
    assert set(fastrnn.isas()) == expected & set(_native.built_isas())


def test_the_best_is_chosen_unless_the_environment_says_otherwise() -> None:
    assert run("print(_native.chosen_isa())") == fastrnn.isas()[0]
    for name in fastrnn.isas():
        assert run("print(_native.chosen_isa())", FASTRNN_ISA=name) == name
    assert run("print(_native.chosen_isa())", FASTRNN_ISA="") == fastrnn.isas()[0]


def test_an_unknown_isa_fails_at_first_use_and_not_at_import() -> None:
    message = run("print(fastrnn.isas()); _native.chosen_isa()", FASTRNN_ISA="sse9")
    assert message.startswith("ValueError: FASTRNN_ISA: expected one of ")
    assert "'baseline'" in message
    assert message.endswith("got 'sse9'")
    assert run("print('imported')", FASTRNN_ISA="sse9") == "imported"


def test_force_isa_acts_at_once_and_goes_back() -> None:
    before = _native.chosen_isa()
    for name in fastrnn.isas():
        with _native.force_isa(name):
            assert _native.chosen_isa() == name
            with _native.force_isa("baseline"):
                assert _native.chosen_isa() == "baseline"
            assert _native.chosen_isa() == name
        assert _native.chosen_isa() == before
    _native.force_isa("baseline")
    assert _native.chosen_isa() == "baseline"
    _native.force_isa(None)
    assert _native.chosen_isa() == before
    with pytest.raises(ValueError, match=r"name: expected one of .*'baseline'.*got 'mmx'"):
        _native.force_isa("mmx")
    assert _native.chosen_isa() == before


def test_gemm() -> None:
    for name in ("packed", "blas"):
        fastrnn.set_gemm(name)
        assert fastrnn.get_gemm() == name
        assert _native.gemm_reason() == "set_gemm"
    with pytest.raises(ValueError, match="name: expected one of 'packed', 'blas', got 'mkl'"):
        fastrnn.set_gemm("mkl")
    with pytest.raises(ValueError, match="got 3"):
        fastrnn.set_gemm(3)
    assert fastrnn.get_gemm() == "blas"


def test_gemm_without_a_choice_is_packed_where_that_is_tuned() -> None:
    for name in fastrnn.isas():
        expected = "packed" if name in ("avx2", "avx512") else "blas"
        assert run("print(fastrnn.get_gemm())", FASTRNN_ISA=name) == expected
        with _native.force_isa(name):
            fastrnn.set_gemm(None)
            assert fastrnn.get_gemm() == expected


def test_gemm_from_the_environment() -> None:
    for name in ("packed", "blas"):
        assert run("print(fastrnn.get_gemm())", FASTRNN_GEMM=name) == name
        forced = "fastrnn.set_gemm('packed'); print(fastrnn.get_gemm())"
        assert run(forced, FASTRNN_GEMM=name) == "packed"
    message = run("fastrnn.get_gemm()", FASTRNN_GEMM="mkl")
    assert message == "ValueError: FASTRNN_GEMM: expected one of 'packed', 'blas', got 'mkl'"


def test_force_isa_changes_the_kernels_that_run() -> None:
    lanes = {}
    for name in fastrnn.isas():
        with _native.force_isa(name):
            lanes[name] = [_native.lanes(itemsize) for itemsize in (4, 8)]
            assert lanes[name][0] == 2 * lanes[name][1]
    expected = {"avx512": [16, 8], "avx2": [8, 4], "neon": [4, 2]}
    for name, found in lanes.items():
        assert found == expected.get(name, found)
    with pytest.raises(ValueError, match="itemsize"):
        _native.lanes(2)
