"""Argument checks: what is accepted comes back in the library's form, the rest is named."""

import re

import array_api_strict
import numpy as np
import pytest

from fastrnn import checks


def raises(kind, *parts):
    """An error of `kind` whose message holds all parts in this order."""
    return pytest.raises(kind, match=".*".join(re.escape(p) for p in parts))


def test_real_array_is_returned_as_it_is_when_it_fits():
    x = np.ones((2, 3), np.float32)
    assert checks.as_real_array("x", x, np.float32) is x
    view = x[:, ::2]
    assert checks.as_real_array("x", view, np.float32) is view
    x.flags.writeable = False
    assert checks.as_real_array("x", x, np.float32) is x


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint64", "bool", ">f8", "longdouble"])
def test_real_array_converts_other_real_dtypes_once(dtype):
    x = np.array([0, 1, 1], dtype)
    got = checks.as_real_array("x", x, np.float32)
    assert got.dtype == np.float32
    assert got.dtype.isnative
    assert got.tolist() == [0.0, 1.0, 1.0]


def test_real_array_unaligned_and_byteswapped_become_plain():
    raw = np.zeros(8 * 3 + 1, np.uint8)
    unaligned = raw[1:].view(np.float64)
    unaligned[:] = [1, 2, 3]
    for x in (unaligned, np.array([1, 2, 3], ">f8")):
        got = checks.as_real_array("x", x)
        assert got.flags.aligned
        assert got.dtype.isnative
        assert got.dtype == np.float64
        assert got.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("given", "own"),
    [("float16", "float32"), ("float32", "float32"), ("float64", "float64"), ("int32", "float64")],
)
def test_real_array_without_a_dtype_keeps_its_own(given, own):
    assert checks.as_real_array("x", np.zeros(2, given)).dtype == own


@pytest.mark.parametrize(
    "x",
    [
        np.zeros(2, complex),
        np.array([None, 1]),
        np.array(["a"]),
        np.array(["2020-01-01"], "M8[D]"),
        [[1.0], [1.0, 2.0]],
        "text",
    ],
)
def test_real_array_refuses_what_is_not_real(x):
    with raises(TypeError, "weights:", "expected"):
        checks.as_real_array("weights", x, np.float32)


def test_real_array_names_dimensions_and_shapes():
    with raises(ValueError, "x: expected 3 dimensions (N, T, D), got 2 with shape (5, 4)"):
        checks.as_real_array("x", np.zeros((5, 4)), ndim=3, axes="(N, T, D)")
    with raises(ValueError, "h: expected shape (2, any) (N, H), got (3, 4)"):
        checks.as_real_array("h", np.zeros((3, 4)), shape=(2, None), axes="(N, H)")
    with raises(ValueError, "h: expected 1 dimension, got 0 with shape ()"):
        checks.as_real_array("h", 3.0, ndim=1)
    with raises(ValueError, "h: expected shape (2,), got (3,)"):
        checks.check_shape("h", np.zeros(3), (2,))


def test_other_kinds_of_array_stay_their_own():
    xp = array_api_strict
    x = xp.asarray([1, 2], dtype=xp.int32)
    got = checks.as_real_array("x", x, np.float32)
    assert checks.namespace(got) is xp
    assert got.dtype == xp.float32
    assert checks.as_real_array("x", x).dtype == xp.float64
    assert checks.as_index_array("x", x, 3).dtype == xp.int64
    with raises(TypeError, "x: expected real numbers, got dtype"):
        checks.as_real_array("x", xp.asarray([1j]), np.float32)
    assert checks.namespace([1, 2]) is np
    assert not checks.is_numpy(np.zeros(1), x)


def test_indices_are_checked_before_they_are_converted():
    big = np.array([2**63 + 1], np.uint64)
    with raises(ValueError, "tokens: expected indices in [0, 5), got 9223372036854775809"):
        checks.as_index_array("tokens", big, 5)
    with raises(ValueError, "tokens: expected indices in [0, 5), got -1"):
        checks.as_index_array("tokens", [-1, 9], 5)
    with raises(ValueError, "tokens:", "got 5"):
        checks.as_index_array("tokens", [4, 5], 5)
    with raises(TypeError, "tokens: expected integers, got dtype float64"):
        checks.as_index_array("tokens", [1.0], 5)
    with raises(TypeError, "tokens: expected integers, got dtype bool"):
        checks.as_index_array("tokens", [True], 5)
    got = checks.as_index_array("tokens", np.array([[0, 4]], ">i2"), 5)
    assert got.dtype == np.int64
    assert got.tolist() == [[0, 4]]
    assert checks.as_index_array("tokens", [], 0).shape == (0,)


def test_integers():
    assert checks.check_positive_int("n", np.int32(3)) == 3
    assert type(checks.check_int("n", np.int64(-3))) is int
    for value, kind in ((0, ValueError), (2.0, TypeError), (True, TypeError), ("2", TypeError)):
        with raises(kind, "n: expected an integer of at least 1, got"):
            checks.check_positive_int("n", value)


def test_reals():
    assert checks.check_real("lr", np.float32(0.5), above=0) == 0.5
    assert checks.check_real("lr", np.array(0.5)) == 0.5
    with raises(ValueError, "lr: expected a number above 0 and below 1, got 1.0"):
        checks.check_real("lr", 1, above=0, below=1)
    for bad in (float("nan"), float("inf")):
        with raises(ValueError, "lr: expected a finite number, got"):
            checks.check_real("lr", bad)
    assert checks.check_real("lr", float("inf"), finite=False) == float("inf")
    for bad in (None, "1", 1j, True, [1, 2]):
        with raises(TypeError, "lr: expected a number at least 0 and at most 2, got"):
            checks.check_real("lr", bad, minimum=0, maximum=2)
    assert checks.check_probability("p", 0) == 0.0
    with raises(ValueError, "p:", "got 1.0"):
        checks.check_probability("p", 1)


def test_options_and_flags():
    assert checks.check_option("cell", "gru", ["lstm", "gru", None]) == "gru"
    assert checks.check_option("cell", None, ["lstm", None]) is None
    with raises(ValueError, "cell: expected one of 'lstm', 'gru', got 'foo'"):
        checks.check_option("cell", "foo", ("lstm", "gru"))
    with raises(ValueError, "cell:", "got 1 (int)"):
        checks.check_option("cell", 1, (True, "gru"))
    with raises(ValueError, "cell:", "ndarray of shape (2,)"):
        checks.check_option("cell", np.zeros(2), ("gru",))
    assert checks.check_bool("flag", np.True_) is True
    with raises(TypeError, "flag: expected True or False, got 1 (int)"):
        checks.check_bool("flag", 1)


def test_dtypes():
    assert checks.check_dtype("dtype", "float32") is np.dtype("float32")
    assert checks.check_dtype("dtype", np.float64) == np.float64
    for bad in (",", "float16", int, None, "foo", ">f4"):
        with raises(ValueError, "dtype: expected 'float32' or 'float64', got"):
            checks.check_dtype("dtype", bad)


def test_random_states():
    rng = np.random.default_rng(3)
    assert checks.check_random_state("random_state", rng) is rng
    assert checks.check_random_state("random_state", 3).random() == rng.random()
    assert checks.check_random_state("random_state", None) is not None
    for bad, kind in ((-1, ValueError), (1.5, TypeError), (np.random.RandomState(), TypeError)):
        with raises(kind, "random_state: expected"):
            checks.check_random_state("random_state", bad)


def test_long_values_are_shortened_in_messages():
    assert len(checks.describe("x" * 1000)) < 70
    assert "shape (1000,)" in checks.describe(np.zeros(1000))
