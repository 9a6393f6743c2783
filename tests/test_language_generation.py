"""Text that a language model writes: what it draws, where it stops, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made_models import SMALL_LANGUAGE as SMALL
from made_models import TEXT

from fastrnn import LanguageModel
from fastrnn.text.sampling import Sampler
from fastrnn.text.vocabulary import Vocabulary

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(**{**SMALL, "max_iter": 12}, learning_rate_init=0.02).fit(TEXT)


def test_generate_draws_with_the_models_probabilities() -> None:
    """The greedy text is the most likely one, step by step."""
    model = LanguageModel(**SMALL).fit(TEXT)
    text = model.generate(20, prompt="the ", temperature=0)
    ids = [Vocabulary.BOUNDARY, *model.vocabulary_.encode("the " + text)]
    y, _ = model.layers_["rnn"](model.layers_["embedding"](np.array([ids[:-1]])))
    logits = model.layers_["output"](y[0])
    logits[:, : len(Vocabulary.SYMBOLS)] = -np.inf
    assert np.argmax(logits, axis=1)[4:].tolist() == ids[5:]


def test_the_same_seed_gives_the_same_text(model: LanguageModel) -> None:
    assert model.generate(40, seed=1) == model.generate(40, seed=1)
    assert model.generate(40, seed=1) != model.generate(40, seed=2)
    assert len(model.generate(40, seed=1)) == 40
    assert model.generate(0) == ""
    whole = model.generate(40, seed=np.random.default_rng(1))
    assert whole == model.generate(40, seed=1)


def test_a_stream_gives_the_same_text_piece_by_piece(model: LanguageModel) -> None:
    pieces = model.generate(25, prompt="the", seed=3, stream=True)
    first = next(pieces)
    assert len(first) == 1
    assert first + "".join(pieces) == model.generate(25, prompt="the", seed=3)


def test_generation_stops_after_a_text(model: LanguageModel) -> None:
    text = model.generate(400, seed=5)
    assert model.generate(400, seed=5, stop="t") == text[: text.index("t") + 1]
    ends = [text.index(end) + 2 for end in ("e ", "t ")]
    assert model.generate(400, seed=5, stop=["t ", "e "]) == text[: min(ends)]


def test_words_are_written_with_spaces_and_lines() -> None:
    model = LanguageModel(
        **{**SMALL, "level": "word", "max_iter": 80, "learning_rate_init": 0.05}, batch_size=1
    ).fit("one two\nthree four\n" * 12)
    assert model.generate(7, temperature=0) == "one two\nthree four\none"
    assert list(model.generate(4, prompt="one", temperature=0, stream=True)) == [
        "two", "\n", "three", " four",
    ]  # fmt: skip
    assert model.perplexity("one two\nthree four\n") < 1.5
    assert len(model.log_prob("one two\nthree six")) == 5


def test_sampling_is_what_it_says() -> None:
    logits = np.log([0.1, 0.4, 0.2, 0.3])

    def p(*options: Any, forbidden: tuple[int, ...] = ()) -> list[float]:
        sampler = Sampler(*options, np.random.default_rng(0), forbidden)
        return sampler.probabilities(logits).round(12).tolist()

    assert p(1.0, None, None) == [0.1, 0.4, 0.2, 0.3]
    assert p(0.0, None, None) == [0, 1, 0, 0]
    assert p(1.0, 1, None) == [0, 1, 0, 0]
    assert p(1.0, 2, None) == pytest.approx([0, 4 / 7, 0, 3 / 7])
    assert p(1.0, 99, 1.0) == [0.1, 0.4, 0.2, 0.3]
    assert p(1.0, None, 0.69) == pytest.approx([0, 4 / 7, 0, 3 / 7])
    assert p(1.0, None, 0.75) == pytest.approx([0, 4 / 9, 2 / 9, 3 / 9])
    assert p(1.0, None, 1e-9) == [0, 1, 0, 0]
    squares = np.array([0.01, 0.16, 0.04, 0.09])
    assert p(0.5, None, None) == pytest.approx((squares / squares.sum()).tolist())
    assert p(1.0, None, None, forbidden=(1,)) == pytest.approx([1 / 6, 0, 2 / 6, 3 / 6])
    assert p(0.0, None, None, forbidden=(1,)) == [0, 0, 0, 1]
    sampler = Sampler(1.0, None, None, np.random.default_rng(0), (0,))
    drawn = np.bincount([sampler.draw(logits) for _ in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(drawn, [0, 4 / 9, 2 / 9, 3 / 9], atol=0.03)


GENERATE: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"n": -1}, ValueError, "n: expected an integer of at least 0, got -1"),
    ({"n": 2.5}, TypeError, "n: expected an integer"),
    (
        {"prompt": 3},
        TypeError,
        "prompt: expected a str or a list of str or of lists of tokens, got 3",
    ),
    ({"temperature": -1}, ValueError, "temperature: expected a number at least 0"),
    ({"top_k": 0}, ValueError, "top_k: expected an integer of at least 1, got 0"),
    ({"top_p": 0}, ValueError, "top_p: expected a number above 0 and at most 1"),
    ({"seed": "x"}, TypeError, "seed: expected an int, a numpy.random.Generator or None"),
    ({"stop": ""}, ValueError, "stop: expected text of at least one character"),
    ({"stop": 3}, TypeError, "stop: expected a str or an iterable of tokens"),
]


@pytest.mark.parametrize(("options", "error", "message"), GENERATE, ids=range(len(GENERATE)))
@pytest.mark.parametrize("stream", [False, True])
def test_bad_arguments_of_generate_are_named_at_once(
    model: LanguageModel, options: Any, error: type[Exception], message: str, stream: bool
) -> None:
    with pytest.raises(error, match=message):
        model.generate(**options, stream=stream)
