"""Convolutions' results in blocks, and the kernels that read them in place of FP32."""

from functools import partial

import numpy as np
import pytest
import reference
import reference_blocks
from hypothesis import given
from hypothesis import strategies as st

from dfpkeras import kernels, quantize
from dfpkeras.kernels.block_tensor import BlockTensor, block_of
from dfpkeras.kernels.quantized_tensor import NONFINITE_EXPONENT, DFPTensor
from dfpkeras.ops.kernel_hits import hits

PIXELS = (0, 1, 2)
WIDTHS = (16, 32, 48, 64, 80, 96, 128, 144, 320)


@pytest.mark.parametrize("channels", [1, 8, 15, 16, 24, 32, 48, 64, 96, 528, 2048])
def test_channels_of_a_block(channels):
    assert block_of(channels) == reference_blocks.block_of(channels)


@st.composite
def layers(draw):
    """Operands and arguments of a convolution whose two sides make blocks."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups = draw(st.sampled_from([1, 1, 1, 2]))
    channels, filters = (
        groups * draw(st.sampled_from(WIDTHS)),
        groups * draw(st.sampled_from(WIDTHS)),
    )
    size = draw(st.sampled_from([1, 2, 3, 3, 5]))
    algorithm = "direct"
    strides = draw(st.integers(1, 3))
    if (size, strides, groups) == (3, 1, 1):
        algorithm = draw(st.sampled_from(["direct", "winograd_2x2", "winograd_4x4"]))
    height, width = (draw(st.integers(size, 11)) for _ in range(2))
    images = (draw(st.integers(1, 3)), height, width, channels)
    options = {
        "strides": strides,
        "padding": draw(st.sampled_from(["valid", "same"])),
        "groups": groups,
        "algorithm": algorithm,
    }
    x = _random_tensor(rng, images)
    return rng, x, _random_tensor(rng, (size, size, channels // groups, filters)), options


def _random_tensor(rng, shape):
    x = rng.standard_normal(shape) * np.exp2(rng.integers(-9, 9, shape[-1]))
    return quantize(x.astype(np.float32), 14)


def _check_blocks(result, expected, block):
    data, scales = reference_blocks.to_blocks(expected, block)
    np.testing.assert_array_equal(result.data, data)
    np.testing.assert_array_equal(result.scales, scales)
    reference.assert_same_bits(result.dequantize(), reference_blocks.values(data, scales))


@pytest.mark.slow
@given(layer=layers())
def test_results_in_blocks(on_every_isa, on_every_thread_count, layer):
    """They are the FP32 results, whose own oracle is elsewhere, rounded in blocks."""
    rng, x, w, options = layer
    groups = options["groups"]
    bias = rng.standard_normal(w.shape[-1]).astype(np.float32)
    y = kernels.conv2d_forward(x, w, bias=bias, **options)
    dy = _random_tensor(rng, y.shape)
    dx = kernels.conv2d_backward_data(dy, w, x.shape, **options)
    options = options | {"in_blocks": True}
    forward = partial(kernels.conv2d_forward, x, w, bias=bias, with_channel_range=True, **options)
    backward = partial(kernels.conv2d_backward_data, dy, w, x.shape, **options)
    for by_threads in on_every_isa(lambda: on_every_thread_count(forward)).values():
        for result, channel_range in by_threads.values():
            _check_blocks(result, y, reference_blocks.block_of(w.shape[-1] // groups))
            found = result.dequantize()
            np.testing.assert_array_equal(channel_range, [found.min(PIXELS), found.max(PIXELS)])
    for by_threads in on_every_isa(lambda: on_every_thread_count(backward)).values():
        for result in by_threads.values():
            _check_blocks(result, dx, reference_blocks.block_of(x.shape[-1] // groups))


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.sampled_from(WIDTHS),
    multiplier=st.sampled_from([1, 1, 2, 3]),
    size=st.integers(1, 5),
    strides=st.integers(1, 3),
    padding=st.sampled_from(["valid", "same"]),
)
def test_depthwise_results_in_blocks(
    on_every_isa, on_every_thread_count, seed, channels, multiplier, size, strides, padding
):
    rng, options = np.random.default_rng(seed), {"strides": strides, "padding": padding}
    x = _random_tensor(rng, (2, *rng.integers(size, 12, 2), channels))
    w = _random_tensor(rng, (size, size, channels, multiplier))
    bias = rng.standard_normal(channels * multiplier).astype(np.float32)
    y = kernels.depthwise_conv2d_forward(x, w, bias=bias, **options)
    dy = _random_tensor(rng, y.shape)
    dx = kernels.depthwise_conv2d_backward_data(dy, w, x.shape, **options)
    options |= {"in_blocks": True}
    forward = partial(kernels.depthwise_conv2d_forward, x, w, bias=bias, **options)
    backward = partial(kernels.depthwise_conv2d_backward_data, dy, w, x.shape, **options)
    for by_threads in on_every_isa(lambda: on_every_thread_count(forward)).values():
        for result in by_threads.values():
            _check_blocks(result, y, reference_blocks.block_of(channels * multiplier))
    for by_threads in on_every_isa(lambda: on_every_thread_count(backward)).values():
        for result in by_threads.values():
            if multiplier == 1:
                _check_blocks(result, dx, reference_blocks.block_of(channels))
            else:
                np.testing.assert_array_equal(result, dx)


def test_results_in_blocks_over_many_tasks(on_every_isa, on_every_thread_count):
    rng = np.random.default_rng(3)
    x, w = _random_tensor(rng, (3, 40, 41, 16)), _random_tensor(rng, (3, 3, 16, 208))
    for algorithm in ("direct", "winograd_2x2", "winograd_4x4"):
        options = {"padding": "same", "algorithm": algorithm}
        y = kernels.conv2d_forward(x, w, **options)
        call = partial(kernels.conv2d_forward, x, w, in_blocks=True, **options)
        for by_threads in on_every_isa(lambda call=call: on_every_thread_count(call)).values():
            for result in by_threads.values():
                _check_blocks(result, y, 16)


# FP32 numbers at every border: of rounding, of exponents, of finiteness.
BORDERS = np.float32(
    [
        *(0.0, -0.0, 1.0, -1.0, 32767.0, 32767.5, 32767.499, 65535.0, -65535.5, 0.5, 1.5, 2.5),
        *(
            2.0**-126,
            2.0**-127,
            2.0**-149,
            -(2.0**-112),
            2.0**-111,
            2.0**127,
            -3.4e38,
            3.4028235e38,
        ),
        *(np.nan, np.inf, -np.inf),
    ]
)


@given(numbers=st.lists(st.sampled_from(list(BORDERS)), min_size=48, max_size=48))
def test_any_number_in_blocks(on_every_isa, numbers):
    """The bias of a convolution of zeros is its result."""
    bias = np.float32(numbers)
    x = DFPTensor(np.zeros((1, 2, 1, 2), np.int16), 0)
    w = DFPTensor(np.ones((1, 1, 2, 48), np.int16), 0)
    call = partial(kernels.conv2d_forward, x, w, bias=bias, in_blocks=True)
    expected = np.broadcast_to(bias + np.float32(0), (1, 2, 1, 48))
    for result in on_every_isa(call).values():
        _check_blocks(result, expected, 16)


def test_results_that_need_no_multiplication():
    w = DFPTensor(np.ones((1, 1, 2, 32), np.int16), 0)
    nan = DFPTensor(np.zeros((1, 3, 3, 2), np.int16), NONFINITE_EXPONENT)
    assert np.isnan(kernels.conv2d_forward(nan, w, in_blocks=True).dequantize()).all()
    empty = DFPTensor(np.zeros((0, 3, 3, 2), np.int16), 0)
    assert kernels.conv2d_forward(empty, w, in_blocks=True).dequantize().shape == (0, 3, 3, 32)


def test_channels_that_make_no_blocks():
    x = DFPTensor(np.ones((1, 3, 3, 2), np.int16), 0)
    w = DFPTensor(np.ones((1, 1, 2, 24), np.int16), 0)
    assert isinstance(kernels.conv2d_forward(x, w, in_blocks=True), np.ndarray)


@st.composite
def pairs(draw):
    """A `BlockTensor` and the float32 array that it stands for."""
    channels = draw(st.sampled_from([*WIDTHS, 528]))
    pixels = draw(st.integers(1, 700)) if channels < 100 else draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    block = reference_blocks.block_of(channels)
    data = rng.integers(-32767, 32768, (pixels, channels)).astype(np.int16)
    exponents = rng.integers(-20, -8, (pixels, channels // block))
    exponents += draw(st.sampled_from([0, 0, -100, 100]))
    scales = np.exp2(exponents).astype(np.float32)
    kind = draw(st.sampled_from(["", "", "", "zeros", "nan"]))
    if kind == "zeros":
        data[...] = 0
    if kind == "nan":
        scales[rng.integers(pixels), 0] = np.nan
    return rng, BlockTensor(data, scales), reference_blocks.values(data, scales)


def _readers(rng, x):
    """Every kernel that reads blocks, as a function of the operand that `x` stands for."""
    shape, channels = x.shape, x.shape[-1]
    numbers = partial(_numbers, rng, channels)
    other = _random_tensor(rng, shape)
    y = kernels.activation_forward(other, "relu")
    scale, offset, mean, factor, constant = (numbers() for _ in range(5))
    low, high, most = x.min(0), x.max(0), np.abs(x).max(0)
    backward = partial(kernels.batch_norm_backward, bits=14, want_dz=True)
    factors = scale, factor, constant, low, high, most
    return {
        "dequantize": lambda v: v if isinstance(v, np.ndarray) else v.dequantize(),
        "quantize": lambda v: quantize(v, 14),
        "quantize, stochastic": lambda v: quantize(v, 9, "stochastic", 5),
        "statistics": kernels.batch_norm_statistics,
        "forward": lambda v: kernels.batch_norm_forward(v, scale, offset, low, high),
        "unknown range": lambda v: kernels.batch_norm_forward(v, scale, offset),
        "residual": lambda v: kernels.batch_norm_forward(
            other, scale, offset, residual=v, activation="relu"
        ),
        "unit": lambda v: kernels.batch_norm_forward(
            v, scale, offset, low, high, v, "relu6", 15, (factor, constant)
        ),
        "reduce": lambda v: kernels.batch_norm_backward_reduce(v, v, mean, y, "relu"),
        "reduce x": lambda v: kernels.batch_norm_backward_reduce(other, v, mean),
        "backward": lambda v: backward(v, v, mean, *factors, y, "relu"),
        "backward x": lambda v: backward(other, v, mean, *factors),
        "frozen": lambda v: kernels.batch_norm_backward_frozen(v, scale, want_dz=True),
        "activation": lambda v: kernels.activation_forward(v, "relu6", 13),
        "activation gradient": lambda v: kernels.activation_backward(v, y, "relu", 13),
        "add": lambda v: kernels.add(v, other, "relu"),
        "sum": lambda v: kernels.sum_gradients([other, v, v], y, "relu"),
        "concatenate": lambda v: kernels.concatenate([v, other]),
    }


def _numbers(rng, channels):
    return rng.standard_normal(channels).astype(np.float32)


def _arrays(result):
    """The arrays of a kernel's result, whatever it is."""
    if isinstance(result, DFPTensor):
        return [result.data, result.exponent, result.max_abs]
    if isinstance(result, tuple):
        return [array for part in result for array in _arrays(part)]
    return [result]


