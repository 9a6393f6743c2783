"""Classes of sequences of unequal length, from raw lists to a searched and explained model.

The task: a short pattern is hidden somewhere in noise of two channels, and the class is which one.
Sequences are from 20 to 80 steps long. Where the pattern lies is not told; attention finds it.

    python examples/classify_sequences.py [--out FOLDER]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.metrics import classification_report
from sklearn.model_selection import GridSearchCV, train_test_split

from fastrnn import RNNClassifier

PATTERNS = {
    "rise": np.stack([np.linspace(-2, 2, 8), np.zeros(8)], axis=1),
    "fall": np.stack([np.linspace(2, -2, 8), np.zeros(8)], axis=1),
    "echo": np.stack([2 * np.sin(np.arange(8)), 2 * np.sin(np.arange(8) - 2)], axis=1),
}


def draw(rng: np.random.Generator, n: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """N sequences (T_i, 2) of float32, their classes, and where their patterns begin."""
    sequences, classes, begins = [], [], []
    for _ in range(n):
        name = rng.choice(list(PATTERNS))
        x = 0.5 * rng.standard_normal((rng.integers(20, 81), 2))
        begin = int(rng.integers(len(x) - 8 + 1))
        x[begin : begin + 8] += PATTERNS[name]
        sequences.append(x.astype("float32"))
        classes.append(name)
        begins.append(begin)
    return sequences, np.array(classes), np.array(begins)


def main() -> None:
    """Search, train, report, and look where the model looks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for pictures; none by default")
    out: Path | None = parser.parse_args().out

    sequences, classes, begins = draw(np.random.default_rng(0), 900)
    parts = train_test_split(sequences, classes, begins, test_size=300, random_state=0)
    X, X_test, y, y_test, _, begins_test = parts

    # A list of arrays is an X like any other: scikit-learn splits it, and workers take their part.
    model = RNNClassifier(
        pooling="attention", hidden_size=24, bidirectional=True, max_iter=25, batch_size=50,
        random_state=0,
    )  # fmt: skip
    search = GridSearchCV(model, {"cell": ["gru", "rnn"]}, cv=2, n_jobs=2)
    search.fit(X, y)
    for candidate, score in zip(
        search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
    ):
        print(f"cell={candidate['cell']}  cross-validated accuracy {score:.3f}")

    # The search has compared short trainings; this one may last, and stops by itself.
    best = model.set_params(
        **search.best_params_, max_iter=60, early_stopping=True, n_iter_no_change=8
    ).fit(X, y)
    answers = best.predict(X_test)
    print(f"\ntrained for {best.n_iter_} epochs; held-out sequences:")
    print(classification_report(y_test, answers, digits=3))

    # How much of the attention lies on the 8 steps of the pattern, and how much would by chance?
    weights = best.attention_weights(X_test)
    found = [w[b : b + 8].sum() for w, b in zip(weights, begins_test, strict=True)]
    chance = [8 / len(w) for w in weights]
    print(f"attention on the pattern: {np.mean(found):.2f}, by chance {np.mean(chance):.2f}")

    if out is not None:
        from fastrnn.plots import plot_attention, plot_confusion, plot_history

        out.mkdir(parents=True, exist_ok=True)
        for name, axes in (
            ("history", plot_history(best)),
            ("confusion", plot_confusion(y_test, answers, normalize="true")),
            ("attention", plot_attention(best, X_test[0])),
        ):
            axes.figure.savefig(out / f"{name}.png", bbox_inches="tight")
            print(f"wrote {out / name}.png")


if __name__ == "__main__":
    main()
