"""Fused batch normalisation against its oracle, on every instruction set and thread count."""

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import reference
import reference_batch_norm as oracle
from checks import tensor
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference_batch_norm import values

import dfpkeras
from dfpkeras import kernels
from dfpkeras.kernels.quantized_tensor import NONFINITE_EXPONENT, DFPTensor

ACTIVATIONS = (None, "relu", "relu6")
CHANNELS = [3, 1, 2, 5, 8, 16, 17, 24, 31, 32, 33, 64, 67, 100, 257, 1030]
PIXELS = [1, 2, 3, 7, 15, 33, 100, 331, 1000, 4099]
MOST_ELEMENTS = 60_000

# Several parts, with and without vectors' and rows' remainders.
LARGER_SHAPES = [
    (3, 30, 31, 67),
    (2, 40, 41, 64),
    (300_001, 1),
    (90_000, 3),
    (150, 2050),
    (270, 1000),
]

EVERY_LARGER_SHAPE = pytest.mark.parametrize("shape", LARGER_SHAPES, ids=str)
EVERY_ACTIVATION = pytest.mark.parametrize("activation", ACTIVATIONS)
EVERY_DY_KIND = pytest.mark.parametrize("dy_kind", ["integers", "float32"])
EVERY_X_KIND = pytest.mark.parametrize("x_kind", ["float32", "integers"])


