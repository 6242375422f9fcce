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
        ((X.data, 2), TypeError, r"x: expected a DFPTensor .*, got int16 array"),
        ((FLAT, 2), ValueError, r"x: expected 4 dimensions, got shape \(2, 3\)"),
        ((X, 2.0), TypeError, r"pool_size: expected an integer, got float 2.0"),
        ((X, (2, 2, 2)), ValueError, r"pool_size: expected an integer or a pair, got \(2, 2, 2\)"),
        ((X, 0), ValueError, r"pool_size: expected integers of at least 1, got 0"),
        ((X, 256), ValueError, r"pool_size: expected at most 65535 pixels, got \(256, 256\)"),
        ((X, 2, -1), ValueError, r"strides: expected integers of at least 1, got -1"),
        ((X, 2, 2, "full"), ValueError, r"padding: expected 'valid' or 'same', got 'full'"),
        (
            (X, 7),
            ValueError,
            r"x: .* expected at least the window's size \(7, 7\), got shape \(2, 6, 6, 3\)",
        ),
        ((ones(2, 0, 6, 3), 1), ValueError, r"x: expected a height and width of at least 1"),
    ],
)
def test_pooling(pool, arguments, error, message):
    assert_raises(error, message, pool, *arguments)


@pytest.mark.parametrize(
    ("call", "arguments", "error", "message"),
    [
        (
            kernels.average_pool,
            (X, 2, 2, "same", 16),
            ValueError,
            r"bits: expected 2 to 15 .* got 16",
        ),
        (
            kernels.max_pool_backward,
            (X, X, Y, 2),
            ValueError,
            r"dy: expected the shape \(2, 3, 3, 3\)",
        ),
        (
            kernels.max_pool_backward,
            (Y, X, X, 2),
            ValueError,
            r"y: expected the shape \(2, 3, 3, 3\)",
        ),
        (kernels.max_pool_backward, (Y.data, X, Y, 2), TypeError, r"dy: .* got int16 array"),
        (kernels.max_pool_backward, (Y, X, Y.data, 2), TypeError, r"y: expected a DFPTensor"),
        (kernels.max_pool_backward, (Y, X, Y, 2, 2, "valid", 1), ValueError, r"bits: .* got 1"),
        (
            kernels.average_pool_backward,
            (Y, (2, 6, 3), 2),
            ValueError,
            r"input_shape: expected 4 sizes",
        ),
        (
            kernels.average_pool_backward,
            (X, (2, 6, 6, 3), 2),
            ValueError,
            r"dy: expected the shape",
        ),
        (kernels.global_average_pool, (FLAT,), ValueError, r"x: expected 4 dimensions"),
        (
            kernels.global_average_pool,
            (ones(2, 0, 3, 1),),
            ValueError,
            r"x: expected at least one pixel",
        ),
        (
            kernels.global_average_pool_backward,
            (Y, (2, 6, 6, 3)),
            ValueError,
            r"dy: expected the shape",
        ),
        (kernels.global_max_pool, (ones(1, 256, 256, 1),), ValueError, r"65535 pixels"),
        (
            kernels.global_max_pool_backward,
            (FLAT, X, Y),
            ValueError,
            r"y: expected the shape \(2, 3\)",
        ),
        (
            kernels.global_max_pool_backward,
            (Y, X, FLAT),
            ValueError,
            r"dy: expected the shape \(2, 3\)",
        ),
    ],
)
def test_gradients_and_whole_images(call, arguments, error, message):
    assert_raises(error, message, call, *arguments)


@pytest.mark.parametrize(
    ("call", "arguments", "error", "message"),
    [
        (kernels.concatenate, ([],), ValueError, r"tensors: expected at least one tensor"),
        (kernels.concatenate, ([FLAT, FLAT.data],), TypeError, r"tensors\[1\]: .* int16 array"),
        (kernels.concatenate, ([FLAT, ones(3, 3)],), ValueError, r"tensors\[1\]: .*\(3, 3\)"),
        (kernels.concatenate, ([FLAT, X],), ValueError, r"tensors\[1\]: .*\(2, 6, 6, 3\)"),
        (kernels.concatenate, ([FLAT], 2), ValueError, r"axis: expected one of 2 axes, got 2"),
        (kernels.concatenate, ([FLAT], 1.0), TypeError, r"axis: expected an integer"),
        (kernels.concatenate, ([FLAT], 1, 0), ValueError, r"bits: .* got 0"),
        (kernels.split, (FLOATS, [1, 2]), TypeError, r"x: expected a DFPTensor"),
        (
            kernels.split,
            (FLAT, [1, 1]),
            ValueError,
            r"sizes: .* 3, the size of axis 1, got \[1, 1\]",
        ),
        (kernels.split, (FLAT, [4, -1]), ValueError, r"sizes: .* got \[4, -1\]"),
        (kernels.split, (FLAT, [1, 2], -3), ValueError, r"axis: expected one of 2 axes, got -3"),
        (kernels.zero_pad, (FLAT, ((1, 1), (1, 1))), ValueError, r"x: expected 4 dimensions"),
        (kernels.zero_pad, (X, (1, 1)), TypeError, r"padding: expected integers .* got \(1, 1\)"),
        (
            kernels.zero_pad,
            (X, ((0, 0), (0, 0.5))),
            TypeError,
            r"padding: expected integers .* 0.5",
        ),
        (
            kernels.zero_pad,
            (X, ((0, -1), (0, 0))),
            ValueError,
            r"padding: expected integers of at least 0",
        ),
        (kernels.crop, (X, ((4, 3), (0, 0))), ValueError, r"cropping: .*\(2, 6, 6, 3\)"),
    ],
)
def test_data_movement(call, arguments, error, message):
    assert_raises(error, message, call, *arguments)
