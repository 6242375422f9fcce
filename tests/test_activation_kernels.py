"""Activations whose gradient needs their argument, alone and fused with a batch norm, against
float64."""

from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from reference_activations import FUNCTIONS, JUMPS
from strategies import OPERAND_KINDS, as_operand_of_kind, seeds
from test_batch_norm_kernels import assert_same_everywhere

import dfpkeras
from dfpkeras import kernels
from dfpkeras.backend.tensorflow import float32_operations
from dfpkeras.kernels.activation import FUNCTIONS as NAMES
from dfpkeras.kernels.activation import Activation, is_function
from dfpkeras.kernels.quantized_tensor import DFPTensor

CHANNELS = (1, 3, 16, 17, 32, 48, 530)
PIXELS = (1, 2, 9, 40, 333)
#: FP32's relative error of the argument and of the function.
ROUNDING = 2.0**-19


class Case:
    """Operands of one activation, and their float64 values."""

    def __init__(self, name, alpha, pixels, channels, kinds, magnitude, seed):
        self.description = name, alpha, pixels, channels, kinds, magnitude, seed
        self.activation, self.alpha = Activation(name, alpha), alpha
        self.value, self.slope = FUNCTIONS[name]
        self.rng = np.random.default_rng(seed)
        self.shape = (pixels, channels)
        self.x, self.x_values = self.operand(kinds[0], 2.0**magnitude)
        self.residual, self.residual_values = self.operand(kinds[1], 2.0**magnitude)
        self.dy, self.dy_values = self.operand(kinds[2], 2.0 ** self.rng.integers(-8, 8))
        self.scale, self.offset = self.rng.standard_normal((2, channels)).astype(np.float32)
        self.offset *= np.float32(2.0**magnitude)

    def __repr__(self):
        return f"Case{self.description}"

    def operand(self, kind, magnitude):
        numbers = (self.rng.standard_normal(self.shape) * magnitude).astype(np.float32)
        return as_operand_of_kind(numbers, kind)

    @property
    def argument(self):
        return self.x_values * self.scale + self.offset

    def argument_error(self, residual=0):
        terms = np.abs(self.x_values * self.scale) + np.abs(self.offset) + np.abs(residual)
        return ROUNDING * terms

    def near_a_jump(self, z, error):
        jumps = JUMPS.get(self.activation.name, ())
        return sum(((np.abs(z - jump) <= error) for jump in jumps), np.zeros(z.shape, bool))


@st.composite
def cases(draw):
    return Case(
        draw(st.sampled_from(NAMES)),
        draw(st.sampled_from([0.2, 1.0, 1.7, 0.0, -0.5])),
        draw(st.sampled_from(PIXELS)),
        draw(st.sampled_from(CHANNELS)),
        [draw(st.sampled_from(OPERAND_KINDS)) for _ in range(3)],
        draw(st.integers(-16, 6)),
        draw(seeds),
    )


def values(result):
    return result.data * 2.0**result.exponent


def steepest(case):
    """A bound of the slope's magnitude, found and not taken from the kernels."""
    z = np.linspace(-20, 20, 4001)
    return 1.01 * np.abs(case.slope(z, case.alpha)).max() + 1e-6


def assert_rounded(result, expected, error, bits):
    """Half a unit away, but for FP32's errors; with as few useless bits as the bound allows."""
    unit = 2.0**result.exponent
    limit = (2**bits - 1) * unit  # What would be rounded to more is as much.
    distance = np.abs(values(result) - np.clip(expected, -limit, limit))
    assert (distance <= 0.5001 * unit + error).all()
    assert (np.abs(expected) <= limit + unit + error).all()
    assert np.abs(result.data.astype(int)).max() == result.max_abs < 2**bits


def test_the_list_is_that_of_the_oracle():
    assert set(NAMES) == set(FUNCTIONS)
    assert not any(map(is_function, (None, "relu", "relu6")))


@pytest.mark.slow
@given(cases(), st.sampled_from([15, 14, 8]), st.booleans())
def test_forward(on_every_isa, on_every_thread_count, case, bits, with_residual):
    residual = case.residual if with_residual else None
    of_residual = case.residual_values if with_residual else 0
    call = partial(
        kernels.batch_norm_forward,
        case.x,
        case.scale,
        case.offset,
        residual=residual,
        activation=case.activation,
        bits=bits,
    )
    y = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    expected = case.value(case.argument + of_residual, case.alpha)
    error = steepest(case) * case.argument_error(of_residual) + ROUNDING * np.abs(expected)
    assert_rounded(y, expected, error, bits)


