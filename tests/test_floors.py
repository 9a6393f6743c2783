"""The import rule: what stands above knows what stands below, never the other way round."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fastrnn"
SOURCES = ROOT / "src"

# From the ground up. A module may import modules of lower floors, and none of its own.
FLOORS = [
    [
        "cuda",
        "engine",
        "interchange",
        "language",
        "layers",
        "seq2seq",
        "sequences",
        "series",
        "serving",
        "text",
        "training",
    ],  # no code
    ["_memory", "_native"],
    ["_blas"],
    ["_products"],
    ["_elementwise", "_weights"],
    ["_attention", "_walk"],
    ["_recurrence", "_steps"],
    ["checks", "docs", "parameterized", "training.progress", "tensorfile"],
    ["engine.arrays"],
    [
        "engine.devices",
        "engine.locks",
        "engine.mask_numbers",
        "engine.masks",
        "training.minibatches",
        "plots",
        "engine.rows",
        "text.sampling",
        "training.schedules",
        "series.differences",
        "series.scores",
        "text.vocabulary",
        "thread_count",
        "trees",
    ],
    [
        "cells",
        "engine.batches",
        "engine.containers",
        "training.checkpoint",
        "files",
        "info",
        "sequences.data",
        "series.data",
    ],
    [
        "engine.initializers",
        "engine.passes",
        "interchange.keras_layers",
        "interchange.onnx_functions",
        "interchange.protobuf",
        "interchange.to_torch",
        "interchange.values",
        "sequences.reading",
        "training.plan",
        "training.records",
    ],
    ["cuda.layouts", "engine.packed", "interchange.onnx_file", "interchange.to_onnx"],
    [
        "cuda.cublas",
        "cuda.kernels",
        "engine.twin",
        "engine.native",
        "engine.products",
        "engine.parameters",
    ],
    ["cuda.plans", "engine.attending", "engine.doors", "engine.elementwise", "engine.movable"],
    ["cuda.engine"],
    ["engine.recurrence"],
    ["engine.stack"],
    ["engine.streams"],
    ["engine.slots"],
    ["layers.recurrent"],
    ["layers.activation", "layers.embedding", "layers.rnn", "layers.modules", "layers.wrapper"],
    ["layers.sequential_stream"],
    ["layers.attention", "layers.reversed", "layers.sequential", "layers.tied"],
    ["layers.stream_pool"],
    [
        "interchange.from_torch",
        "interchange.onnx_operators",
        "interchange.onnx_recurrent",
        "interchange.stacking",
        "layers.final",
        "pointwise_losses",
    ],
    ["interchange.from_keras", "interchange.onnx_backend", "interchange.onnx_values"],
    ["interchange.onnx_axes"],
    ["interchange.onnx_layers"],
    ["interchange.from_onnx"],
    ["finite_differences", "gradient_norms", "losses", "optim", "metrics"],
    [
        "language.network",
        "language.writing",
        "sequences.pooling",
        "training.solvers",
        "sequences.targets",
    ],
    ["series.forecasting", "sequences.network", "training.loop"],
    ["serving.judge", "series.serving"],
    [
        "language.fitted",
        "seq2seq.data",
        "seq2seq.decoding",
        "seq2seq.parts",
        "seq2seq.steps",
        "text.encoders",
        "training.trainable",
    ],
    ["seq2seq.network", "text.reading"],
    ["seq2seq.fitted", "serving.stored", "serving.streams"],
    ["seq2seq.stored", "serving.stored_series"],
    ["serving.predictor"],
    [
        "language.model",
        "seq2seq.model",
        "estimators.repeats",
        "estimators.steps",
        "estimators.targets",
    ],
    ["estimators.base"],
    ["estimators.fitting", "estimators.series"],
    ["estimators.forecaster", "estimators.numeric", "estimators.tokens"],
    ["estimators.pooled"],
    ["estimators.classification"],
    ["estimators.classifier", "estimators.regressor"],
    ["estimators.tagger", "estimators.text_classifier"],
    ["estimators"],
    ["__init__"],
    ["__main__"],
]
FOLDERS = FLOORS[0]
FLOOR = {module: number for number, floor in enumerate(FLOORS) for module in floor}


def modules() -> list[Path]:
    """Every Python module of the package and of its folders."""
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """A module's name within the package: ``rows``, ``estimators.base``."""
    *folders, last = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(folders if folders and last == "__init__" else [*folders, last])


