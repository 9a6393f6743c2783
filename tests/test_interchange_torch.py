"""Layers from PyTorch's modules, state dicts and files of them, and modules from our layers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fastrnn

TOLERANCE = {"float32": 2e-6, "float64": 1e-13}
D, H, N, T = 3, 5, 4, 7
LENGTHS = [7, 1, 4, 6]

# Kind and arguments, the same for PyTorch's module and our layer.
RECURRENT: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {}),
    ("LSTM", {"num_layers": 3, "bidirectional": True, "dropout": 0.25}),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "proj_size": 2}),
    ("LSTM", {"bias": False}),
    ("GRU", {}),
    ("GRU", {"num_layers": 2, "bidirectional": True, "bias": False}),
    ("RNN", {"nonlinearity": "tanh", "num_layers": 2}),
    ("RNN", {"nonlinearity": "relu", "bidirectional": True}),
]

both_dtypes = pytest.mark.parametrize("dtype", TOLERANCE)
every_kind = pytest.mark.parametrize(
    ("kind", "options"), RECURRENT, ids=[f"{kind}{list(o.values())}" for kind, o in RECURRENT]
)


def states(layer: Any, dtype: str) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    rows = layer.num_layers * layer.num_directions
    widths = [layer.proj_size or H, H][: len(layer.cell.states)]
    return [rng.standard_normal((rows, N, width)).astype(dtype) for width in widths]


def compare(torch: ModuleType, module: Any, layer: Any, dtype: str) -> None:
    """Ragged, with states: outputs and final states are equal, and so are gradients."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((N, T, D)).astype(dtype)
    first = states(layer, dtype)
    y, last, backward = layer.forward(x, tuple(first) if len(first) > 1 else first[0], LENGTHS)
    dy = rng.standard_normal(y.shape).astype(dtype)
    for n, length in enumerate(LENGTHS):
        dy[n, length:] = 0
    given = torch.from_numpy(x)
    rnn = torch.nn.utils.rnn
    packed = rnn.pack_padded_sequence(
        given if module.batch_first else given.transpose(0, 1),
        LENGTHS, batch_first=module.batch_first, enforce_sorted=False,
    )  # fmt: skip
    tensors = [torch.from_numpy(state) for state in first]
    out, their_last = module(packed, tuple(tensors) if len(tensors) > 1 else tensors[0])
    their_y, _ = rnn.pad_packed_sequence(out, batch_first=True)
    (their_y * torch.from_numpy(dy)).sum().backward()
    backward(dy)
    pairs = {"y": (y, their_y)}
    for k in range(len(first)):
        pairs[f"state {k}"] = (last[k], their_last[k]) if len(first) > 1 else (last, their_last)
    if not layer.dropout:
        params = dict(module.named_parameters())
        pairs |= {name: (grad, params[name].grad) for name, grad in layer.grads.items()}
    for name, (ours, theirs) in pairs.items():
        theirs = theirs.detach().numpy()
        assert ours.dtype == theirs.dtype == dtype
        assert np.abs(ours - theirs).max() <= TOLERANCE[dtype] * np.abs(theirs).max(), name


@both_dtypes
@every_kind
@pytest.mark.parametrize("batch_first", [True, False])
def test_modules(
    torch: ModuleType, kind: str, options: dict[str, Any], dtype: str, batch_first: bool
) -> None:
    torch.manual_seed(0)
    module = getattr(torch.nn, kind)(
        D, H, batch_first=batch_first, dtype=getattr(torch, dtype), **options
    )
    layer = fastrnn.from_torch(module)
    assert type(layer).__name__ == kind
    assert {name: layer.config()[name] for name in options} == options
    if options.get("dropout"):
        module.eval()
        layer.dropout = 0.0  # masks differ
    compare(torch, module, layer, dtype)


@both_dtypes
@every_kind
def test_layers_to_modules(
    torch: ModuleType, kind: str, options: dict[str, Any], dtype: str
) -> None:
    more = {"reset_after": True} if kind == "GRU" else {}
    layer = getattr(fastrnn, kind)(D, H, dtype=dtype, random_state=0, **more, **options)
    before = torch.random.get_rng_state()
    module = layer.to_torch()
    assert torch.equal(before, torch.random.get_rng_state())
    assert type(module) is getattr(torch.nn, kind)
    assert module.batch_first
    assert module.dropout == options.get("dropout", 0)
    module.dropout = layer.dropout = 0.0
    compare(torch, module, layer, dtype)
    again = fastrnn.from_torch(module)
    for name, param in layer.params.items():
        np.testing.assert_array_equal(again.params[name], param)
    with torch.no_grad():
        next(module.parameters()).zero_()
    assert layer.params["weight_ih_l0"].any(), "weights are copies"


