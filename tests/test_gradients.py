"""Forward results and gradients of the routed layers, against float32 and the exact oracle."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from keras_support import (
    QUANTIZATION_TOLERANCE,
    dtype_policy,
    float32_twin,
    random_array,
    relative_error,
)

from dfpkeras.kernels.number_format import ACTIVATION_BITS, GRADIENT_BITS, WEIGHT_BITS
from dfpkeras.ops.kernel_hits import hits

layers = keras.layers


@pytest.fixture(autouse=True)
def dfp16():
    with dtype_policy():
        yield


# name: (layer, input shape)
LAYERS = {
    "conv2d": (lambda: layers.Conv2D(6, 3), (2, 8, 7, 4)),
    "conv2d_pointwise": (lambda: layers.Conv2D(6, 1, use_bias=False), (2, 5, 5, 8)),
    "conv2d_strides": (lambda: layers.Conv2D(6, (3, 2), strides=(2, 3)), (2, 9, 11, 4)),
    "conv2d_same": (lambda: layers.Conv2D(5, 4, strides=2, padding="same"), (2, 9, 7, 3)),
    "conv2d_dilation": (
        lambda: layers.Conv2D(5, (3, 2), padding="same", dilation_rate=(2, 3)),
        (2, 9, 8, 3),
    ),
    "conv2d_groups": (lambda: layers.Conv2D(6, 3, groups=3, padding="same"), (2, 6, 6, 9)),
    "conv2d_depthwise": (lambda: layers.Conv2D(6, 3, groups=6, strides=2), (2, 9, 9, 6)),
    "depthwise2d": (lambda: layers.DepthwiseConv2D(3, strides=2, padding="same"), (2, 9, 8, 6)),
    "depthwise2d_multiplier": (
        lambda: layers.DepthwiseConv2D((3, 2), depth_multiplier=3, activation="sigmoid"),
        (2, 7, 8, 5),
    ),
    "depthwise2d_dilation": (
        lambda: layers.DepthwiseConv2D(3, padding="same", dilation_rate=2, use_bias=False),
        (2, 8, 8, 5),
    ),
    "depthwise2d_channels_first": (
        lambda: layers.DepthwiseConv2D(3, padding="same", data_format="channels_first"),
        (2, 5, 8, 7),
    ),
    "depthwise1d": (lambda: layers.DepthwiseConv1D(3, strides=2, padding="same"), (2, 11, 4)),
    "conv2d_channels_first": (
        lambda: layers.Conv2D(6, 3, strides=2, padding="same", data_format="channels_first"),
        (2, 4, 8, 7),
    ),
    "conv2d_activation": (lambda: layers.Conv2D(6, 3, activation="sigmoid"), (2, 6, 6, 4)),
    "conv1d": (lambda: layers.Conv1D(6, 3, strides=2), (2, 11, 4)),
    "conv1d_same": (lambda: layers.Conv1D(6, 3, padding="same", dilation_rate=2), (2, 9, 4)),
    "conv1d_causal": (
        lambda: layers.Conv1D(6, 3, padding="causal", dilation_rate=2, groups=2),
        (2, 9, 4),
    ),
    "conv1d_channels_first": (
        lambda: layers.Conv1D(6, 3, padding="causal", data_format="channels_first"),
        (2, 4, 9),
    ),
    "conv1d_activation": (lambda: layers.Conv1D(6, 2, activation="sigmoid"), (2, 9, 4)),
    "conv3d": (lambda: layers.Conv3D(6, 3, strides=(1, 2, 1), padding="same"), (2, 4, 5, 6, 3)),
    "conv3d_groups": (
        lambda: layers.Conv3D(6, (2, 1, 3), groups=3, activation="sigmoid"),
        (2, 4, 5, 6, 9),
    ),
    "conv3d_channels_first": (
        lambda: layers.Conv3D(6, 2, dilation_rate=(2, 1, 1), data_format="channels_first"),
        (2, 3, 4, 5, 6),
    ),
    "dense": (lambda: layers.Dense(7), (5, 9)),
    "dense_no_bias": (lambda: layers.Dense(7, use_bias=False), (5, 9)),
    "dense_rank_3": (lambda: layers.Dense(7, activation="sigmoid"), (2, 3, 9)),
    "dense_rank_5": (lambda: layers.Dense(7), (2, 2, 3, 2, 5)),
}


def build(name):
    make, shape = LAYERS[name]
    model = keras.Sequential([keras.Input(batch_shape=shape), make()])
    for index, weight in enumerate(model.weights):
        weight.assign(random_array(*weight.shape, seed=10 + index))
    return model, tf.constant(random_array(*shape))


def output_and_gradients(model, x, dy):
    """[y, dx, dw, (db)] for the gradient `dy` arriving at the output."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x)
    return [y, *tape.gradient(y, [x, *model.trainable_variables], output_gradients=dy)]


