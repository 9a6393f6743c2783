import numpy as np
from numpy.typing import NDArray

def read(
    projected: NDArray[np.floating],
    base: NDArray[np.int64],
    wide: NDArray[np.uint8],
    steps: int,
) -> None: ...
def attend(
    query: NDArray[np.floating],
    projected: NDArray[np.floating],
    wide: NDArray[np.uint8],
    score: NDArray[np.floating] | None,
    keys: NDArray[np.floating],
    base: NDArray[np.int64],
    context: NDArray[np.floating],
    weights: NDArray[np.floating],
) -> None: ...
def attend_backward(
    dcontext: NDArray[np.floating],
    query: NDArray[np.floating],
    weights: NDArray[np.floating],
    projected: NDArray[np.floating],
    wide: NDArray[np.uint8],
    score: NDArray[np.floating] | None,
    keys: NDArray[np.floating],
    base: NDArray[np.int64],
    dquery: NDArray[np.floating],
    dprojected: NDArray[np.floating],
    dkeys: NDArray[np.floating],
    dscore: NDArray[np.floating] | None,
) -> None: ...
