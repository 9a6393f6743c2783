"""What a fitted network says of sequences that arrive step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import as_real_array, check_option
from fastrnn.engine.arrays import beside, to_host
from fastrnn.engine.devices import check_host
from fastrnn.sequences.data import Samples
from fastrnn.sequences.reading import NumberReader
from fastrnn.serving.judge import Judge
from fastrnn.text.reading import StepReader

__all__ = ["ANSWERS", "AnswerStream"]

Array = NDArray[Any]

ANSWERS = ("predict", "predict_proba", "decision_function", "transform")


class AnswerStream:
    """Answers about sequences that arrive step by step, each after every step.

    Made by ``stream`` of an estimator or a `fastrnn.Predictor`. The answer after a step has
    the bits of that to the sequence up to there, given whole; where each step has its own answer,
    of that of the step.

    Parameters
    ----------
    judge : Judge
        Of numbers, with recurrent layers of one direction; pooling, if any, by the last step or the
        maximum.
    batch_size : int
        N, how many sequences.
    answer : {"predict", "predict_proba", "decision_function", "transform"}
    """

    def __init__(self, judge: Judge, batch_size: int, answer: str) -> None:
        inner = judge.reader.inner if isinstance(judge.reader, StepReader) else judge.reader
        pooling = judge.network.pool.pooling
        if not isinstance(inner, NumberReader):
            raise ValueError("stream: expected a model of sequences of numbers, got one of texts")
        if pooling not in (None, "last", "max"):
            raise ValueError(
                f"stream: expected a model with pooling 'last' or 'max', got {pooling!r}"
            )
        known = [name for name in ANSWERS if name == "transform" or hasattr(judge.targets, name)]
        if pooling is None:
            known.remove("transform")
        self._answer = check_option("answer", answer, known)
        self._judge, self._reader, self._pooling = judge, inner, pooling
        self._stream = judge.network.rnn.stream(batch_size)
        self._like = judge.network.like  # where the stream stays
        self._largest = self._nothing(self._stream.batch_size)

    @property
    def batch_size(self) -> int:
        """Number of sequences N."""
        return self._stream.batch_size

    def step(self, x_t: Any) -> Array:
        """Advance every sequence by one step.

        Parameters
        ----------
        x_t : array (N, D)

        Returns
        -------
        array (N,) or (N, K)
            The answers of `answer`, a row for each sequence.
        """
        check_host("x_t", x_t)
        x = to_host(as_real_array("x_t", x_t, self._reader.dtype))
        if x.shape != (self.batch_size, self._reader.width):
            wanted = (self.batch_size, self._reader.width)
            raise ValueError(f"x_t: expected shape {wanted}, got {x.shape}")
        return self.push(x[:, None])[:, 0]

    def push(self, chunk: Any) -> Array:
        """Advance every sequence by the steps of a chunk.

        Parameters
        ----------
        chunk : array (N, t, D)

        Returns
        -------
        array (N, t) or (N, t, K)
            The answers after each of them.
        """
        N, D = self.batch_size, self._reader.width
        check_host("chunk", chunk)
        x = to_host(as_real_array("chunk", chunk, self._reader.dtype))
        if x.ndim != 3 or x.shape[::2] != (N, D):
            raise ValueError(f"chunk: expected shape ({N}, t, {D}), got {x.shape}")
        if not np.isfinite(x).all():
            raise ValueError("chunk: expected finite numbers, got NaN or infinity")
        if self._reader.channels is not None and x.size:
            whole = Samples([x.reshape(-1, D)], np.array([x.shape[1] * N]))
            x = self._reader.channels.scaled(whole).items[0].reshape(x.shape)
        h = to_host(self._stream.push(beside(x, self._like)))
        if self._pooling == "max" and x.size:
            h = np.maximum.accumulate(np.concatenate([self._largest[:, None], h], axis=1), axis=1)
            h = h[:, 1:]
            self._largest = h[:, -1].copy()
        rows = np.ascontiguousarray(h).reshape(-1, h.shape[2])
        if self._answer != "transform":
            outputs = self._judge.network.judged(rows)
            rows = getattr(self._judge.targets, self._answer)(outputs)
        return rows.reshape(N, x.shape[1], *rows.shape[1:])

    def reset(self, rows: Any = None) -> None:
        """Begin some sequences anew, by default all; see `fastrnn.engine.streams.Stream.reset`."""
        self._stream.reset(rows)
        self._largest[slice(None) if rows is None else rows] = -np.inf

    def add(self, n: int = 1) -> Array:
        """Append n sequences; return their indices."""
        added = self._stream.add(n)
        self._largest = np.concatenate([self._largest, self._nothing(len(added))])
        return added

    def drop(self, rows: Any) -> None:
        """Remove sequences; those after them move up."""
        kept = np.ones(self.batch_size, dtype=bool)
        self._stream.drop(rows)
        kept[rows] = False
        self._largest = self._largest[kept]

    def _nothing(self, n: int) -> Array:
        return np.full((n, self._judge.network.rnn.output_size), -np.inf, self._reader.dtype)
