"""Learn to add: "535+61" is read character by character, and "596" is written.

A network that knows nothing of numbers sees questions and answers. The question is read from its
end, so that the ones, with which every sum begins, are the last that it has read. Nine in ten
questions are learned from; no question that is asked at the end is among them.

    python examples/arithmetic.py
    python examples/arithmetic.py --examples 4000 --digits 2 --batch-size 50
"""

from __future__ import annotations

import argparse

import numpy as np

from fastrnn import Seq2Seq
from fastrnn.training.plan import TrainingState


def questions(count: int, digits: int) -> list[tuple[int, int]]:
    """Distinct pairs of numbers, those of few digits as frequent as those of many."""
    rng = np.random.default_rng(0)
    found: dict[tuple[int, int], None] = {}
    while len(found) < count:
        a, b = (int(rng.integers(10 ** rng.integers(1, digits + 1))) for _ in range(2))
        found[a, b] = None
    return list(found)


def main() -> None:
    """Learn, and show how many sums are right after each epoch."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--examples", type=int, default=50_000, help="to learn from")
    parser.add_argument("--digits", type=int, default=3, help="of a number, at most")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=100)
    options = parser.parse_args()
    pairs = questions(options.examples + options.examples // 10, options.digits)
    read = [f"{a}+{b}"[::-1] for a, b in pairs]
    written = [str(a + b) for a, b in pairs]
    count = options.examples
    held_out, answers = read[count:], written[count:]
    print(f"{count} sums to learn from, {len(held_out)} others to be asked")

    def report(state: TrainingState) -> None:
        found = state.model.predict(held_out)
        share = np.mean([one == right for one, right in zip(found, answers, strict=True)])
        print(f"epoch {state.epoch:2}: loss {state.loss:.4f}, {100 * share:.1f} % right")

    model = Seq2Seq(
        "char",
        attention=None,
        hidden_size=128,
        bidirectional=False,
        embedding_dim=32,
        dropout=0.0,
        learning_rate_init=0.005,
        learning_rate="cosine",
        batch_size=options.batch_size,
        max_iter=options.epochs,
        callbacks=report,
        random_state=0,
    )
    model.fit(read[:count], written[:count])

    outputs, scores = model.predict(held_out[:5], return_scores=True)
    print("\nquestion      answer   how sure")
    for question, answer, score in zip(held_out, outputs, scores, strict=False):
        print(f"{question[::-1]:>10} = {answer:6} {np.exp(score):8.4f}")
    found = model.predict(held_out)
    right = np.mean([one == other for one, other in zip(found, answers, strict=True)])
    print(f"exact answers: {right:.4f}")


if __name__ == "__main__":
    main()
