"""The same bits, whatever the number of threads, the batch around a sequence, or the way it comes.

What is promised holds for the packed engine, and for each instruction set by itself. Sizes are
chosen for the edges: units that fill no whole vector, more sequences than one tile of rows or one
task takes, more rows than one block of a weight's gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import GRU, LSTM, RNN, Linear, _native

CELLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rnn tanh": (RNN, {}),
    "rnn relu": (RNN, {"nonlinearity": "relu"}),
    "rnn sigmoid": (RNN, {"nonlinearity": "sigmoid"}),
    "lstm": (LSTM, {}),
    "lstm projected": (LSTM, {"proj_size": 19}),
    "gru": (GRU, {}),
    "gru reset after": (GRU, {"reset_after": True}),
}
D, H = 11, 37

every_cell = pytest.mark.parametrize("name", CELLS)
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
both_directions = pytest.mark.parametrize("bidirectional", [False, True])


@pytest.fixture(autouse=True, params=fastrnn.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set of this machine, under the engine that promises bits."""
    fastrnn.set_gemm("packed")
    with _native.force_isa(request.param):
        yield request.param
    fastrnn.set_gemm(None)


def make(name: str, dtype: str, **options: Any) -> Any:
    kind, own = CELLS[name]
    return kind(D, H, dtype=dtype, random_state=2, **own, **options)


def parts(state: Any) -> tuple[np.ndarray, ...]:
    return state if isinstance(state, tuple) else (state,)


def whole(state: tuple[np.ndarray, ...]) -> Any:
    return state if len(state) > 1 else state[0]


def bits(container: Any) -> bytes:
    """The bytes of an array, or of the arrays of a list, one after the other."""
    arrays = container if isinstance(container, list | tuple) else [container]
    return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


def sequences(rng: np.random.Generator, lengths: Any, dtype: str) -> list[np.ndarray]:
    return [rng.standard_normal((int(n), D)).astype(dtype) for n in lengths]


