"""Layers with activations that are functions, products, dropout of channels, transposed
convolutions and EinsumDense, against Keras' own in float32."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given
from hypothesis import strategies as st
from keras import layers
from keras_support import (
    QUANTIZATION_TOLERANCE,
    assert_no_lost_gradient,
    dtype_policy,
    float32_twin,
    random_array,
    relative_error,
)

import dfpkeras
from dfpkeras.ops.kernel_hits import hits

FUNCTIONS = ("silu", "hard_silu", "gelu", "elu", "selu", "tanh", "softsign", "mish", "hard_sigmoid")


def outputs_and_gradients(model, x, training, traced):
    """The output of a model, and the gradients of x and of all weights."""

    arguments = {} if training is None else {"training": training}

    def compute(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, **arguments)
            loss = tf.reduce_sum(y * y)
        weights = [weight.value for weight in model.trainable_weights]
        return [y, *tape.gradient(loss, [x, *weights])]

    run = tf.function(compute) if traced else compute
    return [np.array(v) for v in run(tf.constant(x))]


def assert_like_float32(model, shape, training=True, traced=True):
    """Returns the kernels that ran."""
    for index, weight in enumerate(model.trainable_weights):
        weight.assign(random_array(*weight.shape, seed=10 + index) / 2)
    twin, x = float32_twin(model), random_array(*shape)
    hits.reset()
    ours = outputs_and_gradients(model, x, training, traced)
    ran = dict(hits)
    theirs = outputs_and_gradients(twin, x, training, traced)
    assert relative_error(ours[0], theirs[0]) < QUANTIZATION_TOLERANCE
    assert_no_lost_gradient(ours[1:], theirs[1:])
    assert relative_error(ours[1], theirs[1]) < 2 * QUANTIZATION_TOLERANCE
    return ran


def sequential(*made, shape=(6, 6, 3)):
    return keras.Sequential([keras.Input(shape), *made, layers.Flatten(), layers.Dense(3)])


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("traced", [True, False])
def test_a_function_after_a_batch_norm(name, traced):
    with dtype_policy():
        model = sequential(
            layers.Conv2D(16, 3), layers.BatchNormalization(), layers.Activation(name)
        )
        ran = assert_like_float32(model, (4, 6, 6, 3), traced=traced)
    if traced:  # one pass each way
        assert ran["batch_norm_forward"] == ran["batch_norm_backward"] == 1
        assert "activation_forward" not in ran and "activation_backward" not in ran


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("traced", [True, False])
def test_a_function_of_a_convolution(name, traced):
    with dtype_policy():
        model = sequential(layers.Conv2D(16, 3, activation=name), layers.Conv2D(4, 2))
        ran = assert_like_float32(model, (4, 6, 6, 3), traced=traced)
    assert ran["activation_forward"] == ran["activation_backward"] == 1


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("channels", [5, 16])
def test_a_function_after_batch_norms_of_every_kind(training, center, scale, channels):
    """With and without parameters, of batch or moving statistics, of float32 or blocks."""
    with dtype_policy():
        norm = layers.BatchNormalization(center=center, scale=scale)
        model = sequential(layers.Conv2D(channels, 3), norm, layers.Activation("silu"))
        model.build()
        norm.moving_mean.assign(random_array(channels, seed=1))
        norm.moving_variance.assign(1 + random_array(channels, seed=2) ** 2)
        assert_like_float32(model, (4, 6, 6, 3), training)


def test_a_function_of_a_sum_after_a_batch_norm():
    with dtype_policy():
        inputs = keras.Input((6, 6, 3))
        a, b = (layers.Conv2D(16, 3, padding="same")(inputs) for _ in range(2))
        x = layers.Add()([layers.BatchNormalization()(a), b])
        outputs = layers.Dense(3)(layers.Flatten()(layers.Activation("silu")(x)))
        assert_like_float32(keras.Model(inputs, outputs), (4, 6, 6, 3))


def test_a_function_read_twice_needs_no_unfused_result():
    with dtype_policy():
        inputs = keras.Input((6, 6, 3))
        x = layers.BatchNormalization()(layers.Conv2D(16, 3)(inputs))
        x = layers.Activation("silu")(x)
        x = layers.Add()([layers.Conv2D(16, 1)(x), layers.Conv2D(16, 1)(x)])
        model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
        ran = assert_like_float32(model, (4, 6, 6, 3))
    assert ran["batch_norm_forward"] == 1
    assert "activation_backward" not in ran


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.LeakyReLU(0.1),
        lambda: layers.ReLU(negative_slope=0.1),
        lambda: layers.Activation("leaky_relu"),
        lambda: layers.ELU(0.7),
    ],
)
def test_layers_with_a_parameter(layer):
    with dtype_policy():
        model = sequential(layers.Conv2D(16, 3), layer(), layers.Conv2D(4, 1))
        ran = assert_like_float32(model, (4, 6, 6, 3))
    assert ran["activation_forward"] == ran["activation_backward"] == 1


def test_second_order_gradients_of_a_function():
    x = tf.constant(random_array(3, 7))
    with dtype_policy():
        results = []
        for policy in ("dfp16", "float32"):
            layer = layers.Activation("silu", dtype=policy)
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    y = tf.reduce_sum(layer(x) ** 2)
                dx = inner.gradient(y, x)
                squares = tf.reduce_sum(dx**2)
            results.append(outer.gradient(squares, x))
    assert relative_error(*results) < QUANTIZATION_TOLERANCE


def squeeze_and_excite(inputs, keepdims=True):
    gate = layers.GlobalAveragePooling2D(keepdims=keepdims)(inputs)
    gate = layers.Conv2D(4, 1, activation="silu")(gate)
    gate = layers.Conv2D(inputs.shape[-1], 1, activation="sigmoid")(gate)
    return layers.Multiply()([inputs, gate])


@pytest.mark.parametrize("traced", [True, False])
def test_squeeze_and_excite(traced):
    with dtype_policy():
        inputs = keras.Input((6, 6, 3))
        x = layers.Conv2D(16, 3, activation="silu")(inputs)
        x = layers.Conv2D(4, 3)(squeeze_and_excite(x))
        model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
        ran = assert_like_float32(model, (4, 6, 6, 3), traced=traced)
    assert (ran["multiply"], ran["sum_products"]) == (2, 1)


@pytest.mark.parametrize("count", [2, 3])
def test_products_of_one_shape(count):
    with dtype_policy():
        inputs = keras.Input((6, 6, 3))
        factors = [layers.Conv2D(16, 3, activation="relu")(inputs) for _ in range(count)]
        x = layers.Multiply()(factors)
        model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
        model(random_array(4, 6, 6, 3))
        assert_like_float32(model, (4, 6, 6, 3), traced=False)


@pytest.mark.parametrize("shape", [(4, 5), (4, 1, 6), (4, 5, 1)])
def test_products_that_keras_computes(shape):
    """Of tensors without integers, and of shapes that broadcast in another way."""
    a, b = tf.constant(random_array(4, 5, 6)), tf.constant(random_array(*shape))
    b = b[..., None] if len(shape) == 2 else b
    with dtype_policy():
        np.testing.assert_array_equal(layers.Multiply()([a, b]), a * b)
    assert not hits["multiply"]


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize(
    "dropout",
    [
        lambda: layers.Dropout(0.5, noise_shape=(None, 1, 1, 1), seed=3),
        lambda: layers.Dropout(0.5, noise_shape=(None, 1, 1, 16), seed=3),
        lambda: layers.SpatialDropout2D(0.5, seed=3),
    ],
)
def test_dropout_of_images_and_channels(dropout, traced):
    """The random numbers are those that Keras draws."""
    with dtype_policy():
        model = sequential(layers.Conv2D(16, 3, activation="relu"), dropout(), layers.Conv2D(4, 1))
        ran = assert_like_float32(model, (8, 6, 6, 3), traced=traced)
        assert ran["multiply"] >= 2
        assert_like_float32(model, (8, 6, 6, 3), training=False)


def test_dropout_of_elements_is_keras_own():
    with dtype_policy():
        layer = layers.Dropout(0.5, seed=1)
        x = tf.constant(random_array(4, 6, 6, 3))
        expected = layers.Dropout(0.5, seed=1, dtype="float32")(x, training=True)
        np.testing.assert_array_equal(layer(x, training=True), expected)
    assert not hits["multiply"]


@st.composite
def transposed(draw):
    """Arguments of a transposed convolution of images or volumes, and the shape of its input."""
    strides, dilation_rate = draw(st.sampled_from([(1, 1), (2, 1), (3, 1), (1, 2)]))
    arguments = {
        "filters": draw(st.sampled_from([1, 3, 16, 40])),
        "kernel_size": draw(st.integers(1, 4)),
        "strides": strides,
        "dilation_rate": dilation_rate,
        "padding": draw(st.sampled_from(["valid", "same"])),
        "output_padding": draw(st.sampled_from([None, *range(strides)])),
        "use_bias": draw(st.booleans()),
        "bias_initializer": "normal",
    }
    size = draw(st.sampled_from([[6, 6], [6, 6], [3, 3, 4]]))
    size = [draw(st.integers(1, most)) for most in size]
    return arguments, (draw(st.integers(1, 3)), *size, draw(st.sampled_from([1, 3, 16])))


def places(size, arguments, out):
    """[(i, k, o)]: along one axis, pixel i of the input reaches pixel o of the result by tap k."""
    stride, dilation = arguments["strides"], arguments["dilation_rate"]
    extent = (arguments["kernel_size"] - 1) * dilation + 1
    before = 0
    if arguments["padding"] == "same":
        before = max((size - 1) * stride + extent - out, 0) // 2
    found = [
        (i, k, i * stride + k * dilation - before)
        for i in range(size)
        for k in range(arguments["kernel_size"])
    ]
    return [(i, k, o) for i, k, o in found if 0 <= o < out]


def transposed_by_definition(x, w, bias, arguments, shape):
    """The result in float64, and the gradients of the sum of its squares."""
    x, w = x.astype(float), w.astype(float)
    sizes = zip(x.shape[1:-1], shape[1:-1], strict=True)
    axes = [places(size, arguments, out) for size, out in sizes]
    # Of each tap: a pixel of x, an element of w, and the pixel of the result, as indices.
    taps = [tuple(zip(*tap, strict=True)) for tap in itertools.product(*axes)]
    every = (slice(None),)
    y = np.zeros(shape) + (0 if bias is None else bias.astype(float))
    for i, k, o in taps:
        y[every + o] += x[every + i] @ w[k].T
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for i, k, o in taps:
        dx[every + i] += 2 * y[every + o] @ w[k]
        dw[k] += 2 * y[every + o].T @ x[every + i]
    return [y, dx, dw] if bias is None else [y, dx, dw, 2 * y.sum(tuple(range(y.ndim - 1)))]


@pytest.mark.slow
@given(transposed())
def test_transposed_convolutions(case):
    arguments, shape = case
    with dtype_policy():
        cls = layers.Conv2DTranspose if len(shape) == 4 else layers.Conv3DTranspose
        layer, x = cls(**arguments), random_array(*shape)
        layer.build(shape)
        y = tf.constant(0.0)
        try:
            y = layer(tf.constant(x))
        except (ValueError, tf.errors.OpError):  # as without dfpkeras: no result of this size
            assert not hits["transposed_conv_forward"]
        assume(tf.size(y) and hits["transposed_conv_forward"])
        hits.reset()
        results = outputs_and_gradients(layer, x, None, False)
    assert hits["transposed_conv_forward"] == hits["transposed_conv_backward_data"] == 1
    assert hits["conv_backward_weights"] == 1
    weights = [weight.numpy() for weight in layer.weights]
    bias = weights[1] if arguments["use_bias"] else None
    expected = transposed_by_definition(x, weights[0], bias, arguments, results[0].shape)
    assert results[0].shape == tuple(layer.compute_output_shape(shape))
    # The terms of a bias' gradient may cancel.
    floor = 0.1 * max(np.abs(gradient).max() for gradient in expected[1:])
    for index, (ours, exact) in enumerate(zip(results, expected, strict=True)):
        scale = max(floor if index else 1e-30, np.abs(exact).max())
        assert np.abs(ours - exact).max() <= 2 * QUANTIZATION_TOLERANCE * scale


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_transposed_convolutions_of_unknown_sizes(data_format):
    shape = (None, None, 16) if data_format == "channels_last" else (16, None, None)
    with dtype_policy():
        inputs = keras.Input(shape)
        outputs = layers.Conv2DTranspose(16, 3, 2, "same", data_format=data_format)(inputs)
        model = keras.Model(inputs, outputs)
        for size in (3, 5):
            given_shape = [size if n is None else n for n in shape]
            assert_like_float32(model, (2, *given_shape))


EQUATIONS = [
    ("abc,cd->abd", (None, 5), "d"),
    ("abc,cde->abde", (None, 3, 4), "de"),
    ("abc,cde->abde", (None, 3, 4), "e"),
    ("abc,cde->abde", (7, 3, 4), "be"),
    ("ab,bcd->acd", (3, 4), None),
    ("...c,cd->...d", 5, None),
    ("abc,bd->acd", (16, 5), "d"),  # summed over in the middle, another order, several
    ("abc,cd->adb", (5, None), "d"),
    ("abc,cde->aebd", (4, None, 3), "de"),
    ("abc,dcb->ad", 5, "d"),
    ("abc,dbe->aecd", (3, None, 5), "ed"),
    ("abc,bc->a", (), None),
    ("ab...,bc->ac...", 5, "c"),
    ("abc,bcd->abd", (7, 5), "bd"),  # a product for each b
    ("abc,acd->abd", (7, 5), "d"),
    ("abc,dcb->abd", (7, 5), "d"),
    ("abc,bcd->adb", (5, 7), "b"),
    ("abcd,bde->aecb", (5, 3, 7), "e"),
    ("abcd,bcde->abce", (7, 3, 16), "ce"),
    ("...bc,bc->...b", 7, "b"),
]
SHAPES = {"ab": (4, 16), "abcd": (4, 7, 3, 16)}


@pytest.mark.parametrize(("equation", "output_shape", "bias_axes"), EQUATIONS, ids=str)
def test_einsum_dense(equation, output_shape, bias_axes):
    shape = SHAPES.get(equation.partition(",")[0], (4, 7, 16))
    with dtype_policy():
        layer = layers.EinsumDense(
            equation,
            output_shape,
            activation="gelu" if bias_axes else None,
            bias_axes=bias_axes,
            bias_initializer="normal",
        )
        inputs = keras.Input(batch_shape=shape)
        ran = assert_like_float32(keras.Sequential([inputs, layer]), shape)
        assert dfpkeras.report(layer).rows[0].reason == "matrix product"
    kind = "dense" if "dense_forward" in ran else "conv"
    for product in ("forward", "backward_data", "backward_weights"):
        assert ran[f"{kind}_{product}"] == 1


@pytest.mark.parametrize(
    ("equation", "output_shape"),
    [("abcd,de->acbe", (3, None, 5)), ("abcd,cde->abec", (None, 5, 3))],
)
def test_einsum_dense_of_unknown_sizes(equation, output_shape):
    """Of batch and sequence."""
    with dtype_policy():
        layer = layers.EinsumDense(equation, output_shape, bias_axes="e")
        model = keras.Sequential([keras.Input((None, 3, 16)), layer])
        for length in (4, 1):
            assert_like_float32(model, (2, length, 3, 16))


@pytest.mark.parametrize(
    ("equation", "output_shape", "shape"),
    [
        ("ab,b->ab", (16,), (4, 16)),  # nothing is summed over
        ("ab,c->abc", (16, 3), (4, 16)),
        ("abc,cd->ad", (5,), (4, 7, 16)),  # summed over in the input alone
        ("ab,abc->ac", (5,), (4, 16)),  # a product for each index, of one row
    ],
)
def test_an_equation_of_another_kind_is_keras_own(equation, output_shape, shape):
    x = random_array(*shape)
    with dtype_policy():
        layer = layers.EinsumDense(equation, output_shape)
        layer.build(shape)
        twin = layers.EinsumDense(equation, output_shape, dtype="float32")
        twin.build(shape)
        twin.set_weights(layer.get_weights())
        np.testing.assert_array_equal(layer(x), twin(x))
    assert not hits
    assert dfpkeras.report(layer).rows[0].reason == "EinsumDense has no integer path yet"


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": False}, {"axis": 2}])
@pytest.mark.parametrize("channels", [24, 5])
def test_layer_normalization(channels, options, traced):
    with dtype_policy():
        norm = layers.LayerNormalization(**options)
        model = keras.Sequential(
            [keras.Input((7, 16)), layers.Dense(channels), norm, layers.Dense(5)]
        )
        ran = assert_like_float32(model, (4, 7, 16), traced=traced)
    assert ran["layer_norm_forward"] == ran["layer_norm_backward"] == 1


@pytest.mark.parametrize("options", [{"axis": 1}, {"axis": [1, 2]}])
def test_layer_normalization_of_other_axes_is_keras_own(options):
    x = random_array(4, 7, 16)
    with dtype_policy():
        layer = layers.LayerNormalization(**options)
        twin = layers.LayerNormalization(**options, dtype="float32")
        np.testing.assert_array_equal(layer(x), twin(x))
    assert not hits


def test_second_order_gradients_of_a_layer_normalization():
    x = tf.constant(random_array(4, 7, 16))
    with dtype_policy():
        results = []
        for policy in ("dfp16", "float32"):
            layer = layers.LayerNormalization(dtype=policy)
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    y = tf.reduce_sum(layer(x) ** 3)
                squares = tf.reduce_sum(inner.gradient(y, x) ** 2)
            results.append(outer.gradient(squares, x))
    assert relative_error(*results) < 2 * QUANTIZATION_TOLERANCE
