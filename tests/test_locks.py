"""The lock that a forked child can use."""

from __future__ import annotations

import os
import threading
import time

import pytest

from fastrnn.engine.locks import Lock


def test_one_thread_at_a_time() -> None:
    lock, inside, most = Lock(), [0], [0]

    def work() -> None:
        for _ in range(20):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0001)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_while_the_lock_was_held_can_take_it() -> None:
    lock, held, done = Lock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        with lock:
            os._exit(7)
    try:
        for _ in range(500):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            time.sleep(0.01)
        assert ended == child
        assert os.waitstatus_to_exitcode(status) == 7
    finally:
        if not ended:
            os.kill(child, 9)
            os.waitpid(child, 0)
        done.set()
        thread.join()
