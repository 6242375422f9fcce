"""BatchNormalization under dfp16: fused where possible, with Keras' semantics everywhere."""

import functools
import inspect

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

import dfpkeras
from dfpkeras.integration.calls import observe
from dfpkeras.ops.kernel_hits import hits

layers = keras.layers
IMAGES = random_array(6, 8, 8, 4) * 2 + 1


def residual_model():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv1")(inputs)
    shortcut = x = layers.Activation("relu")(layers.BatchNormalization(name="bn1")(x))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv2")(x)
    x = layers.BatchNormalization(name="bn2")(x)
    x = layers.ReLU()(layers.Add(name="add")([shortcut, x]))
    x = layers.Conv2D(8, 1, use_bias=False, name="conv3")(x)
    x = layers.ReLU(6)(layers.BatchNormalization(name="bn3")(x))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def batch_norm(**arguments):
    """One layer of each policy, (8, 8, 4) channels, with the same random weights."""
    pair = []
    for policy in ("dfp16", "float32"):
        layer = layers.BatchNormalization(dtype=policy, **arguments)
        layer.build(IMAGES.shape)
        rng = np.random.default_rng(5)
        layer.set_weights([rng.uniform(0.5, 2, w.shape) for w in layer.get_weights()])
        pair.append(layer)
    return pair


def gradients_of(function, *tensors):
    tensors = [tf.constant(t) for t in tensors]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        result = function(*tensors)
        weighted = tf.reduce_sum(result * random_array(*result.shape, seed=9))
    return result, tape.gradient(weighted, tensors)


def test_a_training_step_fuses_everything_and_dequantises_only_what_float32_reads():
    with dtype_policy():
        model = residual_model()

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(x, training=True) ** 2)
        return tape.gradient(loss, [v.value for v in model.trainable_variables])

    hits.reset()
    step(tf.constant(IMAGES))
    assert hits["batch_norm_statistics"] == 3
    assert hits["batch_norm_forward"] == 3  # each with its ReLU, one with the addition
    # Of the sum of two gradients, and where the shortcut needs it; the third is part of bn3's own.
    assert hits["activation_backward"] == 2
    assert hits["batch_norm_backward"] == 3
    assert hits["bias_gradient"] == 1  # the dense layer's; batch norms know those of convolutions
    assert hits["dequantize"] == 0
    assert hits["quantize_activation"] == 1  # the images


def preactivation_model():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(inputs)
    shortcut = layers.BatchNormalization()(x)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(shortcut)
    x = layers.Add()([layers.BatchNormalization()(x), shortcut])
    # No ReLU: where its input is near 0, its gradient would depend on the last bit.
    return keras.Model(inputs, layers.Conv2D(3, 1)(layers.BatchNormalization()(x)))


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("run_eagerly", [False, True])
def test_a_batch_norm_reads_the_integers_of_what_it_normalises(training, run_eagerly):
    with dtype_policy():
        model = preactivation_model()

    def step_of(model):
        def step(x):
            with tf.GradientTape() as tape:
                y = model(x, training=training)
                loss = tf.reduce_mean(y**2)
            return y, *tape.gradient(loss, [v.value for v in model.trainable_variables])

        return step if run_eagerly else tf.function(step)

    hits.reset()
    results = step_of(model)(tf.constant(IMAGES))
    assert hits["batch_norm_forward"] == hits["batch_norm_backward"] == 3 or run_eagerly
    assert hits["dequantize"] == 0 or run_eagerly
    assert hits["quantize_activation"] == 1  # the images
    expected = step_of(float32_twin(model))(tf.constant(IMAGES))
    assert relative_error(results[0], expected[0]) < 2 * QUANTIZATION_TOLERANCE
    # Some gradients vanish: those of what a batch norm cancels.
    largest = max(np.abs(exact).max() for exact in expected[1:])
    for actual, exact in zip(results[1:], expected[1:], strict=True):
        assert np.abs(actual - exact).max() < 2 * QUANTIZATION_TOLERANCE * largest


@pytest.mark.slow
@pytest.mark.parametrize("run_eagerly", [False, True])
def test_fit_follows_float32(run_eagerly):
    keras.utils.set_random_seed(3)
    with dtype_policy():
        model = residual_model()
    twin, histories = float32_twin(model), []
    labels = np.random.default_rng(1).integers(0, 3, len(IMAGES))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for m in (model, twin):
        m.compile(keras.optimizers.SGD(0.02), loss, run_eagerly=run_eagerly)
        history = m.fit(IMAGES, labels, batch_size=3, epochs=3, shuffle=False, verbose=0)
        histories.append(history.history["loss"])
    assert relative_error(*histories) < QUANTIZATION_TOLERANCE
    for ours, theirs in zip(model.get_weights(), twin.get_weights(), strict=True):
        assert relative_error(ours, theirs) < 3 * QUANTIZATION_TOLERANCE
    predictions = [m.predict(IMAGES, verbose=0) for m in (model, twin)]
    assert relative_error(*predictions) < 3 * QUANTIZATION_TOLERANCE


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "arguments", [{}, {"scale": False}, {"center": False}, {"axis": 3}, {"axis": 1}]
)
def test_one_layer(arguments, training):
    ours, theirs = batch_norm(epsilon=0.01, momentum=0.9, **arguments)
    hits.reset()
    results = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            x = tf.constant(IMAGES)
            tape.watch(x)
            y = layer(x, training=training)
            total = tf.reduce_sum(y * random_array(*y.shape, seed=9))
        sources = [x, *(v.value for v in layer.trainable_variables)]
        results.append([y, *tape.gradient(total, sources), *layer.non_trainable_variables])
    assert hits["batch_norm_forward"] == hits["batch_norm_backward"] == 1
    for actual, expected in zip(*results, strict=True):
        assert relative_error(actual, expected) < QUANTIZATION_TOLERANCE


