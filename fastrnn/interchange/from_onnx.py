"""Layers of ONNX models; what ``fastrnn.from_onnx`` does.

A graph is walked once, in its order. Every value in it is one of these: a constant; data on its way
through layers, whose axes are known by their meaning; a final state; the sizes of data, or zeros of
such sizes, as exporters compute initial states; something the caller gives besides (a state,
lengths); or something that cannot be taken, which matters only if the result depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fastrnn.files import FormatError
from fastrnn.interchange.onnx_axes import MOVES
from fastrnn.interchange.onnx_file import Graph, Node, Source, read
from fastrnn.interchange.onnx_functions import GATES
from fastrnn.interchange.onnx_layers import LAYERS
from fastrnn.interchange.onnx_operators import FOLDED, constant
from fastrnn.interchange.onnx_recurrent import Weights, recurrent_layer
from fastrnn.interchange.onnx_values import (
    Axis,
    Data,
    Given,
    Reason,
    State,
    Step,
    Untaken,
    Value,
    Zeros,
)
from fastrnn.interchange.stacking import stacked
from fastrnn.layers.sequential import Sequential

__all__ = ["from_onnx"]

MOST_NODES, MOST_LAYERS = 1024, 64
"""What even the smallest file may have; each takes memory."""

SLACK = 1 << 16
"""Bytes that constants and layers may have beyond what the file's size justifies."""


def from_onnx(source: Source, node: str | None = None) -> Any:
    """The layers of an ONNX model.

    Reads the file without the onnx package. Takes RNN, GRU and LSTM nodes with all their
    attributes, alone or one after the other with the operators that exporters put around them:
    MatMul or Gemm and Add (`Linear`), Gather of a constant table (`Embedding`),
    LayerNormalization, Softmax, LogSoftmax, Relu, Sigmoid, Tanh, and what only moves axes or
    prepares states. Nodes of one kind and size on top of each other become one layer of several.

    Our layers take and give (N, T, D), both directions' results side by side, whatever order of
    axes the model has: transpose for them where the model is time first, as ONNX is by default.
    States and lengths that the graph takes as inputs are arguments of the call here; so is a final
    state a second result. Where only the last output or the final h is read, as classifiers do, the
    layer becomes `Final`. A constant initial state becomes ``initial_state="learned"``.

    Other functions than the usual ones, clipping, peepholes and coupled gates are computed by
    `OnnxRecurrent`, on the array twin; a node in reverse direction by `Reversed`.

    Parameters
    ----------
    source : path, or bytes of a file
    node : str, optional
        A recurrent node's name, or that of its first result: take this layer alone, out of any
        graph.

    Returns
    -------
    layer
        `Sequential` if there are several.

    Raises
    ------
    FormatError
        If the file is no ONNX model, contradicts itself, or has what cannot be taken: the message
        names the node. Not taken are other operators, branches (the result may depend on one path
        alone), other steps of a sequence than the last, softmax over another axis than the last,
        constant lengths, and weights that are not constant.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import fastrnn
    >>> fastrnn.GRU(3, 4, reset_after=True, random_state=0).to_onnx("gru.onnx")
    >>> layer = fastrnn.from_onnx("gru.onnx")
    >>> type(layer).__name__, layer.input_size, layer.reset_after
    ('GRU', 3, True)
    """
    graph = read(source)
    where = "model" if isinstance(source, bytes | bytearray | memoryview) else str(source)
    try:
        if node is not None:
            return _alone(graph, node)
        return _sequential(graph)
    except (ValueError, TypeError) as error:
        raise FormatError(f"{where}: {error}") from error


def _recurrent_nodes(graph: Graph) -> list[Node]:
    return [one for one in graph.nodes if one.op_type in GATES and not one.domain]


def _alone(graph: Graph, name: str) -> Any:
    nodes = _recurrent_nodes(graph)
    named = [one for one in nodes if one.name == name] or [
        one for one in nodes if one.label == name
    ]
    if len(named) != 1:
        labels = ", ".join(repr(one.label) for one in nodes[:20])
        raise FormatError(f"node: expected one of {labels or 'none'}, got {name!r:.80}")
    walk = _Walk(graph, needed=_ancestors(graph, named[0].inputs[1:4] + named[0].inputs[5:]))
    return walk.layer_alone(named[0])