@pytest.mark.slow
@given(pair=pairs())
def test_blocks_are_read_like_the_float32_array_they_stand_for(on_every_isa, pair):
    rng, blocks, x = pair
    for name, read in _readers(rng, x).items():
        expected = _arrays(read(x))
        for isa, result in on_every_isa(lambda read=read: read(blocks)).items():
            for a, b in zip(_arrays(result), expected, strict=True):
                np.testing.assert_array_equal(a, b, err_msg=f"{name}, {isa}")


@pytest.mark.parametrize(
    "follows",
    [
        "Activation('relu')",
        "Add()",
        "AveragePooling2D(2)",
        "BatchNormalization()",
        "Concatenate()",
        "Conv2D(32, 1)",
        "Cropping2D(1)",
        "DepthwiseConv2D(3)",
        "GlobalAveragePooling2D()",
        "GlobalMaxPooling2D()",
        "MaxPooling2D()",
        "ReLU()",
        "Reshape((9, 64))",
        "ZeroPadding2D(1)",
    ],
)
def test_nothing_reads_the_float32_value(follows):
    """As DenseNet's transitions, whose pooling reads a convolution, have to."""
    import keras

    keras.config.set_dtype_policy("dfp16")
    try:
        images = keras.Input((6, 6, 32))
        x = keras.layers.Conv2D(16, 1)(images)
        layer = eval(f"keras.layers.{follows}")
        joins = isinstance(layer, keras.layers.Add | keras.layers.Concatenate)
        y = layer([x, keras.layers.Conv2D(16, 1)(x)] if joins else x)
        y = y if len(y.shape) == 2 else keras.layers.Flatten()(y)
        model = keras.Model(images, keras.layers.Dense(3)(y))
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile("sgd", "mse")
    hits.reset()
    model.train_on_batch(np.ones((2, 6, 6, 32), np.float32), np.ones((2, 3), np.float32))
    assert hits["dequantize"] == 0
    assert hits["conv_forward"]


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_the_value_of_a_layer(data_format):
    """It is that of the blocks, eagerly, in graphs and in both layouts."""
    import keras
    import tensorflow as tf

    x = np.random.default_rng(5).standard_normal((2, 6, 7, 8)).astype(np.float32)
    layer = keras.layers.Conv2D(48, 3, data_format=data_format, dtype="dfp16")
    images = x if data_format == "channels_last" else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    results = [layer(images), tf.function(layer)(images)]
    y = kernels.conv2d_forward(quantize(x, 14), quantize(layer.kernel.numpy(), 12))
    expected = reference_blocks.values(*reference_blocks.to_blocks(y, 16))
    for result in map(np.asarray, results):
        if data_format == "channels_first":
            result = result.transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(result, expected)
