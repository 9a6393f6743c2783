"""Dropout masks: a pure function of their fields, with the right probability, independent."""

import array_api_strict
import numpy as np
import pytest

from fastrnn.engine import masks

BITS = 2**64 - 1


def mix(z):
    """SplitMix64's finalizer, in Python integers."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & BITS
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & BITS
    return z ^ (z >> 31)


def multiplier(fields, unit, p):
    """One element, written out in Python integers."""
    key = 0
    for field in fields:
        key = mix(key ^ mix((field + 0x9E3779B97F4A7C15) & BITS))
    value = mix((key + (unit + 1) * 0x9E3779B97F4A7C15) & BITS)
    return 0.0 if value < p * 2**64 else 1 / (1 - p)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_equals_the_hash_in_python_integers(p):
    index, step = [3, 0, 2**40], [0, 7]
    got = masks.keep_mask(2**63 + 5, 2, 1, 0, index, step, 6, p, np.float64)
    expected = [
        [[multiplier((2**63 + 5, 2, 1, 0, n, t), u, p) for u in range(6)] for t in step]
        for n in index
    ]
    np.testing.assert_array_equal(got, expected)
    got = masks.keep_mask(1, 2, 1, 0, index, None, 6, p, np.float64)
    expected = [[multiplier((1, 2, 1, 0, n, BITS), u, p) for u in range(6)] for n in index]
    np.testing.assert_array_equal(got, expected)


def test_the_finalizer_is_splitmix64():
    # the first outputs of the reference generator for seed 1234567
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    state = [(1234567 + k * 0x9E3779B97F4A7C15) & BITS for k in (1, 2, 3)]
    assert masks._mix(np.array(state, np.uint64)).tolist() == expected
    assert [masks._mix_int(s) for s in state] == expected


def test_a_row_does_not_depend_on_its_batch():
    whole = masks.keep_mask(5, 1, 0, 1, np.arange(7), np.arange(9), 33, 0.3, np.float32)
    some = masks.keep_mask(5, 1, 0, 1, [6, 2], [8, 0, 4], 20, 0.3, np.float32)
    np.testing.assert_array_equal(some, whole[[6, 2]][:, [8, 0, 4], :20])
    assert whole.dtype == np.float32
    assert whole.shape == (7, 9, 33)


def test_every_field_matters():
    base = {"seed": 1, "call": 1, "layer": 1, "direction": 0}
    reference = masks.keep_mask(**base, sequence_index=[1], step=[1], units=256, p=0.5, dtype="f8")
    for name in base:
        other = masks.keep_mask(
            **{**base, name: base[name] + 1},
            sequence_index=[1], step=[1], units=256, p=0.5, dtype="f8",
        )  # fmt: skip
        # 256 fair coins: equal in 128 on average, standard deviation 8; five of them
        assert abs(int((other == reference).sum()) - 128) < 40, name
    swapped = masks.keep_mask(1, 1, 1, 0, [2], [1], 256, 0.5, "f8")
    assert (
        abs(int((swapped == masks.keep_mask(1, 1, 1, 0, [1], [2], 256, 0.5, "f8")).sum()) - 128)
        < 40
    )


@pytest.mark.parametrize("p", [0.02, 0.2, 0.5, 0.85])
def test_frequencies_along_every_axis(p):
    mask = masks.keep_mask(11, 0, 0, 0, np.arange(40), np.arange(50), 60, p, np.float64)
    assert set(np.unique(mask)) == {0.0, 1 / (1 - p)}
    dropped = mask == 0
    for axis in (None, (1, 2), (0, 2), (0, 1)):
        share = dropped.mean(axis=axis)
        count = dropped.size / np.size(share)
        # five standard deviations of a binomial share
        assert np.all(np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / count))
    # neighbors are independent: both dropped with probability p^2
    for a, b in ((dropped[1:], dropped[:-1]), (dropped[:, 1:], dropped[:, :-1]),
                 (dropped[..., 1:], dropped[..., :-1])):  # fmt: skip
        q = p * p
        assert abs((a & b).mean() - q) < 5 * np.sqrt(3 * q * (1 - q) / a.size)


def test_no_sequences_no_steps_no_units():
    assert masks.keep_mask(1, 0, 0, 0, [], [0, 1], 3, 0.5, "f4").shape == (0, 2, 3)
    assert masks.keep_mask(1, 0, 0, 0, [1], [], 3, 0.5, "f4").shape == (1, 0, 3)
    assert masks.keep_mask(1, 0, 0, 0, [1], None, 0, 0.5, "f4").shape == (1, 0)


def test_p_zero_keeps_everything_and_one_is_refused():
    assert np.all(masks.keep_mask(1, 0, 0, 0, [1, 2], None, 1000, 0.0, "f4") == 1)
    nearly = masks.keep_mask(1, 0, 0, 0, [1, 2], None, 1000, 1 - 2.0**-53, "f4")
    assert np.all(nearly == 0)
    for bad in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="p: expected a number at least 0 and below 1"):
            masks.keep_mask(1, 0, 0, 0, [1], None, 3, bad, "f4")


def test_another_namespace_gives_the_same_bits_in_its_own_arrays():
    xp = array_api_strict
    got = masks.keep_mask(9, 8, 7, 1, xp.arange(3), xp.arange(4), 5, 0.4, np.float32, xp=xp)
    assert got.__array_namespace__() is xp
    assert got.dtype == xp.float32
    expected = masks.keep_mask(9, 8, 7, 1, np.arange(3), np.arange(4), 5, 0.4, np.float32)
    np.testing.assert_array_equal(np.asarray(got), expected)
