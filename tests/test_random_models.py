"""Random small models train one step under dfp16 as they do under float32.

CI draws a few; `pytest tests/test_random_models.py --random-models 500` draws many, different ones
in every run.
"""

import contextlib
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from keras_support import assert_no_lost_gradient, dtype_policy, relative_errors
from random_models import cases

pytestmark = pytest.mark.slow

#: Errors of Keras and TensorFlow for a model that they cannot train under float32 either: PReLU on
#: images of an unknown size, or a gradient that TensorFlow does not have on this CPU.
UNSUPPORTED = (ValueError, TypeError, LookupError, tf.errors.OpError)

#: Twice the half step of the 12 bits that the narrowest operands have, relative to the maximum.
NOISE = 2.0**-11


def built(case, folder, policy, weights=None):
    keras.utils.set_random_seed(case.seed)
    with dtype_policy(policy):
        model = case.model()
    model.set_weights(case.weights(model) if weights is None else weights)
    if case.reload:
        model.save(folder / "model.keras")
        model = keras.models.load_model(folder / "model.keras", safe_mode=False)
    return model


def step(case, model):
    """The results of a training step."""
    x, y = case.data()
    keras.utils.set_random_seed(case.seed)
    return [np.asarray(v) for v in case.way(model, tf.constant(x), tf.constant(y))]


@contextlib.contextmanager
def noisy_layers(seed):
    """Adds noise of up to `NOISE` of the maximum to what float32 layers read, return and
    propagate."""
    numbers, call = itertools.count(1000 * seed), keras.Layer.__call__

    def with_noise(tensor):
        noise = tf.random.stateless_uniform(tf.shape(tensor), (7, next(numbers)), -NOISE, NOISE)
        return tensor + noise * tf.reduce_max(tf.abs(tensor))

    @tf.custom_gradient
    def through(tensor):
        return with_noise(tensor), with_noise

    def noisy_call(layer, *args, **kwargs):
        outputs = call(layer, *args, **kwargs)
        return through(outputs) if tf.is_tensor(outputs) else outputs

    keras.Layer.__call__ = noisy_call
    try:
        yield with_noise
    finally:
        keras.Layer.__call__ = call


def noisy_step(case, model, seed):
    with noisy_layers(seed) as with_noise:
        for variable in model.trainable_variables:
            variable.assign(with_noise(variable.value))
        return step(case, model)


def assert_trains_as_float32(case, folder):
    try:
        twin = built(case, folder, "float32")
        weights = twin.get_weights()
        expected = step(case, twin)
    except UNSUPPORTED:
        assume(False)
    assume(all(np.all(np.isfinite(value)) for value in expected))
    results = step(case, built(case, folder, "dfp16", weights))
    assert_no_lost_gradient(results, expected)
    wrong = relative_errors(results, expected)
    if np.any(wrong > 3e-3):
        twins = [built(case, folder, "float32", weights) for _ in range(3)]
        noise = [
            relative_errors(noisy_step(case, twin, seed), expected)
            for seed, twin in enumerate(twins)
        ]
        np.testing.assert_array_less(wrong, np.maximum(2 * np.max(noise, axis=0), 3e-3))


def test_random_models_train_as_under_float32(request, tmp_path_factory):
    count = request.config.getoption("--random-models")
    folder = tmp_path_factory.mktemp("models")

    @settings(max_examples=count or 12, derandomize=not count)
    @given(cases())
    def run(case):
        assert_trains_as_float32(case, folder)

    run()