def channels_last_twin(model):
    """The model under float32, channels-last: TensorFlow convolves no other images on some CPUs."""
    layer = model.layers[0]
    config = layer.get_config() | {"dtype": "float32"}
    if config.get("data_format") != "channels_first":
        return float32_twin(model)
    spatial = tuple(range(2, layer.rank + 2))
    twin = keras.Sequential(
        [
            keras.Input(batch_shape=model.input_shape),
            layers.Permute((*spatial, 1)),
            type(layer).from_config(config | {"data_format": "channels_last"}),
            layers.Permute((layer.rank + 1, *range(1, layer.rank + 1))),
        ]
    )
    twin.set_weights(model.get_weights())
    return twin


def kernel_hits():
    return {name: count for name, count in hits.items() if not name.startswith("quantize")}


@pytest.mark.slow
@pytest.mark.parametrize("in_graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("name", LAYERS)
def test_against_float32(name, in_graph):
    model, x = build(name)
    dy = tf.constant(random_array(*model.output_shape, seed=3))
    run = tf.function(output_and_gradients) if in_graph else output_and_gradients
    results = run(model, x, dy)
    kind = next((kind for kind in ("dense", "depthwise") if name.startswith(kind)), "conv")
    biases = {"bias_gradient": 1} if model.layers[0].use_bias else {}
    assert kernel_hits() == biases | {
        f"{kind}_forward": 1,
        f"{kind}_backward_data": 1,
        f"{kind}_backward_weights": 1,
    }
    expected = output_and_gradients(channels_last_twin(model), x, dy)
    for actual, wanted in zip(results, expected, strict=True):
        assert 0 < relative_error(actual, wanted) < QUANTIZATION_TOLERANCE


def exact_convolution(x, w, dy, **options):
    """y, dx, dw of the quantised operands in float64, from int64 sums."""
    x = reference.quantize(x, bits=ACTIVATION_BITS)
    w = reference.quantize(w, bits=WEIGHT_BITS)
    dy = reference.quantize(dy, bits=GRADIENT_BITS)
    y = reference.forward(x.data, w.data, **options)
    dx = reference.backward_data(dy.data, w.data, x.data.shape, **options)
    dw = reference.backward_weights(x.data, dy.data, w.data.shape, **options)
    return (
        np.ldexp(y.astype(np.float64), x.exponent + w.exponent),
        np.ldexp(dx.astype(np.float64), dy.exponent + w.exponent),
        np.ldexp(dw.astype(np.float64), x.exponent + dy.exponent),
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": 2, "padding": "same"},
        {"groups": 2, "padding": "same"},
        {"dilation_rate": (1, 2)},
    ],
    ids=str,
)
def test_conv2d_is_exact_on_quantized_operands(options):
    layer = layers.Conv2D(6, 3, use_bias=False, **options)
    x = random_array(2, 9, 8, 4)
    layer.build(x.shape)
    w = random_array(*layer.kernel.shape, seed=1)
    layer.kernel.assign(w)
    dy = random_array(*layer.compute_output_shape(x.shape), seed=2)
    results = output_and_gradients(layer, tf.constant(x), tf.constant(dy))
    for actual, exact in zip(results, exact_convolution(x, w, dy, **options), strict=True):
        assert relative_error(actual, exact) < 1e-6


