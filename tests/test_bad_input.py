"""What is no good input: either defined, or refused by name with nothing changed.

Every refusal is a ``TypeError`` or ``ValueError`` that names the argument and says what was
expected and what came. Here all doors of the library get the same rubbish; what is special to one
of them is tested beside it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

import fastrnn
from fastrnn import (
    GRU,
    LSTM,
    RNN,
    Attention,
    Dropout,
    Embedding,
    LayerNorm,
    Linear,
    Sequential,
    losses,
    metrics,
    optim,
)

N, T, D, H = 4, 5, 3, 6

CELLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rnn tanh": (RNN, {}),
    "rnn relu": (RNN, {"nonlinearity": "relu"}),
    "rnn sigmoid": (RNN, {"nonlinearity": "sigmoid"}),
    "lstm": (LSTM, {}),
    "lstm projected": (LSTM, {"proj_size": 2}),
    "gru": (GRU, {}),
    "gru reset after": (GRU, {"reset_after": True}),
}

REFUSAL = r": expected .*, got"


every_cell = pytest.mark.parametrize("name", CELLS)


def make(name: str = "lstm", **options: Any) -> Any:
    kind, own = CELLS[name]
    return kind(D, H, **({"random_state": 1} | own | options))


def refused(argument: str, call: Callable[[], Any]) -> None:
    """The call raises an error of the promised form that begins with the argument's name."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    message = str(caught.value)
    form = rf"{re.escape(argument)}[^:]*: expected .+, got .+"
    assert re.fullmatch(form, message, re.DOTALL), f"{type(caught.value).__name__}: {message}"


# --- the same rubbish at every door --------------------------------------------------------------

RUBBISH: dict[str, Any] = {
    "object": object(),
    "text": "text",
    "bytes": b"bytes",
    "complex": 1j,
    "dict": {"a": 1},
    "set": {1, 2},
    "function": len,
    "objects": np.array([object(), None]),
    "texts": np.array([["a", "b"]]),
    "dates": np.array(["2020-01-01"], "M8[D]"),
    "complex array": np.zeros((N, T, D), complex),
    "complex list": [[1j, 2j], [3j, 4j]],
    "nested unevenly": [[1.0], [1.0, 2.0]],
    "sparse": scipy.sparse.eye(3, format="csr"),
    "record": np.zeros(3, [("a", "f8"), ("b", "i4")]),
    "eight dimensions": np.zeros((1,) * 8),
}

x = np.zeros((N, T, D), np.float32)
rows = np.zeros((N, H), np.float32)
targets = np.zeros(N, np.int64)


