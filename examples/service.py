"""A service: one process loads and packs a model, then forks workers that share its memory.

The workers accept from one socket and keep connections, each of which has a thread that reads and
writes; one of a worker's threads at a time computes, by one native thread. POST /predict takes the
rows of a sequence as little-endian float32, one after the other, and answers with numbers of the
same kind: to read them as JSON takes longer than to compute the answer. SIGTERM or Ctrl-C ends the
service once all that was asked is answered.

    python examples/service.py model.safetensors --port 8000
    curl --data-binary @rows.f32 http://127.0.0.1:8000/predict | od -f
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import tempfile
import threading
import traceback
import urllib.request
import weakref
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn

Predict = Callable[[np.ndarray], np.ndarray]

LARGEST = 1 << 26  # bytes of a request
GRACE = 5  # seconds at the end for clients that are slow to take their answers
STOP = {signal.SIGTERM, signal.SIGINT}


class Handler(BaseHTTPRequestHandler):
    """One connection, request after request."""

    server: Server
    protocol_version = "HTTP/1.1"  # connections are kept
    wbufsize, disable_nagle_algorithm = -1, True  # an answer leaves in one piece and at once

    def do_POST(self) -> None:
        """Answer with what the model gives, or with what is wrong."""
        try:
            rows = np.frombuffer(self.body(), "<f4").reshape(-1, self.server.width)
            with self.server.turn:
                found = self.server.predict(rows)
            status, answer = 200, found.astype("<f4", copy=False).tobytes()
        except ValueError as error:
            status, answer = 400, str(error).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def body(self) -> bytes:
        """What was sent; a ValueError says what is wrong with it."""
        length, row = self.headers.get("Content-Length", ""), 4 * self.server.width
        self.close_connection = True  # nobody knows where a next request would begin
        if not length.isdecimal() or int(length) > LARGEST:
            raise ValueError(f"Content-Length: expected at most {LARGEST}, got {length!r}")
        sent = self.rfile.read(int(length))
        if len(sent) < int(length):
            raise ValueError(f"body: expected {length} bytes, got {len(sent)}")
        self.close_connection = self.headers.get("Connection", "").lower() == "close"
        if self.path != "/predict" or not sent or len(sent) % row:
            raise ValueError(
                f"expected POST /predict with rows of {self.server.width} float32, {row} bytes "
                f"each, got {self.path} with {len(sent)} bytes"
            )
        return sent

    def log_request(self, *_: object) -> None:
        """Say nothing of requests that are answered."""


class Server(ThreadingHTTPServer):
    """What one worker runs: a thread for each connection that it has accepted."""

    daemon_threads = False  # server_close waits for them

    def __init__(self, listening: socket.socket, predict: Predict, width: int) -> None:
        super().__init__(listening.getsockname(), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.predict, self.width = listening, predict, width
        self.turn = threading.Lock()  # two at once would wait for a core, and take twice the memory
        self.connections: weakref.WeakSet[Any] = weakref.WeakSet()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin with a connection."""
        self.connections.add(request)
        super().process_request(request, client_address)

    def work(self) -> None:
        """Serve until a signal comes, then answer what has been asked."""
        threading.Thread(target=self.serve_forever, args=(0.1,)).start()
        signal.sigwait(STOP)
        self.shutdown()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):  # it is closed
                connection.shutdown(socket.SHUT_RD)  # no further request comes
        signal.alarm(GRACE)
        self.server_close()


def serve(
    predict: Predict,
    width: int,
    port: int = 0,
    ready: Callable[[str, list[int]], object] = print,
    workers: int = 2,
) -> int:
    """Answer sequences of rows of so many numbers until SIGTERM or Ctrl-C; an exit status.

    `ready` is told the address and the workers' process numbers. A worker that ends by itself takes
    the service with it: whoever has started the service starts it anew.
    """
    listening = socket.create_server(("127.0.0.1", port), backlog=1024)
    listening.setblocking(False)  # the other worker may be quicker to accept
    signal.pthread_sigmask(signal.SIG_BLOCK, {*STOP, signal.SIGCHLD})  # they wait for sigwait
    processes = []
    for _ in range(workers):
        process = os.fork()
        if not process:
            try:
                Server(listening, predict, width).work()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        processes.append(process)
    try:
        ready(f"http://127.0.0.1:{listening.getsockname()[1]}/predict", processes)
        asked = signal.sigwait({*STOP, signal.SIGCHLD}) in STOP
    finally:
        for process in processes:
            os.kill(process, signal.SIGTERM)
        failed = [process for process in processes if os.waitpid(process, 0)[1]]
    return int(not asked or bool(failed))


def load(path: Path) -> tuple[Predict, int]:
    """What answers with a file's model, and the width of the rows that it takes."""
    fastrnn.set_num_threads(1)
    model = fastrnn.load(path, mmap=True).prepare()  # packed before the fork, so that it is shared
    first = model[0] if isinstance(model, fastrnn.Sequential) else model
    return lambda rows: model(rows[None])[0][0], first.input_size


def small_model() -> fastrnn.Sequential:
    """Probabilities of three classes from rows of eight numbers; it has learned nothing."""
    return fastrnn.Sequential(
        fastrnn.Final(fastrnn.LSTM(8, 64, random_state=0)),
        fastrnn.Linear(64, 3, random_state=1),
        fastrnn.Activation("softmax"),
    )


def ask_and_stop(address: str, processes: list[int]) -> None:
    """Send five rows, print the answer, and end the service."""
    request = urllib.request.Request(address, np.ones((5, 8), "<f4").tobytes())
    with urllib.request.urlopen(request) as reply:
        probabilities = np.frombuffer(reply.read(), "<f4")
    print(f"{len(processes)} workers at {address} answer: {probabilities}")
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Serve the model of a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", type=Path, help="by default a small one is made")
    parser.add_argument("--port", type=int, default=8000, help="0 takes one that is free")
    parser.add_argument("--quick", action="store_true", help="answer one request, and stop")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = chosen.model or Path(folder) / "model.safetensors"
        if chosen.model is None:
            small_model().save(path)
        predict, width = load(path)
    if chosen.quick:
        return serve(predict, width, ready=ask_and_stop)
    return serve(predict, width, chosen.port, ready=lambda *told: print(*told, flush=True))


if __name__ == "__main__":
    raise SystemExit(main())
