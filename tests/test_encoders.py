"""Tokens to vectors: gradients, spellings, unknown tokens in training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from finite_differences import assert_gradients
from test_sequence_network import H, K, grads, learn, network, params

from fastrnn import losses
from fastrnn.engine.batches import Symbols
from fastrnn.sequences.network import SequenceNetwork, Supervised, make_layers, network_specs
from fastrnn.text.encoders import SpellingEncoder, TokenEncoder, Unknowns, spell
from fastrnn.text.vocabulary import Vocabulary
from fastrnn.training.minibatches import Batch

E, C, S = 3, 2, 2  # of a word's vector, a character's, and units that read these
SENTENCES = [["the", "cat", "eats", "the", "fish"], ["fish"], ["the", "", "dog", "eats"]]
WORDS = Vocabulary.from_texts(SENTENCES, "token", max_size=4)
CHARACTERS = Vocabulary.from_texts([w for s in SENTENCES for w in s], "char", min_count=2)


def layers(spelled: bool, dtype: str = "float64") -> dict[str, Any]:
    specs: dict[str, tuple[str, dict[str, Any]]] = {
        "embedding": (
            "Embedding",
            {"num_embeddings": len(WORDS), "embedding_dim": E, "dtype": dtype},
        )
    }
    if spelled:
        config = {"num_embeddings": len(CHARACTERS), "embedding_dim": C, "dtype": dtype}
        specs["char_embedding"] = ("Embedding", config)
        config = {"input_size": C, "hidden_size": S, "bidirectional": True, "dtype": dtype}
        specs["char_rnn"] = ("LSTM", config)
    return make_layers(specs, np.random.default_rng(5))


def model(spelled: bool, pooling: str | None, dropout: float = 0.0, **options: Any) -> Any:
    """A network behind an encoder, and the items it takes."""
    kind = SpellingEncoder if spelled else TokenEncoder
    encoder = kind(layers(spelled), None, dropout, 7)
    parameters = {
        "cell": "gru", "hidden_size": H, "num_layers": 1, "bidirectional": True, "dropout": 0.0,
        "recurrent_dropout": 0.0, "reset_after": False, "nonlinearity": "tanh", "pooling": pooling,
    }  # fmt: skip
    parameters |= options
    specs = network_specs(
        parameters, encoder.width, K, np.dtype("float64"), pooled=pooling is not None
    )
    made = make_layers(specs, np.random.default_rng(3))
    return SequenceNetwork(made, pooling, encoder, 0.0, options.get("tbptt_steps"), 4)


def items(spelled: bool) -> list[Any]:
    if spelled:
        return spell(SENTENCES, WORDS, CHARACTERS)
    return [WORDS.encode(sentence) for sentence in SENTENCES]


def targets(pooling: str | None, rng: np.random.Generator) -> list[tuple[Any, Any]]:
    if pooling is not None:
        return [(int(rng.integers(K)), 1.0 + i) for i in range(len(SENTENCES))]
    return [(rng.integers(0, K, len(s)), rng.uniform(0, 2, len(s))) for s in SENTENCES]


@pytest.mark.parametrize("spelled", [False, True])
@pytest.mark.parametrize(("pooling", "steps"), [(None, None), ("max", None), (None, 2)])
def test_gradients(
    spelled: bool, pooling: str | None, steps: int | None, rng: np.random.Generator
) -> None:
    """Of all layers together, words and characters among them."""
    net = model(spelled, pooling, bidirectional=steps is None, tbptt_steps=steps)
    if steps:  # no state goes from window to window, and so no gradient is cut
        for name, param in net.rnn.params.items():
            if "_hh_" in name:
                param[...] = 0
        net.rnn.params["bias_ih_l0"][H : 2 * H] = -50  # z: nothing of the old state is kept
    batch = Batch(items(spelled), targets(pooling, rng), np.arange(3), True)
    learner = Supervised(net, losses.softmax_cross_entropy)
    learn(net, batch)
    arrays = params(net)
    found = grads(net)
    assert ("char_rnn.weight_hh_l0_reverse" in arrays) == spelled
    if steps:
        arrays = {name: a for name, a in arrays.items() if "hh" not in name}
        found = {name: found[name] for name in arrays}
    assert_gradients(lambda: learner.assess(batch, None)[0], arrays, found, 2e-6)


@pytest.mark.parametrize("spelled", [False, True])
def test_dropout_has_its_gradient(spelled: bool, rng: np.random.Generator) -> None:
    net = model(spelled, None, dropout=0.4)
    drop = net.encoder.drop
    assert any(layer is drop for layer in net.layers), "its calls are counted"
    batch = Batch(items(spelled), targets(None, rng), np.arange(3), True)
    learner = Supervised(net, losses.softmax_cross_entropy)

    def loss() -> float:
        drop.call_count = 0
        return learner.learn(batch, None)[0]

    loss()
    found = {name: g.copy() for name, g in grads(net).items()}
    assert_gradients(loss, params(net), found, 1e-6)
    plain = model(spelled, None)
    np.testing.assert_array_equal(net.outputs(batch.inputs), plain.outputs(batch.inputs))
    assert not np.allclose(net.forward(batch.inputs)[0], plain.outputs(batch.inputs))


def test_symbols_are_the_vectors() -> None:
    """Where nothing is dropped and tokens repeat, each is multiplied once."""
    ids = np.array([[2, 3, 2, 2, 3, 2], [3, 3, 2, 2, 0, 0]])
    encoder = TokenEncoder(layers(False), None, 0.0, 0)
    x, lengths, _ = encoder.forward([ids[0], ids[1, :4]], True)
    assert isinstance(x, Symbols)
    assert lengths.tolist() == [6, 4]
    np.testing.assert_array_equal(x.expand(), encoder.embedding(ids))
    net = network("lstm", "mean", encoder=None)
    assert not isinstance(net.encoder.forward([np.ones((2, 2))], True)[0], Symbols)


def test_spelled_words_have_the_last_states_of_both_directions() -> None:
    encoder = SpellingEncoder(layers(True), None, 0.0, 0)
    x, lengths, _ = encoder.forward(spell(SENTENCES, WORDS, CHARACTERS), False)
    assert x.shape == (3, 5, encoder.width) == (3, 5, E + 2 * S)
    assert lengths.tolist() == [5, 1, 4]
    made = encoder.layers
    for n, sentence in enumerate(SENTENCES):
        for t, word in enumerate(sentence):
            vector = made["embedding"].params["weight"][WORDS.encode([word])[0]]
            spelled = made["char_embedding"](CHARACTERS.encode(word)[None])
            _, (h, _) = made["char_rnn"](spelled)
            expected = np.concatenate([vector, h[0, 0], h[1, 0]])
            np.testing.assert_allclose(x[n, t], expected, rtol=0, atol=1e-14)


def test_each_distinct_word_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = spell(SENTENCES, WORDS, CHARACTERS)
    assert [len(one) for one in found] == [5, 1, 4]
    assert all(one.spellings is found[0].spellings for one in found)
    assert len(found[0].spellings) == 6
    assert found[0].numbers.tolist() == [0, 1, 2, 0, 3]
    encoder = SpellingEncoder(layers(True), None, 0.0, 0)
    read: list[int] = []
    inner = encoder._read
    monkeypatch.setattr(encoder, "_read", lambda s, t: read.append(len(s)) or inner(s, t))
    encoder.forward(found[:1], True)
    encoder.forward(found, False)
    encoder.forward(found[1:2], False)
    assert read == [4, 6, 1]


def test_rare_tokens_are_unknown_more_often() -> None:
    counts = np.array([0, 0, 1, 3, 1000])
    unknowns = Unknowns(0.25, counts, 11)
    ids = np.repeat([2, 3, 4], 20_000).reshape(3, -1)
    read = unknowns(ids)
    share = (read == Vocabulary.UNKNOWN).mean(axis=1)
    np.testing.assert_allclose(share, 0.25 / (0.25 + counts[2:]), atol=0.01)
    assert (read[read != 0] == ids[read != 0]).all()
    assert unknowns.call_count == 1
    assert not np.array_equal(unknowns(ids), read), "each call anew"
    unknowns.call_count = 0
    np.testing.assert_array_equal(unknowns(ids), read)


def test_unknown_tokens_are_for_training_alone() -> None:
    encoder = TokenEncoder(layers(False), Unknowns(1e9, np.ones(len(WORDS)), 0), 0.0, 0)
    found = items(False)
    x, _, _ = encoder.forward(found, True)
    x = x.expand() if isinstance(x, Symbols) else x
    assert (x == encoder.embedding.params["weight"][Vocabulary.UNKNOWN]).all()
    x, _, _ = encoder.forward(found, False)
    x = x.expand() if isinstance(x, Symbols) else x
    np.testing.assert_array_equal(x[0], encoder.embedding(found[0]))
    assert encoder.masks == [encoder.unknowns]
