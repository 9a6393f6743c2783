"""The network of encoder, decoder and attention: gradients, its two paths, PyTorch's losses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import losses, optim
from fastrnn.seq2seq.network import Network
from fastrnn.seq2seq.parts import layer_specs, make_layers
from fastrnn.seq2seq.steps import Steps
from fastrnn.text.vocabulary import Vocabulary
from fastrnn.training.minibatches import Batch

END = Vocabulary.BOUNDARY
SOURCES, TARGETS = 7, 6  # tokens of each side, boundary and unknown among them
PARAMETERS: dict[str, Any] = {
    "attention": "additive",
    "cell": "lstm",
    "hidden_size": 5,
    "num_layers": 1,
    "bidirectional": False,
    "embedding_dim": 3,
    "input_feeding": False,
    "bridge": "auto",
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "reset_after": False,
    "nonlinearity": "tanh",
    "dtype": "float64",
}


def network(seed: int = 0, smoothing: float = 0.0, **options: Any) -> Network:
    parameters = {**PARAMETERS, **options}
    specs = layer_specs(parameters, SOURCES, TARGETS)
    parts = make_layers(specs, np.random.default_rng(seed))
    bridge = parameters["bridge"]
    if bridge == "auto":
        bridge = "linear" if parameters["bidirectional"] else "copy"
    return Network(parts, bridge, parameters["dropout"], smoothing, seed)


def pairs(source: list[int], target: list[int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Sources and targets of so many tokens each, between their boundaries."""
    draw = np.random.default_rng(3)
    return (
        [np.array([*draw.integers(2, SOURCES, n), END]) for n in source],
        [np.array([END, *draw.integers(2, TARGETS, n), END]) for n in target],
    )


RAGGED = pairs([4, 0, 2, 6], [3, 2, 0, 5])


def batch(both: tuple[list[np.ndarray], list[np.ndarray]]) -> Batch:
    return Batch(*both, np.arange(len(both[0])), True)


def clear(one: Network) -> None:
    for layer in one.layers:
        layer.zero_grad()


def close(one: Network, loss: Any) -> None:
    """Whether each parameter's gradient is the slope of the loss, along a direction by chance."""
    rng = np.random.default_rng(1)
    checked = 0
    for key, layer in one.parts.items():
        for name, param in layer.params.items():
            direction = rng.standard_normal(param.shape)
            slope = float(np.sum(direction * layer.grads[name]))
            kept, ends = param.copy(), []
            for side in (1e-5, -1e-5):
                param[...] = kept + side * direction
                ends.append(loss())
            param[...] = kept
            difference = (ends[0] - ends[1]) / 2e-5
            assert slope == pytest.approx(difference, rel=1e-6, abs=1e-9), f"{key}.{name}"
            checked += abs(difference) > 1e-6
    assert checked >= 8, "gradients of nothing say nothing"


KINDS: list[dict[str, Any]] = [
    {"attention": None},
    {"attention": "dot"},
    {"attention": "additive"},
    {"attention": "additive", "bidirectional": True},
    {"attention": "dot", "bidirectional": True, "num_layers": 2, "cell": "gru"},
    {"attention": "additive", "cell": "rnn", "nonlinearity": "sigmoid", "bridge": "linear"},
    {"attention": None, "cell": "gru", "reset_after": True, "num_layers": 2},
    {"attention": None, "bidirectional": True, "num_layers": 2},
    {"attention": "dot", "bridge": "zeros"},
]


@pytest.mark.parametrize("feeding", [False, True], ids=["whole", "feeding"])
@pytest.mark.parametrize("options", KINDS, ids=str)
def test_gradients_are_those_of_finite_differences(options: Any, feeding: bool) -> None:
    one = network(**options, input_feeding=feeding)
    clear(one)
    loss, count, _ = one.learn(batch(RAGGED), None)
    assert count == 3 + 2 + 0 + 5 + 4
    assert one.assess(batch(RAGGED), None)[0] == pytest.approx(loss, rel=1e-12)
    close(one, lambda: one.assess(batch(RAGGED), None)[0])


