"""The examples in docstrings run, and what is public says what it is."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest

import fastrnn

# Importing __main__ would run it.
NAMES = sorted(
    {
        module.name.removeprefix("fastrnn.")
        for module in pkgutil.walk_packages(fastrnn.__path__, "fastrnn.", onerror=lambda name: None)
    }
    - {"__main__"}
)
ESTIMATORS = [name for name, module in fastrnn._MODULES.items() if module == "estimators"]
MODELS = ["LanguageModel", "Seq2Seq"]  # what has parameters and `fit`, but needs no scikit-learn


NEEDED = {  # by modules that import it at the top
    "cuda.engine": "cupy",
    "cuda.plans": "cupy",
    "interchange.onnx_backend": "onnx",
    **{name: "sklearn" for name in NAMES if name.startswith("estimators")},
}


def load(name: str) -> ModuleType:
    if name in NEEDED:
        pytest.importorskip(NEEDED[name])
    return importlib.import_module(f"fastrnn.{name}")


@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "serving.predictor":  # needs no scikit-learn, but its example fits an estimator
        pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(load(name)).failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    names = [name for name in NAMES if name not in NEEDED]
    examples = [test.examples for name in names for test in finder.find(load(name))]
    assert sum(map(len, examples)) >= 5


@pytest.mark.parametrize("name", [*fastrnn.__all__, *ESTIMATORS])
def test_public_names_are_documented(name: str) -> None:
    load(fastrnn._MODULES.get(name, "checks"))
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


def entries(text: str, section: str) -> dict[str, str]:
    """The names that a section of a docstring describes, and what is said of each."""
    _, _, rest = text.partition(f"\n{section}\n{'-' * len(section)}\n")
    assert rest, f"no section {section}"
    body = re.split(r"\n\S[^\n]*\n-+\n", rest)[0]
    pattern = r"^(\S[^\n]*?)(?: : [^\n]*)?$\n?((?:    [^\n]*\n?|\n)*)"
    found = re.findall(pattern, body, re.MULTILINE)
    return {name: said for names, said in found for name in names.split(", ")}


@pytest.mark.parametrize("name", [*ESTIMATORS, *MODELS])
def test_estimators_tell_of_all_parameters(name: str) -> None:
    load(fastrnn._MODULES[name])
    cls = getattr(fastrnn, name)
    text = inspect.getdoc(cls)
    assert "{" not in re.sub(r"\{[\"\w].*?\}", "", text), "a mark has stayed"
    parameters = inspect.signature(cls).parameters
    described = entries(text, "Parameters")
    assert set(described) == set(parameters)
    assert all(len(said.split()) > 3 for said in described.values())
    for parameter in parameters.values():
        line = re.search(rf"^{parameter.name} : .*, default (.*)$", text, re.MULTILINE)
        assert line is not None, f"{parameter.name}: no default"
        assert ast.literal_eval(line[1]) == parameter.default, parameter.name


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_methods_tell_of_all_arguments(name: str) -> None:
    load("estimators")
    cls = getattr(fastrnn, name)
    own = {n: f for n, f in vars(cls).items() if inspect.isfunction(f) and not n.startswith("_")}
    assert {"fit", "predict", "score"} <= {n for n in dir(cls) if callable(getattr(cls, n, None))}
    for method, function in own.items():
        arguments = set(inspect.signature(function).parameters) - {"self"}
        assert set(entries(inspect.getdoc(function), "Parameters")) == arguments, method
        assert "\nReturns\n-------\n" in inspect.getdoc(function), method


@pytest.mark.parametrize("name", [*ESTIMATORS, *MODELS])
def test_estimators_tell_of_what_fit_leaves(name: str) -> None:
    load(fastrnn._MODULES[name])
    text = inspect.getdoc(getattr(fastrnn, name))
    assert {"history_", "loss_curve_", "best_loss_", "n_iter_", "layers_"} <= set(
        entries(text, "Attributes")
    )
    assert "\nExamples\n--------\n" in text
