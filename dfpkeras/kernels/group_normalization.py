"""Normalisation over the pixels and channels of each image and group, and its gradient."""

import math
import typing

import numpy as np

from dfpkeras import _native
from dfpkeras.kernels.layer_normalization import NormalizationGradients
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
from dfpkeras.runtime.argument_checks import check_integer
from dfpkeras.runtime.float_environment import default_float_environment
from dfpkeras.runtime.memory import aligned_empty


class GroupNormResult(typing.NamedTuple):
    """A group normalisation's result.

    Attributes:
        y: `DFPTensor` of the shape of ``x``.
        statistics: ``float32`` array of shape (2, images, groups): mean and
            ``1 / sqrt(variance + epsilon)``.
        channel_range: ``float32`` array of shape (2, images, channels): minimum and maximum of
            ``x``.
    """

    y: DFPTensor
    statistics: np.ndarray
    channel_range: np.ndarray


@default_float_environment
def group_norm_forward(
    x: DFPTensor | np.ndarray,
    groups: int,
    gamma: np.ndarray | None = None,
    beta: np.ndarray | None = None,
    epsilon: float = 1e-3,
    bits: int = 14,
) -> GroupNormResult:
    """``y = (x - mean) / sqrt(variance + epsilon) * gamma + beta`` (Wu and He, 2018).

    Statistics are those of an image's pixels and a group of its channels.

    Args:
        x: `DFPTensor` or ``float32`` array of shape (images, ..., channels).
        groups: number of groups, a divisor of the number of channels, which normalises each channel
            of each image by itself if it is that number.
        gamma, beta: ``float32`` arrays of shape (channels,), or None for 1 and 0.
        epsilon: float that is added to the variance.
        bits: magnitude bits of the result, 2 to 15.

    Returns:
        A `GroupNormResult`; the exponent of ``y`` follows from the range of each channel of each
        image. The non-finite tensor and NaN if ``x`` holds NaN or Inf.

    Raises:
        TypeError: if ``x`` is of another type, or ``groups`` or ``bits`` not an integer.
        ValueError: if an array does not fit, there is no channel, or ``groups`` or ``bits`` is out
            of range.
    """
    check_operand("x", x)
    channels, bits = check_channels("x", x), check_bits(bits)
    groups = _check_groups(groups, x.shape)
    gamma = check_optional_channel_numbers("gamma", gamma, channels)
    beta = check_optional_channel_numbers("beta", beta, channels)
    numbers = [aligned_empty((2, x.shape[0], n), np.float32) for n in (groups, channels)]
    if not is_finite(x) or not math.prod(x.shape):
        for array in numbers:
            array.fill(np.nan)
        return GroupNormResult(_nonfinite(x.shape) if not is_finite(x) else _empty(x), *numbers)
    y = aligned_empty(x.shape, np.int16)
    scale = _native.group_norm_forward(
        parts(x), gamma, beta, epsilon, bits, *numbers, y.reshape(-1)
    )
    return GroupNormResult(DFPTensor._wrap(y, *scale), *numbers)


@default_float_environment
def group_norm_backward(
    dy: DFPTensor | np.ndarray,
    x: DFPTensor | np.ndarray,
    statistics: np.ndarray,
    channel_range: np.ndarray,
    gamma: np.ndarray | None = None,
    bits: int = 14,
) -> NormalizationGradients:
    """The gradients of `group_norm_forward`.

    Args:
        dy: `DFPTensor` or ``float32`` array of shape (images, ..., channels).
        x: `DFPTensor` or ``float32`` array of the same shape, what was normalised.
        statistics, channel_range: what `group_norm_forward` returned with its result.
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
    groups = statistics.shape[-1]
    check_array("statistics", statistics, (2, dy.shape[0], groups))
    check_array("channel_range", channel_range, (2, dy.shape[0], channels))
    _check_groups(groups, dy.shape)
    parameters = np.zeros((2, channels), np.float32)
    if not is_finite(dy, x):
        parameters.fill(np.nan)
        return NormalizationGradients(_nonfinite(dy.shape), *parameters)
    if not math.prod(dy.shape):
        return NormalizationGradients(_empty(dy), *parameters)
    dx = aligned_empty(dy.shape, np.int16)
    numbers = [np.array(v, np.float32, order="C") for v in (statistics, channel_range)]
    scale = _native.group_norm_backward(
        parts(x), parts(dy), gamma, bits, *numbers, dx.reshape(-1), parameters
    )
    return NormalizationGradients(DFPTensor._wrap(dx, *scale), *parameters)


def _check_groups(groups, shape):
    groups = check_integer("groups", groups)
    if len(shape) < 2 or groups < 1 or shape[-1] % groups:
        raise ValueError(
            f"groups: expected a divisor of the channels of (images, ..., channels), got {groups} "
            f"for shape {shape}"
        )
    return groups


def _empty(x):
    return DFPTensor._wrap(aligned_empty(x.shape, np.int16), 0, 0)
