"""Maximum and minimum of two tensors and their gradients, against NumPy's, bit for bit."""

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

KERNELS = {
    "maximum": (kernels.maximum, kernels.maximum_backward, np.maximum, np.greater_equal),
    "minimum": (kernels.minimum, kernels.minimum_backward, np.minimum, np.less_equal),
}
every_kernel = pytest.mark.parametrize("name", KERNELS)


@st.composite
def pairs(draw):
    """(a, its values, b, its values), many of which are equal."""
    shape = draw(st.sampled_from([1, 3, 40])), draw(st.sampled_from([1, 3, 16, 17, 48, 530]))
    rng = np.random.default_rng(draw(seeds))
    numbers = [rng.integers(-3, 4, shape) * draw(st.sampled_from([0, 1, 1, 1])) for _ in range(2)]
    numbers[0] = numbers[0] * 2.0 ** draw(st.sampled_from([0, 0, -12, 40]))
    made = [
        as_operand_of_kind(x.astype(np.float32), draw(st.sampled_from(OPERAND_KINDS)))
        for x in numbers
    ]
    return *made[0], *made[1]


@pytest.mark.slow
@given(st.sampled_from(list(KERNELS)), pairs(), st.sampled_from([15, 14, 8, 2]))
def test_value(on_every_isa, on_every_thread_count, name, operands, bits):
    a, a_values, b, b_values = operands
    kernel, _, function, _ = KERNELS[name]
    y = assert_same_everywhere(partial(kernel, a, b, bits), on_every_isa, on_every_thread_count)
    largest = max(np.abs(a_values).max(), np.abs(b_values).max())
    assert y.exponent == oracle.exponent_of(largest, bits)
    expected = function(a_values, b_values).astype(np.float32)
    np.testing.assert_array_equal(y.data, oracle.quantize_to(expected, y.exponent, bits))
    assert y.max_abs == np.abs(y.data.astype(int)).max()


@pytest.mark.slow
@given(st.sampled_from(list(KERNELS)), pairs(), st.booleans(), seeds)
def test_gradient(on_every_isa, on_every_thread_count, name, operands, is_float, seed):
    a, a_values, b, b_values = operands
    _, kernel, _, wins = KERNELS[name]
    numbers = np.random.default_rng(seed).standard_normal(a.shape).astype(np.float32)
    whole = dfpkeras.quantize(numbers, 15)
    call = partial(kernel, numbers if is_float else whole, a, b, 15)
    gradients = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    goes_to_a = wins(a_values, b_values)
    for gradient, where in zip(gradients, (goes_to_a, ~goes_to_a), strict=True):
        assert gradient.exponent == whole.exponent
        np.testing.assert_array_equal(gradient.data, whole.data * where)
        assert gradient.max_abs == np.abs(gradient.data.astype(int)).max()


@every_kernel
def test_many_elements(on_every_isa, on_every_thread_count, name):
    rng = np.random.default_rng(3)
    a, b, dy = (
        dfpkeras.quantize(rng.standard_normal(1_300_001).astype(np.float32)) for _ in range(3)
    )
    kernel, backward, function, wins = KERNELS[name]
    y = assert_same_everywhere(partial(kernel, a, b, 15), on_every_isa, on_every_thread_count)
    expected = function(a.dequantize(), b.dequantize())
    assert np.abs(y.dequantize() - expected).max() <= 0.5 * 2.0**y.exponent
    da, _ = assert_same_everywhere(partial(backward, dy, a, b), on_every_isa, on_every_thread_count)
    np.testing.assert_array_equal(da.data, dy.data * wins(a.dequantize(), b.dequantize()))


@every_kernel
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite(name, bad):
    kernel, backward, *_ = KERNELS[name]
    clean, marked = np.ones((2, 16), np.float32), np.ones((2, 16), np.float32)
    marked[0, 0] = bad
    for a, b in (
        (marked, clean),
        (clean, marked),
        (dfpkeras.quantize(marked), clean),
        (as_operand_of_kind(clean, "blocks")[0], marked),
    ):
        assert not kernel(a, b).is_finite
        assert not any(gradient.is_finite for gradient in backward(clean, a, b))
    assert not any(gradient.is_finite for gradient in backward(marked, clean, clean))


@every_kernel
def test_nothing_and_errors(name):
    kernel, backward, *_ = KERNELS[name]
    empty, x = np.zeros((0, 3), np.float32), np.ones((2, 3), np.float32)
    assert kernel(empty, empty).shape == empty.shape
    assert [gradient.shape for gradient in backward(empty, empty, empty)] == [(0, 3)] * 2
    with pytest.raises(ValueError, match=r"b: expected the shape \(2, 3\), got \(2, 1\)"):
        kernel(x, x[:, :1])
    with pytest.raises(ValueError, match=r"a: expected the shape \(2, 3\), got \(1, 3\)"):
        backward(x, x[:1], x)
    with pytest.raises(TypeError, match="a: expected a DFPTensor"):
        kernel([1.0], x)
    with pytest.raises(ValueError, match="bits: expected 2 to 15"):
        kernel(x, x, 16)
