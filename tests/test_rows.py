"""Packed rows against the definition written out with loops."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.engine.rows import Rows, read_lengths

lengths_and_room = st.lists(st.integers(0, 9), max_size=12).flatmap(
    lambda lengths: st.tuples(st.just(lengths), st.integers(max(lengths, default=0), 12))
)


def walk(lengths: list[int], T: int) -> list[tuple[int, int]]:
    """(sequence, step) of every packed row: steps in order, longest sequence first within each."""
    longest_first = sorted(range(len(lengths)), key=lambda n: -lengths[n])
    return [(n, t) for t in range(T) for n in longest_first if lengths[n] > t]


@given(lengths_and_room)
def test_rows_are_all_real_steps_longest_sequence_first(case: tuple[list[int], int]) -> None:
    lengths, T = case
    rows = Rows(np.array(lengths, dtype=np.int64), T)
    steps = walk(lengths, T)
    assert (rows.N, rows.T, rows.total) == (len(lengths), T, sum(lengths))
    assert rows.sizes.tolist() == [sum(n > t for n in lengths) for t in range(T)]
    assert rows.base.tolist() == np.cumsum([0, *rows.sizes]).tolist()
    assert rows.ragged == any(n < T for n in lengths)
    for t in range(T):
        alive = rows.order[: rows.sizes[t]].tolist()
        assert alive == [n for n, step in steps if step == t]
    assert sorted(rows.order.tolist()) == list(range(len(lengths)))
    assert rows.order[rows.inverse_order()].tolist() == list(range(len(lengths)))
    for name in ("lengths", "order", "sizes", "base"):
        assert getattr(rows, name).dtype == np.int64


@given(lengths_and_room, st.booleans(), st.booleans())
def test_positions_point_at_each_rows_own_step(
    case: tuple[list[int], int], reverse: bool, is_list: bool
) -> None:
    lengths, T = case
    rows = Rows(np.array(lengths, dtype=np.int64), T)
    offsets = np.cumsum([0, *lengths])[:-1] if is_list else np.arange(len(lengths)) * T
    expected = [offsets[n] + (lengths[n] - 1 - t if reverse else t) for n, t in walk(lengths, T)]
    assert rows.positions(offsets, reverse).tolist() == expected


def test_equal_lengths_keep_the_callers_order() -> None:
    assert Rows([2, 3, 2, 3, 2], 3).order.tolist() == [1, 3, 0, 2, 4]


@pytest.mark.parametrize(("lengths", "T"), [([], 0), ([], 3), ([0, 0], 0), ([0, 0], 2)])
def test_nothing_to_walk_is_defined(lengths: list[int], T: int) -> None:
    rows = Rows(lengths, T)
    assert rows.total == 0
    assert rows.sizes.tolist() == [0] * T
    assert rows.base.tolist() == [0] * (T + 1)
    assert rows.positions(np.zeros(len(lengths), np.int64)).shape == (0,)


def test_row_numbers_beyond_32_bits() -> None:
    # Two sequences of 2 steps whose rows lie further apart than an int32 can say.
    far = np.array([0, 2**33], dtype=np.int64)
    assert Rows([2, 2], 2).positions(far).tolist() == [0, 2**33, 1, 2**33 + 1]


def test_lengths_are_checked() -> None:
    got = read_lengths("lengths", [0, 3, 2], 3, 3)
    assert got.dtype == np.int64
    assert got.tolist() == [0, 3, 2]
    assert read_lengths("lengths", [], 0, 3).shape == (0,)
    for lengths, part in (([4], "got 4"), ([-1], "got -1"), ([1, 1], "got (2,)"), (1, "got ()")):
        with pytest.raises(ValueError, match=f"^lengths: .*{re.escape(part)}"):
            read_lengths("lengths", lengths, 1, 3)
    with pytest.raises(TypeError, match=r"^lengths: expected integers"):
        read_lengths("lengths", [1.0], 1, 3)
