"""The forecaster: forms of series, strategies, transforms, quantiles, backtests, bad input."""

from __future__ import annotations

import dataclasses
import pickle
import re

import numpy as np
import pytest
from finite_differences import assert_gradients, gradient, relative_error

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.utils import estimator_checks

from fastrnn import Forecaster
from fastrnn.sequences.targets import REGRESSION_LOSSES
from fastrnn.series.forecasting import with_quantiles
from fastrnn.series.scores import absolute_step

STRATEGIES = ["direct", "recursive"]


def raises(kind, message):
    return pytest.raises(kind, match=re.escape(message))


def small(**parameters):
    """A forecaster that is fitted in an instant."""
    chosen = {"horizon": 4, "window": 6, "hidden_size": 4, "max_iter": 3, "random_state": 0}
    return Forecaster(**chosen | parameters)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def y(rng):
    """Growth in proportion, a season of 8, noise."""
    t = np.arange(96)
    return np.exp(t / 60 + 0.4 * np.sin(2 * np.pi * t / 8) + 0.02 * rng.standard_normal(96))


# Forecasts


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "transforms",
    [
        {"log": True, "differencing": 1},
        {"log": True, "seasonal": 8, "seasonal_mode": "difference"},
        {"log": True, "differencing": 1, "seasonal": 8, "seasonal_mode": "both"},
        {"log": True, "differencing": 1, "seasonal": 8},
    ],
)
def test_it_beats_the_naive_forecasts(strategy, transforms, y):
    model = Forecaster(8, 16, strategy, max_iter=60, random_state=0, **transforms)
    result = model.backtest(y, 3, step=5, period=8)
    assert result.mae["forecaster"] < 0.5 * result.mae["seasonal naive"]
    assert result.mase["forecaster"] < 0.5 * result.mase["naive"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("differencing", [0, 1, 2])
@pytest.mark.parametrize("seasonal_mode", ["phase", "difference", "both"])
@pytest.mark.parametrize("log", [False, True])
def test_a_network_that_says_nothing_leaves_the_continuation(
    strategy, differencing, seasonal_mode, log, y
):
    """With outputs of zero the forecast is the mean distance from it: all is undone exactly."""
    model = small(
        strategy=strategy,
        differencing=differencing,
        seasonal=8,
        seasonal_mode=seasonal_mode,
        log=log,
    ).fit(y)
    model.layers_["output"].params["weight"][...] = 0
    model.layers_["output"].params["bias"][...] = 0
    found = model.predict()
    z = np.log(y) if log else y

    def polynomial(d, s):
        p = np.ones(1)
        for _ in range(d):
            p = np.convolve(p, [1, -1])
        return p if s is None else np.convolve(p, [1] + [0] * (s - 1) + [-1])

    p = polynomial(differencing, None if seasonal_mode == "phase" else 8)

    def continued(past, add):
        path = list(past)
        for h in range(4):
            path.append(add[h] - sum(c * path[-k] for k, c in enumerate(p) if k))
        return np.array(path[len(past) :])

    first = 6 + len(p) - 1
    if strategy == "recursive":
        means = [z[t] - continued(z[:t], np.zeros(4))[0] for t in range(first, len(z))]
        expected = continued(z, np.full(4, np.mean(means)))
    else:
        zero = [continued(z[:t], np.zeros(4)) for t in range(first, len(z) - 3)]
        distances = [
            z[t : t + 4] - one for t, one in zip(range(first, len(z) - 3), zero, strict=True)
        ]
        expected = continued(z, np.zeros(4)) + np.mean(distances, axis=0)
    np.testing.assert_allclose(found, np.exp(expected) if log else expected, rtol=1e-8)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_scale_of_the_series_only_scales_the_forecast(strategy, y):
    model = small(strategy=strategy, differencing=1)
    np.testing.assert_allclose(
        model.fit(1000 * y + 77).predict(), 1000 * model.fit(y).predict() + 77, rtol=1e-6
    )
    other = small(strategy=strategy, differencing=1, standardize=False)
    assert abs(other.fit(1000 * y).predict() / 1000 - other.fit(y).predict()).max() > 1e-6


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_series_several_and_panels(strategy, y):
    pandas = pytest.importorskip("pandas")
    model = small(strategy=strategy)
    alone = model.fit(y).predict()
    assert (alone.shape, model.n_series_) == ((4,), 1)
    np.testing.assert_array_equal(model.fit(pandas.Series(y)).predict(), alone)
    np.testing.assert_array_equal(model.fit([y]).predict(), alone[None])
    panel = np.stack([y, y[::-1], np.sqrt(y)])
    several = model.fit(panel).predict()
    assert (several.shape, model.n_series_) == ((3, 4), 3)
    np.testing.assert_array_equal(model.fit(list(panel)).predict(), several)
    np.testing.assert_array_equal(model.fit(pandas.DataFrame(panel.T)).predict(), several)
    ragged = model.fit([y, y[:30], y[:41]])
    assert ragged.predict().shape == (3, 4)
    # each series in its own units
    np.testing.assert_allclose(
        model.fit([y, 100 * y[:50] + 7]).predict()[1], 100 * model.fit([y, y[:50]]).predict()[1] + 7
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("several", [False, True])
def test_context_takes_the_place_of_the_history(strategy, several, y):
    history = [y, y[:50]] if several else y
    later = [np.r_[y, 5.0], y[:48]] if several else np.r_[y, 5.0]
    model = small(strategy=strategy, differencing=1, seasonal=8, log=True, quantiles=[0.2, 0.7])
    before = model.fit(history).predict()
    np.testing.assert_array_equal(model.predict(context=history), before)
    np.testing.assert_array_equal(
        model.predict_quantiles(context=history), model.predict_quantiles()
    )
    assert np.abs(model.predict(context=later) - before).min() > 1e-6
    np.testing.assert_array_equal(model.predict(), before)  # nothing is kept of a context
    if not several:  # only the end counts, if it begins at the same phase
        np.testing.assert_array_equal(model.predict(context=y[80:]), before)


def test_recursive_forecasts_go_past_the_horizon_and_direct_ones_do_not(y):
    model = small(strategy="recursive").fit(y)
    far = model.predict(30)
    assert far.shape == (30,)
    np.testing.assert_array_equal(far[:4], model.predict())
    np.testing.assert_allclose(  # each forecast is the next one's history
        model.predict(1, context=np.r_[y, far[:9]]), far[9], rtol=1e-9
    )
    model = small().fit(y)
    np.testing.assert_array_equal(model.predict(2), model.predict()[:2])
    with raises(ValueError, "n: expected at most the horizon of 4 (strategy='recursive' goes furt"):
        model.predict(5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_follows_y(dtype, y):
    model = small(quantiles=[0.5]).fit(y.astype(dtype))
    assert model.predict().dtype == model.predict_quantiles().dtype == dtype
    assert model.layers_["rnn"].dtype == dtype
    assert small(dtype="float32").fit(y).predict().dtype == np.float32
    assert small().fit(np.arange(30)).predict().dtype == np.float64


def test_the_same_seed_gives_the_same_bits(y):
    for strategy in STRATEGIES:
        one, two = (small(strategy=strategy, quantiles=[0.1, 0.9]).fit(y) for _ in range(2))
        np.testing.assert_array_equal(one.predict_quantiles(), two.predict_quantiles())
    assert np.abs(small(random_state=1).fit(y).predict() - small().fit(y).predict()).max() > 1e-6


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_the_networks_gradients(pooling, rng):
    """Of all layers, with covariates, phase and the window beside the pooled states."""
    model = small(pooling=pooling, quantiles=[0.3], max_iter=1, hidden_size=3, seasonal=5)
    y, x = rng.standard_normal(20), rng.standard_normal((20, 2))
    model.fit(y, x)
    items, targets = model._forecasting.learnable(model._forecasting.histories([y], [x])[0])
    weight, loss, network = rng.uniform(0.5, 1, len(items)), model._loss(), model._network
    for layer in network.layers:
        layer.zero_grad()
    out, backward = network.forward(items)
    np.testing.assert_allclose(out, network.outputs(items), rtol=1e-12)
    backward(loss(out, targets, weight)[1])
    params = {f"{k} {n}": p for k, one in model.layers_.items() for n, p in one.params.items()}
    grads = {f"{k} {n}": g for k, one in model.layers_.items() for n, g in one.grads.items()}
    assert_gradients(lambda: loss(network.outputs(items), targets, weight)[0], params, grads)


# Covariates


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_known_covariates_are_used(strategy, rng):
    x = rng.integers(0, 2, (200, 1)).astype(float)
    y = 10 + 5 * x[:, 0] + 0.1 * rng.standard_normal(200)
    model = Forecaster(4, 6, strategy, batch_size=32, max_iter=60, random_state=0)
    future = np.array([[0.0], [1], [1], [0]])
    found = model.fit(y, x).predict(X=future)
    np.testing.assert_allclose(found, 10 + 5 * future[:, 0], atol=0.6)
    assert model.n_features_in_ == 1
    np.testing.assert_array_equal(model.predict(X=np.concatenate([x, future]), context=y), found)
    assert np.abs(model.predict(X=1 - future) - found).min() > 3
    after = 10 + 5 * future[:, 0]
    assert model.score(after, future) > -0.3
    blind = clone(model).fit(y)
    assert not hasattr(blind, "n_features_in_")
    assert model.backtest(y, 2, x).mae["forecaster"] < 0.5 * blind.backtest(y, 2).mae["forecaster"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_covariates_of_several_series(strategy, rng):
    y = rng.standard_normal((2, 40))
    x = rng.standard_normal((40, 3))
    model = small(strategy=strategy)
    shared = model.fit(y, x).predict(X=np.ones((4, 3)))
    found = model.fit(y, [x, x]).predict(X=[np.ones((4, 3))] * 2)
    np.testing.assert_array_equal(found, shared)
    found = model.fit(list(y), np.stack([x, x])).predict(X=np.ones((2, 4, 3)))
    np.testing.assert_array_equal(found, shared)
    # in any units
    np.testing.assert_allclose(
        model.fit(y, 1e3 * x + 5).predict(X=np.full((4, 3), 1005.0)), shared, rtol=1e-6
    )


def test_rows_of_covariates_are_counted(y):
    x = np.zeros((96, 2))
    with raises(ValueError, "X: expected 96 rows, one for each value of y, got 95"):
        small().fit(y, x[1:])
    model = small().fit(y, x)
    with raises(ValueError, "X: expected 4 rows, one for each step of the horizon, got 2"):
        model.predict(2, X=x[:2])
    with raises(ValueError, "X: expected 100 rows, one for each value of context and each step"):
        model.predict(X=x[:4], context=y)
    with raises(ValueError, "X: expected 2 covariates, as fit has seen, of 4 rows, one for each"):
        model.predict()
    with raises(ValueError, "X: expected 2 columns, got 1"):
        model.predict(X=x[:4, :1])
    with raises(ValueError, "X: expected None, as in fit, got ndarray of shape (4, 2)"):
        small().fit(y).predict(X=x[:4])
    with raises(ValueError, "X: expected 3 rows, one for each step to forecast, got 4"):
        small(strategy="recursive").fit(y, x).predict(3, X=x[:4])


# Quantiles


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("log", [False, True])
def test_quantiles_cover_what_they_say(strategy, log, rng):
    noise = rng.standard_normal(700)
    y = np.exp(0.3 * noise) if log else 5 + noise
    model = Forecaster(
        3, 4, strategy, log=log, quantiles=[0.1, 0.5, 0.9], hidden_size=4, max_iter=40,
        random_state=0,
    ).fit(y)  # fmt: skip
    quantiles = model.predict_quantiles()
    assert quantiles.shape == (3, 3)
    assert (np.diff(quantiles, axis=1) > 0).all()
    z = (np.log(quantiles) / 0.3) if log else quantiles - 5
    np.testing.assert_allclose(z, np.tile([-1.28, 0, 1.28], (3, 1)), atol=0.35)


def test_uncertainty_grows_with_the_distance_in_a_random_walk(rng):
    y = rng.standard_normal(400).cumsum()
    for strategy in STRATEGIES:
        model = Forecaster(
            9, 4, strategy, differencing=1, quantiles=(0.1, 0.9), hidden_size=4, max_iter=30,
            random_state=0,
        ).fit(y)  # fmt: skip
        width = np.diff(model.predict_quantiles(), axis=1)[:, 0]
        assert width[8] / width[0] == pytest.approx(3, rel=0.35)  # the root of 9


@pytest.mark.parametrize("point", ["squared_error", "huber"])
def test_the_gradient_of_forecast_and_quantiles(point, rng):
    loss = with_quantiles(REGRESSION_LOSSES[point], [0.2, 0.5, 0.9])
    outputs, targets = rng.standard_normal((5, 8)), rng.standard_normal((5, 2))
    weight = rng.uniform(0.5, 2, 5)
    value, found = loss(outputs, targets, weight)
    first = outputs[:, [0, 4]]
    expected, _ = REGRESSION_LOSSES[point](first, targets, weight)
    r = targets[..., None] - (outputs.reshape(5, 2, 4)[..., 1:] + first[..., None])
    each = np.maximum(np.array([0.2, 0.5, 0.9]) * r, (np.array([0.2, 0.5, 0.9]) - 1) * r)
    expected += np.average(each.mean(axis=(1, 2)), weights=weight)
    assert value == pytest.approx(expected)
    assert (
        relative_error(found, gradient(lambda: loss(outputs, targets, weight)[0], outputs)) < 1e-6
    )


def test_quantiles_do_not_cross_whatever_the_network_says(y):
    model = small(quantiles=[0.1, 0.5, 0.9]).fit(y)
    model.layers_["output"].params["bias"][...] = np.tile([0, 3, 2, 1], 4)
    assert (np.diff(model.predict_quantiles(), axis=1) >= 0).all()


def test_quantiles_that_are_none(y):
    with raises(ValueError, "quantiles: expected some for predict_quantiles, got None"):
        small().fit(y).predict_quantiles()
    for bad in ([0.5, 0.5], [0.9, 0.1], [0.0, 0.5], [0.5, 1.0], []):
        with raises(ValueError, "quantiles: expected numbers between 0 and 1 in increasing order"):
            small(quantiles=bad).fit(y)


# Judging


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_score_is_minus_mase_over_pieces_of_a_horizon(strategy, y):
    past, rest = y[:80], y[80:90]
    model = small(strategy=strategy, seasonal=8, differencing=1).fit(past)
    errors = [
        np.abs(model.predict(n, context=y[: 80 + t]) - rest[t : t + n])
        for t, n in [(0, 4), (4, 4), (8, 2)]
    ]
    expected = -np.concatenate(errors).mean() / absolute_step(past, 8)
    assert model.score(rest) == pytest.approx(expected, rel=1e-9)
    both = small(strategy=strategy).fit([past, past[:40]])
    assert both.score([rest, y[40:43]]) == pytest.approx(
        -np.mean(
            [
                np.abs(
                    np.concatenate(
                        [both.predict(context=[y[: 80 + t], past[:40]])[0] for t in (0, 4, 8)]
                    )[:10]
                    - rest
                ).mean()
                / absolute_step(past),
                np.abs(both.predict()[1][:3] - y[40:43]).mean() / absolute_step(past[:40]),
            ]
        ),
        rel=1e-9,
    )


def test_a_backtest_sees_nothing_of_what_it_forecasts(y):
    model = small(quantiles=[0.2, 0.8])
    result = model.backtest(y, 3, step=5, period=8)
    assert result.origins.tolist() == [[82], [87], [92]]
    for k, (origin,) in enumerate(result.origins):
        fitted = clone(model).fit(y[:origin])
        np.testing.assert_array_equal(result.forecast[k, 0], fitted.predict())
        np.testing.assert_array_equal(result.quantiles[k, 0], fitted.predict_quantiles())
        np.testing.assert_array_equal(result.actual[k, 0], y[origin : origin + 4])
        np.testing.assert_array_equal(result.naive[k, 0], np.full(4, y[origin - 1]))
        np.testing.assert_array_equal(result.seasonal_naive[k, 0], y[origin - 8 : origin - 4])
    assert not hasattr(model, "layers_")
    assert small().backtest(y, 2).origins.tolist() == [[88], [92]]
    assert small().backtest(y, 2).seasonal_naive is None
    assert small(seasonal=8).backtest(y, 2).period == 8


def test_backtests_of_several_series_and_too_many_folds(y):
    result = small().backtest([y, y[:60]], 2, [np.ones((96, 1)), np.ones((60, 1))])
    assert result.origins.tolist() == [[88, 52], [92, 56]]
    assert "2 folds of 4 steps, 2 series" in str(result)
    with raises(ValueError, "y: expected at least 402 values for 100 folds of 4, 4 apart, got 96"):
        small().backtest(y, 100)
    with raises(ValueError, "y: expected at least 10 values (6 of the window, 4 after it), got 4"):
        small().backtest(y[:16], 3)  # the first fold is too short
    with raises(ValueError, "folds: expected an integer of at least 1, got 0"):
        small().backtest(y, 0)


def test_early_stopping_holds_out_the_last_windows(y):
    seen = {}

    def look(state):
        seen.update({"n": len(state.history["loss"])})

    model = small(
        early_stopping=True, validation_fraction=0.25, max_iter=200, n_iter_no_change=3,
        callbacks=look,
    ).fit(y)  # fmt: skip
    assert len(model.history_["validation_loss"]) == seen["n"] == model.n_iter_
    assert model.best_loss_ == min(model.history_["validation_loss"])
    parts = [
        model._forecasting.learnable(h)
        for h in model._forecasting.histories([y], [np.zeros((96, 0))])
    ]
    kept, held = model._split(parts, True)
    # 96 values have 87 windows; of the last 22 none may share a target with those before
    assert (len(kept.items), len(held.items)) == (87 - 22 - 3, 22)
    with raises(ValueError, "validation_fraction: expected windows to train on before those that"):
        small(early_stopping=True).fit(y[:13])


def test_warm_start_goes_on(y):
    model = small(warm_start=True).fit(y)
    before = model.layers_["rnn"].params["weight_hh_l0"].copy()
    first = model.predict()
    model.fit(y)
    assert model.n_iter_ == 6
    assert np.abs(model.layers_["rnn"].params["weight_hh_l0"] - before).max() > 0
    assert np.abs(model.predict() - first).max() > 0
    with raises(ValueError, "y: expected one series, as fit has seen, got a list or panel of 2"):
        model.fit([y, y])
    with raises(ValueError, "window: expected 6, with which the network was made"):
        model.set_params(window=7).fit(y)


# Bad input


def test_series_that_cannot_be_learned(y):
    with raises(ValueError, "y: expected finite numbers, got nan at step 3"):
        small().fit(np.r_[y[:3], np.nan, y])
    with raises(ValueError, "y: expected at least 10 values (6 of the window, 4 after it), got 9"):
        small().fit(y[:9])
    with raises(
        ValueError,
        "y[1]: expected at least 19 values (6 of the window, 9 before it for differences, 4 after",
    ):
        small(differencing=1, seasonal=8, seasonal_mode="difference").fit([y, y[:18]])
    with raises(ValueError, "y: expected values above 0 (log=True), got 0.0 at step 1"):
        small(log=True).fit(np.r_[1.0, 0.0, y])
    model = small(log=True, differencing=1).fit(y)
    with raises(ValueError, "context: expected at least 7 values (6 of the window, 1 before it f"):
        model.predict(context=y[:6])
    with raises(ValueError, "context: expected values above 0 (log=True), got -1.0 at step 96"):
        model.predict(context=np.r_[y, -1.0])
    with raises(ValueError, "context: expected one series, as fit has seen, got a list or panel"):
        model.predict(context=[y, y])
    with raises(ValueError, "y: expected values above 0 (log=True), got -1.0 at step 0"):
        model.score([-1.0])
    with raises(ValueError, "y: expected at least one value, got none"):
        model.score([])
    with raises(ValueError, "context: expected a list or panel of 2, as fit has seen, got one ser"):
        small().fit([y, y]).predict(context=y)
    with pytest.raises(NotFittedError):
        small().predict()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"horizon": 0}, "horizon: expected an integer of at least 1, got 0"),
        ({"window": 2.5}, "window: expected an integer of at least 1, got 2.5"),
        ({"strategy": "both"}, "strategy: expected one of 'direct', 'recursive', got 'both'"),
        ({"differencing": -1}, "differencing: expected an integer of at least 0, got -1"),
        ({"seasonal": 1}, "seasonal: expected an integer of at least 2, got 1"),
        ({"seasonal_mode": "x"}, "seasonal_mode: expected one of 'phase', 'difference', 'both'"),
        ({"log": 1}, "log: expected True or False, got 1"),
        ({"skip": None}, "skip: expected True or False, got None"),
        ({"loss": "mae"}, "loss: expected one of 'squared_error', 'absolute_error', 'huber'"),
        ({"cell": "tcn"}, "cell: expected one of 'lstm', 'gru', 'rnn', got 'tcn'"),
    ],
)
def test_parameters_are_checked_before_any_work(parameters, message, y):
    model = small(**parameters)
    with raises((ValueError, TypeError), message):
        model.fit(y)
    assert not hasattr(model, "layers_")


