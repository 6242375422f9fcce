"""Oracle of the fused batch normalisation, written only from its specification.

Results in float64 (``statistics``, ``normalize``, ``input_gradient``, ...), each with a bound of
the FP32 rounding errors that are allowed on the way, and the shared exponents. Where the
specification names the FP32 operations and their order, the ``*_fp32`` functions carry them out,
and the kernels must match them to the last bit.

Operands are `reference.Operand` (int16 ``data`` and an exponent) or float32 arrays.
"""

from dataclasses import dataclass

import numpy as np
from reference import UNIT_ROUNDOFF as U
from reference import Operand

LEAST_EXPONENT = -126
#: Largest number of terms in an FP32 sum before it is continued in float64.
LONGEST_SUM = 128
#: Number of rows whose mean is the shift of the sums of squares.
SHIFT_ROWS = 8


@dataclass(frozen=True)
class Bounded:
    """A float64 result and how far an FP32 computation may be from it."""

    value: np.ndarray
    error: np.ndarray


def values(operand):
    """The float64 values of an operand."""
    if isinstance(operand, Operand):
        return np.ldexp(operand.data.astype(np.float64), operand.exponent)
    return operand.astype(np.float64)


def by_pixel(array):
    return array.reshape(-1, array.shape[-1])


# --- statistics -----------------------------------------------------------------------------


def statistics(x):
    """(mean, variance, minimum, maximum); the first two `Bounded`.

    With d = x - shift and sums of R terms: |error of sum d| <= R u sum|d| and |error of sum d^2| <=
    (R + 2) u sum d^2, to first order. The shift is the mean of R / 8 or more of the terms, so by
    Cauchy and Schwarz (mean - shift)^2 <= (R / 8) v, and sum d^2 <= (1 + R / 8) n v, where v is the
    variance of the terms. Subtracting (sum d)^2 / n doubles the first error at most. The results
    are rounded to FP32.
    """
    x = by_pixel(x.astype(np.float64))
    mean, variance = x.mean(axis=0), x.var(axis=0)
    terms = min(len(x), LONGEST_SUM)
    spread = 1 + terms / SHIFT_ROWS
    # The shift is itself rounded to FP32.
    squares = spread * variance + (U * np.abs(x).max(axis=0)) ** 2
    mean_error = terms * U * np.sqrt(squares) + U * np.abs(mean)
    variance_error = (3 * terms + 3) * U * squares
    smallest = np.finfo(np.float32).smallest_subnormal
    return (
        Bounded(mean, mean_error + smallest),
        Bounded(variance, variance_error + smallest),
        x.min(axis=0),
        x.max(axis=0),
    )


# --- forward --------------------------------------------------------------------------------


def activate(z, activation):
    if activation == "relu":
        return np.maximum(z, 0)
    if activation == "relu6":
        return np.clip(z, 0, 6)
    return z


def exponent_of(bound, bits):
    """The shared exponent of a result whose magnitudes do not exceed ``bound``."""
    if bound == 0:
        return 0
    return max(int(np.frexp(bound)[1]) - 1 - (bits - 1), LEAST_EXPONENT)


def normalize(x, scale, offset, residual=None, activation=None):
    """``activation(x * scale + offset + residual)``; an activation does not enlarge the error."""
    product = values(x) * scale.astype(np.float64)
    z = product + offset
    error = np.abs(product) + np.abs(z)
    if residual is not None:
        z = z + values(residual)
        error = error + np.abs(z)
    # 2 u instead of u covers the products of errors and results near the subnormal range.
    return Bounded(activate(z, activation), 2 * U * error)


def normalize_fp32(x, scale, offset, residual=None, activation=None):
    z = x * scale + offset
    if residual is not None:
        z = z + values(residual).astype(np.float32)
    return activate(z, activation)


def forward_bound(x, scale, offset, residual=None, activation=None):
    """The largest magnitude that the range of each channel and the residual allow."""
    x, scale, offset = by_pixel(values(x)), scale.astype(np.float64), offset.astype(np.float64)
    ends = np.stack([x.min(axis=0), x.max(axis=0)]) * scale + offset
    reach = 0.0 if residual is None else np.abs(values(residual)).max()
    top, bottom = ends.max() + reach, ends.min() - reach
    return np.abs(activate(np.array([top, bottom]), activation)).max()


