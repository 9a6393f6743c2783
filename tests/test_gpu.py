"""What only a CUDA device can show: `pytest -m gpu`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layer_cases import CASES, TOLERANCE, Case, compare
from test_gradients import CELLS

import fastrnn

pytestmark = pytest.mark.gpu
LARGE = [
    Case(64, 20, 256, 512),
    Case(1, 50, 128, 1024),
    Case(33, 17, 130, 257, layers=2, bidirectional=True, form="lengths", recurrent_dropout=0.3),
]


@pytest.fixture(scope="module")
def device() -> Any:
    """CuPy, where there is a device for it."""
    cupy = pytest.importorskip("cupy")
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"no driver: {error}")
    if not count:
        pytest.skip("no device")
    return cupy


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_same_as_on_the_cpu(device: Any, name: str, dtype: str) -> None:
    for case in [*CASES, *LARGE]:
        for _ in range(3):  # launched one by one, captured, and as a graph
            compare(name, dtype, case, device="cuda", put=device.asarray)


def test_full_precision_is_the_default(device: Any) -> None:
    layer = fastrnn.LSTM(1024, 1024, random_state=0)
    x = np.random.default_rng(0).standard_normal((64, 4, 1024), dtype="f4")
    exact, _ = fastrnn.LSTM(1024, 1024, random_state=0, dtype="f8")(x.astype("f8"))
    y, _ = layer.to("cuda")(device.asarray(x))
    assert np.abs(device.asnumpy(y) - exact).max() < 1e-5  # TF32 has 10 bits: about 1e-3


def test_a_training_step_stays_on_the_device(device: Any) -> None:
    model = fastrnn.Sequential(fastrnn.LSTM(8, 32), fastrnn.Linear(32, 5)).to("cuda")
    adam = fastrnn.optim.Adam([model], learning_rate=1e-2)
    rng = np.random.default_rng(0)
    x = device.asarray(rng.standard_normal((16, 12, 8), dtype="f4"))
    targets = device.asarray(rng.integers(0, 5, (16, 12)))
    losses = []
    for _ in range(50):
        logits, _, backward = model.forward(x)
        loss, dlogits = fastrnn.losses.softmax_cross_entropy(logits, targets)
        adam.zero_grad()
        backward(dlogits)
        fastrnn.clip_grad_norm([model], 1.0)
        adam.step()
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_clean_under_compute_sanitizer(device: Any) -> None:
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not installed")
    tests = [f"{Path(__file__)}::test_the_same_as_on_the_cpu", "-k", "float32", "-m", "gpu"]
    command = [sanitizer, "--error-exitcode", "9", sys.executable, "-m", "pytest", "-q", *tests]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
