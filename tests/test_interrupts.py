"""Ctrl-C and SIGTERM take effect within a tenth of a second, whatever native code is at work.

Each case runs in a process of its own, on two threads; what is interrupted would take seconds.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import pytest
from test_fork import BASE, run

# A call's work, in units that n counts.
CALLS = {
    "inference": """
        big = fastrnn.LSTM(64, 512, random_state=0)
        def call(n):
            x = np.zeros((64, 20 * n, 64), np.float32)
            return lambda: big(x)
    """,
    "the forward pass of training": """
        big = fastrnn.GRU(64, 768, random_state=0)
        def call(n):
            x = np.zeros((16, 10 * n, 64), np.float32)
            return lambda: big.forward(x)
    """,
    "the backward pass": """
        big = fastrnn.LSTM(64, 768, random_state=0)
        def call(n):
            y, _, backward = big.forward(np.zeros((16, 10 * n, 64), np.float32))
            return lambda: backward(y)
    """,
    "the gradient of a large weight": """
        from fastrnn import _products
        fastrnn.set_num_threads(1)
        dweight = np.zeros((12_000, 1500), np.float32)
        def call(n):
            dy, x = np.ones((768 * n, 12_000), np.float32), np.ones((768 * n, 1500), np.float32)
            return lambda: _products.accumulate(dy, x, dweight, None)
    """,
    "a softmax over many words": """
        big = fastrnn.Linear(650, 10_000, random_state=0)
        def call(n):
            x, targets = np.zeros((128 * n, 650), np.float32), np.zeros(128 * n, np.int64)
            def train():
                loss, backward = fastrnn.losses.linear_cross_entropy(big, x, targets)
                backward()
            return train
    """,
    "additive attention": """
        big = fastrnn.Attention(64, 256, random_state=0)
        def call(n):
            query = np.zeros((8 * n, 64, 64), np.float32)
            source = np.zeros((8 * n, 100, 256), np.float32)
            return lambda: big(query, source)
    """,
    "a chunk of a stream": """
        stream = fastrnn.LSTM(512, 512, random_state=0).stream()
        def call(n):
            chunk = np.zeros((1, 500 * n, 512), np.float32)
            return lambda: stream.push(chunk)
    """,
    "many steps of a pool of streams": """
        pool = fastrnn.StreamPool(fastrnn.LSTM(64, 512, random_state=0))
        keys = pool.open(40)
        def call(n):
            for key in keys.tolist():
                pool.submit(key, np.zeros((20 * n, 64), np.float32))
            return pool.run
    """,
    "a fit": """
        text = "the quick brown fox jumps over the lazy dog. " * 200
        def call(n):
            return fastrnn.LanguageModel(hidden_size=256, max_iter=n, random_state=0).fit
    """,
}

# Interrupts the call after a while, four times; prints the median delay, since a busy machine may
# make one of them wait.
INTERRUPT = """
    class Stopped(BaseException):
        pass

    def stop(*_):
        raise Stopped

    fastrnn.set_num_threads(2)
    expected = bits(train(layer))
    {call}
    signal.signal(signal.SIGTERM, stop)
    arguments = (text,) if "text" in globals() else ()
    call(1)(*arguments)
    began = time.monotonic()
    call(1)(*arguments)
    n = int(2.0 / (time.monotonic() - began)) + 1
    delays = []
    for number, error in [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Stopped)] * 2:
        sent, long = [], call(n)
        def interrupt():
            time.sleep(0.2 + 0.07 * len(delays))  # at other points of what repeats itself
            sent.append(time.monotonic())
            os.kill(os.getpid(), number)
        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            long(*arguments)
        except (error, UserWarning):  # a fit warns, and ends with what it has learned
            delays.append(time.monotonic() - sent[0])
        else:
            raise SystemExit("the call was not interrupted")
        thread.join()
        assert bits(train(layer)) == expected
        call(1)(*arguments)
    print(np.median(delays))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_signals_end_a_call_soon_and_leave_everything_usable(name: str) -> None:
    code = textwrap.dedent(INTERRUPT).format(call=textwrap.dedent(CALLS[name]))
    assert float(run(code)) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inference", "the backward pass"])
def test_a_process_that_does_not_handle_sigterm_is_gone_at_once(name: str) -> None:
    code = textwrap.dedent(BASE) + textwrap.dedent(CALLS[name])
    code += 'long = call(60)\nprint("begins", flush=True)\nlong()\nprint("ends", flush=True)\n'
    delays = []
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
            time.sleep(0.2)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == -signal.SIGTERM
            delays.append(time.monotonic() - began)
            assert process.stdout.read() == ""
    assert min(delays) < 0.1
