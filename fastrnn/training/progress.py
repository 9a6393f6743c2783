"""What training says while it runs: nothing, a line per epoch, or a bar (with tqdm) as well."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Progress"]


class Progress:
    """Progress of training on the standard error stream.

    ``verbose=0`` is silent. ``verbose=1`` writes a line per epoch and, if tqdm is installed, shows
    a bar while an epoch runs. ``verbose=2`` writes the lines alone.
    """

    def __init__(self, verbose: int, max_iter: int) -> None:
        self.verbose = verbose
        self.max_iter = max_iter
        self._bar: Any = None
        self._make_bar: Any = None
        if verbose == 1:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                pass
            else:
                self._make_bar = tqdm

    def begin_epoch(self, epoch: int, done: int, count: int) -> None:
        """An epoch of `count` steps begins, or goes on, after `done` of them."""
        if self._make_bar is not None:
            self._bar = self._make_bar(
                total=count, initial=done, desc=f"epoch {epoch + 1}", leave=False, unit="step",
                file=sys.stderr,
            )  # fmt: skip

    def step(self, loss: float) -> None:
        """A step is done; `loss` is the mean of the epoch so far."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
            self._bar.update()

    def end_epoch(self, history: Mapping[str, Sequence[float]]) -> None:
        """An epoch is complete; the history's last entries tell how it went."""
        self.close()
        if self.verbose:
            parts = [
                f"{name.replace('_', ' ')} {values[-1]:.5g}" for name, values in history.items()
            ]
            epoch = len(history["loss"])
            self.say(f"epoch {epoch}/{self.max_iter}: {', '.join(parts)}")

    def say(self, line: str) -> None:
        """Write a line, if anything is to be written."""
        if self.verbose:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Take away the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
