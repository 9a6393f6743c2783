"""Bytes that a package takes where it is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

import fastrnn

# What a wheel of ours holds; an in-place build has other files beside it.
SUFFIXES = {".py", ".pyi", ".pxd", ".so", ".typed", ".h", ".cu"}


def package_size() -> int:
    """Bytes of fastrnn's files, with the bytecode that installing writes beside them."""
    folder = Path(fastrnn.__file__).parent
    files = [path for path in folder.rglob("*") if path.suffix in SUFFIXES]
    files += folder.rglob(f"__pycache__/*.{sys.implementation.cache_tag}.pyc")
    return sum(path.stat().st_size for path in files)


def size_with_requirements(name: str) -> int:
    """Bytes of a distribution's files and of those of all that it requires, each once."""
    return sum(
        package_size() if found.name == "fastrnn" else _size(found)
        for found in _closure(name, set())
    )


def _size(found: Distribution) -> int:
    paths = (Path(str(found.locate_file(file))) for file in found.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())


def _closure(name: str, seen: set[str]) -> Iterator[Distribution]:
    """A distribution and what it requires, as far as that is installed."""
    key = name.lower().replace("_", "-")
    if key in seen:
        return
    seen.add(key)
    try:
        found = distribution(name)
    except PackageNotFoundError:  # a requirement of other platforms, or one that was left out
        return
    yield found
    for line in found.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield from _closure(requirement.name, seen)