def imported(tree: ast.AST) -> set[str]:
    """The dotted names that a tree imports, lazily or not; those of the package relative to it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level or module == "fastrnn":
                inner = module.removeprefix("fastrnn")
                names.update(f"fastrnn.{inner or alias.name}" for alias in node.names)
            elif module.removeprefix("fastrnn.") in FOLDERS:
                names.update(f"{module}.{alias.name}" for alias in node.names)
            else:
                names.add(module)
    return names


def imported_modules(tree: ast.AST) -> set[str]:
    """The modules of the package that a tree imports."""
    inner = {name.partition(".")[2] for name in imported(tree) if name.startswith("fastrnn.")}
    # `from . import __version__` names a value of __init__, which is no module.
    known = {*FLOOR, *map(name_of, modules())}
    return {name if name in known else "__init__" for name in inner}


def test_every_module_stands_on_a_floor() -> None:
    names = {*map(name_of, modules())} | {path.stem for path in SOURCES.glob("*.pyx")}
    assert names
    assert names <= set(FLOOR), "a new module needs its place in FLOORS"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_downwards(path: Path) -> None:
    above = {
        name
        for name in imported_modules(ast.parse(path.read_text()))
        if FLOOR[name] >= FLOOR[name_of(path)]
    }
    if path.stem == "__main__":
        above.discard("__init__")
    assert not above, f"{name_of(path)} imports {sorted(above)}, which do not stand below it"


def test_the_rule_sees_every_form_of_import() -> None:
    source = """
from . import losses
from .cells import Cell
from fastrnn import optim
from fastrnn.engine import twin
from fastrnn.engine.rows import Rows
import fastrnn.files
from . import __version__
def late():
    from fastrnn.training.loop import Training
"""
    expected = {"losses", "cells", "optim", "engine.twin", "engine.rows", "files", "training.loop"}
    assert imported_modules(ast.parse(source)) == expected | {"__init__"}


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_only_numpy_is_imported_at_the_top(path: Path) -> None:
    tree = ast.parse(path.read_text())
    top = ast.Module(
        [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], []
    )
    roots = {name.split(".")[0] for name in imported(top)} - {"fastrnn"}
    allowed = {"numpy"} | {"estimators": {"sklearn"}, "cuda": {"cupy"}}.get(path.parent.name, set())
    assert roots - set(sys.stdlib_module_names) <= allowed


def test_importing_starts_no_thread_and_loads_numpy_alone() -> None:
    code = """
import os, sys
import numpy
before = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else None
environment = dict(os.environ)
loaded = set(sys.modules)
import fastrnn
public = [getattr(fastrnn, name) for name in fastrnn.__all__]  # imports what a name comes from
assert dict(os.environ) == environment, "the environment has changed"
if before is not None:
    assert len(os.listdir("/proc/self/task")) == before, "a thread has started"
new = {name.split(".")[0] for name in set(sys.modules) - loaded}
print(sorted(new - set(sys.stdlib_module_names) - {"fastrnn", "numpy"}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    # The compiled modules bring their runtime, cython_runtime and _cython_3_1_0 or the like.
    foreign = [name for name in ast.literal_eval(done.stdout) if "cython" not in name]
    assert foreign == []


def test_the_packed_engine_never_loads_scipy() -> None:
    code = """
import os, sys
import numpy as np
import fastrnn
tasks = os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else ["the main one"]
assert len(tasks) == 1, "a thread has started"
for layer in (fastrnn.GRU(3, 4), fastrnn.Linear(3, 4)):
    y, *_, backward = layer.forward(np.ones((2, 5, 3)))
    backward(np.ones_like(y))
    layer(np.ones((2, 5, 3)))
assert fastrnn.get_gemm() == "packed"
assert not [name for name in sys.modules if name.partition(".")[0] == "scipy"], "scipy is loaded"
"""
    # NumPy's BLAS would start threads of its own at import.
    single = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, "FASTRNN_GEMM": "packed", **dict.fromkeys(single, "1")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted(SOURCES.glob("*.pyx")), ids=lambda path: path.stem)
def test_compiled_modules_import_downwards(path: Path) -> None:
    names = re.findall(
        r"^\s*(?:from|c?import)\s+(?:fastrnn)?\.(\w+)", path.read_text(), re.MULTILINE
    )
    above = {name for name in names if name in FLOOR and FLOOR[name] >= FLOOR[path.stem]}
    assert not above


def c_sources() -> list[Path]:
    """Our own C, without what Cython writes beside its sources."""
    written = {path.with_suffix(".c") for path in SOURCES.glob("*.pyx")}
    return sorted({*SOURCES.rglob("*.[ch]")} - written)


@pytest.mark.parametrize("path", c_sources(), ids=lambda path: path.name)
def test_c_knows_no_python_and_only_the_vector_type_knows_an_isa(path: Path) -> None:
    text = path.read_text()
    assert "Python.h" not in text
    if path.name != "vec.h":
        foreign = re.findall(r"\b(?:immintrin|arm_neon|_mm\d*_\w+|__m\d+\w*|__AVX\w+)\b", text)
        assert not foreign, f"{path.name} names an instruction set: {sorted(set(foreign))}"
