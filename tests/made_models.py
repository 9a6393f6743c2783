"""Small language models, encoders and decoders, and what is done with them and their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fastrnn import Seq2Seq, tensorfile

TEXT = "the cat sat on the mat, the dog ate the cat. " * 8
SMALL_LANGUAGE: dict[str, Any] = {
    "hidden_size": 12,
    "embedding_dim": 6,
    "tbptt_steps": 7,
    "max_iter": 2,
    "random_state": 0,
}

WORDS = ["abc", "cab", "bca", "ba", "ac", "cb", "a", "b", "c", "aab", ""] * 4
SMALL_PAIRS: dict[str, Any] = {
    "hidden_size": 24,
    "embedding_dim": 8,
    "dropout": 0.0,
    "learning_rate_init": 0.02,
    "max_iter": 40,
    "random_state": 0,
}


def reverse(texts: list[str]) -> list[str]:
    return [text[::-1] for text in texts]


def always(epoch: int, history: dict[str, list[float]]) -> float:
    return 1.0


def half_trained(**options: Any) -> Seq2Seq:
    """A model that is not sure of anything."""
    return Seq2Seq(**{**SMALL_PAIRS, "max_iter": 4, **options}).fit(WORDS, reverse(WORDS))


SEARCHED = ["abc", "", "cabcab", "b", "xyz", "aaaaaaaaaa", "cc"]


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def bits(model: Any) -> dict[str, bytes]:
    """All parameters by name."""
    return {
        f"{key}.{name}": param.tobytes()
        for key, layer in model.layers_.items()
        for name, param in layer.params.items()
    }


def changed(path: Path, way: list[str], value: Any) -> None:
    """Write another value, None for no value, where the description in a file has this one."""
    tensors, metadata = tensorfile.read(path)
    described = json.loads(metadata["model"])
    inner = described
    for key in way[:-1]:
        inner = inner[key]
    if value is None:
        del inner[way[-1]]
    else:
        inner[way[-1]] = value
    tensorfile.write(path, tensors, {**metadata, "model": json.dumps(described)})
