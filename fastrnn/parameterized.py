"""scikit-learn's conventions for constructors, written out so that it need not be installed."""

from __future__ import annotations

import inspect
from typing import Any, Self

__all__ = ["NotFittedError", "Parameterized"]


class NotFittedError(ValueError, AttributeError):
    """A model was asked for something that only `fit` can give it."""


class Parameterized:
    """Parameters as in scikit-learn: all in the constructor, stored unchanged, checked by ``fit``.

    So ``sklearn.base.clone``, grid searches and pipelines work with a subclass, and a wrong value
    is reported by ``fit``, before any work.
    """

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        """Names of the constructor's parameters, and their defaults."""
        parameters = inspect.signature(cls).parameters
        return {name: parameter.default for name, parameter in parameters.items()}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name.

        Parameters
        ----------
        deep : bool
            For scikit-learn's sake; there are no estimators among the parameters.
        """
        return {name: getattr(self, name) for name in self._defaults()}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name; they count from the next ``fit`` on.

        Raises
        ------
        ValueError
            If there is no parameter of a name. Nothing has been set then.
        """
        known = self._defaults()
        for name in params:
            if name not in known:
                raise ValueError(
                    f"{name}: expected one of the parameters {', '.join(sorted(known))}"
                )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        """The constructor's call, with those parameters that are not the default."""
        shown = [
            f"{name}={getattr(self, name)!r}"
            for name, default in self._defaults().items()
            if getattr(self, name) is not default and repr(getattr(self, name)) != repr(default)
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of every estimator; only scikit-learn calls it."""
        from sklearn.utils import Tags, TargetTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            requires_fit=True,
        )

    def _check_fitted(self, attribute: str) -> None:
        if not hasattr(self, attribute):
            name = type(self).__name__
            raise NotFittedError(f"this {name} is not fitted yet: call fit first")
