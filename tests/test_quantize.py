"""Quantisation: every rounding, the special cases, all ISAs and thread counts."""

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from strategies import bit_widths, data_kinds, float_data, seeds

import dfpkeras

DETERMINISTIC = ("nearest", "truncate", "biased")
ROUNDINGS = (*DETERMINISTIC, "stochastic")
EVERY_ROUNDING = pytest.mark.parametrize("rounding", ROUNDINGS)
FLT_MAX = np.finfo(np.float32).max
FLT_MIN = np.finfo(np.float32).tiny
SMALLEST_DENORMAL = np.float32(2.0**-149)

shapes = st.one_of(
    st.integers(1, 300).map(lambda size: (size,)),
    st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(1, 17)),
)


def quantize(x, bits, rounding, seed=None):
    """Quantise; stochastic rounding gets a seed, as it must."""
    if rounding == "stochastic" and seed is None:
        seed = 99
    return dfpkeras.quantize(x, bits=bits, rounding=rounding, seed=seed)


def assert_equal(tensor, expected):
    assert tensor.data.dtype == np.int16
    assert tensor.exponent == expected.exponent
    np.testing.assert_array_equal(tensor.data, expected.data)


def assert_valid(x, tensor, bits, rounding):
    """Check a finite tensor: bit for bit, or floor-or-ceil for stochastic rounding."""
    assert tensor.is_finite
    assert tensor.shape == x.shape
    assert tensor.max_abs == reference.largest_magnitude(tensor.data)
    if rounding != "stochastic":
        assert_equal(tensor, reference.quantize(x, bits, rounding))
        return
    magnitude, exponent = reference.scaled_magnitude(x, bits) if x.any() else (np.abs(x), 0)
    largest = 2**bits - 1
    q = np.abs(tensor.data.astype(np.int64))
    assert tensor.exponent == exponent
    assert (q >= np.minimum(np.floor(magnitude), largest)).all()
    assert (q <= np.minimum(np.ceil(magnitude), largest)).all()
    assert (np.sign(tensor.data) * np.sign(x) >= 0).all()


@pytest.mark.slow
@EVERY_ROUNDING
@given(shape=shapes, kind=data_kinds, bits=bit_widths, seed=seeds)
def test_matches_oracle(on_every_isa, rounding, shape, kind, bits, seed):
    rng = np.random.default_rng(seed)
    x = float_data(rng, shape, kind, rng.choice(np.float32([-1, 1]), shape))
    results = on_every_isa(lambda: quantize(x, bits, rounding))
    for tensor in results.values():
        assert_valid(x, tensor, bits, rounding)
        np.testing.assert_array_equal(tensor.data, results["scalar"].data)


@pytest.mark.slow
@EVERY_ROUNDING
@given(size=st.integers(1, 100), bits=bit_widths, scale=st.integers(-149, 127), seed=seeds)
def test_ties_and_quarters_at_every_scale(on_every_isa, rounding, size, bits, scale, seed):
    """Magnitudes at and next to multiples of 1/8 of the last place, over FP32's whole range."""
    rng = np.random.default_rng(seed)
    eighths = rng.integers(-(2 ** (bits + 3)) + 1, 2 ** (bits + 3), size).astype(np.float32)
    eighths[rng.integers(size)] = 2 ** (bits + 3) - 8
    with np.errstate(over="ignore", under="ignore"):
        x = np.ldexp(eighths, scale - bits - 2)
    x = np.where(np.isfinite(x), x, np.copysign(FLT_MAX, x)).astype(np.float32)
    x = np.nextafter(
        x, rng.choice(np.float32([-np.inf, np.inf]), size), where=rng.random(size) < 0.3, out=x
    )
    x = np.clip(x, -FLT_MAX, FLT_MAX)
    for tensor in on_every_isa(lambda: quantize(x, bits, rounding)).values():
        assert_valid(x, tensor, bits, rounding)


