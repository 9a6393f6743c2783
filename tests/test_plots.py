"""Plots, drawn without a screen: what lines and texts say is what was given."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import matplotlib

from fastrnn import Seq2Seq
from fastrnn.plots import (
    plot_alignment,
    plot_attention,
    plot_confusion,
    plot_forecast,
    plot_history,
)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def no_screen() -> Iterator[None]:
    import matplotlib.pyplot as plt

    before = matplotlib.get_backend()
    plt.switch_backend("agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


def texts(ax: object) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_a_history() -> None:
    history = {"loss": [3.0, 2.0, 1.5], "validation_loss": [3.1, 2.2, 2.4], "seconds": [1, 1, 1]}
    ax = plot_history(history)
    training, validation, lowest = ax.get_lines()
    assert training.get_xydata().tolist() == [[1, 3], [2, 2], [3, 1.5]]
    assert validation.get_ydata().tolist() == [3.1, 2.2, 2.4]
    assert lowest.get_xydata().tolist() == [[2, 2.2]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "training", "validation", "lowest",
    ]  # fmt: skip
    again = plot_history({"loss": [1.0]}, ax)
    assert again is ax and len(ax.get_lines()) == 4


@pytest.mark.parametrize("wrong", [3, {}, [1.0, 2.0], object()])
def test_what_has_no_history(wrong: object) -> None:
    with pytest.raises(TypeError, match="estimator_or_history: expected a fitted model"):
        plot_history(wrong)


def test_confusions() -> None:
    right, predicted = list("aabbbc"), list("abbbac")
    ax = plot_confusion(right, predicted)
    assert texts(ax) == ["1", "1", "0", "1", "2", "0", "0", "0", "1"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b", "c"]
    np.testing.assert_array_equal(ax.images[0].get_array(), [[1, 1, 0], [1, 2, 0], [0, 0, 1]])
    ax = plot_confusion(right, predicted, labels=["c", "b", "a"], normalize="true")
    assert texts(ax) == ["1.00", "0.00", "0.00", "0.00", "0.67", "0.33", "0.00", "0.50", "0.50"]
    ax = plot_confusion(right, predicted, normalize="pred")
    assert texts(ax)[:2] == ["0.50", "0.33"]
    ax = plot_confusion(right, predicted, normalize="all")
    assert texts(ax)[:2] == ["0.17", "0.17"]


def test_confusions_of_steps_and_of_numbers() -> None:
    ax = plot_confusion([np.array([0, 1]), np.array([1])], [np.array([0, 0]), np.array([1])])
    assert texts(ax) == ["1", "0", "1", "1"]
    # A class that was never right divides nothing by zero.
    assert (
        texts(plot_confusion([0, 0], [0, 1], normalize="true")) == ["0.50", "0.50"] + ["0.00"] * 2
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [1]), "y_pred: expected 2 classes, got 1"),
        ((np.ones((2, 2)), [1]), r"y_true: expected classes, \(n,\), got shape \(2, 2\)"),
    ],
)
def test_confusions_that_are_none(arguments: tuple[object, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_confusion(*arguments)
    with pytest.raises(ValueError, match="normalize: expected one of 'true'"):
        plot_confusion([1], [1], normalize="rows")
    with pytest.raises(ValueError, match=r"labels: .* got none for \[2\]"):
        plot_confusion([1], [2], labels=[1])


def test_attention_as_weights() -> None:
    weights = np.array([0.1, 0.7, 0.2])
    ax = plot_attention(weights, labels=["a", "good", "film"])
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], weights)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "good", "film"]
    ax = plot_attention(weights, ["a", "good", "film"])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "good", "film"]
    ax = plot_attention(weights, "abc")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b", "c"]
    ax = plot_attention(weights, np.arange(6).reshape(3, 2))
    behind = ax.figure.axes[1]
    assert [line.get_ydata().tolist() for line in behind.get_lines()] == [[0, 2, 4], [1, 3, 5]]
    assert plot_attention(weights, ax=ax) is ax
    with pytest.raises(ValueError, match="labels: expected 3, one for each step, got 2"):
        plot_attention(weights, labels="ab")
    with pytest.raises(ValueError, match="X: expected 3 steps, got 4"):
        plot_attention(weights, np.ones(4))
    with pytest.raises(ValueError, match="estimator_or_weights: expected 1 dimension"):
        plot_attention(np.ones((2, 2)))


def test_of_an_estimator() -> None:
    pytest.importorskip("sklearn")
    from sequences import SMALL, problem

    from fastrnn import RNNClassifier

    X, y = problem()
    model = RNNClassifier(pooling="attention", **SMALL).fit(X, y)
    ax = plot_attention(model, X[3])
    heights = [bar.get_height() for bar in ax.patches]
    np.testing.assert_allclose(heights, model.attention_weights(X[3:4])[0])
    turned = RNNClassifier(pooling="attention", input_layout="ndt", **SMALL)
    ax = plot_attention(turned.fit(X.transpose(0, 2, 1), y), X[3].T)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], heights)
    assert len(ax.figure.axes[1].get_lines()) == 2
    assert plot_history(model).get_lines()[0].get_ydata().tolist() == model.loss_curve_
    assert sum(map(int, texts(plot_confusion(y, model.predict(X))))) == len(y)
    with pytest.raises(ValueError, match="X: expected a sequence to weigh, got None"):
        plot_attention(model)
    with pytest.raises(ValueError, match="expected an estimator with pooling='attention', got RNN"):
        plot_attention(RNNClassifier(), X[0])


def test_without_matplotlib() -> None:
    code = """
