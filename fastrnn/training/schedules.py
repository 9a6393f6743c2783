"""Learning rates: a pure function of where training stands, so that nothing is remembered."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastrnn.checks import check_real, describe

__all__ = ["SCHEDULES", "Schedule", "check_schedule", "learning_rate"]

History = Mapping[str, Sequence[float]]
Schedule = str | Callable[[int, History], float]

SCHEDULES = ("constant", "linear", "cosine", "invscaling", "adaptive")


def check_schedule(name: str, schedule: Any) -> Schedule:
    """`schedule` if it is a known name or can be called."""
    if not (callable(schedule) or (isinstance(schedule, str) and schedule in SCHEDULES)):
        listed = ", ".join(map(repr, SCHEDULES))
        raise ValueError(
            f"{name}: expected one of {listed} or a callable, got {describe(schedule)}"
        )
    return schedule


def learning_rate(
    schedule: Schedule,
    initial: float,
    epoch: int,
    done: float,
    max_iter: int,
    history: History,
    tol: float,
) -> float:
    """The learning rate of the next update.

    Parameters
    ----------
    schedule : str or callable
        With r the initial rate and p = (epoch + done) / max_iter the progress from 0 to 1:

        * ``"constant"``: r
        * ``"linear"``: r (1 - p)
        * ``"cosine"``: r (1 + cos(pi p)) / 2
        * ``"invscaling"``: r / sqrt(1 + epoch)
        * ``"adaptive"``: r / 5^k, with k the number of times that two epochs in a row did not lower
          the training loss by `tol`
        * a callable: ``schedule(epoch, history)``, asked once an epoch, gives the rate itself.
    initial : float
        r
    epoch : int
        Epochs that are complete.
    done : float
        How much of the current one is done, in [0, 1).
    max_iter : int
        The number of epochs planned.
    history : mapping of str to sequence of float
        The history so far, one entry per complete epoch.
    tol : float
        For ``"adaptive"``.
    """
    if not isinstance(schedule, str):
        return check_real("learning_rate(epoch, history)", schedule(epoch, history), minimum=0.0)
    progress = (epoch + done) / max_iter
    if schedule == "linear":
        return initial * (1.0 - progress)
    if schedule == "cosine":
        return initial * 0.5 * (1.0 + math.cos(math.pi * progress))
    if schedule == "invscaling":
        return initial / math.sqrt(1.0 + epoch)
    if schedule == "adaptive":
        return initial / 5.0 ** _times_stuck(history.get("loss", ()), tol)
    return initial


def _times_stuck(losses: Sequence[float], tol: float) -> int:
    best, in_a_row, times = math.inf, 0, 0
    for loss in losses:
        in_a_row = 0 if loss < best - tol else in_a_row + 1
        best = min(best, loss)
        if in_a_row == 2:
            in_a_row, times = 0, times + 1
    return times
