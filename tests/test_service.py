"""The example's service under load: every answer right, memory flat, and an end within a second."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fastrnn
from bench.clients import Service

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells of memory"),
]

WIDTH = 8

# Answers that take their time, so that a signal comes before them.
SLOW = """
import sys, time
sys.path.append("examples")
import service

def predict(rows):
    time.sleep(0.3)
    return rows[-1]

sys.exit(service.serve(predict, 8, ready=lambda *told: print(*told, flush=True)))
"""


def model() -> fastrnn.Sequential:
    return fastrnn.Sequential(
        fastrnn.Final(fastrnn.GRU(WIDTH, 32, random_state=0)), fastrnn.Linear(32, 3, random_state=1)
    )


@pytest.fixture
def questions() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((20, 30, WIDTH)).astype(np.float32)


@pytest.fixture(autouse=True)
def this_tree(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(root))


@pytest.fixture
def service(root: Path, tmp_path: Path, questions: np.ndarray) -> Iterator[Service]:
    model().save(tmp_path / "model")
    command = [str(root / "examples" / "service.py"), str(tmp_path / "model"), "--port", "0"]
    with Service(command, questions) as found:
        yield found


def connected(
    service: Service,
) -> contextlib.AbstractContextManager[http.client.HTTPConnection]:
    return contextlib.closing(http.client.HTTPConnection(*service.address, timeout=10))


def asked(
    connection: http.client.HTTPConnection, body: bytes, path: str = "/predict"
) -> tuple[int, bytes]:
    """The status and the answer of one request."""
    connection.request("POST", path, body)
    reply = connection.getresponse()
    return reply.status, reply.read()


def test_every_answer_is_right_and_nothing_grows(service: Service, questions: np.ndarray) -> None:
    assert service.ask(2).errors == 0
    before = service.resident
    found = service.ask(4)
    assert found.errors == 0
    assert len(found.times) > 500
    assert service.resident - before < 2_000_000
    for expected, client in zip(model()(questions)[0], service.clients, strict=True):
        np.testing.assert_array_equal(np.frombuffer(client.answer or b"", "<f4"), expected)


def test_a_bad_request_is_told_what_is_wrong_and_the_service_goes_on(
    service: Service, questions: np.ndarray
) -> None:
    good = questions[0].tobytes()
    with connected(service) as connection:
        right = asked(connection, good)
        assert right[0] == 200
        kept = connection.sock
        for path, body in (("/predict", good[:-3]), ("/predict", b""), ("/", good)):
            message = (
                f"expected POST /predict with rows of {WIDTH} float32, 32 bytes each, "
                f"got {path} with {len(body)} bytes"
            )
            assert asked(connection, body, path) == (400, message.encode())
            assert asked(connection, good) == right
            assert connection.sock is kept
    for length in ("-1", "x", "99999999999"):
        with connected(service) as connection:
            connection.putrequest("POST", "/predict")
            connection.putheader("Content-Length", length)
            connection.endheaders()
            reply = connection.getresponse()
            assert (reply.status, reply.read()[:15]) == (400, b"Content-Length:")
    # One that leaves in the middle of its request.
    with socket.create_connection(service.address) as half:
        half.sendall(b"POST /predict HTTP/1.1\r\nContent-Length: 64\r\n\r\n" + good[:32])
    assert service.ask(0.2).errors == 0


def test_sigterm_ends_everything_soon(service: Service) -> None:
    for client in service.clients:  # answers are on their way
        client.ask()
    time.sleep(0.02)
    assert service.end() < 1
    assert service.process.returncode == 0
    assert not any(Path(f"/proc/{worker}").exists() for worker in service.workers)


def test_what_was_asked_is_answered_before_the_end(questions: np.ndarray) -> None:
    with Service(["-c", SLOW], questions) as service:
        for client in service.clients[:2]:  # of the others nothing is known
            client.ask()
        time.sleep(0.1)
        begin = time.perf_counter()
        service.process.send_signal(signal.SIGTERM)
        for rows, client in zip(questions[:2], service.clients[:2], strict=True):
            while (right := client.receive()) is None:
                pass
            assert right
            assert client.answer == rows[-1].tobytes()
            assert client.socket.recv(1) == b""  # no more comes
        assert service.process.wait(5) == 0
        assert time.perf_counter() - begin < 1


def test_a_worker_that_dies_takes_the_service_with_it(service: Service) -> None:
    os.kill(service.workers[0], signal.SIGKILL)
    assert service.process.wait(5) == 1
    assert not Path(f"/proc/{service.workers[1]}").exists()
