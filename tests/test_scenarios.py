"""Common uses of Keras models in TensorFlow, compared with float32 in the same function.

Each scenario returns arrays: losses, outputs, gradients or weights after training.
"""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras_support import (
    assert_no_lost_gradient,
    dtype_policy,
    random_array,
    relative_errors,
    weight_gradients,
)

import dfpkeras  # noqa: F401

pytestmark = pytest.mark.slow

SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


def data(*shape, seed=0):
    return tf.constant(random_array(*shape, seed=seed))


def gradients(model, loss):
    value, of_weights = weight_gradients(model, loss)
    return [value, *of_weights]


def small_network():
    return keras.Sequential(
        [
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


def dense_network():
    return keras.Sequential([layers.Dense(4, activation="tanh"), layers.Dense(1)])


def built(model, x):
    model(x)
    return model


@scenario
def time_distributed_with_unknown_time():
    inputs = keras.Input((None, 6, 6, 2))
    model = keras.Model(inputs, layers.TimeDistributed(layers.Conv2D(3, 3))(inputs))
    x = data(2, 4, 6, 6, 2)
    return tf.function(lambda: gradients(model, lambda: tf.reduce_sum(model(x) ** 2)))()


@scenario
def inside_a_data_pipeline():
    x = data(8, 6, 6, 2)
    model = built(keras.Sequential([layers.Conv2D(4, 3), layers.MaxPooling2D()]), x)
    batches = tf.data.Dataset.from_tensor_slices(x).batch(2).map(model, num_parallel_calls=2)
    iterator = iter(batches)
    del batches
    gc.collect()
    return list(iterator)


def _loop(loop, in_graph=True):
    """A dense layer in one of Keras' loops over five rows."""
    x = data(5, 3, 4)
    layer = built(layers.Dense(4), x[0])

    def run():
        return gradients(layer, lambda: tf.reduce_sum(loop(layer, x) ** 2))

    return tf.function(run)() if in_graph else run()


@scenario
def scan():
    return _loop(lambda layer, x: keras.ops.scan(lambda c, t: (layer(c) + t, c), x[0], x)[0])


@scenario
def map_in_a_graph():
    return _loop(lambda layer, x: keras.ops.map(layer, x))


@scenario
def map_eagerly():
    return _loop(lambda layer, x: keras.ops.map(layer, x), in_graph=False)


@scenario
def vectorized_map():
    return _loop(lambda layer, x: keras.ops.vectorized_map(layer, x), in_graph=False)


@scenario
def counted_loop():
    return _loop(lambda layer, x: keras.ops.fori_loop(0, 3, lambda i, c: layer(c), x[0]))


@scenario
def spectral_normalization():
    x = data(2, 6, 6, 2)
    layer = built(layers.SpectralNormalization(layers.Conv2D(4, 3)), x)
    return gradients(layer, lambda: tf.reduce_sum(layer(x, training=True) ** 2))


@scenario
def stateless_call():
    x = data(5, 3)
    network = [layers.Dense(4), layers.BatchNormalization(), layers.Dense(2)]
    model = built(keras.Sequential(network), x)
    others = [v.value for v in model.non_trainable_variables]
    with tf.GradientTape() as tape:
        weights = [tf.identity(v) for v in model.trainable_variables]
        tape.watch(weights)
        y, others = model.stateless_call(weights, others, x, training=True)
        loss = tf.reduce_sum(y**2)
    return [y, *others, *tape.gradient(loss, weights)]


@scenario
def weights_used_twice():
    """A kernel in a layer and, transposed, in an operation of the user."""

    class Autoencoder(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4, use_bias=False)
            self.dense.build((None, 3))

        def call(self, x):
            return tf.matmul(self.dense(x), self.dense.kernel, transpose_b=True)

    model, x = Autoencoder(), data(5, 3)
    return gradients(model, lambda: tf.reduce_sum(model(x) ** 2))


def _forward_mode():
    x = data(2, 8, 8, 2)
    model = built(small_network(), x)

    def run():
        with tf.autodiff.ForwardAccumulator(x, data(2, 8, 8, 2, seed=1)) as accumulator:
            y = model(x)
        return [y, accumulator.jvp(y)]

    return run


@scenario
def forward_mode():
    return _forward_mode()()


@scenario
def forward_mode_in_a_graph():
    return tf.function(_forward_mode())()


@scenario
def recomputed_gradient():
    x = data(2, 8, 8, 2)
    model = built(small_network(), x)
    function = tf.recompute_grad(lambda x: model(x, training=False))
    return tf.function(lambda: gradients(model, lambda: tf.reduce_sum(function(x) ** 2)))()


@scenario
def gradient_of_a_gradients_norm():
    x = data(2, 6, 6, 2)
    model = built(small_network(), x)

    def loss():
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(model(x) ** 2)
        inner = tape.gradient(value, model.trainable_variables)
        return tf.add_n([tf.reduce_sum(g**2) for g in inner])

    return tf.function(lambda: gradients(model, loss))()


@scenario
def gradients_of_graphs():
    x = data(2, 6, 6, 2)
    model = built(small_network(), x)

    @tf.function
    def run():
        loss = tf.reduce_sum(model(x) ** 2)
        return tf.gradients(loss, [v.value for v in model.trainable_variables])

    return run()


@scenario
def vectorized_map_within_fit():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = layers.Dense(4), layers.Dense(2)

        def call(self, x):
            return self.outer(tf.vectorized_map(self.inner, x)[:, 0])

    model = Model()
    model.compile("sgd", "mse")
    model.fit(data(4, 3, 5), data(4, 2), verbose=0, shuffle=False)
    return model.get_weights()


@scenario
def gradient_within_vectorized_map():
    x = data(5, 3)
    model = built(dense_network(), x)

    def of_a_row(row):
        with tf.GradientTape() as tape:
            tape.watch(row)
            y = model(row[None])
        return tape.gradient(y, row)

    def rows():
        return tf.vectorized_map(of_a_row, x)

    return [rows(), *gradients(model, lambda: tf.reduce_sum(rows() ** 2))]


@scenario
def jacobian_of_a_batch_norm_in_training():
    x = data(6, 3)
    network = [
        layers.Dense(4, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Dense(2),
    ]
    model = built(keras.Sequential(network), x)

    def loss():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=True)
        return tf.reduce_sum(tape.jacobian(y, x) ** 2)

    return gradients(model, loss)


def _fitted(optimizer, **compile_arguments):
    model = dense_network()
    model.compile(optimizer, "mse", **compile_arguments)
    model.fit(data(12, 3), data(12, 1), batch_size=2, verbose=0, shuffle=False)
    return model.get_weights()


@scenario
def several_steps_per_execution():
    return _fitted("sgd", steps_per_execution=3)


@scenario
def moving_average_of_weights():
    return _fitted(keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=2))


@scenario
def accumulated_gradients():
    return _fitted(keras.optimizers.Adam(0.01, gradient_accumulation_steps=3))


@scenario
def loss_scaling():
    return _fitted(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)))


