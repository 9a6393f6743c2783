"""Those of scikit-learn's checks that say nothing of X's form, run by name."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

WITHOUT_DATA = [
    "check_estimator_cloneable", "check_estimator_repr", "check_no_attributes_set_in_init",
    "check_parameters_default_constructible", "check_get_params_invariance", "check_set_params",
    "check_do_not_raise_errors_in_init_or_set_params", "check_mixin_order",
    "check_valid_tag_types", "check_estimator_tags_renamed",
]  # fmt: skip
WITH_DATA = [
    "check_estimators_pickle", "check_estimators_unfitted", "check_dict_unchanged",
    "check_estimators_overwrite_params", "check_estimators_fit_returns_self",
    "check_fit_check_is_fitted", "check_fit_idempotent", "check_pipeline_consistency",
]  # fmt: skip
SUBSETS = ["check_methods_subset_invariance", "check_methods_sample_order_invariance"]


def run_check(check: str, estimator: Any) -> None:
    """Run it, or skip where this scikit-learn has it not."""
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    if not hasattr(checks, check):
        pytest.skip(f"this scikit-learn has no {check}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(checks, check)(type(estimator).__name__, estimator)
