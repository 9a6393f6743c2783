"""Layers of ONNX models and models of our layers, held against onnxruntime and ONNX's own tests."""

from __future__ import annotations

import subprocess
import sys
import unittest
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from onnx_models import node_model, run, session

import fastrnn
from fastrnn.interchange.onnx_functions import DEFAULTS

N, T, D, H = 4, 6, 3, 4
LENGTHS = np.array([6, 1, 4, 5], np.int32)


@pytest.fixture(scope="module")
def onnx() -> ModuleType:
    return pytest.importorskip("onnx")


def feeds_of(session: Any, seed: int = 1) -> dict[str, np.ndarray]:
    """Random inputs of a model whose x is batch first."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for given in session.get_inputs():
        sizes = [{"batch": N, "n": N, "time": T, "t": T}.get(n, n) for n in given.shape]
        if given.name == "lengths":
            feeds[given.name] = LENGTHS
        elif given.type == "tensor(int64)":
            feeds[given.name] = rng.integers(0, 7, sizes)
        else:
            feeds[given.name] = rng.standard_normal(sizes).astype(np.float32)
    return feeds


def near(found: Any, expected: Any, tolerance: float = 1e-6) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


# To ONNX


def layers() -> dict[str, Any]:
    """Layers by a name for the test."""
    return {
        "LSTM": fastrnn.LSTM(D, H, random_state=0),
        "LSTM of both directions": fastrnn.LSTM(D, H, 3, bidirectional=True, random_state=0),
        "LSTM without biases": fastrnn.LSTM(D, H, 2, bias=False, dropout=0.5, random_state=0),
        "GRU": fastrnn.GRU(D, H, 2, random_state=0),
        "GRU reset after": fastrnn.GRU(
            D, H, bidirectional=True, reset_after=True, init="uniform", init_scale=1, random_state=0
        ),
        "RNN": fastrnn.RNN(D, H, 2, random_state=0),
        "RNN of relu": fastrnn.RNN(D, H, nonlinearity="relu", bidirectional=True, random_state=0),
        "RNN of sigmoid": fastrnn.RNN(D, H, nonlinearity="sigmoid", random_state=0),
        "reversed": fastrnn.Reversed(fastrnn.GRU(D, H, random_state=0)),
        "variant": fastrnn.OnnxRecurrent(
            D, H, 2, kind="LSTM", peepholes=True, clip=0.75, bidirectional=True, random_state=0,
            activations=["Sigmoid", "Tanh", "Tanh", ("HardSigmoid", 0.25, 0.5), "Softsign", "Elu"],
        ),
        "text": fastrnn.Sequential(
            fastrnn.Embedding(7, D, random_state=0),
            fastrnn.LayerNorm(D, epsilon=0.1),
            fastrnn.LSTM(D, H, 2, random_state=1),
            fastrnn.Dropout(0.5),
            fastrnn.Linear(H, 5, random_state=2),
            fastrnn.Activation("log_softmax"),
        ),
        "two recurrent layers": fastrnn.Sequential(
            fastrnn.Linear(D, 5, random_state=0),
            fastrnn.Activation("tanh"),
            fastrnn.GRU(5, H, bidirectional=True, random_state=0),
            fastrnn.Sequential(fastrnn.LSTM(2 * H, 2, random_state=1)),
            fastrnn.Linear(2, 2, bias=False, random_state=3),
            fastrnn.Activation("sigmoid"),
            fastrnn.Activation("relu"),
            fastrnn.Activation("softmax"),
        ),
        "classifier": fastrnn.Sequential(
            fastrnn.Final(fastrnn.LSTM(D, H, 2, bidirectional=True, random_state=0)),
            fastrnn.Linear(2 * H, 2, random_state=0),
        ),
        "end of a reversed one": fastrnn.Final(
            fastrnn.Reversed(fastrnn.GRU(D, H, random_state=0))
        ),
        "none recurrent": fastrnn.Sequential(fastrnn.Linear(D, 2), fastrnn.Activation("relu")),
    }  # fmt: skip


every_layer = pytest.mark.parametrize("name", layers())


def state_of(feeds: dict[str, np.ndarray], suffix: str = "") -> Any:
    h = feeds[f"h0{suffix}"]
    return (h, feeds[f"c0{suffix}"]) if f"c0{suffix}" in feeds else h


def flat(last: Any) -> list[np.ndarray]:
    return [last] if isinstance(last, np.ndarray) else [part for one in last for part in flat(one)]


@every_layer
def test_onnxruntime_runs_what_is_written(name: str, onnx: ModuleType, tmp_path: Path) -> None:
    layer, path = layers()[name], tmp_path / "model.onnx"
    layer.to_onnx(path)
    model = path.read_bytes()
    onnx.checker.check_model(onnx.load(path), full_check=True)
    runner = session(model)
    feeds = feeds_of(runner)
    found = runner.run(None, feeds)
    if name == "none recurrent":
        near(found[0], layer(feeds["x"]))
        return
    state = state_of(feeds, "") if "h0" in feeds else (state_of(feeds, "_0"), state_of(feeds, "_1"))
    y, last = layer(feeds["x"], state, LENGTHS)
    # what linear layers make of padding is ours
    real = np.arange(T)[None, :] < LENGTHS[:, None] if y.ndim == 3 else ...
    near(found[0][real], y[real])
    for one, expected in zip(found[1:], flat(last), strict=True):
        near(one, expected)


@every_layer
def test_what_is_written_comes_back(name: str, tmp_path: Path) -> None:
    layer, path = layers()[name], tmp_path / "model.onnx"
    layer.to_onnx(path)
    again = fastrnn.from_onnx(path)
    assert type(again) is type(layer)
    if name == "classifier":  # a model of two LSTM nodes, of which the second alone is Final
        assert [type(one).__name__ for one in again.layers] == ["LSTM", "Final", "Linear"]
    elif name not in ("text", "two recurrent layers"):  # a Sequential may come back flatter
        for key, param in layer.params.items():
            np.testing.assert_array_equal(again.params[key], param)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, T, D)).astype(np.float32)
    if name == "text":
        x = rng.integers(0, 7, (N, T))
    given = {} if name == "none recurrent" else {"lengths": LENGTHS}
    y, found = flat(layer(x, **given)), flat(again(x, **given))
    if name == "classifier":  # states of two layers, which were one
        found[1:] = [np.concatenate(found[1::2]), np.concatenate(found[2::2])]
    for one, expected in zip(found, y, strict=True):
        np.testing.assert_array_equal(one, expected)


@pytest.mark.parametrize("initial", ["zeros", "learned", "normal"])
def test_states_and_lengths_may_be_left_out(initial: str, tmp_path: Path) -> None:
    layer = fastrnn.LSTM(D, H, 2, bidirectional=True, initial_state=initial, random_state=0)
    for name, param in layer.params.items():
        if "0_l" in name:
            param[...] = np.linspace(-1, 1, H)
    layer.to_onnx(tmp_path / "model.onnx", states=False, lengths=False)
    runner = session((tmp_path / "model.onnx").read_bytes())
    assert [one.name for one in runner.get_inputs()] == ["x"]
    feeds = feeds_of(runner)
    y, (h, c) = layer(feeds["x"])
    for found, expected in zip(runner.run(None, feeds), (y, h, c), strict=True):
        near(found, expected)
    again = fastrnn.from_onnx(tmp_path / "model.onnx")
    assert again.num_layers == 2
    assert again.initial_state == ("zeros" if initial == "zeros" else "learned")
    np.testing.assert_array_equal(again(feeds["x"])[0], y)


def test_batch_and_time_are_free(tmp_path: Path) -> None:
    layer = fastrnn.GRU(D, H, random_state=0)
    layer.to_onnx(tmp_path / "model.onnx", states=False, lengths=False)
    runner = session((tmp_path / "model.onnx").read_bytes())
    for shape in ((1, 1, D), (5, 2, D), (2, 30, D)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        near(runner.run(None, {"x": x})[0], layer(x)[0])


def test_double_precision_is_written(onnx: ModuleType, tmp_path: Path) -> None:
    layer = fastrnn.LSTM(D, H, dtype="float64", random_state=0)
    layer.to_onnx(tmp_path / "model.onnx", states=False)
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    x = np.random.default_rng(0).standard_normal((N, T, D))
    y, h, c = fastrnn.onnx_backend.run_model(model, [x, LENGTHS])
    expected, last = layer(x, lengths=LENGTHS)
    for found, wanted in zip((y, h, c), (expected, *last), strict=True):
        near(found, wanted, 1e-14)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(ValueError, match="proj_size: expected 0, for ONNX's LSTM has no proj"):
        fastrnn.LSTM(D, H, proj_size=2).to_onnx(path)
    with pytest.raises(TypeError, match=r"to_onnx: expected one of LSTM, .*, got Attention"):
        fastrnn.Attention(2, 2).to_onnx(path)
    with pytest.raises(ValueError, match=r"layers of one dtype, got .'float32', 'float64'"):
        fastrnn.Sequential(fastrnn.GRU(D, 2), fastrnn.Linear(2, 2, dtype="float64")).to_onnx(path)
    with pytest.raises(ValueError, match="expected an Embedding only as the first layer"):
        fastrnn.Sequential(fastrnn.GRU(D, 2), fastrnn.Embedding(2, 2)).to_onnx(path)
    with pytest.raises(ValueError, match="expected no recurrent layer behind a Final, got one"):
        fastrnn.Sequential(fastrnn.Final(fastrnn.GRU(D, 2)), fastrnn.GRU(2, 2)).to_onnx(path)
    with pytest.raises(TypeError, match="states: expected True or False"):
        fastrnn.GRU(D, H).to_onnx(path, states=1)
    assert not path.exists()


# From ONNX: nodes with all their attributes

NODES: list[tuple[str, dict[str, Any]]] = [
    ("RNN", {}),
    ("RNN", {"dirs": 2, "activations": ["Tanh", "Relu"]}),
    ("RNN", {"clip": 0.5, "direction": "reverse"}),
    ("RNN", {"activations": ["Affine"], "activation_alpha": [0.5], "activation_beta": [0.25]}),
    ("GRU", {}),
    ("GRU", {"bias": False, "direction": "reverse"}),
    ("GRU", {"linear_before_reset": 1, "dirs": 2}),
    ("GRU", {"linear_before_reset": 1, "clip": 0.5}),
    ("GRU", {"clip": 0.25, "activations": ["HardSigmoid", "Softplus"]}),
    ("LSTM", {}),
    ("LSTM", {"dirs": 2}),
    ("LSTM", {"direction": "reverse", "bias": False}),
    ("LSTM", {"peepholes": True, "dirs": 2}),
    ("LSTM", {"input_forget": 1}),
    ("LSTM", {"input_forget": 1, "peepholes": True, "clip": 0.5, "direction": "reverse"}),
    (
        "LSTM",
        {
            "dirs": 2,
            "activations": ["HardSigmoid", "Tanh", "LeakyRelu", "Sigmoid", "ScaledTanh", "Elu"],
            "activation_alpha": [0.3, 0.2, 1.5, 0.5],
            "activation_beta": [0.4, 0.7],
        },
    ),
    *(
        ("RNN", {"activations": [name]})
        for name in DEFAULTS
        # onnxruntime takes another threshold than the operator's default, which is ONNX's word
        if None not in DEFAULTS[name] and name != "ThresholdedRelu"
    ),
    ("RNN", {"activations": ["ThresholdedRelu"], "activation_alpha": [0.25]}),
]  # fmt: skip


@pytest.mark.parametrize(("op_type", "options"), NODES, ids=range(len(NODES)))
def test_nodes_compute_what_onnxruntime_computes(op_type: str, options: dict[str, Any]) -> None:
    model = node_model(op_type, D=D, H=H, **options)
    layer = fastrnn.from_onnx(model)
    feeds = feeds_of(session(model))
    expected = run(model, feeds)
    x = feeds["x"].swapaxes(0, 1)
    y, last = layer(x, state_of(feeds), LENGTHS)
    theirs = expected[0].transpose(2, 0, 1, 3)
    near(y, theirs.reshape(N, T, -1), 2e-6)
    for found, wanted in zip(flat(last), expected[1:], strict=True):
        near(found, wanted, 2e-6)
    assert fastrnn.from_onnx(model, node="the node").config() is not None
    rare = {"clip", "peepholes", "input_forget"} & options.keys()
    inner = layer.layer if isinstance(layer, fastrnn.Reversed) else layer
    usual = options.get("activations", ["Tanh"]) in (["Tanh"], ["Relu"], ["Sigmoid"])
    assert isinstance(inner, fastrnn.OnnxRecurrent) is (bool(rare) or not usual)


@pytest.mark.parametrize("op_type", ["RNN", "GRU", "LSTM"])
def test_batch_first_nodes_are_the_same(op_type: str) -> None:
    models = [node_model(op_type, dirs=2, layout=layout) for layout in (0, 1)]
    x = np.random.default_rng(0).standard_normal((N, T, D)).astype(np.float32)
    first, second = (fastrnn.from_onnx(model)(x, lengths=LENGTHS)[0] for model in models)
    np.testing.assert_array_equal(first, second)


def test_alphas_may_stand_for_each_function() -> None:
    names = ["Tanh", "HardSigmoid", "LeakyRelu"]
    short = node_model("LSTM", activations=names, activation_alpha=[0.3, 0.1])
    long = node_model("LSTM", activations=names, activation_alpha=[0.9, 0.3, 0.1])
    x = np.random.default_rng(0).standard_normal((N, T, D)).astype(np.float32)
    first, second = (fastrnn.from_onnx(model)(x)[0] for model in (short, long))
    np.testing.assert_array_equal(first, second)


VARIANTS: list[dict[str, Any]] = [
    {"kind": "RNN", "clip": 0.6, "activations": ["Softsign"]},
    {"kind": "GRU", "clip": 0.6, "activations": ["HardSigmoid", "Softplus"]},
    {"kind": "GRU", "activations": ["Sigmoid", ("ScaledTanh", 1.5, 0.5)],
     "linear_before_reset": True},
    {"kind": "LSTM", "peepholes": True, "input_forget": True, "clip": 0.8},
    {"kind": "LSTM", "peepholes": True, "bidirectional": True, "activations":
     ["Sigmoid", ("LeakyRelu", 0.1), ("Affine", 0.5, 0.1), "Softplus", "Elu",
      ("ThresholdedRelu", 0.2)]},
]  # fmt: skip


@pytest.mark.parametrize("options", VARIANTS, ids=range(len(VARIANTS)))
def test_gradients_of_variants(options: dict[str, Any], rng: np.random.Generator) -> None:
    layer = fastrnn.OnnxRecurrent(
        2, 2, 2, dtype="float64", random_state=1, init="uniform", init_scale=0.8,
        initial_state="learned", recurrent_dropout=0.3, **options,
    )  # fmt: skip
    errors = fastrnn.gradient_check(layer, rng.standard_normal((3, 3, 2)), lengths=[3, 0, 2])
    assert max(errors.values()) < 1e-6


def test_variants_are_saved_and_streamed(tmp_path: Path, rng: np.random.Generator) -> None:
    layer = fastrnn.OnnxRecurrent(2, 3, 2, kind="LSTM", peepholes=True, clip=0.5, random_state=0)
    x = rng.standard_normal((2, 5, 2)).astype(np.float32)
    y, _ = layer(x)
    np.testing.assert_allclose(layer.stream(2).push(x), y, rtol=1e-6)
    assert set(layer.trace(x)) >= {"h_l0", "c_l1", "in_gate_l0"}
    layer.save(tmp_path / "layer")
    code = f"import fastrnn; print(fastrnn.load({str(tmp_path / 'layer')!r}).clip)"
    code = code.replace(".clip", ".config()['clip']")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0.5\n"
    np.testing.assert_array_equal(fastrnn.load(tmp_path / "layer")(x)[0], y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "CNN"}, "kind: expected one of"),
        ({"kind": "GRU", "activations": ["Tanh"]}, "activations: expected 2 functions"),
        ({"kind": "RNN", "activations": ["Gelu"]}, "activations: expected one of"),
        ({"kind": "RNN", "activations": ["Affine"]}, "expected an alpha for Affine, got none"),
        ({"kind": "RNN", "activations": [("Tanh", 1, 2, 3)]}, r"expected \(name, alpha, beta\)"),
        ({"kind": "RNN", "clip": -1.0}, "clip: expected"),
        ({"kind": "GRU", "peepholes": True}, "peepholes: expected False of any kind but LSTM"),
        ({"kind": "LSTM", "linear_before_reset": True}, "linear_before_reset: expected False"),
    ],
)
def test_variants_that_are_none(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fastrnn.OnnxRecurrent(2, 3, **options)


# From ONNX: graphs


def graph(onnx: ModuleType, nodes: list[Any], constants: dict[str, Any], x: list[Any]) -> bytes:
    """A model of nodes (type, inputs, outputs, attributes) from x to y."""
    made = [
        onnx.helper.make_node(op, inputs, outputs, **attributes)
        for op, inputs, outputs, attributes in nodes
    ]
    info = onnx.helper.make_tensor_value_info
    code = onnx.TensorProto.INT64 if len(x) == 2 else onnx.TensorProto.FLOAT
    tensors = [
        onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()
    ]
    built = onnx.helper.make_graph(
        made, "g", [info("x", code, x)], [info("y", onnx.TensorProto.FLOAT, list("abc"))], tensors
    )
    imports = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(built, opset_imports=imports, ir_version=8).SerializeToString()


def weights(seed: int = 0, D: int = D) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"W": (1, 4 * H, D), "R": (1, 4 * H, H), "B": (1, 8 * H)}
    return {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def test_a_graph_as_exporters_write_it(onnx: ModuleType) -> None:
    """Zero states of the input's sizes, moved axes, a head and a softmax; two layers."""
    rng = np.random.default_rng(0)
    second = {f"{name}2": value for name, value in weights(1, H).items()}
    constants = {
        **weights(), **second,
        "one": [1], "zero": np.int64(0), "last": np.int64(1), "hidden": [H],
        "shape": [0, 0, -1], "table": rng.standard_normal((7, D)).astype(np.float32),
        "M": rng.standard_normal((H, 5)).astype(np.float32),
        "b": rng.standard_normal(5).astype(np.float32),
        "scale": np.full(5, 2, np.float32), "shift": np.ones(5, np.float32),
    }  # fmt: skip
    nodes = [
        ("Gather", ["table", "x"], ["e"], {}),
        ("Transpose", ["e"], ["e_t"], {"perm": [1, 0, 2]}),
        ("Shape", ["e_t"], ["sizes"], {}),
        ("Gather", ["sizes", "last"], ["n"], {"axis": 0}),
        ("Unsqueeze", ["n", "zero_axes"], ["n1"], {}),
        ("Constant", [], ["zero_axes"], {"value_ints": [0]}),
        ("Concat", ["one", "n1", "hidden"], ["state sizes"], {"axis": 0}),
        ("ConstantOfShape", ["state sizes"], ["zeros"], {}),
        ("LSTM", ["e_t", "W", "R", "B", "", "zeros", "zeros"], ["s"], {"hidden_size": H}),
        ("Squeeze", ["s", "one"], ["s1"], {}),
        (
            "LSTM",
            ["s1", "W2", "R2", "B2", "", "zeros", "zeros"],
            ["u", "h", "c"],
            {"hidden_size": H},
        ),
        ("Transpose", ["u"], ["u_t"], {"perm": [2, 0, 1, 3]}),
        ("Reshape", ["u_t", "shape"], ["u1"], {}),
        ("Dropout", ["u1"], ["u2"], {}),
        ("MatMul", ["u2", "M"], ["v"], {}),
        ("Add", ["b", "v"], ["v1"], {}),
        ("LayerNormalization", ["v1", "scale", "shift"], ["v2"], {"axis": -1}),
        ("Softmax", ["v2"], ["v3"], {"axis": -1}),
        ("Identity", ["v3"], ["y"], {}),
    ]
    nodes.insert(4, nodes.pop(5))
    model = graph(onnx, nodes, constants, ["batch", "time"])
    layer = fastrnn.from_onnx(model)
    kinds = [type(one).__name__ for one in layer.layers]
    assert kinds == ["Embedding", "LSTM", "Linear", "LayerNorm", "Activation"]
    assert layer.layers[1].num_layers == 2
    x = rng.integers(0, 7, (N, T))
    near(layer(x)[0], run(model, {"x": x})[0], 2e-6)
    alone = fastrnn.from_onnx(model, node="u")
    assert (alone.input_size, alone.hidden_size) == (H, H)