def test_gradients_with_label_smoothing() -> None:
    one = network(bidirectional=True, smoothing=0.2)
    clear(one)
    one.learn(batch(RAGGED), None)

    def loss() -> float:
        h, wanted, _ = one.states(*RAGGED)
        return float(
            losses.linear_cross_entropy(one.output, h, wanted, label_smoothing=0.2, gradient=False)[
                0
            ]
        )

    close(one, loss)


@pytest.mark.parametrize(
    "options", [KINDS[0], KINDS[2], KINDS[4], {"recurrent_dropout": 0.4}], ids=str
)
def test_step_by_step_is_the_whole_at_once(options: Any) -> None:
    """A network whose feeding has no weight, walked both ways: the same loss and gradients."""
    slow, fast = network(**options, input_feeding=True), network(**options)
    E = PARAMETERS["embedding_dim"]
    slow.decoder.params["weight_ih_l0"][:, E:] = 0
    for key, layer in fast.parts.items():
        for name, param in layer.params.items():
            theirs = slow.parts[key].params[name]
            param[...] = theirs[:, :E] if theirs.shape != param.shape else theirs
    both = [(clear(one), one.learn(batch(RAGGED), None)[0])[1] for one in (slow, fast)]
    assert both[0] == pytest.approx(both[1], rel=1e-12)
    for key, layer in fast.parts.items():
        for name, grad in layer.grads.items():
            theirs = slow.parts[key].grads[name]
            theirs = theirs[:, :E] if theirs.shape != grad.shape else theirs
            np.testing.assert_allclose(theirs, grad, rtol=1e-9, atol=1e-12, err_msg=f"{key}.{name}")


@pytest.mark.parametrize("feeding", [False, True])
@pytest.mark.parametrize("options", KINDS[:5], ids=str)
def test_steps_are_the_whole_of_what_is_written(options: Any, feeding: bool) -> None:
    one = network(**options, input_feeding=feeding, dtype="float32")
    sources, targets = pairs([4, 2, 6], [5, 5, 5])
    walk = Steps(one, sources)
    ids = np.stack(targets)
    logits = np.stack([walk.step(ids[:, t : t + 1])[:, 0] for t in range(6)], axis=1)
    loss, _ = losses.softmax_cross_entropy(logits, ids[:, 1:], reduction="none")
    np.testing.assert_allclose(-loss, one.log_prob(sources, targets), rtol=1e-5, atol=1e-7)


