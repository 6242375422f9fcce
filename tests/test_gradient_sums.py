"""The sum of the gradients of one tensor, masked by its activation, against a plain NumPy sum."""

from functools import partial

import numpy as np
import pytest
import reference
import reference_batch_norm as oracle
from checks import tensor
from hypothesis import given
from hypothesis import strategies as st

from dfpkeras import kernels, quantize
from dfpkeras.kernels.quantized_tensor import NONFINITE_EXPONENT, DFPTensor

SIZES = [1, 2, 7, 8, 15, 16, 31, 33, 511, 512, 513, 1000, 5000]


def random_gradients(rng, size, kinds):
    gradients = []
    for kind in kinds:
        numbers = rng.standard_normal(size) * 2.0 ** rng.integers(-12, 6)
        numbers = (numbers * (kind != "zeros")).astype(np.float32)
        gradients.append(numbers if kind == "float32" else reference.quantize(numbers, 15))
    return gradients


def random_y(rng, size):
    data = rng.integers(-200, 400, size).astype(np.int16)
    data[:: 1 + size // 7] = 192  # 6 in units of 2**-5
    return reference.Operand(data, -5)


def expected_sum(gradients, y, activation, bits):
    """Exponent and integers: FP32 terms and sums in the order given, in units of the result."""
    reach = sum(float(np.abs(oracle.values(g)).max()) for g in gradients)
    exponent = oracle.exponent_of(reach, bits)
    total = None
    for gradient in gradients:
        term = np.ldexp(oracle.values(gradient), -exponent).astype(np.float32)
        total = term if total is None else total + term
    if activation is not None:
        total = np.where(oracle.passes(y, activation), total, np.float32(0))
    return exponent, oracle.quantize_to(total, 0, bits)


@pytest.mark.slow
@given(
    st.integers(0, 2**32),
    st.sampled_from(SIZES),
    st.lists(st.sampled_from(["float32", "integers", "zeros"]), min_size=2, max_size=5),
    st.sampled_from([None, "relu", "relu6"]),
    st.integers(2, 15),
)
def test_matches_the_oracle(
    on_every_isa, on_every_thread_count, seed, size, kinds, activation, bits
):
    rng = np.random.default_rng(seed)
    gradients, y = random_gradients(rng, size, kinds), random_y(rng, size)
    given_gradients = [tensor(g) if isinstance(g, reference.Operand) else g for g in gradients]
    call = partial(kernels.sum_gradients, given_gradients, tensor(y), activation, bits)
    exponent, data = expected_sum(gradients, y, activation, bits)
    for by_threads in on_every_isa(lambda: on_every_thread_count(call)).values():
        for result in by_threads.values():
            assert result.exponent == exponent
            np.testing.assert_array_equal(result.data, data)
            assert result.max_abs == np.abs(data.astype(np.int64)).max()


@pytest.mark.slow
@given(
    st.integers(0, 2**32),
    st.sampled_from(SIZES),
    st.lists(st.sampled_from(["float32", "integers", "zeros"]), min_size=1, max_size=4),
    st.integers(2, 15),
)
def test_a_weighted_sum(on_every_isa, on_every_thread_count, seed, size, kinds, bits):
    """FP32 products in units of the result, added in the order given."""
    rng = np.random.default_rng(seed)
    tensors = random_gradients(rng, size, kinds)
    factors = rng.choice([1, -1, 1 / 3, 0.5, 0, 1e3], len(kinds)).astype(np.float32)
    given_tensors = [tensor(t) if isinstance(t, reference.Operand) else t for t in tensors]
    call = partial(kernels.weighted_sum, given_tensors, factors, bits)
    pairs = [(oracle.values(t), f) for t, f in zip(tensors, factors, strict=True)]
    reach = sum(float(np.abs(v).max()) * abs(float(f)) for v, f in pairs)
    exponent = oracle.exponent_of(reach, bits)
    terms = [in_units_of(t, exponent, factor) for t, factor in zip(tensors, factors, strict=True)]
    data = oracle.quantize_to(sum(terms[1:], terms[0]), 0, bits)
    for by_threads in on_every_isa(lambda: on_every_thread_count(call)).values():
        for result in by_threads.values():
            assert result.exponent == exponent
            np.testing.assert_array_equal(result.data, data)
            assert result.max_abs == np.abs(data.astype(np.int64)).max()


def in_units_of(operand, exponent, factor):
    """Numbers of an operand times FP32's factor of them."""
    is_integer = isinstance(operand, reference.Operand)
    numbers = operand.data.astype(np.float32) if is_integer else operand
    unit = np.ldexp(1.0, operand.exponent) if is_integer else 1.0
    return numbers * np.float32(unit * np.ldexp(float(factor), -exponent))


def test_weighted_sums_that_are_refused_or_not_finite():
    x = np.ones(3, np.float32)
    for tensors, factors in (([], []), ([x], [1, 2])):
        with pytest.raises(ValueError, match="factors: expected a number for each"):
            kernels.weighted_sum(tensors, factors)
    with pytest.raises(ValueError, match="tensors: expected the shape"):
        kernels.weighted_sum([x, x[:2]], [1, 1])
    assert not kernels.weighted_sum([x, x * np.nan], [1, 1]).is_finite
    assert not kernels.weighted_sum([x], [np.inf]).is_finite
    assert kernels.weighted_sum([x[:0]], [1]).shape == (0,)


def test_many_parts(on_every_isa, on_every_thread_count):
    rng = np.random.default_rng(1)
    gradients = random_gradients(rng, 300_001, ["float32", "integers"])
    y = random_y(rng, 300_001)
    exponent, data = expected_sum(gradients, y, "relu", 15)
    call = partial(
        kernels.sum_gradients, [gradients[0], tensor(gradients[1])], tensor(y), "relu", 15
    )
    for by_threads in on_every_isa(lambda: on_every_thread_count(call)).values():
        for result in by_threads.values():
            assert result.exponent == exponent
            np.testing.assert_array_equal(result.data, data)


def test_a_single_tensor_keeps_its_integers():
    dy = DFPTensor(np.array([[3, -5, 9]], np.int16), -7)
    assert kernels.sum_gradients([dy]) is dy
    y = DFPTensor(np.array([[1, 1, 0]], np.int16), 0)
    dz = kernels.sum_gradients([dy], y, "relu")
    np.testing.assert_array_equal(dz.data, [[3, -5, 0]])
    assert dz.exponent == -7


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_what_is_not_finite_makes_the_sum_so(on_every_isa, bad, as_tensor):
    x = np.ones((3, 70), np.float32)
    x[2, 69] = bad
    other = DFPTensor(np.ones((3, 70), np.int16), 0)
    call = partial(kernels.sum_gradients, [other, quantize(x) if as_tensor else x])
    for result in on_every_isa(call).values():
        assert result.exponent == NONFINITE_EXPONENT
        assert not result.data.any()


def test_nothing_to_add_up():
    empty = DFPTensor(np.zeros((2, 0), np.int16), 0)
    assert kernels.sum_gradients([empty, empty]).shape == (2, 0)
    with pytest.raises(ValueError, match="gradients: expected at least one, got none"):
        kernels.sum_gradients([])


def test_operands_that_do_not_fit():
    a, b = np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)
    with pytest.raises(ValueError, match=r"gradients: expected the shape \(2, 3\), got \(2, 4\)"):
        kernels.sum_gradients([a, b])
    with pytest.raises(TypeError, match=r"gradients: expected a DFPTensor .* got list"):
        kernels.sum_gradients([a, [1.0]])
    with pytest.raises(TypeError, match="y: expected a DFPTensor"):
        kernels.sum_gradients([a, a], a, "relu")
    with pytest.raises(ValueError, match="activation: expected None, 'relu' or 'relu6'"):
        kernels.sum_gradients([a, a], None, "tanh")
    with pytest.raises(ValueError, match="bits: expected 2 to 15"):
        kernels.sum_gradients([a, a], bits=16)
