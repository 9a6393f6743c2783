"""Code as users write it, which ``mypy --strict`` must pass against the installed package.

`assert_type` says what they need to know of results. Each ``type: ignore`` stands at a mistake that
a checker must find: where it finds none, mypy complains of the comment. It also runs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import fastrnn
from fastrnn import losses, metrics, optim

TEXT = "the quick brown fox jumps over the lazy dog. " * 8


def layers(rng: np.random.Generator) -> fastrnn.Linear:
    """Forward and back through layers of one's own choice."""
    lstm = fastrnn.LSTM(3, 5, num_layers=2, bidirectional=True, random_state=0)
    x = rng.standard_normal((2, 7, 3), dtype=np.float32)
    y, (h, c) = lstm(x, lengths=[7, 4])
    assert_type(y.shape, tuple[int, ...])
    y, _, backward = lstm.forward(x, (h, c))
    assert_type(y.shape, tuple[int, ...])

    linear = fastrnn.Linear(lstm.output_size, 4, random_state=rng)
    norm = fastrnn.LayerNorm(4)
    logits, linear_backward = linear.forward(y)
    assert_type(norm(fastrnn.Dropout(0.5)(logits)).ndim, int)
    assert_type(fastrnn.Activation("softmax")(logits).ndim, int)
    assert_type(fastrnn.Embedding(9, 4)(np.arange(9)).ndim, int)
    loss, dlogits = losses.softmax_cross_entropy(logits, np.zeros((2, 7), np.int64))
    assert_type(loss, float)
    dx, (dh, dc) = backward(linear_backward(dlogits))
    assert dx.shape == x.shape and dh.shape == dc.shape == h.shape

    sequences, _ = lstm([x[0], x[1, :3]])
    assert [len(one) for one in sequences] == [7, 3]
    final, _ = fastrnn.Final(fastrnn.GRU(3, 5, reset_after=True))(x)
    assert final.shape == (2, 5)
    assert_type(losses.squared_error(y, np.zeros_like(y))[0], float)
    assert_type(losses.huber(y, np.zeros_like(y), delta=0.5, reduction="sum")[0], float)
    each, _ = losses.absolute_error(y, np.zeros_like(y), reduction="none")
    assert each.shape == y.shape

    assert_type(lstm.grads["weight_hh_l0"], Any)  # of the library where the layer is
    assert_type(lstm.num_parameters, int)
    lstm.params["bias_ih_l0"][...] = 0
    small = fastrnn.RNN(2, 3, dtype="float64")
    assert_type(fastrnn.gradient_check(small, rng.standard_normal((1, 3, 2))), dict[str, float])
    return linear


def training(rng: np.random.Generator) -> float:
    """A loop of one's own."""
    body = fastrnn.Sequential(fastrnn.Embedding(50, 8), fastrnn.GRU(8, 16))
    output = fastrnn.Linear(16, 50)
    optimizer: optim.Optimizer = optim.SGD([body, output], learning_rate=0.1, momentum=0.9)
    optimizer = optim.Adam([body, output], learning_rate=0.01)
    tokens = rng.integers(0, 50, (4, 9))
    for step in range(3):
        h, _, backward = body.forward(tokens[:, :-1])
        loss, loss_backward = losses.linear_cross_entropy(output, h, tokens[:, 1:])
        backward(loss_backward())
        assert_type(fastrnn.clip_grad_norm([body, output], max_norm=5.0), float)
        optimizer.learning_rate = 0.01 / (1 + step)
        optimizer.step()
        optimizer.zero_grad()
    assert_type(loss, float)
    told, nothing = losses.linear_cross_entropy(output, h, tokens[:, 1:], gradient=False)
    assert_type(told, float)
    assert_type(nothing, None)
    assert_type(optimizer.state_dict(), dict[str, np.ndarray])
    return metrics.perplexity(loss)


def streams(rng: np.random.Generator) -> None:
    """Step by step, for some sequences and for thousands."""
    causal = fastrnn.LSTM(3, 5, random_state=0).prepare()
    assert_type(causal, fastrnn.LSTM)
    x = rng.standard_normal((2, 7, 3))
    stream = causal.stream(batch_size=2)
    assert_type(stream.step(x[:, 0]).ndim, int)
    assert_type(stream.push(x[:, 1:]).ndim, int)
    stream.reset([0])

    pool = fastrnn.StreamPool(causal, capacity=8)
    key, keys = pool.open(), pool.open(2)
    assert_type(key, int)
    assert_type(keys, NDArray[np.int64])
    assert_type(pool.step(keys, x[:, 0]).ndim, int)
    pool.submit(key, x[0])
    assert_type(pool.run(), dict[int, Any])
    pool.close(keys)
    with fastrnn.threads(2):
        assert_type(fastrnn.get_num_threads(), int)
    fastrnn.set_gemm(None)
    assert_type(fastrnn.isas(), list[str])


