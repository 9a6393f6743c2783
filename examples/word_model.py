"""Train a word model by a published recipe, measure it, and let it write.

Two recipes, each parameter as published:

* ``zaremba-small`` and ``zaremba-medium``: W. Zaremba, I. Sutskever and O. Vinyals, "Recurrent
  neural network regularization", arXiv:1409.2329, section 4.1, the models of 200 and 650 units.
* ``pytorch``: the example ``word_language_model`` of PyTorch, an LSTM with tied weights.

The text is that of ``pydoc_data.topics``, the help pages that lie in every Python, or with
``--text FILE`` one of your own: in lower case, punctuation apart from words, and words that come
only once in what is trained on as ``<unk>``, much as in the recipes' own corpora. The last tenth
is for the final test, the tenth before it for validation. Training ends after the recipe's epochs
or after ``--minutes``.

    python examples/word_model.py
    python examples/word_model.py --recipe pytorch --text shakespeare.txt --minutes 30
"""

from __future__ import annotations

import argparse
import importlib
import math
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastrnn import LanguageModel

# What the recipes have in common: plain SGD on 20 streams of the bare text, where each line ends
# with <eos>, and two layers of LSTM.
COMMON: dict[str, Any] = {
    "level": "word",
    "line_end": "<eos>",
    "unknown": "<unk>",
    "boundary": False,
    "num_layers": 2,
    "forget_bias": 0.0,
    "batch_size": 20,
    "solver": "sgd",
    "momentum": 0.0,
}


def decayed(factor: float, after: int) -> Callable[[int, Any], float]:
    """A rate of 1 for some epochs, and divided by a factor before each one after."""
    return lambda epoch, history: 1.0 / factor ** max(0, epoch + 1 - after)


def fourth_when_stalled(epoch: int, history: Any) -> float:
    """A rate of 20, divided by 4 after each epoch whose validation loss is not the lowest yet."""
    losses = history["validation_loss"]
    stalls = sum(loss >= min(losses[:i], default=math.inf) for i, loss in enumerate(losses))
    return 20.0 / 4.0**stalls


ZAREMBA = {
    **COMMON,
    "init": "uniform",  # of everything, biases too
    "loss_reduction": "sum",  # over the steps of a window; the mean over streams
    "max_grad_norm": 5.0,
    "drop_last": True,
}
RECIPES: dict[str, dict[str, Any]] = {
    "zaremba-small": {
        **ZAREMBA,
        "hidden_size": 200,
        "embedding_dim": 200,
        "init_scale": 0.1,
        "tbptt_steps": 20,
        "max_iter": 13,
        "learning_rate": decayed(2.0, after=4),
    },
    "zaremba-medium": {
        **ZAREMBA,
        "hidden_size": 650,
        "embedding_dim": 650,
        "dropout": 0.5,
        "init_scale": 0.05,
        "tbptt_steps": 35,
        "max_iter": 39,
        "learning_rate": decayed(1.2, after=6),
    },
    "pytorch": {
        **COMMON,
        "hidden_size": 200,
        "embedding_dim": 200,
        "tie_weights": True,
        "dropout": 0.2,
        "init": "torch",
        "init_scale": 0.1,  # of the tied weight; the output's bias begins at 0
        "tbptt_steps": 35,
        "max_iter": 40,
        "learning_rate": fourth_when_stalled,
        "max_grad_norm": 0.25,
        "eval_batch_size": 10,
        "early_stopping": True,  # which keeps the best epoch's weights
    },
}


class Report:
    """Prints a line after each epoch, and ends training when the time is up."""

    def __init__(self, n_words: int, seconds: float) -> None:
        self.n_words, self.seconds = n_words, seconds
        self.begun = time.perf_counter()

    def __call__(self, state: Any) -> bool:
        """After each epoch; a true answer ends training."""
        history = state.history
        print(
            f"epoch {state.epoch:2d}  {time.perf_counter() - self.begun:6.1f} s  "
            f"{self.n_words / history['seconds'][-1]:7,.0f} words/s  "
            f"rate {history['learning_rate'][-1]:<8.4g} perplexity "
            f"{math.exp(history['loss'][-1]):7.1f}, in validation "
            f"{math.exp(history['validation_loss'][-1]):7.1f}",
            flush=True,
        )
        return self._is_over()

    def after_step(self, state: Any) -> bool:
        """After each step: an epoch must not go on for long when the time is up."""
        return self._is_over()

    def _is_over(self) -> bool:
        return time.perf_counter() - self.begun >= self.seconds


def topics() -> str:
    """The help pages of this Python."""
    pages: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    return "\n".join(pages.values())


def prepared(text: str) -> list[str]:
    """Lines that hold words: lower case, each punctuation mark a word of its own."""
    lines = (" ".join(re.findall(r"<unk>|\w+|[^\w\s]", line)) for line in text.lower().splitlines())
    return [line + "\n" for line in lines if line]


def unigram_perplexity(train: str, test: str, known: Any) -> float:
    """That of each word's share of the training text alone, one more of each so that none is 0."""

    def words(text: str) -> list[str]:
        return [w if w in known else "<unk>" for w in text.replace("\n", " <eos> ").split(" ") if w]

    counts = Counter(words(train))
    total = counts.total() + len(known)
    found = words(test)
    return math.exp(-sum(math.log((counts[w] + 1) / total) for w in found) / len(found))


def main() -> None:
    """Train, measure, save, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recipe", choices=RECIPES, default="zaremba-small")
    parser.add_argument("--text", type=Path, help="a text file instead of Python's help pages")
    parser.add_argument("--minutes", type=float, default=1.6, help="training ends after so many")
    parser.add_argument("--epochs", type=int, help="instead of as many as the recipe has")
    parser.add_argument("--quick", action="store_true", help="fewer units and a part of the text")
    parser.add_argument("--save", type=Path, metavar="FILE", help="where to put the model")
    parser.add_argument("--length", type=int, default=60, help="words to write")
    options = parser.parse_args()

    text = topics() if options.text is None else options.text.read_text(encoding="utf-8")
    lines = prepared(text)
    recipe = dict(RECIPES[options.recipe])
    if options.quick:
        lines = lines[:2500]
        recipe |= {"hidden_size": 64, "embedding_dim": 64, "max_iter": 6}
    recipe["max_iter"] = options.epochs or recipe["max_iter"]
    n = len(lines)
    train, validation, test = (
        "".join(part) for part in (lines[: n * 8 // 10], lines[n * 8 // 10 : n * 9 // 10],
                                   lines[n * 9 // 10 :])
    )  # fmt: skip
    n_words = len(train.replace("\n", " <eos> ").split())

    model = LanguageModel(
        **recipe,
        min_count=2,
        n_iter_no_change=recipe["max_iter"],  # the recipes have no end before the last epoch
        callbacks=Report(n_words, 60 * options.minutes),
        random_state=0,
    )
    print(f"{options.recipe}: {n_words:,} words to train on", flush=True)
    model.fit(train, eval_text=validation)
    parameters = sum(layer.num_parameters for layer in model.layers_.values())
    print(
        f"{len(model.vocabulary_):,} known words, {parameters:,} parameters; perplexity of the "
        f"test text, read as one stream: {model.perplexity(test):.1f}; that of single words' "
        f"shares: {unigram_perplexity(train, test, model.vocabulary_):.1f}"
    )
    if options.save is not None:
        model.save(options.save)
    print("\nit writes:\n")
    for piece in model.generate(options.length, "\n", temperature=0.8, seed=0, stream=True):
        print("\n" if piece.strip() == "<eos>" else piece, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
