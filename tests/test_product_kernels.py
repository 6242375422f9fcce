"""Products of tensors, against float64."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import OPERAND_KINDS, as_operand_of_kind, seeds
from test_batch_norm_kernels import assert_same_everywhere

import dfpkeras
from dfpkeras import kernels


def operand(rng, shape, kind, magnitude):
    """An operand of normal numbers, and its float64 values."""
    numbers = (rng.standard_normal(shape) * magnitude).astype(np.float32)
    return as_operand_of_kind(numbers, kind)


@st.composite
def products(draw):
    """(a, its values, b, its values)"""
    shape = (
        draw(st.integers(1, 3)),
        draw(st.sampled_from([1, 2, 7, 40])),
        draw(st.sampled_from([1, 3, 9])),
        draw(st.sampled_from([1, 3, 16, 17, 32, 48, 530])),
    )
    images, channels = (draw(st.sampled_from([size, 1])) for size in (shape[0], shape[-1]))
    factor = draw(st.sampled_from([shape, (images, 1, 1, channels)]))
    rng = np.random.default_rng(draw(seeds))
    pair = [
        operand(rng, size, draw(st.sampled_from(OPERAND_KINDS)), 2.0 ** draw(st.integers(-20, 20)))
        for size in (shape, factor)
    ]
    return *pair[0], *pair[1]


@pytest.mark.slow
@given(products(), st.sampled_from([15, 14, 8, 2]))
def test_product(on_every_isa, on_every_thread_count, operands, bits):
    a, a_values, b, b_values = operands
    call = partial(kernels.multiply, a, b, bits)
    y = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    expected, unit, limit = a_values * b_values, 2.0**y.exponent, 2**bits - 1
    assert (np.abs(expected) <= (limit + 1) * unit).all()
    distance = np.abs(y.data * unit - np.clip(expected, -limit * unit, limit * unit))
    assert (distance <= 0.5001 * unit + 2.0**-22 * np.abs(expected)).all()
    assert y.max_abs == np.abs(y.data.astype(int)).max()
    bound = np.abs(a_values).max() * np.abs(b_values).max()
    assert bound == 0 or unit <= bound / 2 ** (bits - 1)


@pytest.mark.slow
@given(products())
def test_gradient_of_a_factor(on_every_isa, on_every_thread_count, operands):
    a, a_values, factor, _ = operands
    rng = np.random.default_rng(7)
    dy, dy_values = operand(rng, a.shape, rng.choice(OPERAND_KINDS), 1.0)
    if a.shape == factor.shape:
        return
    call = partial(kernels.sum_products, dy, a, factor.shape)
    sums = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    axes = tuple(i for i in range(4) if factor.shape[i] == 1)
    terms = dy_values * a_values
    error = 2.0**-18 * np.abs(terms).sum(axes, keepdims=True)
    assert (np.abs(sums - terms.sum(axes, keepdims=True)) <= error).all()


@pytest.mark.parametrize("shape", [(2, 300, 300, 24), (1, 1, 300_001, 1), (3, 128, 128, 64)])
def test_many_elements(on_every_isa, on_every_thread_count, shape):
    rng = np.random.default_rng(3)
    a, a_values = operand(rng, shape, "integers", 1)
    factor, values = operand(rng, (shape[0], 1, 1, shape[3]), "float32", 1)
    y = assert_same_everywhere(
        partial(kernels.multiply, a, factor), on_every_isa, on_every_thread_count
    )
    assert np.abs(y.data * 2.0**y.exponent - a_values * values).max() <= 0.501 * 2.0**y.exponent
    sums = assert_same_everywhere(
        partial(kernels.sum_products, a, a, factor.shape), on_every_isa, on_every_thread_count
    )
    np.testing.assert_allclose(sums, (a_values**2).sum((1, 2), keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite(bad):
    clean, marked = np.ones((2, 3, 4), np.float32), np.ones((2, 3, 4), np.float32)
    marked[0, 0, 0] = bad
    factor, bad_factor = np.ones((2, 1, 4), np.float32), np.full((2, 1, 4), bad, np.float32)
    for a, b in (
        (marked, clean),
        (clean, marked),
        (dfpkeras.quantize(marked), clean),
        (clean, dfpkeras.quantize(marked)),
        (marked, factor),
        (clean, bad_factor),
    ):
        assert not kernels.multiply(a, b).is_finite
    assert np.isnan(kernels.sum_products(dfpkeras.quantize(marked), clean, (2, 1, 4))).all()


def test_nothing_and_zeros():
    empty = np.zeros((0, 3, 4), np.float32)
    assert kernels.multiply(empty, empty).shape == empty.shape
    assert kernels.multiply(empty, np.zeros((0, 1, 4), np.float32)).shape == empty.shape
    assert not kernels.sum_products(empty, empty, (1, 1, 4)).any()
    zeros = dfpkeras.quantize(np.zeros((2, 3, 4), np.float32))
    y = kernels.multiply(zeros, np.full((2, 3, 4), 1e30, np.float32))
    assert y.is_finite and not y.data.any()


@pytest.mark.parametrize("shape", [(3, 2), (2, 3, 4, 1), (2, 2, 4), (3, 1, 4), (2, 1, 3)])
def test_shapes_that_do_not_fit_are_refused(shape):
    a = np.ones((2, 3, 4), np.float32)
    with pytest.raises(ValueError, match=r"b: expected the shape of a, \(2, 3, 4\)"):
        kernels.multiply(a, np.ones(shape, np.float32))
    with pytest.raises(TypeError, match="a: expected a DFPTensor"):
        kernels.multiply([1.0], a)
    with pytest.raises(ValueError, match="bits: expected 2 to 15"):
        kernels.multiply(a, a, 16)
