import numpy as np
from numpy.typing import NDArray

RULES: dict[str, int]

def cross_entropy(
    logits: NDArray[np.floating],
    targets: NDArray[np.int64],
    weights: NDArray[np.float64] | None,
    scale: float,
    grad: NDArray[np.floating] | None,
    loss: NDArray[np.float64],
    smoothing: float = ...,
) -> None: ...
def update(
    rule: str,
    param: NDArray[np.floating],
    grad: NDArray[np.floating],
    mean: NDArray[np.floating] | None,
    square: NDArray[np.floating] | None,
    *,
    rate: float,
    l2: float = ...,
    shrink: float = ...,
    epsilon: float = ...,
    keep_mean: float = ...,
    new_mean: float = ...,
    keep_square: float = ...,
    new_square: float = ...,
    root: float = ...,
) -> None: ...
def sum_of_squares(x: NDArray[np.floating]) -> float: ...
def scale(y: NDArray[np.floating], factor: float) -> None: ...
def add_scaled(y: NDArray[np.floating], x: NDArray[np.floating], factor: float = ...) -> None: ...
def clear(y: NDArray[np.floating]) -> None: ...
def drop(
    x: NDArray[np.floating] | None,
    keys: NDArray[np.uint64],
    threshold: int,
    scale: float,
    out: NDArray[np.floating],
) -> None: ...
def gather(
    table: NDArray[np.floating], index: NDArray[np.int64], rows: NDArray[np.floating]
) -> None: ...
def scatter_add(
    table: NDArray[np.floating], index: NDArray[np.int64], rows: NDArray[np.floating]
) -> None: ...
def layer_norm(
    x: NDArray[np.floating],
    weight: NDArray[np.floating],
    bias: NDArray[np.floating],
    epsilon: float,
    mean: NDArray[np.floating],
    scale: NDArray[np.floating],
    out: NDArray[np.floating],
) -> None: ...
def layer_norm_backward(
    x: NDArray[np.floating],
    weight: NDArray[np.floating],
    mean: NDArray[np.floating],
    scale: NDArray[np.floating],
    dy: NDArray[np.floating],
    dx: NDArray[np.floating],
    dweight: NDArray[np.floating],
    dbias: NDArray[np.floating],
) -> None: ...