@pytest.mark.slow
@given(cases(), st.sampled_from([15, 14, 8]))
def test_forward_of_a_tensor(on_every_isa, on_every_thread_count, case, bits):
    call = partial(kernels.activation_forward, case.x, case.activation, bits)
    y = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    expected = case.value(case.x_values, case.alpha)
    assert_rounded(y, expected, ROUNDING * np.abs(expected), bits)
    if not isinstance(case.x, DFPTensor):
        # The largest result has all bits: the ends of an interval were found, and dips within it.
        ends = np.array([-1, 1]) * np.abs(case.x_values).max()
        inside = np.linspace(*ends, 4001)
        bound = np.abs(case.value(inside, case.alpha)).max()
        assert bound == 0 or 2.0**y.exponent <= 1.01 * bound / 2 ** (bits - 1)


@pytest.mark.slow
@given(cases(), st.sampled_from([15, 14, 8]))
def test_backward_of_a_tensor(on_every_isa, on_every_thread_count, case, bits):
    call = partial(kernels.activation_backward, case.dy, None, case.activation, bits, case.x)
    dz = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    slope = case.slope(case.x_values, case.alpha)
    error = ROUNDING * steepest(case) * np.abs(case.dy_values)
    assert_rounded(dz, case.dy_values * slope, error, bits)


@pytest.mark.slow
@given(cases())
def test_backward_fused_with_a_batch_norm(on_every_isa, on_every_thread_count, case):
    channels = case.shape[1]
    mean = case.rng.standard_normal(channels).astype(np.float32)
    factors = case.rng.standard_normal((3, channels)).astype(np.float32)
    argument = case.scale, case.offset
    _, _, low, high = kernels.batch_norm_statistics(case.x)

    def call():
        sums = kernels.batch_norm_backward_reduce(
            case.dy, case.x, mean, activation=case.activation, argument=argument
        )
        options = {"activation": case.activation, "argument": argument}
        rest = (low, high, sums.max_dz)
        dx = kernels.batch_norm_backward(case.dy, case.x, mean, *factors, *rest, **options)
        frozen = kernels.batch_norm_backward_frozen(
            case.dy, factors[0], sums.max_dz, x=case.x, **options
        )
        return tuple(sums), dx, frozen

    (sum_dz, sum_dz_x, max_dz), dx, frozen = assert_same_everywhere(
        call, on_every_isa, on_every_thread_count
    )
    z, z_error = case.argument, case.argument_error()
    dz = case.dy_values * case.slope(z, case.alpha)
    curvature = 3 * max(1, abs(case.alpha))  # of every function but at its jumps
    dz_error = np.abs(case.dy_values) * (curvature * z_error + ROUNDING * steepest(case))
    jumps = case.near_a_jump(z, z_error)
    dz_error[jumps] = np.abs(case.dy_values[jumps]) * 2 * steepest(case)
    distance = case.x_values - mean
    assert (np.abs(sum_dz - dz.sum(0)) <= (dz_error + ROUNDING * np.abs(dz)).sum(0) + 1e-30).all()
    error = (dz_error + ROUNDING * np.abs(dz)) * np.abs(distance) + ROUNDING * np.abs(dz)
    assert (np.abs(sum_dz_x - (dz * distance).sum(0)) <= error.sum(0) + 1e-30).all()
    assert (np.abs(max_dz - np.abs(dz).max(0)) <= dz_error.max(0) + ROUNDING * max_dz).all()

    expected = factors[0] * dz + factors[1] * distance + factors[2]
    terms = np.abs(factors[0] * dz) + np.abs(factors[1]) * (np.abs(case.x_values) + np.abs(mean))
    error = np.abs(factors[0]) * dz_error + ROUNDING * (terms + np.abs(factors[2]))
    assert_rounded(dx, expected, error, 14)
    error = np.abs(factors[0]) * dz_error + ROUNDING * np.abs(factors[0] * dz)
    assert_rounded(frozen, factors[0] * dz, error, 14)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("limits", [(-6, -0.1), (-1, -0.1), (-6, -2), (0.1, 3), (-9, 0.2)])
