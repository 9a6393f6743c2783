"""BLEU and ROUGE-L beside sacrebleu and rouge-score: their committed numbers, and live."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from make_metrics_reference import FILE, bleu, corpus, rouge_l

from fastrnn import metrics

CASES = json.loads(FILE.read_text(encoding="utf-8"))


def our_bleu(case: dict[str, Any], split: bool) -> float:
    texts, references = case["hypotheses"], case["references"]
    if split:
        texts = [text.split() for text in texts]
        references = [[text.split() for text in several] for several in references]
    return metrics.bleu(
        texts, references, case["max_n"], case["smoothing"], case["smoothing_value"]
    )


def test_the_numbers_say_something() -> None:
    assert sum(0 < case["bleu"] < 100 for case in CASES) > 30
    assert {case["smoothing"] for case in CASES} == set(metrics.SMOOTHINGS)
    assert any(len({len(r) for r in case["references"]}) > 1 for case in CASES)


@pytest.mark.parametrize("split", [False, True])
def test_bleu_is_a_hundredth_of_sacrebleus(split: bool) -> None:
    for case in CASES:
        assert 100 * our_bleu(case, split) == pytest.approx(case["bleu"], rel=1e-12, abs=0), case


def test_rouge_l_is_that_of_rouge_score() -> None:
    for case in CASES:
        found = metrics.rouge_l(case["hypotheses"], case["references"])
        assert found == pytest.approx(case["rouge_l"], rel=1e-12, abs=0), case


def test_bleu_beside_sacrebleu() -> None:
    pytest.importorskip("sacrebleu")
    draw = random.Random(1)
    for _ in range(500):
        case = corpus(draw)
        assert 100 * our_bleu(case, True) == pytest.approx(bleu(case), rel=1e-12, abs=0), case


def test_rouge_l_beside_rouge_score() -> None:
    pytest.importorskip("rouge_score")
    draw = random.Random(2)
    for _ in range(200):
        case = corpus(draw)
        found = metrics.rouge_l(case["hypotheses"], case["references"])
        assert found == pytest.approx(rouge_l(case), rel=1e-12, abs=0), case
