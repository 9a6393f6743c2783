"""Layers, and a process that forks, calls from many threads, calls often, or is interrupted.

The pool's own tests are in test_threads.py; here whole layers must give the same bits everywhere.
Each case runs in a process of its own with a limit of time, so that a hang fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

# Two layers large enough that every call is split over three threads, and the bits of a training
# step: outputs, input gradients and weight gradients, whole, not a hash that could hide.
BASE = """
    import os, signal, sys, threading, time, warnings
    import numpy as np
    import fastrnn
    from fastrnn import _native

    fastrnn.set_num_threads(3)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((33, 40, 24)).astype(np.float32)
    lengths = rng.integers(0, 41, 33)
    dy = rng.standard_normal((33, 40, 128)).astype(np.float32)

    def make():
        return fastrnn.LSTM(24, 64, bidirectional=True, random_state=1)

    def train(layer):
        layer.zero_grad()
        y, state, backward = layer.forward(x, lengths=lengths)
        found = [np.array(y), *state]
        dx, dstate = backward(dy)
        return [*found, dx, *dstate, *layer.grads.values()]

    def bits(arrays):
        return [np.array(array).tobytes() for array in arrays]

    def forks_beside_threads():
        "Python 3.12 warns of them; elsewhere a warning would mean that an idle pool had not ended."
        warnings.simplefilter("ignore", DeprecationWarning)

    def fork(child):
        "Run child() in a fork; it must end well and soon."
        pid = os.fork()
        if pid == 0:
            try:
                child()
                os._exit(0)
            except BaseException as error:
                print("in the child:", repr(error), file=sys.stderr, flush=True)
            finally:
                os._exit(4)
        limit = time.monotonic() + 30
        while time.monotonic() < limit:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                assert status == 0, status
                return
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise SystemExit("the child hangs")

    layer = make()