def test_classifiers_read_the_end(onnx: ModuleType) -> None:
    rng = np.random.default_rng(0)
    two = {
        name: np.concatenate([value, -value]) for name, value in weights().items()
    }  # both directions
    head = {
        "M": rng.standard_normal((H, 2)).astype(np.float32),
        "M2": rng.standard_normal((2 * H, 2)).astype(np.float32),
        "b": rng.standard_normal(2).astype(np.float32),
        "zero": [0], "last": np.int64(-1), "one": [1], "join": [0, -1],
    }  # fmt: skip
    usual = {"hidden_size": H}
    both = {**usual, "direction": "bidirectional"}
    cases = [
        ([("LSTM", ["x", "W", "R", "B"], ["s", "h"], usual), ("Squeeze", ["h", "zero"], ["u"], {}),
          ("Gemm", ["u", "M", "b"], ["y"], {})], weights()),
        ([("LSTM", ["x", "W", "R", "B"], ["s"], usual), ("Squeeze", ["s", "one"], ["u"], {}),
          ("Gather", ["u", "last"], ["v"], {"axis": 0}), ("Gemm", ["v", "M", "b"], ["y"], {})],
         weights()),
        ([("LSTM", ["x", "W", "R", "B"], ["s", "h"], both),
          ("Transpose", ["h"], ["u"], {"perm": [1, 0, 2]}), ("Reshape", ["u", "join"], ["v"], {}),
          ("MatMul", ["v", "M2"], ["w"], {}), ("Add", ["w", "b"], ["y"], {})], two),
        ([("LSTM", ["x", "W", "R", "B"], ["s", "h"], usual), ("Gather", ["h", "last"], ["y"], {})],
         weights()),
    ]  # fmt: skip
    x = rng.standard_normal((T, N, D)).astype(np.float32)
    for nodes, constants in cases:
        model = graph(onnx, nodes, {**constants, **head}, X)
        layer = fastrnn.from_onnx(model)
        first = layer.layers[0] if isinstance(layer, fastrnn.Sequential) else layer
        assert isinstance(first, fastrnn.Final)
        near(layer(x.swapaxes(0, 1))[0], run(model, {"x": x})[0], 2e-6)


