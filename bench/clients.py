"""Clients of a service on this machine: each asks again as soon as it has its answer.

All of them live in one thread, which waits for whichever is answered next, so that they take little
of the processors that the service shares with them.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from bench.results import HERE

PATIENCE = 20.0  # seconds for any answer
LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")


class Client:
    """One connection that is kept, and the one question that is asked on it.

    Parameters
    ----------
    address : (str, int)
    rows : array (T, D)
    """

    def __init__(self, address: tuple[str, int], rows: np.ndarray) -> None:
        body = rows.astype("<f4").tobytes()
        head = (
            f"POST /predict HTTP/1.1\r\nHost: {address[0]}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._request = head.encode() + body
        self.socket = socket.create_connection(address, timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self.answer: bytes | None = None  # the first, which all others must be
        self.asked = 0.0

    def ask(self) -> None:
        """Send the question."""
        self._received = b""
        self.asked = time.perf_counter()
        self.socket.sendall(self._request)

    def receive(self) -> bool | None:
        """Take what has come: None while there is more to come, else whether it is right."""
        piece = self.socket.recv(1 << 16)
        self._received += piece
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = LENGTH.search(head + b"\r\n") if end else None
        if piece and (length is None or len(body) < int(length[1])):
            return None
        if self.answer is None:
            self.answer = body
        return head.startswith(b"HTTP/1.1 200 ") and body == self.answer


@dataclass
class Asked:
    """What some seconds of asking have found: seconds of each answer, wrong ones, and all of it."""

    times: list[float] = field(default_factory=list)
    errors: int = 0
    seconds: float = 0.0


class Service:
    """A service in processes of its own, with its clients; as a context manager it is ended.

    Parameters
    ----------
    command : sequence of str
        What Python is to run; it tells the address and the workers' numbers in a line.
    questions : array (N, T, D)
        One for each client.
    """

    def __init__(self, command: Sequence[str], questions: np.ndarray) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, text=True, cwd=HERE.parent
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.fullmatch(r"http://([\d.]+):(\d+)/predict \[([\d, ]+)\]\n", line)
        if found is None:
            raise RuntimeError(f"{' '.join(command)}: expected an address, got {line!r}")
        self.address = (found[1], int(found[2]))
        self.workers = [int(number) for number in found[3].split(", ")]
        self.clients = [Client(self.address, rows) for rows in questions]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def ask(self, seconds: float) -> Asked:
        """Let all clients ask for so long."""
        found = Asked()
        with selectors.DefaultSelector() as selector:
            begin = time.perf_counter()
            for client in self.clients:
                selector.register(client.socket, selectors.EVENT_READ, client)
                client.ask()
            waiting = len(self.clients)
            while waiting:
                events = selector.select(PATIENCE)
                if not events:
                    raise RuntimeError(f"expected an answer within {PATIENCE} s, got none")
                for key, _ in events:
                    right = key.data.receive()
                    if right is None:
                        continue
                    now = time.perf_counter()
                    found.times.append(now - key.data.asked)
                    found.errors += not right
                    if now - begin < seconds:
                        key.data.ask()
                    else:
                        waiting -= 1
            found.seconds = time.perf_counter() - begin
        return found

    @property
    def resident(self) -> int:
        """Bytes of memory that the workers have, what they share counted in each."""
        pages = 0
        for worker in self.workers:
            with open(f"/proc/{worker}/statm", encoding="ascii") as file:
                pages += int(file.read().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def end(self) -> float:
        """End it by SIGTERM; how many seconds that takes."""
        begin = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            for client in self.clients:
                client.socket.close()
            assert self.process.stdout is not None
            self.process.stdout.close()
        return time.perf_counter() - begin
