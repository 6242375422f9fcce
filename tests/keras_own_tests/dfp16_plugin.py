"""pytest plugin that runs the tests in Keras' wheel under the policy "dfp16".

Loaded with ``-p dfp16_plugin`` in a separate process (see ../test_keras_own_tests.py). It sets the
policy after `TestCase.setUp`, which resets it; puts a batch norm that changes nothing before layers
that compute on integers only if their input has them; compares within 3e-3 of the tensor's maximum
where Keras is stricter; leaves out what left_out.toml lists; and writes what ran to the JSON file
named by ``--dfp16-summary``.
"""

import fnmatch
import functools
import gc
import json
import math
import pathlib
import sys
import tomllib
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.testing import TestCase

from dfpkeras import ops
from dfpkeras.integration import registry
from dfpkeras.kernels.number_format import NumberFormat
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.views import find_view

TOLERANCE = 3e-3
LEFT_OUT = pathlib.Path(__file__).with_name("left_out.toml")


def left_out(test):
    """Whether a test is not run: its id matches one of the patterns."""
    entries = tomllib.loads(LEFT_OUT.read_text())["left_out"]
    return any(fnmatch.fnmatchcase(test, entry["test"]) for entry in entries)


#: Names of the layers without weights whose results had quantised views in the test that runs.
integer_layers = set()


class Summary:
    """Collects, by test id, the outcome, the kernels that ran, and `integer_layers`."""

    def __init__(self, path):
        self.path = path
        self.collected = []
        self.outcomes = {}
        self.kernels = {}
        self.layers = {}

    def pytest_collection_modifyitems(self, config, items):
        self.collected = [short_id(item) for item in items]
        excluded = [item for item in items if left_out(short_id(item))]
        config.hook.pytest_deselected(items=excluded)
        items[:] = [item for item in items if item not in excluded]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        hits.reset()
        integer_layers.clear()
        try:
            return (yield)
        finally:
            self.kernels[short_id(item)] = sorted(hits)
            self.layers[short_id(item)] = sorted(integer_layers)

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[shorten(report.nodeid)] = report.outcome

    def pytest_sessionfinish(self):
        names = ("collected", "outcomes", "kernels", "layers")
        self.path.write_text(json.dumps({name: getattr(self, name) for name in names}))


def short_id(item):
    """The id without folders: ``conv_test.py::ConvBasicTest::test_conv1d_basic0``."""
    return shorten(item.nodeid)


def shorten(node_id):
    return node_id.rpartition("/")[2]


def provide_imports():
    """Provides what Keras' test modules import but a wheel does not include."""

    def skip_if_backend(given_backend, reason):
        return pytest.mark.skipif(keras.backend.backend() == given_backend, reason=reason)

    conftest = types.ModuleType("conftest")
    conftest.skip_if_backend = skip_if_backend
    sys.modules["conftest"] = conftest
    # Tests of other backends use it; loaded after TensorFlow and Keras, which look for it.
    sys.modules.setdefault("jax", types.ModuleType("jax"))


def with_integers(x):
    """A float32 tensor as an integer layer would return it, anything else unchanged."""
    if not isinstance(x, tf.Tensor) or x.dtype != tf.float32 or not x.shape[1:]:
        return x
    channels = x.shape[-1]
    if not channels:
        return x
    mean, variance = tf.zeros(channels), tf.ones(channels)
    arguments = {"epsilon": 0.0, "training": False, "number_format": NumberFormat()}
    return ops.batch_norm(x, None, None, mean, variance, **arguments)[0]


def feed_integers(cls, method):
    """Wraps a layer's method so that its inputs have integers."""
    original = getattr(cls, method)

    @functools.wraps(original)
    def fed(self, inputs, *args, **kwargs):
        inputs = tf.nest.map_structure(with_integers, inputs)
        result = original(self, inputs, *args, **kwargs)
        if find_view(result, NumberFormat().activation) is not None:
            integer_layers.add(type(self).__name__)
        return result

    setattr(cls, method, fed)


def pytest_addoption(parser):
    parser.addoption("--dfp16-summary", type=pathlib.Path, required=True)


def pytest_configure(config):
    for marker in ("requires_trainable_backend", "multi_device", "large"):
        config.addinivalue_line("markers", f"{marker}: used by Keras")
    provide_imports()
    config.pluginmanager.register(Summary(config.getoption("--dfp16-summary")))
    for family in registry.families():
        for method in () if family.has_weights else family.methods:
            feed_integers(method.cls, method.name)
    run_under_dfp16()
    # Collections need not go through TensorFlow's modules again and again.
    gc.freeze()


def run_under_dfp16():
    """Sets policy and tolerance in the class from which Keras' tests are derived."""
    set_up, assert_all_close = TestCase.setUp, TestCase.assertAllClose
    assert_almost_equal = TestCase.assertAlmostEqual

    def set_up_under_dfp16(self):
        set_up(self)
        keras.config.set_dtype_policy("dfp16(small_layers=int16)")

    def assert_close_enough(self, actual, desired, atol=1e-6, rtol=1e-6, **options):
        atol = max(atol, tolerance(self.convert_to_numpy(desired)))
        assert_all_close(self, actual, desired, atol=atol, rtol=rtol, **options)

    def assert_about_equal(self, actual, desired, decimal=3, **options):
        decimal = min(decimal, -math.log10(max(tolerance(desired), 1e-9) / 1.5))
        assert_almost_equal(self, actual, desired, decimal=decimal, **options)

    TestCase.setUp, TestCase.assertAllClose = set_up_under_dfp16, assert_close_enough
    TestCase.assertAlmostEqual = assert_about_equal


def tolerance(desired):
    return TOLERANCE * float(np.max(np.abs(desired), initial=0))
