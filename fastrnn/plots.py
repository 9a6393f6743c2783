"""Pictures of training and of answers, with matplotlib (``pip install fastrnn[plot]``).

Each function draws into axes, new ones unless some are given, and returns them. None of them shows
or saves a figure: that is ``ax.figure.savefig(path)`` or ``matplotlib.pyplot.show()``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import as_real_array, check_option, check_positive_int, describe

__all__ = ["plot_alignment", "plot_attention", "plot_confusion", "plot_forecast", "plot_history"]

Array = NDArray[Any]


def _axes(ax: Any, **options: Any) -> Any:
    """`ax`, or new ones."""
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("fastrnn.plots needs matplotlib: pip install 'fastrnn[plot]'") from error
    return plt.subplots(**options)[1]


def plot_history(estimator_or_history: Any, ax: Any = None) -> Any:
    """Draw the losses over the epochs.

    Parameters
    ----------
    estimator_or_history : fitted model, or its ``history_``
        Whatever has ``history_``, or a mapping with a list ``"loss"`` and maybe a list
        ``"validation_loss"``, whose lowest value is marked.
    ax : matplotlib axes, optional

    Returns
    -------
    matplotlib axes

    Raises
    ------
    TypeError
        If there is no history.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> from fastrnn.plots import plot_history
    >>> history = {"loss": [3.0, 2.0, 1.5], "validation_loss": [3.1, 2.2, 2.4]}
    >>> ax = plot_history(history)  # doctest: +SKIP
    """
    history = getattr(estimator_or_history, "history_", estimator_or_history)
    if not isinstance(history, Mapping) or "loss" not in history:
        raise TypeError(
            "estimator_or_history: expected a fitted model or a history with 'loss', "
            f"got {describe(estimator_or_history)}"
        )
    ax = _axes(ax)
    for name, label in (("loss", "training"), ("validation_loss", "validation")):
        losses = np.asarray(history.get(name, ()), dtype=float)
        if not len(losses):
            continue
        epochs = np.arange(1, len(losses) + 1)
        (line,) = ax.plot(epochs, losses, label=label)
        if name == "validation_loss":
            best = int(losses.argmin())
            ax.plot(epochs[best], losses[best], "o", color=line.get_color(), label="lowest")
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss")
    ax.legend()
    return ax


def plot_confusion(
    y_true: Any, y_pred: Any, *, labels: Any = None, normalize: str | None = None, ax: Any = None
) -> Any:
    """Draw how often each class was taken for each other one.

    Parameters
    ----------
    y_true, y_pred : array (n,), or lists of arrays (T_i,)
        Right and predicted classes; of lists, as a tagger gives them, the steps count.
    labels : array (K,), optional
        Classes to show, in this order; by default all that occur, sorted.
    normalize : {"true", "pred", "all"}, optional
        Divide by how often a class is right, is predicted, or by the number of all; by default
        the counts stand there.
    ax : matplotlib axes, optional

    Returns
    -------
    matplotlib axes
        A row for each right class, a column for each predicted one.

    Raises
    ------
    ValueError
        If there are not as many predictions as classes, or a class is not among `labels`.
    ImportError
        If matplotlib is not installed.
    """
    if normalize is not None:
        check_option("normalize", normalize, ("true", "pred", "all"))
    right, predicted = _flat("y_true", y_true), _flat("y_pred", y_pred)
    if len(right) != len(predicted):
        raise ValueError(f"y_pred: expected {len(right)} classes, got {len(predicted)}")
    both = np.concatenate([right, predicted])
    names = np.unique(both) if labels is None else np.asarray(labels)
    number = {name: i for i, name in enumerate(names.tolist())}
    missing = sorted(set(both.tolist()) - set(number), key=str)
    if missing:
        raise ValueError(f"labels: expected all classes that occur, got none for {missing[:10]}")
    counts = np.zeros((len(names), len(names)))
    np.add.at(
        counts,
        ([number[name] for name in right.tolist()], [number[name] for name in predicted.tolist()]),
        1,
    )
    shown = counts
    if normalize is not None:
        axis = {"true": 1, "pred": 0, "all": None}[normalize]
        total = counts.sum(axis=axis, keepdims=True)
        shown = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    ax = _axes(ax)
    ax.imshow(shown, cmap="Blues", vmin=0)
    dark = shown.max(initial=0) / 2
    for (i, j), value in np.ndenumerate(shown):
        text = f"{value:.0f}" if normalize is None else f"{value:.2f}"
        color = "white" if value > dark else "black"
        ax.text(j, i, text, ha="center", va="center", color=color)
    ticks = np.arange(len(names))
    ax.set_xticks(ticks, [str(name) for name in names], rotation=45, ha="right")
    ax.set_yticks(ticks, [str(name) for name in names])
    ax.set_xlabel("predicted class")
    ax.set_ylabel("right class")
    return ax


def _flat(name: str, y: Any) -> Array:
    """One array of classes, of a list's arrays one after the other."""
    if isinstance(y, (list, tuple)) and len(y) and np.ndim(y[0]):
        y = np.concatenate([np.asarray(one) for one in y])
    y = np.asarray(y)
    if y.ndim != 1:
        raise ValueError(f"{name}: expected classes, (n,), got shape {y.shape}")
    return y


