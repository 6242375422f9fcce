"""DFPTensor: construction, addition, multiplication, down-conversion from INT32."""

from fractions import Fraction

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from strategies import bit_widths, seeds

import dfpkeras
from dfpkeras.kernels.quantized_tensor import DFPTensor

DETERMINISTIC = ("nearest", "truncate", "biased")
INT32_MIN = -(2**31)
NAN_TENSOR_VALUES = np.float32([1.0, np.nan, 2.0])

exponents = st.integers(-60, 50)


def random_tensor(rng, size, exponent, bits=15):
    data = rng.integers(-(2**bits) + 1, 2**bits, size).astype(np.int16)
    return DFPTensor(data, exponent)


def exact(tensor):
    """The values of a tensor as exact fractions."""
    unit = Fraction(2) ** tensor.exponent
    return [int(q) * unit for q in tensor.data.reshape(-1)]


def assert_within_one_unit(result, values):
    """Each element within one unit in the last place, exact where possible."""
    unit = Fraction(2) ** result.exponent
    for got, value in zip(exact(result), values, strict=True):
        if (value / unit).denominator == 1 and abs(value / unit) <= 32767:
            assert got == value
        assert abs(got - value) <= unit


def assert_sound(result, shape):
    assert isinstance(result, DFPTensor)
    assert result.shape == shape
    assert result.data.dtype == np.int16
    assert result.data.flags.c_contiguous
    assert result.max_abs == reference.largest_magnitude(result.data) <= 32767
    assert -128 <= result.exponent <= 127


# --- the tensor itself ----------------------------------------------------------------------


def test_attributes():
    tensor = DFPTensor(np.int16([[3, -7, 0], [1, 2, 5]]), -4)
    assert tensor.shape == (2, 3)
    assert tensor.exponent == -4
    assert tensor.max_abs == 7
    assert tensor.is_finite
    np.testing.assert_array_equal(tensor.dequantize() * 16, [[3, -7, 0], [1, 2, 5]])


def test_reshape_keeps_values_exponent_and_finiteness():
    tensor = DFPTensor(np.arange(-12, 12, dtype=np.int16), 5)
    reshaped = tensor.reshape((2, 3, 4))
    assert_sound(reshaped, (2, 3, 4))
    assert reshaped.exponent == 5
    assert reshaped.max_abs == 12
    np.testing.assert_array_equal(reshaped.data.reshape(-1), tensor.data)
    assert tensor.reshape((4, -1)).shape == (4, 6)
    assert not dfpkeras.quantize(NAN_TENSOR_VALUES).reshape((3, 1)).is_finite


@pytest.mark.parametrize("exponent, expected", [(126, np.inf), (113, 32767 * 2.0**113)])
def test_dequantize_beyond_fp32_is_infinite(exponent, expected):
    values = DFPTensor(np.int16([32767, -32767, 0]), exponent).dequantize()
    np.testing.assert_array_equal(values, np.float32([expected, -expected, 0]))


# --- down-conversion ------------------------------------------------------------------------


def int32_data(rng, kind, size):
    limit = 2 ** int(rng.integers(0, 32))
    data = rng.integers(-limit, limit, size)
    if kind == "minimum":
        data[rng.integers(size)] = INT32_MIN
    if kind == "maximum":
        data[rng.integers(size)] = 2**31 - 1
    return data.astype(np.int32)


@pytest.mark.slow
@pytest.mark.parametrize("rounding", DETERMINISTIC)
@given(
    kind=st.sampled_from(["random", "minimum", "maximum"]),
    size=st.integers(1, 150),
    bits=bit_widths,
    exponent=st.integers(-128, 90),
    seed=seeds,
)
def test_downconversion_matches_oracle(on_every_isa, rounding, kind, size, bits, exponent, seed):
    data = int32_data(np.random.default_rng(seed), kind, size)
    expected = reference.downconvert(data, exponent, bits, rounding)
    for tensor in on_every_isa(
        lambda: DFPTensor.from_int32(data, exponent, bits=bits, rounding=rounding)
    ).values():
        assert_sound(tensor, (size,))
        assert tensor.exponent == expected.exponent
        np.testing.assert_array_equal(tensor.data, expected.data)


@pytest.mark.parametrize(
    "value, bits, shift, nearest, truncate, biased",
    [
        (32767, 15, 0, 32767, 32767, 32767),
        (32768, 15, 1, 16384, 16384, 16384),
        (32769, 15, 1, 16384, 16384, 16385),
        (32771, 15, 1, 16386, 16385, 16386),
        (65535, 15, 1, 32767, 32767, 32767),
        (2**31 - 1, 15, 16, 32767, 32767, 32767),
        (2**31 - 1, 2, 29, 3, 3, 3),
        (0b100_01, 3, 2, 4, 4, 5),
        (0b100_10, 3, 2, 4, 4, 5),
        (0b101_10, 3, 2, 6, 5, 6),
        (0b100_001, 3, 3, 4, 4, 4),
        (0b100_010, 3, 3, 4, 4, 5),
    ],
)
def test_downconversion_by_hand(value, bits, shift, nearest, truncate, biased):
    """The shift is bit_length - bits; rounding looks at magnitudes and saturates."""
    data = np.int32([value, -value])
    for rounding, expected in zip(DETERMINISTIC, (nearest, truncate, biased), strict=True):
        tensor = DFPTensor.from_int32(data, -3, bits=bits, rounding=rounding)
        assert tensor.data.tolist() == [expected, -expected]
        assert tensor.exponent == -3 + shift


