"""PReLU and its gradients, against NumPy: values bit for bit, sums in float64."""

from functools import partial

import numpy as np
import pytest
import reference_batch_norm as oracle
from hypothesis import given
from hypothesis import strategies as st
from strategies import OPERAND_KINDS, as_operand_of_kind, seeds
from test_batch_norm_kernels import assert_same_everywhere

import dfpkeras
from dfpkeras import kernels


@st.composite
def cases(draw):
    """(x, its values, dy, its values, slopes); some x are 0."""
    image = (
        draw(st.sampled_from([1, 2, 7, 33])),
        draw(st.sampled_from([1, 3])),
        draw(st.sampled_from([1, 3, 16, 17, 48, 530])),
    )
    rng = np.random.default_rng(draw(seeds))
    made, images = [], draw(st.integers(1, 3))
    for _ in range(2):
        numbers = rng.standard_normal((images, *image))
        numbers *= (rng.random(numbers.shape) < 0.9) * 2.0 ** draw(st.integers(-20, 20))
        kind = draw(st.sampled_from(OPERAND_KINDS))
        made.append(as_operand_of_kind(numbers.astype(np.float32), kind))
    shape = [draw(st.sampled_from([size, 1])) for size in image]
    slopes = rng.standard_normal(shape) * draw(st.sampled_from([0, 0.25, 3]))
    return *made[0], *made[1], slopes.astype(np.float32)


def in_units(values, exponent):
    return np.ldexp(values, -exponent).astype(np.float32)


def reach(values, slopes, bits):
    """The exponent of a result."""
    largest = np.abs(values).max() * max(1.0, np.abs(slopes.astype(np.float64)).max())
    return oracle.exponent_of(largest, bits)


@pytest.mark.slow
@given(cases(), st.sampled_from([15, 14, 8, 2]))
def test_value(on_every_isa, on_every_thread_count, case, bits):
    x, values, _, _, slopes = case
    call = partial(kernels.prelu_forward, x, slopes, bits)
    y = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    assert y.exponent == reach(values, slopes, bits)
    z = in_units(values, y.exponent)
    expected = np.maximum(z, 0) + slopes * np.minimum(z, 0)
    np.testing.assert_array_equal(y.data, oracle.quantize_to(expected, 0, bits))
    assert y.max_abs == np.abs(y.data.astype(int)).max()


@pytest.mark.slow
@given(cases(), st.sampled_from([15, 14, 8]))
def test_gradients(on_every_isa, on_every_thread_count, case, bits):
    x, values, dy, dy_values, slopes = case
    call = partial(kernels.prelu_backward, dy, x, slopes, bits)
    dx, dslope = assert_same_everywhere(lambda: tuple(call()), on_every_isa, on_every_thread_count)
    assert dx.exponent == reach(dy_values, slopes, bits)
    slope_at_x = np.where(values > 0, 1, np.where(values < 0, slopes, 0))
    expected = in_units(dy_values, dx.exponent) * slope_at_x.astype(np.float32)
    np.testing.assert_array_equal(dx.data, oracle.quantize_to(expected, 0, bits))
    terms = dy_values * np.minimum(values, 0)
    axes = tuple(i for i, size in enumerate((1, *slopes.shape)) if size == 1)
    error = 2.0**-18 * np.abs(terms).sum(axes, keepdims=True)[0]
    assert dslope.shape == slopes.shape and dslope.dtype == np.float32
    assert (np.abs(dslope - terms.sum(axes, keepdims=True)[0]) <= error).all()


@pytest.mark.parametrize("shape", [(1, 1, 24), (300, 1, 24)])
def test_many_pixels(on_every_isa, on_every_thread_count, shape):
    rng = np.random.default_rng(3)
    x = dfpkeras.quantize(rng.standard_normal((2, 300, 300, 24)).astype(np.float32))
    slopes = rng.standard_normal(shape).astype(np.float32)
    y = assert_same_everywhere(
        partial(kernels.prelu_forward, x, slopes, 15), on_every_isa, on_every_thread_count
    )
    values = x.dequantize().astype(np.float64)
    expected = np.where(values > 0, values, slopes * values)
    assert np.abs(y.dequantize() - expected).max() <= 0.501 * 2.0**y.exponent
    call = partial(kernels.prelu_backward, x, x, slopes)
    _, dslope = assert_same_everywhere(lambda: tuple(call()), on_every_isa, on_every_thread_count)
    axes = tuple(i for i, size in enumerate((1, *shape)) if size == 1)
    terms = (values * np.minimum(values, 0)).sum(axes, keepdims=True)[0]
    np.testing.assert_allclose(dslope, terms, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite(bad):
    clean, marked = np.ones((2, 3, 16), np.float32), np.ones((2, 3, 16), np.float32)
    marked[0, 0, 0] = bad
    slopes, bad_slopes = np.ones((1, 16), np.float32), np.full((1, 16), bad, np.float32)
    for x, a in ((marked, slopes), (dfpkeras.quantize(marked), slopes), (clean, bad_slopes)):
        assert not kernels.prelu_forward(x, a).is_finite
        for dx, dslope in (kernels.prelu_backward(clean, x, a), kernels.prelu_backward(x, x, a)):
            assert not dx.is_finite and np.isnan(dslope).all()
    assert not kernels.prelu_backward(marked, clean, slopes).dx.is_finite


def test_nothing_and_errors():
    empty, x = np.zeros((0, 3, 4), np.float32), np.ones((2, 3, 4), np.float32)
    slopes = np.ones((1, 4), np.float32)
    assert kernels.prelu_forward(empty, slopes).shape == empty.shape
    dx, dslope = kernels.prelu_backward(empty, empty, slopes)
    assert dx.shape == empty.shape and dslope.shape == slopes.shape and not dslope.any()
    zeros = dfpkeras.quantize(np.zeros((2, 3, 4), np.float32))
    assert not kernels.prelu_forward(zeros, slopes * 1e30).data.any()
    for bad in (np.ones(4, np.float32), np.ones((2, 4), np.float32), np.ones((1, 4))):
        with pytest.raises(ValueError, match=r"slope: expected a float32 array of shape \(3, 4\)"):
            kernels.prelu_forward(x, bad)
    with pytest.raises(ValueError, match="x: expected the shape"):
        kernels.prelu_backward(x, x[:1], slopes)
    with pytest.raises(TypeError, match="x: expected a DFPTensor"):
        kernels.prelu_forward([1.0], slopes)
    with pytest.raises(ValueError, match="bits: expected 2 to 15"):
        kernels.prelu_forward(x, slopes, 16)
