"""pytest plugin that runs the tests in Keras' wheel under the policy "dfp16".

Loaded with ``-p dfp16_plugin`` in a process of its own (see ../test_keras_own_tests.py). It sets
the policy after `TestCase.setUp`, which resets it; compares within 3e-3 of the tensor's maximum
where Keras asks for more; leaves out what left_out.toml lists; and writes what ran to the JSON
file named by ``--dfp16-summary``.
"""

import json
import pathlib
import sys
import tomllib
import types

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase

from dfpkeras.backend import hits

TOLERANCE = 3e-3
LEFT_OUT = pathlib.Path(__file__).with_name("left_out.toml")


def left_out():
    """{test id: reason} of the tests that are not run."""
    entries = tomllib.loads(LEFT_OUT.read_text())["left_out"]
    return {entry["test"]: entry["reason"] for entry in entries}


class Summary:
    """Collects, by test id, the outcome and the number of integer products."""

    def __init__(self, path):
        self.path = path
        self.collected = []
        self.outcomes = {}
        self.products = {}

    def pytest_collection_modifyitems(self, config, items):
        self.collected = [short_id(item) for item in items]
        excluded = left_out()
        config.hook.pytest_deselected(items=[x for x in items if short_id(x) in excluded])
        items[:] = [x for x in items if short_id(x) not in excluded]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        hits.reset()
        try:
            return (yield)
        finally:
            quantized = sum(count for name, count in hits.items() if name.startswith("quantize"))
            self.products[short_id(item)] = hits.total() - quantized

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[shorten(report.nodeid)] = report.outcome

    def pytest_sessionfinish(self):
        result = {"collected": self.collected, "outcomes": self.outcomes, "products": self.products}
        self.path.write_text(json.dumps(result))


def short_id(item):
    """The id without folders: ``conv_test.py::ConvBasicTest::test_conv1d_basic0``."""
    return shorten(item.nodeid)


def shorten(node_id):
    return node_id.rpartition("/")[2]


def provide_imports():
    """What Keras' test modules import and a wheel's user need not have."""

    def skip_if_backend(given_backend, reason):
        return pytest.mark.skipif(keras.backend.backend() == given_backend, reason=reason)

    conftest = types.ModuleType("conftest")
    conftest.skip_if_backend = skip_if_backend
    sys.modules["conftest"] = conftest
    # Tests of other backends use it; loaded behind TensorFlow and Keras, which look for it.
    sys.modules.setdefault("jax", types.ModuleType("jax"))


def pytest_addoption(parser):
    parser.addoption("--dfp16-summary", type=pathlib.Path, required=True)


def pytest_configure(config):
    for marker in ("requires_trainable_backend", "multi_device", "large"):
        config.addinivalue_line("markers", f"{marker}: used by Keras")
    provide_imports()
    config.pluginmanager.register(Summary(config.getoption("--dfp16-summary")))
    set_up, assert_all_close = TestCase.setUp, TestCase.assertAllClose

    def set_up_under_dfp16(self):
        set_up(self)
        keras.config.set_dtype_policy("dfp16")

    def assert_close_enough(self, actual, desired, atol=1e-6, rtol=1e-6, **options):
        largest = np.max(np.abs(self.convert_to_numpy(desired)), initial=0)
        atol = max(atol, TOLERANCE * float(largest))
        assert_all_close(self, actual, desired, atol=atol, rtol=rtol, **options)

    TestCase.setUp, TestCase.assertAllClose = set_up_under_dfp16, assert_close_enough
