"""From tokens to the vectors that recurrent layers read: encoders of a `SequenceNetwork`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import namespace
from fastrnn.engine import elementwise, masks
from fastrnn.engine.arrays import beside, masked, take
from fastrnn.engine.containers import Form
from fastrnn.layers.modules import Dropout
from fastrnn.sequences.network import Spec, pad
from fastrnn.sequences.pooling import real_steps
from fastrnn.text.vocabulary import Vocabulary

__all__ = ["Spelled", "SpellingEncoder", "TokenEncoder", "Unknowns", "encoder_specs", "spell"]

Array = NDArray[Any]
Backward = Callable[[Any], None]


class Unknowns:
    """Reads tokens as unknown in training, rare ones more often, so that the unknown is learned.

    A token that occurs n times in the training data is unknown with probability rate / (rate + n):
    E. Kiperwasser and Y. Goldberg, "Simple and accurate dependency parsing using bidirectional LSTM
    feature representations", TACL 4 (2016), section 6, where rate is 0.25. As with `Dropout` it
    depends only on the seed, the number of the call, and the token's place in the batch.

    Parameters
    ----------
    rate : float
    counts : array (V,) of int
        How often each token of the vocabulary occurs.
    random_state : int
        The seed.
    """

    params: Mapping[str, Array] = {}
    grads: Mapping[str, Array] = {}

    def __init__(self, rate: float, counts: Array, random_state: int) -> None:
        self.p = rate / (rate + np.maximum(counts, 1))
        self.random_state, self.call_count = random_state, 0

    def zero_grad(self) -> None:
        """Nothing, for there are no gradients."""

    def __call__(self, ids: Array) -> Array:
        """The tokens (N, T), some of them as `Vocabulary.UNKNOWN`."""
        sequence, step = np.indices(ids.shape)
        keys = masks.row_keys(self.random_state, self.call_count, 0, 0, sequence, step)
        self.call_count += 1
        return np.where(keys < self.p[ids] * 2.0**64, Vocabulary.UNKNOWN, ids)


def encoder_specs(
    parameters: Mapping[str, Any], n_tokens: int, n_characters: int | None, dtype: np.dtype
) -> dict[str, Spec]:
    """Class and configuration of each of an encoder's layers, from an estimator's parameters.

    Parameters
    ----------
    parameters : mapping
        ``get_params()`` of an estimator.
    n_tokens : int
        Of the vocabulary.
    n_characters : int or None
        Of that of the characters, if words are spelled.
    dtype : dtype
    """

    def embedding(n: int, size: Any) -> Spec:
        config = {"num_embeddings": n, "embedding_dim": int(size), "dtype": dtype.name}
        return "Embedding", config

    specs = {"embedding": embedding(n_tokens, parameters["embedding_dim"])}
    if n_characters is not None:
        specs["char_embedding"] = embedding(n_characters, parameters["char_embedding_dim"])
        config = {"input_size": int(parameters["char_embedding_dim"]), "forget_bias": 1.0}
        config |= {"hidden_size": int(parameters["char_hidden_size"]), "bidirectional": True}
        specs["char_rnn"] = ("LSTM", {**config, "dtype": dtype.name})
    return specs


class TokenEncoder:
    """Tokens by number, each as its vector.

    Items are arrays (T_i,) of int64.

    Parameters
    ----------
    layers : mapping of str to layer
        ``"embedding"``.
    unknowns : Unknowns or None
        What it does to tokens in training.
    dropout : float
        Of the vectors, in training.
    seed : int
        Of the dropout.
    """

    def __init__(
        self, layers: Mapping[str, Any], unknowns: Unknowns | None, dropout: float, seed: int
    ) -> None:
        self.layers = dict(layers)
        self.embedding = self.layers["embedding"]
        self.unknowns = unknowns
        self.drop = Dropout(dropout, random_state=seed) if dropout else None

    @property
    def masks(self) -> list[Any]:
        """What counts its calls beside the layers."""
        return [mask for mask in (self.unknowns, self.drop) if mask is not None]

    @property
    def width(self) -> int:
        """D, of the vectors."""
        return self.embedding.embedding_dim

    def forward(self, items: Sequence[Any], training: bool) -> tuple[Any, Array, Backward]:
        """Vectors (N, T, D) or `Symbols`; lengths (N,); where the vectors' gradients go."""
        ids, lengths = pad(items)
        if training and self.unknowns is not None:
            ids = self.unknowns(ids)
        ids = beside(ids, self.embedding.params["weight"])
        if not training or self.drop is None:
            x, back = self.embedding.forward_symbols(ids)
            return x, lengths, back
        x, embedding_back = self.embedding.forward(ids)
        x, drop_back = self.drop.forward(x)
        return x, lengths, lambda dx: embedding_back(drop_back(dx))


