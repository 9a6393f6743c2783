"""Layers of Keras 3: from a file that is here, and from live models where Keras is installed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from make_keras_reference import FILE, NUMBERS

import fastrnn

# What Keras says to NumPy and of its own masks is not ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*mask:UserWarning"),
]

N, T, D, H = 3, 6, 3, 4


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Keras on PyTorch, its settings in a folder of the test's."""
    pytest.importorskip("torch")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    os.environ.setdefault("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
    module = pytest.importorskip("keras")
    if module.config.backend() != "torch":
        pytest.skip("Keras runs on another backend")
    return module


def randomize(model: Any) -> Any:
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(-1, 1, weight.shape) for weight in model.get_weights()])
    return model


def x_of(dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(1).standard_normal((N, T, D)).astype(dtype)


def near(found: np.ndarray, expected: Any, tolerance: float = 1e-6) -> None:
    expected = expected.detach().cpu().numpy()
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_a_file_without_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("h5py")
    monkeypatch.setitem(sys.modules, "keras", None)
    model = fastrnn.from_keras(FILE)
    assert [type(layer).__name__ for layer in model.layers] == [
        "Embedding", "LSTM", "GRU", "GRU", "LayerNorm", "Linear", "Activation", "Dropout", "Final",
        "Linear", "Activation",
    ]  # fmt: skip
    assert [layer.reset_after for layer in model.layers[2:4]] == [False, True]
    with np.load(NUMBERS) as numbers:
        np.testing.assert_allclose(model(numbers["x"])[0], numbers["y"], atol=1e-6)


def test_the_file_is_what_keras_reads(keras: ModuleType) -> None:
    with np.load(NUMBERS) as numbers:
        near(numbers["y"], keras.saving.load_model(FILE)(numbers["x"]))


Layers = Callable[[Any], Any]
SINGLE: dict[str, Layers] = {
    "LSTM": lambda k: k.LSTM(H, return_sequences=True),
    "LSTM to the end": lambda k: k.LSTM(H),
    "LSTM without biases": lambda k: k.LSTM(H, use_bias=False, return_sequences=True),
    "LSTM backwards": lambda k: k.LSTM(H, go_backwards=True),
    "LSTM of other functions": lambda k: k.LSTM(
        H, activation="softsign", recurrent_activation="hard_sigmoid", return_sequences=True
    ),
    "GRU": lambda k: k.GRU(H, return_sequences=True),
    "GRU without biases": lambda k: k.GRU(H, use_bias=False),
    "GRU reset before": lambda k: k.GRU(H, reset_after=False, return_sequences=True),
    "GRU of other functions": lambda k: k.GRU(
        H, activation="elu", recurrent_activation="hard_sigmoid"
    ),
    "GRU reset before, of other functions": lambda k: k.GRU(
        H, activation="leaky_relu", reset_after=False
    ),
    "SimpleRNN": lambda k: k.SimpleRNN(H, return_sequences=True),
    "SimpleRNN of relu": lambda k: k.SimpleRNN(H, activation="relu"),
    "SimpleRNN, linear": lambda k: k.SimpleRNN(H, activation="linear"),
    "Bidirectional LSTM": lambda k: k.Bidirectional(k.LSTM(H, return_sequences=True)),
    "Bidirectional LSTM to the end": lambda k: k.Bidirectional(k.LSTM(H)),
    "Bidirectional GRU": lambda k: k.Bidirectional(
        k.GRU(H, reset_after=False, use_bias=False, return_sequences=True)
    ),
    "Bidirectional SimpleRNN": lambda k: k.Bidirectional(
        k.SimpleRNN(H, activation="softplus", return_sequences=True)
    ),
    "Dense": lambda k: k.Dense(2, activation="softmax"),
    "Softmax": lambda k: k.Softmax(),
    "LayerNormalization": lambda k: k.LayerNormalization(epsilon=0.1, center=False),
}


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers(keras: ModuleType, name: str, dtype: str, tmp_path: Path) -> None:
    theirs = SINGLE[name](keras.layers)
    model = keras.Sequential([keras.layers.Input((None, D), dtype=dtype), theirs])
    if dtype == "float64":
        keras.config.set_dtype_policy("float64")
        try:
            theirs = SINGLE[name](keras.layers)
            model = keras.Sequential([keras.layers.Input((None, D), dtype=dtype), theirs])
        finally:
            keras.config.set_dtype_policy("float32")
    randomize(model)
    x = x_of(dtype)
    expected = model(x)
    model.save(tmp_path / "model.keras")
    for source in (theirs, model, tmp_path / "model.keras", str(tmp_path / "model.keras")):
        ours = fastrnn.from_keras(source)
        found = ours(x)
        # some of Keras's operations on PyTorch are of float32 in either case
        near(found[0] if isinstance(found, tuple) else found, expected, 4e-6)


def test_stacks_and_states(keras: ModuleType) -> None:
    k = keras.layers
    stack = [k.Bidirectional(k.LSTM(H, return_sequences=True)) for _ in range(3)]
    model = randomize(keras.Sequential([k.Input((None, D)), *stack]))
    ours = fastrnn.from_keras(model)
    assert (type(ours).__name__, ours.num_layers, ours.bidirectional) == ("LSTM", 3, True)
    near(ours(x_of())[0], model(x_of()))
    single = k.LSTM(H, return_sequences=True, return_state=True)
    h, c = np.random.default_rng(2).standard_normal((2, N, H)).astype(np.float32)
    y, *last = single(x_of(), initial_state=[h, c])
    found, (found_h, found_c) = fastrnn.from_keras(single)(x_of(), (h[None], c[None]))
    near(found, y)
    near(found_h[0], last[0])
    near(found_c[0], last[1])


def test_masks_are_lengths(keras: ModuleType) -> None:
    k = keras.layers
    model = keras.Sequential(
        [k.Input((None,)), k.Embedding(7, D, mask_zero=True), k.Bidirectional(k.GRU(H))]
    )
    randomize(model)
    x = np.random.default_rng(0).integers(1, 7, (N, T))
    lengths = [T, 2, 4]
    for n, length in enumerate(lengths):
        x[n, length:] = 0
    near(fastrnn.from_keras(model)(x, lengths=lengths)[0], model(x))


def test_functional_and_nested_models(keras: ModuleType, tmp_path: Path) -> None:
    k = keras.layers
    inner = keras.Sequential([k.Input((None, H)), k.GRU(H, return_sequences=True), k.ReLU()])
    first = k.Input((None, D))
    h = k.LSTM(H, return_sequences=True, name="odd name")(first)
    h = inner(k.Masking()(h))
    h = k.LSTM(H, return_sequences=True, name="another")(h)
    model = keras.Model(first, k.TimeDistributed(k.Dense(2, activation="softmax"))(h))
    randomize(model)
    model.save(tmp_path / "model.keras")
    for source in (model, tmp_path / "model.keras"):
        near(fastrnn.from_keras(source)(x_of())[0], model(x_of()))


def test_what_cannot_be_taken(keras: ModuleType, tmp_path: Path) -> None:
    k = keras.layers

    def built(*layers: Any) -> Any:
        return keras.Sequential([k.Input((None, D)), *layers])

    first = k.Input((None, D))
    branches = k.Concatenate()([k.GRU(H)(first), k.GRU(H)(first)])
    lstm, h, c = k.LSTM(H, return_sequences=True, return_state=True)(first)
    handed = k.LSTM(H)(lstm, initial_state=[h, c])
    sequences = {"return_sequences": True}
    for model, message in (
        (built(k.Conv1D(2, 2)), "layer 'conv1d': expected one of LSTM, .*, got 'Conv1D'"),
        (built(k.Dense(2, activation="gelu")), "dense.*Dense.: function: expected one of 's"),
        (built(k.LSTM(2, activation="gelu")), "lstm.*LSTM.: activation: expected one of tanh"),
        (built(k.LSTM(2, go_backwards=True, **sequences)), "go_backwards: expected False with"),
        (built(k.Bidirectional(k.LSTM(2), merge_mode="sum")), "merge_mode: expected 'concat', got"),
        (built(k.Bidirectional(k.LSTM(2, **sequences),
                               backward_layer=k.GRU(2, go_backwards=True, **sequences))),
         "expected two layers of one kind .* got LSTM and GRU"),
        (built(k.ReLU(max_value=6.0)), "max_value: expected 0 or none, got 6"),
        (built(k.Softmax(axis=1)), "axis: expected -1, the last, got 1"),
        (keras.Sequential([k.Input((T, D)), k.LayerNormalization(axis=1)]), "axis: expected the"),
        (built(k.Dropout(0.5), k.Flatten()), "got 'Flatten'"),
        (keras.Model(first, branches), "branches and states handed on cannot be taken"),
        (keras.Model(first, handed), "branches and states handed on cannot be taken"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            fastrnn.from_keras(model)
        model.save(tmp_path / "model.keras")
        with pytest.raises(fastrnn.FormatError, match=rf"model\.keras: .*{message}"):
            fastrnn.from_keras(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="expected a layer with weights, got one not yet built"):
        fastrnn.from_keras(k.GRU(2))


def test_sources_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"source: expected the path of a \.keras file, .* None"):
        fastrnn.from_keras(None)
    pytest.importorskip("h5py")
    with pytest.raises(FileNotFoundError):
        fastrnn.from_keras(tmp_path / "none.keras")
    path = tmp_path / "model.keras"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(fastrnn.FormatError, match=r"model\.keras: expected a Keras 3 file"):
        fastrnn.from_keras(path)


def rewritten(path: Path, **members: bytes | None) -> None:
    """The file that is here, with other members (config, weights), or without one."""
    names = {"config": "config.json", "weights": "model.weights.h5"}
    with zipfile.ZipFile(FILE) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for key, name in names.items():
            content = members.get(key, whole.read(name))
            if content is not None:
                file.writestr(name, content)


def config(change: Callable[[Any], Any]) -> bytes:
    with zipfile.ZipFile(FILE) as file:
        found = json.loads(file.read("config.json"))
    change(found["config"]["layers"])
    return json.dumps(found).encode()


def test_altered_files(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "model.keras"
    linked = io.BytesIO()
    with h5py.File(linked, "w") as file:
        file["layers"] = h5py.ExternalLink("/etc/passwd", "/")
    deep: Any = {"class_name": "Sequential", "config": {"layers": []}}
    for _ in range(40):
        deep = {"class_name": "Sequential", "config": {"layers": [deep]}}
    cases: list[tuple[dict[str, bytes | None], str]] = [
        ({"config": None}, r"expected a member config\.json"),
        ({"config": b"{"}, r"config\.json: expected valid JSON"),
        ({"config": b"[" * 100_000}, r"config\.json: expected"),
        ({"config": b"[]"}, r"config\.json: expected a layer's class_name and config, got"),
        ({"config": json.dumps(deep).encode()}, r"config\.json: expected models at most 16 deep"),
        (
            {"config": config(lambda layers: layers.clear())},
            "expected at least one layer",
        ),
        ({"config": config(lambda layers: layers[2].pop("class_name"))}, "named 'class_name'"),
        (
            {"config": config(lambda layers: layers[3]["config"].update(units=3))},
            "expected a w",
        ),
        (
            {"config": config(lambda layers: layers[3]["config"].update(units=-1))},
            "units: expected",
        ),
        (
            {"config": config(lambda layers: layers[3]["config"].update(use_bias=False))},
            "use_bias=",
        ),
        ({"config": config(lambda layers: layers[8].update(class_name="Lambda"))}, "got 'Lambda'"),
        ({"weights": b"x" * 100}, r"model\.weights\.h5: expected an HDF5 file"),
        ({"weights": linked.getvalue()}, "expected what lies in the file, got a link out of it"),
        ({"weights": bytes(1 << 22)}, r"model\.weights\.h5: expected at most"),
    ]
    for members, message in cases:
        rewritten(path, **members)
        with pytest.raises(fastrnn.FormatError, match=rf"model\.keras: .*{message}"):
            fastrnn.from_keras(path)


def test_weights_are_found_by_the_layers_names(tmp_path: Path) -> None:
    """However their groups are called, which has changed from version to version."""
    h5py = pytest.importorskip("h5py")
    with zipfile.ZipFile(FILE) as file:
        weights = io.BytesIO(file.read("model.weights.h5"))
    with h5py.File(weights, "r+") as root:
        for old, new in (("gru", "x"), ("gru_1", "gru"), ("x", "gru_1"), ("dense", "odd")):
            root["layers"].move(old, new)
    rewritten(tmp_path / "model.keras", weights=weights.getvalue())
    with np.load(NUMBERS) as numbers:
        found = fastrnn.from_keras(tmp_path / "model.keras")(numbers["x"])[0]
        np.testing.assert_allclose(found, numbers["y"], atol=1e-6)


def test_what_a_file_needs() -> None:
    code = f"""
import sys
sys.modules["h5py"] = None
import fastrnn
try:
    fastrnn.from_keras({str(FILE)!r})
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = "from_keras needs h5py for a .keras file: pip install 'fastrnn[keras]'\n"
    assert done.stdout == expected
