"""Forecasts: twelve months ahead, with a band, judged by how well the past was forecast.

The data are made here, and are like the monthly passengers of an airline: growth in proportion, a
season that grows with it, holidays that move from year to year, noise. `Forecaster` learns the
changes of the logarithm; the holidays are known beforehand.

    python examples/forecast.py --plot forecast.png
"""

from __future__ import annotations

import argparse

import numpy as np

import fastrnn

MONTHS, HORIZON = 168, 12


def make(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Passengers of each month, and whether the spring holidays lie in it."""
    t = np.arange(MONTHS)
    holidays = np.zeros(MONTHS)
    for year in range(0, MONTHS, 12):
        holidays[year + rng.choice([2, 3])] = 1
    season = 0.2 * np.sin(2 * np.pi * (t - 4) / 12) + 0.06 * np.sin(4 * np.pi * t / 12)
    drift = np.cumsum(0.01 + 0.02 * rng.standard_normal(MONTHS))
    noise = 0.02 * rng.standard_normal(MONTHS)
    return 120 * np.exp(drift + season + 0.15 * holidays + noise), holidays


def main() -> dict[str, float]:
    """Print a backtest and a forecast; the mean absolute errors of the backtest."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--plot", metavar="FILE", help="where to draw the forecast")
    chosen = parser.parse_args()

    passengers, holidays = make(np.random.default_rng(0))
    model = fastrnn.Forecaster(
        HORIZON,
        window=24,
        log=True,
        differencing=1,
        seasonal=12,
        quantiles=[0.1, 0.9],
        batch_size=32,
        random_state=0,
    )

    # Six folds, half a year apart, each forecast by a model that has seen what came before it.
    result = model.backtest(passengers, 6, holidays, step=6)
    print(result)

    past = MONTHS - HORIZON
    model.fit(passengers[:past], holidays[:past])
    forecast = model.predict(X=holidays[past:])
    band = model.predict_quantiles(X=holidays[past:])
    print(f"\nmonth  forecast  {'10% to 90%':>14}    came")
    for month, (value, (low, high)) in enumerate(zip(forecast, band, strict=True)):
        came = passengers[past + month]
        print(f"{past + month:5d}  {value:8.0f}  {low:6.0f} to {high:4.0f}  {came:6.0f}")

    # Half a year later: new history, the same model. It begins at the same month of the year.
    known = np.append(holidays[12:], np.zeros(6))
    later = model.predict(X=known, context=passengers[12:-6])
    print(f"six months later: {', '.join(f'{value:.0f}' for value in later)}")

    if chosen.plot:
        import matplotlib as mpl

        mpl.use("agg")
        from fastrnn.plots import plot_forecast

        ax = plot_forecast(passengers[:past], forecast, band, actual=passengers[past:], last=60)
        ax.set_ylabel("passengers")
        ax.figure.savefig(chosen.plot, dpi=120)
    return result.mae


if __name__ == "__main__":
    main()