def test_downconversion_of_int32_min():
    """Its magnitude, 2**31, has 32 bits: one more than any other INT32."""
    tensor = DFPTensor.from_int32(np.int32([INT32_MIN, 1 << 17, -(1 << 16), 0]), 10, bits=15)
    assert tensor.data.tolist() == [-(2**14), 1, 0, 0]
    assert tensor.exponent == 10 + 17


def test_downconversion_of_small_values_changes_nothing():
    data = np.arange(-300, 300, dtype=np.int32).reshape(20, 30)
    tensor = DFPTensor.from_int32(data, 7)
    np.testing.assert_array_equal(tensor.data, data)
    assert tensor.exponent == 7


def test_downconversion_of_nothing():
    assert DFPTensor.from_int32(np.zeros((0, 3), np.int32), 7).shape == (0, 3)


@pytest.mark.parametrize("exponent, finite", [(109, True), (110, True), (111, False), (126, False)])
def test_downconversion_beyond_the_largest_exponent(exponent, finite):
    tensor = DFPTensor.from_int32(np.int32([2**31 - 1, 5]), exponent, bits=15)
    assert tensor.is_finite == finite
    assert tensor.exponent == (exponent + 16 if finite else reference.NONFINITE_EXPONENT)
    assert np.isnan(tensor.dequantize()).all() != finite


def test_stochastic_downconversion():
    data = np.full(400_001, 5 * 2**16 + 3 * 2**14, np.int32)
    data[::2] *= -1
    data[0] = 2**31 - 2**16
    first, again, other = (
        DFPTensor.from_int32(data, 0, bits=15, rounding="stochastic", seed=seed).data[1:]
        for seed in (1, 1, 2)
    )
    magnitude = np.abs(first)
    assert set(np.unique(magnitude)) == {5, 6}
    assert (np.sign(first) == np.sign(data[1:])).all()
    assert abs(magnitude.mean() - 5.75) < 5 * np.sqrt(0.25 * 0.75 / magnitude.size)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_downconversion_is_the_same_for_every_thread_count_and_isa(
    on_every_isa, on_every_thread_count
):
    data = np.random.default_rng(0).integers(-(2**28), 2**28, 700_001).astype(np.int32)
    for rounding, seed in (("nearest", None), ("stochastic", 3)):
        by_isa = on_every_isa(
            lambda rounding=rounding, seed=seed: on_every_thread_count(
                lambda: DFPTensor.from_int32(data, 0, bits=13, rounding=rounding, seed=seed)
            )
        )
        expected = by_isa["scalar"][1]
        for by_threads in by_isa.values():
            for tensor in by_threads.values():
                assert tensor.exponent == expected.exponent
                np.testing.assert_array_equal(tensor.data, expected.data)


# --- multiplication -------------------------------------------------------------------------


@given(size=st.integers(1, 60), left=exponents, right=exponents, bits=bit_widths, seed=seeds)
def test_product(size, left, right, bits, seed):
    rng = np.random.default_rng(seed)
    a, b = random_tensor(rng, size, left, bits), random_tensor(rng, size, right)
    result = a * b
    assert_sound(result, (size,))
    assert_within_one_unit(result, [p * q for p, q in zip(exact(a), exact(b), strict=True)])
    assert result.exponent >= left + right
    assert result.exponent == left + right or result.max_abs >= 2**14


def test_product_of_extremes():
    a = DFPTensor(np.int16([32767, -32767, 1]), 0)
    result = a * a
    # 32767**2 has 30 bits: shifted right by 15 to 32766.00003.
    assert result.data.tolist() == [32766, 32766, 0]
    assert result.exponent == 15


def test_small_products_are_exact():
    a = DFPTensor(np.int16([3, -5, 0, 181]), 3)
    b = DFPTensor(np.int16([7, 11, 9, -181]), -10)
    result = a * b
    assert result.data.tolist() == [21, -55, 0, -32761]
    assert result.exponent == -7


def test_product_with_zero_is_zero():
    a = DFPTensor(np.int16([5, -9]), 20)
    result = a * dfpkeras.quantize(np.zeros(2, np.float32))
    assert result.is_finite
    assert not result.data.any()


@pytest.mark.parametrize("left, right", [(100, 100), (126, 126), (60, 60), (56, 56)])
def test_product_beyond_the_largest_exponent_is_nonfinite(left, right):
    values = np.int16([32767, -32767, 12])
    result = DFPTensor(values, left) * DFPTensor(values, right)
    assert not result.is_finite
    assert result.exponent == reference.NONFINITE_EXPONENT
    assert np.isnan(result.dequantize()).all()


