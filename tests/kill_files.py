"""Kill -9 at random moments, while a model is saved and while one is trained with checkpoints.

    python tests/kill_files.py 200 [--seed 0]

The file must be the old or the new one, whole; and training that is resumed must end with the bits
of one that was never stopped.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn
from fastrnn.training.checkpoint import read_checkpoint

TEXT = "the cat sat on the mat and the dog sat on the log. " * 6

# Saves two models in turn, over and over, once its caller has been told that it begins.
SAVE = """
import sys
import numpy as np
import fastrnn

path = sys.argv[1]
models = [fastrnn.Linear(300, 200, random_state=seed) for seed in (0, 1)]
print("begins", flush=True)
while True:
    for model in models:
        model.save(path)
"""

# Trains to the end, from the checkpoint if there is one, and saves what it has learned.
TRAIN = """
import sys
import fastrnn

path, text = sys.argv[1:]
model = fastrnn.LanguageModel(
    hidden_size=24, embedding_dim=8, max_iter=6, batch_size=2, tbptt_steps=8, dropout=0.2,
    random_state=0, checkpoint=path + ".checkpoint", checkpoint_interval=1e-9,
)
print("begins", flush=True)
model.fit(text, resume=True)
model.save(path)
"""


def started(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that has begun to work."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    return process


def finished(process: subprocess.Popen[str]) -> int:
    """What a process ends with."""
    with process:  # waits, and closes its pipe
        pass
    return process.returncode


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    finished(process)


def kill_while_saving(rounds: int, seed: int = 0) -> int:
    """How many temporary files were left; an AssertionError if a file was not whole."""
    rng, left = random.Random(seed), 0
    models = [fastrnn.Linear(300, 200, random_state=seed) for seed in (0, 1)]
    wanted = {model.params["weight"].tobytes() for model in models}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model")
        models[0].save(path)
        for i in range(rounds):
            process = started(SAVE, path)
            time.sleep(rng.uniform(0, 0.03))
            kill(process)
            assert fastrnn.load(path).params["weight"].tobytes() in wanted, f"round {i}"
            for other in set(os.listdir(folder)) - {"model"}:
                os.unlink(os.path.join(folder, other))
                left += 1
    return left


def bits(model: Any) -> dict[str, bytes]:
    """All weights, and the history but for the clock."""
    found = {f"{key}.{name}": param.tobytes() for key, layer in model.layers_.items()
             for name, param in layer.params.items()}  # fmt: skip
    found |= {name: np.array(values).tobytes() for name, values in model.history_.items()
              if name != "seconds"}  # fmt: skip
    return found


def kill_while_training(rounds: int, seed: int = 0) -> int:
    """How many whole runs it took; an AssertionError if one ended with other bits."""
    rng, runs, killed = random.Random(seed), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        whole, path = os.path.join(folder, "whole"), os.path.join(folder, "model")
        begin = time.monotonic()
        process = started(TRAIN, whole, TEXT)
        begin = time.monotonic()
        assert finished(process) == 0
        length = time.monotonic() - begin
        wanted = bits(fastrnn.load(whole))
        while killed < rounds:
            process = started(TRAIN, path, TEXT)
            time.sleep(rng.uniform(0, length / 2))
            if process.poll() is None:
                kill(process)
                killed += 1
            else:
                finished(process)
            checkpoint = Path(path + ".checkpoint")
            if checkpoint.exists():
                read_checkpoint(checkpoint)
            if os.path.exists(path) or killed == rounds:
                if not os.path.exists(path):
                    process = started(TRAIN, path, TEXT)
                    assert finished(process) == 0
                assert bits(fastrnn.load(path)) == wanted, f"after {killed} kills"
                runs += 1
                for left in os.listdir(folder):
                    if left.partition(".")[0] != "whole":
                        os.unlink(os.path.join(folder, left))
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rounds", type=int, nargs="?", default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    begin = time.monotonic()
    left = kill_while_saving(given.rounds, given.seed)
    print(f"{given.rounds} kills while saving: whole each time, {left} of them while writing; "
          f"{time.monotonic() - begin:.0f} s", flush=True)  # fmt: skip
    begin = time.monotonic()
    runs = kill_while_training(given.rounds, given.seed)
    print(f"{given.rounds} kills while training: {runs} runs to the end, with the same bits; "
          f"{time.monotonic() - begin:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