@pytest.mark.parametrize(
    "value, nearest, truncate, biased",
    [
        (4.0, 4, 4, 4),
        (4.125, 4, 4, 4),
        (np.nextafter(np.float32(4.25), np.float32(0)), 4, 4, 4),
        (4.25, 4, 4, 5),
        (4.5, 4, 4, 5),
        (np.nextafter(np.float32(4.5), np.float32(9)), 5, 4, 5),
        (5.5, 6, 5, 6),
        (5.75, 6, 5, 6),
        (0.2, 0, 0, 0),
        (0.25, 0, 0, 1),
        (0.5, 0, 0, 1),
        (1.5, 2, 1, 2),
    ],
)
def test_rounding_by_hand(on_every_isa, value, nearest, truncate, biased):
    """Five bits with a maximum of 16..31 have exponent zero; signs must not matter."""
    x = np.float32([16.0, value, -value])
    for rounding, expected in zip(DETERMINISTIC, (nearest, truncate, biased), strict=True):
        for tensor in on_every_isa(lambda rounding=rounding: quantize(x, 5, rounding)).values():
            assert tensor.exponent == 0
            assert tensor.data.tolist() == [16, expected, -expected]


def test_defaults_are_15_bits_and_nearest():
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert_equal(dfpkeras.quantize(x), reference.quantize(x, 15, "nearest"))


# --- special values -------------------------------------------------------------------------


@EVERY_ROUNDING
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zero_tensor(on_every_isa, rounding, zero):
    x = np.full((3, 7), zero, np.float32)
    for tensor in on_every_isa(lambda: quantize(x, 15, rounding)).values():
        assert tensor.exponent == 0
        assert tensor.max_abs == 0
        assert tensor.is_finite
        assert not tensor.data.any()
        assert not tensor.dequantize().any()


@pytest.mark.parametrize("shape", [(0,), (0, 3, 4), (2, 0)])
@EVERY_ROUNDING
def test_empty_tensor(rounding, shape):
    tensor = quantize(np.zeros(shape, np.float32), 15, rounding)
    assert tensor.shape == shape
    assert tensor.exponent == 0
    assert tensor.max_abs == 0
    assert tensor.dequantize().shape == shape


@EVERY_ROUNDING
@pytest.mark.parametrize("bits", range(2, 16))
@pytest.mark.parametrize(
    "largest",
    [
        FLT_MAX,
        2.0**127,
        1.0,
        FLT_MIN,
        FLT_MIN * 3,
        2.0**-115,
        2.0**-127,
        2.0**-128,
        2.0**-130,
        2.0**-149,
    ],
)
def test_extreme_maxima(on_every_isa, rounding, bits, largest):
    """No Inf, no wrapped exponent, and no silent zero for any normal FP32 number."""
    factors = np.float32([1.0, -1.0, 0.5, -0.3, 0.75, 0.1, 0.0, -0.99])
    x = np.float32(largest) * factors
    for tensor in on_every_isa(lambda: quantize(x, bits, rounding)).values():
        assert_valid(x, tensor, bits, rounding)
        assert -128 <= tensor.exponent <= 126
        assert np.isfinite(tensor.dequantize()).all()
        if largest >= FLT_MIN:
            assert tensor.data[0] >= 2 and tensor.data[1] <= -2


@pytest.mark.parametrize("bits", range(2, 16))
@pytest.mark.parametrize("power", [-126, -100, 0, 1, 60, 128])
@pytest.mark.parametrize("rounding", ["nearest", "biased", "stochastic"])
def test_rounding_up_at_the_maximum_saturates(on_every_isa, rounding, power, bits):
    """Just below a power of two the magnitude rounds up to 2**bits and must saturate."""
    below = np.nextafter(np.float32(2.0) ** np.float32(power - 1), np.float32(np.inf))
    below = np.ldexp(np.float32(1.0 - 2.0**-24), power) if power > -126 else below
    x = np.tile(np.float32([below, -below]), 40)
    for tensor in on_every_isa(lambda: quantize(x, bits, rounding)).values():
        assert_valid(x, tensor, bits, rounding)
        if power > -126:
            assert tensor.data.max() == 2**bits - 1
            assert tensor.data.min() == -(2**bits) + 1


