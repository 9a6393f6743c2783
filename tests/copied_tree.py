"""A copy of the sources for builds with other compilers and switches, and Python run in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

NOT_LINUX = "-U__linux__"  # for a compiler: our C then takes the ways that other systems need


class CopiedTree:
    """All that a build and its tests read, at `path`, without anything that was built before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        ignore = shutil.ignore_patterns("*.so", "__pycache__", "_*.c")
        for name in ("fastrnn", "src", "tests"):
            shutil.copytree(ROOT / name, path / name, ignore=ignore)
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, path)

    def python(self, *arguments: str, **extra: str) -> str:
        """What Python prints, with these variables in its environment; it must end well."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.path,
            env={**os.environ, "PYTHONPATH": str(self.path), **extra},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-20_000:]
        return done.stdout

    def build(self, **extra: str) -> str:
        """Compile in place; what the compiler prints."""
        return self.python("setup.py", "build_ext", "--inplace", **extra)

    def test(self, *names: str, **extra: str) -> None:
        """Run the tests of these modules against what was built here, and nothing else."""
        where = self.python("-c", "import fastrnn._native as n; print(n.__file__)", **extra)
        assert where.startswith(str(self.path))
        modules = [f"tests/test_{name}.py" for name in names]
        # What a sanitizer says before it ends the process must not be lost with pytest's capture.
        options = ("-q", "-p", "no:cacheprovider", "--capture=sys")
        report = self.python("-m", "pytest", *options, *modules, **extra)
        assert " passed" in report