@dataclass(frozen=True, slots=True)
class Spelled:
    """A sequence of words whose spelling is to be read as well.

    Attributes
    ----------
    ids : array (T,) of int64
        The words by their number in the vocabulary.
    numbers : array (T,) of int64
        Which spelling each has.
    spellings : list of arrays of int64
        Characters by number; of distinct words, and shared by sequences.
    """

    ids: Array
    numbers: Array
    spellings: list[Array]

    def __len__(self) -> int:
        return len(self.ids)


def spell(sentences: Sequence[Sequence[str]], words: Vocabulary, characters: Vocabulary) -> Any:
    """Sequences of words as a list of `Spelled`, each distinct word spelled once."""
    numbers: dict[str, int] = {}
    which = [
        np.array([numbers.setdefault(word, len(numbers)) for word in sentence], dtype=np.int64)
        for sentence in sentences
    ]
    spellings = [characters.encode(word) for word in numbers]
    return [
        Spelled(words.encode(sentence), number, spellings)
        for sentence, number in zip(sentences, which, strict=True)
    ]


class SpellingEncoder(TokenEncoder):
    """Each word as its vector beside what a recurrent layer makes of its characters.

    The layer reads a word forwards and backwards, once for all places of a batch where the word
    stands, and its last states, one of each direction, are joined to the word's vector: W. Ling et
    al., "Finding function in form", EMNLP 2015. Items are `Spelled`.

    Parameters
    ----------
    layers : mapping of str to layer
        ``"embedding"``, ``"char_embedding"``, ``"char_rnn"`` (one layer of two directions).
    unknowns, dropout, seed
        As for `TokenEncoder`; the spelling of an unknown word is read all the same.
    """

    @property
    def width(self) -> int:
        """D, of the vectors."""
        return self.embedding.embedding_dim + 2 * self.layers["char_rnn"].hidden_size

    def forward(self, items: Sequence[Spelled], training: bool) -> tuple[Array, Array, Backward]:
        """Vectors (N, T, D); lengths (N,); where the vectors' gradients go."""
        ids, lengths = pad([item.ids for item in items])
        if training and self.unknowns is not None:
            ids = self.unknowns(ids)
        words, words_back = self.embedding.forward(beside(ids, self.embedding.params["weight"]))
        xp = namespace(words)
        numbers = np.concatenate([item.numbers for item in items])
        used, which = np.unique(numbers, return_inverse=True)
        read, read_back = self._read([items[0].spellings[i] for i in used], training)
        real = real_steps(lengths, ids.shape[1])
        split = words.shape[2]
        spelling = np.zeros(ids.shape, np.int64)  # in padding any
        spelling[real] = which
        spelled = take(read, spelling.reshape(-1))
        x = xp.concat([words, xp.reshape(spelled, (*ids.shape, read.shape[1]))], axis=2)
        if training and self.drop is not None:
            x, drop_back = self.drop.forward(x)

        def backward(dx: Array) -> None:
            if training and self.drop is not None:
                dx = drop_back(dx)
            words_back(dx[..., :split])
            dread = xp.zeros_like(read)
            elementwise.scatter_add(dread, beside(which, dread), masked(dx[..., split:], real))
            read_back(dread)

        return x, lengths, backward

    def _read(self, spellings: list[Array], training: bool) -> tuple[Array, Backward]:
        """The last states of both directions over each spelling: (U, 2 H)."""
        embedding, rnn = self.layers["char_embedding"], self.layers["char_rnn"]
        like = embedding.params["weight"]
        if not isinstance(like, np.ndarray):  # they go to a device at once
            form = Form(None, [len(one) for one in spellings])
            spellings = form.restore(beside(np.concatenate(spellings), like))
        x, embedding_back = embedding.forward_symbols(spellings)
        if training:
            _, state, rnn_back = rnn.forward(x)
        else:
            _, state = rnn(x)
        h = state[0] if isinstance(state, tuple) else state
        xp = namespace(h)

        def backward(dread: Array) -> None:
            dh = xp.stack([dread[:, : rnn.hidden_size], dread[:, rnn.hidden_size :]])
            dx, _ = rnn_back(None, (dh, xp.zeros_like(dh)) if isinstance(state, tuple) else dh)
            embedding_back(dx)

        return xp.concat([h[0, ...], h[1, ...]], axis=1), backward
