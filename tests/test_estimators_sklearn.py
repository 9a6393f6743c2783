"""scikit-learn's own checks of estimators, in a process of their own.

``SCIPY_ARRAY_API`` is read when SciPy is imported, and checks of array-API input run only with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections import Counter

import pytest

import fastrnn

sklearn = pytest.importorskip("sklearn")
pytest.importorskip("pandas")

SECONDS = 60
FEWEST = {"RNNClassifier": 73, "RNNRegressor": 66}

CODE = """
import json, sys, time, warnings
import fastrnn
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator

warnings.simplefilter("ignore")  # what the checks provoke is theirs to judge
estimator = getattr(fastrnn, sys.argv[1])()
tags = get_tags(estimator)
begin = time.process_time()
results = check_estimator(estimator, on_fail=None, on_skip=None)
print(json.dumps({
    "seconds": time.process_time() - begin,
    "two_d_array": tags.input_tags.two_d_array,
    "skipped": tags._skip_test,
    "results": [
        (one["check_name"], one["status"], one["expected_to_fail"], str(one["exception"]))
        for one in results
    ],
}))
"""


@pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9), reason="fewer checks before 1.9"
)
@pytest.mark.parametrize("name", FEWEST)
def test_every_check_of_scikit_learn(name: str) -> None:
    # BLAS's own threads spin between products as small as these, and processor time counts that.
    environment = {**os.environ, "SCIPY_ARRAY_API": "1", "FASTRNN_GEMM": "packed"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, name], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    bad = [one for one in found["results"] if one[1] != "passed" or one[2]]
    assert not bad
    assert len(found["results"]) >= FEWEST[name]
    assert found["two_d_array"] and not found["skipped"]
    names = Counter(check for check, *_ in found["results"])
    assert {"check_sample_weight_equivalence_on_dense_data", "check_sample_weights_pandas_series",
            "check_array_api_input", "check_readonly_memmap_input", "check_estimators_pickle",
            "check_methods_subset_invariance", "check_methods_sample_order_invariance",
            "check_fit2d_1sample"} <= set(names)  # fmt: skip
    assert found["seconds"] < SECONDS


@pytest.mark.parametrize("name", FEWEST)
@pytest.mark.parametrize(
    "check",
    [
        "check_dataframe_column_names_consistency",
        "check_global_output_transform_pandas",
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
    ],
)
def test_checks_that_scikit_learn_keeps_for_itself(name: str, check: str) -> None:
    """Those of frames and names, which `check_estimator` does not run."""
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    if not hasattr(checks, check):
        pytest.skip(f"scikit-learn {sklearn.__version__} has no {check}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(checks, check)(name, getattr(fastrnn, name)(max_iter=2, hidden_size=4))
