"""A few cases of fuzz_command_line.py, which can run thousands."""

import fuzz_command_line
import interrupted_runs
import pytest

pytestmark = pytest.mark.slow


def test_damaged_files_and_wrong_values():
    with interrupted_runs.tiny_training() as patch:
        patch.setattr(fuzz_command_line, "PROCESSES", 0)
        failed, _ = fuzz_command_line.fuzz(range(12), seed=0, report=pytest.fail)
    assert not failed
