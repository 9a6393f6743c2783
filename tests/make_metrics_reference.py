"""Write tests/data/metrics.json: what sacrebleu and rouge-score give for random texts.

Run it with both installed: ``python tests/make_metrics_reference.py``. Its functions also make the
numbers of the live comparison in test_metrics_reference.py.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "data" / "metrics.json"


class Words:
    """A tokenizer for rouge-score that splits at white space alone."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()


def corpus(draw: random.Random) -> dict[str, Any]:
    """Some hypotheses, for each some references, and options of BLEU."""
    words, longest = draw.choice([1, 2, 3, 8, 30]), draw.choice([2, 6, 15])

    def text() -> str:
        shortest = 0 if draw.random() < 0.3 else 1
        return " ".join(str(draw.randrange(words)) for _ in range(draw.randint(shortest, longest)))

    smoothing = draw.choice(["exp", "none", "add-k", "floor"])
    n = draw.randint(1, 5)
    return {
        "hypotheses": [text() for _ in range(n)],
        "references": [[text() for _ in range(draw.randint(1, 3))] for _ in range(n)],
        "max_n": draw.randint(1, 5),
        "smoothing": smoothing,
        "smoothing_value": None if smoothing in ("exp", "none") else draw.choice([None, 0.3, 2.0]),
    }


def bleu(case: dict[str, Any]) -> float:
    """sacrebleu's, between 0 and 100; references that are fewer than others are None to it."""
    from sacrebleu.metrics import BLEU

    most = max(map(len, case["references"]))
    streams = [
        [texts[k] if k < len(texts) else None for texts in case["references"]] for k in range(most)
    ]
    metric = BLEU(
        tokenize="none",
        smooth_method=case["smoothing"],
        smooth_value=case["smoothing_value"],
        max_ngram_order=case["max_n"],
    )
    return metric.corpus_score(case["hypotheses"], streams).score


def rouge_l(case: dict[str, Any]) -> float:
    """The mean of rouge-score's best F-measures."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=Words())
    pairs = zip(case["hypotheses"], case["references"], strict=True)
    found = [scorer.score_multi(several, text)["rougeL"].fmeasure for text, several in pairs]
    return sum(found) / len(found)


if __name__ == "__main__":
    draw = random.Random(0)
    cases = []
    while len(cases) < 40:
        case = corpus(draw)
        if bleu(case) or len(cases) % 8 == 0:  # most random texts have a BLEU of 0
            cases.append({**case, "bleu": bleu(case), "rouge_l": rouge_l(case)})
    lines = ",\n".join(json.dumps(case) for case in cases)
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
