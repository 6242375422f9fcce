"""Depthwise convolution on NumPy arrays: each channel is convolved with its own kernels.

Operands and results are those of the convolutions in `dfpkeras.kernels`: `DFPTensor` in, FP32 out,
INT32 sums that never overflow, the same to the last bit for every instruction set and number of
threads. The kernels take one filter for each channel; with more, the channels are repeated, and the
gradients of the copies are added in FP32.
"""

import numpy as np

from dfpkeras import _native
from dfpkeras.kernels.block_tensor import BlockTensor, buffers_of, result_for
from dfpkeras.kernels.product_operands import check_bias, is_trivial, tensor_parts
from dfpkeras.kernels.quantized_tensor import DFPTensor
from dfpkeras.kernels.window_shapes import (
    check_output,
    check_rank,
    check_shape,
    convolution_description,
    output_shape,
)
from dfpkeras.runtime import kernel_observers
from dfpkeras.runtime.float_environment import default_float_environment
from dfpkeras.runtime.memory import aligned_empty


def depthwise_conv2d_forward(
    x: DFPTensor,
    w: DFPTensor,
    strides: int | tuple[int, int] = 1,
    padding: str = "valid",
    dilation_rate: int | tuple[int, int] = 1,
    bias: np.ndarray | None = None,
    in_blocks: bool = False,
) -> np.ndarray | BlockTensor:
    """Two-dimensional depthwise convolution.

    Args:
        x: `DFPTensor` of shape (batch, height, width, channels).
        w: `DFPTensor` of shape (kernel height, kernel width, channels, depth multiplier).
        strides: integer, or a pair for height and width.
        padding: "valid" or "same" (as in TensorFlow: output size = ceil(input size / stride)).
        dilation_rate: integer, or a pair for height and width.
        bias: None, or a ``float32`` array of shape (channels * depth multiplier,) that is added.
        in_blocks: whether a result whose channels are a multiple of 16 is wanted as a
            `BlockTensor`.

    Returns:
        ``float32`` array of shape (batch, new height, new width, channels * depth multiplier), or
        what ``in_blocks`` asks for; the results of one channel lie side by side.

    Raises:
        TypeError: if an operand is not a `DFPTensor` or a number not an integer.
        ValueError: if shapes or arguments do not fit.
    """
    x, w = check_rank("x", x, 4), check_rank("w", w, 4)
    description = _description(x.shape, "x", w.shape, "w", strides, padding, dilation_rate)
    y = result_for(output_shape(description), 1, in_blocks)
    extra = (check_bias(bias, y.shape[3]),)
    return _run(_native.depthwise_forward, description, _repeat(x, w.shape[3]), w, y, extra)


@default_float_environment
def depthwise_conv2d_backward_data(
    dy: DFPTensor,
    w: DFPTensor,
    input_shape: tuple[int, ...],
    strides: int | tuple[int, int] = 1,
    padding: str = "valid",
    dilation_rate: int | tuple[int, int] = 1,
    in_blocks: bool = False,
) -> np.ndarray | BlockTensor:
    """Gradient of `depthwise_conv2d_forward` with respect to ``x``.

    Args:
        dy: `DFPTensor` of the shape of the forward result.
        w: `DFPTensor` of shape (kernel height, kernel width, channels, depth multiplier).
        input_shape: shape of ``x``: (batch, height, width, channels).
        strides, padding, dilation_rate, in_blocks: as in `depthwise_conv2d_forward`; with a depth
            multiplier above 1, the result is not in blocks.

    Returns:
        ``float32`` array of shape ``input_shape``, or what ``in_blocks`` asks for.

    Raises:
        TypeError, ValueError: as in `depthwise_conv2d_forward`.
    """
    dy, w = check_rank("dy", dy, 4), check_rank("w", w, 4)
    shape = check_shape("input_shape", input_shape, 4)
    description = _description(shape, "input_shape", w.shape, "w", strides, padding, dilation_rate)
    check_output(dy.shape, output_shape(description), "input_shape", shape)
    dx = result_for((*shape[:3], dy.shape[3]), 1, in_blocks and w.shape[3] == 1)
    _run(_native.depthwise_backward_data, description, dy, w, dx)
    return dx if w.shape[3] == 1 else _add_copies(dx, w.shape[3])


def depthwise_conv2d_backward_weights(
    x: DFPTensor,
    dy: DFPTensor,
    kernel_shape: tuple[int, ...],
    strides: int | tuple[int, int] = 1,
    padding: str = "valid",
    dilation_rate: int | tuple[int, int] = 1,
) -> np.ndarray:
    """Gradient of `depthwise_conv2d_forward` with respect to ``w``.

    Args:
        x: `DFPTensor` of shape (batch, height, width, channels).
        dy: `DFPTensor` of the shape of the forward result.
        kernel_shape: shape of ``w``: (kernel height, kernel width, channels, depth multiplier).
        strides, padding, dilation_rate: as in `depthwise_conv2d_forward`.

    Returns:
        ``float32`` array of shape ``kernel_shape``.

    Raises:
        TypeError, ValueError: as in `depthwise_conv2d_forward`.
    """
    x, dy = check_rank("x", x, 4), check_rank("dy", dy, 4)
    shape = check_shape("kernel_shape", kernel_shape, 4)
    description = _description(x.shape, "x", shape, "kernel_shape", strides, padding, dilation_rate)
    check_output(dy.shape, output_shape(description), "kernel_shape", shape)
    dw = aligned_empty(shape, np.float32)
    return _run(_native.depthwise_backward_weights, description, _repeat(x, shape[3]), dy, dw)


def _description(x_shape, x_name, w_shape, w_name, *arguments):
    """The description for the kernels, which take as many channels as there are filters."""
    channels, multiplier = w_shape[2:]
    if channels != x_shape[3] or not channels or not multiplier:
        raise ValueError(
            f"{w_name}: expected {x_shape[3]} channels, as in {x_name}, and a depth multiplier "
            f"of at least 1, got shape {w_shape}"
        )
    filters = channels * multiplier
    description = convolution_description(
        x_shape, x_name, w_shape, w_name, filters, *arguments, filters
    )
    return description | {"in_channels": filters}


def _repeat(x, multiplier):
    if multiplier == 1:
        return x
    return DFPTensor._wrap(np.repeat(x.data, multiplier, axis=3), x.exponent, x.max_abs)


def _add_copies(dx, multiplier):
    copies = dx.reshape(*dx.shape[:3], -1, multiplier)
    total = aligned_empty(copies.shape[:4], np.float32)
    np.copyto(total, copies[..., 0])
    for copy in range(1, multiplier):
        total += copies[..., copy]
    return total


def _run(kernel, description, a, b, result, extra=()):
    if not is_trivial(result, a, b):
        operands = (*tensor_parts(a), *tensor_parts(b), *extra, buffers_of(result))
        kernel(tuple(description.values()), *operands)
        kernel_observers.multiplied("direct")
    return result
