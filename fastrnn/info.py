"""What fastrnn runs on in this process, and why: the text behind ``python -m fastrnn info``."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from fastrnn import _native, thread_count


def collect(fastrnn_version: str) -> dict[str, Any]:
    """Everything that decides on speed and bits, as values that JSON can hold.

    Parameters
    ----------
    fastrnn_version : str
        ``fastrnn.__version__``.

    Returns
    -------
    dict
        In sections: ``fastrnn``, ``instruction_set``, ``threads``, ``products``, ``blas`` and
        ``python``. A choice that cannot be made has the error's text under ``error``.
    """
    return {
        "fastrnn": {
            "version": fastrnn_version,
            "compiler": _native.compiler(),
            "build": "debug" if _native.DEBUG else "release",
        },
        "instruction_set": _instruction_set(),
        "threads": _threads(),
        "products": _products(),
        "blas": _blas(),
        "python": {
            "python": platform.python_version(),
            "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
            "numpy": np.__version__,
            "scipy": _version("scipy"),
            "platform": platform.platform(),
            "machine": platform.machine(),
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _instruction_set() -> dict[str, Any]:
    found: dict[str, Any] = {"built": _native.built_isas(), "usable": _native.isas()}
    try:
        found["chosen"] = _native.chosen_isa()
    except ValueError as error:
        return {**found, "chosen": None, "error": str(error)}
    if found["chosen"] == os.environ.get("FASTRNN_ISA"):
        found["why"] = "FASTRNN_ISA"
    elif found["chosen"] == found["usable"][0]:
        found["why"] = "the best that this processor has"
    else:
        found["why"] = "forced in this process"
    return found


def _threads() -> dict[str, Any]:
    return {
        "number": thread_count.get_num_threads(),
        "why": thread_count.reason(),
        "affinity": _native.affinity_count(),
        "processors": os.cpu_count(),
        "cgroup_quota": thread_count.cgroup_quota(),
        "FASTRNN_NUM_THREADS": os.environ.get("FASTRNN_NUM_THREADS"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "running": _native.pool_size(),
    }


def _products() -> dict[str, Any]:
    try:
        engine = _native.get_gemm()
    except ValueError as error:
        return {"engine": None, "error": str(error)}
    return {
        "engine": engine,
        "why": _native.gemm_reason(),
        "same_bits": (
            "for any number of threads and any batch"
            if engine == "packed"
            else "not promised: BLAS may split sums differently for other batches and threads"
        ),
    }


def _blas() -> dict[str, Any]:
    """SciPy's BLAS, which the engine of that name calls."""
    import scipy
    import scipy.linalg  # loads the library, so that threadpoolctl finds it

    built = scipy.show_config(mode="dicts")["Build Dependencies"].get("blas", {})
    found = {"name": built.get("name"), "version": built.get("version")}
    try:
        import threadpoolctl
    except ImportError:
        return {**found, "architecture": None, "note": "threadpoolctl, if installed, tells more"}
    libraries = [
        library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"
    ]
    # NumPy may bring a BLAS of its own beside SciPy's.
    libraries.sort(key=lambda library: "scipy" not in library["filepath"].lower())
    library: dict[str, Any] = libraries[0] if libraries else {}
    return {
        **found,
        "architecture": library.get("architecture"),
        "threads": library.get("num_threads"),
        "library": os.path.basename(library.get("filepath", "")) or None,
    }


def render(found: dict[str, Any]) -> str:
    """The text of what `collect` found, a line for each value."""
    lines = []
    for section, values in found.items():
        lines.append(section.replace("_", " "))
        for name, value in values.items():
            if value is None:
                value = "not set" if name.isupper() else "none"
            elif isinstance(value, list):
                value = ", ".join(value)
            label = name if name.isupper() else name.replace("_", " ")
            lines.append(f"  {label:<20} {value}")
    return "\n".join(lines)