@pytest.mark.parametrize("cell", ["LSTMCell", "GRUCell", "RNNCell"])
def test_torch_cells(torch: ModuleType, cell: str) -> None:
    module = getattr(torch.nn, cell)(D, H, **{"nonlinearity": "relu"} if cell == "RNNCell" else {})
    layer = fastrnn.from_torch(module)
    x = np.random.default_rng(0).standard_normal((N, 2, D)).astype(np.float32)
    state = None
    for t in range(2):
        state = module(torch.from_numpy(x[:, t]), state)
    expected = state[0] if cell == "LSTMCell" else state
    np.testing.assert_allclose(layer(x)[0][:, -1], expected.detach().numpy(), atol=1e-6)


def test_around_recurrent_layers_and_back_to_torch(torch: ModuleType) -> None:
    nn = torch.nn
    theirs = nn.Sequential(
        nn.Embedding(7, D, padding_idx=0),
        nn.Sequential(nn.Linear(D, H, bias=False), nn.LayerNorm(H, eps=0.1), nn.ReLU()),
        nn.Identity(), nn.Dropout(0.5), nn.Linear(H, 4), nn.Tanh(), nn.Sigmoid(),
        nn.LayerNorm(4, elementwise_affine=False), nn.Softmax(dim=-1), nn.LogSoftmax(dim=-1),
    ).eval()  # fmt: skip
    nn.init.uniform_(theirs[1][1].weight)
    ours = fastrnn.from_torch(theirs)
    index = np.arange(14).reshape(2, 7) % 7
    expected = theirs(torch.from_numpy(index)).detach().numpy()
    np.testing.assert_allclose(ours(index), expected, atol=2e-6)
    back = ours.to_torch().eval()
    np.testing.assert_allclose(back(torch.from_numpy(index)).detach(), expected, atol=2e-6)


def test_a_sequential_with_a_torch_lstm(torch: ModuleType) -> None:
    theirs = torch.nn.Sequential(torch.nn.Embedding(7, D), torch.nn.LSTM(D, H, batch_first=True))
    ours = fastrnn.from_torch(theirs)
    index = np.arange(14).reshape(2, 7) % 7
    y, (h, c) = ours(index)
    their_y, (their_h, their_c) = theirs(torch.from_numpy(index))
    for found, expected in ((y, their_y), (h, their_h), (c, their_c)):
        np.testing.assert_allclose(found, expected.detach(), atol=1e-6)


def test_parametrized_torch_modules(torch: ModuleType) -> None:
    module = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(D, H))
    layer = fastrnn.from_torch(module)
    x = np.ones((2, D), np.float32)
    np.testing.assert_allclose(layer(x), module(torch.from_numpy(x)).detach(), atol=1e-6)


def test_half_precision_of_torch_becomes_float32(torch: ModuleType) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        module = torch.nn.GRU(D, H, dtype=dtype)
        layer = fastrnn.from_torch(module)
        assert layer.dtype == np.float32
        expected = module.weight_hh_l0.detach().float().numpy()
        np.testing.assert_array_equal(layer.params["weight_hh_l0"], expected)


