"""Optimizers, which work in place on the parameters of layers, and clipping by the global norm.

With p a parameter, g its gradient, t the number of the step from 1 on, all operations element by
element:

=========  =======================================================================================
SGD        m = momentum m + g;  p -= learning_rate m
Nesterov   m = momentum m + g;  p -= learning_rate (g + momentum m)
Adam       m = beta_1 m + (1 - beta_1) g;  v = beta_2 v + (1 - beta_2) g^2;
           p -= learning_rate / (1 - beta_1^t) m / (sqrt(v) / sqrt(1 - beta_2^t) + epsilon)
AdamW      p -= learning_rate weight_decay p, then as Adam
RMSprop    v = decay v + (1 - decay) g^2;  p -= learning_rate g / (sqrt(v) + epsilon)
Adagrad    v = v + g^2;  p -= learning_rate g / (sqrt(v) + epsilon)
=========  =======================================================================================

`weight_decay` of all but AdamW first adds weight_decay p to g, the gradient of
weight_decay |p|^2 / 2.

Sources: I. Sutskever et al., "On the importance of initialization and momentum in deep learning",
ICML 2013, with the learning rate outside of m as in PyTorch; D. P. Kingma and J. Ba, "Adam",
arXiv:1412.6980; I. Loshchilov and F. Hutter, "Decoupled weight decay regularization",
arXiv:1711.05101; T. Tieleman and G. Hinton, "Lecture 6.5, rmsprop", Coursera 2012; J. Duchi et al.,
"Adaptive subgradient methods", JMLR 12 (2011).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn.checks import Array, as_array, check_bool, check_int, check_real, describe, namespace
from fastrnn.engine import elementwise
from fastrnn.engine.arrays import beside, copied, entered, to_host, write
from fastrnn.engine.parameters import check_layers, tell_stepped

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "clip_grad_norm"]


_SMALL = 2.0**-100


class Optimizer:
    """What all optimizers share: the layers, the learning rate, and state beside each parameter.

    Parameters
    ----------
    layers : list of layers, or one layer
        Anything with ``params`` and ``grads``; each layer once.
    learning_rate : float
        At least 0. May be written between steps.
    weight_decay : float
        At least 0.

    Attributes
    ----------
    steps : int
        How many steps have been made.
    """

    _state_names: tuple[str, ...] = ()

    def __init__(self, layers: Any, learning_rate: float, weight_decay: float = 0.0) -> None:
        self.layers = check_layers("layers", layers)
        self.learning_rate = learning_rate
        self.weight_decay = check_real("weight_decay", weight_decay, minimum=0.0)
        self.steps = 0
        self._pair()

    def _pair(self) -> None:
        """Find the layers' parameters and gradients, and make the state beside them."""
        pairs: list[tuple[str, Array, Array]] = []
        owners: list[tuple[int, str]] = []
        for i, layer in enumerate(self.layers):
            grads = layer.grads
            for name, param in layer.params.items():
                pairs.append((f"{i}.{name}", param, grads[name]))
                owners.append((i, name))
        state = {}
        for name, param, _ in pairs:
            with entered(param):
                state[name] = {kind: self._start(kind, param) for kind in self._state_names}
        self._pairs, self._owners, self._state = pairs, owners, state

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = check_real("learning_rate", value, minimum=0.0)

    def zero_grad(self) -> None:
        """Set the gradients of all layers to zero."""
        for layer in self.layers:
            layer.zero_grad()

    def step(self) -> None:
        """Change all parameters once, by the gradients as they are.

        Raises
        ------
        ValueError
            If a parameter is read-only, as after ``layer.prepare()``; then none has changed.
        MemoryError
            If a device has no room for what the step needs; then none has changed either.
        """
        self._follow()
        for name, param, _ in self._pairs:
            if isinstance(param, np.ndarray) and not param.flags.writeable:
                raise ValueError(
                    f"layers: expected parameters that can be written, got {name} read-only"
                )
        self.steps += 1
        native, changed = [], []
        try:  # what may lack room comes first, and changes nothing
            for name, param, grad in self._pairs:
                if elementwise.is_native(param, grad, *self._state[name].values()):
                    native.append((param, grad, self._state[name]))
                    continue
                with entered(param):
                    changed += self._changed(param, grad, self._state[name])
        except BaseException:
            self.steps -= 1
            raise
        rule, numbers = self._rule()
        for param, grad, state in native:
            elementwise.update(rule, param, grad, state, **numbers)
        for array, value in changed:
            write(array, value)
        for layer in self.layers:
            tell_stepped(layer)

    def _changed(
        self, param: Array, grad: Array, state: dict[str, Array]
    ) -> list[tuple[Array, Array]]:
        """The parameter and its state, each with what it will be: nothing has changed yet."""
        new_param, new_state = copied(param), {kind: copied(a) for kind, a in state.items()}
        self._update(new_param, grad, new_state)
        return [(param, new_param), *((state[kind], new) for kind, new in new_state.items())]

    def _follow(self) -> None:
        """Go to where the layers have been moved to since the last step, with the state."""
        here = [layer.params for layer in self.layers]
        owned = zip(self._owners, self._pairs, strict=True)
        if all(here[i][name] is param for (i, name), (_, param, _) in owned):
            return
        before = self._state
        self._pair()
        for name, state in before.items():
            for kind, array in state.items():
                here_now = self._state[name][kind]
                write(here_now, beside(to_host(array), here_now))

    def _start(self, kind: str, param: Array) -> Array:
        return namespace(param).zeros_like(param)

    # Each step stands twice, as the numbers that the compiled rule takes and as array operations,
    # which arrays of other kinds take and which say the formula; both round alike.

    def _rule(self) -> tuple[str, dict[str, float]]:
        raise NotImplementedError

    def _update(self, p: Array, g: Array, state: dict[str, Array]) -> None:
        raise NotImplementedError

    def _decayed(self, p: Array, g: Array) -> Array:
        return g + self.weight_decay * p if self.weight_decay else g

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all that the next step depends on but the parameters, by name, in host memory.

        ``steps`` and ``learning_rate`` are arrays without dimensions; the others have the names
        ``"<kind>.<number of the layer>.<parameter>"``, e.g. ``"mean.0.weight_ih_l0"``.
        """
        saved = {
            "steps": np.array(self.steps, np.int64),
            "learning_rate": np.array(self.learning_rate, np.float64),
        }
        for name, state in self._state.items():
            for kind, array in state.items():
                saved[f"{kind}.{name}"] = np.array(to_host(array))
        return saved

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go back to what `state_dict` has returned.

        Raises
        ------
        ValueError
            If names, shapes or dtypes are others than this optimizer's; then nothing has changed.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                "state_dict: expected a mapping of names to arrays, as state_dict() returns, "
                f"got {describe(state_dict)}"
            )
        wanted = self.state_dict()
        if set(state_dict) != set(wanted):
            missing, unknown = set(wanted) - set(state_dict), set(state_dict) - set(wanted)
            raise ValueError(
                f"state_dict: expected the names of {type(self).__name__}'s state, got "
                f"{sorted(map(str, unknown))[:3]} too many and {sorted(missing)[:3]} missing"
            )
        given = {name: to_host(as_array(name, value)) for name, value in state_dict.items()}
        for name, array in wanted.items():
            got = given[name]
            if got.shape != array.shape or (array.ndim and got.dtype != array.dtype):
                raise ValueError(
                    f"state_dict[{name!r}]: expected shape {array.shape} and dtype {array.dtype}, "
                    f"got {describe(got)}"
                )
        steps = check_int("state_dict['steps']", given["steps"][()], 0)
        rate = check_real("state_dict['learning_rate']", given["learning_rate"][()], minimum=0.0)
        self.steps, self.learning_rate = steps, rate
        for name, state in self._state.items():
            for kind, array in state.items():
                write(array, beside(given[f"{kind}.{name}"], array))

    # A copy's layers have parameters of their own, which its steps must change.

    def __getstate__(self) -> dict[str, Any]:
        options = {n: v for n, v in vars(self).items() if n not in ("_pairs", "_owners", "_state")}
        return {"options": options, "state_dict": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state["options"])
        self._pair()
        self.load_state_dict(state["state_dict"])


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum.

    Parameters
    ----------
    layers, learning_rate, weight_decay
        As for `Optimizer`.
    momentum : float
        In [0, 1): how much of the velocity stays from step to step.
    nesterov : bool
        Whether the step goes from where the velocity will have led.
    """

    def __init__(
        self,
        layers: Any,
        learning_rate: float,
        momentum: float = 0.0,
        *,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        self.momentum = check_real("momentum", momentum, minimum=0.0, below=1.0)
        self.nesterov = check_bool("nesterov", nesterov)
        if nesterov and not momentum:
            raise ValueError(f"nesterov: expected a momentum above 0 with it, got {momentum}")
        self._state_names = ("mean",) if momentum else ()
        super().__init__(layers, learning_rate, weight_decay)

    def _rule(self) -> tuple[str, dict[str, float]]:
        rule = "nesterov" if self.nesterov else "momentum" if self.momentum else "sgd"
        numbers = {"rate": self.learning_rate, "l2": self.weight_decay}
        return rule, {**numbers, "keep_mean": self.momentum}

    def _update(self, p: Array, g: Array, state: dict[str, Array]) -> None:
        g = self._decayed(p, g)
        if self.momentum:
            m = state["mean"]
            m *= self.momentum
            m += g
            g = g + self.momentum * m if self.nesterov else m
        p -= self.learning_rate * g


class Adam(Optimizer):
    """Steps scaled by running means of the gradient and of its square.

    Parameters
    ----------
    layers, learning_rate, weight_decay
        As for `Optimizer`.
    beta_1, beta_2 : float
        In [0, 1): how much of the means stays from step to step.
    epsilon : float
        Keeps the divisor away from 0.
    """

    _state_names = ("mean", "square")
    _decoupled = False

    def __init__(
        self,
        layers: Any,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        *,
        weight_decay: float = 0.0,
    ) -> None:
        self.beta_1 = check_real("beta_1", beta_1, minimum=0.0, below=1.0)
        self.beta_2 = check_real("beta_2", beta_2, minimum=0.0, below=1.0)
        self.epsilon = check_real("epsilon", epsilon, minimum=0.0)
        super().__init__(layers, learning_rate, weight_decay)

    def _rates(self) -> tuple[float, float, float]:
        """The corrected rate, the root of v's correction, and what shrinks the parameters."""
        return (
            self.learning_rate / (1 - self.beta_1**self.steps),
            math.sqrt(1 - self.beta_2**self.steps),
            1 - self.learning_rate * self.weight_decay if self._decoupled else 1.0,
        )

    def _rule(self) -> tuple[str, dict[str, float]]:
        rate, root, shrink = self._rates()
        return "adam", {
            "rate": rate,
            "root": root,
            "shrink": shrink,
            "l2": 0.0 if self._decoupled else self.weight_decay,
            "epsilon": self.epsilon,
            "keep_mean": self.beta_1,
            "new_mean": 1 - self.beta_1,
            "keep_square": self.beta_2,
            "new_square": 1 - self.beta_2,
        }

    def _update(self, p: Array, g: Array, state: dict[str, Array]) -> None:
        m, v = state["mean"], state["square"]
        rate, root, shrink = self._rates()
        if self._decoupled:
            p *= shrink
        else:
            g = self._decayed(p, g)
        m *= self.beta_1
        m += (1 - self.beta_1) * g
        v *= self.beta_2
        v += (1 - self.beta_2) * (g * g)
        p -= rate * (m / (namespace(p).sqrt(v) / root + self.epsilon))


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters themselves, apart from the gradient's scaling.

    Parameters are those of `Adam`, with a `weight_decay` of 0.01 unless told otherwise.
    """

    _decoupled = True

    def __init__(
        self,
        layers: Any,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        *,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(layers, learning_rate, beta_1, beta_2, epsilon, weight_decay=weight_decay)


class RMSprop(Optimizer):
    """Steps scaled by a running mean of the squared gradient.

    Parameters
    ----------
    layers, learning_rate, weight_decay
        As for `Optimizer`.
    decay : float
        In [0, 1): how much of the mean stays from step to step.
    epsilon : float
        Keeps the divisor away from 0.
    """

    _state_names = ("square",)

    def __init__(
        self,
        layers: Any,
        learning_rate: float = 0.01,
        decay: float = 0.99,
        epsilon: float = 1e-8,
        *,
        weight_decay: float = 0.0,
    ) -> None:
        self.decay = check_real("decay", decay, minimum=0.0, below=1.0)
        self.epsilon = check_real("epsilon", epsilon, minimum=0.0)
        super().__init__(layers, learning_rate, weight_decay)

    def _rule(self) -> tuple[str, dict[str, float]]:
        return "rmsprop", {
            "rate": self.learning_rate,
            "l2": self.weight_decay,
            "epsilon": self.epsilon,
            "keep_square": self.decay,
            "new_square": 1 - self.decay,
        }

    def _update(self, p: Array, g: Array, state: dict[str, Array]) -> None:
        v = state["square"]
        g = self._decayed(p, g)
        v *= self.decay
        v += (1 - self.decay) * (g * g)
        p -= self.learning_rate * (g / (namespace(p).sqrt(v) + self.epsilon))


class Adagrad(Optimizer):
    """Steps scaled by the sum of all squared gradients so far.

    Parameters
    ----------
    layers, learning_rate, weight_decay
        As for `Optimizer`.
    epsilon : float
        Keeps the divisor away from 0.
    initial_accumulator : float
        What the sum starts with.
    """

    _state_names = ("square",)

    def __init__(
        self,
        layers: Any,
        learning_rate: float = 0.01,
        epsilon: float = 1e-10,
        *,
        initial_accumulator: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        self.epsilon = check_real("epsilon", epsilon, minimum=0.0)
        self.initial_accumulator = check_real(
            "initial_accumulator", initial_accumulator, minimum=0.0
        )
        super().__init__(layers, learning_rate, weight_decay)

    def _start(self, kind: str, param: Array) -> Array:
        return namespace(param).full_like(param, self.initial_accumulator)

    def _rule(self) -> tuple[str, dict[str, float]]:
        return "adagrad", {
            "rate": self.learning_rate,
            "l2": self.weight_decay,
            "epsilon": self.epsilon,
        }

    def _update(self, p: Array, g: Array, state: dict[str, Array]) -> None:
        v = state["square"]
        g = self._decayed(p, g)
        v += g * g
        p -= self.learning_rate * (g / (namespace(p).sqrt(v) + self.epsilon))


def clip_grad_norm(layers: Any, max_norm: float) -> float:
    """Scale all gradients by min(1, max_norm / norm), norm being that of all of them as one vector.

    R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks",
    ICML 2013.

    Parameters
    ----------
    layers : list of layers, or one layer
        Anything with ``params`` and ``grads``.
    max_norm : float
        The largest norm to let through, above 0; infinity only measures.

    Returns
    -------
    float
        The norm before clipping, summed in float64. Where a gradient holds NaN or infinity it is
        NaN or infinity, and the gradients are left as they are: no factor would mend them.
    """
    max_norm = check_real("max_norm", max_norm, above=0.0, finite=False)
    grads = [g for layer in check_layers("layers", layers) for g in layer.grads.values()]
    grads = [g for g in grads if 0 not in g.shape]
    norm = math.sqrt(elementwise.sum_of_squares(*grads))
    if norm == math.inf:  # the squares may be too large where the gradients are not
        largest = max(map(elementwise.largest, grads))
        if largest < math.inf:
            norm = largest * math.sqrt(elementwise.sum_of_squares(*grads, divisor=largest))
    if max_norm < norm < math.inf:
        factor = max_norm / norm
        if factor < _SMALL:  # might be no normal number in the gradients' dtype
            for grad in grads:
                elementwise.scale(grad, _SMALL)
            factor /= _SMALL
        for grad in grads:
            elementwise.scale(grad, factor)
    return norm
