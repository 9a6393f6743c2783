"""Write tests/keras_reference.keras and .npz: small Keras models, and what they compute.

    KERAS_BACKEND=torch python tests/make_keras_reference.py

Run with Keras 3.15; the tests read the files without it.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_name("keras_reference.keras")
NUMBERS = FILE.with_suffix(".npz")


def model(keras: Any) -> Any:
    """A model of every layer that is taken, with weights that are not zero anywhere."""
    layers = keras.layers
    built = keras.Sequential(
        [
            layers.Input((None,), dtype="int32"),
            layers.Embedding(5, 2),
            layers.Bidirectional(layers.LSTM(2, return_sequences=True)),
            layers.GRU(2, return_sequences=True, reset_after=False),
            layers.GRU(2, return_sequences=True),
            layers.LayerNormalization(),
            layers.TimeDistributed(layers.Dense(2, activation="tanh")),
            layers.Dropout(0.5),
            layers.SimpleRNN(2),
            layers.Dense(3, activation="softmax"),
        ]
    )
    rng = np.random.default_rng(0)
    built.set_weights([rng.uniform(-1, 1, weight.shape) for weight in built.get_weights()])
    return built


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    made = model(keras)
    made.save(FILE)
    with zipfile.ZipFile(FILE) as whole:  # packed, for HDF5 is mostly zeros
        members = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(FILE, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    x = np.random.default_rng(1).integers(0, 5, (3, 4))
    np.savez_compressed(NUMBERS, x=x, y=keras.ops.convert_to_numpy(made(x)))
