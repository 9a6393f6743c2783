"""CUDA's sources through CUDA's compiler, for every architecture that is promised."""

from __future__ import annotations

import re

import numpy as np
import pytest
from nvrtc import compiled, library

from fastrnn.cuda.kernels import FOLDER, options
from fastrnn.cuda.layouts import _LAYOUTS

SOURCES = sorted(FOLDER.glob("*.cu"))
KERNELS = re.findall(r"^(?:FORWARD|BACKWARD)\((\w+)", SOURCES[0].read_text(), re.MULTILINE)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
@pytest.mark.parametrize("architecture", [80, 90, 100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_they_compile_without_a_word(source, architecture, dtype):
    how = [*options(np.dtype(dtype)), f"--gpu-architecture=sm_{architecture}"]
    code, log = compiled(library(), source, how)
    assert not log
    for name in KERNELS:
        assert name.encode() in code


def test_an_error_is_seen(tmp_path):
    source = tmp_path / "wrong.cu"
    source.write_text(SOURCES[0].read_text().replace("count rows", "count lines", 1))
    code, log = compiled(library(), source, [*options(np.dtype("f4")), "--gpu-architecture=sm_80"])
    assert not code
    assert 'identifier "rows" is undefined' in log


def test_every_kernel_that_a_cell_asks_for_is_there():
    asked = {"state_backward"}
    for layout in _LAYOUTS.values():
        asked |= {name for stage in layout.stages for name in (stage.forward, stage.backward)}
    assert asked == set(KERNELS)
