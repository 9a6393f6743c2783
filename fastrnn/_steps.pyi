from typing import Any, final

from numpy.typing import NDArray

from fastrnn._weights import Weights

@final
class Steps:
    def __init__(self, weights: list[Weights], state: tuple[NDArray[Any], ...]) -> None: ...
    def state(self) -> tuple[NDArray[Any], ...]: ...
    def step(self, x: Any, out: NDArray[Any] | None) -> NDArray[Any] | None: ...