NONFINITE_BITS = {
    "nan": 0x7FC00000,
    "negative_nan": 0xFFC00000,
    "signalling_nan": 0x7F800001,
    "negative_signalling_nan": 0xFF800001,
    "all_ones_nan": 0xFFFFFFFF,
    "inf": 0x7F800000,
    "negative_inf": 0xFF800000,
}


@EVERY_ROUNDING
@pytest.mark.parametrize("pattern", NONFINITE_BITS.values(), ids=NONFINITE_BITS.keys())
def test_one_nonfinite_value_anywhere_makes_everything_nan(on_every_isa, rounding, pattern):
    def check_all_positions():
        for position in range(67):
            x = np.linspace(-3, 3, 67, dtype=np.float32)
            x.view(np.uint32)[position] = pattern
            tensor = quantize(x, 15, rounding)
            assert tensor.exponent == reference.NONFINITE_EXPONENT
            assert not tensor.is_finite
            assert not tensor.data.any()
            assert np.isnan(tensor.dequantize()).all()

    on_every_isa(check_all_positions)


def test_nonfinite_among_zeros_and_denormals(on_every_isa):
    for value in (np.nan, np.inf, -np.inf):
        x = np.float32([0.0, SMALLEST_DENORMAL, value])
        for tensor in on_every_isa(lambda x=x: dfpkeras.quantize(x)).values():
            assert not tensor.is_finite


def test_one_huge_outlier_leaves_the_rest_coarse_but_right():
    x = np.full(1001, 1.0, np.float32)
    x[500] = 1e30
    tensor = dfpkeras.quantize(x)
    assert np.count_nonzero(tensor.data) == 1
    assert abs(tensor.dequantize()[500] / 1e30 - 1) < 2.0**-15


def test_strided_and_transposed_input_is_read_by_value():
    x = np.random.default_rng(3).standard_normal((12, 14)).astype(np.float32)
    for view in (x[:, ::2], x.T, x[::-1], x[1:, 1:]):
        tensor = dfpkeras.quantize(view)
        assert_equal(tensor, reference.quantize(view))
        assert tensor.data.flags.c_contiguous


def test_input_is_not_changed():
    x = np.random.default_rng(3).standard_normal(100).astype(np.float32)
    copy = x.copy()
    x.flags.writeable = False
    for rounding in ROUNDINGS:
        quantize(x, 8, rounding)
    np.testing.assert_array_equal(x, copy)


@pytest.mark.slow
@given(size=st.integers(1, 200), bits=bit_widths, exponent=st.integers(-128, 126), seed=seeds)
def test_dequantize_is_exact(on_every_isa, size, bits, exponent, seed):
    data = np.random.default_rng(seed).integers(-(2**bits) + 1, 2**bits, size).astype(np.int16)
    tensor = dfpkeras.kernels.quantized_tensor.DFPTensor(data, exponent)
    for result in on_every_isa(tensor.dequantize).values():
        assert result.ctypes.data % 64 == 0
        expected = reference.scale(data, exponent)
        # Zero has one sign in DFP, whatever the exponent.
        np.testing.assert_array_equal(result, expected)
        assert result.dtype == np.float32


# --- properties of all roundings ------------------------------------------------------------


@pytest.mark.slow
@EVERY_ROUNDING
@given(size=st.integers(1, 200), bits=bit_widths, seed=seeds)
def test_rounding_is_symmetric_in_sign(rounding, size, bits, seed):
    x = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    np.testing.assert_array_equal(
        quantize(x, bits, rounding, seed).data, -quantize(-x, bits, rounding, seed).data
    )


@EVERY_ROUNDING
@pytest.mark.parametrize("bits", [2, 8, 13, 15])
def test_representable_values_are_kept(rounding, bits):
    data = np.arange(-(2**bits) + 1, 2**bits, dtype=np.int32)
    tensor = quantize(np.ldexp(data.astype(np.float32), -20), bits, rounding)
    np.testing.assert_array_equal(tensor.data, data)
    assert tensor.exponent == -20