def texts(folder: Path) -> Iterator[str]:
    """A language model, kept in a file, and one text made of another."""
    model = fastrnn.LanguageModel("char", hidden_size=8, max_iter=1, random_state=0).fit(TEXT)
    assert_type(model, fastrnn.LanguageModel)
    assert_type(model.perplexity(TEXT), float)
    assert_type(model.log_prob(TEXT), NDArray[np.float64])
    assert_type(model.generate(5, prompt="the ", temperature=0.5, seed=0), str)
    assert_type(model.generate(5, stream=True, seed=0), Iterator[str])
    model.save(folder / "model.safetensors")
    again: fastrnn.LanguageModel = fastrnn.load(folder / "model.safetensors", check_finite=True)
    assert_type(again.score(TEXT), float)

    pairs = {"one": "1", "two": "2", "three": "3"}
    numbers = fastrnn.Seq2Seq(hidden_size=8, max_iter=1, random_state=0)
    numbers = numbers.fit(list(pairs), list(pairs.values()))
    assert_type(numbers.predict(["two"]), list[Any])
    found, scores = numbers.predict(["two", "one"], beam_size=2, return_scores=True)
    assert_type(scores, NDArray[np.float64])
    best, _ = numbers.predict(["two"], beam_size=2, n_best=2, return_scores=True)
    assert_type(best, list[list[Any]])
    assert_type(metrics.bleu(found, ["2", "1"]), float)
    assert_type(metrics.edit_distance("two", "one", normalized=True), float)
    return again.generate(3, stream=True, seed=1)


def estimators(rng: np.random.Generator, folder: Path) -> None:
    """A classifier that serves without scikit-learn."""
    X = [rng.standard_normal((n, 2)) for n in (5, 3, 4, 6)]
    classifier = fastrnn.RNNClassifier(cell="gru", hidden_size=4, max_iter=2, random_state=0)
    classifier = classifier.fit(X, ["up", "down", "up", "down"])
    assert_type(classifier, fastrnn.RNNClassifier)
    assert_type(classifier.to("cpu").device, str)
    assert_type(classifier.predict(X), NDArray[Any])
    assert_type(classifier.predict_proba(X), NDArray[Any])
    classifier.save(folder / "classifier.safetensors")
    predictor = fastrnn.Predictor.load(folder / "classifier.safetensors")
    assert_type(predictor.to("cpu"), fastrnn.Predictor)
    assert (predictor.predict(X) == classifier.predict(X)).all()
    assert_type(predictor.stream(answer="predict_proba").step(X[0][:1]), NDArray[Any])
    regressor = fastrnn.RNNRegressor(hidden_size=4, max_iter=2).fit(X, np.arange(4.0))
    assert_type(regressor.score(X, np.arange(4.0)), float)


def mistakes(x: NDArray[np.float32], model: fastrnn.LanguageModel) -> None:
    """What a checker must not let pass; nobody calls it."""
    fastrnn.LSTM("3", 5)  # type: ignore[arg-type]
    fastrnn.GRU(3)  # type: ignore[call-arg]
    fastrnn.LSTM(3, 5, reset_after=True)  # type: ignore[call-arg]
    fastrnn.LSTN(3, 5)  # type: ignore[attr-defined]
    fastrnn.set_gemm("mkl")  # type: ignore[arg-type]
    layer = fastrnn.GRU(3, 5)
    _, _ = layer.forward(x)  # type: ignore[misc]
    layer.params["weight_hh_l0"] = x  # type: ignore[index]
    str(layer(x)[0].shap)  # type: ignore[attr-defined]
    layer.stream(batch_size=2.5)  # type: ignore[arg-type]
    str(losses.squared_error(x, x)[0].shape)  # type: ignore[attr-defined]
    _, backward = losses.linear_cross_entropy(fastrnn.Linear(3, 2), x, [0], gradient=False)
    backward()  # type: ignore[misc]
    optim.Adam(layer).stepp()  # type: ignore[attr-defined]
    model.perplexity("abc").append(1)  # type: ignore[attr-defined]
    model.generate(5, stream=True).upper()  # type: ignore[attr-defined]
    str(fastrnn.StreamPool(layer).open().shape)  # type: ignore[attr-defined]


def main(folder: Path) -> None:
    """Run all but the mistakes."""
    rng = np.random.default_rng(0)
    layers(rng)
    training(rng)
    streams(rng)
    assert len("".join(texts(folder))) == 3
    estimators(rng, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
