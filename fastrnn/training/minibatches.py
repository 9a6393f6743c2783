"""What the training loop walks over: batches of sequences, in an order that can be drawn again.

A source of batches draws the order of an epoch from a generator, and then gives the i-th batch of
that order as often as it is asked. So (order, i) is all that a checkpoint needs to know.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import check_bool, check_positive_int

__all__ = ["Batch", "Batches", "Sequences", "Streams", "taken"]

Array = NDArray[Any]
Order = NDArray[np.int64]

POOL = 50  # batches whose sequences are sorted by length among themselves


class Batch(NamedTuple):
    """Sequences that go through the layers at once.

    ``inputs`` and ``targets`` are arrays whose first axis counts sequences, or lists of N arrays.
    ``which`` (N,) tells which of the caller's sequences they are. With ``fresh`` the sequences
    begin here; else this batch goes on where the one before it stopped, from the state it left.
    """

    inputs: Any
    targets: Any
    which: Order
    fresh: bool


class Batches(Protocol):
    """A source of batches."""

    def order(self, generator: np.random.Generator) -> Order:
        """Draw the order of an epoch; int64, of a length that depends on the source alone."""

    def count(self, order: Order) -> int:
        """How many batches an epoch of this order has."""

    def batch(self, order: Order, i: int) -> Batch:
        """The i-th batch of an epoch of this order."""


class Streams:
    """One long sequence of numbers, cut into streams that are read side by side.

    The sequence is cut into ``n_streams`` pieces of m = len(ids) // n_streams numbers each (up to
    n_streams - 1 numbers at the end are left out), and each piece x_0 .. x_(m-1) has m - 1
    predictions, read in windows of ``n_steps``. A window's inputs are x_i .. x_(i+t-1) and its
    targets x_(i+1) .. x_(i+t), and each but the first continues the one before. There is nothing to
    shuffle.

    Parameters
    ----------
    ids : array of int, shape (n,)
        The sequence.
    n_streams : int
        At most n / 2.
    n_steps : int
        Steps in a window; the last window of an epoch may have fewer.
    drop_last : bool, default False
        Whether to leave out a last window that has fewer.
    """

    def __init__(self, ids: Array, n_streams: int, n_steps: int, drop_last: bool = False) -> None:
        n_streams = check_positive_int("n_streams", n_streams)
        self.n_steps = check_positive_int("n_steps", n_steps)
        self.drop_last = check_bool("drop_last", drop_last)
        least = n_steps + 1 if drop_last else 2
        length = len(ids) // n_streams
        if length < least:
            raise ValueError(
                f"ids: expected at least {n_streams * least} numbers, {least} for each of "
                f"{n_streams} streams, got {len(ids)}"
            )
        self.n_streams, self.length = n_streams, length - 1
        self._ids = ids[: n_streams * length].reshape(n_streams, length)
        self._which = np.arange(n_streams)

    def order(self, generator: np.random.Generator) -> Order:
        """Windows come in the order of the text: nothing is drawn."""
        whole, rest = divmod(self.length, self.n_steps)
        return np.arange(whole + (rest > 0 and not self.drop_last))

    def count(self, order: Order) -> int:
        """The number of windows."""
        return len(order)

    def batch(self, order: Order, i: int) -> Batch:
        """The i-th window: inputs and targets (n_streams, t)."""
        begin = int(order[i]) * self.n_steps
        end = min(begin + self.n_steps, self.length)
        inputs, targets = self._ids[:, begin:end], self._ids[:, begin + 1 : end + 1]
        return Batch(inputs, targets, self._which, begin == 0)

    def digest(self) -> str:
        """SHA-256 of the numbers and of how they are cut."""
        how = f"{self._ids.shape} {self.n_steps} {self.drop_last}"
        return hashlib.sha256(how.encode() + self._ids.tobytes()).hexdigest()


class Indexable(Protocol):
    """What can be asked for its i-th item."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> Any: ...


def taken(items: Any, index: Order) -> Any:
    """Some of an array, of what can itself take some, or of a sequence: then a list."""
    if isinstance(items, np.ndarray):
        return items[index]
    if hasattr(items, "take"):
        return items.take(index)
    return [items[i] for i in index.tolist()]


class Sequences:
    """Separate sequences in shuffled minibatches, those of like length together.

    The sequences are shuffled, cut into pools of 50 batches, sorted by length within each pool and
    cut into batches, which are shuffled again: batches differ from epoch to epoch, and little work
    goes into waiting for the longest. A batch that is not full comes last.

    Parameters
    ----------
    inputs, targets : sequences of length n
        Anything that can be indexed by one integer. Arrays, and what has a method ``take(index)``,
        are asked for a whole batch at once. With `n_steps`, each item is itself an array that is
        sliced along its steps.
    lengths : array of int, shape (n,)
        The number of steps of each.
    batch_size : int
        Sequences in a batch.
    n_steps : int, optional
        Cut batches into windows of so many steps, each but the first continuing the one before
        (truncated BPTT). The targets must then be one per step. A sequence that has ended has
        length 0 in the windows after.
    shuffle : bool, default True
        Without it sequences come in the caller's order, and nothing is drawn.
    """

    def __init__(
        self,
        inputs: Indexable,
        targets: Indexable,
        lengths: Array,
        batch_size: int,
        n_steps: int | None = None,
        shuffle: bool = True,
    ) -> None:
        self.inputs, self.targets = inputs, targets
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.batch_size = check_positive_int("batch_size", batch_size)
        self.n_steps = None if n_steps is None else check_positive_int("n_steps", n_steps)
        self.shuffle = shuffle
        if not len(inputs) == len(targets) == len(self.lengths):
            raise ValueError(
                f"targets: expected as many as inputs and lengths, got {len(targets)} targets, "
                f"{len(inputs)} inputs and {len(self.lengths)} lengths"
            )

    def order(self, generator: np.random.Generator) -> Order:
        """Draw a permutation of the sequences; batch b is its b-th slice of ``batch_size``."""
        n, size = len(self.lengths), self.batch_size
        if not self.shuffle:
            return np.arange(n)
        order = generator.permutation(n)
        pool = POOL * size
        for begin in range(0, n, pool):
            part = order[begin : begin + pool]
            order[begin : begin + pool] = part[np.argsort(self.lengths[part], kind="stable")]
        full = n // size
        batches = order[: full * size].reshape(full, size)[generator.permutation(full)]
        return np.concatenate([batches.reshape(-1), order[full * size :]])

    def count(self, order: Order) -> int:
        """The number of batches, or of windows where batches are cut into windows."""
        return len(self._places(order))

    def batch(self, order: Order, i: int) -> Batch:
        """The i-th batch or window."""
        begin, step = self._places(order)[i]
        index = order[begin : begin + self.batch_size]
        inputs, targets = taken(self.inputs, index), taken(self.targets, index)
        if self.n_steps is not None:
            part = slice(step, step + self.n_steps)
            inputs, targets = [x[part] for x in inputs], [y[part] for y in targets]
        return Batch(inputs, targets, index, step == 0)

    def _places(self, order: Order) -> list[tuple[int, int]]:
        """(first sequence, first step) of each batch or window."""
        places = []
        for begin in range(0, len(order), self.batch_size):
            steps = int(self.lengths[order[begin : begin + self.batch_size]].max())
            stride = self.n_steps or max(steps, 1)
            places += [(begin, step) for step in range(0, max(steps, 1), stride)]
        return places
