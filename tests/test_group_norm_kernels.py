"""Group normalisation and its gradient, against float64."""

from functools import partial

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import OPERAND_KINDS, as_operand_of_kind, seeds
from test_batch_norm_kernels import assert_same_everywhere
from test_layer_norm_kernels import ROUNDING
from test_product_kernels import operand

import dfpkeras
from dfpkeras import kernels


class Case:
    """Operands of a group normalisation, and their float64 values (images, pixels, groups, n)."""

    def __init__(self, images, pixels, channels, groups, kinds, magnitude, offset, seed):
        self.description = images, pixels, channels, groups, kinds, magnitude, offset, seed
        rng, shape = np.random.default_rng(seed), (images, pixels, channels)
        numbers, _ = operand(rng, shape, "float32", 2.0**magnitude)
        numbers += np.float32(offset * 2.0**magnitude)
        self.groups, self.grouped = groups, (images, pixels, groups, channels // groups)
        self.x, values = as_operand_of_kind(numbers, kinds[0])
        self.dy, dy_values = operand(rng, shape, kinds[1], 2.0 ** rng.integers(-9, 9))
        self.x_values, self.dy_values = (
            values.reshape(self.grouped),
            dy_values.reshape(self.grouped),
        )
        self.gamma, self.beta = rng.standard_normal((2, channels)).astype(np.float32)
        self.epsilon = 1e-3

    def __repr__(self):
        return f"Case{self.description}"

    def statistics(self):
        mean = self.x_values.mean((1, 3), keepdims=True)
        return mean, 1 / np.sqrt(self.x_values.var((1, 3), keepdims=True) + self.epsilon)

    def by_group(self, parameter):
        return parameter.reshape(self.grouped[2:])

    def gradients(self):
        """dx, dgamma, dbeta."""
        mean, rstd = self.statistics()
        n, g = (self.x_values - mean) * rstd, self.dy_values * self.by_group(self.gamma)
        mean_g, mean_gn = (v.mean((1, 3), keepdims=True) for v in (g, g * n))
        dx = rstd * (g - mean_g - n * mean_gn)
        sums = (self.dy_values * n).sum((0, 1)), self.dy_values.sum((0, 1))
        return dx, *(v.reshape(-1) for v in sums)


@st.composite
def cases(draw):
    size = draw(st.sampled_from([1, 2, 3, 16, 17]))
    groups = draw(st.sampled_from([1, 2, 3, 32]))
    return Case(
        draw(st.sampled_from([1, 2, 5])),
        draw(st.sampled_from([1, 2, 40, 333])),
        size * groups,
        groups,
        [draw(st.sampled_from(OPERAND_KINDS)) for _ in range(2)],
        draw(st.integers(-12, 12)),
        draw(st.sampled_from([0, 1, 100])),
        draw(seeds),
    )


def assert_rounded(result, expected, error, bits):
    """Half a unit, and the error of what was rounded."""
    unit, limit = 2.0**result.exponent, 2**bits - 1
    clipped = np.clip(expected, -limit * unit, limit * unit).reshape(result.shape)
    distance = np.abs(result.data * unit - clipped)
    assert (distance <= 0.5001 * unit + error.reshape(result.shape)).all()
    assert result.max_abs == np.abs(result.data.astype(int)).max()


@pytest.mark.slow
@given(cases(), st.sampled_from([15, 14, 8, 2]), st.booleans(), st.booleans())
@example(Case(1, 1, 1, 1, ["float32", "float32"], 0, 0, 0), 14, True, True)
def test_forward(on_every_isa, on_every_thread_count, case, bits, scales, centers):
    gamma, beta = case.gamma if scales else None, case.beta if centers else None
    arguments = case.x, case.groups, gamma, beta, case.epsilon, bits
    call = partial(kernels.group_norm_forward, *arguments)
    y, statistics, channel_range = assert_same_everywhere(
        lambda: tuple(call()), on_every_isa, on_every_thread_count
    )
    mean, rstd = case.statistics()
    scale = case.by_group(np.float64(gamma if scales else np.ones_like(case.gamma)))
    offset = case.by_group(np.float64(beta if centers else np.zeros_like(case.beta)))
    expected = (case.x_values - mean) * rstd * scale + offset
    # Of a product by a rounded scale, and an offset that holds the mean; of statistics.
    reach = (np.abs(case.x_values) + np.abs(mean)) * rstd
    error = ROUNDING * ((reach + 1) * (1 + np.abs(scale)) + np.abs(offset))
    error = error * (1 + (np.abs(case.x_values).max() * rstd) ** 2 * 2.0**-10)
    assert_rounded(y, expected, error, bits)
    assert not y.max_abs or y.max_abs >= 2 ** (bits - 1) - 1
    groups = mean.reshape(statistics[0].shape), rstd.reshape(statistics[1].shape)
    assert (np.abs(statistics[0] - groups[0]) <= ROUNDING * np.abs(case.x_values).max()).all()
    relative = ROUNDING * (1 + (np.abs(case.x_values).max() * groups[1]) ** 2 * 2.0**-10)
    assert (np.abs(statistics[1] / groups[1] - 1) <= relative).all()
    ends = case.x_values.min(1), case.x_values.max(1)
    np.testing.assert_array_equal(channel_range, np.stack(ends).reshape(channel_range.shape))


@pytest.mark.slow
@given(cases(), st.sampled_from([15, 14, 8]))
def test_backward(on_every_isa, on_every_thread_count, case, bits):
    _, *numbers = kernels.group_norm_forward(case.x, case.groups, epsilon=case.epsilon)
    call = partial(kernels.group_norm_backward, case.dy, case.x, *numbers, case.gamma, bits)
    dx, dgamma, dbeta = assert_same_everywhere(
        lambda: tuple(call()), on_every_isa, on_every_thread_count
    )
    expected, expected_gamma, expected_beta = case.gradients()
    mean, rstd = case.statistics()
    reach = (np.abs(case.x_values) + np.abs(mean)).max() * rstd
    # Of n = (x - mean) * rstd, and of means over the group.
    n_error = ROUNDING * (1 + reach) * (1 + reach**2 * 2.0**-10)
    n = np.abs((case.x_values - mean) * rstd)
    g = np.abs(case.dy_values * case.by_group(case.gamma)).max((1, 3), keepdims=True)
    error = rstd * n_error * (1 + n) * g * (2 + n.max((1, 3), keepdims=True))
    assert_rounded(dx, expected, error, bits)
    terms = np.abs(case.dy_values) * (n + 1)
    assert (np.abs(dgamma - expected_gamma) <= (n_error * terms).sum((0, 1)).ravel()).all()
    bound = ROUNDING * np.abs(case.dy_values).sum((0, 1)).ravel()
    assert (np.abs(dbeta - expected_beta) <= bound).all()


@pytest.mark.parametrize(("shape", "groups"), [((2, 300, 100, 48), 16), ((50, 7, 7, 64), 64)])
def test_many_pixels(on_every_isa, on_every_thread_count, shape, groups):
    x, values = operand(np.random.default_rng(3), shape, "integers", 1)
    call = partial(kernels.group_norm_forward, x, groups, bits=15)
    y, *numbers = assert_same_everywhere(lambda: tuple(call()), on_every_isa, on_every_thread_count)
    grouped = values.reshape(shape[0], -1, groups, shape[-1] // groups)
    mean, variance = grouped.mean((1, 3), keepdims=True), grouped.var((1, 3), keepdims=True)
    expected = ((grouped - mean) / np.sqrt(variance + 1e-3)).reshape(shape)
    assert np.abs(y.data * 2.0**y.exponent - expected).max() <= 0.52 * 2.0**y.exponent
    call = partial(kernels.group_norm_backward, x, x, *numbers)
    assert_same_everywhere(lambda: tuple(call()), on_every_isa, on_every_thread_count)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite(bad):
    clean = np.arange(96, dtype=np.float32).reshape(2, 3, 16)
    marked = clean.copy()
    marked[1, 1, 3] = bad
    for x in (marked, dfpkeras.quantize(marked)):
        assert not kernels.group_norm_forward(x, 2).y.is_finite
    _, *numbers = kernels.group_norm_forward(clean, 2)
    _, *bad_numbers = kernels.group_norm_forward(marked, 2)
    for dy, x, found in ((marked, clean, numbers), (clean, marked, bad_numbers)):
        assert not kernels.group_norm_backward(dy, x, *found).dx.is_finite
    gradients = kernels.group_norm_backward(dfpkeras.quantize(marked), clean, *numbers)
    assert not gradients.dx.is_finite and np.isnan(gradients.dgamma).all()


def test_constants_have_the_offset():
    x, beta = np.full((2, 3, 20), 7, np.float32), np.arange(20, dtype=np.float32)
    assert np.abs(kernels.group_norm_forward(x, 5, None, beta).y.dequantize() - beta).max() < 1e-3
    zeros = dfpkeras.quantize(np.zeros((2, 3, 20), np.float32))
    assert not kernels.group_norm_forward(zeros, 5).y.data.any()


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4)])
def test_nothing(shape):
    empty = np.zeros(shape, np.float32)
    y, *numbers = kernels.group_norm_forward(empty, 2)
    assert (y.shape, numbers[0].shape, numbers[1].shape) == (
        shape,
        (2, shape[0], 2),
        (2, shape[0], 4),
    )
    dx, dgamma, dbeta = kernels.group_norm_backward(empty, empty, *numbers)
    assert dx.shape == shape and not dgamma.any() and not dbeta.any()


def test_errors():
    x = np.ones((2, 3, 4), np.float32)
    _, *numbers = kernels.group_norm_forward(x, 2)
    for groups in (0, 3, 8, -1):
        with pytest.raises(ValueError, match="groups: expected a divisor of the channels"):
            kernels.group_norm_forward(x, groups)
    with pytest.raises(ValueError, match=r"gamma: expected a float32 array of shape \(4,\)"):
        kernels.group_norm_forward(x, 2, x[0, 0, :3])
    with pytest.raises(ValueError, match=r"channel_range: expected a float32 array of shape"):
        kernels.group_norm_backward(x, x, numbers[0], numbers[1][:, :1])
    with pytest.raises(ValueError, match=r"statistics: expected a float32 array of shape"):
        kernels.group_norm_backward(x, x, numbers[0][:, :1], numbers[1])
    with pytest.raises(TypeError, match="x: expected a DFPTensor"):
        kernels.group_norm_forward([1.0], 1)
    with pytest.raises(ValueError, match="bits: expected 2 to 15"):
        kernels.group_norm_forward(x, 2, bits=16)
