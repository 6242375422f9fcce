"""Pooling of dynamic fixed point tensors, and its gradients.

Tensors are channels-last, (batch, height, width, channels). Results are rounded to the nearest
integer, ties to even, and the same to the last bit for every instruction set and number of threads.
If an operand holds NaN or Inf, the result is the non-finite tensor.
"""

import math

import numpy as np

from dfpkeras import _native
from dfpkeras.kernels.operand_checks import (
    check_bits,
    check_operand,
    check_tensor,
    is_finite,
    parts,
)
from dfpkeras.kernels.quantized_tensor import DFPTensor, _nonfinite, quantize
from dfpkeras.kernels.window_shapes import (
    check_padding,
    check_rank,
    check_shape,
    check_sizes,
    output_and_padding,
)
from dfpkeras.runtime.float_environment import default_float_environment
from dfpkeras.runtime.memory import aligned_empty

#: The kernels number the pixels of a window with 16 bits.
MOST_WINDOW_PIXELS = 2**16 - 1


def max_pool(
    x: DFPTensor,
    pool_size: int | tuple[int, int],
    strides: int | tuple[int, int] | None = None,
    padding: str = "valid",
) -> DFPTensor:
    """The maximum of each window and channel.

    Args:
        x: `DFPTensor` of shape (batch, height, width, channels).
        pool_size: integer, or a pair for height and width; at most 65535 pixels.
        strides: integer or pair, None for ``pool_size``.
        padding: "valid" or "same" (as in TensorFlow: output size = ceil(input size / stride);
            padding is never the maximum).

    Returns:
        A `DFPTensor` of shape (batch, new height, new width, channels), with the exponent of ``x``.

    Raises:
        TypeError: if ``x`` is not a `DFPTensor` or a number not an integer.
        ValueError: if the shape or an argument does not fit.
    """
    description = _description("x", check_rank("x", x, 4).shape, pool_size, strides, padding)
    return _pooled(_native.max_pool_forward, description, x, (), _output_shape(description))


def max_pool_backward(
    dy: DFPTensor,
    x: DFPTensor,
    y: DFPTensor,
    pool_size: int | tuple[int, int],
    strides: int | tuple[int, int] | None = None,
    padding: str = "valid",
    bits: int = 15,
) -> DFPTensor:
    """Gradient of `max_pool` with respect to ``x``.

    As in TensorFlow, the gradient of a window goes to its first maximum, row by row.

    Args:
        dy: `DFPTensor` or ``float32`` array of the shape of ``y``; the latter is quantised first.
        x: `DFPTensor` of shape (batch, height, width, channels).
        y: `DFPTensor`, the result of `max_pool`.
        pool_size, strides, padding: as in `max_pool`.
        bits: magnitude bits of the result, 2 to 15.

    Returns:
        A `DFPTensor` of the shape of ``x``. Its exponent is that of ``dy``, plus the number of bits
        by which ``max|dy|`` times the largest number of windows over one pixel exceeds ``bits``.

    Raises:
        TypeError: if an operand is of another type or a number not an integer.
        ValueError: if a shape or an argument does not fit.
    """
    description = _description("x", check_rank("x", x, 4).shape, pool_size, strides, padding)
    shape = _output_shape(description)
    y, bits = check_tensor("y", y, shape), check_bits(bits)
    dy = _quantized(check_operand("dy", dy, shape), bits)
    if not is_finite(x, y):
        return _nonfinite(x.shape)
    extra = x.data.reshape(-1), y.data.reshape(-1), bits
    return _pooled(_native.max_pool_backward, description, dy, extra, x.shape)


def upsample(x: DFPTensor, size: int | tuple[int, int]) -> DFPTensor:
    """Every pixel as often as a window of a size has pixels.

    Args:
        x: `DFPTensor` of shape (batch, height, width, channels).
        size: integer, or a pair for height and width; at most 65535 pixels.

    Returns:
        A `DFPTensor` of shape (batch, height * size[0], width * size[1], channels), with the
        integers and the exponent of ``x``.

    Raises:
        TypeError: if ``x`` is not a `DFPTensor` or a number not an integer.
        ValueError: if the shape or an argument does not fit.
    """
    rows, columns = check_sizes("size", size, 2)
    batch, height, width, channels = check_rank("x", x, 4).shape
    shape = batch, height * rows, width * columns, channels
    description = _description("x", shape, (rows, columns), None, "valid")
    if not x.is_finite:
        return _nonfinite(shape)
    y = aligned_empty(shape, np.int16)
    if y.size:
        _native.upsample(description, x.data.reshape(-1), y.reshape(-1))
    return DFPTensor._wrap(y, x.exponent, x.max_abs)


