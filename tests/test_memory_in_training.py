"""Training with the memory pool: nothing still in use is overwritten, and nothing grows."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_support import dtype_policy, random_array
from poison import dangling_view, poisoned_memory

from dfpkeras.kernels.block_tensor import BlockTensor
from dfpkeras.ops import integer_convolution

pytestmark = pytest.mark.slow

layers = keras.layers
STEPS = 4
IMAGES = random_array(STEPS, 6, 12, 10, 5, seed=1)
LABELS = np.random.default_rng(2).integers(0, 3, (STEPS, 6))

# What the process may grow by in 900 steps, in bytes: keeping one activation or gradient of each
# step would take 10 MiB as INT16 and 20 MiB as float32.
MOST_GROWTH = 5 * 2**20


def branched_model():
    """Residual blocks, branches that meet in a Concatenate, and a layer that is called twice."""
    shared = layers.Conv2D(16, 3, padding="same", name="shared")
    inputs = keras.Input(IMAGES.shape[2:])
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(inputs)
    shortcut = x = layers.ReLU(name="first_relu")(layers.BatchNormalization()(x))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    x = layers.Add()([layers.BatchNormalization()(x), shortcut])
    x = layers.Activation("relu", name="second_relu")(x)
    left = layers.MaxPooling2D(2, padding="same")(shared(x))
    right = layers.AveragePooling2D(2, padding="same")(shared(shortcut))
    x = layers.Concatenate()([left, right, layers.Conv2D(8, 3, strides=2, padding="same")(x)])
    x = layers.BatchNormalization()(layers.ZeroPadding2D(1)(x))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def compiled(build, run_eagerly=False):
    keras.utils.set_random_seed(3)
    model = build()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, 0.9), loss, run_eagerly=run_eagerly)
    return model


class Kept:
    """Results that a user keeps, with copies made when they were new."""

    def __init__(self):
        self.held, self.copies = [], []

    def hold(self, *results):
        self.held += results
        self.copies += [np.array(result, copy=True) for result in results]

    def check(self):
        """The copies; fails if a kept result has changed since."""
        for held, copy in zip(self.held, self.copies, strict=True):
            np.testing.assert_array_equal(held, copy)
            assert np.isfinite(copy).all()
        return self.copies


def class_activation_map(model):
    """A function from images to inner outputs and the gradients of a score with respect to them."""
    names = ("first_relu", "second_relu")
    inner = keras.Model(model.input, [*(model.get_layer(n).output for n in names), model.output])

    @tf.function
    def explain(images):
        with tf.GradientTape() as tape:
            *outputs, scores = inner(images, training=False)
            score = tf.reduce_sum(scores[:, 1])
        return [*outputs, scores, *tape.gradient(score, outputs)]

    return explain


def train_and_keep(run_eagerly):
    """Everything a user can get from some steps of training, kept to the end."""
    model, kept = compiled(branched_model, run_eagerly), Kept()
    explain = class_activation_map(model)
    for images, labels in zip(IMAGES, LABELS, strict=True):
        kept.hold(np.float32(model.train_on_batch(images, labels)))
        eager = model(images, training=True)
        kept.hold(eager, memoryview(eager), *explain(images), *model.get_weights())
        kept.hold(model.predict(images, batch_size=4, verbose=0))
    return kept.check()


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_poisoning_unowned_memory_changes_no_bit(run_eagerly):
    with dtype_policy():
        expected = train_and_keep(run_eagerly)
        with poisoned_memory():
            results = train_and_keep(run_eagerly)
    assert len(results) > 100
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_a_result_without_owner_is_detected(run_eagerly, monkeypatch):
    of_images = integer_convolution._KERNELS[2]
    forward = of_images["forward"]

    def without_owner(*args, **named):
        y = forward(*args, **named)
        if isinstance(y, BlockTensor):
            return BlockTensor(y.data, dangling_view(y.scales))
        return dangling_view(y)

    monkeypatch.setitem(of_images, "forward", without_owner)
    with dtype_policy(), poisoned_memory():
        loss = compiled(branched_model, run_eagerly).train_on_batch(IMAGES[0], LABELS[0])
    assert np.isnan(loss)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read in /proc")
def test_a_thousand_steps_with_a_smaller_last_batch_do_not_grow(run_program):
    memory = run_program("memory_program.py")
    assert memory["steps"] == 1000
    pool, resident = memory["pool"], memory["resident"]
    assert pool[1] <= 1.1 * pool[0]
    assert resident[1] - resident[0] < MOST_GROWTH