def doors() -> Iterator[tuple[str, str, Callable[[Any], Any]]]:
    """Every argument of every public call: where it is, its name, and a call with it."""
    for name in ("lstm", "gru"):
        layer = make(name)
        for method in ("__call__", "forward", "trace"):
            call = getattr(layer, method)
            yield f"{name} {method}", "x", lambda bad, call=call: call(bad)
            yield f"{name} {method}", "state", lambda bad, call=call: call(x, bad)
            yield f"{name} {method}", "lengths", lambda bad, call=call: call(x, None, bad)
        yield f"{name} backward", "dy", lambda bad, layer=layer: layer.forward(x)[2](bad)
        yield (
            f"{name} backward",
            "dstate",
            lambda bad, layer=layer: layer.forward(x)[2](None, bad),
        )
    stream = make().stream(N)
    yield "stream", "x_t", stream.step
    yield "stream", "out", lambda bad: stream.step(x[:, 0], out=bad)
    yield "stream", "chunk", stream.push
    yield "stream", "state", lambda bad: setattr(stream, "state", bad)
    yield "stream", "rows", stream.reset
    yield "stream", "rows", stream.drop
    yield "stream", "n", stream.add
    yield "layer", "batch_size", make().stream
    for argument in ("input_size", "hidden_size", "num_layers", "proj_size", "forget_bias", "bias",
                     "bidirectional", "dropout", "recurrent_dropout", "init", "init_scale",
                     "initial_state", "dtype", "random_state"):  # fmt: skip
        yield (
            "LSTM",
            argument,
            lambda bad, a=argument: LSTM(**({"input_size": D, "hidden_size": H} | {a: bad})),
        )
    yield "RNN", "nonlinearity", lambda bad: RNN(D, H, nonlinearity=bad)
    yield "GRU", "reset_after", lambda bad: GRU(D, H, reset_after=bad)
    for kind, sizes in (
        (Embedding, ("num_embeddings", "embedding_dim")),
        (Linear, ("in_features", "out_features")),
        (LayerNorm, ("features",)),
        (Attention, ("query_size", "key_size", "attention_size")),
    ):
        for argument in (*sizes, "dtype", "random_state"):
            yield (
                kind.__name__,
                argument,
                lambda bad, k=kind, s=sizes, a=argument: k(**(dict.fromkeys(s, 3) | {a: bad})),
            )
    yield "Dropout", "p", Dropout
    attention = Attention(D, D)
    yield "Attention", "kind", lambda bad: Attention(D, D, bad)
    yield "Attention", "bias", lambda bad: Attention(D, D, bias=bad)
    yield "Attention", "queries", lambda bad: attention(bad, x)
    yield "Attention", "keys", lambda bad: attention(x, bad)
    yield "Attention", "lengths", lambda bad: attention(x, x, bad)
    yield "Attention", "dcontext", lambda bad: attention.forward(x, x)[2](bad)
    for layer in (Linear(D, H), LayerNorm(D), Dropout(0.5)):
        kind = type(layer).__name__
        yield kind, "x", layer
        yield kind, "x", layer.forward
        yield kind, "dy", lambda bad, layer=layer: layer.forward(x)[1](bad)
    embedding = Embedding(5, 2)
    yield "Embedding", "x", embedding
    yield "Embedding", "dy", lambda bad: embedding.forward(targets)[1](bad)
    network = Sequential(Linear(D, D), make(), Linear(H, 2))
    yield "Sequential", "x", network
    yield "Sequential", "state", lambda bad: network(x, bad)
    yield "Sequential", "lengths", lambda bad: network(x, lengths=bad)
    yield "Sequential", "dy", lambda bad: network.forward(x)[2](bad)
    yield "Sequential", "dstate", lambda bad: network.forward(x)[2](None, bad)
    yield "Sequential", "layers", Sequential
    cross = losses.softmax_cross_entropy
    yield "cross entropy", "logits", lambda bad: cross(bad, targets)
    yield "cross entropy", "targets", lambda bad: cross(rows, bad)
    yield "cross entropy", "weight", lambda bad: cross(rows, targets, bad)
    yield "cross entropy", "reduction", lambda bad: cross(rows, targets, reduction=bad)
    yield "cross entropy", "out", lambda bad: cross(rows, targets, out=bad)
    output = Linear(H, 3)
    yield "linear_ce", "linear", lambda bad: losses.linear_cross_entropy(bad, rows, targets)
    yield "linear_ce", "x", lambda bad: losses.linear_cross_entropy(output, bad, targets)
    yield "linear_ce", "targets", lambda bad: losses.linear_cross_entropy(output, rows, bad)
    yield (
        "linear_ce",
        "dloss",
        lambda bad: losses.linear_cross_entropy(output, rows, targets)[1](bad),
    )
    for loss in (losses.squared_error, losses.absolute_error, losses.huber):
        yield loss.__name__, "predictions", lambda bad, loss=loss: loss(bad, rows)
        yield loss.__name__, "targets", lambda bad, loss=loss: loss(rows, bad)
        yield loss.__name__, "weight", lambda bad, loss=loss: loss(rows, rows, bad)
    yield "huber", "delta", lambda bad: losses.huber(rows, rows, delta=bad)
    binary = losses.binary_cross_entropy
    yield "binary", "logits", lambda bad: binary(bad, rows)
    yield "binary", "targets", lambda bad: binary(rows, bad)
    for kind in (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad):
        yield kind.__name__, "layers", lambda bad, kind=kind: kind(bad, 0.1)
        yield kind.__name__, "learning_rate", lambda bad, kind=kind: kind([output], bad)
    yield "SGD", "momentum", lambda bad: optim.SGD([output], 0.1, momentum=bad)
    yield "SGD", "state_dict", optim.SGD([output], 0.1).load_state_dict
    yield "clip", "layers", lambda bad: fastrnn.clip_grad_norm(bad, 1.0)
    yield "clip", "max_norm", lambda bad: fastrnn.clip_grad_norm([output], bad)
    yield "perplexity", "cross_entropy", metrics.perplexity
    yield "gradient_flow", "layer", lambda bad: fastrnn.gradient_flow(bad, x)
    yield "gradient_flow", "x", lambda bad: fastrnn.gradient_flow(make(), bad)
    yield "gradient_flow", "dy", lambda bad: fastrnn.gradient_flow(make(), x, bad)
    yield "gradient_check", "layer", lambda bad: fastrnn.gradient_check(bad, x)
    yield "gradient_check", "x", lambda bad: fastrnn.gradient_check(make(dtype="float64"), bad)
    yield "register_cell", "cell", fastrnn.register_cell
    yield "set_num_threads", "n", fastrnn.set_num_threads
    yield "threads", "n", fastrnn.threads
    yield "set_gemm", "name", fastrnn.set_gemm
    for argument in ("level", "cell", "hidden_size", "dropout", "solver", "learning_rate_init",
                     "batch_size", "tbptt_steps", "max_iter", "max_grad_norm", "dtype",
                     "random_state"):  # fmt: skip
        yield (
            "LanguageModel",
            argument,
            lambda bad, a=argument: fastrnn.LanguageModel(**{a: bad}).fit("a text"),
        )


