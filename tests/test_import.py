"""What ``import fastrnn`` costs, and that names which are imported on first use are all there."""

from __future__ import annotations

import ast
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastrnn
from fastrnn import _native

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fastrnn"

MILLISECONDS = 20
MEGABYTES = 6
INSTALLED_MEGABYTES = 5

built_for_use = pytest.mark.skipif(
    _native.DEBUG or bool(os.environ.get("FASTRNN_SANITIZE") or os.environ.get("FASTRNN_COVERAGE")),
    reason="builds for debugging are larger and slower",
)


def output(code: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_loads_only_what_every_program_needs() -> None:
    code = """
import sys, numpy
before = set(sys.modules)
import fastrnn
print(sorted(name for name in set(sys.modules) - before if "cython" not in name.lower()))
"""
    loaded = set(ast.literal_eval(output(code)))
    expected = {"fastrnn", "fastrnn._native", "fastrnn.checks", "fastrnn.thread_count"}
    assert loaded - {"__future__"} == expected


@built_for_use
def test_processor_time_of_importing() -> None:
    code = """
import time, numpy
begin = time.thread_time()  # of this thread: NumPy's own may still be starting
import fastrnn
print(time.thread_time() - begin)
"""
    # The quickest of some: others may keep the processor busy, and its clock low.
    assert min(float(output(code)) for _ in range(5)) < MILLISECONDS / 1000


@built_for_use
@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="Linux tells by /proc")
def test_memory_of_importing() -> None:
    code = """
import numpy
def resident():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Rss:"))
before = resident()
import fastrnn
print(resident() - before)
"""
    assert int(output(code)) < MEGABYTES * 1000


@built_for_use
def test_size_of_the_package() -> None:
    suffixes = {".py", ".pyi", ".pxd", ".so", ".typed"}
    files = [path for path in PACKAGE.rglob("*") if path.suffix in suffixes]
    assert len([path for path in files if path.suffix == ".so"]) > 5
    assert sum(path.stat().st_size for path in files) < INSTALLED_MEGABYTES * 1e6


# Names that are imported on first use


def lazy_imports() -> dict[str, str]:
    """The names that ``fastrnn/__init__.py`` imports for type checkers, and their modules."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = (
        node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name)
    )
    found = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname in (None, alias.name)
            found[alias.name] = (node.module or "").removeprefix("fastrnn").lstrip(".")
    return {name: module or name for name, module in found.items()}


def test_type_checkers_see_the_same_names() -> None:
    assert lazy_imports() == fastrnn._MODULES
    estimators = {name for name, module in fastrnn._MODULES.items() if module == "estimators"}
    needing_more = {*estimators, "onnx_backend"}  # scikit-learn, and onnx
    assert set(fastrnn._MODULES) - set(fastrnn.__all__) == needing_more


@pytest.mark.parametrize("name", sorted(fastrnn.__all__))
def test_every_name_is_there_in_a_fresh_interpreter(name: str) -> None:
    if name in fastrnn._MODULES:  # the others are imported at once
        code = f"import fastrnn; assert '{name}' in dir(fastrnn); print(fastrnn.{name}.__name__)"
        assert output(code).removeprefix("fastrnn.") == name
    assert getattr(fastrnn, name) is getattr(fastrnn, name)
    assert name in dir(fastrnn)


def test_a_name_that_is_none() -> None:
    with pytest.raises(AttributeError, match="module 'fastrnn' has no attribute 'LTSM'"):
        _ = fastrnn.LTSM  # type: ignore[attr-defined]
    assert not hasattr(fastrnn, "__wrapped__")


def test_no_module_takes_a_functions_place() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    taken = {name for name in modules & set(fastrnn.__all__) if fastrnn._MODULES.get(name) != name}
    assert not taken


def test_a_star_brings_all_names() -> None:
    code = "from fastrnn import *; import fastrnn; print(set(fastrnn.__all__) <= set(globals()))"
    assert output(code) == "True"


def test_threads_may_ask_for_a_name_at_once() -> None:
    code = """
