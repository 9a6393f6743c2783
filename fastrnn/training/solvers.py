"""What a plan's ``solver`` and ``alpha`` stand for: an optimizer, and a penalty on weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastrnn import optim
from fastrnn.training.plan import Plan

__all__ = ["add_penalty", "make_optimizer"]


def make_optimizer(plan: Plan, layers: Sequence[Any]) -> Any:
    """The plan's optimizer of the layers, at the learning rate it starts from."""
    rate = plan.learning_rate_init
    if plan.solver == "sgd":
        return optim.SGD(layers, rate, momentum=plan.momentum)
    if plan.solver == "adamw":
        return optim.AdamW(layers, rate, weight_decay=plan.alpha)
    kinds = {"adam": optim.Adam, "rmsprop": optim.RMSprop, "adagrad": optim.Adagrad}
    return kinds[plan.solver](layers, rate)


def add_penalty(plan: Plan, layers: Sequence[Any]) -> None:
    """Add the gradient of alpha/2 |W|^2 for every weight W; vectors (biases, gains) go free.

    AdamW takes alpha as its own decay instead, which is no gradient.
    """
    if not plan.alpha or plan.solver == "adamw":
        return
    for layer in layers:
        for name, param in layer.params.items():
            if len(param.shape) > 1:
                layer.grads[name][...] += plan.alpha * param