DOORS = list(doors())

# Rubbish that has a meaning at some doors.
MEANINGFUL = {
    "dtype": {"sparse"},  # NumPy takes the dtype of whatever has one
    "cross_entropy": {"eight dimensions"},
    "predictions": {"eight dimensions", "nested unevenly"},  # an array, a list of sequences
    "logits": {"eight dimensions", "nested unevenly"},
    "Dropout x": {"eight dimensions"},
}


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door[0]}-{door[1]}")
def test_rubbish_is_refused_at_every_door(door: tuple[str, str, Callable[[Any], Any]]) -> None:
    place, argument, call = door
    skipped = MEANINGFUL.get(argument, set()) | MEANINGFUL.get(f"{place} {argument}", set())
    wrong = {}
    for label in RUBBISH.keys() - skipped:
        try:
            refused(argument, lambda label=label: call(RUBBISH[label]))
        except (Exception, pytest.fail.Exception) as error:
            wrong[label] = f"{type(error).__name__}: {error}"
    assert not wrong


# --- nothing is half-written ---------------------------------------------------------------------


def contents(layer: Any) -> dict[str, Any]:
    """All that a refused call must leave as it was."""
    arrays = {f"param {name}": value.tobytes() for name, value in layer.params.items()}
    arrays |= {f"grad {name}": value.tobytes() for name, value in layer.grads.items()}
    return arrays | {"call_count": layer.call_count}