import threading, fastrnn
names = [name for name in fastrnn.__all__ for _ in range(3)]
found, start = [], threading.Barrier(len(names))
def ask(name):
    start.wait()
    found.append(getattr(fastrnn, name))
threads = [threading.Thread(target=ask, args=(name,)) for name in names]
for thread in threads: thread.start()
for thread in threads: thread.join(60)
print(len(found) == len(names))
"""
    assert output(code) == "True"


def test_files_and_pickles_find_their_classes(tmp_path: Path) -> None:
    fastrnn.Linear(2, 3).save(tmp_path / "linear")
    (tmp_path / "pickle").write_bytes(pickle.dumps(fastrnn.GRU(2, 3)))
    code = f"import fastrnn; print(fastrnn.load({str(tmp_path / 'linear')!r}).out_features)"
    assert output(code) == "3"
    code = f"import pickle; print(pickle.load(open({str(tmp_path / 'pickle')!r}, 'rb')).input_size)"
    assert output(code) == "2"


def test_a_cell_may_not_take_the_name_of_a_class_that_is_not_imported_yet() -> None:
    code = """
import fastrnn
from fastrnn.cells import Cell, Stage
def forward(xp, v): v.h_next = v.a
def backward(xp, v, d): d.a = d.h_next
for name in ("Linear", "LanguageModel"):
    try:
        fastrnn.register_cell(Cell(name, (Stage(("a",), forward, backward),)))
    except ValueError as error:
        print(error)
"""
    assert output(code).count("expected a name not yet taken") == 2


def test_estimators_say_what_they_need() -> None:
    code = """
import sys
sys.modules["sklearn"] = None
import fastrnn
for name, module in fastrnn._MODULES.items():
    if module == "estimators":
        try:
            getattr(fastrnn, name)
        except ImportError as error:
            print(error)
"""
    estimators = [module for module in fastrnn._MODULES.values() if module == "estimators"]
    said = output(code).splitlines()
    assert len(said) == len(estimators) > 1
    assert set(said) == {"fastrnn's estimators need scikit-learn: pip install 'fastrnn[sklearn]'"}


def test_layers_and_language_models_never_load_scikit_learn() -> None:
    code = """
import sys
import fastrnn
[getattr(fastrnn, name) for name in fastrnn.__all__]
import fastrnn.plots, fastrnn.sequences.network, fastrnn.sequences.data, fastrnn.sequences.targets
print([name for name in sys.modules if name.partition(".")[0] in ("sklearn", "pandas", "joblib")])
"""
    assert output(code) == "[]"


# What the library says, and where


def test_nothing_but_the_command_and_asked_for_progress_writes_to_a_terminal() -> None:
    writers = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            printed = isinstance(node, ast.Name) and node.id == "print"
            stream = isinstance(node, ast.Attribute) and node.attr in (
                "stdout", "stderr", "__stdout__", "__stderr__"
            )  # fmt: skip
            if printed or stream:
                writers.add(path.relative_to(PACKAGE).as_posix())
    assert writers == {"__main__.py", "training/progress.py"}
    for path in (ROOT / "src").iterdir():
        if path.suffix in (".pyx", ".c", ".h"):
            assert not re.search(r"\b(print|printf|fprintf|puts|perror) *\(", path.read_text()), (
                path
            )


def test_calls_are_silent_and_leave_logging_alone() -> None:
    code = """
import logging, os, sys, warnings
import numpy as np
import fastrnn
lines = []
class Keep(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())
text = "to be or not to be " * 20
x = np.ones((3, 4, 2), np.float32)
for attempt in range(2):
    model = fastrnn.LanguageModel(hidden_size=4, max_iter=2, random_state=0).fit(text)
    model.generate(5, seed=0)
    lstm = fastrnn.LSTM(2, 3, random_state=0)
    y, _, backward = lstm.forward(x)
    backward(y)
    fastrnn.StreamPool(lstm).open(2)
    if not attempt:
        assert not logging.root.handlers and logging.root.level == logging.WARNING
        logging.root.addHandler(Keep())
        logging.root.setLevel(logging.DEBUG)
assert not [line for line in lines if "fastrnn" in line], lines
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
