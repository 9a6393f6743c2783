"""What models, estimators and predictors share: they are moved with their layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from fastrnn.engine.devices import find
from fastrnn.engine.parameters import move

__all__ = ["Movable"]


class Movable:
    """Something whose layers are on one device."""

    def _fitted_layers(self) -> Mapping[str, Any]:
        """The layers by name, or the class's own error where there are none yet."""
        raise NotImplementedError

    @property
    def device(self) -> str:
        """Where the layers are: ``"cpu"``, ``"cuda:0"``, ..."""
        return str(next(iter(self._fitted_layers().values())).device)

    def to(self, device: Any) -> Self:
        """Move the layers to another device, where they then compute, in training and after it.

        Streams made before stay where they are.

        Parameters
        ----------
        device : str or array
            As for a layer's ``to``; data are read, and answers come, on the host anyway.

        Returns
        -------
        self
        """
        move(self._fitted_layers().values(), find(device))
        return self
