"""Parts of speech, with and without a look at how words are spelled.

The sentences are made up here: a few hundred invented words in a small grammar, in which some words
are a noun in one place and a verb in another. Of the sentences to judge, many words never came in
training: only their endings and their neighbors tell what they are.

    python examples/tag_words.py
"""

from __future__ import annotations

import argparse

import numpy as np

from fastrnn import SequenceTagger

ENDINGS = {"NOUN": ["", "er", "ness"], "VERB": ["s", "ed", "ifies"], "ADJ": ["y", "ous", ""],
           "ADV": ["ly"]}  # fmt: skip
GRAMMAR = [  # with words that are always the same
    "DET NOUN VERB", "DET ADJ NOUN VERB ADV", "PRON VERB DET NOUN", "PRON ADV VERB",
    "DET NOUN VERB DET ADJ NOUN", "ADP DET NOUN PRON VERB", "PRON AUX ADJ",
]  # fmt: skip
CLOSED = {"DET": ["the", "a", "this"], "PRON": ["she", "it", "they"], "AUX": ["is", "was"],
          "ADP": ["in", "under"]}  # fmt: skip

Sentences = list[list[str]]


def make_words(rng: np.random.Generator, count: int) -> dict[str, list[str]]:
    """Invented words by part of speech; every fifth stem is a noun and a verb without a change."""
    words: dict[str, list[str]] = {kind: [] for kind in ENDINGS}
    for i in range(count):
        stem = "".join(rng.choice(list("bdfgklmnprst")) + rng.choice(list("aeiou")) for _ in "ab")
        stem += rng.choice(list("bdgkmnpt"))
        kinds = ["NOUN", "VERB"] if i % 5 == 0 else [str(rng.choice(list(ENDINGS)))]
        for kind in kinds:
            words[kind].append(stem + ("" if len(kinds) == 2 else rng.choice(ENDINGS[kind])))
    return words


def make_sentences(
    rng: np.random.Generator, words: dict[str, list[str]], count: int
) -> tuple[Sentences, Sentences]:
    """Words and their parts of speech."""
    tags = [str(rng.choice(GRAMMAR)).split() for _ in range(count)]
    known = {**words, **CLOSED}
    return [[str(rng.choice(known[tag])) for tag in one] for one in tags], tags


def main() -> None:
    """Train taggers of words, and of words and their letters."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sentences", type=int, default=1000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    X, y = make_sentences(rng, make_words(rng, 300), options.sentences)
    X_test, y_test = make_sentences(rng, make_words(rng, 300), 300)
    known = {word for sentence in X for word in sentence}
    new = [word not in known for sentence in X_test for word in sentence]
    print(f"{len(X)} sentences of {len(known)} words; {np.mean(new):.0%} of what is judged is new")

    for chars in (False, True):
        model = SequenceTagger(
            chars=chars, hidden_size=32, embedding_dim=16, max_iter=15, batch_size=50,
            learning_rate_init=0.01, random_state=0,
        )  # fmt: skip
        model.fit(X, y)
        right = np.concatenate(model.predict(X_test)) == np.concatenate(y_test)
        what = "words and letters" if chars else "words alone"
        print(f"{what}: {right.mean():.3f} of all words right, {right[new].mean():.3f} of new ones")

    sentence = X_test[1]
    [said] = model.predict([sentence])
    print("\n" + " ".join(f"{word}/{tag}" for word, tag in zip(sentence, said, strict=True)))


if __name__ == "__main__":
    main()
