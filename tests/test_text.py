"""Vocabularies: text to numbers and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.text.vocabulary import Vocabulary, read_texts


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
    (lambda: Vocabulary("token", ["<unk>"]), ValueError, "tokens: expected none that reads as unk"),
    (lambda: Vocabulary("char", "a", unknown=""), ValueError, "unknown: expected at least one ch"),
    (lambda: Vocabulary("char", "a", unknown=3), TypeError, "unknown: expected a str or None"),
    (lambda: Vocabulary("char", "a", boundary=0), TypeError, "boundary: expected True or False"),
    (lambda: Vocabulary("word", (), line_end="a b"), ValueError, "line_end: expected a line's end"),
    (lambda: Vocabulary("word", (), line_end=" "), ValueError, "line_end: expected a line's end"),
    (lambda: Vocabulary("word", (), line_end=1), TypeError, "line_end: expected a str or None"),
    (
        lambda: Vocabulary("word", ["\n"], line_end=None),
        ValueError,
        "tokens: expected single words",
    ),
    (lambda: read_texts("text", 3, "char"), TypeError, "text: expected a str or a list of str or"),
    (lambda: read_texts("text", b"ab", "word"), TypeError, "text: expected a str or a list of str"),
    (
        lambda: read_texts("text", ["a", 1], "char"),
        TypeError,
        r"text\[1\]: expected str or an it.*1",
    ),
    (lambda: read_texts("text", [["a"], [1]], "word"), TypeError, r"text\[1\]\[0\]: expected a to"),
    (lambda: read_texts("text", "ab", "token"), TypeError, "text: expected tokens .str. or a list"),
    (lambda: read_texts("text", [["a"], "b"], "token"), TypeError, r"text\[1\]: expected an iter"),
    (lambda: read_texts("text", ["a", 2], "token"), TypeError, r"text\[1\]: expected a token .*2"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=range(len(BAD)))
def test_bad_arguments_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_one_text_is_told_from_several() -> None:
    for level in ("char", "word"):
        assert read_texts("text", "ab", level) == (["ab"], True)
        assert read_texts("text", ("ab", np.str_("c")), level) == (["ab", "c"], False)
        assert read_texts("text", [["a", "b"], "c"], level) == ([["a", "b"], "c"], False)
        assert read_texts("text", iter([]), level) == ([], False)
    assert read_texts("text", iter(["a b", "c"]), "token") == ([["a b", "c"]], True)
    assert read_texts("text", [["a"], ("b", "c")], "token") == ([["a"], ["b", "c"]], False)
    assert read_texts("text", [["a"], []], "token") == ([["a"], []], False)
    assert read_texts("text", [], "token") == ([[]], True)


def test_the_unknown_symbol_may_be_a_token_of_the_text() -> None:
    """As in the Penn Treebank; it is counted among no tokens."""
    text = "the <unk> sat\non <unk> <unk>\n"
    vocabulary = Vocabulary.from_texts([text], "word", max_size=2)
    assert vocabulary.tokens == ("\n", "on")
    assert vocabulary.encode("on <unk> sat").tolist() == [3, 0, 0]
    assert "<unk>" not in vocabulary
    assert "sat" not in vocabulary
    other = Vocabulary.from_texts([text], "word", unknown="UNK")
    assert other.encode("UNK <unk>").tolist() == [0, 2]
    assert other.decode([0, 2]) == "UNK <unk>"
    assert Vocabulary.from_texts(["a?b?"], "char", unknown="?").encode("?ac").tolist() == [0, 2, 0]


def test_a_vocabulary_may_do_without_symbols() -> None:
    vocabulary = Vocabulary.from_texts(["abba"], "char", unknown=None, boundary=False)
    assert (vocabulary.unknown_number, vocabulary.boundary_number) == (None, None)
    assert (vocabulary.symbols, len(vocabulary)) == ((), 2)
    assert vocabulary.encode("ba").tolist() == [1, 0]
    assert "b" in vocabulary
    assert "c" not in vocabulary
    for text in ("abca", ["a", "b", "c"], "c\ud800", "ab\U0010ffff"):
        with pytest.raises(ValueError, match=r"here: expected tokens that are known .unknown=None"):
            vocabulary.encode(text, "here")
    with pytest.raises(ValueError, match="got 'c', token 2"):
        vocabulary.encode("abca")
    bare = Vocabulary.from_texts(["a b"], "word", boundary=False)
    assert (bare.unknown_number, bare.boundary_number, bare.tokens) == (0, None, ("a", "b"))
    assert [bare.token(i) for i in range(3)] == ["<unk>", "a", "b"]
    closed = Vocabulary.from_texts(["a b"], "word", unknown=None)
    assert (closed.unknown_number, closed.boundary_number) == (None, 0)
    assert [closed.token(i) for i in range(3)] == ["<s>", "a", "b"]


def test_a_lines_end_is_what_it_is_said_to_be() -> None:
    text = "the cat\n\nsat <eos>\n"
    marked = Vocabulary.from_texts([text], "word", line_end="<eos>")
    assert marked.tokens == ("<eos>", "cat", "sat", "the")
    assert marked.encode(text).tolist() == [5, 3, 2, 2, 4, 2, 2]
    assert marked.decode(marked.encode("the cat\nsat")) == "the cat <eos> sat"
    spaces = Vocabulary.from_texts([text], "word", line_end=None)
    assert spaces.tokens == ("<eos>", "cat", "sat", "the")
    assert spaces.encode(text).tolist() == [5, 3, 4, 2]


def test_a_vocabulary_is_made_again_from_what_it_tells() -> None:
    options = {"unknown": "?", "boundary": False, "line_end": "<eos>"}
    vocabulary = Vocabulary.from_texts(["a b ?\n"], "word", **options)
    again = Vocabulary(**vocabulary.config())
    assert again.config() == vocabulary.config()
    assert again.encode("? b\n").tolist() == vocabulary.encode("? b\n").tolist() == [0, 3, 1]
