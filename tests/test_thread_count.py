"""How many threads a call uses, and who decides."""

from __future__ import annotations

import os
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from fresh_process import output, run

import fastrnn
from fastrnn import _native, thread_count

pytestmark = pytest.mark.usefixtures("threads_restored")


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
