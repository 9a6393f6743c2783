"""A lock that a forked child can use.

A child starts as a copy of its parent with one thread: a lock that another of the parent's threads
held at that moment would stay locked in the child forever.
"""

from __future__ import annotations

import os
import threading

__all__ = ["Lock"]


class Lock:
    """A mutual-exclusion lock for ``with``, free again in a forked child."""

    __slots__ = ("_lock", "_process")

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __enter__(self) -> None:
        if self._process != os.getpid():
            # The first thread of a child to come here; what the lock guarded is the copy's own.
            self._renew()
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()
