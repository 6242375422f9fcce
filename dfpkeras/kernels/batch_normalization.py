"""Batch normalisation on NumPy arrays, fused with a residual addition and an activation.

The parts of a training step, each of which reads its operands once::

    statistics = batch_norm_statistics(x)
    scale, offset = batch_norm_fold(gamma, beta, statistics.mean, statistics.variance, epsilon)
    y = batch_norm_forward(x, scale, offset, statistics.minimum, statistics.maximum,
                           residual, "relu")
    sums = batch_norm_backward_reduce(dy, x, statistics.mean, y, "relu")
    gradients = batch_norm_gradients(gamma, statistics.variance, epsilon, sums, pixels)
    dx, dz = batch_norm_backward(dy, x, statistics.mean, gradients.factor_dz, gradients.factor_x,
                                 gradients.constant, statistics.minimum, statistics.maximum,
                                 sums.max_dz, y, "relu", want_dz=True)

``dz`` is the gradient of the residual. In inference, or with a frozen layer, `batch_norm_fold`
takes the moving statistics, `batch_norm_gradients` is told ``training=False``, and
`batch_norm_backward_frozen` takes the place of `batch_norm_backward`.

The channel is the last axis; all others count as pixels. An ``x`` that is a `DFPTensor` gives the
same result as its dequantised numbers, without computing them. Results are rounded to the nearest
integer, ties to even, and the same to the last bit for every instruction set and number of threads.
"""

import math
import typing

import numpy as np

from dfpkeras import _native
from dfpkeras.kernels.activation import check_activation, is_function
from dfpkeras.kernels.operand_checks import (
    check_activation_result,
    check_argument,
    check_bits,
    check_channel_numbers,
    check_channels,
    check_operand,
    is_finite,
    parts,
)
from dfpkeras.kernels.quantized_tensor import MAX_BITS, DFPTensor, _nonfinite
from dfpkeras.runtime.float_environment import default_float_environment
from dfpkeras.runtime.memory import aligned_empty


class BatchNormStatistics(typing.NamedTuple):
    """Statistics over all pixels, ``float32`` arrays of shape (channels,).

    Attributes:
        mean: arithmetic mean.
        variance: biased variance, ``mean((x - mean)**2)``.
        minimum, maximum: channel range.
    """

    mean: np.ndarray
    variance: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray


class BatchNormSums(typing.NamedTuple):
    """Sums over all pixels of a gradient ``dz``, arrays of shape (channels,).

    Attributes:
        sum_dz: ``float64``, ``sum(dz)``.
        sum_dz_x: ``float64``, ``sum(dz * (x - mean))``.
        max_dz: ``float32``, ``max|dz|``.
    """

    sum_dz: np.ndarray
    sum_dz_x: np.ndarray
    max_dz: np.ndarray


class BatchNormGradients(typing.NamedTuple):
    """``dx = factor_dz * dz + factor_x * (x - mean) + constant`` and the parameters' gradients.

    All are ``float32`` arrays of shape (channels,); ``factor_x`` and ``constant`` are None for 0.
    ``sum_dx`` is the sum of ``dx`` over all pixels, the gradient of a bias added to ``x``.
    """

    factor_dz: np.ndarray
    factor_x: np.ndarray | None
    constant: np.ndarray | None
    dgamma: np.ndarray
    dbeta: np.ndarray
    sum_dx: np.ndarray


def batch_norm_statistics(x):
    """Mean, biased variance and range of each channel.

    FP32 sums of at most 128 distances from a value near the mean, added up in FP64: the variance
    keeps FP32's relative accuracy however far the mean is from 0. Integers are summed as integers,
    so that their exponent neither overflows nor underflows on the way.

    Args:
        x: `DFPTensor` or ``float32`` array of shape (..., channels).

    Returns:
        A `BatchNormStatistics`. A channel with NaN or Inf, or with numbers so large (beyond 1e36)
        that FP32 sums of them overflow, has NaN in all four; so have all channels of a tensor that
        is not finite or has no pixels. A variance beyond 1e36 may be Inf.

    Raises:
        TypeError: if ``x`` is of another type.
        ValueError: if it has no channel.
    """
    check_operand("x", x)
    channels = check_channels("x", x)
    statistics = aligned_empty((4, channels), np.float32)
    if is_finite(x) and _pixels(x):
        _native.batch_norm_statistics(parts(x), _pixels(x), statistics)
    else:
        statistics.fill(np.nan)
    return BatchNormStatistics(*statistics)


