from typing import Any

from numpy.typing import NDArray

CELLS: tuple[str, ...]

class Weights:
    inputs: int
    units: int
    width: int
    itemsize: int
    params: dict[str, NDArray[Any]]
    grads: dict[str, NDArray[Any]]
    def __init__(
        self, cell: str, params: dict[str, NDArray[Any]], grads: dict[str, NDArray[Any]]
    ) -> None: ...
    def freeze(self) -> None: ...
