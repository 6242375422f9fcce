"""Activations and sums without a batch norm, and gradients of several consumers, under Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_support import (
    QUANTIZATION_TOLERANCE,
    dtype_policy,
    float32_twin,
    random_array,
    relative_error,
)

from dfpkeras.ops.kernel_hits import hits

layers = keras.layers

IMAGES = random_array(5, 10, 9, 6)


def functional(build):
    """A model of dfp16 layers, ending in a convolution."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input(IMAGES.shape[1:])
    with dtype_policy():
        return keras.Model(inputs, layers.Conv2D(3, 1, name="last")(build(inputs)))


def plain(x):
    x = layers.Conv2D(8, 3, activation="relu")(x)
    x = layers.Conv2D(8, 3, padding="same")(x)
    return layers.ReLU(6)(x)


def preactivated(x):
    x = layers.Conv2D(8, 3, padding="same")(x)
    y = layers.Conv2D(8, 3, padding="same")(layers.Activation("relu")(x))
    x = layers.Add()([x, y])
    y = layers.Conv2D(8, 3, padding="same")(layers.Activation("relu")(x))
    return layers.Add()([x, y])


def four_consumers(x):
    x = layers.BatchNormalization()(layers.Conv2D(8, 3)(x))
    x = layers.Activation("relu")(x)
    y = [layers.Conv2D(8, k, padding="same")(x) for k in (1, 3, 5)]
    return layers.Concatenate()([*y, x])


def biased(x):
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, name="biased")(x))
    return layers.ReLU()(x)


def step_of(model, training=True):
    """(loss, gradients of variables and of the images)."""

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=training)
            loss = tf.reduce_sum(y * random_array(*y.shape, seed=4))
        return loss, *tape.gradient(loss, [x, *(v.value for v in model.trainable_variables)])

    return step


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.parametrize("build", [plain, preactivated, four_consumers, biased])
def test_gradients_follow_float32(build, run_eagerly, training):
    model = functional(build)
    twin = float32_twin(model)
    run = (lambda step: step) if run_eagerly else tf.function
    actual = run(step_of(model, training))(tf.constant(IMAGES))
    expected = run(step_of(twin, training))(tf.constant(IMAGES))
    # Where its argument is near 0, an activation's gradient depends on the last bit: one of about
    # 2,000 pixels is 2 % of a norm.
    largest = max(np.linalg.norm(exact) for exact in expected[1:])
    for ours, theirs in zip(actual[1:], expected[1:], strict=True):
        assert np.linalg.norm(ours - theirs) < 0.06 * largest


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (plain, {"activation_forward": 2, "activation_backward": 2, "add": 0}),
        (preactivated, {"activation_forward": 2, "add": 2, "activation_backward": 2}),
        (four_consumers, {"batch_norm_forward": 1, "activation_backward": 1}),
    ],
)
def test_between_integer_layers_nothing_is_float32(build, expected):
    model = functional(build)
    step = tf.function(step_of(model))
    hits.reset()
    step(tf.constant(IMAGES))
    assert {name: hits[name] for name in expected} == expected
    assert hits["dequantize"] == 0
    assert hits["quantize_activation"] == 1  # the images


def test_the_sum_of_several_gradients_is_not_made_by_tensorflow():
    graph = tf.function(step_of(functional(four_consumers))).get_concrete_function(IMAGES).graph
    sums = [operation for operation in graph.get_operations() if operation.type == "AddN"]
    assert len(sums) == 1
    assert not sums[0].outputs[0].consumers() or all(
        consumer.type in ("Identity", "IdentityN") for consumer in sums[0].outputs[0].consumers()
    )


@pytest.mark.parametrize("training", [True, False])
def test_the_bias_in_front_of_a_batch_norm(training):
    """Its gradient comes from the batch norm's sums: 0 if the batch's mean cancels it."""
    model = functional(biased)
    step = tf.function(step_of(model, training))
    hits.reset()
    gradients = dict(
        zip(
            ["image", *(v.path for v in model.trainable_variables)],
            step(tf.constant(IMAGES))[1:],
            strict=True,
        )
    )
    assert hits["bias_gradient"] == 1  # that of the last convolution
    bias = gradients["biased/bias"].numpy()
    assert (bias == 0).all() if training else (bias != 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-4, 1, 1e4])
def test_an_activation_saturates_nothing_in_inference(scale):
    """The exponent comes from the channel range of the convolution."""
    model = functional(preactivated)
    ours, theirs = (m.predict(IMAGES * scale, verbose=0) for m in (model, float32_twin(model)))
    assert relative_error(ours, theirs) < QUANTIZATION_TOLERANCE


def test_a_sum_that_broadcasts_is_keras_own():
    with dtype_policy():
        add = layers.Add()
    a, b = tf.constant(random_array(4, 5, 6)), tf.constant(random_array(4, 1, 6))
    np.testing.assert_array_equal(add([a, b]), a + b)
    c = tf.constant(random_array(4, 5, 6, seed=1))
    np.testing.assert_array_equal(add([b, b + c, a]), b + (b + c) + a)
    assert hits["add"] == 0