"""


def run(code: str, *, timeout: float = 90) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FASTRNN_NUM", "OMP_NUM"))}
    kept["FASTRNN_GEMM"] = "packed"  # by which processes that begin anew compute the same bits, too
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(BASE) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=kept,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


FORKS = {
    "before use": """
        def child():
            assert bits(train(layer)) == bits(train(make()))
        fork(child)
        train(layer)
        assert _native.pool_size() == 2, "the case is too small to test anything"
    """,
    "after use": """
        expected = bits(train(layer))
        assert _native.pool_size() == 2, "the case is too small to test anything"
        def child():
            assert bits(train(layer)) == expected
            assert _native.pool_size() == 2
        fork(child)
        assert bits(train(layer)) == expected
    """,
    "between forward and backward": """
        expected = bits(train(layer))
        y, state, backward = layer.forward(x, lengths=lengths)
        def child():
            layer.zero_grad()
            dx, dstate = backward(dy)
            assert bits([y, *state, dx, *dstate, *layer.grads.values()]) == expected
        fork(child)
        child()
    """,
    "nested": """
        expected = bits(train(layer))
        def child(depth):
            assert bits(train(layer)) == expected
            if depth:
                fork(lambda: child(depth - 1))
            assert bits(train(layer)) == expected
        child(3)
    """,
    "from a thread": """
        forks_beside_threads()
        expected = bits(train(layer))
        errors = []
        def child():
            assert bits(train(layer)) == expected
        def in_thread():
            try:
                for _ in range(3):
                    fork(child)
            except BaseException as error:
                errors.append(error)
        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join()
        assert not errors, errors
        assert bits(train(layer)) == expected
    """,
    "during another thread's calls": """
        forks_beside_threads()
        expected = bits(train(layer))
        calls, enough = [], []
        other = make()
        def call():
            while not enough:
                calls.append(bits(train(other)) == expected)
        def child():
            assert bits(train(layer)) == expected
        thread = threading.Thread(target=call)
        thread.start()
        for _ in range(15):
            fork(child)
        fork(lambda: fork(child))
        before = len(calls)
        while len(calls) == before:
            time.sleep(0.001)
        enough.append(1)
        thread.join()
        assert len(calls) > 1 and all(calls)
        assert bits(train(layer)) == expected
    """,
}


@pytest.mark.parametrize("code", [pytest.param(code, id=name) for name, code in FORKS.items()])
def test_fork(code: str) -> None:
    run(code)


def test_multiprocessing_by_fork() -> None:
    code = """
        import multiprocessing
        forks_beside_threads()
        expected = bits(train(layer))
        def same(_):
            return bits(train(layer)) == expected
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map_async(same, range(6)).get(60) == [True] * 6
    """
    run(code)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_multiprocessing_by_other_ways(method: str) -> None:
    code = f"""
        import multiprocessing
        expected = bits([layer(x, None, lengths)[0]])
        assert _native.pool_size() == 2
        with multiprocessing.get_context("{method}").Pool(2) as pool:
            answers = [pool.apply_async(layer, (x, None, lengths)) for _ in range(4)]
            assert all(bits([one.get(60)[0]]) == expected for one in answers)
        assert bits([layer(x, None, lengths)[0]]) == expected
    """
    run(code)


def test_a_worker_of_a_pool_that_forks() -> None:
    code = """
        import multiprocessing
        forks_beside_threads()
        expected = bits(train(layer))
        def same():
            assert bits(train(layer)) == expected
        def work(_):
            same()
            fork(same)
            fork(lambda: fork(same))
            same()
            return _native.pool_size()
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map_async(work, range(4)).get(80) == [2] * 4
        same()
    """
    run(code)


def test_four_threads_call_one_layer() -> None:
    code = """
        expected = bits([layer(x, lengths=lengths)[0]])
        trained = bits(train(layer)[:3])
        wrong, done = [], []
        start = threading.Barrier(4)
        def call():
            start.wait()
            for _ in range(25):
                if bits([layer(x, lengths=lengths)[0]]) != expected:
                    wrong.append("inference")
                y, state, backward = layer.forward(x, lengths=lengths)
                if bits([y, *state]) != trained:
                    wrong.append("forward")
            done.append(1)
        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert not wrong, wrong
        assert len(done) == 4
    """
    run(code)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="only Linux counts these in files")
def test_ten_thousand_calls_leave_nothing_behind() -> None:
    code = """
        import gc
        small = fastrnn.GRU(5, 16, random_state=0)
        batch = rng.standard_normal((6, 7, 5)).astype(np.float32)
        dsmall = rng.standard_normal((6, 7, 16)).astype(np.float32)
        def memory():
            "Python's objects, and bytes of memory that are not pages of files"
            with open("/proc/self/status") as file:
                resident = next(line.split()[1] for line in file if line.startswith("RssAnon"))
            return sys.getallocatedblocks(), int(resident) * 1024
        def threads_and_files():
            return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
        def call(n):
            for i in range(n):
                lengths = [(i + k) % 8 for k in range(6)]
                y, state, backward = small.forward(batch, lengths=lengths)
                if i % 3:
                    backward(dsmall)  # every third closure dies unused
                small(batch[: i % 7])
                if i % 500 == 0:
                    train(layer)
                    try:
                        small(batch[..., :3])
                    except ValueError:
                        pass
        call(1500)
        counts = threads_and_files()
        growth = []
        for _ in range(4):
            gc.collect()
            objects, resident = memory()
            call(2500)
            gc.collect()
            more_objects, more_resident = memory()
            growth.append((more_objects - objects, more_resident - resident))
        assert threads_and_files() == counts
        # What leaks, leaks every time; malloc's own reserves may grow once.
        assert min(objects for objects, _ in growth) < 250, growth
        assert min(resident for _, resident in growth) < 250_000, growth
    """
    run(code)


# Enough steps for about 4 seconds, whatever the machine.
LONG = """
    big = fastrnn.LSTM(64, 512, random_state=0)
    big(np.zeros((64, 100, 64), np.float32))
    began = time.monotonic()
    big(np.zeros((64, 100, 64), np.float32))
    long = np.zeros((64, int(100 * 4 / (time.monotonic() - began)), 64), np.float32)
"""


def test_ctrl_c_ends_a_long_call_at_once() -> None:
    code = """
        expected = bits(train(layer))
        delays = []
        for _ in range(4):
            sent = []
            def interrupt():
                time.sleep(0.3)
                sent.append(time.monotonic())
                os.kill(os.getpid(), signal.SIGINT)
            threading.Thread(target=interrupt, daemon=True).start()
            try:
                big(long)
            except KeyboardInterrupt:
                delays.append(time.monotonic() - sent[0])
            else:
                raise SystemExit("the call was not interrupted")
            assert bits(train(layer)) == expected
        big(long[:, :10])
        print(min(delays))  # the others waited for a busy machine
    """
    delay = float(run(textwrap.dedent(LONG) + textwrap.dedent(code)))
    assert delay < 0.1


def test_handlers_run_during_a_long_call() -> None:
    code = """
        ticks = []
        signal.signal(signal.SIGALRM, lambda *_: ticks.append(time.monotonic()))
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        began = time.monotonic()
        big(long[:, : long.shape[1] // 4])
        took = time.monotonic() - began
        signal.setitimer(signal.ITIMER_REAL, 0)
        inside = sum(began < tick < began + took for tick in ticks)
        assert took > 0.3, took
        assert inside > took / 0.1 / 3, (inside, took)
    """
    run(textwrap.dedent(LONG) + textwrap.dedent(code))