import sys
sys.modules["matplotlib"] = None
from fastrnn import plots
for call in (lambda: plots.plot_history({"loss": [1.0]}), lambda: plots.plot_confusion([1], [1]),
             lambda: plots.plot_attention([1.0])):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (
        done.stdout.splitlines()
        == ["fastrnn.plots needs matplotlib: pip install 'fastrnn[plot]'"] * 3
    )


def test_a_forecast() -> None:
    quantiles = np.array([[3.0, 3.5, 4.5, 5.0], [3.5, 4.0, 6.0, 6.5]])
    ax = plot_forecast([1, 2, 3], [4, 5], quantiles, actual=[4.5])
    history, actual, forecast = ax.get_lines()
    assert history.get_xydata().tolist() == [[0, 1], [1, 2], [2, 3]]
    assert actual.get_xydata().tolist() == [[3, 4.5]]
    assert forecast.get_xydata().tolist() == [[3, 4], [4, 5]]
    outer, inner = (band.get_paths()[0].vertices.tolist() for band in ax.collections)
    for corner in ([3, 3], [3, 5], [4, 3.5], [4, 6.5]):
        assert corner in outer
    for corner in ([3, 3.5], [3, 4.5], [4, 4], [4, 6]):
        assert corner in inner
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "history", "quantiles", "actual", "forecast",
    ]  # fmt: skip


def test_a_forecast_with_a_middle_quantile_and_the_end_of_its_history() -> None:
    ax = plot_forecast(np.arange(10), [4, 5], [[3, 4, 6], [3, 4, 7]], last=3)
    history, middle, _ = ax.get_lines()
    assert history.get_xdata().tolist() == [7, 8, 9]
    assert middle.get_xydata().tolist() == [[10, 4], [11, 4]]
    assert len(ax.collections) == 1
    assert plot_forecast([1, 2], [3], ax=ax) is ax
    assert len(ax.collections) == 1


def test_forecasts_that_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match=r"history: expected 1 dimension \(T,\), got 2"):
        plot_forecast([[1, 2]], [3])
    with pytest.raises(ValueError, match=r"quantiles: expected shape \(1, at least 2\).*\(2, 2\)"):
        plot_forecast([1, 2], [3], [[1, 2], [3, 4]])
    with pytest.raises(ValueError, match="last: expected an integer of at least 1, got 0"):
        plot_forecast([1, 2], [3], last=0)


def test_an_alignment_has_a_row_for_each_token_of_the_target() -> None:
    weights = np.array([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]])
    ax = plot_alignment(weights, "the cat sat", ["le", "chat"])
    assert np.array_equal(ax.images[0].get_array(), weights)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["the", "cat", "sat"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["le", "chat"]
    assert plot_alignment(weights, ax=ax) is ax
    with pytest.raises(ValueError, match="source: expected 3 tokens, one for each step, got 1"):
        plot_alignment(weights, "ab")
    model = Seq2Seq(hidden_size=4, random_state=0).initialize(list("abc"), list("xy"))
    model.layers_["output"].params["bias"][1] = -100.0  # an output has no end but its limit
    (output,) = model.predict(["cab"], max_length=5)
    assert len(output) == 5
    ax = plot_alignment(model, "cab", output)
    assert np.array_equal(ax.images[0].get_array(), model.attention_[0].astype(float))
    assert [label.get_text() for label in ax.get_xticklabels()] == ["c", "a", "b"]
    with pytest.raises(ValueError, match="source: expected a text to read, got None"):
        plot_alignment(model)
    model.layers_["output"].params["bias"][1] = 100.0
    with pytest.raises(ValueError, match="target: expected at least one token, got none"):
        plot_alignment(model, "cab")
