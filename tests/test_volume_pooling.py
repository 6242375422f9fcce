"""Pooling of volumes against that of images, by the oracle of the latter, and by definition."""

import itertools

import numpy as np
import pytest
import reference
import reference_pooling as oracle
from checks import tensor
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_batch_norm import values
from reference_pooling import Pooling

from dfpkeras import kernels
from dfpkeras.kernels.quantized_tensor import NONFINITE_EXPONENT, DFPTensor


@st.composite
def cases(draw):
    """Shape of x, (pool size, strides, padding), bits, and a generator of random numbers."""
    padding = draw(st.sampled_from(["valid", "same"]))
    pool_size = [draw(st.sampled_from([2, 3, 1])) for _ in range(3)]
    strides = [draw(st.sampled_from([2, 1, 3])) for _ in range(3)]
    smallest = pool_size if padding == "valid" else (1, 1, 1)
    sizes = [least + draw(st.integers(0, 3)) for least in smallest]
    shape = (draw(st.integers(1, 3)), *sizes, draw(st.sampled_from([3, 16, 17])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    arguments = tuple(pool_size), tuple(strides), padding
    return shape, arguments, draw(st.sampled_from([14, 15, 9])), rng


def integers(rng, shape, bits, few=False):
    """Random integers; few of them have ties."""
    limit = 2 if few else 2**bits - 1
    data = rng.integers(-limit, limit, shape, endpoint=True).astype(np.int16)
    return reference.Operand(data, int(rng.integers(-20, 10)))


def reshaped(x, *shape):
    return reference.Operand(x.data.reshape(shape), x.exponent)


class Steps:
    """The two poolings of images that a volume of some shape is pooled by."""

    def __init__(self, shape, pool_size, strides, padding):
        self.shape = shape
        self.in_planes = Pooling(pool_size[1:], strides[1:], padding)
        self.along_depth = Pooling((pool_size[0], 1), (strides[0], 1), padding)
        self.images = (shape[0] * shape[1], *shape[2:])
        *_, height, width, _ = self.in_planes.output_shape(self.images)
        self.columns = (*shape[:2], height * width, shape[4])
        depth = self.along_depth.output_shape(self.columns)[1]
        self.result = (shape[0], depth, height, width, shape[4])

    def forward(self, pool, x, *bits):
        """(what pooling in planes gives, the result)."""
        of_planes = pool(reshaped(x, *self.images), self.in_planes, *bits[:1])
        of_planes = reshaped(of_planes, *self.columns)
        y = pool(of_planes, self.along_depth, *bits[1:])
        return of_planes, reshaped(y, *self.result)

    def flat(self, y):
        """A result, or its gradient, as that of the pooling along the depth."""
        return reshaped(y, *self.along_depth.output_shape(self.columns))

    def planes(self, of_columns):
        return reshaped(of_columns, *self.in_planes.output_shape(self.images))


def assert_equal(result, expected):
    assert result.exponent == expected.exponent
    np.testing.assert_array_equal(result.data, expected.data)


@settings(max_examples=100)
@given(cases())
def test_maxima(case):
    shape, arguments, bits, rng = case
    x, steps = integers(rng, shape, bits, few=bool(rng.integers(2))), Steps(shape, *arguments)
    of_planes, expected = steps.forward(oracle.max_pool, x)
    y = kernels.max_pool3d(tensor(x), *arguments)
    assert_equal(y, expected)
    dy = integers(rng, steps.result, bits)
    dx = kernels.max_pool3d_backward(tensor(dy), tensor(x), y, *arguments, bits=bits)
    along = oracle.max_pool_gradient(steps.flat(dy), of_planes.data, steps.along_depth, bits)
    images = x.data.reshape(steps.images)
    in_planes = oracle.max_pool_gradient(steps.planes(along), images, steps.in_planes, bits)
    assert_equal(dx, reshaped(in_planes, *shape))


@settings(max_examples=100)
@given(cases())
def test_averages(case):
    shape, arguments, bits, rng = case
    x, steps = integers(rng, shape, bits), Steps(shape, *arguments)
    y = kernels.average_pool3d(tensor(x), *arguments, bits=bits)
    dy = integers(rng, steps.result, bits)
    dx = kernels.average_pool3d_backward(tensor(dy), shape, *arguments, bits=bits)
    assert_equal(y, steps.forward(oracle.average_pool, x, 15, bits)[1])
    along = oracle.average_pool_gradient(steps.flat(dy), steps.columns, steps.along_depth, 15)
    planes = steps.planes(along)
    in_planes = oracle.average_pool_gradient(planes, steps.images, steps.in_planes, bits)
    assert_equal(dx, reshaped(in_planes, *shape))


def windows_of(shape, pool_size):
    """Slices of the windows beside each other, and the result's voxel of each."""
    axes = [range(size // pool) for size, pool in zip(shape[1:4], pool_size, strict=True)]
    for voxel in itertools.product(*axes):
        yield (
            voxel,
            (
                slice(None),
                *(slice(i * n, (i + 1) * n) for i, n in zip(voxel, pool_size, strict=True)),
            ),
        )


def test_definition():
    """Windows beside each other: the gradient is at the first of equal maxima, plane by plane."""
    rng, shape, pool_size = np.random.default_rng(3), (2, 6, 4, 9, 5), (3, 2, 3)
    x, small = integers(rng, shape, 14), integers(rng, shape, 14, few=True)
    maxima = kernels.max_pool3d(tensor(small), pool_size)
    averages = kernels.average_pool3d(tensor(x), pool_size)
    dy = integers(rng, maxima.shape, 14)
    dx = kernels.max_pool3d_backward(tensor(dy), tensor(small), maxima, pool_size)
    expected = np.zeros(shape, np.int64)
    for voxel, window in windows_of(shape, pool_size):
        at = (slice(None), *voxel)
        voxels = small.data[window].reshape(2, -1, 5)
        np.testing.assert_array_equal(maxima.data[at], voxels.max(axis=1))
        first = np.arange(voxels.shape[1])[:, None] == voxels.argmax(axis=1)[:, None]
        expected[window] = (first * dy.data[at][:, None]).reshape(small.data[window].shape)
        mean = values(x)[window].mean(axis=(1, 2, 3))
        assert np.abs(averages.dequantize()[at] - mean).max() <= 0.76 * 2.0**averages.exponent
    np.testing.assert_array_equal(dx.data, expected)


def test_empty_batch():
    x, y = (DFPTensor(np.zeros((0, n, n, n, 3), np.int16), 0) for n in (4, 2))
    assert kernels.max_pool3d(x, 2).shape == kernels.average_pool3d(x, 2).shape == y.shape
    assert kernels.max_pool3d_backward(y, x, y, 2).shape == x.shape
    assert kernels.average_pool3d_backward(y, x.shape, 2).shape == x.shape


@pytest.mark.parametrize("pool", [kernels.max_pool3d, kernels.average_pool3d])
def test_nonfinite(pool):
    x = DFPTensor(np.zeros((1, 2, 2, 2, 3), np.int16), NONFINITE_EXPONENT)
    assert not pool(x, 2).is_finite


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: kernels.max_pool3d(x, (2, 2)), ValueError, "pool_size: expected an integer or"),
        (lambda x: kernels.max_pool3d(x, 41), ValueError, "pool_size: expected at most 65535 vox"),
        (lambda x: kernels.max_pool3d(x, 2, 0), ValueError, "strides: expected integers of at le"),
        (lambda x: kernels.max_pool3d(x, 2, padding="full"), ValueError, "padding: expected"),
        (lambda x: kernels.average_pool3d(x.data, 2), TypeError, "x: expected a DFPTensor"),
        (lambda x: kernels.average_pool3d(x.reshape(4, 4, 4, 3), 2), ValueError, "x: expected 5"),
        (
            lambda x: kernels.max_pool3d_backward(x, x, kernels.max_pool3d(x, 2), 2),
            ValueError,
            r"dy: expected .*\(1, 2, 2, 2, 3\)",
        ),
        (
            lambda x: kernels.average_pool3d_backward(x, (1, 4, 4, 4, 3), 2),
            ValueError,
            r"dy: expected .*\(1, 2, 2, 2, 3\)",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(DFPTensor(np.zeros((1, 4, 4, 4, 3), np.int16), 0))
