"""What a service pays before it answers once: time, memory, and room on the disk.

Each library answers one sequence with the same LSTM in a fresh process, from weights in a file:
onnxruntime and OpenVINO from an ONNX model, PyTorch from a state dict. Processes take turns.

python -m bench.footprint --quick
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from bench.common import clean_process

clean_process()

import fastrnn  # noqa: E402
from bench.fresh import medians  # noqa: E402
from bench.installed import size_with_requirements  # noqa: E402
from bench.rows import options, show  # noqa: E402
from bench.targets import Row  # noqa: E402

N, T, D, H = 1, 50, 128, 128
IMPORTS = {
    "numpy": "import numpy",
    "fastrnn": "import fastrnn",
    "onnxruntime": "import onnxruntime",
    "openvino": "import openvino",
    "torch": "import torch",
}
X = f"import numpy; x = numpy.ones(({N}, {T}, {D}), 'float32')\n"
STEPS_FIRST = X + "x = x.swapaxes(0, 1).copy()\n"
ANSWERS = {
    "numpy": X,
    "fastrnn": X + "import fastrnn; fastrnn.load({weights!r}).prepare()(x)",
    "onnxruntime": STEPS_FIRST
    + "import onnxruntime; onnxruntime.InferenceSession({onnx!r}).run(None, {{'x': x}})",
    "openvino": STEPS_FIRST
    + "import openvino; openvino.Core().compile_model({onnx!r}, 'CPU')({{'x': x}})",
    "torch": X
    + f"import torch; lstm = torch.nn.LSTM({D}, {H}, batch_first=True)\n"
    + "lstm.load_state_dict(torch.load({state!r}))\n"
    + "with torch.inference_mode(): lstm(torch.from_numpy(x))",
}


def write_models(folder: Path, names: list[str], units: int = H) -> dict[str, str]:
    """The same LSTM in every form that the libraries among `names` read; paths by form."""
    paths = {"weights": "lstm.safetensors", "onnx": "lstm.onnx", "state": "lstm.pt"}
    found = {form: str(folder / name) for form, name in paths.items()}
    layer = fastrnn.LSTM(D, units, random_state=0)
    layer.save(found["weights"])
    if {"onnxruntime", "openvino"} & set(names):
        from bench.adapters.onnx_model import make_model

        Path(found["onnx"]).write_bytes(make_model(layer, N, T).SerializeToString())
    if "torch" in names:
        import torch

        torch.save(layer.to_torch().state_dict(), found["state"])
    return found


def rows(chosen: argparse.Namespace) -> Iterator[Row]:
    """A row for each library that is installed."""
    names = [name for name in IMPORTS if find_spec(name) is not None]
    turns = 3 if chosen.quick else 15
    imports = medians({name: IMPORTS[name] for name in names}, turns)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_models(Path(folder), names)
        answers = medians({name: ANSWERS[name].format(**paths) for name in names}, turns)
    for name in names:
        measures = {
            "import, ms": imports[name][0] * 1e3,
            "first answer, ms": answers[name][0] * 1e3,
            "resident, MB": answers[name][1] / 1e6,
            "threads": answers[name][2],
            "installed, MB": size_with_requirements(name) / 1e6,
        }
        yield Row("footprint", name, {}, 2, {}, measures)


if __name__ == "__main__":
    chosen = options(__doc__).parse_args()
    show(chosen, lambda: rows(chosen))