def states(layer: Any, N: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """A random initial state for N sequences."""
    rows = layer.num_layers * layer.num_directions
    widths = [layer.proj_size or H, H][: 2 if isinstance(layer, LSTM) else 1]
    return tuple(rng.standard_normal((rows, N, width)).astype(layer.dtype) for width in widths)


def padded(x: list[np.ndarray], T: int) -> np.ndarray:
    """The sequences as one array, with numbers in the padding that nobody must see."""
    array = np.full((len(x), T, D), np.nan, x[0].dtype)
    for row, sequence in zip(array, x, strict=True):
        row[: len(sequence)] = sequence
    return array


# --- threads -------------------------------------------------------------------------------------


def everything(layer: Any, x: Any, args: dict[str, Any], dy: Any, dlast: Any) -> dict[str, bytes]:
    """All that a call and its backward give, as bytes."""
    layer.zero_grad()
    layer.call_count = 5  # dropout masks are a function of it
    found = {"inference": bits(layer(x, **args)[0])}
    y, last, backward = layer.forward(x, **args)
    found |= {"y": bits(y), "state": bits(last)}
    dx, dfirst = backward(dy, dlast)
    found |= {"dx": bits(dx), "dstate": bits(dfirst)}
    return found | {f"grad of {name}": bits(grad) for name, grad in layer.grads.items()}


@every_cell
@every_dtype
@pytest.mark.parametrize("form", ["dense", "lengths", "list"])
def test_any_number_of_threads(name: str, dtype: str, form: str, rng: np.random.Generator) -> None:
    N, T = 64, 9  # 576 rows when dense
    layer = make(name, dtype, num_layers=2, bidirectional=True, dropout=0.3, recurrent_dropout=0.2)
    lengths = np.full(N, T) if form == "dense" else rng.integers(0, T + 1, N)
    x: Any = sequences(rng, lengths, dtype)
    dy: Any = [rng.standard_normal((len(one), layer.output_size)).astype(dtype) for one in x]
    state = states(layer, N, rng)
    args: dict[str, Any] = {"state": whole(state)}
    if form != "list":
        x = padded(x, T)
        dy = rng.standard_normal((N, T, layer.output_size)).astype(dtype)
        if form == "lengths":
            args["lengths"] = lengths
    dlast = whole(states(layer, N, rng))
    with fastrnn.threads(1):
        expected = everything(layer, x, args, dy, dlast)
    for n_threads in (2, 3, 5):
        with fastrnn.threads(n_threads):
            found = everything(layer, x, args, dy, dlast)
        assert [key for key in expected if found[key] != expected[key]] == [], n_threads


@pytest.mark.parametrize("name", ["lstm", "gru", "gru reset after"])
def test_gradients_of_more_gates_than_one_run_of_the_inner_dimension(
    name: str, rng: np.random.Generator
) -> None:
    # Products over more than 1024 gates are cut into runs, but not where one tile holds all rows.
    kind, own = CELLS[name]
    layer = kind(D, 360, dtype="float32", random_state=2, **own)
    x = rng.standard_normal((12, 3, D)).astype(np.float32)
    dy = rng.standard_normal((12, 3, 360)).astype(np.float32)
    results = []
    for n_threads in (1, 6):
        with fastrnn.threads(n_threads):
            results.append(everything(layer, x, {}, dy, None))
    assert results[0] == results[1]


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_any_number_of_threads_over_several_regions(
    name: str, ragged: bool, rng: np.random.Generator
) -> None:
    # Time is cut where so many operations are done, which depends on the number of threads.
    kind, own = CELLS[name]
    layer = kind(D, 96, dtype="float32", random_state=2, **own)
    x = rng.standard_normal((60, 100, D)).astype(np.float32)
    dy = rng.standard_normal((60, 100, 96)).astype(np.float32)
    # Each region splits the sequences that are alive in it.
    args = {"lengths": rng.integers(0, 80, 60)} if ragged else {}
    results = []
    for n_threads in (1, 2, 3):
        for disturbed in (
            False,
            True,
        ):  # by a neighbor: then there are more tasks, in longer regions
            for _ in range(9):
                _native.disturb(disturbed)
            with fastrnn.threads(n_threads):
                results.append(everything(layer, x, args, dy, None))
    for _ in range(9):
        _native.disturb(False)
    assert all(result == results[0] for result in results)


@every_cell
@every_dtype
@pytest.mark.parametrize("N", [1, 9])
def test_units_in_shares(name: str, dtype: str, N: int, rng: np.random.Generator) -> None:
    # More units, so that each of two threads has panels of its own; an upper layer in place of the
    # lower one's output; sequences that end one by one.
    kind, own = CELLS[name]
    layer = kind(D, 150, num_layers=2, recurrent_dropout=0.2, dtype=dtype, random_state=2, **own)
    lengths = rng.integers(0, 30, N) + (N == 1)
    x = padded(sequences(rng, lengths, dtype), 30)
    dy = rng.standard_normal((N, 30, layer.output_size)).astype(dtype)
    results = []
    for split in ("rows", "units"):
        before = _native.force_split(split)
        try:
            with fastrnn.threads(2):
                results.append(everything(layer, x, {"lengths": lengths}, dy, None))
        finally:
            _native.force_split(before)
    assert [key for key in results[0] if results[1][key] != results[0][key]] == []


@every_cell
@every_dtype
def test_steps_by_units_in_shares(name: str, dtype: str, rng: np.random.Generator) -> None:
    kind, own = CELLS[name]
    layer = kind(D, 150, num_layers=2, dtype=dtype, random_state=2, **own)
    x = rng.standard_normal((3, 20, D)).astype(dtype)
    stream = layer.stream(3)
    before = _native.force_split("units")
    try:
        with fastrnn.threads(2):
            steps = [stream.step(x[:, t]) for t in range(20)]
    finally:
        _native.force_split(before)
    with fastrnn.threads(1):
        assert bits(np.stack(steps, axis=1)) == bits(layer(x)[0])


@every_dtype
def test_linear_with_any_number_of_threads_and_any_rows_around(
    dtype: str, rng: np.random.Generator
) -> None:
    layer = Linear(D, 53, dtype=dtype, random_state=1)
    x, dy = (rng.standard_normal((1100, width)).astype(dtype) for width in (D, 53))
    results = []
    for n_threads in (1, 2, 3, 5):
        with fastrnn.threads(n_threads):
            layer.zero_grad()
            y, backward = layer.forward(x)
            dx = backward(dy)
            results.append([bits(a) for a in (y, dx, *layer.grads.values())])
    assert all(result == results[0] for result in results)
    for rows in (slice(0, 1), slice(7, 8), slice(5, 12), slice(90, 200), slice(1099, 1100)):
        assert bits(layer(x[rows])) == bits(y[rows])


# --- batches -------------------------------------------------------------------------------------


@every_cell
@every_dtype
@both_directions
def test_alone_and_in_any_batch_and_place(
    name: str, dtype: str, bidirectional: bool, rng: np.random.Generator
) -> None:
    N, T = 17, 7
    layer = make(name, dtype, num_layers=2, bidirectional=bidirectional)
    x = sequences(rng, [7, 0, 1, *rng.integers(0, T + 1, N - 3)], dtype)
    state = states(layer, N, rng)
    y, last = layer(x, whole(state))

    def check(found: Any, found_last: Any, which: Any) -> None:
        for place, n in enumerate(which):
            assert bits(found[place][: len(x[n])]) == bits(y[n])
            for mine, expected in zip(parts(found_last), parts(last), strict=True):
                assert bits(mine[:, place]) == bits(expected[:, n])

    for n in range(N):
        alone = whole(tuple(s[:, n : n + 1] for s in state))
        check(*layer(x[n][None], alone), [n])
        check(*layer([x[n]], alone), [n])
    for count in (2, 3, 5, 6, 7, 12, N):
        which = rng.permutation(N)[:count]
        company = whole(tuple(s[:, which] for s in state))
        batch = [x[n] for n in which]
        check(*layer(batch, company), which)
        lengths = [len(one) for one in batch]
        check(*layer(padded(batch, T), company, lengths), which)
        check(*layer(padded(batch, T + 4), company, lengths), which)
        check(*layer.forward(batch, company)[:2], which)


@every_cell
@every_dtype
def test_halves_with_carried_state_are_the_whole(
    name: str, dtype: str, rng: np.random.Generator
) -> None:
    N, T, half = 9, 8, 3
    layer = make(name, dtype, num_layers=2)
    lengths = np.array([8, 8, 0, 3, 4, 2, 8, 7, 1])
    x = padded(sequences(rng, lengths, dtype), T)
    state = whole(states(layer, N, rng))
    y, last = layer(x, state, lengths)
    first, between = layer(x[:, :half], state, np.minimum(lengths, half))
    second, end = layer(x[:, half:], between, np.maximum(lengths - half, 0))
    assert bits(np.concatenate([first, second], axis=1)) == bits(y)
    assert bits(parts(end)) == bits(parts(last))


@every_cell
@every_dtype
def test_rows_enough_to_take_inputs_within_the_step(
    name: str, dtype: str, rng: np.random.Generator
) -> None:
    """Many rows add inputs and state to one sum; few, or in place, sum the inputs ahead."""
    layer = make(name, dtype)
    x = rng.standard_normal((40, 7, D)).astype(dtype)
    y = bits(layer(x)[0])
    assert bits(layer.forward(x)[0]) == y
    assert b"".join(bits(layer(x[n : n + 9])[0]) for n in range(0, 40, 9)) == y
    assert b"".join(bits(layer(x[n : n + 16])[0]) for n in range(0, 40, 16)) == y


@every_cell
@both_directions
@pytest.mark.parametrize(("N", "units"), [(1, 37), (1, 700), (5, 700), (70, 37)])
def test_layers_in_place_and_with_arrays_of_their_own(
    name: str, bidirectional: bool, N: int, units: int, rng: np.random.Generator
) -> None:
    # Inference writes the upper layers' output over their input.
    kind, own = CELLS[name]
    layer = kind(D, units, num_layers=3, bidirectional=bidirectional, random_state=2, **own)
    x = rng.standard_normal((N, 12, D)).astype(np.float32)
    lengths = rng.integers(0, 13, N) if N > 1 else None
    for n_threads in (1, 2, 3):
        with fastrnn.threads(n_threads):
            y, last = layer(x, lengths=lengths)
            expected, expected_last, _ = layer.forward(x, lengths=lengths)
        assert bits(y) == bits(expected)
        assert bits(parts(last)) == bits(parts(expected_last))


# --- streams -------------------------------------------------------------------------------------


@every_cell
@every_dtype
@pytest.mark.parametrize("N", [1, 2, 7])
def test_step_by_step_and_pushed_in_pieces(
    name: str, dtype: str, N: int, rng: np.random.Generator
) -> None:
    layer = make(name, dtype, num_layers=2)
    x = rng.standard_normal((N, 12, D)).astype(dtype)
    y, last = layer(x)
    stream = layer.stream(N)
    found = [stream.step(x[:, t]) for t in range(12)]
    assert bits(np.stack(found, axis=1)) == bits(y)
    assert bits(parts(stream.state)) == bits(parts(last))
    stream.reset()
    pieces = [stream.push(x[:, a:b]) for a, b in [(0, 1), (1, 4), (4, 4), (4, 11), (11, 12)]]
    assert bits(np.concatenate(pieces, axis=1)) == bits(y)
    assert bits(parts(stream.state)) == bits(parts(last))


@every_cell
def test_streams_that_others_join_and_leave(name: str, rng: np.random.Generator) -> None:
    layer = make(name, "float32")
    x = rng.standard_normal((9, 12, D)).astype(np.float32)
    y, _ = layer(x)
    stream = layer.stream(2)
    found = [stream.push(x[:2, :4])[1]]
    stream.add(7)
    late = np.concatenate([x[:2, 4:6], x[2:, :2]])
    found.append(stream.push(late)[1])
    stream.drop([0, 5, 8])
    assert bits(stream.push(x[[1, 2, 3, 4, 6, 7], 6:])[0]) == bits(y[1, 6:])
    assert bits(np.concatenate(found)) == bits(y[1, :6])


@every_cell
@every_dtype
def test_prepared_and_copied_layers(name: str, dtype: str, rng: np.random.Generator) -> None:
    layer = make(name, dtype, num_layers=2, bidirectional=True)
    x = sequences(rng, [5, 3, 0, 6], dtype)
    y, last = layer(x)
    for other in (
        type(layer)(**layer.config()),
        make(name, dtype, num_layers=2, bidirectional=True).prepare(),
    ):
        found, found_last = other(x)
        assert bits(found) == bits(y)
        assert bits(parts(found_last)) == bits(parts(last))
