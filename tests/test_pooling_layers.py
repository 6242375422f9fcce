"""Layers that pool, join and move numbers, under dfp16: integers in, integers out."""

import functools

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
from dfpkeras.ops.kernel_hits import hits

layers = keras.layers

# (class, arguments, kernels that must run forward and backward).
MAX = ("max_pool", "max_pool_backward")
AVERAGE = ("average_pool", "average_pool_backward")
GLOBAL_MAX = ("global_max_pool", "global_max_pool_backward")
GLOBAL_AVERAGE = ("global_average_pool", "global_average_pool_backward")
PAD_AND_CROP = ("zero_pad", "crop")
SEQUENCES = [
    (layers.MaxPooling1D, {"pool_size": 3, "strides": 2}, MAX),
    (layers.MaxPooling1D, {"pool_size": 2, "padding": "same"}, MAX),
    (layers.AveragePooling1D, {"pool_size": 3, "strides": 1, "padding": "same"}, AVERAGE),
    (layers.GlobalAveragePooling1D, {}, GLOBAL_AVERAGE),
    (layers.GlobalAveragePooling1D, {"keepdims": True}, GLOBAL_AVERAGE),
    (layers.GlobalMaxPooling1D, {}, GLOBAL_MAX),
    (layers.GlobalMaxPooling1D, {"keepdims": True}, GLOBAL_MAX),
    (layers.ZeroPadding1D, {"padding": (2, 1)}, PAD_AND_CROP),
    (layers.Flatten, {}, ()),
]
IMAGES = [
    (layers.MaxPooling2D, {"pool_size": 3, "strides": 2}, MAX),
    (layers.MaxPooling2D, {"pool_size": (2, 3), "strides": (3, 1), "padding": "same"}, MAX),
    (layers.AveragePooling2D, {"pool_size": 2}, AVERAGE),
    (layers.AveragePooling2D, {"pool_size": 3, "strides": 2, "padding": "same"}, AVERAGE),
    (layers.GlobalAveragePooling2D, {}, GLOBAL_AVERAGE),
    (layers.GlobalAveragePooling2D, {"keepdims": True}, GLOBAL_AVERAGE),
    (layers.GlobalMaxPooling2D, {}, GLOBAL_MAX),
    (layers.GlobalMaxPooling2D, {"keepdims": True}, GLOBAL_MAX),
    (layers.ZeroPadding2D, {"padding": ((1, 0), (2, 3))}, PAD_AND_CROP),
    (layers.Cropping2D, {"cropping": ((1, 0), (2, 1))}, PAD_AND_CROP),
    (layers.Flatten, {}, ()),
]
VOLUMES = [
    (layers.MaxPooling3D, {"pool_size": 2, "strides": (1, 2, 1), "padding": "same"}, MAX),
    (layers.AveragePooling3D, {"pool_size": (3, 2, 2), "padding": "same"}, AVERAGE),
    (layers.GlobalAveragePooling3D, {"keepdims": True}, GLOBAL_AVERAGE),
    (layers.GlobalMaxPooling3D, {}, GLOBAL_MAX),
    (layers.ZeroPadding3D, {"padding": ((1, 0), (0, 2), (1, 1))}, PAD_AND_CROP),
]
IN_BOTH_FORMATS = [
    (shape, cls, arguments | {"data_format": data_format}, kernels)
    for shape, table in (((3, 8, 6), SEQUENCES), ((3, 7, 8, 6), IMAGES), ((2, 4, 5, 6, 3), VOLUMES))
    for cls, arguments, kernels in table
    for data_format in ("channels_last", "channels_first")
]
EVERY_LAYER = pytest.mark.parametrize(
    ("shape", "cls", "arguments", "kernels"),
    [
        *IN_BOTH_FORMATS,
        ((3, 8, 6), layers.Cropping1D, {"cropping": (2, 1)}, PAD_AND_CROP),
        ((3, 8, 6), layers.Reshape, {"target_shape": (2, -1, 3)}, ()),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)


def distinct(*shape):
    """Positive numbers that 14 bits tell apart: float32 and integers have the same maxima."""
    count = int(np.prod(shape))
    order = np.random.default_rng(0).permutation(count)
    return tf.constant(((order + 1) / count).reshape(shape), tf.float32)


def carrying(policy):
    """Gives positive numbers a quantised view: a batch norm that changes nothing, and a ReLU."""
    norm = layers.BatchNormalization(epsilon=0, scale=False, center=False, dtype=policy)
    relu = layers.ReLU(dtype=policy)
    return lambda x: relu(norm(x, training=False))


def assert_near(actual, expected):
    for ours, theirs in zip(actual, expected, strict=True):
        assert relative_error(ours, theirs) < QUANTIZATION_TOLERANCE


def results(policy, make, graph, *inputs):
    """[y, its gradients for the inputs, and the gradient of a penalty on those for dy], of a layer
    whose first input has a quantised view."""
    layer, carry = make(dtype=policy), carrying(policy)

    def call(first, *others):
        first = carry(first)
        return layer([first, *others] if others else first)

    dy = tf.constant(random_array(*call(*inputs).shape, seed=1))

    def run(*inputs):
        with tf.GradientTape() as outer:
            outer.watch(dy)
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                y = call(*inputs)
                total = tf.reduce_sum(y * dy)
            dx = inner.gradient(total, inputs)
            penalty = sum(tf.reduce_sum(g * g * x) for g, x in zip(dx, inputs, strict=True))
        return [y, *dx, outer.gradient(penalty, dy)]

    hits.reset()
    return (tf.function(run) if graph else run)(*inputs)


@pytest.mark.slow
@EVERY_LAYER
@pytest.mark.parametrize("graph", [False, True])
def test_values_and_gradients(shape, cls, arguments, kernels, graph):
    x = distinct(*shape)
    make = functools.partial(cls, **arguments)
    expected = results("float32", make, graph, x)
    assert not hits
    actual = results("dfp16", make, graph, x)
    assert all(hits[kernel] for kernel in kernels)
    assert hits["batch_norm_backward"]
    assert_near(actual, expected)


@pytest.mark.slow
@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_concatenate(axis, graph):
    """Integers and two float32 tensors."""
    lengths = 4, 2, 7
    shapes = [[n if i == axis % 4 else 3 for i in range(4)] for n in lengths]
    inputs = [distinct(*shape) * scale for shape, scale in zip(shapes, (1, 3, 0.1), strict=True)]
    make = functools.partial(layers.Concatenate, axis=axis)
    expected = results("float32", make, graph, *inputs)
    assert not hits
    actual = results("dfp16", make, graph, *inputs)
    assert hits["concatenate"] >= 1
    assert hits["split"] >= 1
    assert_near(actual, expected)


def test_concatenate_of_one_tensor():
    x = distinct(2, 3)
    y = layers.Concatenate(dtype="dfp16")([carrying("dfp16")(x)])
    np.testing.assert_array_equal(y, dfpkeras.quantize(x.numpy(), 14).dequantize())


@pytest.mark.parametrize(
    ("make", "inputs", "options"),
    [
        (layers.GlobalAveragePooling1D, distinct(2, 5, 3), {"mask": np.ones((2, 5))}),
        (lambda **policy: layers.MaxPooling2D(256, **policy), distinct(1, 256, 256, 1), {}),
        (layers.GlobalMaxPooling2D, distinct(1, 256, 256, 1), {}),
    ],
)
def test_what_has_no_integer_path_is_what_keras_computes(make, inputs, options):
    x = carrying("dfp16")(inputs)
    hits.reset()
    y, expected = (make(dtype=policy)(x, **options) for policy in ("dfp16", "float32"))
    np.testing.assert_array_equal(y, expected)
    assert not hits


@pytest.mark.slow
@EVERY_LAYER
@pytest.mark.parametrize("policy", ["dfp16", "float32"])
def test_without_integers_or_policy_keras_computes(shape, cls, arguments, kernels, policy):
    x = distinct(*shape)
    if policy == "float32":
        x = carrying("dfp16")(x)
    hits.reset()
    y, expected = (cls(dtype=policy, **arguments)(x) for policy in (policy, "float32"))
    np.testing.assert_array_equal(y, expected)
    assert not hits


def test_concatenate_without_integers():
    x = distinct(2, 3)
    hits.reset()
    y = layers.Concatenate(dtype="dfp16")([x, x])
    np.testing.assert_array_equal(y, np.concatenate([x, x], -1))
    assert not hits


@pytest.mark.parametrize(
    ("layer", "argument"),
    [
        (layers.Cropping2D, 4),
        (layers.MaxPooling2D, 9),  # an error since Keras 3.14, before that an empty result
        (layers.AveragePooling2D, 9),
        (layers.Reshape, (7,)),
    ],
)
def test_errors_are_those_of_keras(layer, argument):
    def outcome(policy):
        try:
            return layer(argument, dtype=policy)(carrying("dfp16")(distinct(2, 6, 6, 3))).shape
        except Exception as error:
            return type(error), str(error)

    assert outcome("dfp16") == outcome("float32")


def test_nan_spreads_to_everything():
    x = distinct(2, 6, 6, 3).numpy()
    x[0, 0, 0, 0] = np.nan
    for layer in (layers.MaxPooling2D(2), layers.GlobalAveragePooling2D(), layers.ZeroPadding2D(1)):
        layer = type(layer).from_config(layer.get_config() | {"dtype": "dfp16"})
        y = layer(carrying("dfp16")(tf.constant(x)))
        assert np.isnan(y).all()


def norm_relu(x, filters, size=1):
    x = layers.Conv2D(filters, size, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def many_layers(size=16):
    """Every layer between integer ones: pooling, branches that are joined, and a head."""
    inputs = keras.Input((size, size, 4))
    x = layers.ZeroPadding2D(1)(norm_relu(inputs, 16, 3))
    x = layers.MaxPooling2D(3, 2)(x)
    branch = norm_relu(x, 8)
    pooled = layers.AveragePooling2D(3, 1, padding="same")(x)
    x = layers.Cropping2D(1)(layers.Concatenate()([x, branch, pooled]))
    sequence = layers.Reshape((-1, 8))(x)
    x = [
        layers.Flatten()(x),
        layers.GlobalMaxPooling2D()(x),
        layers.GlobalMaxPooling1D()(layers.AveragePooling1D(2)(sequence)),
        layers.Flatten()(layers.MaxPooling1D(3)(sequence)),
    ]
    return keras.Model(inputs, layers.Dense(3)(layers.Concatenate()(x)))


@pytest.mark.slow
def test_nothing_is_dequantised_between_integer_layers():
    with dtype_policy():
        model = many_layers()

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x, training=True) ** 2)
        return tape.gradient(loss, [v.value for v in model.trainable_variables])

    hits.reset()
    step(tf.constant(random_array(4, 16, 16, 4)))
    assert hits["concatenate"] == hits["split"] == 2
    assert hits["quantize_activation"] == 1  # the images
    assert hits["quantize_gradient"] == 2  # of the dense layer's result, and of its input
    assert hits["dequantize"] == 0


