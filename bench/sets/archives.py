"""Sequences of numbers with a class each, split as the archives part them; float32."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.sets import Labels, Split, folder, lines_of

__all__ = ["SETS", "TASKS", "load", "parse_ts"]

Array = NDArray[Any]


def parse_ts(lines: Iterable[str]) -> tuple[list[Array], Array]:
    """The sequences of a file of the UEA and UCR archives, and the class of each.

    After ``@data`` each line is a sequence: its channels, parted by colons, each the channel's
    numbers, parted by commas, and last the class. Lines before begin with ``@`` or ``#``.

    Returns
    -------
    list of arrays (T_i, D) of float32
        "?" is NaN.
    array (n,) of str

    Raises
    ------
    ValueError
        If a line's channels are not of one length, or not as many as in the line before.
    """
    X: list[Array] = []
    y: list[str] = []
    for number, line in _data_lines(lines):
        *channels, label = line.split(":")
        values = [channel.replace("?", "nan").split(",") for channel in channels]
        lengths = {len(channel) for channel in values}
        if len(lengths) != 1:
            raise ValueError(f"line {number}: expected channels of one length, got {lengths}")
        if X and len(values) != X[0].shape[1]:
            raise ValueError(
                f"line {number}: expected {X[0].shape[1]} channels and a class, got {len(values)}"
            )
        X.append(np.ascontiguousarray(np.array(values, np.float32).T))
        y.append(label.strip())
    return X, np.array(y)


def _data_lines(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Lines that hold sequences, with their numbers from 1."""
    begun = False
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if begun and text:
            yield number, text
        begun = begun or text.lower() == "@data"


def _archive(name: str) -> Split:
    """A list where lengths differ, else one array (n, T, D)."""
    parts: list[Any] = []
    for part in ("TRAIN", "TEST"):
        X, y = parse_ts(lines_of("classification", f"{name}_{part}.ts"))
        same = len({len(one) for one in X}) == 1
        parts += [np.stack(X) if same else X, y]
    return Split(*parts)


def _mnist1d() -> Split:
    with np.load(folder() / "classification" / "mnist1d.npz") as found:
        x, x_test = (found[key].astype(np.float32)[:, :, None] for key in ("x", "x_test"))
        return Split(x, found["y"], x_test, found["y_test"])


def _digits() -> Split:
    """Each image as 8 rows of 8 pixels; a quarter of each class is for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 8, 8).astype(np.float32)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.25, random_state=0, stratify=y
    )
    return Split(X_train, y_train, X_test, y_test)


SETS = {
    "JapaneseVowels": lambda: _archive("JapaneseVowels"),
    "BasicMotions": lambda: _archive("BasicMotions"),
    "ItalyPowerDemand": lambda: _archive("ItalyPowerDemand"),
    "MNIST-1D": _mnist1d,
    "digits": _digits,
}


def load(name: str) -> Split:
    """A set by name.

    Raises
    ------
    FileNotFoundError
        If the folder of real data, or the set in it, is not there.
    """
    return SETS[name]()


def _task(data: str, parameters: Mapping[str, Any] | None = None, seeds: int = 5) -> Labels:
    """Named by its set, and by what makes the network another than the default one."""
    parameters = parameters or {}
    parts = [data]
    for name, shown in [("cell", "{}"), ("bidirectional", "2 directions"), ("pooling", "{}")]:
        if name in parameters:
            parts.append(shown.format(parameters[name]))
    return Labels(
        ", ".join(parts), lambda seed: load(data), parameters, seeds=seeds, torch_seeds=seeds
    )


# The reset is after the product, since PyTorch knows no other.
GRU = {"cell": "gru", "reset_after": True, "bidirectional": True}
TASKS = [
    # The defaults.
    _task("JapaneseVowels"),
    _task("ItalyPowerDemand"),
    _task("BasicMotions", seeds=10),
    # Other networks.
    _task("BasicMotions", {**GRU, "pooling": "max", "max_iter": 100}, seeds=10),
    _task("MNIST-1D", {**GRU, "pooling": "last", "max_iter": 20}),
    _task("MNIST-1D", {**GRU, "pooling": "max", "max_iter": 20}),
    _task("digits", {"max_iter": 50}),
]
