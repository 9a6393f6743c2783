"""Which language is a name of? A recurrent network over its letters, beside counts of letters.

The names are made up here, of the syllables and endings of four languages that do not exist; some
syllables and endings are shared, so no single letter tells. A name's letters are read one by one,
and attention says which of them decided.

    python examples/classify_names.py
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from fastrnn import TextClassifier

# Onsets, vowels, endings, and which of the onsets may end a syllable.
LANGUAGES = {
    "Northern": ("b d f g h k r s t th sv st", "a e i o", "sen dottir gard son", "r n l"),
    "Southern": ("b c d f g l m p r t v gl", "a e i o u", "ino etti ora ano", "n l r"),
    "Eastern": ("b d k l m n p r s t v kr", "a e i o u", "ov ina enko ano", "r s n"),
    "Western": ("c d g k l m n p r t tr pl", "e i o u y", "wyn eth son ora", "n th s"),
}


def make_name(rng: np.random.Generator, language: str) -> str:
    """One or two syllables and an ending."""
    onsets, vowels, endings, closings = (part.split() for part in LANGUAGES[language])
    name = ""
    for _ in range(rng.integers(1, 3)):
        name += rng.choice(onsets) + rng.choice(vowels)
        if rng.random() < 0.4:
            name += rng.choice(closings)
    return (name + rng.choice(endings)).capitalize()


def main() -> None:
    """Make names, train on most of them, and judge the rest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--names", type=int, default=500, help="of each language")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    rows = {(make_name(rng, one), one) for one in LANGUAGES for _ in range(options.names)}
    names, languages = (list(column) for column in zip(*sorted(rows), strict=True))
    X, X_test, y, y_test = train_test_split(
        names, languages, test_size=0.25, random_state=0, stratify=languages
    )
    print(f"{len(X)} names to learn from, {len(X_test)} to judge, such as {', '.join(X_test[:3])}")

    letters = make_pipeline(
        TfidfVectorizer(analyzer="char", ngram_range=(1, 1)), LogisticRegression(C=10)
    )
    print(f"counts of letters: {letters.fit(X, y).score(X_test, y_test):.3f}")

    model = TextClassifier(
        "char", hidden_size=32, embedding_dim=16, dropout=0.2, pooling="attention", random_state=0
    )
    model.fit(X, y)
    print(f"recurrent network: {model.score(X_test, y_test):.3f}")

    shown = [X_test[y_test.index(language)] for language in LANGUAGES]
    print("\nwhat decided (a letter's share of the attention):")
    for name, said, p, weights in zip(
        shown,
        model.predict(shown),
        model.predict_proba(shown).max(axis=1),
        model.attention_weights(shown),
        strict=True,
    ):
        share = " ".join(f"{letter}{100 * w:.0f}" for letter, w in zip(name, weights, strict=True))
        print(f"{name:16} {said:9} {p:.2f}   {share}")


if __name__ == "__main__":
    main()
