"""Layers whose policy allows Winograd's algorithm."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_support import random_array

import dfpkeras
from dfpkeras import kernels
from dfpkeras.kernels.convolution_plan import ALGORITHMS, plan_of


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_layer_computes_what_the_kernels_compute(algorithm):
    """All three directions, bit for bit."""
    policy = dfpkeras.DFP16Policy(algorithm=algorithm)
    layer = keras.layers.Conv2D(24, 3, padding="same", use_bias=False, dtype=policy)
    x = tf.constant(random_array(2, 9, 11, 20))
    dy = random_array(2, 9, 11, 24, seed=1)
    layer.build(x.shape)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    dx, dw = tape.gradient(y, [x, layer.kernel.value], dy)
    qx, qw, qdy = (
        dfpkeras.quantize(np.asarray(a), bits)
        for a, bits in ((x, 14), (layer.kernel, 12), (dy, 15))
    )
    options = {"padding": "same", "algorithm": algorithm}
    expected = (
        kernels.conv2d_forward(qx, qw, **options),
        kernels.conv2d_backward_data(qdy, qw, qx.shape, **options),
        kernels.conv2d_backward_weights(qx, qdy, qw.shape, **options),
    )
    for result, wanted in zip((y, dx, dw), expected, strict=True):
        np.testing.assert_array_equal(result, wanted)
    direct = kernels.conv2d_forward(qx, qw, padding="same")
    assert (algorithm in ("direct", "auto")) == np.array_equal(y, direct)


def chosen(direction, x_shape, w_shape, algorithm, strides=1, dilation_rate=1, groups=1, flush=0):
    arguments = strides, "same", dilation_rate, groups
    plan = plan_of(direction, (x_shape, w_shape), ("x", "w"), arguments, flush, algorithm)
    return plan.native.algorithm


@pytest.mark.parametrize("direction", ["forward", "backward_data", "backward_weights"])
def test_what_each_convolution_is_computed_by(direction):
    large = (8, 28, 28, 128), (3, 3, 128, 128)
    assert chosen(direction, *large, "direct") == "direct"
    assert chosen(direction, *large, "auto") == "winograd_4x4"
    assert chosen(direction, *large, "winograd_4x4") == "winograd_4x4"
    for algorithm in ("auto", "winograd_2x2", "winograd_4x4"):
        assert chosen(direction, *large, algorithm, strides=2) == "direct"
        assert chosen(direction, *large, algorithm, dilation_rate=2) == "direct"
        assert chosen(direction, *large, algorithm, flush=2) == "direct"
        assert chosen(direction, (8, 28, 28, 128), (3, 3, 64, 128), algorithm, groups=2) == "direct"
        assert chosen(direction, (8, 28, 28, 128), (5, 5, 128, 128), algorithm) == "direct"
    # Four of seven pixels in a second tile of 4x4 are computed for nothing.
    if direction == "forward":
        assert chosen(direction, (16, 7, 7, 512), (3, 3, 512, 512), "auto") == "winograd_2x2"
    # Too few channels to gain.
    assert chosen(direction, (8, 28, 28, 3), (3, 3, 3, 8), "auto") == "direct"


def test_policies_keep_the_algorithm(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            keras.layers.Conv2D(8, 3, dtype=dfpkeras.DFP16Policy(algorithm="winograd_4x4")),
            keras.layers.Conv2D(8, 3, dtype="dfp16(algorithm=auto)"),
        ]
    )
    model.save(tmp_path / "model.keras")
    for copy in (
        keras.models.load_model(tmp_path / "model.keras"),
        keras.models.clone_model(model),
    ):
        formats = [layer.dtype_policy.number_format.algorithm for layer in copy.layers]
        assert formats == ["winograd_4x4", "auto"]


@pytest.mark.parametrize("make", [dfpkeras.DFP16Policy, kernels.conv2d_forward])
@pytest.mark.parametrize("algorithm", ["winograd", None, 2])
def test_unknown_algorithms(make, algorithm):
    x = dfpkeras.quantize(np.ones((1, 3, 3, 1), np.float32))
    operands = () if make is dfpkeras.DFP16Policy else (x, x)
    with pytest.raises((ValueError, TypeError), match="algorithm: expected one of direct, auto, "):
        make(*operands, algorithm=algorithm)
