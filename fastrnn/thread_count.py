"""How many threads a call uses, and why.

The first of these that is set decides, for each call of native code:

1. the calling thread's limit, set by `threads` or by threadpoolctl,
2. the process's number, set by `set_num_threads`,
3. the environment: ``FASTRNN_NUM_THREADS``, else ``OMP_NUM_THREADS``,
4. the processors that the thread may run on, or the control group's quota where that is less.

A number that was asked for is honored, also beyond the processors. Results have the same bits for
any number (see `fastrnn.set_gemm` for the one exception).
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from fastrnn import _native
from fastrnn.checks import check_int

Path = str | os.PathLike[str]

MOST_THREADS = 2**31 - 1


def _check_threads(name: str, n: Any) -> int:
    """`n` as a number of threads, None as 0."""
    if n is None:
        return 0
    n = check_int(name, n, 1)
    if n > MOST_THREADS:
        raise ValueError(f"{name}: expected an integer of at most {MOST_THREADS}, got {n}")
    return n


def set_num_threads(n: int | None) -> None:
    """Set how many threads native code uses, for the whole process.

    Parameters
    ----------
    n : int or None
        At least 1. None goes back to the default, read anew: the environment variables
        ``FASTRNN_NUM_THREADS`` and ``OMP_NUM_THREADS``, else the processors that the calling thread
        may run on, or the control group's quota of processor time where that is less.

    Raises
    ------
    TypeError
        If `n` is no integer.
    ValueError
        If `n` is less than 1.

    See Also
    --------
    threads : Sets a number for a block of code in one thread.
    """
    _native.set_process_threads(_check_threads("n", n))
    if n is None:
        _read_defaults()


def get_num_threads() -> int:
    """How many threads native code uses at most when called by this thread."""
    return _native.get_num_threads()


def threads(n: int | None) -> contextlib.AbstractContextManager[None]:
    """Use `n` threads in a ``with`` block, or in a function that it decorates.

    The number holds for native code that is called by the thread that entered the block, and for
    no other: neither for those that run beside it nor for those that it starts. So one thread of a
    server may limit itself without slowing the others. Blocks nest. In asynchronous code the block
    must not hold an ``await``, behind which other tasks run in the same thread.

    Parameters
    ----------
    n : int or None
        At least 1. None: the number that holds outside of all blocks.

    Raises
    ------
    TypeError
        If `n` is no integer.
    ValueError
        If `n` is less than 1.

    Examples
    --------
    >>> import fastrnn
    >>> with fastrnn.threads(1):
    ...     fastrnn.get_num_threads()
    1
    """
    return _limit(_check_threads("n", n))


@contextlib.contextmanager
def _limit(n: int) -> Iterator[None]:
    before = _native.set_thread_limit(n)
    try:
        yield
    finally:
        _native.set_thread_limit(before)


# Defaults


def _from_environment() -> tuple[int, str]:
    """The number of threads that the environment asks for and the variable; (0, "") for none."""
    for name in ("FASTRNN_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "").strip()
        if not value:
            continue
        # OpenMP's is a list, a number for each level of nesting
        number = value.partition(",")[0].strip() if name.startswith("OMP") else value
        if number.isascii() and number.isdigit() and 1 <= int(number) <= MOST_THREADS:
            return int(number), name
        warnings.warn(
            f"{name}: expected a positive number of threads, got {value!r}, which is ignored",
            RuntimeWarning,
            stacklevel=4,
        )
    return 0, ""


def _read(*path: Path) -> str:
    try:
        with open(os.path.join(*path), encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def _quota_of_group(folder: str, version: int) -> float | None:
    """Processors' worth of time that one control group grants, or None where it sets no limit."""
    if version == 2:
        fields = _read(folder, "cpu.max").split()
    else:
        fields = [_read(folder, f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if len(fields) != 2:
        return None
    try:
        quota, period = int(fields[0]), int(fields[1])  # "max" in version 2, -1 in 1: no limit
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None


def cgroup_quota(process: Path = "/proc/self", root: Path = "/") -> float | None:
    """Processors' worth of time that Linux's control groups grant this process.

    Reads both versions of control groups, and every group from the process's own up to where the
    hierarchy is mounted, since each of them limits what is below.

    Parameters
    ----------
    process : str or path-like
        The folder of this process.
    root : str or path-like
        Where the paths in its ``mountinfo`` begin.

    Returns
    -------
    float or None
        For example 1.5; None where nothing sets a limit.
    """
    groups: dict[int, str] = {}
    for line in _read(process, "cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            groups[2] = path
        elif "cpu" in controllers.split(","):
            groups[1] = path
    quotas = []
    for line in _read(process, "mountinfo").splitlines():
        # id parent device root mount-point options optional... - type source super-options
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        version = {"cgroup": 1, "cgroup2": 2}.get(kind[0])
        if version not in groups or (version == 1 and "cpu" not in kind[2].split(",")):
            continue
        mount = os.path.join(root, fields[4].lstrip("/"))
        # In a container the mount may begin at the process's own group.
        inside = os.path.relpath(groups[version], fields[3])
        folder = mount if inside.startswith("..") else os.path.normpath(os.path.join(mount, inside))
        while True:
            quota = _quota_of_group(folder, version)
            if quota is not None:
                quotas.append(quota)
            if len(folder) <= len(mount):
                break
            folder = os.path.dirname(folder)
    return min(quotas, default=None)


_variable = ""  # that the number of the environment comes from


def _read_defaults() -> None:
    global _variable
    quota = cgroup_quota()
    _native.set_quota(0 if quota is None else math.ceil(quota))
    n, _variable = _from_environment()
    _native.set_environment_threads(n)


def reason() -> str:
    """What decides on the number that `get_num_threads` gives."""
    source = _native.thread_source()
    return {
        "thread": "limit of this thread",
        "process": "set_num_threads",
        "environment": _variable,
        "quota": "quota of the control group",
    }.get(source, "processors that this thread may run on")


# threadpoolctl


def _register(threadpoolctl: ModuleType) -> None:
    """Let ``threadpoolctl.threadpool_limits`` limit fastrnn's threads as well.

    The limit is the calling thread's own, as that of `threads` is.
    """
    if not hasattr(threadpoolctl, "register"):  # older than 3.2
        return

    class FastrnnController(threadpoolctl.LibController):  # type: ignore[misc, name-defined]
        """Finds ``fastrnn._native`` among the libraries that are loaded."""

        user_api = "fastrnn"
        internal_api = "fastrnn"
        filename_prefixes = ("_native",)
        check_symbols = ("fastrnn_native",)  # other packages may have a _native as well

        def get_num_threads(self) -> int:
            return get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            # At its end threadpool_limits sets what was before: then no limit is left behind.
            _native.set_thread_limit(0)
            if num_threads != get_num_threads():
                _native.set_thread_limit(max(int(num_threads), 1))

        def get_version(self) -> str:
            return str(sys.modules[__package__].__version__)

    threadpoolctl.register(FastrnnController)


class _WhenImported:
    """A finder that runs a function on a module once it is imported, and finds nothing itself."""

    def __init__(self, name: str, function: Callable[[ModuleType], None]) -> None:
        self.name = name
        self.function = function

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != self.name:
            return None
        import importlib.util

        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_tell(module: ModuleType) -> None:
            execute(module)
            self.function(module)

        spec.loader.exec_module = execute_and_tell  # type: ignore[method-assign]
        return spec


def _watch_for_threadpoolctl() -> None:
    module = sys.modules.get("threadpoolctl")
    if module is not None:
        _register(module)
    else:
        sys.meta_path.insert(0, _WhenImported("threadpoolctl", _register))


_read_defaults()
_watch_for_threadpoolctl()