@default_float_environment
def batch_norm_fold(gamma, beta, mean, variance, epsilon):
    """Folds a batch norm into a scale and an offset for each channel.

    Args:
        gamma, beta: ``float32`` arrays of shape (channels,), or None for 1 and 0.
        mean, variance: ``float32`` arrays of shape (channels,): of the batch, or the moving ones.
        epsilon: float that is added to the variance.

    Returns:
        (scale, offset), ``float32`` arrays of shape (channels,): ``scale = gamma / sqrt(variance +
        epsilon)`` and ``offset = beta - mean * scale``, computed in FP64.

    Raises:
        ValueError: if an array does not fit.
    """
    channels = len(mean)
    gamma, beta = _optional("gamma", gamma, channels), _optional("beta", beta, channels)
    mean = check_channel_numbers("mean", mean, channels)
    variance = check_channel_numbers("variance", variance, channels)
    scale, offset = np.empty((2, channels), np.float32)
    _native.batch_norm_fold(gamma, beta, mean, variance, epsilon, scale, offset)
    return scale, offset


def batch_norm_forward(
    x,
    scale,
    offset,
    minimum=None,
    maximum=None,
    residual=None,
    activation=None,
    bits=14,
    unit_fold=None,
):
    """``activation(x * scale + offset + residual)`` as dynamic fixed point, in one pass.

    Args:
        x: `DFPTensor` or ``float32`` array of shape (..., channels).
        scale, offset: ``float32`` arrays of shape (channels,), see `batch_norm_fold`.
        minimum, maximum: ``float32`` arrays of shape (channels,): the range of each channel of
            ``x``, as `batch_norm_statistics` finds them; values outside saturate. None to find them
            first.
        residual: None, or a `DFPTensor` or ``float32`` array of the shape of ``x`` that is added.
        activation: None, a name or an `Activation`, see `dfpkeras.kernels.activation`.
        bits: magnitude bits of the result, 2 to 15.
        unit_fold: None, or the (scale, offset) of `batch_norm_fold` without ``gamma`` and ``beta``,
            to return the normalised ``x``, too, which the backward pass can read instead of ``x``.

    Returns:
        A `DFPTensor` of the shape of ``x``, or with ``unit_fold`` a pair of them; the second is the
        normalised ``x`` in 15 bits. The exponent is ``floor(log2(bound)) - (bits - 1)``, at least
        -126, for the largest magnitude that these ranges allow; larger only where FP32 could not
        hold ``scale`` or ``offset`` in these units. The non-finite tensor if ``x``, ``scale``,
        ``offset`` or ``residual`` holds NaN or Inf.

    Raises:
        TypeError: if an operand is of another type, or ``bits`` not an integer.
        ValueError: if shapes do not fit, there is no channel, half of the channel range is missing,
            ``activation`` is unknown or ``bits`` out of range.
    """
    check_operand("x", x)
    channels = check_channels("x", x)
    scale = check_channel_numbers("scale", scale, channels)
    offset = check_channel_numbers("offset", offset, channels)
    if residual is not None:
        check_operand("residual", residual, x.shape)
    of_activation, bits = check_activation(activation), check_bits(bits)
    if minimum is None and maximum is None:
        _, _, minimum, maximum = batch_norm_statistics(x)
    minimum = check_channel_numbers("minimum", minimum, channels)
    maximum = check_channel_numbers("maximum", maximum, channels)
    if unit_fold is not None:
        unit_fold = [check_channel_numbers("unit_fold", v, channels) for v in unit_fold]
    if not is_finite(x, residual):
        both = _nonfinite(x.shape), _nonfinite(x.shape)
        return both[0] if unit_fold is None else both
    if not _pixels(x):
        both = _empty(x.shape), _empty(x.shape)
        return both[0] if unit_fold is None else both
    y = aligned_empty(x.shape, np.int16)
    normalized = None if unit_fold is None else aligned_empty(x.shape, np.int16)
    operands = parts(x), scale, offset, minimum, maximum, parts(residual)
    unit = unit_fold or (None, None)
    into = None if normalized is None else normalized.reshape(-1)
    result, unit_result = _native.batch_norm_forward(
        *operands, of_activation, bits, y.reshape(-1), *unit, MAX_BITS, into
    )
    y = DFPTensor._wrap(y, *result)
    return y if normalized is None else (y, DFPTensor._wrap(normalized, *unit_result))


