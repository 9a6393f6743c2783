"""The examples in docstrings run, and what is public says what it is."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import fastrnn

# Importing __main__ would run it.
NAMES = sorted({module.name for module in pkgutil.iter_modules(fastrnn.__path__)} - {"__main__"})


def load(name: str) -> ModuleType:
    return importlib.import_module(f"fastrnn.{name}")


@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(load(name)).failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [test.examples for name in NAMES for test in finder.find(load(name))]
    assert sum(map(len, examples)) >= 5


@pytest.mark.parametrize("name", fastrnn.__all__)
def test_public_names_are_documented(name: str) -> None:
    documented = getattr(fastrnn, name)
    assert inspect.getdoc(documented), f"fastrnn.{name} has no docstring"
    if inspect.isclass(documented):
        methods = inspect.getmembers(documented, inspect.isfunction)
        silent = [
            method
            for method, function in methods
            if not method.startswith("_")
            and function.__module__.startswith("fastrnn")
            and not inspect.getdoc(getattr(documented, method))
        ]
        assert not silent, f"fastrnn.{name} has methods without a docstring: {silent}"
