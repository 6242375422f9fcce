"""Leaky ReLU with a slope for each channel or pixel, and its gradients."""

import math
import typing

import numpy as np

from dfpkeras import _native
from dfpkeras.kernels.operand_checks import ABSENT, check_bits, check_operand, is_finite, parts
from dfpkeras.kernels.quantized_tensor import DFPTensor, _nonfinite
from dfpkeras.runtime.argument_checks import kind_of
from dfpkeras.runtime.float_environment import default_float_environment
from dfpkeras.runtime.memory import aligned_empty


class PReLUGradients(typing.NamedTuple):
    """The gradients of a PReLU.

    Attributes:
        dx: `DFPTensor` of the shape of ``x``.
        dslope: ``float32`` array of the shape of ``slope``.
    """

    dx: DFPTensor
    dslope: np.ndarray


def prelu_forward(x: DFPTensor | np.ndarray, slope: np.ndarray, bits: int = 14) -> DFPTensor:
    """``max(x, 0) + slope * min(x, 0)`` (He, Zhang, Ren and Sun, 2015).

    Args:
        x: `DFPTensor` or ``float32`` array of shape (batch, ...).
        slope: ``float32`` array of the shape of ``x`` without the batch, where any size may be 1.
        bits: magnitude bits of the result, 2 to 15.

    Returns:
        A `DFPTensor` of the shape of ``x``: the FP32 value, rounded (to nearest, ties to even) with
        the exponent that ``max|x| * max(1, max|slope|)`` needs. The non-finite tensor if an operand
        holds NaN or Inf.

    Raises:
        TypeError: if ``x`` is of another type, or ``bits`` not an integer.
        ValueError: if shapes do not fit or ``bits`` is out of range.
    """
    check_operand("x", x)
    slopes, bits = _by_channel(x.shape, slope), check_bits(bits)
    if not is_finite(x):
        return _nonfinite(x.shape)
    y = aligned_empty(x.shape, np.int16)
    if not y.size:
        return DFPTensor._wrap(y, 0, 0)
    return DFPTensor._wrap(
        y, *_native.prelu_forward(parts(x), ABSENT, slopes.reshape(-1), bits, y.reshape(-1))
    )


@default_float_environment
def prelu_backward(
    dy: DFPTensor | np.ndarray, x: DFPTensor | np.ndarray, slope: np.ndarray, bits: int = 15
) -> PReLUGradients:
    """Gradients of `prelu_forward`.

    Args:
        dy: `DFPTensor` or ``float32`` array of the shape of ``x``.
        x, slope: as in `prelu_forward`.
        bits: magnitude bits of ``dx``, 2 to 15.

    Returns:
        A `PReLUGradients`: ``dx`` is ``dy`` where ``x > 0``, ``dy * slope`` where ``x < 0`` and 0
        where ``x`` is 0, as in Keras; ``dslope`` the sum of ``dy * min(x, 0)``. The non-finite
        tensor and NaN if an operand holds NaN or Inf.

    Raises:
        TypeError, ValueError: as in `prelu_forward`.
    """
    check_operand("dy", dy)
    check_operand("x", x, dy.shape)
    slopes, bits = _by_channel(x.shape, slope), check_bits(bits)
    sums = np.zeros(slopes.shape, np.float32)
    if not is_finite(dy, x):
        return PReLUGradients(_nonfinite(dy.shape), np.full_like(slope, np.nan))
    dx, scale = aligned_empty(dy.shape, np.int16), (0, 0)
    if dx.size:
        scale = _native.prelu_backward(
            parts(x), parts(dy), slopes.reshape(-1), bits, dx.reshape(-1), sums.reshape(-1)
        )
    return PReLUGradients(DFPTensor._wrap(dx, *scale), _reduced(sums, slope.shape))


def _by_channel(shape, slope):
    """The slopes of an image whose pixels do not share any but as a whole: (channels,), or of the
    shape of the image."""
    fits = isinstance(slope, np.ndarray) and slope.dtype == np.float32 and len(shape) > 1
    fits = fits and len(slope.shape) == len(shape) - 1
    if not fits or any(size not in (1, n) for size, n in zip(slope.shape, shape[1:], strict=True)):
        raise ValueError(
            f"slope: expected a float32 array of shape {shape[1:]}, where any size may be 1, "
            f"got {kind_of(slope)}"
        )
    image = shape[1:] if math.prod(slope.shape[:-1]) > 1 else shape[-1:]
    return np.ascontiguousarray(np.broadcast_to(slope.reshape(slope.shape[-len(image) :]), image))


def _reduced(sums, shape):
    """The sums over what the slopes were repeated along."""
    sums = sums.reshape((1,) * (len(shape) - sums.ndim) + sums.shape)
    axes = tuple(i for i, size in enumerate(shape) if size == 1)
    return sums.sum(axes, dtype=np.float64, keepdims=True).astype(np.float32).reshape(shape)
