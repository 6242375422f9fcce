"""Results that are written past the caches equal those of their parts, which are not.

The other kernels write with the same function; `test_emulated_isas` runs them all with it.
"""

import numpy as np
import pytest

import dfpkeras
from dfpkeras import kernels

#: Together large, each alone not (include/dfp/engine/nontemporal.h), in odd sizes.
IMAGES, SIDE = 3, 59
RANDOM = np.random.default_rng(0)


def images(channels, bits=14):
    x = RANDOM.standard_normal((IMAGES, SIDE, SIDE, channels), dtype=np.float32)
    return dfpkeras.quantize(x, bits=bits)


def image(x, i):
    return dfpkeras.DFPTensor._wrap(x.data[i : i + 1], x.exponent, x.max_abs)


@pytest.mark.parametrize("channels", [128, 112])
@pytest.mark.parametrize("algorithm", ["direct", "winograd_4x4"])
def test_convolutions(channels, algorithm):
    x = images(channels)
    w = RANDOM.standard_normal((3, 3, channels, channels), dtype=np.float32)
    w = dfpkeras.quantize(w, bits=12)
    options = {"padding": "same", "algorithm": algorithm, "in_blocks": True}
    y = kernels.conv2d_forward(x, w, **options)
    dx = kernels.conv2d_backward_data(x, w, x.shape, **options)
    for i in range(IMAGES):
        expected = kernels.conv2d_forward(image(x, i), w, **options)
        np.testing.assert_array_equal(y.data[i : i + 1], expected.data)
        np.testing.assert_array_equal(y.scales[i : i + 1], expected.scales)
        shape = (1, *x.shape[1:])
        expected = kernels.conv2d_backward_data(image(x, i), w, shape, **options)
        np.testing.assert_array_equal(dx.data[i : i + 1], expected.data)


@pytest.mark.parametrize("channels", [128, 109])
def test_pooling(channels):
    x = images(channels)
    y = kernels.max_pool(x, 3, strides=1)
    dx = kernels.max_pool_backward(y, x, y, 3, strides=1)
    for i in range(IMAGES):
        part = kernels.max_pool(image(x, i), 3, strides=1)
        np.testing.assert_array_equal(y.data[i : i + 1], part.data)
        gradient = kernels.max_pool_backward(image(y, i), image(x, i), image(y, i), 3, strides=1)
        assert dx.exponent == gradient.exponent
        np.testing.assert_array_equal(dx.data[i : i + 1], gradient.data)


@pytest.mark.parametrize("channels", [128, 109])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_quantize(channels, rounding):
    x = RANDOM.standard_normal((IMAGES, SIDE, SIDE, channels), dtype=np.float32)
    q = dfpkeras.quantize(x, bits=14, rounding=rounding, seed=1)
    scaled = np.ldexp(x.astype(np.float64), -q.exponent)
    assert q.max_abs == np.abs(q.data).max()
    assert np.abs(q.data - scaled).max() <= (0.5 if rounding == "nearest" else 1)
    if rounding == "nearest":
        np.testing.assert_array_equal(q.data, np.rint(scaled).astype(np.int16))
