"""The short form of ``fuzz_files.py``: changed model files load, or raise a FormatError."""

from __future__ import annotations

import pytest
from fuzz_files import run


@pytest.mark.filterwarnings("ignore")
def test_changed_files_load_or_are_refused() -> None:
    outcomes = run(150, seed=1)
    refused = sum(count for name, count in outcomes.items() if name.endswith("refused"))
    assert sum(outcomes.values()) == 150
    assert outcomes["weights_changed: loaded"] > 5
    assert refused > 75
