"""ONNX's backend interface over our layers; ``fastrnn.onnx_backend``.

It runs models of RNN, GRU and LSTM nodes and of the few operators around them, on NumPy arrays,
whether weights are constants or inputs: https://onnx.ai/onnx/api/backend.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn.interchange.onnx_file import Graph, Node, read
from fastrnn.interchange.onnx_functions import GATES
from fastrnn.interchange.onnx_operators import OPERATORS, constant
from fastrnn.interchange.onnx_recurrent import Weights, recurrent_layer
from fastrnn.layers.reversed import Reversed

try:
    import onnx
    from onnx.backend.base import Backend, BackendRep
except ImportError as error:  # pragma: no cover - a test hides the package in a process of its own
    raise ImportError("fastrnn.onnx_backend needs onnx: pip install 'fastrnn[onnx]'") from error

__all__ = ["OnnxBackend", "Prepared", "onnx_backend"]


class Prepared(BackendRep):
    """A model ready to be run.

    Parameters
    ----------
    graph : Graph
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.constants = {name: tensor.array() for name, tensor in graph.constants.items()}
        self._layers: dict[str, Any] = {}  # of nodes whose weights are constants

    def run(self, inputs: Any, **kwargs: Any) -> tuple[np.ndarray, ...]:
        """Compute the model's outputs.

        Parameters
        ----------
        inputs : sequence of array, in the order of the model's inputs, or mapping of name to array

        Returns
        -------
        tuple of array
        """
        names = list(self.graph.inputs)
        if not isinstance(inputs, dict):
            inputs = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
            if len(inputs) != len(names):
                raise ValueError(f"inputs: expected {len(names)} arrays, got {len(inputs)}")
            inputs = dict(zip(names, inputs, strict=True))
        values = {**self.constants, **{name: np.asarray(one) for name, one in inputs.items()}}
        for node in self.graph.nodes:
            taken = [values[name] if name else None for name in node.inputs]
            if node.op_type in GATES:
                made = self._recurrent(node, taken)
            elif node.op_type == "Constant":
                made = (constant(node),)
            else:
                found = OPERATORS[node.op_type](node, taken, self.graph.opset)
                made = found if isinstance(found, tuple) else (found,)
            values |= {name: one for name, one in zip(node.outputs, made, strict=False) if name}
        return tuple(values[name] for name in self.graph.outputs)

    def _recurrent(self, node: Node, taken: Sequence[Any]) -> tuple[np.ndarray, ...]:
        x, W, R, B, lengths, *states = [*taken, *[None] * 8][:8]
        P = states.pop()
        layer = self._layers.get(node.label)
        if layer is None:
            layer = recurrent_layer(node, Weights(W, R, B, P))
            if all(name in self.constants for name in node.inputs[1:4] + node.inputs[7:] if name):
                self._layers[node.label] = layer
        first = node.integer("layout", 0) == 1
        cell = (layer.layer if isinstance(layer, Reversed) else layer).cell
        count, dirs, H = len(cell.states), W.shape[0], R.shape[2]
        x = x if first else x.swapaxes(0, 1)
        state: Any = None
        if any(one is not None for one in states[:count]):
            zeros = np.zeros((dirs, x.shape[0], H), x.dtype)
            state = [zeros if s is None else s.swapaxes(0, 1) if first else s
                     for s in states[:count]]  # fmt: skip
            state = tuple(state) if count > 1 else state[0]
        y, last = layer(x, state, lengths)
        y = y.reshape(*y.shape[:2], dirs, H)
        lasts = last if count > 1 else (last,)
        if first:
            return y, *(one.swapaxes(0, 1) for one in lasts)
        return y.transpose(1, 2, 0, 3), *lasts


class OnnxBackend(Backend):
    """ONNX's backend interface: runs models on the CPU with our layers.

    Examples
    --------
    >>> import numpy as np
    >>> import onnx
    >>> import fastrnn
    >>> fastrnn.GRU(3, 4, random_state=0).to_onnx("gru.onnx", states=False, lengths=False)
    >>> y, h = fastrnn.onnx_backend.run_model(
    ...     onnx.load("gru.onnx"), [np.ones((2, 5, 3), np.float32)]
    ... )
    >>> y.shape, h.shape
    ((2, 5, 4), (1, 2, 4))
    """

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether every operator of a model is known here."""
        known = {*OPERATORS, *GATES, "Constant"}
        return cls.supports_device(device) and all(
            node.op_type in known and node.domain in ("", "ai.onnx") for node in model.graph.node
        )

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Prepared:
        """A model ready to be run.

        Parameters
        ----------
        model : onnx.ModelProto
        device : {"CPU"}
        """
        if not cls.supports_device(device):
            raise ValueError(f"device: expected 'CPU', got {device!r}")
        super().prepare(model, device, **kwargs)
        if not cls.is_compatible(model, device):
            known = ", ".join(sorted({*OPERATORS, *GATES, "Constant"}))
            raise ValueError(f"model: expected operators among {known}")
        return Prepared(read(model.SerializeToString()))

    @classmethod
    def run_node(
        cls,
        node: Any,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Any = None,
        **kwargs: Any,
    ) -> tuple[np.ndarray, ...]:
        """Compute the outputs of one node."""
        names = [name for name in node.input if name]
        infos = [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(np.asarray(one).dtype), np.shape(one)
            )
            for name, one in zip(names, inputs, strict=True)
        ]
        wanted = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        graph = onnx.helper.make_graph([node], "node", infos, wanted)
        model = onnx.helper.make_model(graph, **kwargs)
        return Prepared(read(model.SerializeToString())).run(list(inputs))

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether there is such a device: the CPU is."""
        return device.partition(":")[0] == "CPU"


onnx_backend = OnnxBackend
