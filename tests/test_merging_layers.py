"""Layers between products that pass integers on in one pass each way, against Keras' own."""

import operator

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.src.applications.convnext import ConvNeXt
from keras_support import (
    QUANTIZATION_TOLERANCE,
    dtype_policy,
    float32_twin,
    random_array,
    relative_error,
)
from test_function_layers import assert_like_float32, sequential

import dfpkeras
from dfpkeras.kernels.number_format import NumberFormat
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.views import find_view


def merged(build, count=2):
    """A model of convolutions whose results are merged before a convolution."""
    inputs = keras.Input((6, 6, 3))
    branches = [
        layers.Conv2D(16, 3, activation=activation)(inputs)
        for activation in ("silu", "relu", "tanh")[:count]
    ]
    return keras.Model(inputs, layers.Flatten()(layers.Conv2D(3, 2)(build()(branches))))


@pytest.mark.parametrize(
    ("build", "count", "kernels"),
    [
        (layers.Average, 2, {"weighted_sum": 2}),
        (layers.Average, 3, {"weighted_sum": 2}),
        (layers.Subtract, 2, {"weighted_sum": 2}),
        (layers.Maximum, 2, {"maximum": 1, "maximum_backward": 1}),
        (layers.Maximum, 3, {"maximum": 2, "maximum_backward": 2}),
        (layers.Minimum, 2, {"minimum": 1, "minimum_backward": 1}),
    ],
)
def test_a_merge_between_integer_layers(build, count, kernels):
    with dtype_policy():
        ran = assert_like_float32(merged(build, count), (4, 6, 6, 3))
    assert {name: ran[name] for name in kernels} == kernels
    assert "dequantize" not in ran and ran["quantize_activation"] == 1


@pytest.mark.parametrize(
    ("made", "shape", "kernels"),
    [
        (lambda: layers.UpSampling2D((2, 3)), (6, 6, 3), ("upsample", "sum_pool")),
        (lambda: layers.PReLU(shared_axes=(1, 2)), (6, 6, 3), ("prelu_forward", "prelu_backward")),
        (lambda: layers.PReLU(shared_axes=1), (6, 6, 3), ("prelu_forward", "prelu_backward")),
        (lambda: layers.PReLU(), (6, 6, 3), ("prelu_forward", "prelu_backward")),
        (lambda: layers.Permute((2, 1, 3)), (6, 5, 3), ()),
    ],
)
@pytest.mark.parametrize("traced", [True, False])
def test_a_layer_between_integer_layers(made, shape, kernels, traced):
    with dtype_policy():
        model = sequential(
            layers.Conv2D(16, 3, activation="silu"), made(), layers.Conv2D(4, 2), shape=shape
        )
        ran = assert_like_float32(model, (4, *shape), traced=traced)
    assert all(ran[name] == 1 for name in kernels)
    # The images, and what the last convolution hands to the dense layer.
    assert not traced or ("dequantize" not in ran and ran["quantize_activation"] == 2)


@pytest.mark.parametrize("groups", [1, 4, -1])
@pytest.mark.parametrize(("center", "scale"), [(True, True), (False, False)])
def test_group_normalization(groups, center, scale):
    with dtype_policy():
        norm = layers.GroupNormalization(groups, center=center, scale=scale)
        model = sequential(layers.Conv2D(16, 3), norm, layers.ReLU(), layers.Conv2D(4, 2))
        ran = assert_like_float32(model, (4, 6, 6, 3))
    assert ran["group_norm_forward"] == ran["group_norm_backward"] == 1
    assert "dequantize" not in ran and ran["quantize_activation"] == 2


def test_upsampling_of_channels_first():
    """TensorFlow's own convolutions take no such images on some CPUs."""
    hits.reset()
    x = random_array(2, 16, 3, 5)
    results = []
    for policy in ("dfp16", "float32"):
        up = layers.UpSampling2D((3, 2), data_format="channels_first", dtype=policy)
        relu = layers.ReLU(dtype=policy)
        with tf.GradientTape() as tape:
            given = tf.constant(x)
            tape.watch(given)
            y = up(relu(given))
            loss = tf.reduce_sum(y * random_array(*y.shape, seed=1))
        results.append([y, tape.gradient(loss, given)])
    assert hits["upsample"] == hits["sum_pool"] == 1
    for ours, theirs in zip(*results, strict=True):
        assert relative_error(ours, theirs) < QUANTIZATION_TOLERANCE


