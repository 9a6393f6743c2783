from typing import Any, final

from numpy.typing import NDArray

from fastrnn._weights import Weights
from fastrnn.engine.rows import Rows

@final
class Walk:
    weights: Weights
    rows: Rows
    def __init__(
        self,
        weights: Weights,
        x: Any,
        symbols: NDArray[Any] | None,
        y: Any,
        rows: Rows,
        state: tuple[NDArray[Any], ...],
        reverse: bool,
        mask: NDArray[Any] | None,
        keep: bool,
    ) -> None: ...
    def final_state(self) -> tuple[NDArray[Any], ...]: ...
    def gates(self) -> NDArray[Any]: ...
    def cells(self) -> NDArray[Any]: ...
