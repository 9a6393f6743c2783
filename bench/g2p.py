"""The encoder and decoder of g2p_en, from spelling to sound, put into a `Seq2Seq`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastrnn import Seq2Seq
from fastrnn.text.vocabulary import Vocabulary

__all__ = ["LONGEST", "References", "model", "references"]

LONGEST = 20  # sounds, at most


class References(NamedTuple):
    """Words, and the sounds that g2p_en itself finds for each."""

    words: list[str]
    sounds: list[list[str]]


def model(folder: Path) -> Seq2Seq:
    """GRU-256 encoder and decoder without attention, with the weights of ``checkpoint20.npz``."""
    weights = np.load(folder / "checkpoint20.npz")
    symbols = json.loads((folder / "symbols.json").read_text(encoding="utf-8"))
    letters, sounds = symbols["graphemes"], symbols["phonemes"]
    made = Seq2Seq(
        attention=None,
        cell="gru",
        reset_after=True,
        bidirectional=False,
        hidden_size=256,
        embedding_dim=256,
    ).initialize(letters[3:], Vocabulary("token", sounds[4:]))
    # Theirs begin with padding, unknown, (start,) end; ours with unknown and one boundary.
    others = range(4, len(sounds))
    first = [sounds.index("<unk>"), sounds.index("<s>"), *others]
    last = [sounds.index("<unk>"), sounds.index("</s>"), *others]
    layers = made.layers_
    layers["source_embedding"].params["weight"][...] = weights["enc_emb"][1:]
    layers["target_embedding"].params["weight"][...] = weights["dec_emb"][first]
    layers["output"].params["weight"][...] = weights["fc_w"][last]
    layers["output"].params["bias"][...] = weights["fc_b"][last]
    for key in ("encoder", "decoder"):
        for ours, theirs in (("weight", "w"), ("bias", "b")):
            for kind in ("ih", "hh"):
                array = weights[f"{key[:3]}_{theirs}_{kind}"]
                layers[key].params[f"{ours}_{kind}_l0"][...] = array
    return made


def references(folder: Path) -> References:
    """The 500 words of ``reference_500.tsv``."""
    lines = (folder / "reference_500.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    return References([row[0] for row in rows], [row[1].split() for row in rows])
