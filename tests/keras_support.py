"""Helpers of the tests with Keras."""

import contextlib

import keras
import numpy as np
import tensorflow as tf

from dfpkeras.ops.kernel_hits import hits

# Largest error that quantisation explains here, relative to the tensor's maximum: operands carry 12
# to 15 bits (half a step is 2**-13 to 2**-16 of their maximum) and sums have up to 1000 terms.
QUANTIZATION_TOLERANCE = 3e-3


def keep_small_layers_on_integers():
    """Turns off the rule that layers too small to gain stay float32, in this process."""
    from dfpkeras.integration import calls

    calls.why_too_small = lambda family, layer, inputs: None


@contextlib.contextmanager
def dtype_policy(name="dfp16"):
    """Sets the global dtype policy, with the hit counts at zero; afterwards restores the old
    policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    hits.reset()
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def random_array(*shape, seed=0):
    """A float32 array of normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def relative_error(actual, expected):
    """max|actual - expected| / max|expected|, of two arrays of one shape; NaN if any is NaN."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    return np.max(np.abs(actual - expected)) / np.max(np.abs(expected))


def weight_gradients(model, loss):
    """The value of a function without arguments, and its gradient for each weight of a model.

    Zeros where there is none: TensorFlow returns None, our own operations zeros.
    """
    with tf.GradientTape() as tape:
        value = loss()
    weights = model.trainable_variables
    gradients = tape.gradient(value, weights)
    return value, [
        tf.zeros_like(weight) if gradient is None else tf.convert_to_tensor(gradient)
        for weight, gradient in zip(weights, gradients, strict=True)
    ]


def relative_errors(results, expected):
    """The error of each, relative to its norm or to a small fraction of the largest norm."""
    floor = 1e-3 * max(map(np.linalg.norm, expected))
    return np.array(
        [
            np.linalg.norm(actual - wanted) / max(np.linalg.norm(wanted), floor, 1e-30)
            for actual, wanted in zip(results, expected, strict=True)
        ]
    )


def assert_no_lost_gradient(results, expected):
    """No gradient is zero where float32's is more than the rounding error of zero."""
    scale = max(map(np.linalg.norm, expected))
    for actual, wanted in zip(results, expected, strict=True):
        assert np.any(actual) or np.linalg.norm(wanted) <= 1e-4 * scale


def float32_twin(model):
    """A copy of a functional or sequential model with all its layers under "float32"."""

    def clone(layer):
        if not isinstance(layer, keras.Layer):  # an operation
            return type(layer).from_config(layer.get_config())
        return type(layer).from_config(layer.get_config() | {"dtype": "float32"})

    twin = keras.models.clone_model(model, clone_function=clone)
    twin.set_weights(model.get_weights())
    return twin


@keras.saving.register_keras_serializable("tests")
class DenseCell(keras.layers.Layer):
    """A recurrent cell made of two dense layers of 4 units."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.state_size = 4
        self.kernel, self.recurrent = keras.layers.Dense(4), keras.layers.Dense(4)

    def build(self, shape):
        self.kernel.build(shape)
        self.recurrent.build((None, 4))

    def call(self, inputs, states):
        output = keras.ops.tanh(self.kernel(inputs) + self.recurrent(states[0]))
        return output, [output]


def small_cnn():
    """Two convolutions and a dense layer on (8, 8, 3), under the global policy."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, activation="relu", name="first"),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="second"),
            layers.Flatten(),
            layers.Dense(5, name="top"),
        ]
    )
