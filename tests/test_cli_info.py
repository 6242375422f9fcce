"""``dfpkeras info``."""

import platform

import keras
import numpy as np
import pytest
import tensorflow as tf

import dfpkeras
from dfpkeras.cli.main import main


@pytest.fixture
def printed(capsys):
    assert main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {heading: value.strip() for heading, value in (line.split(":", 1) for line in lines)}


def test_versions(printed):
    assert printed["dfpkeras"] == dfpkeras.__version__
    assert printed["Keras"] == keras.__version__
    assert printed["backend"] == f"tensorflow {tf.__version__}"
    assert printed["NumPy"] == np.__version__
    assert printed["Python"] == platform.python_version()


def test_processor_and_instruction_sets(printed):
    kernels = dfpkeras.kernels.info()
    assert printed["CPU"] == kernels["cpu"]
    assert printed["instruction set"] == f"{kernels['isa']} ({kernels['isa_reason']})"
    assert printed["compiled for"].split(", ") == kernels["compiled_isas"]
    assert printed["usable here"].split(", ") == dfpkeras.kernels.available_isas()


def test_it_shows_what_is_set_now(capsys):
    isa, threads = dfpkeras.kernels.get_isa(), dfpkeras.get_num_threads()
    try:
        dfpkeras.kernels.set_isa("scalar")
        dfpkeras.set_num_threads(3)
        assert main(["info"]) == 0
    finally:
        dfpkeras.kernels.set_isa(isa)
        dfpkeras.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert "scalar (" in printed.split("instruction set:")[1].splitlines()[0]
    assert printed.split("threads:")[1].strip().startswith("3 (")