def plot_attention(
    estimator_or_weights: Any, X: Any = None, *, labels: Any = None, ax: Any = None
) -> Any:
    """Draw how much each step of a sequence weighs, with the sequence itself behind it.

    Parameters
    ----------
    estimator_or_weights : fitted estimator with ``pooling="attention"``, or array (T,)
        An estimator tells the weights of `X` by its ``attention_weights``.
    X : one sequence, optional
        An array (T, D) or (T,), or what else the estimator takes one of. With weights it may be
        left out.
    labels : sequence of T str, optional
        What the steps are called; by default their numbers, and the tokens of a list of tokens.
    ax : matplotlib axes, optional

    Returns
    -------
    matplotlib axes
        Bars of the weights; channels as lines on a scale of their own.

    Raises
    ------
    ValueError
        If there is not one weight for each step, or the estimator has no attention.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.plots import plot_attention
    >>> weights = np.array([0.1, 0.7, 0.2])
    >>> ax = plot_attention(weights, labels=["a", "good", "film"])  # doctest: +SKIP
    """
    weights = estimator_or_weights
    if hasattr(weights, "get_params"):
        if not hasattr(weights, "attention_weights"):
            raise ValueError(
                "estimator_or_weights: expected an estimator with pooling='attention', "
                f"got {weights!r}"
            )
        if X is None:
            raise ValueError("X: expected a sequence to weigh, got None")
        weights = weights.attention_weights([X])[0]
    weights = as_real_array("estimator_or_weights", weights, np.float64, ndim=1, axes="(T,)")
    if labels is None and isinstance(X, str) and len(X) == len(weights):
        labels = list(X)
    if labels is None and isinstance(X, (list, tuple)) and any(isinstance(x, str) for x in X):
        labels, X = X, None
    steps = np.arange(len(weights))
    if labels is not None and len(labels) != len(weights):
        raise ValueError(f"labels: expected {len(weights)}, one for each step, got {len(labels)}")
    channels = None
    if X is not None and not isinstance(X, str):
        channels = as_real_array("X", X, np.float64)
        if channels.ndim == 2 and channels.shape[0] != len(weights) == channels.shape[1]:
            channels = channels.T  # (D, T) of an estimator with input_layout="ndt"
        if len(channels) != len(weights):
            raise ValueError(f"X: expected {len(weights)} steps, got {len(channels)}")
    ax = _axes(ax)
    ax.bar(steps, weights, color="tab:orange", alpha=0.6, width=0.9)
    ax.set_xlabel("step t")
    ax.set_ylabel("weight")
    if labels is not None:
        ax.set_xticks(steps, [str(label) for label in labels], rotation=45, ha="right")
    if channels is not None:
        behind = ax.twinx()
        behind.plot(steps, channels, linewidth=1)
        behind.set_ylabel("x_t")
    return ax


