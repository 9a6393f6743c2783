from typing import Any

from numpy.typing import NDArray

from fastrnn._walk import Walk

def forward(walks: list[Walk]) -> None: ...
def backward(
    walks: list[Walk],
    dy: list[Any],
    dstate: list[tuple[NDArray[Any] | None, ...] | None],
    dx: Any,
) -> list[tuple[NDArray[Any], ...]]: ...