def networks():
    """Models whose layers are in the order of real networks."""

    def resnet_stem(inputs):
        x = norm_relu(layers.ZeroPadding2D(1)(inputs), 8, 3)
        x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
        return layers.GlobalAveragePooling2D()(norm_relu(x, 8, 3))

    def inception(inputs):
        x = norm_relu(inputs, 8, 3)
        branches = [norm_relu(x, 4), norm_relu(x, 8, 3)]
        branches.append(norm_relu(layers.MaxPooling2D(3, 1, padding="same")(x), 4))
        x = layers.AveragePooling2D(2)(layers.Concatenate()(branches))
        return layers.Flatten()(x)

    def dense_block(inputs):
        x = layers.MaxPooling2D(2)(norm_relu(inputs, 8, 3))
        for _ in range(2):
            x = layers.Concatenate()([x, layers.Conv2D(4, 3, padding="same")(norm_relu(x, 8))])
        return layers.GlobalAveragePooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))

    return [resnet_stem, inception, dense_block]


@pytest.mark.slow
@pytest.mark.parametrize("body", networks(), ids=lambda body: body.__name__)
def test_fit_and_predict_follow_float32(body):
    keras.utils.set_random_seed(3)
    with dtype_policy():
        inputs = keras.Input((12, 12, 3))
        model = keras.Model(inputs, layers.Dense(3)(body(inputs)))
    twin, losses = float32_twin(model), []
    images, labels = random_array(12, 12, 12, 3), np.arange(12) % 3
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for m in (model, twin):
        m.compile(keras.optimizers.SGD(0.02), loss)
        history = m.fit(images, labels, batch_size=5, epochs=3, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    assert relative_error(*losses) < QUANTIZATION_TOLERANCE
    predictions = [m.predict(images, verbose=0) for m in (model, twin)]
    assert relative_error(*predictions) < 3 * QUANTIZATION_TOLERANCE


def test_unknown_sizes():
    """Of batches and images."""
    with dtype_policy():
        inputs = keras.Input((None, None, 3))
        x = layers.MaxPooling2D(2)(norm_relu(inputs, 8, 3))
        x = layers.Concatenate()([x, layers.AveragePooling2D(3, 1, padding="same")(x)])
        x = layers.GlobalAveragePooling2D()(layers.ZeroPadding2D(1)(x))
        model = keras.Model(inputs, x)
    twin = float32_twin(model)
    for shape in ((2, 8, 8, 3), (3, 11, 9, 3)):
        hits.reset()
        images = random_array(*shape)
        actual = model.predict(images, verbose=0)
        assert hits["max_pool"] == hits["average_pool"] == hits["zero_pad"] == 1
        assert relative_error(actual, twin.predict(images, verbose=0)) < QUANTIZATION_TOLERANCE


@pytest.mark.slow
def test_export(tmp_path):
    with dtype_policy():
        model = many_layers()
    model.export(tmp_path / "saved", verbose=False)
    images = random_array(2, 16, 16, 4)
    loaded = tf.saved_model.load(tmp_path / "saved")
    assert relative_error(loaded.serve(tf.constant(images)), float32_twin(model)(images)) < 1e-5
