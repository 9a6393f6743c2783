"""Greedy and beam search over a table of logits, beside a search through all outputs."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from fastrnn.seq2seq import decoding
from fastrnn.seq2seq.decoding import beam_search, greedy, penalty

END, FIRST = 1, 1


class Table:
    """Logits by chance for each source and each beginning, told by what has been read."""

    def __init__(self, n: int, classes: int, seed: int = 0, scale: float = 2.0) -> None:
        self.classes, self.seed, self.scale = classes, seed, scale
        self.rows: list[list[tuple[int, ...]]] = [[()] for _ in range(n)]
        self.sources = list(range(n))
        self.asked = 0

    def logits(self, source: int, begun: tuple[int, ...]) -> np.ndarray:
        rng = np.random.default_rng([self.seed, source, *begun])
        return (self.scale * rng.standard_normal(self.classes)).astype(np.float32)

    def step(self, tokens: np.ndarray) -> np.ndarray:
        assert tokens.shape == (len(self.rows), len(self.rows[0]))
        self.asked += tokens.size
        self.rows = [
            [(*row, int(token)) for row, token in zip(rows, new, strict=True)]
            for rows, new in zip(self.rows, tokens, strict=True)
        ]
        return np.array(
            [
                [self.logits(source, row) for row in rows]
                for source, rows in zip(self.sources, self.rows, strict=True)
            ]
        )

    def reorder(self, parents: np.ndarray) -> None:
        self.rows = [[rows[j] for j in of] for rows, of in zip(self.rows, parents, strict=True)]

    def keep(self, sources: np.ndarray) -> None:
        self.rows = [self.rows[i] for i in sources]
        self.sources = [self.sources[i] for i in sources]

    def log_prob(self, source: int, tokens: tuple[int, ...]) -> float:
        """Of these tokens and the end."""
        total, begun = 0.0, (END,)
        for token in (*tokens, END):
            z = self.logits(source, begun).astype(float)
            total += z[token] - np.log(np.exp(z).sum())
            begun = (*begun, token)
        return float(total)

    def all_outputs(self, source: int, limit: int) -> list[tuple[float, tuple[int, ...]]]:
        """Every output with its log-probability."""
        others = [token for token in range(FIRST, self.classes) if token != END]
        outputs = [o for n in range(limit + 1) for o in itertools.product(others, repeat=n)]
        return [(self.log_prob(source, output), output) for output in outputs]


def limits(*values: int) -> np.ndarray:
    return np.array(values)


def test_greedy_takes_the_likeliest_token_at_each_step() -> None:
    for i, [(tokens, score)] in enumerate(greedy(Table(5, 6), limits(7, 7, 3, 0, 7), END, FIRST)):
        table, begun, expected = Table(5, 6), (END,), []
        while len(expected) < limits(7, 7, 3, 0, 7)[i]:
            token = int(table.logits(i, begun)[FIRST:].argmax()) + FIRST
            if token == END:
                break
            expected.append(token)
            begun = (*begun, token)
        assert tokens.tolist() == expected
        assert score == pytest.approx(table.log_prob(i, tuple(expected)))


def test_limits_differ_and_the_end_is_then_taken() -> None:
    table = Table(3, 4, seed=1)
    table.logits = lambda source, begun: np.array([0, -9, 5, 1], np.float32)  # type: ignore[method-assign]
    for search in (greedy, lambda *args: beam_search(*args, 2, 0.0)):
        table.rows, table.sources = [[()] for _ in range(3)], [0, 1, 2]
        found = search(table, limits(0, 4, 2), END, FIRST)
        assert [one[0][0].tolist() for one in found] == [[], [2] * 4, [2] * 2]
        for i, one in enumerate(found):
            assert one[0][1] == pytest.approx(table.log_prob(i, tuple(one[0][0].tolist())))


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    some = limits(6, 3, 0, 9, 6, 6)
    one = greedy(Table(6, 7, seed), some, END, FIRST)
    beam = beam_search(Table(6, 7, seed), some, END, FIRST, 1, 0.0)
    for [(a, x)], [(b, y)] in zip(one, beam, strict=True):
        assert a.tolist() == b.tolist()
        assert x == y


@pytest.mark.parametrize("exponent", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_large_beam_finds_what_a_search_through_all_outputs_finds(
    seed: int, exponent: float
) -> None:
    some = limits(4, 2, 3, 0)
    table = Table(4, 5, seed, scale=1.0)
    found = beam_search(table, some, END, FIRST, 90, exponent)
    for i, hypotheses in enumerate(found):
        every = Table(4, 5, seed, scale=1.0).all_outputs(i, some[i])
        every.sort(key=lambda one: -one[0] / penalty(len(one[1]) + 1, exponent))
        assert len(hypotheses) == min(90, len(every))
        best = [tuple(tokens.tolist()) for tokens, _ in hypotheses]
        assert best[:20] == [output for _, output in every[:20]]
        assert len(set(best)) == len(best)
        np.testing.assert_allclose(
            [score for _, score in hypotheses[:20]], [score for score, _ in every[:20]], rtol=1e-5
        )


def test_the_length_penalty_prefers_the_long() -> None:
    assert penalty(1, 3.0) == 1.0
    assert penalty(7, 1.0) == 2.0
    means = []
    for exponent in (0.0, 1.0, 3.0):
        found = beam_search(Table(20, 5), np.full(20, 8), END, FIRST, 6, exponent)
        means.append(np.mean([len(one[0][0]) for one in found]))
        for i, hypotheses in enumerate(found):
            ranks = [score / penalty(len(ids) + 1, exponent) for ids, score in hypotheses]
            assert ranks == sorted(ranks, reverse=True)
            for ids, score in hypotheses:
                assert score == pytest.approx(Table(20, 5).log_prob(i, tuple(ids.tolist())))
    assert means[0] < means[1] < means[2]


@pytest.mark.parametrize("size", [1, 4])
def test_an_output_does_not_depend_on_the_batch(size: int) -> None:
    some = np.random.default_rng(0).integers(0, 9, 12)
    together = beam_search(Table(12, 6), some, END, FIRST, size, 0.5)
    for i in range(12):
        table = Table(1, 6)
        table.sources = [i]
        (alone,) = beam_search(table, some[i : i + 1], END, FIRST, size, 0.5)
        assert [(a.tolist(), x) for a, x in alone] == [(a.tolist(), x) for a, x in together[i]]


def test_a_search_ends_when_nothing_better_can_come() -> None:
    """An end that is all but certain is taken at once, however far the limit is."""

    class Short(Table):
        def logits(self, source: int, begun: tuple[int, ...]) -> np.ndarray:
            z = super().logits(source, begun)
            z[END] += 30.0 * (len(begun) > 2)
            return z

    for search in (greedy, lambda *args: beam_search(*args, 3, 0.0)):
        table = Short(4, 6)
        search(table, np.full(4, 1000), END, FIRST)
        assert table.asked < 100


@pytest.mark.parametrize("exponent", [0.0, 1.0, 4.0])
def test_a_search_does_not_end_too_early(exponent: float, monkeypatch: pytest.MonkeyPatch) -> None:
    some = np.full(60, 9)
    found = beam_search(Table(60, 5), some, END, FIRST, 3, exponent)
    monkeypatch.setattr(
        decoding._Beams, "are_open", lambda self, largest: self.scores.max(axis=1) > -np.inf
    )
    without = beam_search(Table(60, 5), some, END, FIRST, 3, exponent)
    for one, other in zip(found, without, strict=True):
        assert [(a.tolist(), x) for a, x in one] == [(a.tolist(), x) for a, x in other]


def test_sources_that_are_finished_drop_out() -> None:
    class Uneven(Table):
        def logits(self, source: int, begun: tuple[int, ...]) -> np.ndarray:
            z = super().logits(source, begun)
            z[END] += 60.0 if len(begun) > 3 * source else -60.0
            return z

    table = Uneven(8, 5)
    found = greedy(table, np.full(8, 50), END, FIRST)
    assert [len(one[0][0]) for one in found] == [3 * i for i in range(8)]
    assert table.asked < 0.8 * 8 * 22


def test_of_nothing_nothing_is_found() -> None:
    assert greedy(Table(0, 5), limits(), END, FIRST) == []
    assert beam_search(Table(0, 5), limits(), END, FIRST, 3, 0.0) == []


@pytest.mark.parametrize(("rows", "columns", "count"), [(3, 5, 9), (4, 50, 7), (6, 3001, 10)])
def test_the_largest_of_each_row(rows: int, columns: int, count: int) -> None:
    z: Any = np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)
    z[0] = np.round(z[0])  # equal ones in their order
    found = decoding._largest(z, count)
    expected = np.argsort(-z, axis=1, kind="stable")[:, :count]
    assert np.array_equal(found[1:], expected[1:])
    assert np.array_equal(np.take_along_axis(z, found, 1), np.take_along_axis(z, expected, 1))
