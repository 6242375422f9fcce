"""Bad arguments of pooling, concatenation, padding and cropping: errors that name them."""

import numpy as np
import pytest

from dfpkeras import kernels
from dfpkeras.kernels.quantized_tensor import DFPTensor


def ones(*shape):
    return DFPTensor(np.ones(shape, np.int16), 0)


X, Y, FLAT = ones(2, 6, 6, 3), ones(2, 3, 3, 3), ones(2, 3)
FLOATS = np.ones((2, 3), np.float32)


def assert_raises(error, message, call, *arguments):
    with pytest.raises(error, match=message):
        call(*arguments)


@pytest.mark.parametrize("pool", [kernels.max_pool, kernels.average_pool])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X.data, 2), TypeError, r"x: a DFPTensor .* is needed, got int16 array"),
        ((FLAT, 2), ValueError, r"x: 4 dimensions are needed, got shape \(2, 3\)"),
        ((X, 2.0), TypeError, r"pool_size: an integer is needed, got float 2.0"),
        ((X, (2, 2, 2)), ValueError, r"pool_size: an integer or a pair is needed, got \(2, 2, 2\)"),
        ((X, 0), ValueError, r"pool_size: integers of at least 1 are needed, got 0"),
        ((X, 256), ValueError, r"pool_size: at most 65535 pixels are needed, got \(256, 256\)"),
        ((X, 2, -1), ValueError, r"strides: integers of at least 1 are needed, got -1"),
        ((X, 2, 2, "full"), ValueError, r"padding: 'valid' or 'same' is needed, got 'full'"),
        (
            (X, 7),
            ValueError,
            r"x: .* the window's size \(7, 7\) is needed, got shape \(2, 6, 6, 3\)",
        ),
        ((ones(2, 0, 6, 3), 1), ValueError, r"x: a height and width of at least 1 are needed"),
    ],
)
def test_pooling(pool, arguments, error, message):
    assert_raises(error, message, pool, *arguments)


@pytest.mark.parametrize(
    ("call", "arguments", "error", "message"),
    [
        (kernels.average_pool, (X, 2, 2, "same", 16), ValueError, r"bits: 2 to 15 .* got 16"),
        (kernels.max_pool_backward, (X, X, Y, 2), ValueError, r"dy: the shape \(2, 3, 3, 3\)"),
        (kernels.max_pool_backward, (Y, X, X, 2), ValueError, r"y: the shape \(2, 3, 3, 3\)"),
        (kernels.max_pool_backward, (Y.data, X, Y, 2), TypeError, r"dy: .* got int16 array"),
        (kernels.max_pool_backward, (Y, X, Y.data, 2), TypeError, r"y: a DFPTensor"),
        (kernels.max_pool_backward, (Y, X, Y, 2, 2, "valid", 1), ValueError, r"bits: .* got 1"),
        (kernels.average_pool_backward, (Y, (2, 6, 3), 2), ValueError, r"input_shape: 4 sizes"),
        (kernels.average_pool_backward, (X, (2, 6, 6, 3), 2), ValueError, r"dy: the shape"),
        (kernels.global_average_pool, (FLAT,), ValueError, r"x: 4 dimensions"),
        (kernels.global_average_pool, (ones(2, 0, 3, 1),), ValueError, r"x: at least one pixel"),
        (kernels.global_average_pool_backward, (Y, (2, 6, 6, 3)), ValueError, r"dy: the shape"),
        (kernels.global_max_pool, (ones(1, 256, 256, 1),), ValueError, r"65535 pixels"),
        (kernels.global_max_pool_backward, (FLAT, X, Y), ValueError, r"y: the shape \(2, 3\)"),
        (kernels.global_max_pool_backward, (Y, X, FLAT), ValueError, r"dy: the shape \(2, 3\)"),
    ],
)
def test_gradients_and_whole_images(call, arguments, error, message):
    assert_raises(error, message, call, *arguments)


@pytest.mark.parametrize(
    ("call", "arguments", "error", "message"),
    [
        (kernels.concatenate, ([],), ValueError, r"tensors: at least one tensor is needed"),
        (kernels.concatenate, ([FLAT, FLAT.data],), TypeError, r"tensors\[1\]: .* int16 array"),
        (kernels.concatenate, ([FLAT, ones(3, 3)],), ValueError, r"tensors\[1\]: .*\(3, 3\)"),
        (kernels.concatenate, ([FLAT, X],), ValueError, r"tensors\[1\]: .*\(2, 6, 6, 3\)"),
        (kernels.concatenate, ([FLAT], 2), ValueError, r"axis: an axis of 2 is needed, got 2"),
        (kernels.concatenate, ([FLAT], 1.0), TypeError, r"axis: an integer is needed"),
        (kernels.concatenate, ([FLAT], 1, 0), ValueError, r"bits: .* got 0"),
        (kernels.split, (FLOATS, [1, 2]), TypeError, r"x: a DFPTensor"),
        (kernels.split, (FLAT, [1, 1]), ValueError, r"sizes: .* the 3 of axis 1 .* got \[1, 1\]"),
        (kernels.split, (FLAT, [4, -1]), ValueError, r"sizes: .* got \[4, -1\]"),
        (kernels.split, (FLAT, [1, 2], -3), ValueError, r"axis: an axis of 2 is needed, got -3"),
        (kernels.zero_pad, (FLAT, ((1, 1), (1, 1))), ValueError, r"x: 4 dimensions"),
        (kernels.zero_pad, (X, (1, 1)), TypeError, r"padding: integers .* got \(1, 1\)"),
        (kernels.zero_pad, (X, ((0, 0), (0, 0.5))), TypeError, r"padding: integers .* 0.5"),
        (kernels.zero_pad, (X, ((0, -1), (0, 0))), ValueError, r"padding: integers of at least 0"),
        (kernels.crop, (X, ((4, 3), (0, 0))), ValueError, r"cropping: .*\(2, 6, 6, 3\)"),
    ],
)
def test_arrangement(call, arguments, error, message):
    assert_raises(error, message, call, *arguments)