def _sequential(graph: Graph) -> Any:
    nodes = _recurrent_nodes(graph)
    walk = _Walk(graph, needed=_ancestors(graph, graph.outputs))
    try:
        step = walk.result()
    except FormatError as error:
        if not nodes:
            raise
        labels = ", ".join(repr(one.label) for one in nodes[:20])
        raise FormatError(f"{error} (node= takes one of {labels} by itself)") from None
    steps = []
    while step is not None:
        steps.append(step)
        step = step.before
    if len(steps) > MOST_LAYERS + graph.size // 4096:
        raise FormatError(f"expected fewer layers in a file of this size, got {len(steps)}")
    layers = stacked([one.make() for one in reversed(steps)])
    return layers[0] if len(layers) == 1 else Sequential(*layers)


def _ancestors(graph: Graph, names: Sequence[str]) -> list[Node]:
    """The nodes that these values depend on, in the graph's order."""
    maker = {output: k for k, one in enumerate(graph.nodes) for output in one.outputs if output}
    found: set[int] = set()
    waiting = list(names)
    while waiting:
        k = maker.get(waiting.pop())
        if k is not None and k not in found:
            found.add(k)
            waiting += graph.nodes[k].inputs
    if len(found) > MOST_NODES + graph.size // 512:
        raise FormatError(f"expected fewer nodes in a file of this size, got {len(found)}")
    return [graph.nodes[k] for k in sorted(found)]