@EVERY_ROUNDING
def test_same_for_every_thread_count_and_isa(on_every_isa, on_every_thread_count, rounding):
    x = np.random.default_rng(1).standard_normal(1_300_003).astype(np.float32)
    by_isa = on_every_isa(lambda: on_every_thread_count(lambda: quantize(x, 15, rounding)))
    expected = by_isa["scalar"][1]
    assert_valid(x, expected, 15, rounding)
    for by_threads in by_isa.values():
        for tensor in by_threads.values():
            assert_equal(tensor, expected)


def test_nonfinite_is_seen_by_every_thread(on_every_thread_count):
    for position in (0, 399_999, 1_000_001, 1_300_002):
        x = np.ones(1_300_003, np.float32)
        x[position] = np.nan
        for tensor in on_every_thread_count(lambda x=x: dfpkeras.quantize(x)).values():
            assert not tensor.is_finite


# --- stochastic rounding --------------------------------------------------------------------


def stochastic_units(fraction, count, seed, whole=5):
    """Quantise ``count`` values ``whole + fraction`` (in last places) and return the integers."""
    x = np.full(count + 1, whole + fraction, np.float32)
    x[0] = 1024.0
    tensor = dfpkeras.quantize(x, bits=11, rounding="stochastic", seed=seed)
    assert tensor.exponent == 0
    return tensor.data[1:].astype(np.int64)


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**31, 2**32 + 5])
@pytest.mark.parametrize("fraction", [2.0**-12, 0.01, 0.125, 0.3, 0.5, 0.9, 1 - 2.0**-12])
def test_stochastic_rounding_is_unbiased(fraction, seed):
    count = 400_000
    q = stochastic_units(np.float32(fraction), count, seed)
    assert set(np.unique(q)) <= {5, 6}
    deviation = np.sqrt(count * fraction * (1 - fraction))
    assert abs((q - 5).sum() - count * fraction) < 5 * deviation + 1


def test_stochastic_rounding_of_negatives_is_unbiased():
    q = stochastic_units(np.float32(-0.3), 400_000, 4, whole=-5)
    assert set(np.unique(q)) == {-6, -5}
    assert abs(q.mean() + 5.3) < 5 * np.sqrt(0.21 / 400_000)


def test_stochastic_choices_of_neighbours_are_independent():
    choices = stochastic_units(0.5, 400_000, 8).astype(np.float64) - 5.5
    for lag in (1, 2, 3, 4, 7, 8, 16, 32, 64, 1024, 65536):
        correlation = (choices[lag:] * choices[:-lag]).mean() / 0.25
        assert abs(correlation) < 5 / np.sqrt(len(choices) - lag), f"lag {lag}"


def test_stochastic_choices_of_two_seeds_are_independent():
    for other in (9, 8 + 2**16, 8 + 2**32):
        first, second = (stochastic_units(0.5, 400_000, s) - 5.5 for s in (8, other))
        assert abs((first * second).mean() / 0.25) < 5 / np.sqrt(400_000), f"seed {other}"


def test_stochastic_rounding_is_a_function_of_the_seed():
    x = np.random.default_rng(2).standard_normal(10_000).astype(np.float32)
    first, again = (quantize(x, 8, "stochastic", 5).data for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != quantize(x, 8, "stochastic", 6).data).mean() > 0.1


def test_stochastic_choice_depends_on_seed_and_flat_index_alone():
    """Neither the shape nor what comes after an element changes how it is rounded."""
    x = np.random.default_rng(2).standard_normal(9_973).astype(np.float32)
    x[0] = 9.0
    whole = quantize(x, 8, "stochastic", 5).data
    for size in (1, 2, 17, 100, 4099):
        part = quantize(x[:size], 8, "stochastic", 5).data
        np.testing.assert_array_equal(part, whole[:size])
    shaped = quantize(x[:9_900].reshape(11, 30, 30), 8, "stochastic", 5).data
    np.testing.assert_array_equal(shaped.reshape(-1), whole[:9_900])


@pytest.mark.parametrize("seed", [np.int64(7), np.uint32(7)])
def test_numpy_integer_seeds(seed):
    x = np.random.default_rng(2).standard_normal(1000).astype(np.float32)
    np.testing.assert_array_equal(
        quantize(x, 8, "stochastic", seed).data, quantize(x, 8, "stochastic", 7).data
    )