def sum_pool(x: DFPTensor, size: int | tuple[int, int], bits: int = 15) -> DFPTensor:
    """The sum of each window and channel; the gradient of `upsample`.

    Args:
        x: `DFPTensor` of shape (batch, height, width, channels).
        size: as in `upsample`; windows lie side by side.
        bits: magnitude bits of the result, 2 to 15.

    Returns:
        A `DFPTensor` of shape (batch, height // size[0], width // size[1], channels): the exact sum
        of integers, rounded with the exponent that windows of ``max|x|`` need.

    Raises:
        TypeError, ValueError: as in `upsample`.
    """
    description = _description("x", check_rank("x", x, 4).shape, size, None, "valid")
    extra, shape = (check_bits(bits),), _output_shape(description)
    return _pooled(_native.average_pool_forward, (*description, True), x, extra, shape)


def average_pool(
    x: DFPTensor,
    pool_size: int | tuple[int, int],
    strides: int | tuple[int, int] | None = None,
    padding: str = "valid",
    bits: int = 14,
) -> DFPTensor:
    """The average of each window and channel; padding does not count (as in TensorFlow).

    Args:
        x: `DFPTensor` of shape (batch, height, width, channels).
        pool_size, strides, padding: as in `max_pool`.
        bits: magnitude bits of the result, 2 to 15.

    Returns:
        A `DFPTensor` of shape (batch, new height, new width, channels): the exact sum of integers,
        multiplied in FP32 and rounded, with the exponent that ``max|x|`` needs.

    Raises:
        TypeError, ValueError: as in `max_pool`.
    """
    description = _description("x", check_rank("x", x, 4).shape, pool_size, strides, padding)
    extra = (check_bits(bits),)
    return _pooled(_native.average_pool_forward, description, x, extra, _output_shape(description))


def average_pool_backward(
    dy: DFPTensor,
    input_shape: tuple[int, ...],
    pool_size: int | tuple[int, int],
    strides: int | tuple[int, int] | None = None,
    padding: str = "valid",
    bits: int = 15,
) -> DFPTensor:
    """Gradient of `average_pool` with respect to ``x``.

    Args:
        dy: `DFPTensor` or ``float32`` array of the shape of the forward result; the latter is
            quantised first.
        input_shape: shape of ``x``: (batch, height, width, channels).
        pool_size, strides, padding: as in `max_pool`.
        bits: magnitude bits of the result, 2 to 15.

    Returns:
        A `DFPTensor` of shape ``input_shape``: FP32 sums, rounded with the exponent that is needed
        if all windows over a pixel hold ``max|dy|``.

    Raises:
        TypeError, ValueError: as in `max_pool_backward`.
    """
    shape = check_shape("input_shape", input_shape, 4)
    description = _description("input_shape", shape, pool_size, strides, padding)
    bits = check_bits(bits)
    dy = _quantized(check_operand("dy", dy, _output_shape(description)), bits)
    return _pooled(_native.average_pool_backward, description, dy, (bits,), shape)


def global_average_pool(x: DFPTensor) -> np.ndarray:
    """The average of each image and channel.

    Args:
        x: `DFPTensor` of shape (batch, height, width, channels), with at least one pixel.

    Returns:
        ``float32`` array of shape (batch, channels): the exact sum, divided in FP64, rounded.

    Raises:
        TypeError: if ``x`` is not a `DFPTensor`.
        ValueError: if it has another rank or no pixel.
    """
    batch, _, channels = _images("x", check_rank("x", x, 4).shape)
    y = aligned_empty((batch, channels), np.float32)
    if not x.is_finite:
        y.fill(np.nan)
    elif y.size:
        _native.global_average_pool(x.data.reshape(-1), x.exponent, x.max_abs, y)
    return y


@default_float_environment
def global_average_pool_backward(
    dy: DFPTensor | np.ndarray, input_shape: tuple[int, ...], bits: int = 15
) -> DFPTensor:
    """Gradient of `global_average_pool` with respect to ``x``.

    Args:
        dy: `DFPTensor` or ``float32`` array of shape (batch, channels).
        input_shape: shape of ``x``: (batch, height, width, channels).
        bits: magnitude bits of the result, 2 to 15.

    Returns:
        A `DFPTensor` of shape ``input_shape``: ``dy / pixels`` in FP32, quantised, at each pixel.

    Raises:
        TypeError: if ``dy`` is neither, or ``bits`` not an integer.
        ValueError: if a shape or ``bits`` does not fit.
    """
    shape = check_shape("input_shape", input_shape, 4)
    batch, pixels, channels = _images("input_shape", shape)
    check_operand("dy", dy, (batch, channels))
    return _spread(_floats(dy) / np.float32(pixels), None, None, shape, check_bits(bits))


