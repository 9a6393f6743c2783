"""Language models beside PyTorch's, from the same weights over the same windows: loss and speed.

Two recipes are followed, with words and with characters, both without dropout, which would draw
other numbers there: W. Zaremba, I. Sutskever and O. Vinyals, "Recurrent neural network
regularization", arXiv:1409.2329, and PyTorch's example of a word model. "digits alike" is
-log10 of the largest relative difference between the losses of the first steps. Whole trainings are
compared by the perplexity of the text's last tenth, which is held out.

python -m bench.language_curves --quick
python -m bench.language_curves --seeds 1
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bench.common import clean_process

clean_process()

import numpy as np  # noqa: E402

from bench import sets  # noqa: E402
from bench.adapters import load  # noqa: E402
from bench.common import Times  # noqa: E402
from bench.rows import forced_isa, options, set_threads, show  # noqa: E402
from bench.targets import OURS, Row  # noqa: E402
from fastrnn import LanguageModel  # noqa: E402

WORK = "language_curves"
STEPS = {"float64": 100, "float32": 25}
EPOCHS = 5
WORDS = 10_000  # as in both recipes' vocabularies, or nearly


class Training(NamedTuple):
    """What came of a whole training: seconds and held-out perplexity, ours and PyTorch's."""

    streams: Any
    steps: int
    seconds: dict[str, float]
    perplexity: dict[str, float]


def halved(epoch: int, history: Mapping[str, Any]) -> float:
    """Zaremba et al.: 1, halved each epoch after the fourth."""
    return 0.5 ** max(0, epoch - 3)


def quartered(epoch: int, history: Mapping[str, Any]) -> float:
    """PyTorch's example: 20, divided by 4 after each epoch without a new best validation loss."""
    rate, best = 20.0, np.inf
    for loss in history.get("validation_loss", ()):
        rate, best = (rate, loss) if loss < best else (rate / 4, best)
    return rate


COMMON: dict[str, Any] = {
    "hidden_size": 200,
    "num_layers": 2,
    "embedding_dim": 200,
    "max_vocabulary": WORDS,
    "batch_size": 20,
    "solver": "sgd",
    "momentum": 0.0,
    "forget_bias": 0.0,
    "boundary": False,
    "n_iter_no_change": 1000,
}
RECIPES: dict[str, dict[str, Any]] = {
    "Zaremba": {
        "tbptt_steps": 20,
        "learning_rate": halved,
        "max_grad_norm": 5.0,
        "init": "uniform",
        "init_scale": 0.1,
        "loss_reduction": "sum",
        "drop_last": True,
    },
    "PyTorch": {
        "tbptt_steps": 35,
        "learning_rate": quartered,
        "max_grad_norm": 0.25,
        "init": "torch",
        "init_scale": 0.1,
        "tie_weights": True,
    },
}


def model(level: str, recipe: str, **more: Any) -> LanguageModel:
    """A model of one of the recipes."""
    return LanguageModel(level, **COMMON, **RECIPES[recipe], **more)


def curve(level: str, recipe: str, dtype: str, text: str, threads: int) -> Row:
    """The losses of the first steps, ours and PyTorch's."""
    steps = STEPS[dtype]
    seen = twins.Recorder(steps)
    made = model(level, recipe, dtype=dtype, random_state=0, n_threads=threads)
    start = twins.start_of(made, text)
    twin, streams = twins.Twin(start), twins.windows(start, text)
    made.set_params(callbacks=seen)
    made.fit(text)
    batches = (streams.batch(streams.order(None), i) for i in range(steps))
    theirs = [twin.step(one, rate) for one, rate in zip(batches, seen.rates, strict=True)]
    difference = np.abs(np.array(seen.losses) / theirs - 1).max()
    measures = {"digits alike": -math.log10(max(difference, 1e-16)), "last loss": seen.losses[-1]}
    return _row(level, recipe, streams, steps, {}, measures, dtype, threads)


