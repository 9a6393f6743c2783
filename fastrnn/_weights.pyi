from typing import Any, final

from numpy.typing import NDArray

from fastrnn._memory import FreeList

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
    memory: FreeList
    def __init__(
        self, cell: str, params: dict[str, NDArray[Any]], grads: dict[str, NDArray[Any]]
    ) -> None: ...
    def freeze(self) -> None: ...
    def stepped(self) -> None: ...
