"""Layer normalisation and its gradient, against float64."""

from functools import partial

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from poison import poisoned_memory
from strategies import OPERAND_KINDS, as_operand_of_kind, seeds
from test_batch_norm_kernels import assert_same_everywhere
from test_product_kernels import operand

import dfpkeras
from dfpkeras import kernels

#: FP32's relative error of sums of some hundred terms.
ROUNDING = 2.0**-18


class Case:
    """Operands of a layer normalisation, and their float64 values."""

    def __init__(self, pixels, channels, kinds, magnitude, offset, seed):
        self.description = pixels, channels, kinds, magnitude, offset, seed
        rng, shape = np.random.default_rng(seed), (pixels, channels)
        numbers, _ = operand(rng, shape, "float32", 2.0**magnitude)
        numbers += np.float32(offset * 2.0**magnitude)
        self.x, self.x_values = as_operand_of_kind(numbers, kinds[0])
        self.dy, self.dy_values = operand(rng, shape, kinds[1], 2.0 ** rng.integers(-9, 9))
        self.gamma, self.beta = rng.standard_normal((2, channels)).astype(np.float32)
        self.epsilon = 1e-3

    def __repr__(self):
        return f"Case{self.description}"

    def statistics(self):
        mean = self.x_values.mean(-1, keepdims=True)
        return mean, 1 / np.sqrt(self.x_values.var(-1, keepdims=True) + self.epsilon)

    def gradients(self):
        """dx, dgamma, dbeta."""
        mean, rstd = self.statistics()
        n, g = (self.x_values - mean) * rstd, self.dy_values * self.gamma
        dx = rstd * (g - g.mean(-1, keepdims=True) - n * (g * n).mean(-1, keepdims=True))
        return dx, (self.dy_values * n).sum(0), self.dy_values.sum(0)


@st.composite
def cases(draw):
    return Case(
        draw(st.sampled_from([1, 2, 9, 40, 333])),
        draw(st.sampled_from([1, 3, 15, 16, 17, 32, 48, 96, 530])),
        [draw(st.sampled_from(OPERAND_KINDS)) for _ in range(2)],
        draw(st.integers(-12, 12)),
        draw(st.sampled_from([0, 1, 100])),
        draw(seeds),
    )


@pytest.mark.slow
@given(cases(), st.sampled_from([15, 14, 8, 2]), st.booleans(), st.booleans())
@example(Case(1, 1, ["float32", "float32"], 0, 0, 0), 14, True, True)
def test_forward(on_every_isa, on_every_thread_count, case, bits, scales, centers):
    gamma, beta = case.gamma if scales else None, case.beta if centers else None
    call = partial(kernels.layer_norm_forward, case.x, gamma, beta, case.epsilon, bits)
    y, statistics = assert_same_everywhere(call, on_every_isa, on_every_thread_count)
    mean, rstd = case.statistics()
    n = (case.x_values - mean) * rstd
    expected = n * (case.gamma if scales else 1) + (case.beta if centers else 0)
    unit, limit = 2.0**y.exponent, 2**bits - 1
    # What is lost of x - mean where both are large.
    error = ROUNDING * (np.abs(expected) + 1 + (np.abs(case.x_values) + np.abs(mean)) * rstd)
    error *= 1 + np.abs(case.gamma if scales else 1)
    assert (
        np.abs(y.data * unit - np.clip(expected, -limit * unit, limit * unit))
        <= (0.5001 * unit + error)
    ).all()
    assert y.max_abs == np.abs(y.data.astype(int)).max()
    assert not y.max_abs or y.max_abs >= limit // 2
    assert np.abs(statistics[0] - mean[:, 0]).max() <= ROUNDING * np.abs(case.x_values).max()
    relative = ROUNDING * (1 + (np.abs(case.x_values).max() * rstd[:, 0]) ** 2 * 2.0**-10)
    assert (np.abs(statistics[1] / rstd[:, 0] - 1) <= relative).all()


@pytest.mark.slow
@given(cases(), st.sampled_from([15, 14, 8]))
def test_backward(on_every_isa, on_every_thread_count, case, bits):
    _, statistics = kernels.layer_norm_forward(case.x, epsilon=case.epsilon)
    call = partial(kernels.layer_norm_backward, case.dy, case.x, statistics, case.gamma, bits)
    dx, dgamma, dbeta = assert_same_everywhere(
        lambda: tuple(call()), on_every_isa, on_every_thread_count
    )
    expected, expected_gamma, expected_beta = case.gradients()
    mean, rstd = case.statistics()
    unit, limit = 2.0**dx.exponent, 2**bits - 1
    # Of n = (x - mean) * rstd, and of means over the channels.
    n_error = ROUNDING * (1 + (np.abs(case.x_values) + np.abs(mean)).max() * rstd)
    n = np.abs((case.x_values - mean) * rstd)
    g = np.abs(case.dy_values * case.gamma)
    error = rstd * (n_error * (1 + n)) * (g.max(-1, keepdims=True) * (2 + n.max(-1, keepdims=True)))
    assert (
        np.abs(dx.data * unit - np.clip(expected, -limit * unit, limit * unit))
        <= 0.5001 * unit + error
    ).all()
    terms = np.abs(case.dy_values) * (n + 1)
    assert (np.abs(dgamma - expected_gamma) <= (n_error * terms).sum(0) + 1e-30).all()
    assert (np.abs(dbeta - expected_beta) <= ROUNDING * np.abs(case.dy_values).sum(0)).all()