def training(level: str, recipe: str, text: str, seed: int, epochs: int, threads: int) -> Training:
    """A whole training from a seed, ours and PyTorch's."""
    cut = len(text) * 9 // 10
    text, held_out = text[:cut], text[cut:]
    seen = twins.Recorder()
    made = model(level, recipe, random_state=seed, n_threads=threads, max_iter=epochs)
    start = twins.start_of(made, text)
    twin, streams = twins.Twin(start), twins.windows(start, text)
    made.set_params(callbacks=seen)
    begun = time.perf_counter()
    made.fit(text)
    between = time.perf_counter()
    for rate in seen.rates[:: len(streams.order(None))]:
        twin.epoch(streams, rate)
    seconds = {OURS: between - begun, "torch": time.perf_counter() - between}
    found = {
        OURS: made.perplexity(held_out),
        "torch": twin.perplexity(twins.whole(start, held_out)),
    }
    print(f"{level}s, seed {seed}: perplexity {found}, {seconds}", file=sys.stderr, flush=True)
    return Training(streams, len(seen.losses), seconds, found)


def trainings(level: str, recipe: str, found: Sequence[Training], threads: int) -> Row:
    """The row of trainings from several seeds: held-out perplexity, and tokens per second."""
    mean, theirs = (
        statistics.mean(one.perplexity[name] for one in found) for name in (OURS, "torch")
    )
    times = {OURS: Times(), "torch": Times()}
    for name, own in times.items():
        own.calls = own.turns = [one.seconds[name] for one in found]
    measures = {
        "perplexity": mean,
        "torch perplexity": theirs,
        "perplexity apart, %": 100 * abs(mean / theirs - 1),
        "torch": times[OURS].ratio(times["torch"]),
    }
    first, seconds = found[0], {name: one.median for name, one in times.items()}
    return _row(
        level, recipe, first.streams, first.steps, seconds, measures, "float32", threads, len(found)
    )


def _row(
    level: str,
    recipe: str,
    streams: Any,
    steps: int,
    seconds: dict[str, float],
    measures: dict[str, float],
    dtype: str,
    threads: int,
    seeds: int = 1,
) -> Row:
    """A row, with the speed of each in tokens per second."""
    tokens = steps * streams.n_streams * streams.n_steps
    speeds = {f"{name} tokens/s": tokens / found for name, found in seconds.items()}
    shape = {"seeds": seeds, "N": streams.n_streams, "T": streams.n_steps}
    shape |= {"H": COMMON["hidden_size"], "L": COMMON["num_layers"], "steps": steps}
    kind = "whole training" if "perplexity" in measures else dtype
    label = f"{level}s, {recipe}, {kind}"
    return Row(WORK, label, shape, threads, seconds, measures | speeds, dtype, forced_isa())


def rows() -> Iterator[Row]:
    """First the losses of the first steps, then whole trainings."""
    path = sets.folder() / "text" / "tiny_shakespeare.txt"
    if not path.exists() or not adapters:
        print(f"nothing to do: {path} and PyTorch are both needed", file=sys.stderr)
        return
    text = path.read_text(encoding="utf-8")
    for threads in chosen.threads:
        set_threads(threads)
        for adapter in adapters.values():
            adapter.set_threads(threads)
        for level in ("word", "char"):
            for recipe in RECIPES:
                for dtype in STEPS:
                    yield curve(level, recipe, dtype, text, threads)
        if chosen.quick:
            level, seeds, epochs, text = "char", 1, 1, text[: len(text) // 20]
        else:
            level, seeds, epochs = "word", chosen.seeds, EPOCHS
        found = [training(level, "Zaremba", text, seed, epochs, threads) for seed in range(seeds)]
        yield trainings(level, "Zaremba", found, threads)


if __name__ == "__main__":
    parser = options(__doc__)
    parser.set_defaults(threads=[2])
    parser.add_argument("--seeds", type=int, default=3, help="of whole trainings")
    chosen = parser.parse_args()
    adapters = load(["torch"])
    twins: Any = None
    if adapters:
        from bench import torch_language as twins
    show(chosen, rows)