def batch_norm_backward_reduce(dy, x, mean, y=None, activation=None, argument=None):
    """Sums over all pixels that the gradient of a batch norm needs, in one read.

    ``dz`` is ``dy`` where the activation passed its argument on (``y > 0``, and ``y < 6`` for
    "relu6", as in Keras), 0 elsewhere; or of another activation, ``dy`` times its slope.

    Args:
        dy: `DFPTensor` or ``float32`` array of shape (..., channels).
        x: `DFPTensor` or ``float32`` array of the same shape, what was normalised.
        mean: ``float32`` array of shape (channels,).
        y: `DFPTensor` of the same shape: the result of `batch_norm_forward`. Used for "relu" and
            "relu6" only.
        activation: as in `batch_norm_forward`.
        argument: (scale, offset), ``float32`` arrays of shape (channels,): the argument of an
            activation other than those two is ``x * scale + offset``.

    Returns:
        A `BatchNormSums`. The sum of an integer ``dz`` is exact. All NaN if ``dy``, ``x`` or ``y``
        is a tensor that is not finite.

    Raises:
        TypeError: if an operand is of another type.
        ValueError: if shapes do not fit, there is no channel, or ``activation`` is
            unknown.
    """
    check_operand("dy", dy)
    channels = check_channels("dy", dy)
    check_operand("x", x, dy.shape)
    mean = check_channel_numbers("mean", mean, channels)
    y = check_activation_result(y, activation, x.shape)
    argument = check_argument(argument, activation, channels)
    sums, max_dz = np.empty((2, channels)), np.empty(channels, np.float32)
    if not _pixels(dy):
        sums.fill(0)
        max_dz.fill(0)
    elif is_finite(dy, x, y):
        of_activation = (*check_activation(activation), *argument)
        operands = parts(dy), parts(y)[:3], of_activation, parts(x), _pixels(x), mean
        _native.batch_norm_backward_reduce(*operands, sums, max_dz)
    else:
        sums.fill(np.nan)
        max_dz.fill(np.nan)
    return BatchNormSums(*sums, max_dz)


@default_float_environment
def batch_norm_gradients(gamma, variance, epsilon, sums, pixels, training=True, normalized=False):
    """Gradients of the parameters, and the factors of ``dx`` (Ioffe and Szegedy, 2015).

    With ``r = 1 / sqrt(variance + epsilon)`` and ``n`` pixels: ``dgamma = r * sum_dz_x``,
    ``dbeta = sum_dz``, ``factor_dz = gamma * r``, and in training ``factor_x = -gamma * r**3 *
    sum_dz_x / n`` and ``constant = -gamma * r * sum_dz / n``, computed in FP64. ``sum_dx`` is
    ``gamma * r * sum_dz``, but 0 in training: the batch's mean cancels whatever is added to all of
    ``x``.

    Args:
        gamma: ``float32`` array of shape (channels,), or None for 1.
        variance: ``float32`` array of shape (channels,).
        epsilon: float that is added to the variance.
        sums: a `BatchNormSums`.
        pixels: number of pixels that the statistics were taken over.
        training: whether mean and variance were those of the batch, through which gradients flow;
            otherwise they are constants.
        normalized: whether the normalised ``x`` took the place of ``x``, with mean 0, in ``sums``
            and takes it in `batch_norm_backward`.

    Returns:
        A `BatchNormGradients`.

    Raises:
        ValueError: if an array does not fit.
    """
    channels = len(sums.sum_dz)
    gamma = _optional("gamma", gamma, channels)
    variance = check_channel_numbers("variance", variance, channels)
    results = np.empty((6 if training else 4, channels), np.float32)
    of_tensor = sums.sum_dz, sums.sum_dz_x, pixels, training, normalized
    _native.batch_norm_gradients(gamma, variance, epsilon, *of_tensor, results)
    factor_dz, dgamma, dbeta, sum_dx, *others = results
    factor_x, constant = others or (None, None)
    return BatchNormGradients(factor_dz, factor_x, constant, dgamma, dbeta, sum_dx)