def quantize_to(z, exponent, bits):
    """The integers nearest to z / 2**exponent, ties to even, of at most ``bits`` bits."""
    limit = 2**bits - 1
    scaled = np.ldexp(z.astype(np.float64), -exponent)
    return np.clip(np.rint(scaled), -limit, limit).astype(np.int16)


# --- backward -------------------------------------------------------------------------------


def passes(y, activation):
    """Where Keras passes the gradient of an activation, given the activation's result."""
    y = values(y)
    if activation == "relu":
        return y > 0
    if activation == "relu6":
        return (y > 0) & (y < 6)
    return np.ones(y.shape, bool)


def masked(dy, y, activation):
    """dz, in the type of dy."""
    keep = passes(y, activation)
    if isinstance(dy, Operand):
        return Operand(np.where(keep, dy.data, np.int16(0)), dy.exponent)
    return np.where(keep, dy, np.float32(0))


def gradient_sums(dz, x, mean):
    """(sum dz, sum dz * (x - mean), max|dz|); the sums `Bounded`, exact for an integer dz."""
    terms = min(by_pixel(x).shape[0], LONGEST_SUM)
    exact = isinstance(dz, Operand)
    dz, distance = by_pixel(values(dz)), by_pixel(x.astype(np.float64)) - mean
    products = dz * distance
    sum_error = 0 if exact else terms * U * np.abs(dz).sum(axis=0)
    smallest = np.finfo(np.float32).smallest_subnormal
    product_error = (terms + 2) * U * np.abs(products).sum(axis=0) + len(dz) * smallest
    return (
        Bounded(dz.sum(axis=0), sum_error + 1e-15 * np.abs(dz).sum(axis=0)),
        Bounded(products.sum(axis=0), product_error),
        np.abs(dz).max(axis=0),
    )


def input_gradient(dz, x, mean, factor_dz, factor_x, constant):
    distance = x.astype(np.float64) - mean
    first, second = factor_dz * values(dz), factor_x * distance
    dx = first + second + constant
    error = np.abs(first) + 2 * np.abs(second) + np.abs(first + second) + np.abs(dx)
    return Bounded(dx, 2 * U * error)


def input_gradient_fp32(dz, x, mean, factor_dz, factor_x, constant):
    dz = values(dz).astype(np.float32)
    return (factor_dz * dz + factor_x * (x - mean)) + constant


def backward_bound(max_dz, x, mean, factor_dz, factor_x, constant):
    x, mean = by_pixel(x.astype(np.float64)), mean.astype(np.float64)
    reach = np.maximum(x.max(axis=0) - mean, mean - x.min(axis=0))
    terms = (np.float64(factor_dz) * max_dz, np.float64(factor_x) * reach, np.float64(constant))
    return sum(np.abs(term) for term in terms).max()


# --- comparing ------------------------------------------------------------------------------


def assert_bounded(result, expected, what):
    """Fail unless |result - value| <= error everywhere."""
    assert result.shape == expected.value.shape
    excess = np.abs(result.astype(np.float64) - expected.value) - expected.error
    worst = np.argmax(excess)
    assert (excess <= 0).all(), (
        f"{what} {worst}: got {result.flat[worst]!r}, expected {expected.value.flat[worst]!r} "
        f"within {np.broadcast_to(expected.error, result.shape).flat[worst]!r}"
    )


def assert_rounded(tensor, expected, bits):
    """Fail unless a tensor is its bounded expectation, rounded once and clamped at the top."""
    unit = np.ldexp(1.0, tensor.exponent)
    limit = 2**bits - 1
    assert tensor.max_abs == np.abs(tensor.data.astype(np.int64)).max(initial=0) <= limit
    allowed = np.where(np.abs(tensor.data) == limit, 1.0, 0.5) * unit
    value = Bounded(expected.value, expected.error + allowed)
    assert_bounded(np.ldexp(tensor.data.astype(np.float64), tensor.exponent), value, "element")
