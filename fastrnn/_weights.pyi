from typing import Any, final

from numpy.typing import NDArray

CELLS: tuple[str, ...]

@final
class Snapshot: ...

@final
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