@pytest.mark.parametrize("left, right", [(-72, -71), (-72, -72), (-75, -75), (-78, -78)])
def test_product_below_the_smallest_exponent_underflows_gradually(left, right):
    rng = np.random.default_rng(1)
    a, b = random_tensor(rng, 200, left), random_tensor(rng, 200, right)
    result = a * b
    assert_sound(result, (200,))
    assert result.exponent == -128
    assert result.data.any()
    assert_within_one_unit(result, [p * q for p, q in zip(exact(a), exact(b), strict=True)])


@pytest.mark.parametrize("left, right", [(-100, -100), (-128, -128)])
def test_product_far_below_the_smallest_exponent_is_zero(left, right):
    a, b = (DFPTensor(np.int16([32767, -32767]), e) for e in (left, right))
    result = a * b
    assert result.is_finite
    assert not result.data.any()
    assert not result.dequantize().any()


# --- addition -------------------------------------------------------------------------------


@given(size=st.integers(1, 60), left=exponents, right=exponents, bits=bit_widths, seed=seeds)
def test_sum(size, left, right, bits, seed):
    rng = np.random.default_rng(seed)
    a, b = random_tensor(rng, size, left, bits), random_tensor(rng, size, right)
    result = a + b
    assert_sound(result, (size,))
    assert_within_one_unit(result, [p + q for p, q in zip(exact(a), exact(b), strict=True)])


@given(size=st.integers(1, 60), exponent=exponents, difference=st.integers(0, 20), seed=seeds)
def test_sum_keeps_fifteen_bits(size, exponent, difference, seed):
    """Tensors that use all their bits give a sum in units of the larger, or twice that."""
    rng = np.random.default_rng(seed)
    a, b = random_tensor(rng, size, exponent), random_tensor(rng, size, exponent - difference)
    a.data[0], b.data[0] = 32767, 1
    for result in (DFPTensor(a.data, a.exponent) + b, b + DFPTensor(a.data, a.exponent)):
        assert result.exponent - exponent in (0, 1)
        assert result.max_abs >= 2**14 - 1


@given(size=st.integers(1, 60), left=exponents, right=exponents, seed=seeds)
def test_sum_and_product_commute_and_negate(size, left, right, seed):
    rng = np.random.default_rng(seed)
    a, b = random_tensor(rng, size, left), random_tensor(rng, size, right)
    minus_a, minus_b = DFPTensor(-a.data, left), DFPTensor(-b.data, right)
    for one, other in ((a + b, b + a), (a * b, b * a), (a * b, minus_a * minus_b)):
        assert one.exponent == other.exponent
        np.testing.assert_array_equal(one.data, other.data)
    negative = minus_a + minus_b
    np.testing.assert_array_equal(negative.data, -(a + b).data)


def test_sum_of_extremes_is_shifted_once_and_saturates():
    a = DFPTensor(np.int16([32767, -32767, 100, 32767]), 4)
    b = DFPTensor(np.int16([32767, -32767, 1, -32767]), 4)
    result = a + b
    assert result.data.tolist() == [32767, -32767, 50, 0]
    assert result.exponent == 5
    c = DFPTensor(np.int16([32767, -32767, 100, 32767]), 4)
    d = DFPTensor(np.int16([32766, -32766, 1, 32766]), 4)
    # 65533 / 2 is a tie that would round to 32766; 101 / 2 one that rounds to 50.
    assert (c + d).data.tolist() == [32766, -32766, 50, 32766]


@pytest.mark.parametrize("exponent", [-100, -20, 0, 20])
def test_sum_with_a_zero_tensor_changes_nothing(exponent):
    """A zero tensor's exponent means nothing: it must not shift the other operand away."""
    a = DFPTensor(np.int16([5, -9, 32767]), exponent)
    zero = dfpkeras.quantize(np.zeros(3, np.float32))
    for result in (a + zero, zero + a):
        assert [float(v) for v in exact(result)] == [float(v) for v in exact(a)]


def test_sum_beyond_the_largest_exponent_is_nonfinite():
    a = DFPTensor(np.int16([32767, 1]), 126)
    result = a + a
    assert not result.is_finite
    assert np.isnan(result.dequantize()).all()


def test_sum_at_the_smallest_exponent_is_exact():
    a = DFPTensor(np.int16([5, -9, 0]), -128)
    result = a + a
    assert result.exponent == -128
    assert result.data.tolist() == [10, -18, 0]


# --- the non-finite sentinel ----------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_operand_makes_sum_and_product_nonfinite(value):
    finite = DFPTensor(np.int16([1, 2, 3]), 0)
    zero = DFPTensor(np.int16([0, 0, 0]), 0)
    bad = dfpkeras.quantize(np.float32([1.0, value, 2.0]))
    for other in (finite, zero, bad):
        for result in (bad + other, other + bad, bad * other, other * bad):
            assert result.exponent == reference.NONFINITE_EXPONENT
            assert not result.is_finite
            assert np.isnan(result.dequantize()).all()
