"""Vocabularies: text to numbers and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.text.vocabulary import Vocabulary, as_documents


def test_tokens_stand_by_frequency_then_code_point() -> None:
    vocabulary = Vocabulary.from_texts(["banana", "band!"], "char")
    assert vocabulary.tokens == ("a", "n", "b", "!", "d")
    assert len(vocabulary) == 7
    assert [vocabulary.token(i) for i in range(7)] == ["<unk>", "<s>", "a", "n", "b", "!", "d"]
    assert "b" in vocabulary
    assert "<s>" not in vocabulary
    assert repr(vocabulary) == "<Vocabulary of 5 chars>"


def test_encode_gives_the_numbers_and_zero_for_what_is_unknown() -> None:
    vocabulary = Vocabulary.from_texts(["banana"], "char")
    numbers = vocabulary.encode("nab\N{SNOWMAN}x")
    assert numbers.dtype == np.int64
    assert numbers.tolist() == [3, 2, 4, 0, 0]
    assert vocabulary.encode("").shape == (0,)
    assert Vocabulary("char", ()).encode("ab").tolist() == [0, 0]


@given(st.text(alphabet=st.characters(), min_size=1))
def test_characters_come_back(text: str) -> None:
    """Every code point there is, unpaired surrogates and NUL among them."""
    vocabulary = Vocabulary.from_texts([text], "char")
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert len(vocabulary.encode(text)) == len(text)


def test_words_are_runs_without_white_space_and_line_ends() -> None:
    vocabulary = Vocabulary.from_texts(["the cat\n\tthe  dog.\n"], "word")
    assert vocabulary.tokens == ("\n", "the", "cat", "dog.")
    numbers = vocabulary.encode("the dog.\nthe bird")
    assert [vocabulary.token(i) for i in numbers] == ["the", "dog.", "\n", "the", "<unk>"]
    assert vocabulary.decode(numbers) == "the dog.\nthe <unk>"


def test_rare_tokens_may_be_left_out() -> None:
    text = ["aaabbc"]
    assert Vocabulary.from_texts(text, "char", min_count=2).tokens == ("a", "b")
    assert Vocabulary.from_texts(text, "char", max_size=1).tokens == ("a",)
    assert Vocabulary.from_texts(text, "char", max_size=0).tokens == ()


def test_texts_may_be_split_already() -> None:
    vocabulary = Vocabulary.from_texts([["New York", ""], iter(["New York"])], "token")
    assert vocabulary.tokens == ("New York", "")
    assert vocabulary.encode(["", "New York", "York"]).tolist() == [3, 2, 0]
    assert vocabulary.decode([2, 2]) == "New York New York"
    words = Vocabulary.from_texts(["the cat", ["the", "dog"]], "word")
    assert words.tokens == ("the", "cat", "dog")
    assert words.encode("the dog").tolist() == words.encode(("the", "dog")).tolist() == [2, 4]
    with pytest.raises(ValueError, match="tokens: expected single words, got 'New York'"):
        Vocabulary.from_texts([["New York"]], "word")


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: Vocabulary("letter", ()), ValueError, "level: expected one of 'char', 'word'"),
    (lambda: Vocabulary("char", ["ab"]), ValueError, "tokens: expected single chars, got 'ab'"),
    (lambda: Vocabulary("char", [""]), ValueError, "tokens: expected single chars"),
    (lambda: Vocabulary("word", ["a b"]), ValueError, "tokens: expected single words, got 'a b'"),
    (lambda: Vocabulary("char", [1]), TypeError, "tokens: expected texts, got 1"),
    (lambda: Vocabulary("char", "aba"), ValueError, "tokens: expected each once, got 'a' more"),
    (
        lambda: Vocabulary("char", "a").encode(b"a"),
        TypeError,
        "text: expected str or an iter.*b'a'",
    ),
    (lambda: Vocabulary("token", "a").encode("ab"), TypeError, "text: expected an iter.*got 'ab'"),
    (lambda: Vocabulary("token", "a").encode([2]), TypeError, r"text\[0\]: expected a token .*2"),
    (lambda: Vocabulary.from_texts([["a"], "b"], "token"), TypeError, r"texts\[1\]: expected an"),
    (lambda: Vocabulary("char", "a").token(3), ValueError, "number: expected below 3, got 3"),
    (lambda: Vocabulary("char", "a").decode([-1]), ValueError, "number: expected an integer of"),
    (lambda: Vocabulary.from_texts([], "char", min_count=0), ValueError, "min_count: expected"),
    (lambda: as_documents("text", 3), TypeError, "text: expected a str or a list of str, got 3"),
    (lambda: as_documents("text", b"ab"), TypeError, "text: expected a str or a list of str"),
    (lambda: as_documents("text", ["a", 1]), TypeError, r"text\[1\]: expected str, got 1"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=range(len(BAD)))
def test_bad_arguments_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_documents_are_lists() -> None:
    assert as_documents("text", "ab") == ["ab"]
    assert as_documents("text", ("ab", np.str_("c"))) == ["ab", "c"]
    assert as_documents("text", iter([])) == []
