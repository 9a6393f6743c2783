"""Native attention: the array formulas on every ISA, and the same bits for any threads or batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from c_tests import COMPILERS, ISAS, run

from fastrnn import _attention, _native
from fastrnn.engine.attending import (
    Gradients,
    Sources,
    array_attend,
    array_attend_backward,
    attend,
    attend_backward,
    read,
)

DTYPES = ["float32", "float64"]
KINDS = ["additive", "product", "product with the keys"]


@pytest.fixture(params=_native.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with _native.force_isa(request.param):
        yield request.param


def numbers(kind, rng, dtype, N=5, Tq=3, Ts=18, A=9, K=7, lengths=None):
    """Queries, keys, what scores see of them, v, lengths and Ts."""
    lengths = np.append(rng.integers(0, Ts + 1, N - 2), [0, Ts]) if lengths is None else lengths
    total = int(np.sum(lengths))
    keys = rng.standard_normal((total, K)).astype(dtype)
    score = None
    if kind == "product with the keys":
        A, projected = K, keys
    else:
        projected = rng.standard_normal((total, A)).astype(dtype)
    if kind == "additive":
        score = (rng.standard_normal(A) / np.sqrt(A)).astype(dtype)
    queries = rng.standard_normal((N, Tq, A)).astype(dtype)
    return queries, keys, projected, score, np.asarray(lengths), Ts


def zeros(sources):
    """No gradients so far."""
    dkeys = np.zeros_like(sources.keys)
    same = sources.projected is sources.keys
    shape = (len(sources.lengths), sources.projected.shape[1])
    dscore = None if sources.score is None else np.zeros(shape, dkeys.dtype)
    return Gradients(dkeys, dkeys if same else np.zeros_like(sources.projected), dscore)


def both_ways(queries, dcontexts, keys, projected, score, lengths, Ts):
    """All results of the kernels by name."""
    own = keys if projected is keys else projected.copy()
    sources = read(keys, own, score, lengths, Ts)
    assert sources.base is not None
    context, weights = attend(queries, sources)
    sums = zeros(sources)
    dqueries = attend_backward(dcontexts, queries, weights, sources, sums)
    return {
        "context": context,
        "weights": weights,
        "dqueries": dqueries,
        "dkeys": sums.keys,
        "dprojected": sums.projected,
        **({} if score is None else {"dscore": sums.score}),
    }


def exactly(queries, dcontexts, keys, projected, score, lengths, Ts):
    """The same by the array formulas in long double, which rounds less than either dtype."""
    k = keys.astype(np.longdouble)
    p = k if projected is keys else projected.astype(np.longdouble)
    v = None if score is None else score.astype(np.longdouble)
    sources = Sources(k, p, v, lengths, Ts)
    context, weights = array_attend(queries.astype(np.longdouble), sources)
    sums = zeros(sources)
    dqueries = array_attend_backward(
        dcontexts.astype(np.longdouble), queries.astype(np.longdouble), weights, sources, sums
    )
    return {
        "context": context,
        "weights": weights,
        "dqueries": dqueries,
        "dkeys": sums.keys,
        "dprojected": sums.projected,
        **({} if score is None else {"dscore": sums.score}),
    }


# Units and columns around a vector, around those that share a division, and beyond; queries around
# a tile and a task; steps around a tile, around those that stay in L1.
SHAPES = [
    {"Tq": 1, "Ts": 1, "A": 1, "K": 1},
    {"Tq": 2, "Ts": 5, "A": 3, "K": 17},
    {"Tq": 5, "Ts": 16, "A": 16, "K": 64},
    {"Tq": 17, "Ts": 33, "A": 64, "K": 5},
    {"Tq": 3, "Ts": 70, "A": 71, "K": 130},
    {"Tq": 34, "Ts": 9, "A": 133, "K": 33},
]


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape.values())))
def test_the_array_formulas(shape, kind, dtype, rng):
    given = numbers(kind, rng, dtype, **shape)
    dcontexts = rng.standard_normal((5, shape["Tq"], shape["K"])).astype(dtype)
    found = both_ways(given[0], dcontexts, *given[1:])
    expected = exactly(given[0], dcontexts, *given[1:])
    # A score is rounded relative to its terms' sizes: v . tanh is about 1, a product sqrt(A) and
    # now and then some of it. That error is relative in the weights, and with them in all else.
    eps = np.finfo(dtype).eps
    units = shape["K"] if kind == "product with the keys" else shape["A"]
    rounded = 12 + (1 if kind == "additive" else 8) * np.sqrt(units)
    for name, array in found.items():
        assert array.dtype == dtype
        scale = 1.0 if name in ("context", "weights") else float(np.abs(expected[name]).max())
        np.testing.assert_allclose(
            array, expected[name], rtol=0, atol=rounded * eps * max(scale, 1), err_msg=name
        )
    real = np.arange(shape["Ts"]) < given[4][:, None]
    assert not found["weights"][~np.broadcast_to(real[:, None], found["weights"].shape)].any()


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_too_large_for_their_exponentials(dtype, rng):
    # q and p of +-1000 cancel; they lie on a grid, so that their sums have no error of their own
    largest = {"float32": 1000, "float64": 4000}[dtype]
    grid = 2.0**-6
    A = 70  # vectors that share a division, and others
    p = np.round(rng.standard_normal((12, A)) / grid) * grid
    q = np.round(rng.standard_normal((3, 2, A)) / grid) * grid
    shift = rng.integers(-largest, largest, A).astype(np.float64)
    edge = {"float32": 33.0, "float64": 300.0}[dtype]
    p[4:8] += shift  # a source whose p are too large, with queries that take them back
    q[1] -= shift
    p[8:] = np.sign(p[8:]) * edge  # one whose p are just not, with queries of any size
    q[2, 0] = np.sign(q[2, 0]) * largest
    q[2, 1] = -p[9] - grid
    q, p = q.astype(dtype), p.astype(dtype)
    _, keys, _, score, _, _ = numbers("additive", rng, dtype, A=A, lengths=[4, 4, 4], N=3, Ts=4)
    lengths = np.array([4, 4, 4])
    sources = read(keys, p.copy(), score, lengths, 4)
    assert sources.wide is not None
    np.testing.assert_array_equal(sources.wide, [0, 1, 0])
    dcontexts = rng.standard_normal((3, 2, 7)).astype(dtype)
    found = both_ways(q, dcontexts, keys, p, score, lengths, 4)
    expected = exactly(q, dcontexts, keys, p, score, lengths, 4)
    eps = np.finfo(dtype).eps
    for name, array in found.items():
        scale = max(float(np.abs(expected[name]).max()), 1)
        np.testing.assert_allclose(
            array, expected[name], rtol=0, atol=200 * eps * scale, err_msg=name
        )


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("kind", KINDS)
def test_not_a_number_stays_with_its_source_and_its_query(kind, rng):
    lengths = np.array([20, 20, 20])
    queries, keys, projected, score, _, _ = numbers(kind, rng, "float32", 3, 3, 20, 70, 70, lengths)
    clean = both_ways(queries, queries, keys, projected, score, lengths, 20)
    queries, projected = queries.copy(), projected.copy()
    queries[0, 1, 69] = np.nan
    projected[25, 3] = np.nan
    keys = projected if kind == "product with the keys" else keys
    found = both_ways(queries, np.ones_like(queries), keys, projected, score, lengths, 20)
    for name in ("context", "weights"):
        assert np.isnan(found[name][0, 1]).all()
        assert np.isnan(found[name][1]).all()
        for n, t in ((0, 0), (0, 2), (2, 0), (2, 1), (2, 2)):
            np.testing.assert_array_equal(found[name][n, t], clean[name][n, t])
    assert np.isnan(found["dqueries"][0, 1]).all()
    assert np.isfinite(found["dqueries"][0, [0, 2]]).all()
    for name in ("dkeys", "dprojected"):
        assert np.isfinite(found[name][40:]).all()


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_same_bits_for_any_threads_batch_and_padding(kind, dtype, rng):
    N, Tq, Ts, A, K = 4, 19, 37, 70, 66
    lengths = np.array([30, 0, 1, 37])
    queries, keys, projected, score, _, _ = numbers(kind, rng, dtype, N, Tq, Ts, A, K, lengths)
    dcontexts = rng.standard_normal((N, Tq, K)).astype(dtype)
    found = both_ways(queries, dcontexts, keys, projected, score, lengths, Ts)
    for threads in (1, 2, 4):
        before = _native.set_thread_limit(threads)
        again = both_ways(queries, dcontexts, keys, projected, score, lengths, Ts)
        _native.set_thread_limit(before)
        for name, array in found.items():
            np.testing.assert_array_equal(again[name], array)
    ends = np.cumsum(lengths)
    for n, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        steps = slice(end - length, end)
        k = keys[steps]
        p = k if projected is keys else projected[steps]
        for longest in {max(length, 1), 41}:
            alone = both_ways(
                queries[n : n + 1], dcontexts[n : n + 1], k, p, score, lengths[n : n + 1], longest
            )
            for name in ("context", "dqueries"):
                np.testing.assert_array_equal(alone[name][0], found[name][n])
            np.testing.assert_array_equal(
                alone["weights"][0, :, :length], found["weights"][n, :, :length]
            )
            for name in ("dkeys", "dprojected"):
                np.testing.assert_array_equal(alone[name], found[name][steps])
            if score is not None:
                np.testing.assert_array_equal(alone["dscore"][0], found["dscore"][n])
        sources = read(k, p.copy(), score, lengths[n : n + 1], Ts)
        for t in (0, 7, 18):  # one query at a time, as a decoder asks
            context, weights = attend(queries[n : n + 1, t : t + 1], sources)
            np.testing.assert_array_equal(context[0, 0], found["context"][n, t])
            np.testing.assert_array_equal(weights[0, 0], found["weights"][n, t])


def test_much_work_takes_several_regions(rng):
    lengths = np.full(40, 60)
    queries, keys, projected, score, _, _ = numbers(
        "additive", rng, "float32", 40, 120, 60, 128, 8, lengths
    )
    dcontexts = rng.standard_normal((40, 120, 8)).astype(np.float32)
    before = _native.set_thread_limit(1)
    found = both_ways(queries, dcontexts, keys, projected, score, lengths, 60)
    _native.set_thread_limit(before)
    for n in (0, 39):
        steps = slice(60 * n, 60 * (n + 1))
        alone = both_ways(
            queries[n : n + 1], dcontexts[n : n + 1], keys[steps], projected[steps], score,
            lengths[:1], 60,
        )  # fmt: skip
        for name in ("context", "weights", "dqueries"):
            np.testing.assert_array_equal(alone[name][0], found[name][n])


def test_sizes_are_checked_before_a_kernel_runs():
    def call(wanted, name, value):
        arrays = {
            "dcontext": np.zeros((6, 5), np.float32),
            "query": np.zeros((6, 4), np.float32),
            "weights": np.zeros((6, 3), np.float32),
            "projected": np.zeros((5, 4), np.float32),
            "wide": np.zeros(2, np.uint8),
            "score": np.zeros(4, np.float32),
            "keys": np.zeros((5, 5), np.float32),
            "base": np.array([0, 3, 5]),
            "dquery": np.zeros((6, 4), np.float32),
            "dprojected": np.zeros((5, 4), np.float32),
            "dkeys": np.zeros((5, 5), np.float32),
            "dscore": np.zeros((2, 4), np.float32),
            "context": np.zeros((6, 5), np.float32),
        }
        arrays[name] = value
        forward = ("query", "projected", "wide", "score", "keys", "base", "context", "weights")
        if name in forward:
            with pytest.raises(ValueError, match=wanted):
                _attention.attend(*(arrays[each] for each in forward))
        arrays.pop("context")
        if name in arrays:
            with pytest.raises(ValueError, match=wanted):
                _attention.attend_backward(*arrays.values())

    def real(*shape):
        return np.zeros(shape, np.float32)

    call(r"query: expected as many rows for each of 2 sources, got 5", "query", real(5, 4))
    call(r"query: expected \(6, 4\) of 4 bytes, got \(6, 3\) of 4", "query", real(6, 3))
    call(r"weights: expected \(4, 3\) of 4 bytes, got \(6, 3\) of 4", "query", real(4, 4))
    call(r"query: expected \(6, 4\) of 4 bytes, got \(6, 4\) of 8", "query", np.zeros((6, 4)))
    call(r"projected: expected 5 rows of 4 bytes an element, got 4 of 4", "projected", real(4, 4))
    call(r"query: expected \(6, 3\) of 4 bytes", "projected", real(5, 3))
    call(r"wide: expected 2 elements, got 1", "wide", np.zeros(1, np.uint8))
    call(r"score: expected \(1, 4\) of 4 bytes, got \(1, 3\) of 4", "score", real(3))
    call(r"keys: expected \(5, 5\) of 4 bytes, got \(4, 5\) of 4", "keys", real(4, 5))
    call(r"base: expected prefix sums that begin with 0", "base", np.array([1, 3, 5]))
    call(r"base: expected lengths in \[0, 3\], got 4", "base", np.array([0, 4, 5]))
    call(r"base: expected lengths in \[0, 3\], got -1", "base", np.array([0, 3, 2]))
    call(r"base: expected lengths in \[0, 2\], got 3", "weights", real(6, 2))
    for name in ("context", "dcontext"):
        call(rf"{name}: expected \(6, 5\) of 4 bytes, got \(6, 4\) of 4", name, real(6, 4))
    call(r"dquery: expected \(6, 4\)", "dquery", real(6, 5))
    call(r"dprojected: expected \(5, 4\)", "dprojected", real(6, 4))
    call(r"dkeys: expected \(5, 5\)", "dkeys", real(5, 4))
    call(r"dscore: expected \(2, 4\)", "dscore", real(1, 4))
    call(r"query: expected C order", "query", real(6, 8)[:, :4])


@pytest.mark.skipif(not COMPILERS, reason="no C compiler is installed")
@pytest.mark.parametrize("isa", ISAS)
def test_in_c_nothing_beyond_an_array_is_touched(isa):
    run("test_attention", "--compiler", COMPILERS[0], "--isa", isa)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("isa", ISAS)
def test_in_c_under_sanitizers(isa, compiler):
    run("test_attention", "--sanitize", "--compiler", compiler, "--isa", isa)
