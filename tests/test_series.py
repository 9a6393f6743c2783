"""Series: transforms and their exact inverses, windows, what people pass, measures of forecasts."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.series.data import read_covariates, read_series
from fastrnn.series.differences import Differences, Scale, Windows, phases
from fastrnn.series.scores import absolute_step, collect, mase, naive, seasonal_naive


def raises(kind, message):
    return pytest.raises(kind, match=re.escape(message))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# Differences


def test_differences_are_those_of_numpy(rng):
    z = rng.standard_normal((2, 40))
    for order in range(4):
        np.testing.assert_allclose(Differences(order)(z), np.diff(z, order), atol=1e-12)
        expected = np.diff(z[:, 12:] - z[:, :-12], order)
        np.testing.assert_allclose(Differences(order, 12)(z), expected, atol=1e-12)
        assert Differences(order, 12).reach == order + 12
    np.testing.assert_array_equal(Differences(0)(z), z)


@given(
    order=st.integers(0, 3),
    period=st.none() | st.integers(2, 9),
    n=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_differences_are_undone_exactly(order, period, n, seed):
    differences = Differences(order, period)
    z = np.random.default_rng(seed).standard_normal((3, differences.reach + n))
    w = differences(z)
    assert w.shape == (3, n)
    tail, rest = z[:, : differences.reach], z[:, differences.reach :]
    np.testing.assert_allclose(differences.undone(w, tail), rest, rtol=1e-9, atol=1e-9)
    # and what is learned of a direct forecast is undone by one addition
    zero = differences.continued(tail, n)
    np.testing.assert_allclose(
        differences(np.concatenate([tail, zero], axis=1)), 0, rtol=0, atol=1e-8
    )


def test_what_follows_with_differences_of_zero():
    z = np.array([1.0, 2, 3, 5, 8, 13])
    assert Differences(0).continued(z, 3).tolist() == [0, 0, 0]
    assert Differences(1).continued(z, 3).tolist() == [13, 13, 13]
    assert Differences(2).continued(z, 3).tolist() == [18, 23, 28]
    assert Differences(0, 4).continued(z, 6).tolist() == [3, 5, 8, 13, 3, 5]
    assert Differences(1, 4).continued(z, 4).tolist() == [14, 16, 19, 24]


# Scales


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("standardize", [False, True])
def test_scales_are_undone(log, standardize, rng):
    y = rng.uniform(1, 1000, 50)
    differences = Differences(1)
    scale = Scale.of(y, differences, log, standardize)
    z = scale.apply(y)
    np.testing.assert_allclose(scale.undo(z), y, rtol=1e-13)
    if standardize:
        assert differences(z).std() == pytest.approx(1)
        assert z.mean() == pytest.approx(0, abs=1e-12)
    else:
        np.testing.assert_array_equal(z, np.log(y) if log else y)


def test_scales_of_float32_are_those_of_its_numbers(rng):
    y = rng.uniform(1000, 1001, 50).astype(np.float32)
    found = Scale.of(y, Differences(0), True, True)
    assert found == Scale.of(y.astype(np.float64), Differences(0), True, True)
    np.testing.assert_array_equal(found.apply(y), found.apply(y.astype(np.float64)))


def test_a_series_that_never_changes_has_a_scale_of_one():
    for order in (0, 1):
        scale = Scale.of(np.full(20, 0.1), Differences(order), False, True)
        assert scale.spread == 1
        np.testing.assert_allclose(scale.apply(np.full(3, 0.1)), 0, atol=1e-15)


# Windows


def test_windows_hold_what_came_before_their_origin(rng):
    z = rng.standard_normal(30)
    covariates = rng.standard_normal((33, 2))
    windows = Windows(4, 3, Differences(1, 5), 12, np.float64, True)
    assert windows.reach == 4 + 6
    origins = np.array([10, 17, 30])
    items = windows.cut(z[None], covariates[None], np.array([7]), origins)
    w = Differences(1, 5)(z)
    for item, t in zip(items, origins, strict=True):
        assert len(item) == 4
        np.testing.assert_array_equal(item.steps[:, 0], w[t - 10 : t - 6])
        np.testing.assert_array_equal(item.steps[:, 1:3], covariates[t - 4 : t])
        np.testing.assert_array_equal(item.steps[:, 3:], phases(np.arange(t + 3, t + 7), 12))
        np.testing.assert_array_equal(item.beside[:4], w[t - 10 : t - 6])
        np.testing.assert_array_equal(item.beside[4:10], covariates[t : t + 3].ravel())
        np.testing.assert_array_equal(item.beside[10:], phases(np.array([t + 7]), 12)[0])
        assert (item.steps.shape[1], len(item.beside)) == windows.widths(2)


def test_windows_without_anything_beside_them(rng):
    windows = Windows(4, 3, Differences(0), None, np.float32, False)
    (item,) = windows.cut(
        rng.standard_normal((1, 4)), np.zeros((1, 4, 0)), np.zeros(1), np.array([4])
    )
    assert (item.steps.shape, item.beside.shape) == ((4, 1), (0,))
    assert item.steps.dtype == item.beside.dtype == np.float32
    assert windows.widths(0) == (1, 0)


@pytest.mark.parametrize(("order", "period"), [(0, None), (1, None), (0, 5), (2, 5)])
def test_distances_and_continuations_add_up_to_the_values(order, period, rng):
    z = rng.standard_normal(40)
    differences = Differences(order, period)
    windows = Windows(4, 7, differences, None, np.float64, True)
    origins = np.arange(windows.reach, 34)
    for t, distance in zip(origins, windows.distances(z, origins), strict=True):
        whole = differences.continued(z[:t], 7) + distance
        np.testing.assert_allclose(whole, z[t : t + 7], atol=1e-12)


def test_phases_repeat_after_a_period_and_tell_its_steps_apart():
    p = phases(np.arange(36), 12)
    assert p.shape == (36, 6)
    np.testing.assert_allclose(p[:12], p[12:24], atol=1e-12)
    gaps = np.linalg.norm(p[:12, None] - p[None, :12], axis=-1) + np.eye(12)
    assert gaps.min() > 0.5
    assert phases(np.arange(4), 2).shape == (4, 2)  # no harmonics past half a period


# What people pass


def test_one_series_in_all_its_forms():
    pandas = pytest.importorskip("pandas")
    for y in ([1, 2, 3], (1.0, 2, 3), np.array([1, 2, 3]), pandas.Series([1, 2, 3])):
        (found,), alone = read_series("y", y)
        assert alone
        assert found.dtype == np.float64
        assert found.tolist() == [1, 2, 3]
    (found,), _ = read_series("y", np.ones(3, np.float32))
    assert found.dtype == np.float32


def test_several_series_in_all_their_forms():
    pandas = pytest.importorskip("pandas")
    panel = np.array([[1.0, 2, 3], [4, 5, 6]])
    frame = pandas.DataFrame({"a": [1.0, 2, 3], "b": [4, 5, 6]})  # its columns are the series
    for y in (panel, frame, panel.tolist(), list(panel), [pandas.Series([1, 2, 3]), [4, 5, 6]]):
        found, alone = read_series("y", y)
        assert not alone
        assert [one.tolist() for one in found] == panel.tolist()
    ragged = np.empty(2, object)
    ragged[:] = [np.ones(2), np.ones(5)]
    for y in (ragged, list(ragged)):
        found, alone = read_series("y", y)
        assert (alone, [len(one) for one in found]) == (False, [2, 5])
    assert read_series("y", [[1.0, 2, 3]])[1] is False  # a list of one


def test_series_that_are_none():
    with raises(ValueError, "y: expected finite numbers, got nan at step 2"):
        read_series("y", [1, 2, np.nan])
    with raises(ValueError, "y[1]: expected finite numbers, got inf at step 0"):
        read_series("y", [[1, 2], [np.inf, 3, 4]])
    with raises(ValueError, "y: expected 1 dimension (T) or 2 (n_series, T), got 3 with shape"):
        read_series("y", np.zeros((1, 2, 3)))
    with raises(ValueError, "y: expected 1 dimension (T) or 2 (n_series, T), got 0"):
        read_series("y", 3.0)
    with raises(ValueError, "y[1]: expected 1 dimension (T), got 2 with shape (2, 1)"):
        read_series("y", [np.zeros(2), np.zeros((2, 1))])
    with raises(ValueError, "y: expected at least one series, got none"):
        read_series("y", np.zeros((0, 5)))
    for y in (["a", "b"], [1, {}], [["a"], ["b", "c"]]):
        with raises(TypeError, "expected real numbers, got"):
            read_series("y", y)


def test_covariates_in_all_their_forms():
    pandas = pytest.importorskip("pandas")
    X = np.arange(6.0).reshape(3, 2)
    for given_ in (X, X.tolist(), pandas.DataFrame(X)):
        (found,) = read_covariates("X", given_, [3], True, "rows")
        np.testing.assert_array_equal(found, X)
    (found,) = read_covariates("X", [1, 2, 3], [3], True, "rows")
    assert found.tolist() == [[1], [2], [3]]
    for given_ in ([X, X], np.stack([X, X]), X):  # the last one shared
        found = read_covariates("X", given_, [3, 3], False, "rows")
        assert len(found) == 2
        np.testing.assert_array_equal(found[1], X)
    found = read_covariates("X", [X, X[:1]], [3, 1], False, "rows")
    assert [one.shape for one in found] == [(3, 2), (1, 2)]


def test_covariates_that_do_not_fit():
    X = np.zeros((3, 2))
    with raises(ValueError, "X: expected 4 rows, one for each value of y, got 3"):
        read_covariates("X", X, [4], True, "one for each value of y")
    with raises(ValueError, "X[1]: expected 2 rows, one each, got 3"):
        read_covariates("X", [X, X], [3, 2], False, "one each")
    with raises(ValueError, "X: expected covariates of 2 series, got those of 3"):
        read_covariates("X", [X, X, X], [3, 3], False, "one each")
    with raises(ValueError, "X[1]: expected 2 columns, got 1"):
        read_covariates("X", [X, X[:, :1]], [3, 3], False, "one each")
    with raises(ValueError, "X: expected 3 columns, got 2"):
        read_covariates("X", X, [3], True, "one each", 3)
    with raises(ValueError, "X: expected finite numbers, got nan at step 1"):
        read_covariates("X", [0, np.nan, 0], [3], True, "one each")
    with raises(ValueError, "X: expected 1 dimension (T) or 2 (T, D), got 3"):
        read_covariates("X", X[None], [3], True, "one each")
    with raises(ValueError, "X: expected at least one column, got 0"):
        read_covariates("X", X[:, :0], [3], True, "one each")


# Measures


def test_naive_forecasts():
    y = np.array([1.0, 2, 3, 4, 5])
    assert naive(y, 3).tolist() == [5, 5, 5]
    assert seasonal_naive(y, 7, 3).tolist() == [3, 4, 5, 3, 4, 5, 3]
    assert seasonal_naive(y, 2, 3).tolist() == [3, 4]
    with raises(ValueError, "period: expected at most the 5 values of the history, got 6"):
        seasonal_naive(y, 2, 6)


def test_mase_is_its_formula():
    y = np.array([1.0, 3, 2, 6])
    assert absolute_step(y) == pytest.approx((2 + 1 + 4) / 3)
    assert absolute_step(y, 2) == pytest.approx((1 + 3) / 2)
    assert absolute_step(y, 4) == absolute_step(y)  # no two values a period apart
    assert mase(3.0, 2.0) == 1.5
    assert (mase(1.0, 0.0), mase(0.0, 0.0)) == (np.inf, 0.0)


def test_a_backtest_counts_and_prints():
    history, actual = np.array([1.0, 3, 2, 6]), np.array([5.0, 7])
    quantiles = np.array([[[5.0, 6.0], [5.0, 6.0]]])
    backtest = collect([([history], [actual], np.array([[5.0, 6.0]]), quantiles)], [0.2, 0.8], 2)
    assert backtest.mae == {"forecaster": 0.5, "naive": 1.0, "seasonal naive": 2.0}
    assert backtest.mase == {"forecaster": 0.25, "naive": 0.5, "seasonal naive": 1.0}
    assert backtest.coverage == {0.2: 0.5, 0.8: 0.5}
    assert backtest.origins.tolist() == [[4]]
    lines = str(backtest).splitlines()
    assert lines[0] == "1 folds of 2 steps, 1 series"
    assert lines[2].split() == ["forecaster", "0.5", "0.250"]
    assert lines[4].split() == ["seasonal", "naive", "(2)", "2", "1.000"]
    assert lines[5] == "50% of the values are not above the 0.2 quantile"
    without = collect([([history], [actual], actual[None], np.zeros((1, 2, 0)))], [], None)
    assert without.mae == {"forecaster": 0.0, "naive": 1.0}
    assert without.coverage == {}
