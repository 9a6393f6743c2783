"""An HTTP service under load: examples/service.py with fastrnn, and with onnxruntime in its place.

Two workers of one native thread each answer 20 clients on the same machine, each of which asks
again as soon as it has its answer. Both services live all the time and are asked in turns. Memory
is what both workers have, first after some seconds of their work, and at its end.

python -m bench.service --quick
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from bench.common import clean_process

clean_process()

import numpy as np  # noqa: E402

import fastrnn  # noqa: E402
from bench.clients import Asked, Service  # noqa: E402
from bench.common import Times  # noqa: E402
from bench.footprint import write_models  # noqa: E402
from bench.rows import options, same, show  # noqa: E402
from bench.served import WIDTH  # noqa: E402
from bench.targets import OURS, Row  # noqa: E402

CLIENTS, T, H = 20, 50, 256
FORMS = {OURS: "weights", "onnxruntime": "onnx"}
SETTLED = 10.0  # seconds of work after which memory is to stay as it is


class Candidate:
    """One service, and what all its turns have found.

    Parameters
    ----------
    service : Service
    seconds : float
        Of a turn.
    """

    def __init__(self, service: Service, seconds: float) -> None:
        self.service, self.seconds = service, seconds
        self.turns: list[Asked] = []
        self.settled = 0

    def turn(self) -> None:
        """Ask for one turn; the first begins with what warms everything up."""
        left = self.seconds
        if not self.turns:
            first = min(SETTLED, self.seconds / 2)
            self.turns.append(self.service.ask(first))
            self.settled = self.service.resident
            left -= first
        self.turns.append(self.service.ask(left))

    def quantile(self, share: float) -> Times:
        """A quantile of the seconds that answers took, over all turns and of each."""
        each = [float(np.quantile(turn.times, share)) for turn in self.turns]
        whole = float(np.quantile(np.concatenate([turn.times for turn in self.turns]), share))
        return Times([whole], each)

    @property
    def measures(self) -> dict[str, float]:
        """What a row tells of it alone."""
        times = sum(len(turn.times) for turn in self.turns)
        return {
            "requests/s": times / sum(turn.seconds for turn in self.turns),
            "p50, ms": self.quantile(0.5).median * 1e3,
            "p99, ms": self.quantile(0.99).median * 1e3,
            "errors": sum(turn.errors for turn in self.turns),
            "resident, MB": self.service.resident / 1e6,
            "growth, MB": (self.service.resident - self.settled) / 1e6,
        }


def check(candidates: dict[str, Candidate], layer: fastrnn.LSTM, questions: np.ndarray) -> None:
    """Stop where a service has answered something else than the layer does."""
    expected = layer(questions)[0][:, -1]
    for name, candidate in candidates.items():
        for rows, client in zip(expected, candidate.service.clients, strict=True):
            same(f"an answer of {name}", rows, np.frombuffer(client.answer or b"", "<f4"))


def rows(chosen: argparse.Namespace) -> Iterator[Row]:
    """A row for each library that is installed."""
    names = [name for name in FORMS if find_spec(name) is not None]
    rng = np.random.default_rng(0)
    questions = rng.standard_normal((CLIENTS, T, WIDTH)).astype(np.float32)
    turns = 2 if chosen.quick else 4
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        paths = write_models(folder, names, H)
        candidates = {}
        for name in names:
            command = ["-m", "bench.served", name, paths[FORMS[name]]]
            service = stack.enter_context(Service(command, questions))
            candidates[name] = Candidate(service, chosen.seconds / turns)
        for turn in range(turns):
            for name in names[:: -1 if turn % 2 else 1]:
                candidates[name].turn()
        check(candidates, fastrnn.load(paths["weights"]), questions)
        found = {name: candidate.measures for name, candidate in candidates.items()}
    ours = candidates[OURS]
    for name in names:
        if name != OURS:
            other = candidates[name]
            found[OURS][name] = ours.quantile(0.5).ratio(other.quantile(0.5))
            found[OURS][f"{name} p99"] = ours.quantile(0.99).ratio(other.quantile(0.99))
    for name in names:
        shape = {"T": T, "D": WIDTH, "H": H, "clients": CLIENTS, "workers": 2}
        yield Row("service", name, shape, 1, {}, found[name])


if __name__ == "__main__":
    parser = options(__doc__)
    parser.set_defaults(seconds=120.0)
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.seconds = 4.0
    show(chosen, lambda: rows(chosen))