@pytest.mark.filterwarnings("ignore")  # torch's exporter warns of itself
@pytest.mark.parametrize("last", [False, True])
def test_onnx_as_torch_exports_it(torch: ModuleType, last: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnx")

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(7, D)
            self.lstm = torch.nn.LSTM(D, H, 2, bidirectional=not last, batch_first=True)
            self.head = torch.nn.Linear(H if last else 2 * H, 2)

        def forward(self, x: Any) -> Any:
            y, _ = self.lstm(self.embedding(x))
            return self.head(y[:, -1] if last else y).softmax(-1)

    torch.manual_seed(0)
    model = Model().eval()
    x = np.arange(N * T).reshape(N, T) % 7
    free = {"x": {0: "batch", 1: "time"}}
    arguments = (model, (torch.from_numpy(x),), tmp_path / "model.onnx")
    torch.onnx.export(*arguments, dynamo=False, input_names=["x"], dynamic_axes=free)
    layer = fastrnn.from_onnx(tmp_path / "model.onnx")
    np.testing.assert_allclose(layer(x)[0], model(torch.from_numpy(x)).detach().numpy(), atol=1e-6)


# State dicts, of which torch need not be there


def state_dict_of(layer: Any) -> dict[str, np.ndarray]:
    return dict(layer.params.items())


def torch_like(kind: str, options: dict[str, Any], dtype: str) -> Any:
    options = {name: value for name, value in options.items() if name != "dropout"}
    more = {"reset_after": True} if kind == "GRU" else {}
    return getattr(fastrnn, kind)(D, H, dtype=dtype, random_state=0, **more, **options)


@both_dtypes
@every_kind
def test_state_dicts_tell_what_they_are(kind: str, options: dict[str, Any], dtype: str) -> None:
    layer = torch_like(kind, options, dtype)
    found = fastrnn.from_torch(
        {f"net.rnn.{name}": value for name, value in layer.params.items()},
        nonlinearity=options.get("nonlinearity"),
    )
    assert type(found) is type(layer)
    assert found.config() == layer.config() | {"random_state": found.random_state}
    for name, value in layer.params.items():
        np.testing.assert_array_equal(found.params[name], value)
        assert found.params[name] is not value


def test_files_are_read_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file = pytest.importorskip("safetensors.numpy").save_file
    lstm, head = torch_like("LSTM", {"num_layers": 2}, "float32"), fastrnn.Linear(H, 2)
    named = {f"lstm.{name}": value for name, value in lstm.params.items()}
    named |= {f"head.{name}": value for name, value in head.params.items()}
    save_file(named, tmp_path / "model.safetensors")
    monkeypatch.setitem(sys.modules, "torch", None)
    model = fastrnn.from_torch(tmp_path / "model.safetensors", prefix=["lstm", "head."])
    x = np.ones((2, 3, D), np.float32)
    np.testing.assert_array_equal(model(x)[0], head(lstm(x)[0]))
    with pytest.raises(fastrnn.FormatError, match=r"model\.safetensors: prefix: .* 'lstm'"):
        fastrnn.from_torch(str(tmp_path / "model.safetensors"))
    with pytest.raises(ImportError, match="to_torch needs PyTorch: pip install torch"):
        lstm.to_torch()


def test_a_file_written_by_torch(torch: ModuleType, tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    module = torch.nn.GRU(D, H, 2, bidirectional=True)
    save_file(module.state_dict(), tmp_path / "gru.safetensors")
    compare(torch, module, fastrnn.from_torch(tmp_path / "gru.safetensors"), "float32")


def test_single_layers_of_state_dicts() -> None:
    embedding, linear = fastrnn.Embedding(7, 3), fastrnn.Linear(3, 2, dtype="float64")
    found = fastrnn.from_torch(state_dict_of(embedding), kind="embedding")
    np.testing.assert_array_equal(found([1, 2]), embedding([1, 2]))
    bare = {"weight": linear.params["weight"].tolist()}
    found = fastrnn.from_torch(bare, kind="linear")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found(np.eye(3)), linear.params["weight"].T)
    norm = fastrnn.from_torch({"norm.weight": np.full(3, 2.0)})
    assert isinstance(norm, fastrnn.LayerNorm)
    assert norm.params["bias"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_rtneural(kind: str, data_file: Callable[[str], Path]) -> None:
    folder = "models/rtneural"
    state_dict = json.loads(data_file(f"{folder}/{kind}_torch.json").read_text())
    x, expected = (
        np.loadtxt(data_file(f"{folder}/{kind}_torch_{which}_python.csv")).reshape(1, -1, 1)
        for which in "xy"
    )
    assert x.shape == expected.shape == (1, 1000, 1)
    model = fastrnn.from_torch(state_dict, prefix=[kind, f"{kind}2", "dense"])
    assert [type(layer).__name__ for layer in model.layers] == [kind.upper()] * 2 + ["Linear"]
    y, _ = model(x)
    assert np.abs(y - expected).max() < 1e-6
    single = {name: np.asarray(value, np.float32) for name, value in state_dict.items()}
    y, _ = fastrnn.from_torch(single, prefix=[kind, f"{kind}2", "dense"])(x.astype(np.float32))
    assert y.dtype == np.float32
    assert np.abs(y - expected).max() < 1e-6


# What cannot be taken

WIH, WHH = np.ones((12, 2), np.float32), np.ones((12, 4), np.float32)
BAD_DICTS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {}, "source: expected the parameters of a layer, got none"),
    ({"a.weight": WIH, "b.weight": WIH}, {}, "there are 2: 'a', 'b'"),
    ({"a.weight": WIH}, {"prefix": "b"}, "prefix: expected one of 'a', got 'b'"),
    ({"a.weight": WIH}, {"prefix": [1]}, "prefix: expected one of 'a', got 1"),
    ({"a.weight": WIH}, {}, r"a: kind: expected 'embedding' or 'linear', .* \(12, 2\)"),
    ({"weight": WIH}, {"kind": "conv"}, "kind: expected one of 'embedding', 'linear', got"),
    ({"weight": np.ones((2, 2, 2), np.float32)}, {}, "state dict: expected the names"),
    ({"running_mean": WIH, "weight": WIH}, {}, "state dict: expected the names"),
    ({"weight_ih_l0": WIH}, {}, "weight_hh_l0: expected a matrix .* got none"),
    ({"weight_ih_l0": WIH, "weight_hh_l0": WHH[:11]}, {}, r"expected shape \(12, 4\)"),
    ({"weight_ih_l0": WIH[:8], "weight_hh_l0": WHH[:8]}, {}, "expected 4 .LSTM., 3"),
    ({"weight_ih_l0": WIH, "weight_hh_l0": WHH, "zoneout": WHH}, {}, "zoneout: expected a param"),
    ({"weight_ih_l0": WIH, "weight_hh_l0": WHH, "bias_ih_l0": WHH[:, 0]}, {}, "bias_hh_l0: exp"),
    ({"weight_ih_l0": WIH, "weight_hh_l0": WHH, "weight_ih_l2": WIH}, {}, "weight_ih_l1: expected"),
    ({"weight_ih_l0": WIH[:4], "weight_hh_l0": WHH[:4]}, {}, "nonlinearity: expected 'tanh'"),
    ({"weight_ih_l0": WIH, "weight_hh_l0": WHH.astype(float)}, {}, "dtype: expected one for all"),
    ({"weight_ih_l0": WIH.astype(int), "weight_hh_l0": WHH.astype(int)}, {}, "expected float32 or"),
]  # fmt: skip