@pytest.mark.parametrize("cls", [layers.Maximum, layers.Minimum])
def test_equal_numbers_share_their_gradient_as_in_tensorflow(cls):
    a = tf.constant(np.repeat([-1.0, 0.0, 2.0], 6).reshape(3, 6), tf.float32)
    b = tf.constant(np.tile([-1.0, 0.0, 2.0], 6).reshape(3, 6), tf.float32)
    gradients = []
    for policy in ("dfp16", "float32"):
        merge, identity = cls(dtype=policy), layers.LeakyReLU(1.0, dtype=policy)
        with tf.GradientTape() as tape:
            tape.watch([a, b])
            y = merge([identity(a), identity(b)])
            loss = tf.reduce_sum(y)
        gradients.append(tape.gradient(loss, [a, b]))
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize("shape", [(3, 40), (3, 5, 6, 16)])
def test_dropout_drops_what_keras_drops(traced, shape):
    hits.reset()
    x, results = tf.constant(1 + random_array(*shape) ** 2), []
    for policy in ("dfp16", "float32"):
        relu, dropout = layers.ReLU(dtype=policy), layers.Dropout(0.3, seed=7, dtype=policy)

        def compute(x, relu=relu, dropout=dropout):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = dropout(relu(x), training=True)
                loss = tf.reduce_sum(y * y)
            return y, tape.gradient(loss, x)

        run = tf.function(compute) if traced else compute
        results.append([*run(x), *run(x)])  # the second draw differs from the first
    assert hits["multiply"] == 4
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(ours == 0, theirs == 0)
        assert relative_error(ours, theirs) < QUANTIZATION_TOLERANCE
    assert np.any((results[0][0] == 0) != (results[0][2] == 0))


def with_sum(add, dtypes=("dfp16", "dfp16")):
    """A model of two convolutions of given policies whose results are added."""
    inputs = keras.Input((6, 6, 3))
    a, b = (layers.Conv2D(16, 3, activation="silu", dtype=dtype)(inputs) for dtype in dtypes)
    return keras.Model(inputs, layers.Flatten()(layers.Conv2D(3, 2)(add(a, b))))


class Summing(keras.Layer):
    """A user's layer."""

    def call(self, a, b):
        return a + keras.ops.add(a, b)


@pytest.mark.parametrize("add", [operator.add, keras.ops.add])
def test_a_sum_in_a_functional_model(add, tmp_path):
    with dtype_policy():
        model = with_sum(add)
        assert report_of(model, "Add")[0] == "float32"  # it was not called yet
        ran = assert_like_float32(model, (4, 6, 6, 3))
    assert ran["add"] == 1 and "dequantize" not in ran and ran["quantize_activation"] == 1
    assert report_of(model, "Add") == ("int16", "integers in, integers out")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = random_array(2, 6, 6, 3)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert report_of(loaded, "Add") == report_of(model, "Add")


def report_of(model, class_name):
    (row,) = (row for row in dfpkeras.report(model).rows if row.class_name == class_name)
    return row.computes, row.reason


@pytest.mark.parametrize(
    ("add", "dtypes"),
    [
        (operator.add, ("dfp16", "float32")),
        (operator.add, ("dfp16", "dfp16(activation_bits=9)")),
        (lambda a, b: a + 1.0, ("dfp16", "dfp16")),
        (lambda a, b: Summing()(a, b), ("dfp16", "dfp16")),
    ],
)
def test_sums_of_anything_else_are_keras_own(add, dtypes):
    with dtype_policy():
        model = with_sum(add, dtypes)
        hits.reset()
        model(tf.constant(random_array(4, 6, 6, 3)))
    assert hits["activation_forward"] and not hits["add"]
    rows = [row for row in dfpkeras.report(model).rows if row.class_name in ("Add", "Summing")]
    assert rows and all(row.computes == "float32" for row in rows)


def test_the_residual_path_of_a_small_convnext():
    keras.utils.set_random_seed(1)
    with dtype_policy():
        options = {"input_shape": (64, 64, 3), "classes": 5, "weights": None}
        model = ConvNeXt([1] * 4, [16, 16, 32, 32], layer_scale_init_value=0.5, **options)
        x, arguments = random_array(2, 64, 64, 3) * 50 + 128, {"training": True}
        twin = float32_twin(model)
        hits.reset()
        y = tf.function(model)(x, **arguments)
    assert relative_error(y, twin(x, **arguments)) < 2 * QUANTIZATION_TOLERANCE
    assert hits["add"] == hits["multiply"] == 4
    rows = dfpkeras.report(model).rows
    for class_name in ("Add", "LayerScale"):
        assert [row.computes for row in rows if row.class_name == class_name] == ["int16"] * 4


def test_what_has_no_integers_stays_keras_own():
    hits.reset()
    a, b = (tf.constant(random_array(4, 6, seed=seed)) for seed in (1, 2))
    for made in (layers.Average, layers.Subtract, layers.Maximum, layers.Minimum, layers.Multiply):
        np.testing.assert_array_equal(made(dtype="dfp16")([a, b]), made(dtype="float32")([a, b]))
    x = tf.constant(random_array(4, 6))
    for made in (layers.PReLU, lambda dtype: layers.RepeatVector(3, dtype=dtype)):
        np.testing.assert_array_equal(made(dtype="dfp16")(x), made(dtype="float32")(x))
    assert not hits


def test_masked_tensors_are_merged_by_keras():
    relu = layers.ReLU(dtype="dfp16")
    a, b = (relu(tf.constant(random_array(2, 3, 4, seed=seed))) for seed in (1, 2))
    keras.src.backend.set_keras_mask(a, tf.constant([[True, False, True]] * 2))
    for cls in (layers.Maximum, layers.Minimum, layers.Multiply):
        y = cls(dtype="dfp16")([a, b])
        assert find_view(y, NumberFormat().activation) is None
