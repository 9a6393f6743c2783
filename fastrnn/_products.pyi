from typing import Any

from numpy.typing import NDArray

class Snapshots:
    forward: object | None
    backward: object | None
    steps: int
    changed: bool
    def __init__(self) -> None: ...
    def stepped(self) -> None: ...

class Call:
    forward: object | None
    backward: object | None
    snapshots: Snapshots
    def __init__(self, snapshots: Snapshots) -> None: ...

def linear(
    x: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    snapshots: Snapshots | Call | None,
    out: NDArray[Any],
) -> None: ...
def linear_backward(
    dy: NDArray[Any], weight: NDArray[Any], snapshots: Snapshots | Call | None, out: NDArray[Any]
) -> None: ...
def accumulate(
    dy: NDArray[Any], x: NDArray[Any], dweight: NDArray[Any], dbias: NDArray[Any] | None
) -> None: ...
