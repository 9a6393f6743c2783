"""An output layer that shares its weight with an embedding."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import FormatError, LanguageModel, losses, optim, tensorfile
from fastrnn.language.network import Network
from fastrnn.layers.tied import TiedLinear
from fastrnn.training.minibatches import Streams

TEXT = "the cat sat on the mat, the dog ate the cat. " * 4
SMALL: dict[str, Any] = {
    "hidden_size": 9,
    "embedding_dim": 9,
    "tbptt_steps": 7,
    "max_iter": 2,
    "random_state": 0,
    "tie_weights": True,
}


@pytest.fixture
def embedding() -> fastrnn.Embedding:
    return fastrnn.Embedding(7, 4, dtype="float64", random_state=0)


def weights(model: LanguageModel) -> Any:
    return model.layers_["embedding"].params["weight"]


def test_the_layer_is_its_formula(embedding: fastrnn.Embedding) -> None:
    tied = TiedLinear(embedding)
    tied.params["bias"][...] = np.arange(7)
    x = np.random.default_rng(0).standard_normal((3, 2, 4))
    table = embedding.params["weight"]
    expected = x @ table.T + np.arange(7)
    np.testing.assert_allclose(tied(x), expected, rtol=1e-12)
    y, backward = tied.forward(x)
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    np.testing.assert_allclose(backward(dy), dy @ table, rtol=1e-12)
    rows, drows = x.reshape(-1, 4), dy.reshape(-1, 7)
    np.testing.assert_allclose(embedding.grads["weight"], drows.T @ rows, rtol=1e-12)
    np.testing.assert_allclose(tied.grads["bias"], drows.sum(axis=0), rtol=1e-12)
    table[2] = 1.0  # what is written into the one is read by the other
    np.testing.assert_allclose(tied(x)[..., 2], x.sum(axis=-1) + 2, rtol=1e-12)
    assert TiedLinear(embedding, bias=False).params == {}
    with pytest.raises(TypeError, match="embedding: expected an Embedding, got"):
        TiedLinear(fastrnn.Linear(3, 4))  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [5, 1300])
def test_cross_entropy_in_one_chunk_and_in_several(embedding: fastrnn.Embedding, rows: int) -> None:
    rng = np.random.default_rng(0)
    plain = fastrnn.Linear(4, 7, dtype="float64")
    plain.params["weight"][...] = embedding.params["weight"]
    plain.params["bias"][...] = 0.0
    tied = TiedLinear(embedding)
    x, targets = rng.standard_normal((rows, 4)), rng.integers(7, size=rows)
    for reduction in ("mean", "sum"):
        expected, back = losses.linear_cross_entropy(plain, x, targets, reduction=reduction)
        found, tied_back = losses.linear_cross_entropy(tied, x, targets, reduction=reduction)
        assert found == expected
        assert back is not None
        assert tied_back is not None
        assert np.array_equal(tied_back(0.5), back(0.5))
    assert np.array_equal(embedding.grads["weight"], plain.grads["weight"])
    assert np.array_equal(tied.grads["bias"], plain.grads["bias"])


def test_what_is_shared_counts_once(embedding: fastrnn.Embedding) -> None:
    layers: list[Any] = [embedding, TiedLinear(embedding)]
    assert sum(layer.num_parameters for layer in layers) == 7 * 4 + 7
    embedding.grads["weight"][...] = 3.0
    assert fastrnn.clip_grad_norm(layers, np.inf) == pytest.approx(3 * np.sqrt(28))
    before = embedding.params["weight"].copy()
    optim.SGD(layers, 0.1).step()
    np.testing.assert_allclose(embedding.params["weight"], before - 0.3, rtol=1e-12)


def test_gradients_are_those_of_finite_differences() -> None:
    """Of the table, which is read and predicted with; both of its gradients are there."""
    model = LanguageModel(**SMALL, dtype="float64", batch_size=2, num_layers=2).fit(TEXT)
    batch = Streams(model.vocabulary_.encode("the cat sat on"), 2, 6).batch(np.arange(1), 0)
    network = Network(model.layers_, 0.0, np.random.default_rng(0))
    for layer in network.layers:
        layer.zero_grad()
    network.learn(batch, None)
    table, gradient = weights(model), model.layers_["embedding"].grads["weight"]
    rng = np.random.default_rng(1)
    for i, j in zip(rng.integers(len(table), size=12), rng.integers(9, size=12), strict=True):
        kept, ends = table[i, j], []
        for side in (1e-5, -1e-5):
            table[i, j] = kept + side
            ends.append(network.assess(batch, None)[0])
        table[i, j] = kept
        assert gradient[i, j] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-9)


def test_a_tied_model_has_one_array(tmp_path: Path) -> None:
    model = LanguageModel(**SMALL, alpha=0.01).fit(TEXT)
    n, output = len(model.vocabulary_), model.layers_["output"]
    assert set(output.params) == {"bias"}
    assert output.embedding is model.layers_["embedding"]
    recurrent = model.layers_["rnn"].num_parameters
    total = sum(layer.num_parameters for layer in model.layers_.values())
    assert total == n * 9 + n + recurrent
    path = tmp_path / "model"
    model.save(path)
    assert path.stat().st_size < 4 * total + 4000, "the table is written once"
    for again in (fastrnn.load(path), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert again.layers_["output"].embedding is again.layers_["embedding"]
        assert np.array_equal(again.log_prob(TEXT), model.log_prob(TEXT))
        weights(again)[...] = 0.0
        assert again.log_prob("the")[0] != model.log_prob("the")[0]
        again.set_params(warm_start=True).fit(TEXT)
        assert again.n_iter_ == 4


CHANGES: list[tuple[list[str], Any, str]] = [
    (["type"], "Linear", "expected"),
    (["config", "bias"], False, "bias: expected no such array"),
    (["config", "bias"], 3, "bias: expected True or False"),
    (["config", "embedding"], "x", "config: expected bias alone"),
    (["config"], [], "config: expected bias alone"),
]


@pytest.mark.parametrize(("way", "value", "message"), CHANGES, ids=range(len(CHANGES)))
def test_a_file_that_does_not_fit_itself_is_refused(
    tmp_path: Path, way: list[str], value: Any, message: str
) -> None:
    path = tmp_path / "model"
    LanguageModel(**SMALL).fit(TEXT).save(path)
    tensors, metadata = tensorfile.read(path)
    described = json.loads(metadata["model"])
    inner = described["layers"]["output"]
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = value
    tensorfile.write(path, tensors, {**metadata, "model": json.dumps(described)})
    with pytest.raises(FormatError, match=message):
        fastrnn.load(path)


def test_a_tied_layer_is_copied_with_its_embedding(embedding: fastrnn.Embedding) -> None:
    tied = TiedLinear(embedding)
    tied.params["bias"][...] = 1.0
    other, table = pickle.loads(pickle.dumps((tied, embedding)))
    assert other.embedding is table
    assert np.array_equal(other.params["bias"], tied.params["bias"])
    with pytest.raises(TypeError, match="obj: expected one of"):
        tied.save("nowhere")


def test_a_tied_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    path = tmp_path / "run"

    class Stop:
        left = 9

        def after_step(self, state: Any) -> None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    options = {**SMALL, "max_iter": 4, "dropout": 0.3, "solver": "adam", "batch_size": 4}
    with pytest.warns(UserWarning, match="interrupted"):
        LanguageModel(**options, checkpoint=path, callbacks=Stop()).fit(TEXT)
    resumed = LanguageModel(**options, checkpoint=path).fit(TEXT, resume=True)
    whole = LanguageModel(**options).fit(TEXT)
    assert weights(resumed).tobytes() == weights(whole).tobytes()
    assert resumed.history_["loss"] == whole.history_["loss"]


def test_the_sizes_must_fit() -> None:
    model = LanguageModel(hidden_size=8, embedding_dim=9, tie_weights=True)
    with pytest.raises(ValueError, match="embedding_dim: expected hidden_size=8 with tie_weights"):
        model.fit(TEXT)
    with pytest.raises(TypeError, match="tie_weights: expected True or False"):
        LanguageModel(tie_weights="yes").fit(TEXT)  # type: ignore[arg-type]
