"""One service that `bench.clients` asks: examples/service.py with a library's model.

python -m bench.served fastrnn lstm.safetensors
python -m bench.served onnxruntime lstm.onnx
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent.parent / "examples"))

import service

import fastrnn

WIDTH = 128  # of the rows of all models here


def by_fastrnn(path: str) -> service.Predict:
    """The last output of a layer, whose weights are in the file."""
    fastrnn.set_num_threads(1)
    layer = fastrnn.load(path, mmap=True).prepare()
    return lambda rows: layer(rows[None])[0][0, -1]


def by_onnxruntime(path: str) -> service.Predict:
    """The same of a model with steps first, as `bench.adapters.onnx_model` makes it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    running = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def predict(rows: np.ndarray) -> np.ndarray:
        (y,) = running.run(None, {"x": rows[:, None]})
        return y[-1, 0, 0]

    return predict


LIBRARIES: dict[str, Callable[[str], service.Predict]] = {
    "fastrnn": by_fastrnn,
    "onnxruntime": by_onnxruntime,
}


def main() -> int:
    """Serve one model, and say where and by which processes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("model", help="a file of the library's")
    chosen = parser.parse_args()
    predict = LIBRARIES[chosen.library](chosen.model)
    return service.serve(predict, WIDTH, ready=lambda *told: print(*told, flush=True))


if __name__ == "__main__":
    raise SystemExit(main())
