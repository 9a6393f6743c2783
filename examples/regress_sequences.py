"""A number of each sequence: padded arrays, weights of samples, and training that never ends.

The task is the adding problem (S. Hochreiter and J. Schmidhuber, Neural Computation 9, 1997): a
sequence has two channels, numbers and marks, and the target is the sum of the two marked numbers.
Nothing but a memory can tell: a linear model of all steps knows the mean alone.

    python examples/regress_sequences.py
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import Ridge

from fastrnn import RNNRegressor

T = 30


def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X (n, T, 2), NaN after each sequence's end; lengths (n,); targets (n,)."""
    X = np.full((n, T, 2), np.nan, dtype="float32")
    lengths = rng.integers(10, T + 1, n)
    y = np.empty(n)
    for i, length in enumerate(lengths):
        numbers, marks = rng.uniform(0, 1, length), np.zeros(length)
        marks[rng.choice(length, 2, replace=False)] = 1
        X[i, :length] = np.column_stack([numbers, marks])
        y[i] = numbers @ marks
    return X, lengths, y


def main() -> None:
    """Train on a stream of fresh data, then judge on data that was never seen."""
    rng = np.random.default_rng(0)
    X_test, lengths_test, y_test = draw(rng, 1000)

    # Each call is one pass over a part that need not be kept: the optimizer goes on, and scaling
    # stays what the first part has shown.
    model = RNNRegressor(
        cell="gru", hidden_size=32, batch_size=50, learning_rate_init=0.01, random_state=0
    )
    for part in range(1, 61):
        X, lengths, y = draw(rng, 500)
        model.partial_fit(X, y, lengths=lengths)
        if part % 10 == 0:
            score = model.score(X_test, y_test, lengths=lengths_test)
            print(f"after {500 * part:5d} sequences  R² {score:6.3f}")

    # What the gated units are for: a linear model of the same numbers.
    tables = [np.nan_to_num(part).reshape(len(part), -1) for part in (X, X_test)]
    linear = Ridge().fit(tables[0], y)
    print(f"ridge on all steps      R² {linear.score(tables[1], y_test):6.3f}")

    # A list says the same as a padded array with lengths, and weighs no padding.
    as_list = [x[:length] for x, length in zip(X_test, lengths_test, strict=True)]
    assert np.array_equal(model.predict(as_list), model.predict(X_test, lengths=lengths_test))
    errors = np.abs(model.predict(as_list) - y_test)
    print(f"mean absolute error {errors.mean():.3f}, of targets with spread {y_test.std():.3f}")


if __name__ == "__main__":
    main()