class _Walk:
    """The values of a graph by name, as far as its nodes have been walked."""

    def __init__(self, graph: Graph, needed: list[Node]) -> None:
        self.graph = graph
        self.opset = graph.opset
        self.needed = needed
        self.values: dict[str, Value] = {}
        self.left = graph.size + SLACK  # bytes of constants made of constants
        self.weights_left = 2 * graph.size + SLACK  # of parameters: a file may use one twice
        for name, shape in graph.inputs.items():
            if shape is None:
                self.values[name] = Untaken(f"input {name!r:.80}: expected sizes, got none")
            else:
                self.values[name] = Data(tuple(Axis(str(k), n) for k, n in enumerate(shape)))

    # --- the two questions -----------------------------------------------------------------------

    def result(self) -> Step | None:
        """The last layer on the way to the graph's one output that is data."""
        self._run()
        found: list[tuple[str, Data]] = []
        states: list[State] = []
        for name in self.graph.outputs:
            value = self._value(name)
            if isinstance(value, Untaken):
                raise FormatError(value.why)
            if isinstance(value, State):
                states.append(value)
            elif isinstance(value, Data) and value.step is not None:
                found.append((name, value))
            else:
                raise FormatError(f"output {name!r:.80}: expected the result of layers")
        ends = [state.data for state in states if state.data is not None]
        if not found and len(ends) == 1:
            found = [("h", ends[0])]
        if len({value.step for _, value in found}) != 1:
            listed = ", ".join(f"{name!r:.80}" for name, _ in found)
            raise FormatError(f"expected one output besides final states, got {listed or 'none'}")
        data = found[0][1]
        on_way = {id(step.states) for step in _way(data.step)}
        if any(id(state.of) not in on_way for state in states):
            raise FormatError("expected final states of the layers on the way, got another's")
        return data.step

    def layer_alone(self, node: Node) -> Any:
        """The layer of one recurrent node, whatever its input is."""
        self._run()
        return self.recurrent(node)[0]()

    # --- nodes -----------------------------------------------------------------------------------

    def _run(self) -> None:
        for node in self.needed:
            inputs = [self._value(name) if name else None for name in node.inputs]
            try:
                values = self._outputs(node, inputs)
            except Reason as reason:
                values = [Untaken(f"{node}: {reason}")] * len(node.outputs)
            for name, value in zip(node.outputs, values, strict=False):
                if name:
                    self.values[name] = value

    def _value(self, name: str) -> Value:
        if name not in self.values:
            tensor = self.graph.constants.get(name)
            if tensor is None:
                raise FormatError(f"expected {name[:80]!r} to be made before it is used")
            self.values[name] = tensor.array()
        return self.values[name]

    def _outputs(self, node: Node, inputs: list[Value | None]) -> list[Value]:
        if node.domain:
            raise Reason(f"expected an operator of ONNX's own domain, got {node.domain[:80]!r}")
        if node.op_type == "Constant":
            return [constant(node)]
        for value in inputs:
            if isinstance(value, Untaken):
                return [value] * len(node.outputs)
        if all(value is None or isinstance(value, np.ndarray) for value in inputs):
            return self._folded(node, inputs)
        if node.op_type in MOVES:
            found = MOVES[node.op_type](node, inputs, self.graph.opset)
        elif node.op_type in LAYERS:
            found = LAYERS[node.op_type](self, node, inputs)
        else:
            known = ", ".join(sorted({*LAYERS, *MOVES, "Constant"}))
            raise Reason(f"expected an operator among {known}")
        return found if isinstance(found, list) else [found]

    def _folded(self, node: Node, inputs: list[Any]) -> list[Value]:
        """The value of a node that only constants go into."""
        operator = FOLDED.get(node.op_type)
        if operator is None:
            if node.op_type in GATES:
                raise Reason("expected an input, got a constant")
            raise Reason(f"expected constants only for {', '.join(FOLDED)}")
        if node.op_type in ("Cast", "Concat", "Gather", "Reshape"):  # others give views
            self._charge(8 * sum(value.size for value in inputs if value is not None))
        if node.op_type == "Gather" and len(inputs) == 2 and None not in inputs:
            table, index = inputs
            self._charge(index.size * (table.nbytes // max(table.shape[0], 1) if table.ndim else 8))
        found = operator(node, inputs, self.graph.opset)
        return list(found) if isinstance(found, tuple) else [found]

    def _charge(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise FormatError("expected constants of at most the file's size, got more")

    # --- recurrent nodes -------------------------------------------------------------------------

    def _constant(self, node: Node, inputs: Sequence[Value | None], k: int, name: str) -> Any:
        value = inputs[k] if k < len(inputs) else None
        if value is not None and not isinstance(value, np.ndarray):
            why = f" ({value.why})" if isinstance(value, Untaken) else ""
            raise Reason(f"{name}: expected a constant, got what the graph computes{why}")
        return value

    def recurrent(self, node: Node) -> tuple[Callable[[], Any], int]:
        """What makes the layer of a recurrent node, and its units."""
        inputs = [self.values.get(name, Given()) if k in (0, 4) else self._value(name)
                  if name else None for k, name in enumerate(node.inputs)]  # fmt: skip
        try:
            W, R, B = (self._constant(node, inputs, k, "WRB"[k - 1]) for k in (1, 2, 3))
            P = self._constant(node, inputs, 7, "P")
            if W is None or R is None:
                raise Reason("expected constants W and R, got none")
            if any(one.dtype.kind != "f" for one in (W, R, B, P) if one is not None):
                raise Reason("expected weights of floats")
            initial = self._initial(node, inputs)
        except Reason as reason:
            raise FormatError(f"{node}: {reason}") from None
        weights = Weights(W, R, B, P, initial)
        self.charge_weights(W, R, B, P)
        return lambda: recurrent_layer(node, weights), R.shape[-1] if R.ndim else 0

    def charge_weights(self, *arrays: np.ndarray | None) -> None:
        self.weights_left -= sum(array.nbytes for array in arrays if array is not None)
        if self.weights_left < 0:
            raise FormatError("expected weights of the file's size, got the same many times")

    def _initial(self, node: Node, inputs: Sequence[Value | None]) -> tuple[np.ndarray, ...]:
        """The constant initial states, if there are such that are not zero."""
        count = 2 if node.op_type == "LSTM" else 1
        given = [inputs[k] if k < len(inputs) else None for k in range(5, 5 + count)]
        if not any(isinstance(one, np.ndarray) and one.any() for one in given):
            return ()
        rows = []
        for k, one in enumerate(given):
            if isinstance(one, np.ndarray):
                batch = 0 if node.integer("layout", 0) else 1
                if one.ndim != 3 or 0 in one.shape:
                    raise Reason(f"initial_{'hc'[k]}: expected 3 axes, got shape {one.shape}")
                first = np.take(one, 0, batch)
                if (one != np.expand_dims(first, batch)).any():
                    raise Reason(
                        f"initial_{'hc'[k]}: expected the same for each sequence, got several"
                    )
                rows.append(first)
            elif one is None or isinstance(one, Zeros):
                rows.append(np.zeros_like(rows[0]) if rows else None)
            else:
                raise Reason("expected both states constant or both given by the caller")
        if rows[0] is None:
            rows[0] = np.zeros_like(rows[1])
        return tuple(rows)


def _way(step: Step | None) -> Iterator[Step]:
    while step is not None:
        yield step
        step = step.before
