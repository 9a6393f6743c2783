"""An encoder, a decoder, and attention between them: forward and backward over whole sequences.

    source ids (N, Ts) -> embedding -> encoder -> keys (N, Ts, dirs*H), final state
    final state -> bridge -> the decoder's initial state
    target ids (N, T) -> embedding -> decoder -> y (N, T, H)
    without attention     h = y
    with attention        h = tanh(W [context; y]), the context from y and the keys
    with input feeding    the decoder reads [embedding; h of the step before]
    h -> linear layer -> softmax over the target's vocabulary

M.-T. Luong, H. Pham and C. D. Manning, "Effective approaches to attention-based neural machine
translation", EMNLP 2015. A source ends with a boundary, which the encoder reads and attention does
not; a target begins and ends with one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from fastrnn import losses
from fastrnn.checks import Array, namespace
from fastrnn.engine import masks
from fastrnn.engine.arrays import beside, entered, masked, placed, take, to_host, unmasked
from fastrnn.layers.modules import Dropout
from fastrnn.seq2seq.steps import Steps, attended
from fastrnn.sequences.network import pad
from fastrnn.text.vocabulary import Ids, Vocabulary
from fastrnn.training.minibatches import Batch

__all__ = ["FIRST", "Coins", "Network"]

Items = Sequence[Ids]

FIRST = Vocabulary.UNKNOWN + 1  # the first token that is ever written


class Coins:
    """Tells which tokens of a target are read in training, and which of the model's own.

    As with `Dropout` a coin depends only on the seed, the number of the call, and the token's
    place.
    """

    params: Mapping[str, Any] = {}
    grads: Mapping[str, Any] = {}

    def __init__(self, random_state: int) -> None:
        self.random_state, self.call_count = random_state, 0

    def zero_grad(self) -> None:
        """Nothing, for there are no gradients."""

    def __call__(self, shape: tuple[int, int], p: float) -> np.ndarray:
        """True with probability p, for each of (N, T) tokens."""
        keys = masks.row_keys(self.random_state, self.call_count, 0, 0, *np.indices(shape))
        self.call_count += 1
        return keys < p * 2.0**64


class Network:
    """What the training loop trains, and what decodes.

    Tokens and lengths are the host's, vectors where the layers are.

    Parameters
    ----------
    parts : mapping of str to layer
        As `fastrnn.seq2seq.parts.layer_specs` names them.
    bridge : {"copy", "linear", "zeros"}
        How the decoder's initial state follows from the encoder's last.
    dropout : float
        Of what enters the encoder, the decoder and the linear layer, in training.
    label_smoothing : float
        See `fastrnn.losses.linear_cross_entropy`.
    seed : int
        Of dropout and coins.
    """

    def __init__(
        self,
        parts: Mapping[str, Any],
        bridge: str,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.parts = parts
        self.encoder, self.decoder, self.output = (
            parts["encoder"],
            parts["decoder"],
            parts["output"],
        )
        self.attention: Any = parts.get("attention")
        self.bridge = bridge
        self.input_feeding = self.decoder.input_size > parts["target_embedding"].embedding_dim
        self.label_smoothing = label_smoothing
        places = ("source", "target", "output") if dropout else ()
        self.drops = {
            place: Dropout(dropout, random_state=seed + i) for i, place in enumerate(places)
        }
        self.coins = Coins(seed)
        # How likely a token of the target is read, not the model's own; asked before each step.
        self.teacher_forcing: Callable[[], float] = lambda: 1.0

    @property
    def layers(self) -> list[Any]:
        """All that has parameters, or counts its calls."""
        return [*self.parts.values(), *self.drops.values(), self.coins]

    @property
    def like(self) -> Array:
        """An array where the layers are."""
        return self.output.params["weight"]

    def entered(self) -> AbstractContextManager[Any]:
        """A context in which arrays are made where the layers are."""
        return entered(self.like)

    # Training

    def learn(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
        """The mean loss in nats per token, and the number of tokens; adds gradients."""
        rows, wanted, backward = self.forward(batch.inputs, batch.targets)
        loss, loss_back = losses.linear_cross_entropy(
            self.output,
            rows,
            beside(wanted, self.like),
            label_smoothing=self.label_smoothing,
        )
        backward(loss_back())
        return float(loss), float(len(wanted)), None

    def forward(self, sources: Items, targets: Items) -> tuple[Array, Ids, Callable[[Array], None]]:
        """In training mode: h (rows, H) before each token, the tokens (rows,), and backward(dh)."""
        symbols, lengths = pad(sources)
        x, x_back = self._embed("source", symbols)
        keys, last, encoder_back = self.encoder.forward(x, lengths=lengths)
        state, bridge_back = self._cross(last)
        ids, steps, real, wanted = split_targets(targets)
        p = self.teacher_forcing()
        if p < 1:
            ids = self._mixed(sources, ids, p)
        e, e_back = self._embed("target", ids)
        whole = self._step_by_step if self.input_feeding else self._at_once
        h, decoder_back = whole(e, steps, state, keys, lengths, real)
        if self.drops:
            h, drop_back = self.drops["output"].forward(h)

        def backward(dh: Array) -> None:
            if self.drops:
                dh = drop_back(dh)
            de, dstate, dkeys = decoder_back(dh)
            e_back(de)
            dlast = bridge_back(dstate)
            x_back(encoder_back(dkeys, dlast)[0])

        return h, wanted, backward

    def _embed(self, side: str, ids: Ids) -> tuple[Any, Callable[[Any], Any]]:
        """Vectors of ids (N, T), and where their gradients go."""
        embedding = self.parts[f"{side}_embedding"]
        if self.drops:
            x, embedding_back = embedding.forward(beside(ids, self.like))
            x, drop_back = self.drops[side].forward(x)
            return x, lambda dx: embedding_back(drop_back(dx))
        if self.input_feeding and side == "target":
            return embedding.forward(beside(ids, self.like))
        return embedding.forward_symbols(beside(ids, self.like))

    def _cross(self, last: Any) -> tuple[Any, Callable[[Any], Any]]:
        """The decoder's initial state from the encoder's last, and backward."""
        if self.bridge == "copy":
            return last, lambda dstate: dstate
        if self.bridge == "zeros":
            return None, lambda dstate: None
        names, L = self.encoder.cell.states, self.encoder.num_layers
        given = last if len(names) > 1 else (last,)
        xp = namespace(given[0])
        found, backs = [], []
        for name, part in zip(names, given, strict=True):
            N, H = (int(n) for n in part.shape[1:])
            sides = xp.permute_dims(xp.reshape(part, (L, -1, N, H)), (0, 2, 1, 3))
            rows = xp.reshape(sides, (L, N, -1))
            made = [self.parts[f"bridge_{name}_l{k}"].forward(rows[k, ...]) for k in range(L)]
            found.append(xp.tanh(xp.stack([y for y, _ in made])))
            backs.append([back for _, back in made])

        def backward(dstate: Any) -> Any:
            dparts = []
            given = dstate if len(names) > 1 else (dstate,)
            for dpart, state, back in zip(given, found, backs, strict=True):
                dsums = dpart * (1 - state * state)
                drows = xp.stack([one(dsums[k, ...]) for k, one in enumerate(back)])
                sides = xp.permute_dims(xp.reshape(drows, (L, N, -1, H)), (0, 2, 1, 3))
                dparts.append(xp.reshape(sides, (-1, N, H)))
            return tuple(dparts) if len(names) > 1 else dparts[0]

        return tuple(found) if len(names) > 1 else found[0], backward

    def _at_once(
        self, e: Any, steps: Ids, state: Any, keys: Array, lengths: Ids, real: np.ndarray
    ) -> tuple[Array, Callable[[Array], tuple[Any, Any, Array | None]]]:
        """H at all real steps (rows, H), each layer called once for all of them."""
        y, _, decoder_back = self.decoder.forward(e, state=state, lengths=steps)
        if self.attention is None:

            def plain_back(dh: Array) -> tuple[Any, Any, None]:
                return (*decoder_back(unmasked(dh, real)), None)

            return masked(y, real), plain_back
        context, _, attention_back = self.attention.forward(y, keys, attended(lengths))
        xp = namespace(y)
        rows = xp.concat([masked(context, real), masked(y, real)], axis=1)
        sums, combine_back = self.parts["combine"].forward(rows)
        h = xp.tanh(sums)
        K = context.shape[2]

        def backward(dh: Array) -> tuple[Any, Any, Array]:
            drows = combine_back(dh * (1 - h * h))
            dy, dkeys = attention_back(unmasked(drows[:, :K], real))
            dy += unmasked(drows[:, K:], real)
            return (*decoder_back(dy), dkeys)

        return h, backward

    def _step_by_step(
        self, e: Array, steps: Ids, state: Any, keys: Array, lengths: Ids, real: np.ndarray
    ) -> tuple[Array, Callable[[Array], tuple[Array, Any, Array | None]]]:
        """The same where each step reads h of the one before."""
        xp = namespace(e)
        N, T, E = (int(n) for n in e.shape)
        H = self.decoder.hidden_size
        memory = None
        if self.attention is not None:
            memory = self.attention.read(keys, attended(lengths))
        h = xp.zeros((N, H), dtype=e.dtype, **placed(e))
        hs: list[Array] = []
        backs: list[Any] = []
        call = self.decoder.call_count
        for t in range(T):
            x = xp.concat([e[:, t : t + 1, :], h[:, None, :]], axis=2)
            self.decoder.call_count = call  # the same units are dropped at all steps
            y, state, decoder_back = self.decoder.forward(
                x, state=state, lengths=(steps > t).astype(np.int64)
            )
            h = y[:, 0, :]
            attention_back = combine_back = None
            if memory is not None:
                context, _, attention_back = memory.forward(y)
                rows = xp.concat([context[:, 0, :], h], axis=1)
                sums, combine_back = self.parts["combine"].forward(rows)
                h = xp.tanh(sums)
            hs.append(h)
            backs.append((decoder_back, attention_back, combine_back))

        def backward(drows: Array) -> tuple[Array, Any, Array | None]:
            dhs = unmasked(drows, real)
            des: list[Array] = []  # the last step's first
            dfed, dstate = None, None
            for t in range(T - 1, -1, -1):
                decoder_back, attention_back, combine_back = backs.pop()
                dh = dhs[:, t, :] if dfed is None else dhs[:, t, :] + dfed
                dy = dh[:, None, :]
                if memory is not None:
                    h = hs[t]
                    drow = combine_back(dh * (1 - h * h))
                    K = drow.shape[1] - H
                    dy = attention_back(drow[:, None, :K]) + drow[:, None, K:]
                dx, dstate = decoder_back(dy, dstate)
                des.append(dx[:, 0, :E])
                dfed = dx[:, 0, E:]
            de = xp.stack(des[::-1], axis=1)
            return de, dstate, None if memory is None else memory.backward()

        return masked(xp.stack(hs, axis=1), real), backward

    def _mixed(self, sources: Items, ids: Ids, p: float) -> Ids:
        """Inputs (N, T) of which some are the token that the model finds likeliest at that place.

        S. Bengio, O. Vinyals, N. Jaitly and N. Shazeer, "Scheduled sampling for sequence prediction
        with recurrent neural networks", NeurIPS 2015. The model's own tokens are those of
        inference, without dropout, after what it has read so far; no gradient flows through them.
        """
        given = self.coins((ids.shape[0], ids.shape[1]), p)
        steps = Steps(self, sources)
        mixed = ids.copy()
        for t in range(ids.shape[1] - 1):
            h = steps.advance(mixed[:, t : t + 1])[:, 0, :]
            own = np.flatnonzero(~given[:, t + 1])
            logits = to_host(self.output(take(h, own)))
            mixed[own, t + 1] = logits[:, FIRST:].argmax(axis=1) + FIRST
        return mixed

    # Inference

    def assess(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
        """The mean loss and the number of tokens, without dropout, smoothing or gradients."""
        h, wanted, _ = self.states(batch.inputs, batch.targets)
        loss, _ = losses.linear_cross_entropy(
            self.output, h, beside(wanted, self.like), gradient=False
        )
        return float(loss), float(len(wanted)), None

    def log_prob(self, sources: Items, targets: Items) -> list[np.ndarray]:
        """The log-probability of each token of each target, the end's among them, float64."""
        h, wanted, steps = self.states(sources, targets)
        loss, _ = losses.linear_cross_entropy(
            self.output, h, beside(wanted, self.like), reduction="none", gradient=False
        )
        return np.split(-to_host(loss), np.cumsum(steps)[:-1])

    def states(self, sources: Items, targets: Items) -> tuple[Array, Ids, Ids]:
        """Rows of h before each token of the targets, the tokens, and how many each target has."""
        ids, steps, real, wanted = split_targets(targets)
        if self.input_feeding:
            walk = Steps(self, sources)
            hs = [walk.advance(ids[:, t : t + 1])[:, 0, :] for t in range(ids.shape[1])]
            return masked(namespace(hs[0]).stack(hs, axis=1), real), wanted, steps
        keys, state, lengths = self.read(sources)
        y = self._decoded(ids, steps, state)
        if self.attention is None:
            return masked(y, real), wanted, steps
        context, _ = self.attention(y, keys, attended(lengths))
        return self.combined(masked(context, real), masked(y, real)), wanted, steps

    def weights(self, sources: Items, targets: Items) -> list[np.ndarray]:
        """With attention: how much each token of the source weighs before each of the target's.

        Arrays (tokens of the target, tokens of the source), boundaries left out.
        """
        ids, steps, _, _ = split_targets(targets)
        if self.input_feeding:
            walk = Steps(self, sources)
            found = []
            for t in range(ids.shape[1]):
                walk.advance(ids[:, t : t + 1])
                found.append(to_host(walk.weights)[:, 0])
            weights = np.stack(found, axis=1)
            lengths = walk.lengths
        else:
            keys, state, lengths = self.read(sources)
            y = self._decoded(ids, steps, state)
            weights = to_host(self.attention(y, keys, attended(lengths))[1])
        return [
            one[: count - 1, : length - 1].copy()
            for one, count, length in zip(weights, steps.tolist(), lengths.tolist(), strict=True)
        ]

    def _decoded(self, ids: Ids, steps: Ids, state: Any) -> Array:
        """The decoder's outputs (N, T, H) for tokens (N, T)."""
        x, _ = self.parts["target_embedding"].forward_symbols(beside(ids, self.like))
        y, _ = self.decoder(x, state=state, lengths=steps)
        return y

    def read(self, sources: Items) -> tuple[Array, Any, Ids]:
        """The keys (N, Ts, K), the decoder's initial state, and the sources' lengths."""
        ids, lengths = pad(sources)
        x, _ = self.parts["source_embedding"].forward_symbols(beside(ids, self.like))
        keys, last = self.encoder(x, lengths=lengths)
        return keys, self._cross(last)[0], lengths

    def combined(self, context: Array, y: Array) -> Array:
        """H (rows, H) from contexts and the decoder's outputs."""
        xp = namespace(y)
        return xp.tanh(self.parts["combine"](xp.concat([context, y], axis=1)))


def split_targets(targets: Items) -> tuple[Ids, Ids, np.ndarray, Ids]:
    """What is read of targets (N, T), how much of it is real, (N,) and (N, T), and what follows."""
    ids, lengths = pad(targets)
    steps = lengths - 1
    real = np.arange(ids.shape[1] - 1) < steps[:, None]
    return ids[:, :-1].copy(), steps, real, ids[:, 1:][real]
