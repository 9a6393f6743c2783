"""The thread pool, and how many threads a call uses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from copied_tree import NOT_LINUX

import fastrnn
from fastrnn import _native, thread_count

ROOT = Path(__file__).resolve().parent.parent
TASKS = Path("/proc/self/task")
OPEN_FILES = Path("/proc/self/fd")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    _native.set_thread_limit(0)
    fastrnn.set_num_threads(None)


def run(code: str, *, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own, free of what the environment says of threads."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FASTRNN_") and name != "OMP_NUM_THREADS"
    }
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**kept, **environment},
        timeout=timeout,
        check=False,
    )


def output(code: str, *, timeout: float = 60, **environment: str) -> str:
    done = run(code, timeout=timeout, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


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


# Settings


def test_set_num_threads_holds_for_every_thread() -> None:
    fastrnn.set_num_threads(7)
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(fastrnn.get_num_threads()))
    thread.start()
    thread.join()
    assert [fastrnn.get_num_threads(), *seen] == [7, 7]
    assert thread_count.reason() == "set_num_threads"
    fastrnn.set_num_threads(None)
    assert fastrnn.get_num_threads() == _native.capacity()


def test_threads_holds_for_a_block_in_one_thread() -> None:
    fastrnn.set_num_threads(7)
    seen: list[int] = []

    def elsewhere() -> None:
        thread = threading.Thread(target=lambda: seen.append(fastrnn.get_num_threads()))
        thread.start()
        thread.join()

    with fastrnn.threads(3):
        assert fastrnn.get_num_threads() == 3
        assert thread_count.reason() == "limit of this thread"
        with fastrnn.threads(np.int64(9)):
            assert fastrnn.get_num_threads() == 9
            with fastrnn.threads(None):
                assert fastrnn.get_num_threads() == 7
            elsewhere()
        assert fastrnn.get_num_threads() == 3
        fastrnn.set_num_threads(8)
        assert fastrnn.get_num_threads() == 3
    assert fastrnn.get_num_threads() == 8
    assert seen == [7]
    with pytest.raises(KeyError), fastrnn.threads(3):
        raise KeyError
    assert fastrnn.get_num_threads() == 8


def test_threads_is_set_when_the_block_begins() -> None:
    before = fastrnn.get_num_threads()
    block = fastrnn.threads(before + 1)
    assert fastrnn.get_num_threads() == before
    with block:
        assert fastrnn.get_num_threads() == before + 1


@pytest.mark.parametrize("function", [fastrnn.set_num_threads, fastrnn.threads])
@pytest.mark.parametrize(
    ("n", "error"),
    [
        (0, ValueError),
        (-2, ValueError),
        (2**31, ValueError),
        (2.0, TypeError),
        ("2", TypeError),
        (True, TypeError),
    ],
)
def test_numbers_that_are_none(function: object, n: object, error: type[Exception]) -> None:
    assert callable(function)
    before = fastrnn.get_num_threads()
    with pytest.raises(error, match=r"^n: expected an integer of at"):
        function(n)
    assert fastrnn.get_num_threads() == before


PRINT = """
    import fastrnn
    from fastrnn import thread_count
    print(fastrnn.get_num_threads(), thread_count.reason())
