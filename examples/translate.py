"""Translate English to French, word by word, with attention and without.

Sentences and their translations are read from a file (two columns and a tab between, such as those
of https://www.manythings.org/anki), or made up by a small grammar, where French puts the adjective
after the noun and lets it agree. Some English sentences are held out with all their translations;
BLEU is measured against all of these. At the end stand a few translations, and which English word
each French one has looked at.

    python examples/translate.py
    python examples/translate.py --pairs eng-fra.tsv --plot alignment.png
"""

from __future__ import annotations

import argparse
import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from fastrnn import Seq2Seq, metrics
from fastrnn.training.plan import TrainingState

Pairs = list[tuple[str, str]]

PRONOUNS = {"i": 0, "you": 1, "he": 2, "she": 2, "we": 3, "they": 4}
FRENCH_PRONOUNS = {"i": "je", "you": "tu", "he": "il", "she": "elle", "we": "nous", "they": "ils"}
VERBS = {
    "see": ("vois", "vois", "voit", "voyons", "voient"),
    "want": ("veux", "veux", "veut", "voulons", "veulent"),
    "take": ("prends", "prends", "prend", "prenons", "prennent"),
    "sell": ("vends", "vends", "vend", "vendons", "vendent"),
    "find": ("trouve", "trouves", "trouve", "trouvons", "trouvent"),
    "look for": ("cherche", "cherches", "cherche", "cherchons", "cherchent"),
}
NOUNS = {  # the French word, and whether it is feminine
    "car": ("voiture", True), "book": ("livre", False), "house": ("maison", True),
    "dog": ("chien", False), "table": ("table", True), "cheese": ("fromage", False),
    "shirt": ("chemise", True), "garden": ("jardin", False),
}  # fmt: skip
ADJECTIVES = {
    "black": ("noir", "noire"), "white": ("blanc", "blanche"), "green": ("vert", "verte"),
    "heavy": ("lourd", "lourde"), "cold": ("froid", "froide"), "": ("", ""),
}  # fmt: skip


def made_up() -> Pairs:
    """Every sentence of the grammar."""
    pairs = []
    for pronoun, person in PRONOUNS.items():
        for verb, forms in VERBS.items():
            first, *rest = verb.split()
            third = first + "s" * (person == 2)
            for noun, (nom, feminine) in NOUNS.items():
                for adjective, adjectif in ADJECTIVES.items():
                    english = [pronoun, third, *rest, "the", adjective, noun, "."]
                    article = "la" if feminine else "le"
                    french = [
                        FRENCH_PRONOUNS[pronoun], forms[person], article, nom, adjectif[feminine],
                        ".",
                    ]  # fmt: skip
                    pairs.append((" ".join(filter(None, english)), " ".join(filter(None, french))))
    return pairs


def read_pairs(path: Path) -> Pairs:
    """The first two columns of a file, in lower case, words and signs apart."""
    pairs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        english, french, *_ = line.split("\t")
        pairs.append((tokenized(english), tokenized(french)))
    return pairs


def tokenized(text: str) -> str:
    """A sentence's words and signs, with spaces between them."""
    return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))


def split(pairs: Pairs, held_out: int) -> tuple[Pairs, dict[str, list[str]]]:
    """Pairs to learn from, and some of the distinct sentences with all their translations."""
    distinct = list(dict.fromkeys(english for english, _ in pairs))
    chosen = np.random.default_rng(0).permutation(len(distinct))[:held_out]
    test: dict[str, list[str]] = {distinct[i]: [] for i in chosen}
    for english, french in pairs:
        if english in test:
            test[english].append(french)
    return [pair for pair in pairs if pair[0] not in test], test


def trained(
    attention: str | None, pairs: Pairs, epochs: int, seconds: float, settings: dict[str, Any]
) -> Seq2Seq:
    """A model that has learned for so many epochs, or a little more than so many seconds."""
    begun = time.monotonic()

    def time_is_up(state: TrainingState) -> bool:
        return time.monotonic() - begun > seconds

    model = Seq2Seq(
        "word", attention, dropout=0.2, max_iter=epochs, callbacks=time_is_up, random_state=0,
        **settings,
    )  # fmt: skip
    english, french = (list(side) for side in zip(*pairs, strict=True))
    return model.fit(english, french)


def main() -> None:
    """Train two models for the same time, measure them, and show what they do."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=Path, help="a file of sentences; by default made-up ones")
    parser.add_argument("--epochs", type=int, default=8, help="of the model with attention")
    parser.add_argument("--held-out", type=int, default=300, help="sentences to be translated")
    parser.add_argument("--quick", action="store_true", help="a fifth of the pairs, small layers")
    parser.add_argument("--plot", type=Path, help="where to draw an alignment, with matplotlib")
    options = parser.parse_args()
    pairs = made_up() if options.pairs is None else read_pairs(options.pairs)
    learned, test = split(pairs, min(options.held_out, len(pairs) // 10))
    if options.quick:
        learned = learned[::5]
    print(f"{len(learned)} pairs to learn from, {len(test)} sentences to translate")

    settings: dict[str, Any] = {
        "hidden_size": 256, "embedding_dim": 128, "learning_rate_init": 0.004, "batch_size": 100,
        "min_count": 2,
    }  # fmt: skip
    if options.quick or options.pairs is None:
        settings = {
            "hidden_size": 64, "embedding_dim": 32, "learning_rate_init": 0.01, "batch_size": 50,
        }  # fmt: skip
    begun = time.monotonic()
    best = trained("additive", learned, options.epochs, math.inf, settings)
    seconds = time.monotonic() - begun
    for model in (best, trained(None, learned, 20 * options.epochs, seconds, settings)):
        greedy, beams = (
            100 * metrics.bleu(model.predict(list(test), size), list(test.values()))
            for size in (1, 5)
        )
        print(
            f"attention {model.attention or 'none':8} {model.n_iter_:3} epochs in {seconds:.0f} s, "
            f"BLEU greedy {greedy:.1f}, with beams {beams:.1f}"
        )

    shown = list(test)[:4]
    for sentence, translation, weights in zip(
        shown, best.predict(shown, 5), best.attention_, strict=True
    ):
        words = sentence.split()
        seen = [words[i] for i in weights.argmax(axis=1)]
        print(f"\n{sentence}\n  {translation}\n  looked at: {' '.join(seen)}")
    if options.plot:
        from fastrnn.plots import plot_alignment

        plot_alignment(best, shown[0]).figure.savefig(options.plot)


if __name__ == "__main__":
    main()
