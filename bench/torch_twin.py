"""What an estimator trains, in PyTorch: the same net from the same weights, over the same batches.

`start_of` tells what `fit` would begin with; `Twin` does from there what `fit` does: the weighted
mean loss, the L2 penalty, clipping by the norm over all gradients, and Adam. `in_torch` is an
estimator that does so in its `fit`. Dropout and unknown tokens are PyTorch's own draws.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bench.adapters import pytorch
from bench.torch_encoders import Tokens, dropout
from fastrnn import losses
from fastrnn.sequences.network import SequenceNetwork, targets_of
from fastrnn.text.encoders import TokenEncoder
from fastrnn.training.minibatches import Batch, Batches
from fastrnn.training.plan import Plan
from fastrnn.training.schedules import learning_rate

__all__ = ["Net", "Start", "Twin", "in_torch", "start_of"]

Array = NDArray[Any]
Tensor = torch.Tensor

SCHEDULES = ("constant", "linear", "cosine", "invscaling")  # that depend on nothing but the step


@dataclass(frozen=True)
class Start:
    """What a fit begins with.

    Attributes
    ----------
    network : SequenceNetwork
    loss : callable
        One of `fastrnn.losses`.
    batches : Batches
    plan : Plan
        With `alpha` as a batch bears it.
    generator : numpy.random.Generator
        Draws the order of each epoch.
    """

    network: SequenceNetwork
    loss: Any
    batches: Batches
    plan: Plan
    generator: np.random.Generator


def _start(estimator: Any, plan: Plan, loss: Any, examples: Any) -> Start:
    """From what an estimator's method `_train` is given."""
    batches, plan = estimator._batches_and_plan(examples, plan)
    return Start(estimator._network, loss, batches, plan, copy.deepcopy(estimator._random))


def start_of(estimator: Any, *data: Any, **more: Any) -> Start:
    """What ``fit(*data, **more)`` would begin with; its `random_state` must be an integer.

    The estimator itself stays as it is.
    """

    class Stopped(type(estimator)):  # type: ignore[misc]
        """The same, but for what comes after all is read and the network made."""

        def _train(self, plan: Plan, loss: Any, examples: Any, *_: Any, **__: Any) -> Any:
            self.start = _start(self, plan, loss, examples)
            return self

    stopped = Stopped(**estimator.get_params(deep=False)).fit(*data, **more)
    start: Start = stopped.start
    return start


def in_torch(estimator: Any, epochs: int) -> Any:
    """An estimator with the same parameters that trains, and answers, in PyTorch.

    It reads and prepares its data as ours does. It trains for so many epochs.
    """

    class InTorch(type(estimator)):  # type: ignore[misc]
        """The same, but for the network."""

        def _train(self, plan: Plan, loss: Any, examples: Any, *_: Any, **__: Any) -> Any:
            self._twin = Twin(_start(self, plan, loss, examples))
            for _epoch in range(epochs):
                self._twin.epoch()
            self._network.outputs = self._twin.answers  # whoever asks the network asks the twin
            return self

    return InTorch(**estimator.get_params(deep=False))


class Net(nn.Module):
    """Recurrent layers, pooling, linear layer, with the weights of a `SequenceNetwork`."""

    def __init__(self, network: SequenceNetwork) -> None:
        super().__init__()
        rnn = network.rnn
        between = rnn.dropout if rnn.num_layers > 1 else 0.0
        if between or rnn.recurrent_dropout or network.tbptt_steps is not None:
            raise ValueError(
                "network: expected one without truncated BPTT and dropout of its recurrent layers"
            )
        self.pooling = network.pool.pooling
        self.units = rnn.hidden_size
        encoder = network.encoder
        self.encoder = Tokens(encoder) if isinstance(encoder, TokenEncoder) else None
        self.rnn = pytorch.network(rnn)
        self.rnn.batch_first = True
        self.drop = dropout(network.drop)
        self.output = _linear(network.output)
        if self.pooling == "attention":
            self.attention = _linear(network.named["attention"])
            self.score = _linear(network.named["score"])

    def forward(self, x: Tensor, lengths: Tensor, beside: Tensor | None = None) -> Tensor:
        """From x (N, T, D), padded, and lengths (N,) to outputs, a row each, or for each step.

        `beside` (N, E) goes into the last linear layer alone.
        """
        y = self._steps(x, lengths)
        steps = torch.arange(y.shape[1])
        real = (steps < lengths[:, None])[..., None]
        pooled = y[real[..., 0]] if self.pooling is None else self._pooled(y, lengths, real)
        rows = self.drop(pooled)
        return self.output(rows if beside is None else torch.cat([rows, beside], dim=1))

    def _steps(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The recurrent layers' outputs; packed where lengths differ."""
        if bool((lengths == x.shape[1]).all()):
            return self.rnn(x)[0]
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]

    def _pooled(self, y: Tensor, lengths: Tensor, real: Tensor) -> Tensor:
        if self.pooling == "last":
            ends = y[torch.arange(len(y)), lengths - 1, : self.units]
            return torch.cat([ends, y[:, 0, self.units :]], dim=1)
        if self.pooling == "mean":
            return y.sum(dim=1) / lengths[:, None]
        if self.pooling == "max":
            return y.masked_fill(~real, -torch.inf).amax(dim=1)
        scores = self.score(torch.tanh(self.attention(y))).masked_fill(~real, -torch.inf)
        return (torch.softmax(scores, dim=1) * y).sum(dim=1)


