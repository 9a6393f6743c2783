"""The examples run, as a user runs them, and their own small parts are right."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import fastrnn
from fastrnn.text.vocabulary import Vocabulary


def run(root: Path, *arguments: str | Path) -> str:
    """What an example prints."""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def character_model(root: Path) -> ModuleType:
    return module(root / "examples" / "character_model.py")


@pytest.fixture(scope="module")
def word_model(root: Path) -> ModuleType:
    return module(root / "examples" / "word_model.py")


def test_the_trigram_is_its_formula(character_model: ModuleType) -> None:
    text = "abracadabra abracadabra"
    trigram = character_model.Trigram(text)
    w0, w1, w2, w3 = trigram.weights
    assert trigram.weights.sum() == pytest.approx(1)
    n, size = len(text), len(set(text)) + 1
    # "b" after "ra": never; after "a": 4 of 9 times; alone 4 of 23.
    expected = w0 / size + w1 * 4 / n + w2 * 4 / (text.count("a")) + w3 * 0
    ids = trigram._encode("rab")
    assert (trigram._orders(ids) @ trigram.weights)[2] == pytest.approx(expected)
    # "r" after "ab" follows every one of its 4 times, and "b" every one.
    ids = trigram._encode("abr")
    expected = w0 / size + w1 * 4 / n + w2 + w3
    assert (trigram._orders(ids) @ trigram.weights)[2] == pytest.approx(expected)


def test_the_trigrams_probabilities_add_up_to_one(character_model: ModuleType) -> None:
    """After pairs that have been seen; all known characters and one that is not."""
    text = "the cat sat on the mat and the rat sat on the cat " * 3
    trigram = character_model.Trigram(text)
    for pair in ("th", "at", "e "):
        p = [
            (trigram._orders(trigram._encode(pair + c)) @ trigram.weights)[2]
            for c in [*sorted(set(text)), "Q"]
        ]
        assert sum(p) == pytest.approx(1, abs=0.02)  # the text's last pair has no follower


def test_the_trigram_measures_bits(character_model: ModuleType) -> None:
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("abcd"), 60_000))
    bits = character_model.Trigram(text[:50_000]).bits_per_character(text[50_000:])
    assert bits == pytest.approx(2, abs=0.01)  # four equally likely characters


def test_the_character_model_runs_as_a_whole(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = root / "examples" / "character_model.py"
    printed = run(root, script, "--quick", "--minutes", "30", "--out", out)
    bits = [float(b) for b in re.findall(r"held out (\d\.\d+) bits per character", printed)]
    assert len(bits) == 2
    assert bits[1] < bits[0] < math.log2(103)
    head, _, written = printed.partition("loaded in a fresh process, writes:\n\n")
    assert "read as one stream" in head
    assert len(written) == 301
    assert (out / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    model = fastrnn.load(out / "model.safetensors")
    assert model.generate(300, "\n\n", temperature=0.7, seed=0) == written[:-1]


@pytest.mark.slow
@pytest.mark.long
def test_the_main_job_beats_the_trigram_by_far(root: Path, tmp_path: Path) -> None:
    """At least 0.4 bits per character, within two minutes on two cores."""
    printed = run(root, root / "examples" / "character_model.py", "--out", tmp_path)
    found = re.search(r"(-?\d\.\d+) bits below the trigram", printed)
    assert found is not None
    assert float(found[1]) >= 0.4


@pytest.mark.slow
def test_the_main_job_on_another_text(
    root: Path, tmp_path: Path, data_file: Callable[[str], Path]
) -> None:
    """By as much, with half the units and three passes."""
    text = data_file("text/tiny_shakespeare.txt")
    script = root / "examples" / "character_model.py"
    smaller = ("--hidden", "200", "--epochs", "3")
    printed = run(root, script, "--text", text, "--out", tmp_path, *smaller)
    found = re.search(r"(-?\d\.\d+) bits below the trigram", printed)
    assert found is not None
    assert float(found[1]) >= 0.4


def test_rates_are_those_of_the_recipes(word_model: ModuleType) -> None:
    halved, slower = word_model.decayed(2.0, after=4), word_model.decayed(1.2, after=6)
    assert [halved(epoch, {}) for epoch in range(7)] == [1, 1, 1, 1, 0.5, 0.25, 0.125]
    assert [slower(epoch, {}) for epoch in (0, 5)] == [1, 1]
    assert slower(7, {}) == pytest.approx(1 / 1.44)
    losses = [5.0, 4.0, 4.0, 3.0, 3.5]
    rates = [
        word_model.fourth_when_stalled(epoch, {"validation_loss": losses[:epoch]})
        for epoch in range(6)
    ]
    assert rates == [20, 20, 20, 5, 5, 1.25]


def test_single_words_shares_are_counted(word_model: ModuleType) -> None:
    known = Vocabulary("word", ["a", "<eos>"], boundary=False)
    found = word_model.unigram_perplexity("a a b\na\n", "a c\n", known)
    # of 6 words and one more of each of 3: a 4 times, <eos> 3 and <unk> 2
    assert found == pytest.approx((4 / 9 * 3 / 9 * 2 / 9) ** (-1 / 3))


@pytest.mark.parametrize("recipe", ["zaremba-small", "zaremba-medium", "pytorch"])
def test_a_word_model_runs_as_a_whole(root: Path, tmp_path: Path, recipe: str) -> None:
    path, script = tmp_path / "model", root / "examples" / "word_model.py"
    printed = run(root, script, "--quick", "--recipe", recipe, "--minutes", "30", "--save", path)
    perplexities = [float(found) for found in re.findall(r"validation +(\d+\.\d)", printed)]
    assert len(perplexities) == 6
    assert perplexities[-1] < perplexities[0]
    found = re.search(r"one stream: (\d+\.\d); that of single words' shares: (\d+\.\d)", printed)
    assert found is not None
    if recipe != "zaremba-medium":  # half of so few units is too little in so short a time
        assert float(found[1]) < 0.8 * float(found[2])
    assert len(printed.partition("it writes:\n\n")[2].split()) > 20
    model = fastrnn.load(path)
    assert model.vocabulary_.boundary_number is None
    assert "<eos>" in model.vocabulary_


@pytest.mark.slow
@pytest.mark.long
def test_the_small_recipe_learns_within_two_minutes(root: Path) -> None:
    printed = run(root, root / "examples" / "word_model.py")
    found = re.search(r"one stream: (\d+\.\d); that of single words' shares: (\d+\.\d)", printed)
    assert found is not None
    assert 3 * float(found[1]) < float(found[2])


def test_names_are_classified(root: Path) -> None:
    pytest.importorskip("sklearn")
    printed = run(root, root / "examples" / "classify_names.py")
    found = re.search(r"letters: (0\.\d+)\nrecurrent network: (0\.\d+)\n", printed)
    assert found is not None
    assert float(found[2]) > max(float(found[1]), 0.9)
    shares = [sum(map(int, re.findall(r"[a-zA-Z](\d+)", line))) for line in printed.splitlines()
              if re.search(r" [01]\.\d\d   ", line)]  # fmt: skip
    assert len(shares) == 4
    assert all(abs(share - 100) < 5 for share in shares), "attention adds up"


def test_words_are_tagged(root: Path) -> None:
    pytest.importorskip("sklearn")
    printed = run(root, root / "examples" / "tag_words.py")
    found = re.findall(r"(0\.\d+) of all words right, (0\.\d+) of new ones", printed)
    (_, words), (every, letters) = [tuple(map(float, pair)) for pair in found]
    assert letters > words + 0.05
    assert every > 0.95


def test_a_forecast_runs_as_a_whole(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    picture = tmp_path / "forecast.png"
    printed = run(root, root / "examples" / "forecast.py", "--plot", picture)
    errors = re.findall(r"^(forecaster|naive|seasonal naive)[ (12)]* +(\d+\.?\d*) ", printed, re.M)
    assert [name for name, _ in errors] == ["forecaster", "naive", "seasonal naive"]
    own, naive, seasonal = (float(error) for _, error in errors)
    assert own < 0.8 * seasonal < naive
    rows = re.findall(r"^ +(\d+) +(\d+) +(\d+) to +(\d+) +(\d+)$", printed, re.M)
    assert len(rows) == 12
    assert all(int(low) < int(value) < int(high) for _, value, low, high, _ in rows)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_sums_are_learned(root: Path) -> None:
    script = root / "examples" / "arithmetic.py"
    small = ["--examples", "3000", "--digits", "2", "--batch-size", "50", "--epochs", "12"]
    printed = run(root, script, *small)
    shares = [float(share) for share in re.findall(r"epoch +\d+: loss .*, (.*) % right", printed)]
    assert len(shares) == 12
    assert shares[0] < 10 < 50 < shares[-1]
    found = re.search(r"exact answers: (0\.\d+)\n", printed)
    assert found is not None
    assert 100 * float(found[1]) == pytest.approx(shares[-1], abs=0.06)


@pytest.mark.slow
def test_sums_of_three_digits_are_learned(root: Path) -> None:
    printed = run(root, root / "examples" / "arithmetic.py")
    found = re.search(r"exact answers: (\d\.\d+)\n", printed)
    assert found is not None
    assert float(found[1]) >= 0.995


BLEU = r"attention (\w+) +\d+ epochs in .*, BLEU greedy (\d+\.\d), with beams (\d+\.\d)\n"


def test_made_up_sentences_are_translated(root: Path, tmp_path: Path) -> None:
    picture = tmp_path / "alignment.png"
    printed = run(root, root / "examples" / "translate.py", "--plot", picture)
    (kind, greedy, beams), (none, plain, _) = re.findall(BLEU, printed)
    assert (kind, none) == ("additive", "none")
    assert min(float(greedy), float(beams)) > max(90, float(plain) + 2)
    assert printed.count("looked at: ") == 4
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_real_sentences_are_translated(root: Path, data_file: Callable[[str], Path]) -> None:
    pairs = data_file("translation/eng-fra-20k.tsv")
    script = root / "examples" / "translate.py"
    printed = run(root, script, "--pairs", pairs, "--quick", "--held-out", "100")
    (_, with_attention, _), (_, without, _) = re.findall(BLEU, printed)
    assert float(with_attention) > 5
    assert float(without) > 0
