"""The short form of ``kill_files.py``: files that processes were killed over are whole."""

from __future__ import annotations

import os

import pytest
from kill_files import kill_while_saving, kill_while_training

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="kill -9 is of POSIX systems"),
]


def test_a_file_saved_over_and_over_is_whole_when_its_process_is_killed() -> None:
    kill_while_saving(5)


def test_training_that_was_killed_ends_with_the_bits_of_one_that_was_not() -> None:
    assert kill_while_training(5) >= 1