@pytest.mark.parametrize("shape", [(2, 300, 300, 24), (20_000, 64), (3, 5000)])
def test_many_pixels_and_channels(on_every_isa, on_every_thread_count, shape):
    rng = np.random.default_rng(3)
    x, values = operand(rng, shape, "integers", 1)
    y, statistics = assert_same_everywhere(
        partial(kernels.layer_norm_forward, x, bits=15), on_every_isa, on_every_thread_count
    )
    mean, variance = values.mean(-1, keepdims=True), values.var(-1, keepdims=True)
    expected = (values - mean) / np.sqrt(variance + 1e-3)
    assert np.abs(y.data * 2.0**y.exponent - expected).max() <= 0.52 * 2.0**y.exponent
    call = partial(kernels.layer_norm_backward, x, x, statistics)
    assert_same_everywhere(lambda: tuple(call()), on_every_isa, on_every_thread_count)


def test_constant_pixels_have_the_offset():
    x, beta = np.full((3, 20), 7, np.float32), np.arange(20, dtype=np.float32)
    y, _ = kernels.layer_norm_forward(x, None, beta)
    assert np.abs(y.dequantize() - beta).max() < 1e-3
    y, _ = kernels.layer_norm_forward(x)
    assert y.is_finite and not y.data.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e38])
def test_what_is_not_finite(on_every_isa, bad):
    clean, x = np.ones((3, 4), np.float32), np.zeros((3, 4), np.float32)
    x[1] = bad, -bad, bad, 1
    for y, _ in on_every_isa(lambda: kernels.layer_norm_forward(x)).values():
        assert not y.is_finite
    _, statistics = kernels.layer_norm_forward(clean + np.arange(4, dtype=np.float32))
    marked = x if bad != 1e38 else np.full((3, 4), np.nan, np.float32)
    for operands in ((marked, clean), (clean, marked), (dfpkeras.quantize(marked), clean)):
        assert not kernels.layer_norm_backward(*operands, statistics).dx.is_finite


def test_statistics_of_all_pixels_where_one_is_not_finite(on_every_isa):
    """They are written whatever the memory held before."""
    x = np.ones((5, 4), np.float32) * np.arange(4, dtype=np.float32)
    x[1] *= np.float32(1e38)
    _, expected = kernels.layer_norm_forward(np.delete(x, 1, 0))
    with poisoned_memory():
        for _, found in on_every_isa(lambda: kernels.layer_norm_forward(x)).values():
            assert not np.isfinite(found[1, 1])
            np.testing.assert_array_equal(np.delete(found, 1, 1), expected)
    _, statistics = kernels.layer_norm_forward(np.nan_to_num(x / 1e30))
    statistics[:, 1] = np.nan
    gradients = kernels.layer_norm_backward(x / 1e30, x / 1e30, statistics)
    assert not gradients.dx.is_finite and np.isnan(gradients.dgamma).all()
    np.testing.assert_allclose(gradients.dbeta, (x / 1e30).sum(0), rtol=1e-6)


@pytest.mark.parametrize("shape", [(0, 4), (2, 0, 4)])
def test_nothing(shape):
    empty = np.zeros(shape, np.float32)
    y, statistics = kernels.layer_norm_forward(empty)
    assert (y.shape, statistics.shape) == (shape, (2, 0))
    dx, dgamma, dbeta = kernels.layer_norm_backward(empty, empty, statistics)
    assert dx.shape == shape and not dgamma.any() and not dbeta.any()


def test_errors():
    x = np.ones((3, 4), np.float32)
    _, statistics = kernels.layer_norm_forward(x)
    with pytest.raises(ValueError, match=r"gamma: expected a float32 array of shape \(4,\)"):
        kernels.layer_norm_forward(x, x[0, :3])
    with pytest.raises(ValueError, match=r"statistics: expected a float32 array of shape \(2, 3\)"):
        kernels.layer_norm_backward(x, x, statistics[:, :2])
    with pytest.raises(TypeError, match="x: expected a DFPTensor"):
        kernels.layer_norm_forward([1.0])
    with pytest.raises(ValueError, match="expected at least one channel"):
        kernels.layer_norm_forward(np.ones((3, 0), np.float32))
    with pytest.raises(ValueError, match="bits: expected 2 to 15"):
        kernels.layer_norm_forward(x, bits=16)
