"""Forecasts of series."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from fastrnn import files
from fastrnn.checks import check_int, check_positive_int
from fastrnn.docs import documented
from fastrnn.engine.devices import find
from fastrnn.estimators.base import Examples
from fastrnn.estimators.series import OF_VALUES, SeriesEstimator
from fastrnn.sequences.network import Loss
from fastrnn.sequences.targets import REGRESSION_LOSSES
from fastrnn.series.data import read_covariates, read_series
from fastrnn.series.differences import Window
from fastrnn.series.forecasting import Forecasting, History, with_quantiles
from fastrnn.series.scores import Backtest, absolute_step, collect, mase
from fastrnn.series.serving import check_log, check_values

__all__ = ["Forecaster"]

Array = NDArray[Any]


@files.register
@documented
class Forecaster(SeriesEstimator):
    """A recurrent network that forecasts series from the window of values before.

    Each series is taken to its logarithm (`log`), scaled, and differenced (`differencing`,
    `seasonal`); the network reads a window of what results, and tells how far the values that
    follow lie from the continuation with differences of zero, which all of this is undone from
    exactly. Where several series are given, one network learns from all of them.

    y is one series, an array or list (T,) or a pandas Series; or several, which are a list of such,
    of any lengths, an array (n_series, T) whose rows are the series, or a DataFrame whose columns
    are. Steps are numbered from 0: an index is not read. Forecasts are arrays, (n,) for one series
    and (n_series, n) for several.

    Parameters
    ----------
    horizon : int, default 12
        H, how many steps to forecast.
    window : int, default 24
        How many (differenced) values the network reads.
    strategy : {"direct", "recursive"}, default "direct"
        Direct: the network has an output for each step of the horizon. Recursive: it has one, of
        the next step, and reads its own forecasts for those after that, as many as one likes.
    differencing : int, default 0
        d, how many times differences are taken, (1 - B)^d with B the shift by one step: 1 for a
        series without a level of its own.
    seasonal : int or None, default None
        The period of a season, in steps.
    log : bool, default False
        Whether to forecast the logarithm; y must be above 0. For growth in proportion. The forecast
        is then nearer to the median than to the mean.
    quantiles : sequence of float or None, default None
        In increasing order, between 0 and 1: what `predict_quantiles` gives. A direct network
        learns how far they lie from the forecast, by their pinball loss; a recursive one draws
        paths with errors such as those it made in training.
    seasonal_mode : {"phase", "difference", "both"}, default "phase"
        What becomes of `seasonal`. Phase: sines and cosines of where in the season a step is, up to
        the third harmonic, go with every step; best where a season is long, or changes little.
        Difference: what is learned is the change since the season before, 1 - B^s.
    skip : bool, default True
        Whether the output layer sees the window itself, too: an autoregression beside the network
        (G. Lai et al., "Modeling long- and short-term temporal patterns with deep neural networks",
        SIGIR 2018), which learns what is linear from few values.
    standardize : bool, default True
        Whether to divide each series by the standard deviation of its differences (and to subtract
        its mean), and to standardize covariates over all series.
    loss : {"squared_error", "absolute_error", "huber"}, default "squared_error"
        Of the forecast, each step of the horizon in units of its own spread.
    alpha : float, default 1.0
        L2 penalty: alpha/2 times the sum of squares of all weights (not biases), divided by the
        number of windows in a batch, is added to the loss. With ``solver="adamw"`` it is the
        decoupled weight decay instead.
    early_stopping : bool, default False
        Whether to hold out the last `validation_fraction` of each series' windows (and to leave out
        those before them whose targets overlap), and to end with the weights of the epoch whose
        loss of them was lowest.
    dtype : {"float32", "float64"} or None, default None
        What the network computes in; None follows y, whose integers become float64.
    {parameters}

    Attributes
    ----------
    n_series_ : int
    n_features_in_ : int
        Covariates; only there if `fit` was given some.
    mase_scale_ : array (n_series,)
        What `score` divides by: the training series' mean absolute change over a season, or a step.
    {attributes}

    See Also
    --------
    fastrnn.plots.plot_forecast : History, forecast and quantiles as a picture.

    Notes
    -----
    scikit-learn's searches pass what they are given first as the only data: ``GridSearchCV(...,
    cv=TimeSeriesSplit(5, test_size=12)).fit(y)`` fits to the beginning of one series and scores the
    12 values after it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import Forecaster
    >>> t = np.arange(132)
    >>> y = np.exp(t / 100) * (10 + 3 * np.sin(2 * np.pi * t / 12))
    >>> model = Forecaster(log=True, differencing=1, quantiles=[0.1, 0.9], random_state=0)
    >>> model.fit(y[:120]).predict().shape
    (12,)
    >>> model.predict_quantiles(6, context=y).shape  # 12 values later, without another fit
    (6, 2)
    >>> result = model.backtest(y, folds=3, step=6, period=12)
    >>> result.mae["forecaster"] < result.mae["seasonal naive"] < result.mae["naive"]
    True
    """

    def __init__(
        self,
        horizon: int = 12,
        window: int = 24,
        strategy: str = "direct",
        differencing: int = 0,
        seasonal: int | None = None,
        log: bool = False,
        quantiles: Any = None,
        *,
        seasonal_mode: str = "phase",
        skip: bool = True,
        cell: str = "lstm",
        hidden_size: int = 32,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = False,
        nonlinearity: str = "tanh",
        pooling: str = "last",
        standardize: bool = True,
        loss: str = "squared_error",
        alpha: float = 1.0,
        solver: str = "adam",
        learning_rate_init: float = 0.01,
        learning_rate: Any = "cosine",
        momentum: float = 0.9,
        batch_size: Any = "auto",
        shuffle: bool = True,
        max_iter: int = 200,
        max_grad_norm: float | None = 5.0,
        tbptt_steps: int | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 50,
        tol: float = 1e-4,
        warm_start: bool = False,
        callbacks: Any = None,
        random_state: Any = None,
        verbose: int = 0,
        n_threads: int | None = None,
        dtype: Any = None,
    ) -> None:
        self.horizon = horizon
        self.window = window
        self.strategy = strategy
        self.differencing = differencing
        self.seasonal = seasonal
        self.log = log
        self.quantiles = quantiles
        self.seasonal_mode = seasonal_mode
        self.skip = skip
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.reset_after = reset_after
        self.nonlinearity = nonlinearity
        self.pooling = pooling
        self.standardize = standardize
        self.loss = loss
        self.alpha = alpha
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.max_iter = max_iter
        self.max_grad_norm = max_grad_norm
        self.tbptt_steps = tbptt_steps
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose
        self.n_threads = n_threads
        self.dtype = dtype

    # Fitting

    def fit(self, y: Any, X: Any = None, *, device: Any = None) -> Self:
        """Train on the windows of one series or several.

        Parameters
        ----------
        y : array (T,), list of arrays (T_i,), array (n_series, T), or pandas Series or DataFrame
            The rows of an array are series, the columns of a DataFrame are. Finite, and above 0
            with `log`.
        X : array (T, D) or (T,), list of such, or array (n_series, T, D), optional
            Covariates: what is known of each step beforehand, such as prices or holidays. For
            several series of one length, (T, D) is what all share.
        {device}

        Returns
        -------
        Forecaster
            Itself.

        Raises
        ------
        TypeError, ValueError
            If parameters or data are not as described, or series too short for one window and what
            follows it. The forecaster is then as it was.
        """
        plan = self._check_parameters()
        target = None if device is None else find(device)
        go_on = self.warm_start and hasattr(self, "layers_")
        with self._unchanged_on_error() as before:
            if go_on:
                self._check_as_made()
                series = self._forecasts.series("y", y)
                covariates = self._forecasts.covariates(X, list(map(len, series)), OF_VALUES)
                alone, windows = self._alone, self._forecasting.windows
            else:
                series, alone = read_series("y", y)
                covariates = self._read_X(X, list(map(len, series)), alone)
                self._alone, self.n_series_, self._steps = alone, len(series), int(self.horizon)
                windows = self._make_windows(series)
            check_values("y", series, windows, windows.ahead, alone=alone, log=self.log)
            if not go_on:
                self._random = self._generator()
                self._forecasting = Forecasting.of(
                    series,
                    covariates,
                    windows,
                    self._levels(),
                    log=bool(self.log),
                    standardize=bool(self.standardize),
                    recursive=self.strategy == "recursive",
                )
                width, beside = windows.widths(covariates[0].shape[1])
                n = self._forecasting.n_outputs
                self._make_network(width, n, windows.dtype, windows, windows.beside, beside)
            histories = self._forecasting.histories(series, covariates)
            parts = [self._forecasting.learnable(history) for history in histories]
            examples, held_out = self._split(parts, plan.early_stopping)
            self._train(plan, self._loss(), examples, held_out, before, device=target)
            self._tails = [one.part(len(one.z) - windows.reach, len(one.z)) for one in histories]
            self.mase_scale_ = np.array([absolute_step(one, self.seasonal) for one in series])
            if self.strategy == "recursive" and self.quantiles is not None:
                self._forecasting.set_residuals(self._forecasts.outputs, parts, self._random)
        return self

    def _split(
        self, parts: list[tuple[list[Window], Array]], early_stopping: bool
    ) -> tuple[Examples, Examples | None]:
        """What to train on, and with early stopping the last windows of each series.

        Windows in between, whose targets overlap those that are held out, are left out.
        """
        kept, held = [], []
        for items, targets in parts:
            n = len(items)
            count = max(1, round(self.validation_fraction * n)) if early_stopping else 0
            end = n - count - (self._forecasting.windows.ahead - 1 if count else 0)
            kept.append((items[: max(end, 0)], targets[: max(end, 0)]))
            held.append((items[n - count :], targets[n - count :]))
        if not any(len(items) for items, _ in kept):
            raise ValueError(
                "validation_fraction: expected windows to train on before those that are held out, "
                f"got {sum(len(items) for items, _ in parts)} in all, too few"
            )
        return self._examples(kept), self._examples(held) if early_stopping else None

    def _examples(self, parts: list[tuple[list[Window], Array]]) -> Examples:
        items = [item for part, _ in parts for item in part]
        distances = np.concatenate([targets for _, targets in parts])
        lengths = np.full(len(items), self._forecasting.windows.size, np.int64)
        targets = self._forecasting.targets.encode(distances)
        return Examples(items, lengths, targets, np.ones(len(items)))

    def _loss(self) -> Loss:
        point, direct = REGRESSION_LOSSES[self.loss], not self._forecasting.recursive
        levels = self._forecasting.levels
        return with_quantiles(point, levels) if levels and direct else point

    # Forecasts

    def predict(self, n: int | None = None, X: Any = None, context: Any = None) -> Array:
        """The n values that follow.

        Parameters
        ----------
        n : int, optional
            `horizon` by default; at most that with ``strategy="direct"``.
        X : as for `fit`, optional
            Covariates of the steps to forecast: n rows, `horizon` of them with
            ``strategy="direct"``. With a `context` its rows come first.
        context : as y for `fit`, optional
            What came before, in place of the series that `fit` has seen: as many series, in the
            same order, scaled as those were. With a season it begins at the same phase as they did.

        Returns
        -------
        array (n,), or (n_series, n) of several series
        """
        return self._forecasts.predict(n, X, context)

    def predict_quantiles(self, n: int | None = None, X: Any = None, context: Any = None) -> Array:
        """The quantiles of each of the n values that follow.

        Parameters
        ----------
        n, X, context
            As for `predict`.

        Returns
        -------
        array (n, Q), or (n_series, n, Q) of several series
            In increasing order.
        """
        return self._forecasts.predict_quantiles(n, X, context)

    # Judging

    def score(self, y: Any, X: Any = None) -> float:
        """-MASE of forecasts of y, which follows what `fit` has seen: higher is better.

        y is forecast in pieces of `horizon` steps, each with all that came before it known; nothing
        is trained. Measured in `mase_scale_`.

        Parameters
        ----------
        y, X : as for `fit`
            Of as many series.

        Returns
        -------
        float
            At most 0.
        """
        fitted = self._forecasts
        series, alone = fitted.series("y", y), self._alone
        known = fitted.covariates(X, [len(one) for one in series], OF_VALUES)
        windows = self._forecasting.windows
        total = 0.0
        for i, (one, tail) in enumerate(zip(series, self._tails, strict=True)):
            label = "y" if alone else f"y[{i}]"
            if not len(one):
                raise ValueError(f"{label}: expected at least one value, got none")
            check_log(label, one, self._forecasting.scales[i].log)
            z = np.concatenate([tail.z, self._forecasting.scales[i].apply(one)])
            rows = np.concatenate([tail.covariates, self._forecasting.scaled(known[i])])
            # Beyond the end no covariates are known; the last ones stand for what is not judged.
            rows = np.concatenate([rows, np.repeat(rows[-1:], windows.ahead, axis=0)])
            whole = History(z, rows, tail.begin)
            error = 0.0
            for t in range(0, len(one), self._steps):
                n = min(self._steps, len(one) - t)
                ahead = n if self._forecasting.recursive else windows.ahead
                made, _ = fitted.after([i], [whole.part(t, t + windows.reach, ahead)], n)
                error += float(np.abs(made[0] - one[t : t + n]).sum())
            total += mase(error / len(one), self.mase_scale_[i])
        return -total / len(series)

    def backtest(
        self,
        y: Any,
        folds: int,
        X: Any = None,
        *,
        step: int | None = None,
        period: int | None = None,
    ) -> Backtest:
        """Forecasts of the end of y, each by a copy fitted to what came before: expanding windows.

        Fold k of F ends at T - (F - 1 - k) step, and its last `horizon` values are forecast.

        Parameters
        ----------
        y : as for `fit`
        folds : int
            F.
        X : as for `fit`, optional
        step : int, optional
            By how many values a fold's history is longer than the one's before; `horizon` by
            default, with which no value is forecast twice.
        period : int, optional
            Of the seasonal naive forecast to stand beside; `seasonal` by default.

        Returns
        -------
        Backtest
            `print` shows MAE and MASE of the forecaster and of the naive forecasts.
        """
        self._check_parameters()
        folds, H = check_positive_int("folds", folds), int(self.horizon)
        step = H if step is None else check_positive_int("step", step)
        period = self.seasonal if period is None else check_int("period", period, 2)
        series, alone = read_series("y", y)
        rows = [len(one) for one in series]
        known = None if X is None else read_covariates(
            "X", X, rows, alone, OF_VALUES
        )  # fmt: skip
        least = (folds - 1) * step + H + max(2, period or 0)
        for i, one in enumerate(series):
            if len(one) < least:
                raise ValueError(
                    f"{'y' if alone else f'y[{i}]'}: expected at least {least} values for {folds} "
                    f"folds of {H}, {step} apart, got {len(one)}"
                )
        made = []
        for k in range(folds):
            ends = [len(one) - H - (folds - 1 - k) * step for one in series]
            past = [one[:end] for one, end in zip(series, ends, strict=True)]
            model = clone(self).set_params(warm_start=False)
            before, after = None, None
            if known is not None:
                before = _form([x[:end] for x, end in zip(known, ends, strict=True)], alone)
                after = _form([x[e : e + H] for x, e in zip(known, ends, strict=True)], alone)
            model.fit(_form(past, alone), before)
            points, levels = model._forecasts.forecast(
                None, after, None, quantiles=bool(self._levels())
            )
            actual = [one[end : end + H] for one, end in zip(series, ends, strict=True)]
            made.append((past, actual, points, levels))
        return collect(made, self._levels(), period)


def _form(series: list[Array], alone: bool) -> Any:
    return series[0] if alone else series