@dataclass(frozen=True)
class Case:
    """One batch norm: shapes and kinds are drawn, data are made from the seed."""

    pixels: int
    channels: int
    kind: str
    x_kind: str
    dy_kind: str
    residual_kind: str | None
    activation: str | None
    bits: int
    seed: int

    @property
    def shape(self):
        return self.pixels, self.channels

    def rng(self, stream):
        return np.random.default_rng([self.seed, stream])

    def per_channel(self, stream, low, high):
        return self.rng(stream).uniform(low, high, self.channels).astype(np.float32)

    @property
    def x(self):
        """The float32 numbers of `given_x`."""
        return values(self._x).astype(np.float32)

    @property
    def given_x(self):
        return given_operand(self._x)

    @functools.cached_property
    def _x(self):
        numbers = self._numbers()
        return numbers if self.x_kind == "float32" else reference.quantize(numbers, self.bits)

    def _numbers(self):
        rng = self.rng(0)
        noise = rng.standard_normal(self.shape)
        if self.kind == "heavy_tailed":
            noise = rng.standard_t(1.3, self.shape)
        if self.kind == "constant":
            noise[:, :: 1 + self.channels // 2] = 0
        if self.kind == "zeros":
            noise[:] = 0
        shift = 0 if self.kind == "zeros" else rng.standard_normal(self.channels)
        if self.kind == "far":
            shift = shift * 1000
        spread = 2.0 ** rng.integers(-12, 13)
        return ((noise * self.per_channel(1, 0.1, 2) + shift) * spread).astype(np.float32)

    @property
    def factors(self):
        """(scale, offset) as of a batch norm of x, (gamma, beta) drawn."""
        x = self.x.astype(np.float64)
        scale = self.per_channel(2, -1.5, 1.5) / np.sqrt(x.var(axis=0) + 1e-3)
        offset = self.per_channel(3, -1, 1) - x.mean(axis=0) * scale
        return scale.astype(np.float32), offset.astype(np.float32)

    def other(self, kind, stream, bits=14):
        """Another operand of x's shape: a residual or a gradient."""
        if kind is None:
            return None
        rng = self.rng(stream)
        numbers = (rng.standard_normal(self.shape) * 2.0 ** rng.integers(-6, 3)).astype(np.float32)
        return numbers if kind == "float32" else reference.quantize(numbers, bits)

    @property
    def residual(self):
        return self.other(self.residual_kind, 4)

    @property
    def dy(self):
        return self.other(self.dy_kind, 5, bits=15)

    @property
    def y(self):
        """A result of forward, as an operand: integers around 0 and 6."""
        limit = 2**self.bits - 1
        exponent = 3 - self.bits
        data = self.rng(6).integers(-limit, limit, self.shape, dtype=np.int16, endpoint=True)
        data[:: 1 + self.pixels // 5] = min(round(6 * 2.0**-exponent), limit)
        return reference.Operand(data, exponent)

    @property
    def backward_factors(self):
        return [self.per_channel(7 + i, -1, 1) * np.float32(0.1**i) for i in range(3)]


operands = st.sampled_from(["integers", "float32"])


@st.composite
def cases(draw):
    channels = draw(st.sampled_from(CHANNELS))
    pixels = draw(st.sampled_from([p for p in PIXELS if p * channels <= MOST_ELEMENTS]))
    return Case(
        pixels,
        channels,
        draw(st.sampled_from(["normal", "heavy_tailed", "constant", "far", "zeros"])),
        draw(operands),
        draw(operands),
        draw(st.one_of(operands, st.none())),
        draw(st.sampled_from(ACTIVATIONS)),
        draw(st.sampled_from([14, 15, 13, 8, 2])),
        draw(st.integers(0, 2**32 - 1)),
    )


def given_operand(operand):
    """What the package takes for an oracle's operand."""
    return tensor(operand) if isinstance(operand, reference.Operand) else operand


def as_operand(result):
    return reference.Operand(result.data, result.exponent)


def same(a, b):
    """Whether two results are equal to the last bit."""
    if isinstance(a, DFPTensor):
        return (a.exponent, a.max_abs) == (b.exponent, b.max_abs) and same(a.data, b.data)
    if isinstance(a, tuple):
        return all(same(*pair) for pair in zip(a, b, strict=True))
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def assert_same_everywhere(call, on_every_isa, on_every_thread_count):
    """Fail unless a call returns the same bits for each ISA and thread count; return the result."""
    results = on_every_isa(lambda: on_every_thread_count(call))
    expected = results["scalar"][1]
    for isa, by_threads in results.items():
        for threads, result in by_threads.items():
            assert same(result, expected), f"{isa} with {threads} threads differs"
    return expected


def larger_case(
    shape, activation=None, dy_kind="integers", residual_kind="integers", x_kind="float32"
):
    pixels, channels = int(np.prod(shape[:-1])), shape[-1]
    return Case(pixels, channels, "far", x_kind, dy_kind, residual_kind, activation, 14, 5)


# --- statistics -----------------------------------------------------------------------------


def assert_statistics(result, x):
    mean, variance, minimum, maximum = oracle.statistics(x)
    oracle.assert_bounded(result.mean, mean, "mean")
    oracle.assert_bounded(result.variance, variance, "variance")
    np.testing.assert_array_equal(result.minimum, minimum)
    np.testing.assert_array_equal(result.maximum, maximum)


@pytest.mark.slow
@given(cases())
def test_statistics(on_every_isa, case):
    results = on_every_isa(partial(kernels.batch_norm_statistics, case.given_x))
    assert_statistics(results["scalar"], case.x)
    assert all(same(result, results["scalar"]) for result in results.values())


@EVERY_LARGER_SHAPE
@EVERY_X_KIND
def test_statistics_of_many_pixels(on_every_isa, on_every_thread_count, shape, x_kind):
    case = larger_case(shape, x_kind=x_kind)
    x = case.given_x.reshape(shape)
    result = assert_same_everywhere(
        lambda: kernels.batch_norm_statistics(x), on_every_isa, on_every_thread_count
    )
    assert_statistics(result, case.x)


@pytest.mark.parametrize("ratio", [0, 1e3, 1e5])
@pytest.mark.parametrize("pixels", [500, 60_000])
def test_a_far_mean_costs_no_accuracy(pixels, ratio):
    """Rounding errors of R terms are practically random: about sqrt(R) u, never 5 times that."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((pixels, 8)) + ratio).astype(np.float32)
    mean, variance, *_ = oracle.statistics(x)
    result = kernels.batch_norm_statistics(x)
    relative = np.abs(result.variance / variance.value - 1)
    assert relative.max() < 5 * np.sqrt(oracle.LONGEST_SUM) * reference.UNIT_ROUNDOFF
    allowed = 5 * reference.UNIT_ROUNDOFF * np.sqrt(oracle.LONGEST_SUM * variance.value)
    assert (np.abs(result.mean - mean.value) < allowed + reference.UNIT_ROUNDOFF * ratio).all()


def test_an_outlier_in_the_first_row_costs_little():
    """Distances are measured from the mean of 8 rows: with an outlier V among R rows their squares
    sum up to (R / 64 + 3 / 4) V^2, 3 times what they are from the mean; from V itself, R V^2."""
    x = np.random.default_rng(10).standard_normal((2000, 512)).astype(np.float32)
    x[0] += 1e4
    _, variance, *_ = oracle.statistics(x)
    relative = np.abs(kernels.batch_norm_statistics(x).variance / variance.value - 1)
    assert relative.max() < 5 * np.sqrt(oracle.LONGEST_SUM) * reference.UNIT_ROUNDOFF * 3


def test_outliers_in_the_first_rows_cost_little(on_every_isa):
    """The first rows determine the shift."""
    x = np.random.default_rng(1).standard_normal((3000, 70)).astype(np.float32)
    x[:40] += 1e4
    for result in on_every_isa(partial(kernels.batch_norm_statistics, x)).values():
        assert_statistics(result, x)


@pytest.mark.parametrize("value", [0.1, -1000.1, 1e-30, 1e30, 0.0])
@pytest.mark.parametrize("shape", [(1, 5), (1001, 3), (300, 1025), (140_000, 1)])
def test_a_constant_channel_has_variance_0(shape, value):
    x = np.full(shape, value, np.float32)
    result = kernels.batch_norm_statistics(x)
    for found in (result.mean, result.minimum, result.maximum):
        np.testing.assert_array_equal(found, np.full(shape[-1], value, np.float32))
    np.testing.assert_array_equal(result.variance, np.zeros(shape[-1]))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(0, 4), (0, 3, 4), (2, 0, 3, 4)])
@pytest.mark.parametrize("integer", [False, True])
def test_no_pixel(shape, integer, training):
    """As in TensorFlow: the mean of no numbers is NaN, their sum 0."""
    x = np.empty(shape, np.float32)
    x = dfpkeras.quantize(x) if integer else x
    mean, variance, *channel_range = kernels.batch_norm_statistics(x)
    assert np.isnan([mean, variance, *channel_range]).all()
    fold = kernels.batch_norm_fold(None, None, mean, variance, 1e-3)
    results = kernels.batch_norm_forward(x, *fold, *channel_range, x, "relu", 14, fold)
    assert [y.shape for y in results] == [shape, shape]
    sums = kernels.batch_norm_backward_reduce(x, x, mean, results[0], "relu")
    g = kernels.batch_norm_gradients(None, variance, 1e-3, sums, 0, training)
    assert not np.any([g.dgamma, g.dbeta, g.sum_dx])
    if training:
        factors = g.factor_dz, g.factor_x, g.constant
        dx, dz = kernels.batch_norm_backward(
            x, x, mean, *factors, *channel_range, sums.max_dz, want_dz=True
        )
    else:
        dx, dz = kernels.batch_norm_backward_frozen(x, g.factor_dz, sums.max_dz, want_dz=True)
    assert dx.shape == dz.shape == shape


def test_a_single_pixel():
    x = np.random.default_rng(2).standard_normal((1, 37)).astype(np.float32)
    result = kernels.batch_norm_statistics(x)
    for found in (result.mean, result.minimum, result.maximum):
        np.testing.assert_array_equal(found, x[0])
    assert not result.variance.any()


@pytest.mark.parametrize(("magnitude", "finite"), [(1e18, True), (1e20, False)])
def test_statistics_of_large_numbers(magnitude, finite):
    """FP32 cannot hold the square of 1e20; the rest is still right."""
    x = np.float32([[magnitude], [-magnitude]] * 300)
    result = kernels.batch_norm_statistics(x)
    assert result.mean == 0
    assert (result.minimum, result.maximum) == (x[1], x[0])
    assert np.isfinite(result.variance) == finite
    np.testing.assert_allclose(
        result.variance, np.var(x, dtype=np.float64, axis=0) if finite else np.inf
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(1, 1), (5, 35), (4000, 3), (150, 2050)])
def test_statistics_of_what_is_not_finite(on_every_isa, shape, bad):
    rng = np.random.default_rng(3)
    clean = rng.standard_normal(shape).astype(np.float32)
    expected = kernels.batch_norm_statistics(clean)
    for pixel in {0, shape[0] // 2, shape[0] - 1}:
        x, channel = clean.copy(), int(rng.integers(shape[1]))
        x[pixel, channel] = bad
        others = np.arange(shape[1]) != channel
        for result in on_every_isa(partial(kernels.batch_norm_statistics, x)).values():
            for found, good in zip(result, expected, strict=True):
                assert np.isnan(found[channel])
                np.testing.assert_array_equal(found[others], good[others])


# --- forward --------------------------------------------------------------------------------


def forward(case, with_range=True):
    x, residual = case.given_x, given_operand(case.residual)
    statistics = kernels.batch_norm_statistics(x)
    limits = (statistics.minimum, statistics.maximum) if with_range else (None, None)
    return kernels.batch_norm_forward(
        x, *case.factors, *limits, residual, case.activation, case.bits
    )


def assert_forward(result, case):
    x, residual, activation = case.x, case.residual, case.activation
    assert result.data.shape == x.shape
    bound = oracle.forward_bound(x, *case.factors, residual, activation)
    assert result.exponent == oracle.exponent_of(bound, case.bits)
    expected = oracle.normalize(x, *case.factors, residual, activation)
    oracle.assert_rounded(result, expected, case.bits)
    fp32 = oracle.normalize_fp32(x, *case.factors, residual, activation)
    rounded = oracle.quantize_to(fp32, result.exponent, case.bits)
    np.testing.assert_array_equal(result.data, rounded)


@pytest.mark.slow
@given(cases())
def test_forward(on_every_isa, case):
    results = on_every_isa(lambda: forward(case))
    assert_forward(results["scalar"], case)
    assert all(same(result, results["scalar"]) for result in results.values())
    assert same(forward(case, with_range=False), results["scalar"])


@pytest.mark.slow
@EVERY_LARGER_SHAPE
@EVERY_ACTIVATION
@EVERY_X_KIND
def test_forward_of_many_pixels(on_every_isa, on_every_thread_count, shape, activation, x_kind):
    case = larger_case(shape, activation, residual_kind="float32", x_kind=x_kind)
    result = assert_same_everywhere(lambda: forward(case), on_every_isa, on_every_thread_count)
    assert_forward(result, case)


def test_forward_rounds_ties_to_even(on_every_isa):
    x = np.float32([[0.5], [1.5], [2.5], [-0.5], [-1.5], [-2.5], [3.0]])
    one, zero, top = np.ones(1, np.float32), np.zeros(1, np.float32), np.float32([3])
    call = partial(kernels.batch_norm_forward, x, one, zero, -top, top, bits=2)
    for y in on_every_isa(call).values():
        assert (y.exponent, y.max_abs) == (0, 3)
        np.testing.assert_array_equal(y.data[:, 0], [0, 2, 2, 0, -2, -2, 3])


@pytest.mark.parametrize("bits", [2, 8, 14, 15])
@pytest.mark.parametrize("sign", [1, -1])
def test_what_rounds_up_at_the_top_saturates(on_every_isa, bits, sign):
    top = np.nextafter(np.float32(1), np.float32(0))
    x = np.full((40, 3), sign * top, np.float32)
    scale, offset = np.ones(3, np.float32), np.zeros(3, np.float32)
    for y in on_every_isa(lambda: kernels.batch_norm_forward(x, scale, offset, bits=bits)).values():
        assert (y.exponent, y.max_abs) == (-bits, 2**bits - 1)
        assert (y.data == sign * (2**bits - 1)).all()


def test_what_lies_outside_the_channel_range_saturates(on_every_isa):
    x = np.float32([[-1e30, -3, 0.5, 3, 1e30]] * 20).T
    scale, offset = np.ones(20, np.float32), np.zeros(20, np.float32)
    channel_range = -np.ones(20, np.float32), np.ones(20, np.float32)
    call = partial(kernels.batch_norm_forward, x, scale, offset, *channel_range, bits=8)
    for y in on_every_isa(call).values():
        assert (y.data == np.int16([[-255], [-255], [64], [255], [255]])).all()


def test_the_exponent_is_that_of_the_activation_s_result():
    """Channel 0 reaches far below 0, channel 1 above 6."""
    x = np.float32([[-1000, 1], [2, 40]])
    one, zero = np.ones(2, np.float32), np.zeros(2, np.float32)
    y = kernels.batch_norm_forward(x, one, zero, activation="relu")
    assert (y.exponent, y.max_abs) == (5 - 13, 40 * 2**8)
    y = kernels.batch_norm_forward(x, one, zero, activation="relu6")
    assert (y.exponent, y.max_abs) == (2 - 13, 6 * 2**11)
    residual = np.float32([[0, 0], [0, -64]])
    y = kernels.batch_norm_forward(x, one, zero, residual=residual, activation="relu")
    assert (y.exponent, y.max_abs) == (6 - 13, 2 * 2**7)


@EVERY_ACTIVATION
def test_all_zero(activation):
    x, zero = np.zeros((9, 5), np.float32), np.zeros(5, np.float32)
    y = kernels.batch_norm_forward(x, zero + 1, zero, residual=x, activation=activation)
    assert (y.exponent, y.max_abs) == (0, 0)
    assert not y.data.any()


@EVERY_ACTIVATION
@pytest.mark.parametrize("exponent", [-128, 126])
def test_a_residual_of_zeros_changes_nothing(activation, exponent):
    """Whatever its exponent."""
    x = np.random.default_rng(4).standard_normal((9, 5)).astype(np.float32)
    one, zero = np.ones(5, np.float32), np.zeros(5, np.float32)
    residual = DFPTensor(np.zeros((9, 5), np.int16), exponent)
    y = kernels.batch_norm_forward(x, one, zero, residual=residual, activation=activation)
    assert same(y, kernels.batch_norm_forward(x, one, zero, activation=activation))


def forward_of_largest(largest, scale, offset, residual=None):
    """An array whose largest magnitude is given, and what batch_norm_forward makes of it."""
    x = (np.random.default_rng(5).uniform(-1, 1, (50, 3)) * largest).astype(np.float32)
    factors = np.full(3, scale, np.float32), np.full(3, offset, np.float32)
    if residual is not None:
        residual = np.full(x.shape, residual, np.float32)
    return (x, *factors, residual), kernels.batch_norm_forward(x, *factors, residual=residual)


@pytest.mark.parametrize(
    ("largest", "scale", "offset", "residual"),
    [
        (1e-37, 1, 0, None),
        (1e-37, 1, 0, 1e-38),
        (1e-20, 1e-18, 0, None),
        (1e37, 1, 0, None),
        (1e30, 1e8, 1e37, None),
        (1e-30, 1e30, 0.5, None),
        (1e30, 1e-30, 0.5, None),
        (1, 1, 0, 1e38),
        (3e35, 1e-3, -1e32, -1e32),
    ],
)
def test_numbers_near_the_ends_of_fp32(largest, scale, offset, residual):
    operands, y = forward_of_largest(largest, scale, offset, residual)
    assert y.is_finite
    oracle.assert_rounded(y, oracle.normalize(*operands), 14)


def test_terms_that_fp32_cannot_hold_in_small_units_raise_the_exponent():
    """x * scale and offset cancel to nothing, so the bound would allow any exponent."""
    x = np.full((20, 3), 2.0**60, np.float32)
    scale, offset = np.full(3, 2.0**60, np.float32), np.full(3, -(2.0**120), np.float32)
    offset[0] = np.nextafter(offset[0], np.float32(0))
    residual = np.full(x.shape, 2.0**-120, np.float32)
    y = kernels.batch_norm_forward(x, scale, offset, residual=residual)
    oracle.assert_rounded(y, oracle.normalize(x, scale, offset, residual), 14)
    x[:], scale[:], offset[:] = 1, 2.0**100, -(2.0**100)
    y = kernels.batch_norm_forward(x, scale, offset, residual=residual)
    assert (y.exponent, y.max_abs) == (100 - 124, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["x", "scale", "offset", "residual"])
@EVERY_ACTIVATION
@pytest.mark.parametrize("with_range", [True, False])
def test_forward_of_what_is_not_finite(on_every_isa, bad, where, activation, with_range):
    rng = np.random.default_rng(6)
    arguments = {
        "x": rng.standard_normal((70, 9)).astype(np.float32),
        "scale": np.ones(9, np.float32),
        "offset": np.zeros(9, np.float32),
        "residual": rng.standard_normal((70, 9)).astype(np.float32),
    }
    arguments[where][..., 4].flat[-1] = bad
    if with_range:
        found = kernels.batch_norm_statistics(arguments["x"])
        arguments |= {"minimum": found.minimum, "maximum": found.maximum}
    call = partial(kernels.batch_norm_forward, **arguments, activation=activation)
    for y in on_every_isa(call).values():
        assert_nonfinite(y, (70, 9))


def assert_nonfinite(tensor, shape):
    assert (tensor.exponent, tensor.max_abs) == (NONFINITE_EXPONENT, 0)
    assert tensor.shape == shape
    assert not tensor.data.any()


def test_a_result_beyond_fp32_is_not_finite():
    x = np.full((3, 2), 1e30, np.float32)
    y = kernels.batch_norm_forward(x, np.full(2, 1e30, np.float32), np.zeros(2, np.float32))
    assert_nonfinite(y, (3, 2))


def test_a_nonfinite_residual_tensor():
    x, one = np.ones((3, 2), np.float32), np.ones(2, np.float32)
    residual = dfpkeras.quantize(np.full((3, 2), np.nan, np.float32))
    assert_nonfinite(kernels.batch_norm_forward(x, one, one, residual=residual), (3, 2))


# --- backward -------------------------------------------------------------------------------


def gradient_of(case):
    """(dz by the oracle, dy and y as the kernels take them)."""
    y = case.y if case.activation else None
    dz = oracle.masked(case.dy, y, case.activation) if y else case.dy
    return dz, given_operand(case.dy), None if y is None else tensor(y)


def reduce(case):
    _, dy, y = gradient_of(case)
    mean = case.x.mean(axis=0, dtype=np.float64).astype(np.float32)
    return kernels.batch_norm_backward_reduce(dy, case.given_x, mean, y, case.activation)


def assert_sums(sums, case):
    dz, *_ = gradient_of(case)
    mean = case.x.mean(axis=0, dtype=np.float64).astype(np.float32)
    sum_dz, sum_dz_x, max_dz = oracle.gradient_sums(dz, case.x, mean)
    oracle.assert_bounded(sums.sum_dz, sum_dz, "sum of dz")
    oracle.assert_bounded(sums.sum_dz_x, sum_dz_x, "sum of dz * (x - mean)")
    np.testing.assert_array_equal(sums.max_dz, max_dz)
    if isinstance(dz, reference.Operand):
        exact = dz.data.astype(np.int64).sum(axis=0)
        np.testing.assert_array_equal(sums.sum_dz, np.ldexp(exact.astype(np.float64), dz.exponent))


@pytest.mark.slow
@given(cases())
def test_reduction(on_every_isa, case):
    results = on_every_isa(lambda: reduce(case))
    assert_sums(results["scalar"], case)
    assert all(same(result, results["scalar"]) for result in results.values())


@pytest.mark.slow
@EVERY_LARGER_SHAPE
@EVERY_ACTIVATION
@EVERY_DY_KIND
def test_reduction_of_many_pixels(on_every_isa, on_every_thread_count, shape, activation, dy_kind):
    case = larger_case(shape, activation, dy_kind, x_kind=dy_kind)
    sums = assert_same_everywhere(lambda: reduce(case), on_every_isa, on_every_thread_count)
    assert_sums(sums, case)


def test_the_sum_of_the_largest_integers_is_exact(on_every_isa):
    """A lane of FP32 holds 128 rows of them."""
    dy = DFPTensor(np.full((400_003, 1), -32767, np.int16), -3)
    dy.data[::7] = 32766
    x = np.ones(dy.shape, np.float32)
    exact = float(dy.data.astype(np.int64).sum()) * 2.0**-3
    call = partial(kernels.batch_norm_backward_reduce, dy, x, np.zeros(1, np.float32))
    for sums in on_every_isa(call).values():
        assert sums.sum_dz[0] == exact


def backward(case, want_dz=True):
    _, dy, y = gradient_of(case)
    mean, statistics = case.per_channel(20, -1, 1), kernels.batch_norm_statistics(case.given_x)
    channel_range = statistics.minimum, statistics.maximum
    return kernels.batch_norm_backward(
        dy,
        case.given_x,
        mean,
        *case.backward_factors,
        *channel_range,
        reduce(case).max_dz,
        y,
        case.activation,
        case.bits,
        want_dz,
    )


def assert_dz(result, dz, bits, max_dz):
    if isinstance(dz, reference.Operand):
        assert result.exponent == dz.exponent
        np.testing.assert_array_equal(result.data, dz.data)
        assert result.max_abs == np.abs(dz.data.astype(np.int64)).max()
        return
    assert result.exponent == oracle.exponent_of(max_dz, bits)
    np.testing.assert_array_equal(result.data, oracle.quantize_to(dz, result.exponent, bits))
    assert result.max_abs == np.abs(result.data.astype(np.int64)).max()


def assert_backward(dx, dz, case):
    expected_dz, *_ = gradient_of(case)
    arguments = case.x, case.per_channel(20, -1, 1), *case.backward_factors
    max_dz = np.abs(values(expected_dz)).max(axis=0)
    bound = oracle.backward_bound(max_dz, *arguments)
    assert dx.exponent == oracle.exponent_of(bound, case.bits)
    oracle.assert_rounded(dx, oracle.input_gradient(expected_dz, *arguments), case.bits)
    fp32 = oracle.input_gradient_fp32(expected_dz, *arguments)
    np.testing.assert_array_equal(dx.data, oracle.quantize_to(fp32, dx.exponent, case.bits))
    assert_dz(dz, expected_dz, case.bits, max_dz.max())


@pytest.mark.slow
@given(cases())
def test_backward(on_every_isa, case):
    results = on_every_isa(lambda: backward(case))
    assert_backward(*results["scalar"], case)
    assert all(same(result, results["scalar"]) for result in results.values())
    assert same(backward(case, want_dz=False), results["scalar"][0])


@pytest.mark.slow
@EVERY_LARGER_SHAPE
@EVERY_ACTIVATION
@EVERY_DY_KIND
def test_backward_of_many_pixels(on_every_isa, on_every_thread_count, shape, activation, dy_kind):
    case = larger_case(shape, activation, dy_kind, x_kind=dy_kind)
    results = assert_same_everywhere(lambda: backward(case), on_every_isa, on_every_thread_count)
    assert_backward(*results, case)


def backward_frozen(case, max_dz=None):
    _, dy, y = gradient_of(case)
    factor = case.backward_factors[0]
    return kernels.batch_norm_backward_frozen(
        dy, factor, max_dz, y, case.activation, case.bits, want_dz=True
    )


@pytest.mark.slow
@given(cases(), st.booleans())
def test_backward_frozen(on_every_isa, on_every_thread_count, case, with_max):
    dz, *_ = gradient_of(case)
    max_dz = np.abs(values(dz)).max(axis=0) if with_max else np.abs(values(case.dy)).max()
    given_max = max_dz.astype(np.float32) if with_max else None
    dx, found_dz = assert_same_everywhere(
        lambda: backward_frozen(case, given_max), on_every_isa, on_every_thread_count
    )
    factor = case.backward_factors[0]
    bound = (np.abs(factor.astype(np.float64)) * max_dz).max()
    assert dx.exponent == oracle.exponent_of(bound, case.bits)
    product = factor * values(dz).astype(np.float32)
    np.testing.assert_array_equal(dx.data, oracle.quantize_to(product, dx.exponent, case.bits))
    assert dx.max_abs == np.abs(dx.data.astype(np.int64)).max()
    assert_dz(found_dz, dz, case.bits, np.max(max_dz))


@EVERY_DY_KIND
@pytest.mark.parametrize("bits", [2, 14, 15])
def test_dx_saturates_at_the_top(on_every_isa, dy_kind, bits):
    top = np.nextafter(np.float32(1), np.float32(0))
    dy = np.full((40, 3), 1 if dy_kind == "integers" else top, np.float32)
    factor = np.full(3, top if dy_kind == "integers" else 1, np.float32)
    dy = dfpkeras.quantize(dy, 8) if dy_kind == "integers" else -dy
    call = partial(kernels.batch_norm_backward_frozen, dy, factor, bits=bits)
    for dx in on_every_isa(call).values():
        assert (dx.exponent, dx.max_abs) == (-bits, 2**bits - 1)
        assert (np.abs(dx.data) == 2**bits - 1).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "where", ["dy", "x", "mean", "factor_dz", "factor_x", "constant", "minimum", "max_dz"]
)
def test_backward_of_what_is_not_finite(on_every_isa, where, bad):
    case = larger_case((100, 9), dy_kind="float32")
    dy, x, statistics = case.dy, case.x, kernels.batch_norm_statistics(case.x)
    arguments = {"dy": dy, "x": x, "mean": statistics.mean}
    names = "factor_dz", "factor_x", "constant"
    arguments |= dict(zip(names, case.backward_factors, strict=True))
    arguments |= {"minimum": statistics.minimum, "maximum": statistics.maximum}
    arguments = {name: value.copy() for name, value in arguments.items()}
    arguments["max_dz"] = np.abs(dy).max(axis=0)
    arguments[where][..., 4].flat[-1] = bad
    if where == "x":
        *_, arguments["minimum"], arguments["maximum"] = kernels.batch_norm_statistics(
            arguments["x"]
        )
    if where == "dy":
        found = kernels.batch_norm_backward_reduce(arguments["dy"], x, statistics.mean)
        assert not np.isfinite(found.sum_dz[4]) and not np.isfinite(found.sum_dz_x[4])
        arguments["max_dz"] = found.max_dz
    for dx in on_every_isa(lambda: kernels.batch_norm_backward(**arguments)).values():
        assert_nonfinite(dx, (100, 9))


def test_distances_from_the_mean_beyond_fp32():
    x, one = np.full((20, 3), 3e38, np.float32), np.ones(3, np.float32)
    mean, factor = -3e38 * one, 1e-30 * one
    arguments = x, mean, 0 * one, factor, 0 * one, x[0], x[0], one
    assert_nonfinite(kernels.batch_norm_backward(np.ones_like(x), *arguments), x.shape)
    dx = kernels.batch_norm_backward(np.ones_like(x), x, 0 * one, *arguments[2:])
    np.testing.assert_allclose(dx.dequantize(), 3e8, rtol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_float_gradient_that_is_not_finite_makes_both_results_so(on_every_isa, bad):
    dy = np.ones((50, 5), np.float32)
    dy[49, 4] = bad
    one = np.ones(5, np.float32)
    call = partial(kernels.batch_norm_backward_frozen, dy, one, want_dz=True)
    for results in on_every_isa(call).values():
        for result in results:
            assert_nonfinite(result, (50, 5))


NOT_FINITE = dfpkeras.quantize(np.full((6, 4), np.nan, np.float32))


@pytest.mark.parametrize("which", ["dy", "x", "y"])
def test_backward_of_nonfinite_tensors(which):
    tensors = {name: DFPTensor(np.ones((6, 4), np.int16), 0) for name in ("dy", "x", "y")}
    tensors[which] = NOT_FINITE
    dy, x, y = tensors.values()
    numbers = [np.ones(4, np.float32)] * 7
    sums = kernels.batch_norm_backward_reduce(dy, x, numbers[0], y, "relu")
    assert all(np.isnan(found).all() for found in sums)
    results = kernels.batch_norm_backward(dy, x, *numbers, y, "relu", want_dz=True)
    if which != "x":
        results += kernels.batch_norm_backward_frozen(dy, numbers[0], None, y, "relu", want_dz=True)
        results += (kernels.activation_backward(dy, y, "relu"),)
    for result in results:
        assert_nonfinite(result, (6, 4))


def test_forward_of_a_nonfinite_tensor():
    assert all(np.isnan(found).all() for found in kernels.batch_norm_statistics(NOT_FINITE))
    one = np.ones(4, np.float32)
    for channel_range in ((None, None), (-one, one)):
        assert_nonfinite(kernels.batch_norm_forward(NOT_FINITE, one, one, *channel_range), (6, 4))


@pytest.mark.parametrize("exponent", [-128, -126, -60, 0, 40, 111])
def test_statistics_of_integers_have_their_exponent(on_every_isa, exponent):
    data = np.random.default_rng(12).integers(-32767, 32767, (300, 35), np.int16, endpoint=True)
    expected = oracle.statistics(data)
    for result in on_every_isa(
        partial(kernels.batch_norm_statistics, DFPTensor(data, exponent))
    ).values():
        mean, variance, *channel_range = (
            np.ldexp(found.astype(np.float64), -exponent) for found in result
        )
        oracle.assert_bounded(mean, expected[0], "mean")
        np.testing.assert_array_equal(channel_range, expected[2:])
        if exponent > 60:
            assert np.isinf(variance).all()
        elif exponent < -60:
            assert not variance.any()
        else:
            relative = np.ldexp(variance, -exponent)
            oracle.assert_bounded(relative, expected[1], "variance")


@pytest.mark.parametrize("exponent", [114, 126])
def test_integers_beyond_fp32_are_not_finite(on_every_isa, exponent):
    data, one = np.full((40, 3), 32767, np.int16), np.ones(3, np.float32)
    data[:, 1] = 0
    x = DFPTensor(data, exponent)
    for found, y in on_every_isa(
        lambda: (kernels.batch_norm_statistics(x), kernels.batch_norm_forward(x, one, one))
    ).values():
        for numbers in found:
            np.testing.assert_array_equal(np.isnan(numbers), [True, False, True])
        assert_nonfinite(y, (40, 3))


@pytest.mark.parametrize("exponent", [-128, -100, 100])
def test_gradients_with_integers_near_the_ends_of_fp32(on_every_isa, exponent):
    """The same as with the dequantised numbers, some of which are negligible next to the mean."""
    rng = np.random.default_rng(13)
    x = DFPTensor(rng.integers(-4095, 4095, (50, 20), np.int16), exponent)
    numbers, one = x.dequantize(), np.ones(20, np.float32)
    dy = rng.standard_normal((50, 20)).astype(np.float32)

    def gradients(x):
        sums = kernels.batch_norm_backward_reduce(dy, x, one)
        channel_range = numbers.min(axis=0), numbers.max(axis=0)
        factors = one, np.float32(2.0**-exponent) * one if exponent > 0 else one, one
        dx = kernels.batch_norm_backward(dy, x, one, *factors, *channel_range, sums.max_dz)
        return tuple(sums), dx

    expected = gradients(numbers)
    for result in on_every_isa(partial(gradients, x)).values():
        assert same(result, expected)


@pytest.mark.parametrize("far", ["minimum", "maximum"])
def test_either_end_of_the_channel_range_may_be_far_from_the_mean(on_every_isa, far):
    """The bound of dx follows from the farther end, which is 15 times as far away."""
    sign = 1 if far == "maximum" else -1
    x, zero, one = (
        np.full((50, 3), -sign, np.float32),
        np.zeros(3, np.float32),
        np.ones(3, np.float32),
    )
    x[7] = 15 * sign
    found = kernels.batch_norm_statistics(x)
    arguments = zero, zero, one, zero, found.minimum, found.maximum, zero
    call = partial(kernels.batch_norm_backward, np.zeros_like(x), x, *arguments)
    for dx in on_every_isa(call).values():
        assert dx.exponent == oracle.exponent_of(15, 14)
        np.testing.assert_array_equal(dx.dequantize(), x)


def test_dz_without_an_activation_is_dy():
    dy = DFPTensor(np.ones((6, 4), np.int16), 0)
    _, dz = kernels.batch_norm_backward_frozen(dy, np.ones(4, np.float32), want_dz=True)
    assert dz is dy


# --- the parameters and the whole chain -----------------------------------------------------


def exact_batch_norm(x, gamma, beta, dy, epsilon, training, moving):
    """Gradients (dx, dgamma, dbeta) of a batch norm by TensorFlow in float64, and its result."""
    import tensorflow as tf

    x, gamma, beta, dy = (tf.constant(v, tf.float64) for v in (x, gamma, beta, dy))
    with tf.GradientTape() as tape:
        tape.watch((x, gamma, beta))
        mean, variance = tf.nn.moments(x, [0]) if training else moving
        y = (x - mean) / tf.sqrt(variance + epsilon) * gamma + beta
    return y.numpy(), *(g.numpy() for g in tape.gradient(y, (x, gamma, beta), dy))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("pixels", [1, 2, 700])
def test_the_chain_has_the_gradients_of_a_batch_norm(training, pixels):
    """Within the quantisation of dy, y and dx, and FP32's rounding."""
    rng, epsilon = np.random.default_rng(7), 1e-3
    x = (rng.standard_normal((pixels, 6)) * 3 + 5).astype(np.float32)
    gamma, beta = (rng.uniform(0.5, 2, 6).astype(np.float32) for _ in range(2))
    dy = dfpkeras.quantize(rng.standard_normal((pixels, 6)).astype(np.float32), 15)
    found = kernels.batch_norm_statistics(x)
    moving = (np.linspace(4, 6, 6), np.linspace(8, 10, 6))
    used = found[:2] if training else [v.astype(np.float32) for v in moving]
    moving = [v.astype(np.float32).astype(np.float64) for v in moving]
    factors = kernels.batch_norm_fold(gamma, beta, *used, epsilon)
    y = kernels.batch_norm_forward(x, *factors, found.minimum, found.maximum, bits=15)
    sums = kernels.batch_norm_backward_reduce(dy, x, used[0])
    gradients = kernels.batch_norm_gradients(gamma, used[1], epsilon, sums, pixels, training)
    if training:
        factors = gradients[:3]
        dx = kernels.batch_norm_backward(
            dy, x, used[0], *factors, found.minimum, found.maximum, sums.max_dz, bits=15
        )
    else:
        assert gradients.factor_x is gradients.constant is None
        dx = kernels.batch_norm_backward_frozen(dy, gradients.factor_dz, sums.max_dz, bits=15)
    dy = dy.dequantize()
    y64, dx64, dgamma, dbeta = exact_batch_norm(x, gamma, beta, dy, epsilon, training, moving)
    # gamma / sqrt(epsilon) is the largest factor; numbers are below 20.
    fp32 = 60 * 20 * 8 * reference.UNIT_ROUNDOFF
    np.testing.assert_allclose(y.dequantize(), y64, atol=2.0**y.exponent + fp32)
    np.testing.assert_allclose(dx.dequantize(), dx64, atol=2.0**dx.exponent + fp32)
    scale = np.sqrt(pixels) * oracle.LONGEST_SUM
    np.testing.assert_allclose(gradients.dgamma, dgamma, atol=scale * fp32 / 60)
    np.testing.assert_allclose(gradients.dbeta, dbeta, rtol=reference.UNIT_ROUNDOFF)


@pytest.mark.parametrize("training", [True, False])
def test_no_gamma_and_no_beta_are_1_and_0(training):
    rng = np.random.default_rng(8)
    mean, variance = rng.standard_normal(4).astype(np.float32), np.float32([0, 1, 2, 3])
    one, zero = np.ones(4, np.float32), np.zeros(4, np.float32)
    assert same(
        kernels.batch_norm_fold(None, None, mean, variance, 1e-3),
        kernels.batch_norm_fold(one, zero, mean, variance, 1e-3),
    )
    x, dy = (rng.standard_normal((9, 4)).astype(np.float32) for _ in range(2))
    sums = kernels.batch_norm_backward_reduce(dy, x, mean)
    both = [kernels.batch_norm_gradients(g, variance, 1e-3, sums, 9, training) for g in (None, one)]
    for left, right in zip(*both, strict=True):
        assert left is right is None or same(left, right)


# --- the normalised input -------------------------------------------------------------------


@pytest.mark.slow
@given(cases())
def test_the_normalised_input_is_what_a_pass_of_its_own_would_give(
    on_every_isa, on_every_thread_count, case
):
    statistics = kernels.batch_norm_statistics(case.given_x)
    fold = kernels.batch_norm_fold(None, None, statistics.mean, statistics.variance, 1e-3)
    channel_range = statistics.minimum, statistics.maximum
    rest = given_operand(case.residual), case.activation, case.bits
    x, factors = case.given_x, case.factors
    call = partial(kernels.batch_norm_forward, x, *factors, *channel_range, *rest, fold)
    y, normalized = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    assert same(y, kernels.batch_norm_forward(x, *factors, *channel_range, *rest))
    assert same(normalized, kernels.batch_norm_forward(x, *fold, *channel_range, bits=15))


@pytest.mark.parametrize("training", [True, False])
def test_gradients_from_the_normalised_input(training):
    rng = np.random.default_rng(2)
    x = (rng.standard_normal((500, 7)) * 3 + 20).astype(np.float32)
    dy, gamma = (rng.standard_normal(s).astype(np.float32) for s in ((500, 7), 7))
    mean, variance, *channel_range = kernels.batch_norm_statistics(x)
    scale, offset = kernels.batch_norm_fold(None, None, mean, variance, 1e-3)
    _, unit = kernels.batch_norm_forward(
        x, scale, offset, *channel_range, unit_fold=(scale, offset)
    )
    results = []
    for source, center, normalized in ((x, mean, False), (unit, np.zeros_like(mean), True)):
        sums = kernels.batch_norm_backward_reduce(dy, source, center)
        g = kernels.batch_norm_gradients(gamma, variance, 1e-3, sums, 500, training, normalized)
        bounds = np.stack(channel_range) * scale + offset if normalized else channel_range
        dx = kernels.batch_norm_backward_frozen(dy, g.factor_dz)
        if training:
            factors = g.factor_dz, g.factor_x, g.constant
            dx = kernels.batch_norm_backward(dy, source, center, *factors, *bounds, sums.max_dz)
        results.append((dx.dequantize(), g.dgamma, g.dbeta, g.sum_dx))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())


@pytest.mark.parametrize("nonfinite", ["x", "residual"])
def test_the_normalised_input_of_what_is_not_finite(nonfinite):
    operands = {name: DFPTensor(np.ones((6, 4), np.int16), 0) for name in ("x", "residual")}
    operands[nonfinite] = dfpkeras.quantize(np.full((6, 4), np.nan, np.float32))
    one = np.ones(4, np.float32)
    for result in kernels.batch_norm_forward(
        operands["x"], one, one, one, one, operands["residual"], unit_fold=(one, one)
    ):
        assert_nonfinite(result, (6, 4))


# --- activations and sums without a batch norm ----------------------------------------------


def limited(x, activation, bits):
    """The exponent and the integers that an activation of FP32 numbers must have."""
    bound = np.abs(oracle.activate(np.abs(x).max(), activation))
    exponent = oracle.exponent_of(bound, bits)
    return exponent, oracle.quantize_to(oracle.activate(x, activation), exponent, bits)


@pytest.mark.slow
@given(cases())
def test_activation_of_floats(on_every_isa, on_every_thread_count, case):
    call = partial(kernels.activation_forward, case.x, case.activation, case.bits)
    y = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    exponent, data = limited(case.x, case.activation, case.bits)
    assert y.exponent == exponent
    np.testing.assert_array_equal(y.data, data)
    assert y.max_abs == np.abs(data.astype(np.int64)).max()


@pytest.mark.slow
@given(cases(), st.integers(-126, 20))
@example(Case(5, 3, "normal", "float32", "integers", None, "relu6", 2, 0), 3)
@example(Case(5, 3, "normal", "float32", "integers", None, "relu6", 15, 0), -12)
def test_activation_of_a_tensor_is_exact(on_every_isa, on_every_thread_count, case, exponent):
    x = DFPTensor(reference.quantize(case.x, case.bits).data, exponent)
    call = partial(kernels.activation_forward, x, case.activation)
    y = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    expected = oracle.activate(values(as_operand(x)), case.activation)
    np.testing.assert_array_equal(values(as_operand(y)), expected)
    if case.activation != "relu6" and x.max_abs > 1:
        assert y.exponent == x.exponent
    assert y.max_abs == np.abs(y.data.astype(np.int64)).max()


@pytest.mark.slow
@given(cases())
def test_add(on_every_isa, on_every_thread_count, case):
    a = case.other(case.dy_kind, 11)
    b = case.residual if case.residual_kind else case.x
    given_a, given_b = given_operand(a), given_operand(b)
    call = partial(kernels.add, given_a, given_b, case.activation, case.bits)
    y = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    reach = np.abs(values(a)).max() + np.abs(values(b)).max()
    assert y.exponent == oracle.exponent_of(oracle.activate(reach, case.activation), case.bits)
    total = values(a).astype(np.float32) + values(b).astype(np.float32)
    expected = oracle.quantize_to(oracle.activate(total, case.activation), y.exponent, case.bits)
    np.testing.assert_array_equal(y.data, expected)
    assert y.max_abs == np.abs(expected.astype(np.int64)).max()


@pytest.mark.parametrize("shape", [(300_001,), (130_000, 3)])
def test_add_of_many_elements(on_every_isa, on_every_thread_count, shape):
    rng = np.random.default_rng(9)
    a, b = (dfpkeras.quantize(rng.standard_normal(shape).astype(np.float32), 14) for _ in range(2))
    call = partial(kernels.add, a, b, "relu")
    y = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    total = np.maximum(a.dequantize() + b.dequantize(), 0)
    np.testing.assert_array_equal(y.data, oracle.quantize_to(total, y.exponent, 14))


@pytest.mark.slow
@given(cases())
def test_activation_backward(on_every_isa, on_every_thread_count, case):
    dz, dy, y = gradient_of(case)
    call = partial(kernels.activation_backward, dy, y, case.activation, case.bits)
    result = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    assert_dz(result, dz, case.bits, np.abs(values(case.dy)).max())


@pytest.mark.parametrize("activation", ["relu", "relu6"])
@pytest.mark.parametrize("exponent", [-12, -11, 0, 1, 2])
def test_the_gradient_at_the_limits_is_keras_own(on_every_isa, activation, exponent):
    import tensorflow as tf

    numbers = np.float32([-8, -6, -1, 0, 2.0**-11, 1, 5, 6 - 2.0**-11, 6, 6 + 2.0**-11, 7, 8])
    y = np.clip(np.rint(numbers * 2.0**-exponent), -32767, 32767).astype(np.int16)
    z = tf.constant(y * np.float32(2.0**exponent))
    with tf.GradientTape() as tape:
        tape.watch(z)
        result = getattr(tf.nn, activation)(z)
    expected = tape.gradient(result, z).numpy()
    dy = np.ones(len(y), np.float32)
    call = partial(kernels.activation_backward, dy, DFPTensor(y, exponent), activation)
    for dz in on_every_isa(call).values():
        np.testing.assert_array_equal(dz.dequantize(), expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@EVERY_ACTIVATION
def test_elementwise_results_of_what_is_not_finite(on_every_isa, bad, activation):
    x, clean = np.ones((3, 70), np.float32), np.ones((3, 70), np.float32)
    x[2, 69] = bad
    y = DFPTensor(np.ones((3, 70), np.int16), 0)
    marked = dfpkeras.quantize(x)
    for call in (
        lambda: kernels.activation_forward(x, activation),
        lambda: kernels.activation_forward(marked, activation),
        lambda: kernels.activation_backward(x, y, activation),
        lambda: kernels.activation_backward(marked, y, activation),
        lambda: kernels.add(x, clean, activation),
        lambda: kernels.add(clean, x, activation),
        lambda: kernels.add(y, marked, activation),
        lambda: kernels.add(marked, y, activation),
    ):
        for result in on_every_isa(call).values():
            assert_nonfinite(result, (3, 70))


@pytest.mark.parametrize("shape", [(0,), (2, 0, 3)])
@EVERY_ACTIVATION
def test_elementwise_results_of_nothing(shape, activation):
    empty = DFPTensor(np.zeros(shape, np.int16), 0)
    for result in (
        kernels.activation_forward(empty, activation),
        kernels.add(empty, np.zeros(shape, np.float32), activation),
        kernels.activation_backward(empty, empty, activation),
    ):
        assert result.shape == shape
        assert (result.exponent, result.max_abs) == (0, 0)


def test_a_scalar():
    y = kernels.add(np.array(1.5, np.float32), np.array(2, np.float32))
    assert y.shape == ()
    assert y.dequantize() == 3.5


def test_results_are_aligned_and_from_the_pool():
    x = np.ones((1000, 7), np.float32)
    one = np.ones(7, np.float32)
    before = dfpkeras.memory_stats()["in_use"]
    y = kernels.batch_norm_forward(x, one, one)
    dx, dz = kernels.batch_norm_backward_frozen(x, one, y=y, activation="relu", want_dz=True)
    results = y, dx, dz, kernels.add(x, x), kernels.activation_forward(y, "relu")
    assert all(r.data.__array_interface__["data"][0] % 64 == 0 for r in results)
    assert dfpkeras.memory_stats()["in_use"] - before >= sum(r.data.nbytes for r in results)


@pytest.mark.slow
def test_concurrent_callers_get_what_a_single_caller_gets():
    cases = [larger_case(shape, "relu") for shape in LARGER_SHAPES[:4]]
    calls = [partial(f, case) for case in cases for f in (forward, reduce, backward)]
    expected = [call() for call in calls]
    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(call) for _ in range(2) for call in calls]
        for future, result in zip(futures, expected * 2, strict=True):
            assert same(future.result(), result)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_arrays_that_are_not_contiguous(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((6, 10, 8)).astype(np.float32)[::2, :, ::-1]
    numbers = rng.standard_normal(16).astype(np.float32)[::2]
    call = kernels.batch_norm_forward
    expected = call(np.ascontiguousarray(x), numbers.copy(), numbers.copy())
    assert same(call(x, numbers, numbers), expected)
    assert same(
        kernels.batch_norm_statistics(x), kernels.batch_norm_statistics(np.ascontiguousarray(x))
    )