def plot_alignment(
    model_or_weights: Any, source: Any = None, target: Any = None, *, ax: Any = None
) -> Any:
    """Draw which tokens of a source each token of its target attends to.

    Parameters
    ----------
    model_or_weights : fitted Seq2Seq, or array (T_out, T_source)
        A model tells the weights by its ``attention_weights``.
    source, target : str or list of tokens, optional
        One text each. With a model `source` is needed, and `target` is by default what it predicts;
        with weights they are what the axes say, a str character by character where it has one for
        each step, else word by word.
    ax : matplotlib axes, optional

    Returns
    -------
    matplotlib axes
        A row for each token of the target, from the top; the darker, the larger the weight.

    Raises
    ------
    ValueError
        If there is not one token for each row and column, or the model has no attention.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> from fastrnn.plots import plot_alignment
    >>> weights = [[0.1, 0.9], [0.8, 0.2]]
    >>> ax = plot_alignment(weights, "ab", "ba")  # doctest: +SKIP
    """
    weights = model_or_weights
    if hasattr(weights, "attention_weights"):
        if source is None:
            raise ValueError("source: expected a text to read, got None")
        if target is None:
            target = weights.predict([source])[0]
        weights = weights.attention_weights([source], [target])[0]
    weights = as_real_array(
        "model_or_weights", weights, np.float64, ndim=2, axes="(T_out, T_source)"
    )
    for name, count in zip(("target", "source"), weights.shape, strict=True):
        if not count:
            raise ValueError(f"{name}: expected at least one token, got none")
    labels = [
        _tokens(name, text, count)
        for name, text, count in zip(
            ("target", "source"), (target, source), weights.shape, strict=True
        )
    ]
    ax = _axes(ax)
    ax.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.set_ylabel("target")
    ax.set_xlabel("source")
    if labels[0] is not None:
        ax.set_yticks(np.arange(len(labels[0])), labels[0])
    if labels[1] is not None:
        ax.set_xticks(np.arange(len(labels[1])), labels[1], rotation=45, ha="right")
    return ax


def _tokens(name: str, text: Any, count: int) -> list[str] | None:
    """A text as so many tokens."""
    if text is None:
        return None
    tokens = list(text)
    if isinstance(text, str) and len(text) != count:
        tokens = text.split()
    if len(tokens) != count:
        raise ValueError(f"{name}: expected {count} tokens, one for each step, got {len(tokens)}")
    return tokens


def plot_forecast(
    history: Any,
    forecast: Any,
    quantiles: Any = None,
    *,
    actual: Any = None,
    last: int | None = None,
    ax: Any = None,
) -> Any:
    """Draw a series, its forecast, and the band between the outer quantiles.

    Parameters
    ----------
    history : array (T,)
        What came before, one series.
    forecast : array (n,)
        As `fastrnn.Forecaster.predict` gives it.
    quantiles : array (n, Q), optional
        As `fastrnn.Forecaster.predict_quantiles` gives them, Q at least 2: the first and the last
        are a band, those next to them a darker one, and so on; one in the middle is a line.
    actual : array (m,), optional
        What came then.
    last : int, optional
        Show only so many values of the history.
    ax : matplotlib axes, optional

    Returns
    -------
    matplotlib axes
        Steps are numbered from the beginning of the history.

    Raises
    ------
    ValueError
        If shapes are not those above.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> from fastrnn.plots import plot_forecast
    >>> band = [[3.5, 4.5], [4.2, 5.8]]
    >>> ax = plot_forecast([1, 2, 3], [4, 5], band)  # doctest: +SKIP
    """
    history = as_real_array("history", history, np.float64, ndim=1, axes="(T,)")
    forecast = as_real_array("forecast", forecast, np.float64, ndim=1, axes="(n,)")
    T, n = len(history), len(forecast)
    if quantiles is not None:
        quantiles = as_real_array("quantiles", quantiles, np.float64, ndim=2, axes="(n, Q)")
        if len(quantiles) != n or quantiles.shape[1] < 2:
            raise ValueError(
                f"quantiles: expected shape ({n}, at least 2), a row for each step forecast, "
                f"got {quantiles.shape}"
            )
    if actual is not None:
        actual = as_real_array("actual", actual, np.float64, ndim=1, axes="(m,)")
    first = 0 if last is None else max(0, T - check_positive_int("last", last))
    ax = _axes(ax)
    ax.plot(np.arange(first, T), history[first:], color="black", label="history")
    steps = np.arange(T, T + n)
    if quantiles is not None:
        Q = quantiles.shape[1]
        for i in range(Q // 2):
            label = "quantiles" if i == 0 else None
            ax.fill_between(
                steps, quantiles[:, i], quantiles[:, Q - 1 - i], color="tab:blue", alpha=0.2,
                linewidth=0, label=label,
            )  # fmt: skip
        if Q % 2:
            ax.plot(steps, quantiles[:, Q // 2], ":", color="tab:blue", label="middle quantile")
    if actual is not None:
        ax.plot(np.arange(T, T + len(actual)), actual, "--", color="black", label="actual")
    ax.plot(steps, forecast, color="tab:blue", label="forecast")
    ax.set_xlabel("step t")
    ax.set_ylabel("y_t")
    ax.legend()
    return ax