def global_max_pool(x: DFPTensor) -> DFPTensor:
    """The maximum of each image and channel.

    Args:
        x: `DFPTensor` of shape (batch, height, width, channels), 1 to 65535 pixels.

    Returns:
        A `DFPTensor` of shape (batch, channels), with the exponent of ``x``.

    Raises:
        TypeError: if ``x`` is not a `DFPTensor`.
        ValueError: if it has another rank or number of pixels.
    """
    batch, _, channels = _images("x", check_rank("x", x, 4).shape)
    return max_pool(x, x.shape[1:3]).reshape(batch, channels)


@default_float_environment
def global_max_pool_backward(
    dy: DFPTensor | np.ndarray, x: DFPTensor, y: DFPTensor, bits: int = 15
) -> DFPTensor:
    """Gradient of `global_max_pool` with respect to ``x``; equal maxima share it (as in Keras).

    Args:
        dy: `DFPTensor` or ``float32`` array of shape (batch, channels).
        x: `DFPTensor` of shape (batch, height, width, channels).
        y: `DFPTensor`, the result of `global_max_pool`.
        bits: magnitude bits of the result, 2 to 15.

    Returns:
        A `DFPTensor` of the shape of ``x``: ``dy`` divided in FP32 by the number of maxima,
        quantised, at each of them.

    Raises:
        TypeError: if an operand is of another type, or ``bits`` not an integer.
        ValueError: if a shape or ``bits`` does not fit.
    """
    batch, _, channels = _images("x", check_rank("x", x, 4).shape)
    check_operand("dy", dy, (batch, channels))
    y, bits = check_tensor("y", y, (batch, channels)), check_bits(bits)
    if not is_finite(dy, x, y):
        return _nonfinite(x.shape)
    counts = np.ones((batch, channels), np.float32)
    if counts.size:
        _native.count_equal(x.data.reshape(-1), y.data, counts)
    # Where no number is equal, none is spread either.
    share = _floats(dy) / np.maximum(counts, 1)
    return _spread(share, x.data.reshape(-1), y.data, x.shape, bits)


def _description(name, shape, pool_size, strides, padding):
    """(batch, channels, rows, columns) as the native module takes it."""
    pool_size = check_sizes("pool_size", pool_size, 2)
    strides = pool_size if strides is None else check_sizes("strides", strides, 2)
    check_padding(padding)
    batch, *size, channels = shape
    if math.prod(pool_size) > MOST_WINDOW_PIXELS:
        raise ValueError(
            f"pool_size: expected at most {MOST_WINDOW_PIXELS} pixels, got {pool_size}"
        )
    if min(size) < 1:
        raise ValueError(f"{name}: expected a height and width of at least 1, got shape {shape}")
    axes = [
        (length, out, pool, stride, pad)
        for length, pool, stride in zip(size, pool_size, strides, strict=True)
        for out, pad in [output_and_padding(length, pool, stride, 1, padding)]
    ]
    if min(out for _, out, *_ in axes) < 1:
        raise ValueError(
            f"{name}: with padding='valid' expected at least the window's size {pool_size}, "
            f"got shape {shape}"
        )
    return batch, channels, *axes


def _output_shape(description):
    batch, channels, (_, height, *_), (_, width, *_) = description
    return batch, height, width, channels


def _images(name, shape):
    """(batch, pixels, channels) of images that have pixels."""
    batch, height, width, channels = shape
    if not height * width:
        raise ValueError(f"{name}: expected at least one pixel, got shape {shape}")
    return batch, height * width, channels


def _pooled(kernel, description, operand, extra, shape):
    """The result of a kernel, of the given shape."""
    if not operand.is_finite:
        return _nonfinite(shape)
    result = aligned_empty(shape, np.int16)
    if not result.size:
        return DFPTensor._wrap(result, 0, 0)
    scale = kernel(description, *parts(operand)[:3], *extra, result.reshape(-1))
    return DFPTensor._wrap(result, *scale)


def _quantized(dy, bits):
    return dy if isinstance(dy, DFPTensor) else quantize(dy, bits)


def _floats(dy):
    return dy if isinstance(dy, np.ndarray) else dy.dequantize()


def _spread(share, x, y, shape, bits):
    """``share`` (batch, channels), quantised, at each pixel, or only where ``x`` equals ``y``."""
    share = quantize(share, bits)
    if not share.is_finite:
        return _nonfinite(shape)
    dx = aligned_empty(shape, np.int16)
    if dx.size:
        _native.spread(share.data, x, y, dx.reshape(-1))
    return DFPTensor._wrap(dx, share.exponent, share.max_abs)
