"""The network of all models that judge sequences, or each of their steps.

inputs (N, T, D) -> recurrent layers -> pooling, or the rows of all steps -> linear layer.

With an encoder in front (tokens to vectors) the inputs are whatever that takes.

Sequences, targets and answers are on the host; all between is computed where the layers are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import namespace
from fastrnn.engine.arrays import beside, entered, to_host
from fastrnn.engine.batches import Symbols
from fastrnn.files import build
from fastrnn.layers.modules import Dropout
from fastrnn.sequences.pooling import Pool
from fastrnn.sequences.targets import Loss
from fastrnn.training.minibatches import Batch, taken

__all__ = ["Encoder", "Loss", "SequenceNetwork", "Spec", "Supervised", "Weighted", "make_layers",
           "network_specs", "pad", "targets_of"]  # fmt: skip

Array = NDArray[Any]
Backward = Callable[[Any], None]
Spec = tuple[str, dict[str, Any]]

STEPS = 2**15  # of a chunk in inference: what lies between the layers stays in the caches


class Encoder(Protocol):
    """What stands before the recurrent layers: sequences as the caller has them to vectors."""

    @property
    def layers(self) -> Mapping[str, Any]:
        """Its layers by name."""

    @property
    def masks(self) -> Sequence[Any]:
        """What else counts its calls."""

    def forward(self, items: Sequence[Any], training: bool) -> tuple[Any, Array, Backward]:
        """Vectors (N, T, D), zero or any in padding; lengths (N,); where their gradients go.

        The vectors are where its layers are, or NumPy's; the lengths are always NumPy's. Instead of
        vectors there may be `Symbols`, whose gradients then come as those of their rows.
        """


class Numbers:
    """The encoder of sequences that are vectors already."""

    layers: Mapping[str, Any] = {}
    masks: Sequence[Any] = ()

    def forward(self, items: Sequence[Array], training: bool) -> tuple[Array, Array, Backward]:
        """The sequences padded; their gradients are not asked for."""
        x, lengths = pad(items)
        return x, lengths, lambda dx: None


def pad(items: Any) -> tuple[Array, Array]:
    """Sequences (T_i, ...) as one array (N, T, ...), zero after their ends, and their lengths.

    An array of sequences of one length is that already.
    """
    if isinstance(items, np.ndarray):
        return items, np.full(len(items), items.shape[1])
    lengths = np.array([len(item) for item in items], dtype=np.int64)
    T = int(lengths.max(initial=0))
    if (lengths == T).all():
        return np.stack(items), lengths
    out = np.zeros((len(items), T, *items[0].shape[1:]), items[0].dtype)
    for row, item in zip(out, items, strict=True):
        row[: len(item)] = item
    return out, lengths


def network_specs(
    parameters: Mapping[str, Any],
    width: int,
    n_outputs: int,
    dtype: np.dtype,
    *,
    pooled: bool,
    beside: int = 0,
) -> dict[str, Spec]:
    """Class and configuration of each layer but the encoder's, from an estimator's parameters.

    Parameters
    ----------
    parameters : mapping
        ``get_params()`` of an estimator.
    width : int
        D, of what enters the recurrent layers.
    n_outputs : int
        Of the last linear layer.
    dtype : dtype
    pooled : bool
        Whether there is one row for each sequence, not for each step.
    beside : int
        E, of what enters the linear layer beside the pooled states.
    """
    own: dict[str, dict[str, Any]] = {
        "lstm": {"forget_bias": 1.0},
        "gru": {"reset_after": bool(parameters["reset_after"])},
        "rnn": {"nonlinearity": parameters["nonlinearity"]},
    }
    recurrent = {
        "input_size": width,
        "hidden_size": int(parameters["hidden_size"]),
        "num_layers": int(parameters["num_layers"]),
        "bidirectional": bool(parameters["bidirectional"]),
        "dropout": float(parameters["dropout"]),
        "recurrent_dropout": float(parameters["recurrent_dropout"]),
        "dtype": dtype.name,
        **own[parameters["cell"]],
    }
    P = recurrent["hidden_size"] * (2 if recurrent["bidirectional"] else 1)
    specs: dict[str, Spec] = {"rnn": (parameters["cell"].upper(), recurrent)}

    def linear(n: int, m: int, bias: bool = True) -> Spec:
        config = {"in_features": n, "out_features": m, "bias": bias, "dtype": dtype.name}
        return "Linear", config

    if pooled and parameters["pooling"] == "attention":
        specs |= {"attention": linear(P, P), "score": linear(P, 1, bias=False)}
    return specs | {"output": linear(P + beside, n_outputs)}


def make_layers(specs: Mapping[str, Spec], generator: np.random.Generator) -> dict[str, Any]:
    """New layers by class name and configuration, each with a seed of its own."""
    return {
        key: build(kind, {**config, "random_state": int(generator.integers(2**63))})
        for key, (kind, config) in specs.items()
    }


class SequenceNetwork:
    """Encoder, recurrent layers, pooling, linear layer.

    Parameters
    ----------
    layers : mapping of str to layer
        ``"rnn"``, ``"output"``, with attention ``"attention"`` and ``"score"``.
    pooling : {"last", "mean", "max", "attention"} or None
        None: the rows of all steps.
    encoder : Encoder, optional
        What stands before the recurrent layers; by default sequences are vectors (T_i, D).
    dropout : float
        Of what enters the linear layer, in training; between recurrent layers it is their own.
    tbptt_steps : int, optional
        Windows in which the recurrent layers walk; no gradient flows from one to the one before.
    seed : int
        Of the dropout.
    beside : callable, optional
        ``beside(items)``: what the linear layer sees of sequences past the recurrent layers, (N, E)
        of the layers' dtype, after the P columns of their pooled states.
    """

    def __init__(
        self,
        layers: Mapping[str, Any],
        pooling: str | None,
        encoder: Encoder | None = None,
        dropout: float = 0.0,
        tbptt_steps: int | None = None,
        seed: int = 0,
        beside: Callable[[Sequence[Any]], Array] | None = None,
    ) -> None:
        self.rnn, self.output = layers["rnn"], layers["output"]
        self.encoder: Encoder = Numbers() if encoder is None else encoder
        self.named = {**self.encoder.layers, **layers}
        self.pool = Pool(pooling, self.rnn.hidden_size, self.named)
        self.drop_in_training(dropout, seed)
        self.tbptt_steps = tbptt_steps
        self.beside = beside

    def drop_in_training(self, dropout: float, seed: int) -> None:
        """Set the dropout of what enters the linear layer."""
        self.drop = Dropout(dropout, random_state=seed) if dropout else None

    @property
    def layers(self) -> list[Any]:
        """All that has parameters, or counts its calls."""
        drop = [] if self.drop is None else [self.drop]
        return [*self.named.values(), *self.encoder.masks, *drop]

    def forward(self, items: Sequence[Any]) -> tuple[Array, Backward]:
        """Outputs (rows, n_outputs) in training mode, and ``backward(doutputs)``."""
        x, lengths, encoder_back = self._encode(items, True)
        y, rnn_back = self._walk(x, lengths)
        rows, pool_back = self.pool(y, lengths)
        if self.drop is not None:
            rows, drop_back = self.drop.forward(rows)
        P = rows.shape[1]
        out, output_back = self.output.forward(self._with_beside(rows, items))

        def backward(dout: Array) -> None:
            drows = output_back(dout)[:, :P]
            if self.drop is not None:
                drows = drop_back(drows)
            encoder_back(rnn_back(pool_back(drows)))

        return out, backward

    @property
    def like(self) -> Array:
        """An array where the layers are."""
        return self.output.params["weight"]

    def _encode(self, items: Sequence[Any], training: bool) -> tuple[Any, Array, Backward]:
        """What the recurrent layers read, beside them; lengths; where its gradients go."""
        x, lengths, back = self.encoder.forward(items, training)
        return beside(x, self.like) if isinstance(x, np.ndarray) else x, lengths, back

    def _with_beside(self, rows: Array, items: Sequence[Any]) -> Array:
        """The rows with what the linear layer sees beside them."""
        if self.beside is None:
            return rows
        return namespace(rows).concat([rows, beside(self.beside(items), rows)], axis=1)

    def _walk(self, x: Any, lengths: Array) -> tuple[Array, Callable[[Array], Any]]:
        """The recurrent layers, in windows if there are `tbptt_steps`."""
        T = (x.index if isinstance(x, Symbols) else x).shape[1]
        stride = self.tbptt_steps or max(T, 1)
        outputs, backs, state = [], [], None
        windows = [slice(begin, min(begin + stride, T)) for begin in range(0, T, stride)]
        for window in windows:
            left = np.clip(lengths - window.start, 0, window.stop - window.start)
            y, state, back = self.rnn.forward(_window(x, window), state=state, lengths=left)
            outputs.append(y)
            backs.append(back)
        y = outputs[0] if len(outputs) == 1 else namespace(outputs[0]).concat(outputs, axis=1)

        def backward(dy: Array) -> Any:
            parts = zip(backs, windows, strict=True)
            dx = [back(dy[:, window, ...])[0] for back, window in parts]
            if len(dx) == 1:
                return dx[0]
            return sum(dx) if isinstance(x, Symbols) else namespace(dx[0]).concat(dx, axis=1)

        return y, backward

    # Inference

    def rows(self, items: Sequence[Any]) -> Array:
        """The pooled states: (n, P), or the rows of all steps of all sequences."""
        return _join(self._in_chunks(items, self._rows))

    def outputs(self, items: Sequence[Any]) -> Array:
        """What leaves the linear layer, for each row of `rows`."""
        return _join(self._in_chunks(items, self._outputs))

    def judged(self, rows: Array) -> Array:
        """What the linear layer makes of rows of the host."""
        return to_host(self.output(beside(rows, self.like)))

    def _outputs(self, items: Sequence[Any]) -> Array:
        return self.output(self._with_beside(self._rows(items), items))

    def attention(self, items: Sequence[Any]) -> list[Array]:
        """With attention: how much each step weighs in its sequence's row, arrays (T_i,)."""
        return [one for part in self._in_chunks(items, self._attention) for one in part]

    def _states(self, items: Sequence[Any]) -> tuple[Array, Array]:
        x, lengths, _ = self._encode(items, False)
        return self.rnn(x, lengths=lengths)[0], lengths

    def _rows(self, items: Sequence[Any]) -> Array:
        return self.pool(*self._states(items))[0]

    def _attention(self, items: Sequence[Any]) -> list[Array]:
        y, lengths = self._states(items)
        weights = to_host(self.pool.attend(y, lengths)[1])
        return [row[:count] for row, count in zip(weights, lengths.tolist(), strict=True)]

    def _in_chunks(
        self, items: Sequence[Any], function: Callable[[Sequence[Any]], Any]
    ) -> Iterator[Any]:
        begin = 0
        while begin < len(items):
            end, longest = begin, 0
            while end < len(items):
                longest = max(longest, len(items[end]))
                if end > begin and longest * (end + 1 - begin) > STEPS:
                    break
                end += 1
            with entered(self.like):
                found = function(items[begin:end])
            yield found
            begin = end