def batch_norm_backward(
    dy,
    x,
    mean,
    factor_dz,
    factor_x,
    constant,
    minimum,
    maximum,
    max_dz,
    y=None,
    activation=None,
    bits=14,
    want_dz=False,
    argument=None,
):
    """``dx = factor_dz * dz + factor_x * (x - mean) + constant`` in one pass.

    Args:
        dy: `DFPTensor` or ``float32`` array of shape (..., channels).
        x: `DFPTensor` or ``float32`` array of the same shape, what was normalised.
        mean: ``float32`` array of shape (channels,).
        factor_dz, factor_x, constant: ``float32`` arrays of shape (channels,), see
            `batch_norm_gradients`.
        minimum, maximum: ``float32`` arrays of shape (channels,), the channel range of ``x``.
        max_dz: ``float32`` array of shape (channels,), ``max|dz|``, see `BatchNormSums`.
        y, activation, argument: as in `batch_norm_backward_reduce`.
        bits: magnitude bits of ``dx``, and of ``dz`` if ``dy`` is a ``float32`` array, 2 to 15.
        want_dz: whether to return ``dz``, the gradient of the residual, too.

    Returns:
        ``dx``, a `DFPTensor`, or (dx, dz) with ``want_dz``. The exponent of ``dx`` is found as in
        `batch_norm_forward`, for the bound ``|factor_dz| * max_dz + |factor_x| * max|x - mean| +
        |constant|``. ``dz`` has the integers and the exponent of ``dy`` if that is a `DFPTensor`
        and multiplied by no slope. A result of NaN or Inf is the non-finite tensor.

    Raises:
        TypeError: if an operand is of another type, or ``bits`` not an integer.
        ValueError: if shapes do not fit, there is no channel, ``activation`` is unknown
            or ``bits`` out of range.
    """
    check_operand("dy", dy)
    channels = check_channels("dy", dy)
    check_operand("x", x, dy.shape)
    numbers = {
        "mean": mean,
        "factor_dz": factor_dz,
        "factor_x": factor_x,
        "constant": constant,
        "minimum": minimum,
        "maximum": maximum,
        "max_dz": max_dz,
    }
    numbers = [check_channel_numbers(name, v, channels) for name, v in numbers.items()]
    return _backward(dy, x, numbers, y, activation, bits, want_dz, argument)


def batch_norm_backward_frozen(
    dy,
    factor_dz,
    max_dz=None,
    y=None,
    activation=None,
    bits=14,
    want_dz=False,
    x=None,
    argument=None,
):
    """``dx = factor_dz * dz``: `batch_norm_backward` with constant mean and variance.

    Args:
        dy, factor_dz, y, activation, bits, want_dz: as in `batch_norm_backward`.
        max_dz: as in `batch_norm_backward`; None for the largest ``|dy|`` of all channels.
        x, argument: as in `batch_norm_backward_reduce`; used for activations that need their
            argument.

    Returns:
        As `batch_norm_backward`.

    Raises:
        TypeError, ValueError: as in `batch_norm_backward`.
    """
    check_operand("dy", dy)
    channels = check_channels("dy", dy)
    factor_dz = check_channel_numbers("factor_dz", factor_dz, channels)
    if max_dz is not None:
        max_dz = check_channel_numbers("max_dz", max_dz, channels)
    numbers = [None, factor_dz, None, None, None, None, max_dz]
    x = check_operand("x", x, dy.shape) if is_function(activation) else None
    return _backward(dy, x, numbers, y, activation, bits, want_dz, argument)


def _backward(dy, x, numbers, y, activation, bits, want_dz, argument):
    y = check_activation_result(y, activation, dy.shape)
    argument = check_argument(argument, activation, dy.shape[-1])
    bits = check_bits(bits)
    if not is_finite(dy, x, y):
        return (_nonfinite(dy.shape), _nonfinite(dy.shape)) if want_dz else _nonfinite(dy.shape)
    if not _pixels(dy):
        return (_empty(dy.shape), _empty(dy.shape)) if want_dz else _empty(dy.shape)
    keep_dy = activation is None and isinstance(dy, DFPTensor)
    dx = aligned_empty(dy.shape, np.int16)
    dz = aligned_empty(dy.shape, np.int16) if want_dz and not keep_dy else None
    dx_scale, dz_scale = _native.batch_norm_backward(
        parts(dy),
        parts(y)[:3],
        (*check_activation(activation), *argument),
        parts(x),
        *numbers,
        bits,
        dy.shape[-1],
        dx.reshape(-1),
        None if dz is None else dz.reshape(-1),
    )
    dx = DFPTensor._wrap(dx, *dx_scale)
    if not want_dz:
        return dx
    return dx, dy if dz is None else DFPTensor._wrap(dz, *dz_scale)


def _empty(shape):
    return DFPTensor._wrap(aligned_empty(shape, np.int16), 0, 0)


def _pixels(x):
    return math.prod(x.shape[:-1])


def _optional(name, value, channels):
    return None if value is None else check_channel_numbers(name, value, channels)