X = ["t", "n", D]
LSTM = ("LSTM", ["x", "W", "R", "B"], ["s"], {})
ONE = {"one": np.array([1])}
REFUSED: list[tuple[list[Any], dict[str, Any], str]] = [
    ([("Conv", ["x", "W"], ["y"], {})], {}, r"node 'y' \(Conv\): expected an operator"),
    ([LSTM, ("Gather", ["s", "zero"], ["y"], {})], {"zero": np.int64(0)}, "parts of data cannot"),
    ([("LSTM", ["x", "W", "R", "B"], ["s"], {"direction": "reverse"}),
      ("Gather", ["s", "last"], ["y"], {})], {"last": np.int64(-1)}, "parts of data cannot"),
    ([("Slice", ["x", "zero", "one", "zero"], ["ends"], {}),  # what the caller gives
      ("LSTM", ["x", "W", "R", "B", "ends"], ["s"], {}), ("Squeeze", ["s", "one"], ["u"], {}),
      ("Gather", ["u", "last"], ["y"], {})],
     {**ONE, "zero": np.array([0]), "last": np.int64(-1)}, "parts of data cannot"),
    ([LSTM, ("Add", ["s", "s"], ["y"], {})], {}, "Add.: expected one input of data, and constants"),
    ([LSTM, ("Softmax", ["s"], ["y"], {"axis": 0})], {}, "axis: expected the last"),
    ([LSTM, ("Reshape", ["s", "shape"], ["y"], {})], {"shape": np.array([-1, H])}, "to join"),
    ([("LSTM", ["x", "W", "R", "B", "ends"], ["y"], {})], {"ends": np.ones(2, np.int32)},
     "sequence_lens: expected an input of the graph, got a constant"),
    ([("LSTM", ["x", "x", "R", "B"], ["y"], {})], {}, "W: expected a constant"),
    ([("LSTM", ["x", "R", "W", "B"], ["y"], {})], {}, r"expected shape \(1, 12, "),
    ([("LSTM", ["x", "W", "R", "R"], ["y"], {})], {}, r"B: expected shape \(1, 32\), got"),
    ([("LSTM", ["x", "W", "R", "B"], ["y"], {"hidden_size": 9})], {}, "hidden_size: expected 4"),
    ([("LSTM", ["x", "W", "R", "B"], ["y"], {"direction": "up"})], {}, "direction: expected one"),
    ([("LSTM", ["x", "W", "R", "B"], ["y"], {"activations": ["Tanh"]})], {}, "activations: expec"),
    ([("LSTM", ["x", "W", "R", "B"], ["y"], {"clip": -1.0})], {}, "clip: expected a number of"),
    ([("LSTM", ["x", "W", "R", "B"], ["y"], {"activation_alpha": [1.0]})], {}, "at most 0 numbers"),
    ([LSTM, ("LSTM", ["s", "W", "R", "B"], ["y"], {})], {}, "expected X of 3 axes, got 4"),
    ([LSTM, ("Squeeze", ["s", "one"], ["u"], {}), ("Transpose", ["u"], ["v"], {"perm": [1, 0, 2]}),
      ("LSTM", ["v", "W", "R", "B"], ["y"], {})], ONE, "time and batch where the layers before"),
    ([("LSTM", ["x", "W", "R", "B"], ["s", "h", "c"], {}), ("Identity", ["c"], ["y"], {})], {},
     "output besides final states, got none"),
    ([("Identity", ["x"], ["y"], {})], {}, "output 'y': expected the result of layers"),
    ([("Relu", ["none"], ["y"], {})], {}, "expected 'none' to be made before it is used"),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "more", "message"), REFUSED, ids=range(len(REFUSED)))
