"""Products of tensors, element by element."""

import math

import numpy as np

from dfpkeras import _native
from dfpkeras.kernels.block_tensor import BlockTensor
from dfpkeras.kernels.operand_checks import ABSENT, check_bits, check_operand, is_finite, parts
from dfpkeras.kernels.quantized_tensor import DFPTensor, _nonfinite
from dfpkeras.runtime.float_environment import default_float_environment
from dfpkeras.runtime.memory import aligned_empty


def multiply(a: DFPTensor | np.ndarray, b: DFPTensor | np.ndarray, bits: int = 14) -> DFPTensor:
    """A product, rounded to the nearest integer, ties to even.

    Args:
        a: `DFPTensor` or ``float32`` array of shape (batch, ..., channels).
        b: `DFPTensor` or ``float32`` array of the shape of ``a``; or with one number for all pixels
            of a channel: of shape (batch, 1, ..., 1, channels), where 1 may take the place of batch
            and of channels.
        bits: magnitude bits of the result, 2 to 15.

    Returns:
        A `DFPTensor` of the shape of ``a``, with the exponent that ``max|a| * max|b|`` needs. The
        non-finite tensor if an operand holds NaN or Inf.

    Raises:
        TypeError: if an operand is of another type, or ``bits`` not an integer.
        ValueError: if shapes do not fit or ``bits`` is out of range.
    """
    check_operand("a", a)
    check_operand("b", b)
    bits = check_bits(bits)
    shape = _shape(a.shape, b.shape)
    if not is_finite(a, b):
        return _nonfinite(a.shape)
    y = aligned_empty(a.shape, np.int16)
    if not y.size:
        return DFPTensor._wrap(y, 0, 0)
    if a.shape == b.shape:
        operands = parts(a), parts(b), None
    else:
        operands = parts(a), ABSENT, _numbers(b, shape[2])
    return DFPTensor._wrap(y, *_native.multiply_tensors(shape, *operands, bits, y.reshape(-1)))


@default_float_environment
def sum_products(
    a: DFPTensor | np.ndarray, b: DFPTensor | np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """The gradient of a factor of `multiply` that has one number for all pixels of a channel.

    Args:
        a, b: `DFPTensor` or ``float32`` array of shape (batch, ..., channels): the gradient of the
            product, and the other factor.
        shape: shape of the factor, as in `multiply`.

    Returns:
        ``float32`` array of that shape: sums over pixels of ``a * b``, in FP32 over at most 128
        rows, in FP64 from there. NaN if an operand is a tensor that is not finite.

    Raises:
        TypeError: if an operand is of another type.
        ValueError: if shapes do not fit.
    """
    check_operand("a", a)
    check_operand("b", b, a.shape)
    groups, pixels, channels = _shape(a.shape, tuple(shape))
    sums = np.zeros((groups, channels), np.float32)
    if not is_finite(a, b):
        sums.fill(np.nan)
    elif math.prod(a.shape):
        _native.sum_products((groups, pixels, channels), parts(a), parts(b), sums.reshape(-1))
    if shape[-1] != channels:
        sums = sums.sum(-1, dtype=np.float64).astype(np.float32)
    return sums.reshape(shape)


def _shape(a, b):
    """(groups, pixels, channels) of a tensor of shape ``a``, where one of shape ``b`` has a number
    for each channel of each group."""
    if a == b:
        return 1, math.prod(a), 1
    fits = len(a) == len(b) and b[-1] in (1, a[-1]) and b[0] in (1, a[0])
    if not fits or any(size != 1 for size in b[1:-1]):
        raise ValueError(f"b: expected the shape of a, {a}, or 1 in place of its pixels, got {b}")
    pixels = math.prod(a[:-1]) // b[0] if b[0] else 0
    return b[0], pixels, a[-1]


def _numbers(b, channels):
    """The factors (groups, channels), one after the other."""
    b = b.dequantize() if isinstance(b, DFPTensor | BlockTensor) else b
    b = b.reshape(b.shape[0], b.shape[-1])
    return np.ascontiguousarray(np.broadcast_to(b, (b.shape[0], channels))).reshape(-1)