def test_rows_can_be_reordered_and_sources_dropped() -> None:
    one = network(input_feeding=True, bidirectional=True)
    sources, targets = pairs([4, 2, 6], [5, 5, 5])
    ids = np.stack(targets)
    walk = Steps(one, sources)
    walk.step(ids[:, :1])
    walk.reorder(np.zeros((3, 2), int))
    two = np.stack([ids[:, 1], ids[:, 2]], axis=1)
    walk.step(two)
    walk.keep(np.array([0, 2]))
    walk.reorder(np.array([[1, 0], [1, 1]]))
    found = walk.step(np.full((2, 2), 3))
    for i, j, row in ((0, 0, 1), (0, 1, 0), (2, 0, 1), (2, 1, 1)):
        alone = Steps(one, [sources[i]])
        for token in (ids[i, 0], two[i, row], 3):
            logits = alone.step(np.array([[token]]))
        np.testing.assert_allclose(found[i // 2, j], logits[0, 0], rtol=1e-10)


def test_teacher_forcing_reads_what_the_model_finds_likeliest() -> None:
    one = network(bidirectional=True, dtype="float32")
    sources, targets = pairs([4, 2, 6], [5, 5, 5])
    ids = np.stack(targets)[:, :-1]
    assert np.array_equal(one._mixed(sources, ids, 1.0), ids)
    mixed = one._mixed(sources, ids, 0.0)
    assert np.array_equal(mixed[:, 0], ids[:, 0])
    whole = [np.append(row, END) for row in mixed]
    h, _, _ = one.states(sources, whole)
    likeliest = one.output(h)[:, 1:].argmax(axis=1).reshape(3, -1) + 1
    assert np.array_equal(mixed[:, 1:], likeliest[:, :-1])
    assert not np.array_equal(mixed, ids)
    one.output.params["bias"][Vocabulary.UNKNOWN] = 1e4  # which is never written
    assert np.array_equal(one._mixed(sources, ids, 0.0), mixed)
    one.output.params["bias"][END] = 1e3
    assert (one._mixed(sources, ids, 0.0)[:, 1:] == END).all()
    one.output.params["bias"][END] = -1e3
    drawn = np.mean([(one._mixed(sources, ids, 0.5) == ids)[:, 1:].mean() for _ in range(50)])
    chance = (mixed == ids)[:, 1:].mean()
    assert 0.4 < drawn < 0.65 + chance


def test_own_tokens_are_read_and_the_targets_asked_for() -> None:
    one = network(bidirectional=True)
    longest = max(map(len, RAGGED[1])) - 1
    ids = np.stack([np.pad(t[:-1], (0, longest - len(t) + 1)) for t in RAGGED[1]])
    mixed = one._mixed(RAGGED[0], ids, 0.0)
    one.teacher_forcing = lambda: 0.0
    found = one.learn(batch(RAGGED), None)[0]
    rows = [one.states([s], [np.append(m[: len(t) - 1], END)])[0]
            for s, t, m in zip(*RAGGED, mixed, strict=True)]  # fmt: skip
    wanted = np.concatenate([t[1:] for t in RAGGED[1]])
    expected, _ = losses.softmax_cross_entropy(one.output(np.concatenate(rows)), wanted)
    assert found == pytest.approx(expected, rel=1e-12)
    assert found != pytest.approx(one.assess(batch(RAGGED), None)[0], rel=1e-3)


@pytest.mark.parametrize("feeding", [False, True])
def test_dropout_is_repeated_with_the_call_number(feeding: bool) -> None:
    options = {"dropout": 0.3, "recurrent_dropout": 0.3, "num_layers": 2, "bidirectional": True}
    first, second = (network(**options, input_feeding=feeding) for _ in range(2))
    found = []
    for one in (first, second):
        one.teacher_forcing = lambda: 0.5
        found.append([one.learn(batch(RAGGED), None)[0] for _ in range(3)])
    assert found[0] == found[1]
    assert len(set(found[0])) == 3
    assert one.assess(batch(RAGGED), None)[0] == one.assess(batch(RAGGED), None)[0]


@pytest.fixture
def one_thread(torch: Any) -> Iterator[None]:
    """Networks as small as these lose more to waiting threads than they win."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with fastrnn.threads(1):
        yield
    torch.set_num_threads(before)


class TorchTwin:
    """The same network in PyTorch, from the same weights."""

    def __init__(self, torch: Any, one: Network) -> None:
        self.torch, self.feeding = torch, one.input_feeding
        self.p = {
            f"{key}.{name}": torch.tensor(param, requires_grad=True)
            for key, layer in one.parts.items()
            for name, param in layer.params.items()
        }
        kind = {"LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU, "RNN": torch.nn.RNN}
        self.layers = {}
        for key in ("encoder", "decoder"):
            mine = one.parts[key]
            made = kind[type(mine).__name__](
                mine.input_size, mine.hidden_size, mine.num_layers, batch_first=True,
                bidirectional=mine.bidirectional, dtype=torch.float64,
            )  # fmt: skip
            for name in mine.params:
                setattr(made, name, torch.nn.Parameter(self.p[f"{key}.{name}"].detach().clone()))
            self.layers[key] = made
        free = [p for name, p in self.p.items() if name.split(".")[0] not in self.layers]
        self.parameters = [*free, *(p for m in self.layers.values() for p in m.parameters())]
        self.one = one

    def pair(self, source: np.ndarray, target: np.ndarray) -> Any:
        """The summed loss of one pair: no padding, so nothing can leak from it."""
        torch, p = self.torch, self.p
        x = p["source_embedding.weight"][torch.tensor(source)][None]
        keys, last = self.layers["encoder"](x)
        state = self.bridge(last)
        e = p["target_embedding.weight"][torch.tensor(target[:-1])][None]
        h, found = torch.zeros(1, 1, self.one.decoder.hidden_size, dtype=torch.float64), []
        for t in range(e.shape[1]):
            step = torch.cat([e[:, t : t + 1], h], 2) if self.feeding else e[:, t : t + 1]
            y, state = self.layers["decoder"](step, state)
            h = self.attend(y, keys[:, :-1]) if self.one.attention is not None else y
            found.append(h[0, 0])
        logits = torch.stack(found) @ p["output.weight"].T + p["output.bias"]
        return torch.nn.functional.cross_entropy(
            logits, torch.tensor(target[1:]), reduction="sum",
            label_smoothing=self.one.label_smoothing,
        )  # fmt: skip

    def attend(self, y: Any, keys: Any) -> Any:
        torch, p = self.torch, self.p
        if self.one.attention.kind == "additive":
            sums = y @ p["attention.weight_query"].T + keys @ p["attention.weight_key"].T
            scores = torch.tanh(sums + p["attention.bias"]) @ p["attention.weight_score"]
        else:
            projected = keys
            if "attention.weight_key" in p:
                projected = keys @ p["attention.weight_key"].T
            scores = (projected * y).sum(2)
        context = torch.softmax(scores, 1)[:, None] @ keys
        return torch.tanh(torch.cat([context, y], 2) @ p["combine.weight"].T)

    def bridge(self, last: Any) -> Any:
        if self.one.bridge == "copy":
            return last
        torch, L = self.torch, self.one.decoder.num_layers
        names = self.one.decoder.cell.states
        found = []
        for name, part in zip(names, last if len(names) > 1 else (last,), strict=True):
            rows = part.reshape(L, -1, 1, part.shape[2]).permute(0, 2, 1, 3).reshape(L, 1, -1)
            found.append(
                torch.stack(
                    [
                        torch.tanh(
                            rows[k] @ self.p[f"bridge_{name}_l{k}.weight"].T
                            + self.p[f"bridge_{name}_l{k}.bias"]
                        )
                        for k in range(L)
                    ]
                )
            )
        return tuple(found) if len(names) > 1 else found[0]


@pytest.mark.parametrize(
    "options",
    [
        {"attention": None, "cell": "gru", "reset_after": True},
        {"attention": "additive", "bidirectional": True, "smoothing": 0.1},
        {"attention": "dot", "bidirectional": True, "num_layers": 2, "input_feeding": True},
        {"attention": "dot", "cell": "rnn"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("one_thread")
def test_training_is_that_of_torch(torch: Any, options: Any) -> None:
    """The same weights and batches: 32 losses of Adam in float64 that agree to 1e-9."""
    one = network(**options)
    twin = TorchTwin(torch, one)
    optimizer = optim.Adam([layer for layer in one.layers if layer.params], 0.02)
    theirs = torch.optim.Adam(twin.parameters, 0.02)
    draw = np.random.default_rng(5)
    four = [pairs(*draw.integers(1, 6, (2, 3)).tolist()) for _ in range(4)]
    found, expected = [], []
    for step in range(32):
        both = four[step % 4]
        clear(one)
        found.append(one.learn(batch(both), None)[0])
        optimizer.step()
        theirs.zero_grad()
        loss = sum(twin.pair(*pair) for pair in zip(*both, strict=True))
        loss = loss / sum(len(target) - 1 for target in both[1])
        loss.backward()
        theirs.step()
        expected.append(loss.item())
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found[-1] < 0.9 * found[0]