def test_depthwise_is_exact_on_quantized_operands():
    options = {"strides": 2, "padding": "same"}
    layer = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, **options)
    x = random_array(2, 9, 8, 4)
    layer.build(x.shape)
    w = random_array(*layer.kernel.shape, seed=1)
    layer.kernel.assign(w)
    dy = random_array(*layer.compute_output_shape(x.shape), seed=2)
    results = output_and_gradients(layer, tf.constant(x), tf.constant(dy))
    exact = exact_convolution(x, w.reshape(3, 3, 1, 8), dy, groups=4, **options)
    for actual, wanted in zip(results, exact, strict=True):
        assert relative_error(actual, wanted.reshape(actual.shape)) < 1e-6


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: layers.SeparableConv2D(6, 3, strides=2, padding="same"), (2, 9, 8, 4)),
        (lambda: layers.SeparableConv2D(6, 3, dilation_rate=2, activation="sigmoid"), (2, 9, 8, 4)),
        (lambda: layers.SeparableConv1D(5, 3, depth_multiplier=2, use_bias=False), (2, 9, 4)),
    ],
)
def test_separable_convolutions_are_two_convolutions(make, shape):
    model = keras.Sequential([keras.Input(batch_shape=shape), make()])
    x = tf.constant(random_array(*shape))
    dy = tf.constant(random_array(*model.output_shape, seed=3))
    hits.reset()
    results = output_and_gradients(model, x, dy)
    for product in ("forward", "backward_data", "backward_weights"):
        assert hits[f"depthwise_{product}"] == hits[f"conv_{product}"] == 1
    expected = output_and_gradients(float32_twin(model), x, dy)
    for actual, wanted in zip(results, expected, strict=True):
        assert relative_error(actual, wanted) < 2 * QUANTIZATION_TOLERANCE


def test_conv1d_is_exact_on_quantized_operands():
    layer = layers.Conv1D(6, 3, strides=2, padding="same", use_bias=False)
    x = random_array(2, 9, 4)
    layer.build(x.shape)
    w = random_array(*layer.kernel.shape, seed=1)
    layer.kernel.assign(w)
    dy = random_array(2, 5, 6, seed=2)
    y, dx, dw = exact_convolution(x[:, None], w[None], dy[:, None], strides=2, padding="same")
    results = output_and_gradients(layer, tf.constant(x), tf.constant(dy))
    for actual, exact in zip(results, (y[:, 0], dx[:, 0], dw[0]), strict=True):
        assert relative_error(actual, exact) < 1e-6


def test_dense_is_exact_on_quantized_operands():
    layer = layers.Dense(7, use_bias=False)
    x, dy = random_array(2, 3, 9), random_array(2, 3, 7, seed=2)
    layer.build(x.shape)
    w = random_array(9, 7, seed=1)
    layer.kernel.assign(w)
    y, dx, dw = exact_convolution(
        x.reshape(1, 6, 1, 9), w.reshape(1, 1, 9, 7), dy.reshape(1, 6, 1, 7)
    )
    results = output_and_gradients(layer, tf.constant(x), tf.constant(dy))
    for actual, exact in zip(results, (y, dx, dw), strict=True):
        assert relative_error(actual, exact.reshape(actual.shape)) < 1e-6


@pytest.mark.parametrize("name", ["conv2d_same", "conv1d_causal", "depthwise2d", "dense"])
def test_against_numerical_differences(name):
    """Central differences of the float64-summed loss along random directions.

    The step is large compared with the quantisation step (2**-13 of the maximum): a linear layer
    under a linear loss has no curvature, so a large step adds no error.
    """
    model, x = build(name)
    dy = random_array(*model.output_shape, seed=3)
    _, dx, dw = output_and_gradients(model, x, tf.constant(dy))[:3]
    kernel = model.layers[0].kernel
    w = kernel.numpy()

    def loss(x, w):
        kernel.assign(w)
        return np.sum(np.asarray(model(x), np.float64) * dy)

    for seed in (21, 22, 23):
        direction = np.sign(random_array(*x.shape, seed=seed)) * np.abs(x)
        change = loss(x + 0.5 * direction, w) - loss(x - 0.5 * direction, w)
        scale = np.linalg.norm(direction) * np.linalg.norm(dx)
        assert abs(change - np.sum(direction * dx)) < 1e-3 * scale
        direction = np.sign(random_array(*w.shape, seed=seed)) * np.abs(w)
        change = loss(x, w + 0.5 * direction) - loss(x, w - 0.5 * direction)
        scale = np.linalg.norm(direction) * np.linalg.norm(dw)
        assert abs(change - np.sum(direction * dw)) < 1e-3 * scale