def test_an_error_leaves_the_forecaster_as_it_was(y):
    model = small().fit(y)
    before = model.predict()
    with raises(ValueError, "y: expected at least 10 values"):
        model.fit(y[:5])
    np.testing.assert_array_equal(model.predict(), before)


# scikit-learn


@pytest.mark.parametrize(
    "name",
    [
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_do_not_raise_errors_in_init_or_set_params",
        "check_mixin_order",
        "check_valid_tag_types",
        "check_estimators_unfitted",
    ],
)
def test_scikit_learns_checks_without_data(name):
    getattr(estimator_checks, name)("Forecaster", Forecaster())


class Swapped(Forecaster):
    """For checks that call fit(X, y): forecasts the first column of X as one series."""

    def fit(self, X, y=None):
        return super().fit(np.asarray(X, np.float64)[:, 0])

    def predict(self, X):
        return super().predict(context=np.asarray(X, np.float64)[:, 0])


@pytest.mark.parametrize(
    "name",
    [
        "check_estimators_pickle",
        "check_estimators_overwrite_params",
        "check_dict_unchanged",
        "check_estimators_unfitted",
        "check_fit_check_is_fitted",
        "check_estimators_fit_returns_self",
        "check_fit_idempotent",
        "check_readonly_memmap_input",
    ],
)
def test_scikit_learns_checks_of_the_fitted_state(name):
    getattr(estimator_checks, name)(
        "Swapped", Swapped(horizon=1, window=2, hidden_size=4, max_iter=2, random_state=0)
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_clones_and_pickles(strategy, y):
    model = small(strategy=strategy, quantiles=[0.1, 0.9], seasonal=8, differencing=1)
    assert clone(model).get_params() == model.get_params()
    assert repr(model) == repr(clone(model))
    model.fit(y)
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.predict(), model.predict())
    np.testing.assert_array_equal(copied.predict_quantiles(), model.predict_quantiles())
    assert copied.score(y[:9]) == model.score(y[:9])


def test_a_grid_search_over_time(y):
    search = GridSearchCV(
        small(max_iter=20, learning_rate_init=0.01),
        {"differencing": [0, 3], "log": [False, True]},
        cv=TimeSeriesSplit(3, test_size=4),
    )
    search.fit(y)
    assert search.best_params_["differencing"] == 0
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.predict().shape == (4,)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sunspots", "temperatures", "airline"])
def test_real_series_are_forecast_better_than_by_others(name, data_file):
    """MAE below the last value, the last season, and ridge regression on the same lags."""
    from bench.sets import series

    (task,) = (one for one in series.TASKS if one.series == name)
    if name == "temperatures":  # as many folds as the others; each takes half a second
        task = dataclasses.replace(task, folds=13, step=28)
    data_file(f"forecasting/{task.file}")
    data = task.data(0)
    own, others = task.fitted(task.make(0), data)[0], task.others(data)
    assert task.compared(own, others)["MAE / best beside"] < 1, (own, others)