def _linear(layer: Any) -> nn.Linear:
    weight, bias = layer.params["weight"], layer.params.get("bias")
    theirs = nn.Linear(
        layer.in_features, layer.out_features, bias is not None, dtype=_dtype(weight)
    )
    with torch.no_grad():
        theirs.weight.copy_(torch.from_numpy(np.array(weight)))
        if bias is not None:
            theirs.bias.copy_(torch.from_numpy(np.array(bias)))
    return theirs


def _dtype(array: Array) -> torch.dtype:
    return torch.from_numpy(np.empty(0, array.dtype)).dtype


def _loss(function: Any, outputs: Tensor, targets: Array, weight: Array) -> Tensor:
    """The weighted mean, as one of `fastrnn.losses` computes it."""
    w = torch.from_numpy(weight).to(outputs.dtype)
    if function is losses.softmax_cross_entropy:
        each = nn.functional.cross_entropy(outputs, torch.from_numpy(targets), reduction="none")
        return (w * each).sum() / w.sum()
    t = torch.from_numpy(targets).to(outputs.dtype)
    formula: Any = {
        losses.squared_error: nn.functional.mse_loss,
        losses.absolute_error: nn.functional.l1_loss,
        losses.huber: nn.functional.huber_loss,
        losses.binary_cross_entropy: nn.functional.binary_cross_entropy_with_logits,
    }[function]
    each = formula(outputs, t, reduction="none").mean(dim=1)
    return (w * each).sum() / w.sum()


class Twin:
    """A net that is trained from an estimator's start.

    Parameters
    ----------
    start : Start
        Its plan must be of ``solver="adam"`` without early stopping, with a learning rate that
        depends on nothing but the step; when to stop is the caller's.
    """

    def __init__(self, start: Start) -> None:
        plan = start.plan
        if plan.solver != "adam" or plan.learning_rate not in SCHEDULES or plan.early_stopping:
            raise ValueError(
                f"start: expected Adam, a learning rate of {SCHEDULES}, no early stopping, got "
                f"{plan.solver!r}, {plan.learning_rate!r} and {plan.early_stopping}"
            )
        self.plan, self.loss, self.batches = plan, start.loss, start.batches
        self.network, self.epochs = start.network, 0
        self.generator = copy.deepcopy(start.generator)
        torch.manual_seed(int(copy.deepcopy(start.generator).integers(2**31)))  # of what it draws
        self.net = Net(start.network)
        self.parameters = list(self.net.parameters())
        self.matrices: Any = [p for p in self.parameters if p.ndim > 1]
        self.optimizer = torch.optim.Adam(self.parameters, plan.learning_rate_init, fused=True)

    def epoch(self) -> list[tuple[float, float]]:
        """The mean loss and the sum of weights of each batch of one pass."""
        order, plan = self.batches.order(self.generator), self.plan
        steps, found = self.batches.count(order), []
        for i in range(steps):
            self.optimizer.param_groups[0]["lr"] = learning_rate(
                plan.learning_rate, plan.learning_rate_init, self.epochs, i / steps, plan.max_iter,
                {}, plan.tol,
            )  # fmt: skip
            found.append(self._step(self.batches.batch(order, i)))
        self.epochs += 1
        return found

    def _step(self, batch: Batch) -> tuple[float, float]:
        targets, weight = targets_of(batch)
        self.optimizer.zero_grad()
        loss: Any = _loss(self.loss, self.outputs(batch.inputs), targets, weight)
        loss.backward()
        with torch.no_grad():
            self._penalize_and_clip()
        self.optimizer.step()
        return loss.item(), float(weight.sum())

    def _penalize_and_clip(self) -> None:
        grads: Any = [p.grad for p in self.parameters]
        if self.plan.alpha:
            ours: Any = [p.grad for p in self.matrices]
            torch._foreach_add_(ours, self.matrices, alpha=self.plan.alpha)
        if self.plan.max_grad_norm is not None:
            # Not clip_grad_norm_, which adds 1e-6 to the norm.
            norm = float(nn.utils.get_total_norm(grads))
            if norm > self.plan.max_grad_norm:
                torch._foreach_mul_(grads, self.plan.max_grad_norm / norm)

    def outputs(self, items: Any) -> Tensor:
        """What leaves the linear layer for sequences (T_i, D), windows of series, or tokens."""
        if self.net.encoder is not None:
            x, lengths = self.net.encoder(items)
        else:  # which has nothing to train
            x, lengths = map(torch.from_numpy, self.network.encoder.forward(items, False)[:2])
        beside = self.network.beside
        found: Tensor = self.net(x, lengths, beside and torch.from_numpy(beside(items)))
        return found

    @torch.inference_mode()
    def answers(self, items: Any) -> Array:
        """The same in inference."""
        self.net.eval()
        found: Array = self.outputs(items).numpy()
        self.net.train()
        return found
