"""Models of any topology train under dfp16 as under float32: fusion changes no meaning."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_support import QUANTIZATION_TOLERANCE, dtype_policy, random_array, relative_error

from dfpkeras.ops.kernel_hits import hits

pytestmark = pytest.mark.slow

layers = keras.layers

IMAGES = random_array(6, 8, 8, 4)
LABELS = np.arange(6) % 3


def block(x, filters=6):
    x = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(x))
    return layers.ReLU()(x)


def head(x):
    return layers.Dense(3)(layers.GlobalAveragePooling2D()(x))


def branches(x):
    x = block(x)
    pooled = layers.MaxPooling2D(3, strides=1, padding="same")(x)
    joined = layers.Concatenate()([block(x), block(pooled), x])
    return head(layers.Add()([block(joined, 4), block(joined, 4)]))


def unfused_value_is_read_too(x):
    normalized = layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same")(x))
    squared = layers.Lambda(lambda t: t * t)(normalized)
    return head(layers.Add()([layers.ReLU()(normalized), squared]))


def layer_called_twice(x):
    convolution, norm = layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization()
    once = layers.ReLU()(norm(convolution(x)))
    return head(layers.Add()([once, layers.ReLU()(norm(convolution(once)))]))


def nested(x):
    inputs = keras.Input((8, 8, 4))
    inner = keras.Model(inputs, [block(inputs), layers.BatchNormalization()(inputs)])
    a, b = inner(x)
    return head(layers.Concatenate()([layers.ReLU()(a), layers.ReLU()(b)]))


def stopped_gradient(x):
    x = block(x)
    stopped = layers.Lambda(keras.ops.stop_gradient)(x)
    return head(layers.Add()([block(x), stopped]))


def frozen(x):
    norm = layers.BatchNormalization()
    norm.trainable = False
    x = layers.ReLU()(norm(layers.Conv2D(6, 3)(x)))
    frozen_convolution = layers.Conv2D(6, 3, trainable=False)
    return head(layers.ReLU()(layers.BatchNormalization()(frozen_convolution(x))))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.convolution = layers.Conv2D(6, 3, padding="same")
        self.norm, self.relu, self.add = layers.BatchNormalization(), layers.ReLU(), layers.Add()
        self.pool, self.dense = layers.GlobalAveragePooling2D(), layers.Dense(3)

    def call(self, x, training=False):
        y = self.norm(self.convolution(x), training=training)
        if training:
            y = y + 0.1 * keras.ops.sin(y)
        return self.dense(self.pool(self.add([self.relu(y), y])))


def functional(build):
    inputs = keras.Input(IMAGES.shape[1:])
    return keras.Model(inputs, build(inputs))


TOPOLOGIES = {
    build.__name__: (lambda build=build: functional(build))
    for build in (
        branches,
        unfused_value_is_read_too,
        layer_called_twice,
        nested,
        stopped_gradient,
        frozen,
    )
} | {"subclassed": Subclassed}


def pair(name):
    """The model under dfp16, and a twin of float32 with the same weights."""
    models = []
    for policy in ("dfp16", "float32"):
        keras.utils.set_random_seed(2)
        with dtype_policy(policy):
            model = TOPOLOGIES[name]()
            model(IMAGES)
        models.append(model)
    models[1].set_weights(models[0].get_weights())
    return models


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in TOPOLOGIES]
    # What the optimizer does with gradients does not depend on the topology they come from.
    + [(name, {"gradient_accumulation_steps": 2}) for name in ("frozen", "layer_called_twice")],
)
def test_training_follows_float32(name, options):
    losses, predictions = [], []
    for model in pair(name):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.02, momentum=0.9, **options), loss)
        hits.reset()
        history = model.fit(IMAGES, LABELS, batch_size=3, epochs=3, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
        predictions.append(model.predict(IMAGES, verbose=0))
        assert bool(hits["batch_norm_backward"]) == (model.dtype_policy.name == "dfp16")
    assert relative_error(*losses) < 2 * QUANTIZATION_TOLERANCE
    # A ReLU whose argument is near 0 passes a gradient under one policy and not under the other.
    assert relative_error(*predictions) < 6 * QUANTIZATION_TOLERANCE


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize("training", [False, True])
def test_gradients_of_the_images_follow_float32(name, training):
    results = []
    for model in pair(name):

        @tf.function
        def step(x, model=model):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(model(x, training=training) * random_array(6, 3, seed=8))
            return tape.gradient(loss, x)

        results.append(step(tf.constant(IMAGES)))
    assert np.linalg.norm(results[0] - results[1]) < 0.06 * np.linalg.norm(results[1])