@scenario
def eager_fit():
    return _fitted("sgd", run_eagerly=True)


@scenario
def sample_and_class_weights():
    model = small_network()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = random_array(8, 8, 8, 2), np.arange(8) % 2
    model.fit(x, y, batch_size=4, class_weight={0: 1.0, 1: 3.0}, verbose=0, shuffle=False)
    model.train_on_batch(x, y, sample_weight=np.linspace(0, 1, 8, dtype="float32"))
    return [*model.get_weights(), model.predict(x, verbose=0)]


@scenario
def frozen_backbone():
    backbone = small_network()
    backbone.trainable = False
    model = keras.Sequential([keras.Input((8, 8, 2)), backbone, layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(data(4, 8, 8, 2), data(4, 1), verbose=0)
    backbone.trainable = True
    model.compile("sgd", "mse")
    model.fit(data(4, 8, 8, 2), data(4, 1), verbose=0)
    return model.get_weights()


@scenario
def ragged_last_batch():
    model = small_network()
    model.compile("sgd", "mse")
    model.fit(data(7, 8, 8, 2), data(7, 2), batch_size=3, verbose=0, shuffle=False)
    return [
        *model.get_weights(),
        *model.evaluate(data(7, 8, 8, 2), data(7, 2), 3, verbose=0, return_dict=True).values(),
    ]


@scenario
def images_of_changing_size():
    convolutions = [layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D()]
    network = [keras.Input((None, None, 2)), *convolutions, layers.GlobalAveragePooling2D()]
    model = keras.Sequential([*network, layers.Dense(1)])
    model.compile("sgd", "mse")
    for size in (6, 9, 7):
        model.train_on_batch(data(2, size, size + 1, 2), data(2, 1))
    return model.get_weights()


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name):
    results = {}
    for policy in ("float32", "dfp16"):
        keras.utils.set_random_seed(1)
        with dtype_policy(policy):
            results[policy] = [np.asarray(value) for value in SCENARIOS[name]()]
    assert_no_lost_gradient(results["dfp16"], results["float32"])
    assert np.max(relative_errors(results["dfp16"], results["float32"])) < 1e-2


def test_mirrored_on_two_devices(run_program):
    assert run_program("mirrored_program.py") < 5e-3