def test_graphs_that_cannot_be_taken(
    onnx: ModuleType, nodes: list[Any], more: dict[str, Any], message: str
) -> None:
    if nodes[-1][0] == "LSTM" and len(nodes) > 1:
        more = {**more, **weights(0, H)}
    model = graph(onnx, nodes, {**weights(), **more}, X)
    with pytest.raises(fastrnn.FormatError, match=message):
        fastrnn.from_onnx(model)


def test_a_node_that_is_not_there(onnx: ModuleType) -> None:
    model = graph(onnx, [LSTM, ("Conv", ["s"], ["y"], {})], weights(), X)
    with pytest.raises(fastrnn.FormatError, match=r"node 'y' .Conv.*\(node= takes one of 's' by"):
        fastrnn.from_onnx(model)
    with pytest.raises(fastrnn.FormatError, match="node: expected one of 's', got 'y'"):
        fastrnn.from_onnx(model, node="y")
    assert fastrnn.from_onnx(model, node="s").hidden_size == H


def test_initial_states_that_are_constant(onnx: ModuleType) -> None:
    h, c = np.linspace(-1, 1, 2 * H).astype(np.float32).reshape(2, 1, 1, H)
    states = {"h": np.repeat(h, N, 1), "c": np.repeat(c, N, 1)}
    node = ("LSTM", ["x", "W", "R", "B", "", "h", "c"], ["y"], {"hidden_size": H})
    model = graph(onnx, [node], {**weights(), **states}, ["t", N, D])
    layer = fastrnn.from_onnx(model)
    assert layer.initial_state == "learned"
    x = np.random.default_rng(0).standard_normal((T, N, D)).astype(np.float32)
    near(layer(x.swapaxes(0, 1))[0].swapaxes(0, 1), run(model, {"x": x})[0][:, 0], 2e-6)
    states["h"][0, 1] += 1
    model = graph(onnx, [node], {**weights(), **states}, ["t", N, D])
    with pytest.raises(fastrnn.FormatError, match="initial_h: expected the same for each sequence"):
        fastrnn.from_onnx(model)


