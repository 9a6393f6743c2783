"""The thread pool: its workers begin when they are needed, and survive what processes do."""

from __future__ import annotations

import os
import shutil
import subprocess
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from copied_tree import NOT_LINUX
from fresh_process import output, run

import fastrnn
from fastrnn import _native

pytestmark = pytest.mark.usefixtures("threads_restored")

ROOT = Path(__file__).resolve().parent.parent
TASKS = Path("/proc/self/task")
OPEN_FILES = Path("/proc/self/fd")


# The pool


@pytest.mark.parametrize("n_threads", [1, 2, 3, 5])
@pytest.mark.parametrize("n_tasks", [0, 1, 2, 7, 1000])
def test_every_task_runs_on_a_worker_of_the_region(n_tasks: int, n_threads: int) -> None:
    workers = _native.probe_region(n_tasks, n_threads)
    assert workers.shape == (n_tasks,)
    assert ((workers >= 0) & (workers < n_threads)).all()


def test_a_number_beyond_the_processors_is_honored() -> None:
    n = 2 * (os.cpu_count() or 1) + 1
    _native.stop_pool()
    seen: set[int] = set()
    limit = time.monotonic() + 20
    while len(seen) < n and time.monotonic() < limit:  # a thread may have to wait for a core
        seen.update(_native.probe_region(60 * n, n, 200_000).tolist())
    assert seen == set(range(n))
    assert _native.pool_size() == n - 1


@pytest.mark.parametrize("gemm", _native.GEMMS)
def test_more_threads_than_tasks_need_no_memory(gemm: str) -> None:
    # Of a million threads those start that find a task, and none has memory set aside before.
    layer, out = fastrnn.GRU(16, 64, random_state=0), fastrnn.Linear(64, 40, random_state=0)
    x = np.random.default_rng(0).standard_normal((12, 20, 16)).astype(np.float32)
    fastrnn.set_gemm(gemm)
    try:
        results = []
        for n in (1, 10**6):
            with fastrnn.threads(n):
                y, _, backward = layer.forward(x)
                results.append([out(y), backward(y)[0]])
    finally:
        fastrnn.set_gemm(None)
    for one, many in zip(*results, strict=True):
        np.testing.assert_allclose(many, one, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not TASKS.is_dir(), reason="only Linux lists a process's threads in a folder")
def test_threads_start_when_they_are_needed_and_no_more_than_that() -> None:
    code = """
        import os, time, numpy
        before = len(os.listdir("/proc/self/task"))
        from fastrnn import _native
        def extra():
            time.sleep(0.02)  # the system takes a moment to forget a thread that was joined
            return len(os.listdir("/proc/self/task")) - before
        assert extra() == 0, "at import"
        _native.probe_region(10, 1)
        _native.probe_region(1, 4)
        assert extra() == 0, "where one thread is enough"
        _native.probe_region(10, 3)
        assert extra() == _native.pool_size() == 2
        _native.probe_region(10, 2)
        assert extra() == 2
        assert _native.stop_pool()
        assert extra() == _native.pool_size() == 0
        _native.probe_region(10, 2)
        assert extra() == 1
    """
    output(code)


@pytest.mark.skipif(not TASKS.is_dir(), reason="only Linux lists a process's threads in a folder")
def test_ten_thousand_regions_leave_nothing_behind() -> None:
    _native.probe_region(10, 3)
    threads, files = len(list(TASKS.iterdir())), len(list(OPEN_FILES.iterdir()))
    _native.time_regions(10_000, 3, 3)
    for _ in range(300):
        _native.probe_region(3, 3)
    assert len(list(TASKS.iterdir())) == threads
    assert len(list(OPEN_FILES.iterdir())) == files


def test_more_threads_than_processors_do_not_crawl() -> None:
    n = 2 * (os.cpu_count() or 1) + 1
    alone = min(_native.time_regions(500, n, 1) for _ in range(3))
    crowded = min(_native.time_regions(500, n, n) for _ in range(3))
    assert crowded < alone + 1_000_000  # a millisecond; a pool that waits for a core takes many


@pytest.mark.skipif(
    not TASKS.is_dir() or _native.capacity() < 2, reason="needs a list of threads and two cores"
)
def test_a_step_without_helpers_says_nothing_about_neighbors() -> None:
    def places() -> int:
        most = 0  # one that is woken for a region runs on all processors but one
        for _ in range(10):
            for _ in range(3):
                _native.probe_region(20, 2, 10_000)
            names = {(task / "comm").read_text(): int(task.name) for task in TASKS.iterdir()}
            most = max(most, len(os.sched_getaffinity(names["fastrnn-1\n"])))
        return most

    fastrnn.set_num_threads(2)
    stream = fastrnn.LSTM(256, 256, random_state=0).stream()
    before = places()
    _native.disturb(True)
    try:
        assert places() == before - 1  # it keeps off this thread's processor
        time.sleep(0.01)  # longer than the rest after a disturbance, and than workers spin
        stream.step(np.zeros((1, 256), np.float32))
        assert places() == before - 1
    finally:
        _native.disturb(False)
    assert places() == before


