"""A language model's training in PyTorch: from the same weights, over the same windows.

`start_of` gives a `fastrnn.LanguageModel` with the weights that `fit` would begin with; `Twin`
trains a copy of them as `fit` does with ``solver="sgd"``: the mean cross entropy, or its sum over a
window's steps, the state carried from window to window, clipping by the norm over all gradients,
and p -= rate g.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bench.adapters import pytorch
from fastrnn import LanguageModel
from fastrnn.language.fitted import one_stream
from fastrnn.training.minibatches import Batch, Streams

__all__ = ["Recorder", "Twin", "start_of", "whole", "windows"]

Tensor = torch.Tensor


class Recorder:
    """A callback that notes each step's loss and learning rate, and may end training.

    Parameters
    ----------
    steps : int, optional
        After how many steps training ends.

    Attributes
    ----------
    losses, rates : list of float
    """

    def __init__(self, steps: int | None = None) -> None:
        self.steps = steps
        self.losses: list[float] = []
        self.rates: list[float] = []
        self._sum = 0.0  # of the epoch's losses; all its windows count as much

    def after_step(self, state: Any) -> bool:
        """Note the loss of this step, from the mean over its epoch."""
        before = self._sum if state.step > 1 else 0.0
        self._sum = state.loss * state.step
        self.losses.append(self._sum - before)
        self.rates.append(state.learning_rate)
        return len(self.losses) == self.steps


def start_of(model: LanguageModel, text: Any) -> LanguageModel:
    """A fitted model that has the weights with which `model.fit(text)` begins.

    Its `random_state` must be an integer. The model itself stays as it is.
    """
    still = {"solver": "sgd", "momentum": 0.0, "learning_rate": lambda epoch, history: 0.0}
    return LanguageModel(**{**model.get_params(), **still, "callbacks": Recorder(1)}).fit(text)


def windows(model: LanguageModel, text: str) -> Streams:
    """The windows of a text, as a fitted model's `fit` walks over them."""
    return model._streams("text", [text], model.vocabulary_)


def whole(model: LanguageModel, text: str, steps: int = 512) -> Streams:
    """A text as one stream, whose state is carried from its first token to its last."""
    return Streams(one_stream([text], model.vocabulary_, "text"), 1, steps)


class Twin:
    """PyTorch's layers with a fitted model's weights.

    Parameters
    ----------
    model : LanguageModel
        Without dropout and L2 penalty.
    """

    def __init__(self, model: LanguageModel) -> None:
        if model.dropout or model.recurrent_dropout or model.alpha:
            raise ValueError("model: expected one without dropout and penalty")
        self.limit = model.max_grad_norm
        self.summed = model.loss_reduction == "sum"
        layers = model.layers_
        self.rnn = pytorch.network(layers["rnn"])
        self.embedding = nn.Embedding(*layers["embedding"].params["weight"].shape)
        self.embedding.weight = nn.Parameter(_tensor(layers["embedding"].params["weight"]))
        output = layers["output"]
        self.output = nn.Linear(output.in_features, output.out_features)
        self.output.bias = nn.Parameter(_tensor(output.params["bias"]))
        self.output.weight = self.embedding.weight
        if not model.tie_weights:
            self.output.weight = nn.Parameter(_tensor(output.params["weight"]))
        modules = nn.ModuleList([self.embedding, self.rnn, self.output])
        self.parameters = list(modules.parameters())  # each once
        self.optimizer = torch.optim.SGD(self.parameters, 0.0)
        self.state: Any = None

    def step(self, batch: Batch, rate: float) -> float:
        """Train on a window; its loss in nats per token."""
        self.optimizer.zero_grad()
        loss = self._loss(batch)
        torch.autograd.backward(loss * batch.inputs.shape[1] if self.summed else loss)
        self._clip()
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        return loss.item()

    def epoch(self, streams: Streams, rate: float) -> list[float]:
        """Train on all windows of a text."""
        return [self.step(batch, rate) for batch in _batches(streams)]

    @torch.inference_mode()
    def perplexity(self, streams: Streams) -> float:
        """Exp of the mean loss over all windows of a text."""
        found = [(self._loss(batch).item(), batch.targets.size) for batch in _batches(streams)]
        losses, sizes = np.array(found).T
        return math.exp(np.average(losses, weights=sizes))

    def _loss(self, batch: Batch) -> Tensor:
        """The mean over a window, which leaves its state behind."""
        if batch.fresh:
            self.state = None
        y, state = self.rnn(self.embedding(_steps_first(batch.inputs)), self.state)
        self.state = (
            tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
        )
        logits = self.output(y).flatten(0, 1)
        return nn.functional.cross_entropy(logits, _steps_first(batch.targets).flatten())

    def _clip(self) -> None:
        if self.limit is not None:
            # Not clip_grad_norm_, which adds 1e-6 to the norm, nor PyTorch's norms, which add up a
            # gradient's squares in a row: digits are lost, and early steps multiply what is lost.
            grads: Any = [parameter.grad for parameter in self.parameters]
            norm = math.sqrt(math.fsum(float(g.double().square().sum()) for g in grads))
            if norm > self.limit:
                torch._foreach_mul_(grads, self.limit / norm)


def _batches(streams: Streams) -> Iterator[Batch]:
    order = streams.order(np.random.default_rng(0))  # nothing is drawn from it
    return (streams.batch(order, i) for i in range(streams.count(order)))


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array))


def _steps_first(ids: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(ids.T))