"""


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"FASTRNN_NUM_THREADS": "5"}, "5 FASTRNN_NUM_THREADS"),
        ({"OMP_NUM_THREADS": "6"}, "6 OMP_NUM_THREADS"),
        ({"OMP_NUM_THREADS": " 4 , 2"}, "4 OMP_NUM_THREADS"),
        ({"FASTRNN_NUM_THREADS": "5", "OMP_NUM_THREADS": "6"}, "5 FASTRNN_NUM_THREADS"),
        ({"FASTRNN_NUM_THREADS": "", "OMP_NUM_THREADS": "6"}, "6 OMP_NUM_THREADS"),
    ],
)
def test_the_environment(environment: dict[str, str], expected: str) -> None:
    done = run(PRINT, **environment)
    assert (done.stdout.strip(), done.stderr) == (expected, "")


@pytest.mark.parametrize("value", ["0", "-3", "two", "2.5", "4,2", "99999999999"])
def test_bad_numbers_in_the_environment_are_told_once_and_ignored(value: str) -> None:
    done = run(PRINT, FASTRNN_NUM_THREADS=value, OMP_NUM_THREADS="3")
    assert done.stdout.strip() == "3 OMP_NUM_THREADS"
    assert done.stderr.count("RuntimeWarning") == 1
    message = f"FASTRNN_NUM_THREADS: expected a positive number of threads, got {value!r}"
    assert message in done.stderr


def test_going_back_to_the_default_reads_the_environment_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FASTRNN_NUM_THREADS", "11")
    fastrnn.set_num_threads(2)
    fastrnn.set_num_threads(None)
    assert fastrnn.get_num_threads() == 11
    monkeypatch.delenv("FASTRNN_NUM_THREADS")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    fastrnn.set_num_threads(None)
    assert fastrnn.get_num_threads() == _native.capacity()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity cannot be set here")
def test_affinity_is_followed_when_it_changes() -> None:
    code = """
        import os, time
        import fastrnn
        allowed = os.sched_getaffinity(0)
        assert fastrnn.get_num_threads() == len(allowed)
        os.sched_setaffinity(0, {min(allowed)})
        time.sleep(0.1)
        assert fastrnn.get_num_threads() == 1
        os.sched_setaffinity(0, allowed)
        time.sleep(0.1)
        assert fastrnn.get_num_threads() == len(allowed)
    """
    assert thread_count.cgroup_quota() is not None or output(code) == ""


# Control groups, whose files are laid out by hand


def lay_out(root: Path, files: dict[str, str]) -> float | None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return thread_count.cgroup_quota(root / "proc", root)


V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "33 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"


def test_quota_of_version_2(tmp_path: Path) -> None:
    files = {
        "proc/cgroup": "0::/user.slice/app\n",
        "proc/mountinfo": V2,
        "sys/fs/cgroup/user.slice/app/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/user.slice/cpu.max": "max 100000\n",
    }
    assert lay_out(tmp_path, files) == 1.5


def test_quota_of_a_group_above(tmp_path: Path) -> None:
    files = {
        "proc/cgroup": "0::/user.slice/app\n",
        "proc/mountinfo": V2,
        "sys/fs/cgroup/user.slice/app/cpu.max": "400000 100000\n",
        "sys/fs/cgroup/user.slice/cpu.max": "300000 100000\n",
    }
    assert lay_out(tmp_path, files) == 3


def test_quota_in_a_container_that_sees_the_hosts_path(tmp_path: Path) -> None:
    files = {
        "proc/cgroup": "0::/docker/0123\n",
        "proc/mountinfo": V2.replace(" / /sys", " /docker/0123 /sys"),
        "sys/fs/cgroup/cpu.max": "50000 100000\n",
    }
    assert lay_out(tmp_path, files) == 0.5
    assert lay_out(tmp_path, {"proc/cgroup": "0::/../../elsewhere\n"}) == 0.5


def test_quota_of_version_1(tmp_path: Path) -> None:
    files = {
        "proc/cgroup": "4:memory:/app\n3:cpu,cpuacct:/app\n0::/\n",
        "proc/mountinfo": V1.replace("cpu,cpuacct", "memory") + V1,
        "sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us": "250000\n",
        "sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    assert lay_out(tmp_path, files) == 2.5


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/cgroup": "0::/app\n", "proc/mountinfo": V2},
        {"proc/cgroup": "nonsense", "proc/mountinfo": "nonsense - nonsense"},
        {
            "proc/cgroup": "0::/app\n",
            "proc/mountinfo": V2,
            "sys/fs/cgroup/app/cpu.max": "max 100000\n",
        },
        {
            "proc/cgroup": "0::/app\n",
            "proc/mountinfo": V2,
            "sys/fs/cgroup/app/cpu.max": "100000\n",
        },
        {"proc/cgroup": "0::/app\n", "proc/mountinfo": V2, "sys/fs/cgroup/app/cpu.max": "1 0"},
    ],
)
def test_no_quota(tmp_path: Path, files: dict[str, str]) -> None:
    assert lay_out(tmp_path, files) is None


def test_the_quota_is_rounded_up_and_kept_below_the_affinity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FASTRNN_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    affinity = _native.affinity_count()
    for quota, expected in ((0.3, 1), (affinity - 0.5, affinity), (affinity + 5.0, affinity)):
        monkeypatch.setattr(thread_count, "cgroup_quota", lambda quota=quota: quota)
        fastrnn.set_num_threads(None)
        assert fastrnn.get_num_threads() == expected
        if expected < affinity:
            assert thread_count.reason() == "quota of the control group"
    monkeypatch.undo()


# threadpoolctl

LIMITS = """
    assert any(found["user_api"] == "fastrnn" for found in threadpoolctl.threadpool_info())
    before = fastrnn.get_num_threads()
    with threadpoolctl.threadpool_limits(before + 3):
        assert fastrnn.get_num_threads() == before + 3
        with threadpoolctl.threadpool_limits(1, user_api="fastrnn"):
            assert fastrnn.get_num_threads() == 1
        with threadpoolctl.threadpool_limits(1, user_api="blas"):
            assert fastrnn.get_num_threads() == before + 3
        assert fastrnn.get_num_threads() == before + 3
    assert fastrnn.get_num_threads() == before
    fastrnn.set_num_threads(before + 1)
    assert fastrnn.get_num_threads() == before + 1, "a limit was left behind"
"""


@pytest.mark.parametrize(
    "imports",
    ["import fastrnn\nimport threadpoolctl", "import threadpoolctl\nimport fastrnn"],
    ids=["fastrnn first", "threadpoolctl first"],
)
def test_threadpoolctl_limits_our_threads(imports: str) -> None:
    pytest.importorskip("threadpoolctl")
    output(imports + textwrap.dedent(LIMITS))


def test_an_import_that_fails_still_says_so() -> None:
    code = """
        import sys
        import fastrnn
        sys.path[:] = [path for path in sys.path if "site-packages" not in path]
        try:
            import threadpoolctl
        except ModuleNotFoundError:
            pass
        else:
            raise SystemExit("found")
    """
    output(code)