def test_silero(data_file: Callable[[str], Path]) -> None:
    path = data_file("models/silero/silero_vad_16k_sequence.onnx")
    with np.load(data_file("models/silero/lstm_reference_20s.npz")) as recorded:
        x, h = recorded["lstm_input"], recorded["h_seq"]
    layer = fastrnn.from_onnx(path, node="/recurrent/LSTM")
    assert (type(layer).__name__, layer.input_size, layer.hidden_size) == ("LSTM", 128, 128)
    stream = layer.stream()
    found = np.concatenate([stream.step(frame[None]) for frame in x])
    assert found.shape == h.shape == (625, 128)
    assert np.abs(found - h).max() < 1e-5
    with pytest.raises(fastrnn.FormatError, match=r"node= takes one of '/recurrent/LSTM'"):
        fastrnn.from_onnx(path)


# The backend


def suite(monkeypatch: pytest.MonkeyPatch | None) -> unittest.TestSuite:
    """ONNX's own tests of recurrent nodes, all its others left out."""
    pytest.importorskip("onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import onnx.backend.test.runner as runner

        if monkeypatch is not None:  # collecting all of ONNX's tests takes seconds
            from onnx.backend.test.case import node
            from onnx.backend.test.case.node import gru, lstm, rnn  # noqa: F401

            cases = {"node": node._NodeTestCases}
            monkeypatch.setattr(runner, "load_model_tests", lambda kind: cases.get(kind, []))
        tests = runner.Runner(fastrnn.onnx_backend, __name__)
    tests.include(r"^test_(simple_rnn|rnn|gru|lstm)_.*_cpu$")
    return tests.test_suite


def check_suite(tests: unittest.TestSuite) -> None:
    result = unittest.TestResult()
    tests.run(result)
    assert not result.errors + result.failures, (result.errors + result.failures)[0][1]
    assert result.testsRun - len(result.skipped) == 18


def test_the_onnx_packages_own_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    check_suite(suite(monkeypatch))


@pytest.mark.slow
def test_the_onnx_packages_own_tests_as_a_whole() -> None:
    check_suite(suite(None))


@every_layer
def test_the_backend_runs_what_is_written(name: str, onnx: ModuleType, tmp_path: Path) -> None:
    layers()[name].to_onnx(tmp_path / "model.onnx")
    feeds = feeds_of(session((tmp_path / "model.onnx").read_bytes()))
    expected = run((tmp_path / "model.onnx").read_bytes(), feeds)
    prepared = fastrnn.onnx_backend.prepare(onnx.load(tmp_path / "model.onnx"))
    for _ in range(2):
        for found, wanted in zip(prepared.run(feeds), expected, strict=True):
            near(found, wanted, 2e-6)


def test_the_backend_says_what_it_cannot(onnx: ModuleType) -> None:
    model = onnx.load_model_from_string(graph(onnx, [("Cos", ["x"], ["y"], {})], {}, X))
    assert not fastrnn.onnx_backend.is_compatible(model)
    with pytest.raises(ValueError, match=r"model: expected operators among .*GRU"):
        fastrnn.onnx_backend.prepare(model)
    with pytest.raises(ValueError, match="device: expected 'CPU', got 'CUDA'"):
        fastrnn.onnx_backend.prepare(model, "CUDA")
    assert fastrnn.onnx_backend.supports_device("CPU")
    node = onnx.helper.make_node("Tanh", ["a"], ["b"])
    (found,) = fastrnn.onnx_backend.run_node(node, [np.ones(2, np.float32)])
    near(found, np.tanh(np.ones(2, np.float32)))


def test_the_backend_says_what_it_needs() -> None:
    code = """
import sys
sys.modules["onnx"] = None
import fastrnn
try:
    fastrnn.onnx_backend
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "fastrnn.onnx_backend needs onnx: pip install 'fastrnn[onnx]'\n"


def test_reading_and_writing_need_no_package(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules.update(onnx=None, onnxruntime=None, google=None)
import fastrnn
path = {str(tmp_path / "model.onnx")!r}
fastrnn.GRU(2, 3).to_onnx(path)
print(fastrnn.from_onnx(path).hidden_size)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"