BAD_CALLS: dict[str, Any] = {
    "rank": ((x[0],), {}),
    "width": ((x[:, :, :2],), {}),
    "list rank": (([x[0], x],), {}),
    "list width": (([x[0], x[0, :, :2]],), {}),
    "dtype": ((x.astype(complex),), {}),
    "negative length": ((x,), {"lengths": [1, -1, 2, 3]}),
    "long length": ((x,), {"lengths": [1, T + 1, 2, 3]}),
    "huge length": ((x,), {"lengths": np.uint64([1, 2**63, 2, 3])}),
    "few lengths": ((x,), {"lengths": [1, 2, 3]}),
    "many lengths": ((x,), {"lengths": [1, 2, 3, 4, 5]}),
    "lengths of a list": ((list(x),), {"lengths": [1, 2, 3, 4]}),
    "float lengths": ((x,), {"lengths": [1.0, 2.0, 3.0, 4.0]}),
    "state of one sequence fewer": ((x, np.zeros((1, N - 1, H))), {}),
    "state of one layer more": ((x, np.zeros((2, N, H))), {}),
    "state without layers": ((x, np.zeros((N, H))), {}),
    "complex state": ((x, np.zeros((1, N, H), complex)), {}),
}
BAD_GRADIENTS: dict[str, Any] = {
    "none": (None,),
    "rank": (np.zeros((N, H)),),
    "steps": (np.zeros((N, T - 1, H)),),
    "width": (np.zeros((N, T, H + 1)),),
    "list": (list(np.zeros((N, T, H))),),
    "complex": (np.zeros((N, T, H), complex),),
    "state width": (np.zeros((N, T, H)), np.zeros((1, N, H + 1))),
    "state sequences": (None, np.zeros((1, N + 1, H))),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_refused_calls_change_nothing(dtype: str, rng: np.random.Generator) -> None:
    layer, other = (make("gru", dtype=dtype, recurrent_dropout=0.5) for _ in range(2))
    y, _, backward = layer.forward(x)
    expected = other.forward(x)[2](np.ones(y.shape))
    before = contents(layer)
    for method in (layer, layer.forward, layer.trace):
        for args, named in BAD_CALLS.values():
            with pytest.raises((TypeError, ValueError), match=REFUSAL):
                method(*args, **named)
            assert contents(layer) == before
    for args in BAD_GRADIENTS.values():
        with pytest.raises((TypeError, ValueError), match=REFUSAL):
            backward(*args)
        assert contents(layer) == before
    for found, wanted in zip(backward(np.ones(y.shape)), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert contents(layer) == contents(other)


def test_refused_chunks_leave_a_stream_where_it_was(rng: np.random.Generator) -> None:
    stream = make().stream(N)
    stream.push(rng.standard_normal((N, 3, D)))
    before = [part.tobytes() for part in stream.state]
    out = np.zeros((N, H), np.float32)
    out.flags.writeable = False
    for call in (
        lambda: stream.push(x[:, :, :2]),
        lambda: stream.push(x[:2]),
        lambda: stream.push(x[0]),
        lambda: stream.step(x),
        lambda: stream.step(x[:2, 0]),
        lambda: stream.step(x[:, 0], out=out),
        lambda: stream.step(x[:, 0], out=np.zeros((N, H))),
        lambda: stream.step(x[:, 0], out=np.zeros((N, H + 1), np.float32)),
        lambda: stream.drop([0, N]),
        lambda: stream.drop([-1]),
        lambda: stream.reset(N),
        lambda: stream.add(-1),
        lambda: setattr(stream, "state", stream.state[:1]),
        lambda: setattr(stream, "state", (stream.state[0], np.zeros((1, N, H + 1)))),
    ):
        with pytest.raises((TypeError, ValueError), match=REFUSAL):
            call()
        assert [part.tobytes() for part in stream.state] == before
        assert stream.batch_size == N


@pytest.mark.parametrize(
    "layer",
    [
        *(make(name) for name in CELLS),
        make(bidirectional=True, num_layers=2),
        Linear(D, H),
        LayerNorm(D),
        Dropout(0.5),
        Sequential(Linear(D, D), Dropout(0.5)),
        Sequential(make(), LayerNorm(H)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_backward_runs_once(layer: Any) -> None:
    y, *_, backward = layer.forward(x)
    backward(np.ones_like(y))
    before = {name: grad.copy() for name, grad in layer.grads.items()}
    for gradient in (np.ones_like(y), None, "text"):
        with pytest.raises(RuntimeError, match="backward: expected one call for each forward"):
            backward(gradient)
    for name, grad in layer.grads.items():
        np.testing.assert_array_equal(grad, before[name])


def test_backward_runs_once_also_in_a_race() -> None:
    layer = make()
    y, _, backward = layer.forward(x)
    gradient, barrier, errors = np.ones_like(y), threading.Barrier(4), []

    def call() -> None:
        barrier.wait()
        try:
            backward(gradient)
        except RuntimeError as error:
            errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 3
    other = make()
    other.forward(x)[2](gradient)
    for name, grad in other.grads.items():
        np.testing.assert_array_equal(layer.grads[name], grad)


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [make(bidirectional=True), make("gru"), Sequential(Embedding(5, D), make(), Linear(H, 5))],
    ids=lambda model: type(model).__name__,
)
def test_truncated_and_altered_files(model: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "model"
    model.save(path)
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for size in [
        0,
        1,
        7,
        8,
        9,
        header - 1,
        header,
        len(whole) - 1,
        *rng.integers(len(whole), size=40),
    ]:
        path.write_bytes(whole[:size])
        with pytest.raises(fastrnn.FormatError, match=re.escape(str(path))):
            fastrnn.load(path)
    for place in [*range(8), *rng.integers(8, len(whole), 200)]:
        altered = bytearray(whole)
        altered[place] ^= 1 << rng.integers(8)
        if whole[place] == ord(" "):
            continue  # what fills up the header may be any white space
        path.write_bytes(altered)
        with pytest.raises(fastrnn.FormatError):
            fastrnn.load(path)
    path.write_bytes(whole)
    assert fastrnn.load(path).config() == model.config()


@pytest.mark.parametrize("bad", [object(), 1j, 3, None, np.zeros(3), ["a"]], ids=str)
def test_what_is_no_path(bad: Any) -> None:
    refused("path", lambda: fastrnn.load(bad))
    refused("path", lambda: make().save(bad))