def _window(x: Any, part: slice) -> Any:
    """Some of the steps."""
    return Symbols(x.rows, x.index[:, part]) if isinstance(x, Symbols) else x[:, part, ...]


def _join(parts: Iterator[Array]) -> Array:
    found = [to_host(part) for part in list(parts)]  # a device computes on while not asked
    return found[0] if len(found) == 1 else np.concatenate(found)


class Weighted:
    """Targets, each with its weight: what a batch takes of them by number.

    Parameters
    ----------
    values : sequence of length n
        Numbers, rows of an array, or, with a target per step, arrays (T_i, ...).
    weight : sequence of length n
        Numbers, or arrays (T_i,).
    """

    def __init__(self, values: Sequence[Any], weight: Sequence[Any]) -> None:
        self.values, self.weight = values, weight

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        return self.values[i], self.weight[i]

    def take(self, index: Array) -> Weighted:
        """Some of them."""
        return Weighted(taken(self.values, index), taken(self.weight, index))

    def rows(self) -> tuple[Array, Array]:
        """Targets and weights as arrays, one after the other where they are of steps."""
        if np.ndim(self.weight[0]):
            return np.concatenate(self.values), np.concatenate(self.weight)
        return np.asarray(self.values), np.asarray(self.weight)


class Supervised:
    """What the training loop trains: a network, and a loss of its outputs beside targets.

    Parameters
    ----------
    network : SequenceNetwork
    loss : callable
        ``loss(outputs, targets, weight) -> (mean loss, doutputs)``, one of `fastrnn.losses`.
    """

    def __init__(self, network: SequenceNetwork, loss: Loss) -> None:
        self.network, self.loss = network, loss
        self.layers = network.layers

    def learn(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
        """The weighted mean loss and the weights' sum; adds gradients."""
        targets, weight = targets_of(batch)
        out, backward = self.network.forward(batch.inputs)
        loss, dout = self.loss(out, beside(targets, out), beside(weight, out))
        backward(dout)
        return float(loss), float(weight.sum()), None

    def assess(self, batch: Batch, state: Any) -> tuple[float, float, Any]:
        """The same without gradients and without dropout."""
        targets, weight = targets_of(batch)
        loss, _ = self.loss(self.network.outputs(batch.inputs), targets, weight)
        return float(loss), float(weight.sum()), None


def targets_of(batch: Batch) -> tuple[Array, Array]:
    """A batch's targets and weights, one for each row of the network's outputs."""
    if isinstance(batch.targets, Weighted):
        return batch.targets.rows()
    return Weighted(*zip(*batch.targets, strict=True)).rows()