def test_a_frozen_layer_uses_and_keeps_its_moving_statistics():
    ours, theirs = batch_norm()
    ours.trainable = theirs.trainable = False
    before = ours.get_weights()
    results = [
        gradients_of(functools.partial(layer, training=True), IMAGES) for layer in (ours, theirs)
    ]
    for (y, (dx,)), (expected, (expected_dx,)) in [results]:
        assert relative_error(y, expected) < QUANTIZATION_TOLERANCE
        assert relative_error(dx, expected_dx) < QUANTIZATION_TOLERANCE
    for now, then in zip(ours.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_the_unfused_result_and_gradients_of_it_are_right():
    """As in class activation maps: the gradient with respect to an inner layer's output."""
    norm, twin = batch_norm()
    relu = {"dfp16": layers.ReLU(dtype="dfp16"), "float32": layers.ReLU(dtype="float32")}

    def both(layer, policy):
        @tf.function
        def run(x):
            with tf.GradientTape() as tape:
                y = layer(x, training=False)
                tape.watch(y)
                z = relu[policy](y)
                total = tf.reduce_sum(z * z)
            return y, z, tape.gradient(total, y)

        return run(tf.constant(IMAGES))

    for actual, expected in zip(both(norm, "dfp16"), both(twin, "float32"), strict=True):
        assert relative_error(actual, expected) < QUANTIZATION_TOLERANCE


def test_a_layer_called_twice_and_a_residual_of_two_batch_norms():
    ours, theirs = batch_norm()
    second_ours, second_theirs = batch_norm(epsilon=0.1)

    def block(first, second, policy):
        add, relu = layers.Add(dtype=policy), layers.ReLU(dtype=policy)

        def run(a, b):
            return relu(add([first(a), second(b)])) + first(b)

        return tf.function(run)

    other = random_array(*IMAGES.shape, seed=4)
    y, _ = gradients_of(block(ours, second_ours, "dfp16"), IMAGES, other)
    expected, _ = gradients_of(block(theirs, second_theirs, "float32"), IMAGES, other)
    assert relative_error(y, expected) < QUANTIZATION_TOLERANCE


def test_broadcasting_additions_are_left_to_keras():
    norm, twin = batch_norm()
    row = random_array(6, 1, 8, 4, seed=2)
    ours = layers.Add(dtype="dfp16")([norm(IMAGES), tf.constant(row)])
    assert relative_error(ours, twin(IMAGES) + row) < QUANTIZATION_TOLERANCE


@pytest.mark.parametrize("training", [False, True])
def test_second_order_gradients(training):
    results = []
    # Without beta, on which the gradient of x does not depend here.
    for layer in batch_norm(center=False):

        @tf.function
        def penalty(x, layer=layer):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    total = tf.reduce_sum(layer(x, training=training) ** 3)
                dx = inner.gradient(total, x)
                norm = tf.reduce_sum(dx * dx)
            return outer.gradient(norm, [x, *(v.value for v in layer.trainable_variables)])

        results.append(penalty(tf.constant(IMAGES)))
    for actual, expected in zip(*results, strict=True):
        assert relative_error(actual, expected) < 5 * QUANTIZATION_TOLERANCE


HAS_RENORM = "renorm" in inspect.signature(layers.BatchNormalization).parameters  # Keras 3.14


@pytest.mark.parametrize(
    ("arguments", "mask"), [({"renorm": True}, None)] * HAS_RENORM + [({}, np.ones((6, 8, 8)))]
)
def test_what_has_no_integer_path_is_what_keras_computes(arguments, mask):
    ours, theirs = batch_norm(**arguments)
    hits.reset()
    y, expected = (layer(IMAGES, training=True, mask=mask) for layer in (ours, theirs))
    np.testing.assert_array_equal(y, expected)
    assert not hits
    assert not observe(ours).integer


def test_nan_spreads_to_everything():
    norm, _ = batch_norm()
    images = IMAGES.copy()
    images[0, 0, 0, 0] = np.nan
    y, (dx,) = gradients_of(lambda x: layers.ReLU(dtype="dfp16")(norm(x, training=True)), images)
    assert np.isnan(y).all()
    assert np.isnan(dx).all()


def test_report_and_export(tmp_path):
    with dtype_policy():
        model = residual_model()
    rows = {row.path.split("/")[-1]: row for row in dfpkeras.report(model).rows}
    assert (rows["bn1"].computes, rows["bn1"].reason) == ("int16", "batch normalisation")
    model.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")
    assert relative_error(loaded.serve(tf.constant(IMAGES)), float32_twin(model)(IMAGES)) < 1e-5
