"""Layer normalisation over the last axis, and its gradient."""

import math
import typing

import numpy as np

from dfpkeras import _native
from dfpkeras.kernels.operand_checks import (
    check_array,
    check_bits,
    check_channels,
    check_operand,
    check_optional_channel_numbers,
    is_finite,
    parts,
)
from dfpkeras.kernels.quantized_tensor import DFPTensor, _nonfinite
from dfpkeras.runtime.float_environment import default_float_environment
from dfpkeras.runtime.memory import aligned_empty


class NormalizationGradients(typing.NamedTuple):
    """The gradients of a layer or group normalisation.

    Attributes:
        dx: `DFPTensor` of the shape of ``x``.
        dgamma, dbeta: ``float32`` arrays of shape (channels,).
    """

    dx: DFPTensor
    dgamma: np.ndarray
    dbeta: np.ndarray


@default_float_environment
def layer_norm_forward(
    x: DFPTensor | np.ndarray,
    gamma: np.ndarray | None = None,
    beta: np.ndarray | None = None,
    epsilon: float = 1e-3,
    bits: int = 14,
) -> tuple[DFPTensor, np.ndarray]:
    """``y = (x - mean) / sqrt(variance + epsilon) * gamma + beta``, statistics of each pixel.

    Args:
        x: `DFPTensor` or ``float32`` array of shape (..., channels).
        gamma, beta: ``float32`` arrays of shape (channels,), or None for 1 and 0.
        epsilon: float that is added to the variance.
        bits: magnitude bits of the result, 2 to 15.

    Returns:
        (y, statistics): a `DFPTensor` of the shape of ``x``, whose exponent is that of its largest
        magnitude, and a ``float32`` array of shape (2, pixels): mean and ``1 / sqrt(variance +
        epsilon)``. The non-finite tensor and NaN if ``x`` holds NaN or Inf.

    Raises:
        TypeError: if ``x`` is of another type, or ``bits`` not an integer.
        ValueError: if an array does not fit, there is no channel or ``bits`` is out of range.
    """
    check_operand("x", x)
    channels, bits = check_channels("x", x), check_bits(bits)
    gamma = check_optional_channel_numbers("gamma", gamma, channels)
    beta = check_optional_channel_numbers("beta", beta, channels)
    statistics = aligned_empty((2, math.prod(x.shape[:-1])), np.float32)
    if not is_finite(x):
        statistics.fill(np.nan)
        return _nonfinite(x.shape), statistics
    y = aligned_empty(x.shape, np.int16)
    if not y.size:
        return DFPTensor._wrap(y, 0, 0), statistics
    scale = _native.layer_norm_forward(
        parts(x), gamma, beta, epsilon, bits, statistics, y.reshape(-1)
    )
    return DFPTensor._wrap(y, *scale), statistics


@default_float_environment
def layer_norm_backward(
    dy: DFPTensor | np.ndarray,
    x: DFPTensor | np.ndarray,
    statistics: np.ndarray,
    gamma: np.ndarray | None = None,
    bits: int = 14,
) -> NormalizationGradients:
    """The gradients of `layer_norm_forward`.

    Args:
        dy: `DFPTensor` or ``float32`` array of shape (..., channels).
        x: `DFPTensor` or ``float32`` array of the same shape, what was normalised.
        statistics: what `layer_norm_forward` returned with its result.
        gamma: ``float32`` array of shape (channels,), or None for 1.
        bits: magnitude bits of ``dx``, 2 to 15.

    Returns:
        A `NormalizationGradients`: the non-finite tensor and NaN if an operand holds NaN or Inf.

    Raises:
        TypeError: if an operand is of another type, or ``bits`` not an integer.
        ValueError: if an array does not fit, there is no channel or ``bits`` is out of range.
    """
    check_operand("dy", dy)
    channels, bits = check_channels("dy", dy), check_bits(bits)
    check_operand("x", x, dy.shape)
    gamma = check_optional_channel_numbers("gamma", gamma, channels)
    check_array("statistics", statistics, (2, math.prod(dy.shape[:-1])))
    parameters = np.zeros((2, channels), np.float32)
    if not is_finite(dy, x):
        parameters.fill(np.nan)
        return NormalizationGradients(_nonfinite(dy.shape), *parameters)
    dx = aligned_empty(dy.shape, np.int16)
    if not dx.size:
        return NormalizationGradients(DFPTensor._wrap(dx, 0, 0), *parameters)
    statistics = np.array(statistics, np.float32, order="C")
    scale = _native.layer_norm_backward(
        parts(x), parts(dy), gamma, bits, statistics, dx.reshape(-1), parameters
    )
    return NormalizationGradients(DFPTensor._wrap(dx, *scale), *parameters)