@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_sum_of_any_number(count):
    tensors = [tf.constant(random_array(4, 5, 6, seed=seed)) for seed in range(count)]
    with dtype_policy():
        add = layers.Add()
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            y = add(tensors)
            loss = tf.reduce_sum(y * y)
    expected = sum(tensors[1:], tensors[0])
    assert relative_error(y, expected) < QUANTIZATION_TOLERANCE
    for gradient in tape.gradient(loss, tensors):
        assert relative_error(gradient, 2 * expected) < QUANTIZATION_TOLERANCE
    assert hits["add"] == count - 1


def test_activations_that_have_no_integer_form_are_keras_own():
    x = tf.constant(random_array(3, 7))
    with dtype_policy():
        for layer in (
            layers.Activation("sigmoid"),
            layers.Activation("softplus"),
            layers.Activation("exponential"),
            layers.PReLU(),
            layers.ReLU(max_value=3.0),
            layers.ReLU(max_value=6.0, negative_slope=0.1),
            layers.ReLU(threshold=0.5),
        ):
            hits.reset()
            expected = type(layer).from_config(layer.get_config() | {"dtype": "float32"})(x)
            np.testing.assert_array_equal(layer(x), expected)
            assert not hits


class Gate(layers.Multiply):
    """A product by the averages of the second operand."""

    def call(self, inputs):
        averages = keras.ops.mean(inputs[1], axis=1, keepdims=True)
        return super().call([inputs[0], averages])


def two_branches(before, merge):
    """A model with two inputs of sizes that need not be the same, whose branches are merged."""
    inputs = [keras.Input((4,)), keras.Input((4,))]
    a, b = (layers.Reshape((2, 3))(before()(layers.Dense(6)(x))) for x in inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.ReLU()(merge()([a, b])))))


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(5, 5), (1, 5), (5, 1), (0, 1), (1, 0)])
@pytest.mark.parametrize(
    ("before", "merge"),
    [
        (layers.Identity, layers.Add),
        (layers.BatchNormalization, layers.Add),
        (layers.ELU, layers.Multiply),
        (layers.ELU, layers.Average),
        (layers.ELU, layers.Subtract),
        (layers.ELU, layers.Maximum),
        (layers.ELU, layers.Minimum),
        (layers.ELU, Gate),
    ],
)
def test_unknown_numbers_of_images_may_broadcast(before, merge, sizes):
    with dtype_policy():
        model = two_branches(before, merge)
    images = [tf.constant(random_array(n, 4, seed=n)) for n in sizes]

    def step_of(model):
        def step(a, b):
            with tf.GradientTape() as tape:
                tape.watch([a, b])
                y = model([a, b], training=False)
                loss = tf.reduce_sum(y**2)
            return [y, *tape.gradient(loss, [a, b, *model.trainable_variables])]

        return tf.function(step, input_signature=[tf.TensorSpec((None, 4))] * 2)

    hits.reset()
    results = step_of(model)(*images)
    kernels = ("add", "batch_norm_forward", "multiply", "weighted_sum", "maximum", "minimum")
    assert any(hits[name] for name in kernels)
    for actual, wanted in zip(results, step_of(float32_twin(model))(*images), strict=True):
        assert actual.shape == wanted.shape
        error = np.max(np.abs(actual - wanted), initial=0)
        assert error <= 2 * QUANTIZATION_TOLERANCE * np.max(np.abs(wanted), initial=0)


class Unhashable:
    """A user-defined activation."""

    __hash__ = None

    def __eq__(self, other):
        raise TypeError("not to be compared")

    def __call__(self, x):
        return keras.ops.tanh(x)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.Activation(Unhashable()),
        lambda: layers.Dense(3, activation=Unhashable()),
        lambda: layers.Conv1D(3, 1, activation=Unhashable()),
        lambda: layers.DepthwiseConv1D(1, activation=Unhashable()),
        lambda: layers.SeparableConv1D(3, 1, activation=Unhashable()),
    ],
)
def test_an_activation_need_not_be_hashable_or_comparable(layer):
    x = random_array(2, 3, 4)
    with dtype_policy():
        layer = layer()
        y = layer(x)
    layer.activation = keras.activations.linear
    assert relative_error(y, np.tanh(layer(x))) < QUANTIZATION_TOLERANCE


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_an_empty_batch_is_normalised(run_eagerly):
    model = functional(biased)
    empty = tf.zeros((0, *IMAGES.shape[1:]))
    step = step_of(model, training=False)
    _, *gradients = (step if run_eagerly else tf.function(step))(empty)
    assert not any(np.any(g) for g in gradients)
    assert model(empty, training=True).shape == (0, 8, 7, 3)
