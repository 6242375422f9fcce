"""The tests that Keras ships in its wheel, under the policy "dfp16", on the integer kernels.

They run in a process of their own, under keras_own_tests/dfp16_plugin.py. What is left out, and
why, stands in keras_own_tests/left_out.toml.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import keras
import pytest

FOLDER = pathlib.Path(__file__).with_name("keras_own_tests")

# Layers with an integer path, layers that must be left alone, and what handles any layer.
MODULES = [
    "keras.src.layers.convolutional.conv_test",
    "keras.src.layers.convolutional.depthwise_conv_test",
    "keras.src.layers.convolutional.separable_conv_test",
    "keras.src.layers.core.dense_test",
    "keras.src.layers.rnn.time_distributed_test",
    "keras.src.models.cloning_test",
    "keras.src.models.functional_test",
    "keras.src.models.model_test",
    "keras.src.models.sequential_test",
]

# Tests that compute with Conv1D, Conv2D or Dense: each must have run integer products.
INTEGER_TESTS = re.compile(
    r"conv_test\.py::Conv(Basic|Correctness)Test::test_conv[12]d|"
    r"dense_test\.py::DenseTest::test_dense_(basics|correctness|no_activation|with_activation)"
)
FEWEST_INTEGER_TESTS = 100


def left_out():
    return tomllib.loads((FOLDER / "left_out.toml").read_text())["left_out"]


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    """What ran: ids collected, outcome and number of integer products of each."""
    path = tmp_path_factory.mktemp("keras") / "summary.json"
    command = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
    ]
    command += ["-p", "dfp16_plugin", "--dfp16-summary", str(path)]
    command += ["--rootdir", str(pathlib.Path(keras.__file__).parent), "--pyargs", *MODULES]
    search_path = os.pathsep.join(filter(None, [str(FOLDER), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": search_path},
        cwd=path.parent,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert path.exists(), done.stdout + done.stderr
    return json.loads(path.read_text()) | {"log": done.stdout}


def test_none_fails(summary):
    failed = [test for test, outcome in summary["outcomes"].items() if outcome == "failed"]
    assert not failed, summary["log"]
    assert len(summary["outcomes"]) == len(summary["collected"]) - len(left_out())


def test_integer_kernels_ran(summary):
    expected = [test for test in summary["collected"] if INTEGER_TESTS.match(test)]
    assert len(expected) >= 20
    without = [test for test in expected if not summary["products"][test]]
    assert not without
    assert sum(count > 0 for count in summary["products"].values()) >= FEWEST_INTEGER_TESTS


def test_what_is_left_out_exists_and_has_a_reason(summary):
    for entry in left_out():
        assert entry["test"] in summary["collected"]
        assert len(entry["reason"]) > 20
    assert len({entry["test"] for entry in left_out()}) == len(left_out())
