"""X as people have it: every form gives the same sequences, and what is none is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastrnn.sequences.data import Channels, Samples, form_of, read_samples

N, T, D = 3, 4, 2
LENGTHS = [4, 1, 3]


def read(X: Any, lengths: Any = None, **options: Any) -> Samples:
    return read_samples(
        X, lengths, **{"dtype": None, "layout": "ntd", "missing": "error", **options}
    )


def same(found: Samples, expected: list[np.ndarray]) -> None:
    assert len(found) == len(expected)
    assert found.lengths.dtype == np.int64
    assert found.lengths.tolist() == [len(one) for one in expected]
    for one, other in zip(found.items, expected, strict=True):
        assert one.ndim == 2
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def X(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((N, T, D))


@pytest.fixture
def ragged(X: np.ndarray) -> list[np.ndarray]:
    return [one[:length] for one, length in zip(X, LENGTHS, strict=True)]


def objects(items: list[Any]) -> np.ndarray:
    out = np.empty(len(items), dtype=object)
    out[:] = items
    return out


# Forms


def test_arrays(X: np.ndarray, ragged: list[np.ndarray]) -> None:
    same(read(X), list(X))
    assert read(X).width == D
    for lengths in (LENGTHS, tuple(LENGTHS), np.array(LENGTHS, "uint8")):
        same(read(X, lengths), ragged)
    same(read(X.transpose(0, 2, 1), layout="ndt"), list(X))
    same(read(X.transpose(0, 2, 1), LENGTHS, layout="ndt"), ragged)
    same(read(X.tolist()), list(X))
    same(read(X.astype(object)), list(X))
    same(read(np.asfortranarray(X)), list(X))


def test_padding_may_hold_anything(X: np.ndarray, ragged: list[np.ndarray]) -> None:
    for i, length in enumerate(LENGTHS):
        X[i, length:] = np.nan
    same(read(X, LENGTHS), ragged)
    with pytest.raises(ValueError, match=r"X\[1\]: expected finite numbers, got NaN"):
        read(X)


def test_tables(X: np.ndarray) -> None:
    table = X[:, :, 0]
    expected = list(X[:, :, :1])
    for form in (table, table.tolist(), table.astype(object)):
        assert form_of(form) == "table"
        same(read(form), expected)
    same(read(table, layout="ndt"), expected)


def test_frames_in_and_as_lists(X: np.ndarray, ragged: list[np.ndarray]) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X[:, :, 0])
    assert form_of(frame) == "table"
    same(read(frame), list(X[:, :, :1]))
    frames = [pandas.DataFrame(one, columns=["a", "b"]) for one in ragged]
    assert form_of(frames) == "list"
    same(read(frames), ragged)
    series = [pandas.Series(one[:, 0]) for one in ragged]
    same(read(series), [one[:, :1] for one in ragged])


@pytest.mark.parametrize("make", [list, tuple, objects])
def test_lists(make: Any, X: np.ndarray, ragged: list[np.ndarray]) -> None:
    assert form_of(make(ragged)) == "list"
    same(read(make(ragged)), ragged)
    same(read(make([one.T for one in ragged]), layout="ndt"), ragged)
    one_channel = [one[:, 0] for one in ragged]
    same(read(make(one_channel)), [one[:, :1] for one in ragged])
    same(read(make(one_channel), layout="ndt"), [one[:, :1] for one in ragged])
    assert form_of(make(list(X))) == "list", "also of equal lengths"


def test_lists_of_lists(ragged: list[np.ndarray]) -> None:
    assert form_of([one.tolist() for one in ragged]) == "list"
    same(read([one.tolist() for one in ragged]), ragged)
    same(read([[1, 2], [3]]), [np.array([[1.0], [2.0]]), np.array([[3.0]])])
    assert form_of([[1, 2], [3, 4]]) == "table"
    assert form_of([[[1, 2]], [[3, 4]]]) == "array"
    assert form_of(["ab", "cd"]) == "table"


def test_views_are_not_copies(X: np.ndarray, ragged: list[np.ndarray]) -> None:
    assert all(np.shares_memory(one, X) for one in read(X, LENGTHS).items)
    assert all(np.shares_memory(one, X) for one in read(ragged).items)
    assert all(np.shares_memory(one, X) for one in read(X.transpose(0, 2, 1), layout="ndt").items)
    assert all(np.shares_memory(one, X) for one in read(X[:, :, 0]).items)


def test_take(ragged: list[np.ndarray]) -> None:
    same(read(ragged).take(np.array([2, 0])), [ragged[2], ragged[0]])


# dtypes


@pytest.mark.parametrize(
    ("given", "expected"),
    [("float32", "float32"), ("float64", "float64"), ("float16", "float32"), ("int64", "float64"),
     ("uint8", "float64"), ("bool", "float64"), (">f4", "float32"), (">f8", "float64"),
     ("longdouble", "float64"), (object, "float64")],
)  # fmt: skip
def test_dtypes(given: Any, expected: str, X: np.ndarray) -> None:
    for form in (X.astype(given), list(X.astype(given)), X[:, :, 0].astype(given)):
        item = read(form).items[0]
        assert item.dtype == np.dtype(expected) and item.dtype.isnative
        assert read(form, dtype=np.dtype("float32")).items[0].dtype == np.float32


def test_a_list_of_several_dtypes_is_of_the_widest(ragged: list[np.ndarray]) -> None:
    mixed = [ragged[0].astype("float32"), *ragged[1:]]
    assert {item.dtype for item in read(mixed).items} == {np.dtype("float64")}
    narrow = [one.astype("float32") for one in ragged]
    assert {item.dtype for item in read(narrow).items} == {np.dtype("float32")}


# Missing steps


def test_missing_steps_are_left_out(X: np.ndarray) -> None:
    X[0, 1] = np.nan
    X[2, [0, 3]] = np.nan
    expected = [X[0, [0, 2, 3]], X[1], X[2, 1:3]]
    for form in (X, list(X), X.transpose(0, 2, 1)):
        layout = "ndt" if form is not X and not isinstance(form, list) else "ntd"
        same(read(form, missing="skip", layout=layout), expected)
    same(read(X[:, :, 0], missing="skip"), [one[:, :1] for one in expected])
    same(read(X, [4, 4, 3], missing="skip"), expected)
    kept = read(X, missing="keep")
    assert kept.lengths.tolist() == [T] * N
    with pytest.raises(ValueError, match=r"X\[0\]: expected finite numbers, got NaN"):
        read(X)


def test_steps_missing_in_part_are_refused(X: np.ndarray) -> None:
    X[1, 0] = np.nan
    X[1, 2, 1] = np.nan
    message = r"X\[1\]: expected steps that are finite, or NaN in all channels .* at step 2"
    with pytest.raises(ValueError, match=message):
        read(X, missing="skip")
    X[1, 2, 1] = np.inf
    with pytest.raises(ValueError, match=message):
        read(X, missing="skip")


def test_a_sequence_of_missing_steps_alone_is_empty(X: np.ndarray) -> None:
    X[1] = np.nan
    with pytest.raises(ValueError, match=r"X\[1\]: expected at least one step, got an empty"):
        read(X, missing="skip")


# Refusals


@pytest.mark.parametrize(
    ("X", "options", "error", "message"),
    [
        ([np.ones((2, 3)), np.ones((2, 2))], {}, ValueError,
         r"X\[1\]: expected 3 channels, as X\[0\] has, got 2"),
        ([np.ones((2, 3)), np.ones((0, 3))], {}, ValueError,
         r"X\[1\]: expected at least one step, got an empty sequence"),
        ([np.ones(2), np.ones(0)], {}, ValueError, r"X\[1\]: expected at least one step"),
        ([np.ones((2, 2, 2))], {}, ValueError, r"X\[0\]: expected 1 dimension \(T\) or 2 \(T, D\)"),
        ([np.ones((2, 2, 2))], {"layout": "ndt"}, ValueError, r"or 2 \(D, T\)"),
        ([np.ones((2, 2)), np.float64(3)], {}, ValueError, r"X\[1\]: expected 1 dimension"),
        (np.ones((2, 3, 4)), {"lengths": [1, 0]}, ValueError, r"X\[1\]: expected at least one"),
        (np.ones((2, 3, 4)), {"lengths": [1, 4]}, ValueError, r"lengths: expected values in"),
        (np.ones((2, 3, 4)), {"lengths": [1, -1]}, ValueError, r"lengths: expected values in"),
        (np.ones((2, 3, 4)), {"lengths": [1]}, ValueError, r"lengths: expected shape \(2,\)"),
        (np.ones((2, 3, 4)), {"lengths": [1.0, 2.0]}, TypeError, r"lengths: expected integers"),
        (np.ones((2, 3)), {"lengths": [1, 1]}, ValueError, r"lengths: expected none with two"),
        ([np.ones(2), np.ones(1)], {"lengths": [1, 1]}, ValueError, r"lengths: .*none with a list"),
        (np.ones((2, 3, 4, 5)), {}, ValueError, r"X: expected 2 dimensions .* got 4"),
        (np.ones((2, 3, 4, 5)), {"layout": "ndt"}, ValueError, r"3 \(n, D, T\)"),
        (np.ones(3), {}, ValueError, r"X: expected 2 dimensions .* got 1 with shape \(3,\)"),
        (np.ones((0, 3, 4)), {}, ValueError, r"X: expected at least one sequence"),
        ([], {}, ValueError, r"X: expected"),
        (np.ones((2, 3, 0)), {}, ValueError, r"X: expected at least one channel"),
        (np.ones((2, 0, 3)), {}, ValueError, r"X\[0\]: expected at least one step"),
        (np.ones((2, 3, 4), complex), {}, TypeError, r"X: expected real numbers, got dtype comp"),
        ([np.ones((2, 2)), np.array([["a", "b"]])], {}, TypeError, r"X\[1\]: expected real"),
        ([np.ones((2, 2)), np.array([[b"a", b"b"]])], {}, TypeError, r"X\[1\]: expected real"),
        (np.array(["2020-01-01"], "datetime64[D]"), {}, TypeError, r"X: expected real numbers"),
        ([[[1, 2], [3]], [[1, 2]]], {}, TypeError, r"X\[0\]: expected real numbers"),
        (np.full((1, 2, 2), np.inf), {}, ValueError, r"X\[0\]: .* got infinity"),
        (np.full((1, 2, 2), 1e300), {"dtype": np.dtype("float32")}, ValueError, r"got infinity"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_refusals(X: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read(X, **options)


def test_refusals_name_their_argument() -> None:
    with pytest.raises(ValueError, match=r"eval_set\[1\]: expected 3 channels, as eval_set\[0\]"):
        read([np.ones((2, 3)), np.ones((2, 2))], name="eval_set")


# Standardization


def test_channels_are_standardized_over_real_steps(ragged: list[np.ndarray]) -> None:
    samples = read(ragged)
    channels = Channels.of(samples, np.ones(N))
    steps = np.concatenate(ragged)
    np.testing.assert_allclose(channels.mean, steps.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(channels.scale, steps.std(axis=0), rtol=1e-14)
    scaled = np.concatenate(channels.scaled(samples).items)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-14)


def test_weights_are_repetitions(ragged: list[np.ndarray]) -> None:
    weighted = Channels.of(read(ragged), np.array([2.0, 0.0, 1.0]))
    repeated = Channels.of(read([ragged[0], ragged[0], ragged[2]]), np.ones(3))
    np.testing.assert_allclose(weighted.mean, repeated.mean, rtol=1e-14)
    np.testing.assert_allclose(weighted.scale, repeated.scale, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_constant_channels_stay_finite(dtype: str) -> None:
    """0.1 is not its own mean in binary, and a spread of rounding errors is none."""
    samples = read([np.full((n, 2), [0.1, 3e7], dtype) for n in (997, 3)])
    channels = Channels.of(samples, np.ones(2))
    assert channels.scale.tolist() == [1, 1]
    for item in channels.scaled(samples).items:
        assert item.dtype == dtype
        assert np.abs(item).max() < 4  # 3e7 has few digits left in float32


def test_offsets_lose_no_digits(rng: np.random.Generator) -> None:
    x = rng.standard_normal((50, 1))
    plain, offset = (Channels.of(read([x + shift]), np.ones(1)) for shift in (0, 1e6))
    np.testing.assert_allclose(offset.scale, plain.scale, rtol=1e-9)
