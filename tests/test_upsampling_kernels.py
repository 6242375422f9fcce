"""Upsampling and the sum of windows, against NumPy, bit for bit."""

from functools import partial

import numpy as np
import pytest
import reference
import reference_batch_norm as oracle
from checks import tensor
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds
from test_batch_norm_kernels import assert_same_everywhere

from dfpkeras import kernels, quantize

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 5))


@st.composite
def images(draw, size=(1, 1)):
    shape = (
        draw(st.integers(0, 3)),
        draw(st.integers(1, 5)) * size[0],
        draw(st.integers(1, 5)) * size[1],
        draw(st.sampled_from([1, 3, 16, 31, 32, 33, 70])),
    )
    rng = np.random.default_rng(draw(seeds))
    spread = 2.0 ** draw(st.sampled_from([0, 3, 60, -140]))
    numbers = rng.standard_normal(shape) * spread * draw(st.sampled_from([0, 1, 1]))
    return reference.quantize(numbers.astype(np.float32), draw(st.sampled_from([4, 14, 15])))


@pytest.mark.slow
@given(images(), SIZES)
def test_upsampling(on_every_isa, on_every_thread_count, x, size):
    call = partial(kernels.upsample, tensor(x), size)
    y = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    expected = x.data.repeat(size[0], 1).repeat(size[1], 2)
    np.testing.assert_array_equal(y.data, expected)
    assert not x.data.size or y.exponent == x.exponent


@pytest.mark.slow
@given(st.data(), SIZES, st.sampled_from([15, 14, 6]))
def test_sums(on_every_isa, on_every_thread_count, data, size, bits):
    dy = data.draw(images(size))
    call = partial(kernels.sum_pool, tensor(dy), size, bits)
    dx = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    batch, height, width, channels = dy.data.shape
    windows = height // size[0], size[0], width // size[1], size[1]
    sums = dy.data.astype(np.int64).reshape(batch, *windows, channels).sum((2, 4))
    assert dx.shape == sums.shape
    if not sums.size:
        return
    largest = np.ldexp(float(np.abs(dy.data.astype(int)).max()) * size[0] * size[1], dy.exponent)
    assert dx.exponent == oracle.exponent_of(largest, bits)
    expected = sums.astype(np.float32) * np.float32(np.ldexp(1.0, dy.exponent - dx.exponent))
    np.testing.assert_array_equal(dx.data, oracle.quantize_to(expected, 0, bits))


def test_many_pixels(on_every_isa, on_every_thread_count):
    x = quantize(np.random.default_rng(1).standard_normal((3, 90, 70, 40)).astype(np.float32))
    call = partial(kernels.upsample, x, (3, 2))
    y = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    np.testing.assert_array_equal(y.data, x.data.repeat(3, 1).repeat(2, 2))
    call = partial(kernels.sum_pool, y, (3, 2))
    dx = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    assert np.abs(dx.dequantize() - 6 * x.dequantize()).max() <= 0.5 * 2.0**dx.exponent


def test_what_is_not_finite_and_errors():
    x = quantize(np.full((1, 2, 2, 3), np.nan, np.float32))
    assert not kernels.upsample(x, 2).is_finite and not kernels.sum_pool(x, 2).is_finite
    with pytest.raises(TypeError, match="x: expected a DFPTensor"):
        kernels.upsample(np.ones((1, 2, 2, 3), np.float32), 2)
    with pytest.raises(ValueError, match="expected 4"):
        kernels.upsample(x.reshape(2, 2, 3), 2)
    with pytest.raises(ValueError, match="at most 65535 pixels"):
        kernels.upsample(x, (256, 256))
    with pytest.raises(ValueError, match="size"):
        kernels.upsample(x, 0)
    with pytest.raises(ValueError, match="bits: expected 2 to 15"):
        kernels.sum_pool(x, 2, 16)