def test_the_largest_value_is_inside_an_interval_or_at_its_ends(name, limits):
    """Where a function dips, its largest magnitude may be at neither end."""
    x = np.linspace(*limits, 4001, dtype=np.float32)
    y = kernels.activation_forward(x, name, 15, limits)
    expected = FUNCTIONS[name][0](x.astype(np.float64), 1.0)
    # The published error of the formula for the normal distribution.
    absolute = 7.5e-8 * np.abs(x) if name == "gelu" else 0
    assert_rounded(y, expected, ROUNDING * np.abs(expected) + absolute, 15)
    assert y.max_abs > 2**14 - 2


@pytest.mark.parametrize("name", NAMES)
def test_extremes(on_every_isa, on_every_thread_count, name):
    """No overflow on the way to a result that FP32 holds, and none of an exponential."""
    x = np.array([[1e30, -1e30, 200, -200, 1e-30, -1e-30, 0, 88.7, -88.7, 1]], np.float32)
    y = assert_same_everywhere(
        partial(kernels.activation_forward, x, name, 15), on_every_isa, on_every_thread_count
    )
    with np.errstate(over="ignore", invalid="ignore"):
        expected = np.nan_to_num(FUNCTIONS[name][0](x.astype(np.float64), 1.0))
    assert y.is_finite
    assert_rounded(y, expected, ROUNDING * np.abs(expected), 15)
    call = partial(kernels.activation_backward, np.ones_like(x), None, name, 15, x)
    slope = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    assert slope.is_finite
    assert np.abs(values(slope)[0, [4, 6]] - FUNCTIONS[name][1](np.zeros(2), 1.0)).max() < 1e-4 or (
        name in JUMPS
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite(name, bad):
    x, clean = np.array([[1, bad, 2]], np.float32), np.ones((1, 3), np.float32)
    marked = dfpkeras.quantize(x)
    for result in (
        kernels.activation_forward(x, name),
        kernels.activation_forward(marked, name),
        kernels.activation_backward(clean, None, name, x=marked),
        kernels.activation_backward(x, None, name, x=clean),
        kernels.add(x, clean, name),
    ):
        assert not result.is_finite
    sums = kernels.batch_norm_backward_reduce(
        clean, marked, clean[0], activation=name, argument=(clean[0], clean[0])
    )
    assert np.isnan(sums.sum_dz).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_nothing(name, shape):
    empty = np.zeros(shape, np.float32)
    assert kernels.activation_forward(empty, name).shape == shape
    assert kernels.activation_backward(empty, None, name, x=empty).shape == shape


@pytest.mark.parametrize("name", NAMES)
def test_zeros_have_the_value_at_0(name):
    x = dfpkeras.quantize(np.zeros((3, 5), np.float32))
    y = kernels.activation_forward(x, name)
    assert (np.abs(values(y) - FUNCTIONS[name][0](0.0, 1.0)) < 1e-4).all()


@pytest.mark.parametrize("name", NAMES)
def test_float32_fallbacks_are_the_same_functions(name):
    z = np.linspace(-6, 6, 241).astype(np.float32)
    function = float32_operations.activation(name, 0.3)
    x = tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    value, slope = FUNCTIONS[name]
    np.testing.assert_allclose(y, value(z.astype(float), 0.3), rtol=1e-4, atol=1e-5)
    away = ~np.isin(z, JUMPS.get(name, ()))
    found = np.array(tape.gradient(y, x))
    np.testing.assert_allclose(found[away], slope(z.astype(float), 0.3)[away], rtol=1e-3, atol=1e-4)


def test_the_gradient_at_the_jumps_is_keras_own(on_every_isa):
    z = np.array([-3, 0, 3], np.float32)
    for name in JUMPS:
        x = tf.constant(z)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = float32_operations.activation(name, 0.3)(x)
        expected = tape.gradient(y, x)
        call = partial(
            kernels.activation_backward, np.ones_like(z), None, Activation(name, 0.3), 15, z
        )
        for isa, result in on_every_isa(call).items():
            np.testing.assert_allclose(
                values(result), expected, atol=1e-3, err_msg=f"{name}, {isa}"
            )


def test_a_missing_argument_is_named():
    ones = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"argument: expected \(scale, offset\)"):
        kernels.batch_norm_backward_reduce(ones, ones, ones[0], activation="silu")
    with pytest.raises(TypeError, match="x: expected a DFPTensor"):
        kernels.activation_backward(ones, None, "silu")