def test_a_region_wakes_threads_that_sleep() -> None:
    for _ in range(20):
        time.sleep(0.003)  # longer than they spin
        workers = _native.probe_region(200, 2, 100_000)
        if len(np.unique(workers)) == 2:
            return
    pytest.fail("the second thread took no task")


def test_concurrent_callers_all_get_their_work_done() -> None:
    done: list[bool] = []

    def call() -> None:
        for _ in range(300):
            workers = _native.probe_region(20, 3, 1000)
            done.append(bool(((workers >= 0) & (workers < 3)).all()))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(done) == 1200
    assert all(done)


def test_a_process_with_workers_ends() -> None:
    for end in ("", "os._exit(0)", "sys.exit(0)"):
        code = f"""
            import os, sys
            from fastrnn import _native
            _native.probe_region(10, 3)
            {end}
        """
        output(code, timeout=30)


def test_a_process_ends_while_a_daemon_thread_is_in_a_region() -> None:
    code = """
        import threading, time
        from fastrnn import _native
        slow = (300, 2, 100_000_000)
        threading.Thread(target=_native.probe_region, args=slow, daemon=True).start()
        time.sleep(0.2)
    """
    output(code, timeout=10)


FORKS = """
    import os, sys, threading, time
    from fastrnn import _native

    def use():
        workers = _native.probe_region(50, 3, 1000)
        assert ((workers >= 0) & (workers < 3)).all()

    def fork(child):
        pid = os.fork()
        if pid == 0:
            try:
                assert _native.pool_size() == 0
                child()
                os._exit(0 if _native.pool_size() == 2 else 3)
            finally:
                os._exit(4)
        limit = time.monotonic() + 20
        while time.monotonic() < limit:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                assert status == 0, status
                return
            time.sleep(0.002)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        raise SystemExit("the child hangs")

    def nested(depth):
        use()
        if depth:
            fork(lambda: nested(depth - 1))
        use()
"""


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("fork(use)", id="before use"),
        pytest.param("use(); fork(use); use()", id="after use"),
        pytest.param("nested(3)", id="nested"),
        pytest.param(
            """
use()
errors = []
def in_thread():
    try:
        for _ in range(5):
            fork(use)
    except BaseException as error:
        errors.append(error)
thread = threading.Thread(target=in_thread)
thread.start()
thread.join()
assert not errors, errors
use()
""",
            id="from a thread",
        ),
        pytest.param(
            """
inside = threading.Thread(target=_native.probe_region, args=(40, 3, 20_000_000))
inside.start()
time.sleep(0.05)
assert inside.is_alive()
fork(use)
fork(lambda: nested(1))
assert inside.is_alive(), "the forks came too late to test anything"
inside.join()
assert _native.pool_size() == 2, "the region's own threads go on"
use()
""",
            id="while another thread is in a region",
        ),
        pytest.param(
            """
enough = []
def busy():
    while not enough:
        use()
threads = [threading.Thread(target=busy) for _ in range(2)]
for thread in threads: thread.start()
for _ in range(20): fork(use)
enough.append(1)
for thread in threads: thread.join()
""",
            id="at any moment",
        ),
    ],
)
def test_fork(code: str) -> None:
    done = run(textwrap.dedent(FORKS) + textwrap.dedent(code), timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_callers_floating_point_modes_are_restored() -> None:
    tiny = np.array([4.9e-310])
    for n_threads in (1, 2):
        _native.probe_region(10, n_threads)
        assert (tiny * 1e300)[0] > 0, "denormal numbers count in the caller's code"


# The driver in C

DRIVER = ROOT / "tests" / "c" / "pool.sh"


def drive(*sanitizers: str, **environment: str) -> None:
    if shutil.which(os.environ.get("CC", "cc")) is None:
        pytest.skip("there is no C compiler")
    done = subprocess.run(
        [DRIVER, *sanitizers],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok: ") == 15, done.stdout


def test_the_driver_in_c() -> None:
    drive()


@pytest.mark.slow
def test_the_driver_in_c_with_what_every_posix_has() -> None:
    drive(CC=f"{os.environ.get('CC', 'cc')} {NOT_LINUX}")


@pytest.mark.slow
@pytest.mark.parametrize("sanitizers", ["thread", "address,undefined"])
def test_the_driver_in_c_under_sanitizers(sanitizers: str) -> None:
    drive(sanitizers)