@pytest.mark.parametrize(("state_dict", "options", "message"), BAD_DICTS)
def test_bad_state_dicts(state_dict: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fastrnn.from_torch(state_dict, **options)


def test_sources_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.safetensors, got 'model\.pt'.* pickles"):
        fastrnn.from_torch("model.pt")
    with pytest.raises(
        TypeError, match=r"source: expected a module of torch\.nn among LSTM, .*None"
    ):
        fastrnn.from_torch(None)
    with pytest.raises(TypeError, match="state dict with names, got the key 1"):
        fastrnn.from_torch({1: WIH})
    (tmp_path / "x.safetensors").write_bytes(b"{}")
    with pytest.raises(fastrnn.FormatError, match="at least 8 bytes"):
        fastrnn.from_torch(tmp_path / "x.safetensors")


def test_torch_modules_that_are_refused(torch: ModuleType) -> None:
    nn = torch.nn

    class Mine(nn.Module):
        pass

    class Odd(nn.LSTM):
        def forward(self, x: Any) -> Any:
            return super().forward(-x)

    refused = [
        (nn.Conv1d(2, 2, 2), TypeError, "got a Conv1d"),
        (Mine(), TypeError, r"got a Mine; .* give its state_dict\(\)"),
        (Odd(2, 2), TypeError, "got a Odd"),
        (nn.Embedding(3, 2, max_norm=1.0), ValueError, "max_norm: expected None"),
        (nn.LayerNorm((2, 3)), ValueError, "normalized_shape: expected one axis"),
        (nn.Softmax(dim=1), ValueError, "dim: expected -1 of Softmax, .* got 1"),
    ]
    for module, kind, message in refused:
        with pytest.raises(kind, match=message):
            fastrnn.from_torch(module)
    with pytest.raises(ValueError, match="prefix: expected none with a module, got 'a'"):
        fastrnn.from_torch(nn.Linear(2, 2), prefix="a")


REFUSED = [
    (fastrnn.GRU(2, 2), "reset_after: expected True"),
    (fastrnn.RNN(2, 2, nonlinearity="sigmoid"), "nonlinearity: expected 'tanh' or 'relu'"),
    (fastrnn.LSTM(2, 2, recurrent_dropout=0.5), "recurrent_dropout: expected 0"),
    (fastrnn.LSTM(2, 2, initial_state="learned"), "initial_state: expected 'zeros'"),
    (fastrnn.Sequential(fastrnn.LSTM(2, 2)), "convert each of its layers by itself"),
]


@pytest.mark.parametrize(("layer", "message"), REFUSED)
def test_layers_that_torch_has_not(torch: ModuleType, layer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer.to_torch()


def test_classes_that_torch_has_not(torch: ModuleType) -> None:
    class LSTM(fastrnn.LSTM):
        pass

    for layer in (LSTM(2, 2), fastrnn.Attention(2, 2)):
        with pytest.raises(TypeError, match=r"to_torch: expected one of LSTM, .* got"):
            layer.to_torch()