def two_layers(kind):
    if kind == "conv2d":
        inputs, first = keras.Input((6, 6, 3)), layers.Conv2D(4, 3, activation="sigmoid")
        second = layers.Conv2D(3, 2, strides=2, padding="same")
    elif kind == "conv3d":
        inputs, first = keras.Input((4, 5, 5, 3)), layers.Conv3D(4, 3, activation="sigmoid")
        second = layers.Conv3D(3, 2, strides=2, padding="same")
    elif kind == "depthwise":
        inputs, first = keras.Input((6, 6, 3)), layers.DepthwiseConv2D(3, activation="sigmoid")
        second = layers.DepthwiseConv2D(2, strides=2, padding="same", depth_multiplier=2)
    else:
        inputs, first = keras.Input((6,)), layers.Dense(5, activation="sigmoid")
        second = layers.Dense(3)
    return keras.Sequential([inputs, first, second])


def gradient_penalty(model, x, of_input):
    """Gradients of |d loss / d x|**2 or |d loss / d kernel|**2, by x and the kernels.

    Every product in them is one of a forward or a backward pass.
    """
    kernels = [w.value for w in model.trainable_variables if "kernel" in w.path]
    sources = [x, *kernels]
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = tf.reduce_sum(model(x) ** 3)
        first = inner.gradient(loss, x if of_input else kernels)
        penalty = sum(tf.reduce_sum(gradient**2) for gradient in tf.nest.flatten(first))
    return outer.gradient(penalty, sources)


@pytest.mark.slow
@pytest.mark.parametrize("of_input", [True, False], ids=["of_input", "of_kernels"])
@pytest.mark.parametrize("in_graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("kind", ["conv2d", "conv3d", "depthwise", "dense"])
def test_second_order_gradients(kind, in_graph, of_input):
    model = two_layers(kind)
    x = tf.constant(random_array(3, *model.input_shape[1:]))
    run = tf.function(gradient_penalty) if in_graph else gradient_penalty
    results = run(model, x, of_input)
    prefix = kind.removesuffix("2d").removesuffix("3d")
    assert hits[f"{prefix}_backward_weights"] >= 4
    expected = gradient_penalty(float32_twin(model), x, of_input)
    for actual, wanted in zip(results, expected, strict=True):
        assert relative_error(actual, wanted) < QUANTIZATION_TOLERANCE


@pytest.mark.slow
def test_jacobian_and_forward_mode():
    model = two_layers("dense")
    twin = float32_twin(model)
    x, direction = tf.constant(random_array(3, 6)), tf.constant(random_array(3, 6, seed=1))

    def jacobian(model):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x)
        return tape.jacobian(y, x)

    def forward_mode(model):
        with tf.autodiff.ForwardAccumulator(x, direction) as accumulator:
            y = model(x)
        return accumulator.jvp(y)

    # A jacobian is vectorised, so that only the model itself runs on kernels.
    for derivative, kernels in ((jacobian, 2), (forward_mode, 4)):
        hits.reset()
        result = derivative(model)
        assert sum(kernel_hits().values()) >= kernels
        assert relative_error(result, derivative(twin)) < QUANTIZATION_TOLERANCE


def test_gradient_of_a_gather_arrives_as_slices():
    layer = layers.Dense(3, use_bias=False)
    x = tf.constant(random_array(4, 5))
    layer.build(x.shape)

    def gradient(compute):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(compute(x), [1, 3, 1]) ** 2)
        return tape.gradient(loss, layer.kernel.value)

    expected = gradient(lambda x: tf.matmul(x, layer.kernel.value))
    assert relative_error(gradient(layer), expected) < QUANTIZATION_TOLERANCE
    assert hits["dense_backward_weights"] == 1


def test_empty_batch():
    model = keras.Sequential([layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)])
    x = tf.zeros((0, 6, 6, 2))
    with tf.GradientTape() as tape:
        y = model(x)
        loss = tf.reduce_sum(y)
    assert y.shape == (0, 3)
    for gradient, weight in zip(
        tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True
    ):
        np.testing.assert_array_equal(gradient, np.zeros(weight.shape))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_numbers_come_through(bad):
    layer = layers.Conv2D(4, 3)
    x = random_array(2, 6, 6, 3)
    x[1, 2, 3, 0] = bad
    y = layer(x)
    assert np.isnan(y).all()
    dy = np.zeros(y.shape, "float32")
    dy[0, 0, 0, 0] = bad
    _, dx, dw, _ = output_and_gradients(layer, tf.constant(random_array(2, 6, 6, 3)), dy)
    assert np.isnan(dx).all() and np.isnan(dw).all()
