"""Convolutions of images and of volumes, and their two gradients."""

import numpy as np

from dfpkeras.kernels.block_tensor import BlockTensor, buffers_of, result_for
from dfpkeras.kernels.convolution_plan import plan_of
from dfpkeras.kernels.product_operands import (
    check_bias,
    check_flush_every,
    is_trivial,
    tensor_parts,
)
from dfpkeras.kernels.quantized_tensor import DFPTensor
from dfpkeras.kernels.window_shapes import check_output, check_rank, check_shape
from dfpkeras.runtime import kernel_observers
from dfpkeras.runtime.memory import aligned_empty


def conv2d_forward(
    x: DFPTensor,
    w: DFPTensor,
    strides: int | tuple[int, int] = 1,
    padding: str = "valid",
    dilation_rate: int | tuple[int, int] = 1,
    groups: int = 1,
    flush_every: int | None = None,
    bias: np.ndarray | None = None,
    with_channel_range: bool = False,
    algorithm: str = "direct",
    in_blocks: bool = False,
) -> np.ndarray | BlockTensor | tuple[np.ndarray | BlockTensor, np.ndarray]:
    """Two-dimensional convolution.

    Args:
        x: `DFPTensor` of shape (batch, height, width, channels).
        w: `DFPTensor` of shape (kernel height, kernel width, channels / groups, filters).
        strides: integer, or a pair for height and width.
        padding: "valid" or "same" (as in TensorFlow: output size = ceil(input size / stride)).
        dilation_rate: integer, or a pair for height and width.
        groups: integer that divides channels and filters.
        flush_every: None, or a fixed flush interval in products (see the module's description).
        bias: None, or a ``float32`` array of shape (filters,) that is added to the FP32 result.
        with_channel_range: whether to return the smallest and the largest number of each filter,
            too, which are found while the result is in a cache.
        algorithm: "direct", "winograd_2x2" or "winograd_4x4", whose results differ
            (docs/numerics.md), or "auto" for whichever is expected to be the fastest. Only 3x3
            convolutions without strides, dilation, groups and ``flush_every`` have another
            algorithm than the direct one.
        in_blocks: whether a result of which each group's channels are a multiple of 16 is wanted
            as a `BlockTensor`.

    Returns:
        ``float32`` array of shape (batch, new height, new width, filters), or what ``in_blocks``
        asks for, or with
        ``with_channel_range`` that and a ``float32`` array of shape (2, filters): minimum and
        maximum, infinite or NaN where the result is not finite.

    Raises:
        TypeError: if an operand is not a `DFPTensor` or a number not an integer.
        ValueError: if shapes or arguments do not fit, or ``flush_every`` is not safe.
    """
    arguments = strides, padding, dilation_rate, groups
    return _forward(4, x, w, arguments, flush_every, algorithm, bias, with_channel_range, in_blocks)


def conv2d_backward_data(
    dy: DFPTensor,
    w: DFPTensor,
    input_shape: tuple[int, ...],
    strides: int | tuple[int, int] = 1,
    padding: str = "valid",
    dilation_rate: int | tuple[int, int] = 1,
    groups: int = 1,
    flush_every: int | None = None,
    bias: np.ndarray | None = None,
    algorithm: str = "direct",
    in_blocks: bool = False,
) -> np.ndarray | BlockTensor:
    """Gradient of `conv2d_forward` with respect to ``x``: a transposed convolution of ``dy``.

    Args:
        dy: `DFPTensor` of the shape of the forward result.
        w: `DFPTensor` of shape (kernel height, kernel width, channels / groups, filters).
        input_shape: shape of ``x``: (batch, height, width, channels).
        bias: None, or a ``float32`` array of shape (channels,) that is added to the FP32 result.
        strides, padding, dilation_rate, groups, flush_every, algorithm, in_blocks: as in
            `conv2d_forward`.

    Returns:
        ``float32`` array of shape ``input_shape``, or what ``in_blocks`` asks for.

    Raises:
        TypeError, ValueError: as in `conv2d_forward`.
    """
    arguments = strides, padding, dilation_rate, groups
    return _backward_data(4, dy, w, input_shape, arguments, flush_every, algorithm, bias, in_blocks)


def conv2d_backward_weights(
    x: DFPTensor,
    dy: DFPTensor,
    kernel_shape: tuple[int, ...],
    strides: int | tuple[int, int] = 1,
    padding: str = "valid",
    dilation_rate: int | tuple[int, int] = 1,
    groups: int = 1,
    flush_every: int | None = None,
    algorithm: str = "direct",
) -> np.ndarray:
    """Gradient of `conv2d_forward` with respect to ``w``.

    Args:
        x: `DFPTensor` of shape (batch, height, width, channels).
        dy: `DFPTensor` of the shape of the forward result.
        kernel_shape: shape of ``w``: (kernel height, kernel width, channels / groups, filters).
        strides, padding, dilation_rate, groups, flush_every, algorithm: as in `conv2d_forward`.

    Returns:
        ``float32`` array of shape ``kernel_shape``.

    Raises:
        TypeError, ValueError: as in `conv2d_forward`.
    """
    arguments = strides, padding, dilation_rate, groups
    return _backward_weights(4, x, dy, kernel_shape, arguments, flush_every, algorithm)


def conv3d_forward(
    x: DFPTensor,
    w: DFPTensor,
    strides: int | tuple[int, int, int] = 1,
    padding: str = "valid",
    dilation_rate: int | tuple[int, int, int] = 1,
    groups: int = 1,
    flush_every: int | None = None,
    bias: np.ndarray | None = None,
    with_channel_range: bool = False,
    algorithm: str = "direct",
    in_blocks: bool = False,
) -> np.ndarray | BlockTensor | tuple[np.ndarray | BlockTensor, np.ndarray]:
    """Three-dimensional convolution.

    Args:
        x: `DFPTensor` of shape (batch, depth, height, width, channels).
        w: `DFPTensor` of shape (kernel depth, kernel height, kernel width, channels / groups,
            filters).
        strides, dilation_rate: integer, or three of them for depth, height and width.
        padding, groups, flush_every, bias, with_channel_range, in_blocks: as in `conv2d_forward`.
        algorithm: as in `conv2d_forward`; only kernels of depth 1 without a stride along the depth
            have another algorithm than the direct one.

    Returns:
        ``float32`` array of shape (batch, new depth, new height, new width, filters), or what
        ``with_channel_range`` and ``in_blocks`` ask for, as in `conv2d_forward`.

    Raises:
        TypeError, ValueError: as in `conv2d_forward`.
    """
    arguments = strides, padding, dilation_rate, groups
    return _forward(5, x, w, arguments, flush_every, algorithm, bias, with_channel_range, in_blocks)


def conv3d_backward_data(
    dy: DFPTensor,
    w: DFPTensor,
    input_shape: tuple[int, ...],
    strides: int | tuple[int, int, int] = 1,
    padding: str = "valid",
    dilation_rate: int | tuple[int, int, int] = 1,
    groups: int = 1,
    flush_every: int | None = None,
    bias: np.ndarray | None = None,
    algorithm: str = "direct",
    in_blocks: bool = False,
) -> np.ndarray | BlockTensor:
    """Gradient of `conv3d_forward` with respect to ``x``: a transposed convolution of ``dy``.

    Args:
        dy: `DFPTensor` of the shape of the forward result.
        w: `DFPTensor` of shape (kernel depth, kernel height, kernel width, channels / groups,
            filters).
        input_shape: shape of ``x``: (batch, depth, height, width, channels).
        bias: None, or a ``float32`` array of shape (channels,) that is added to the FP32 result.
        strides, padding, dilation_rate, groups, flush_every, algorithm, in_blocks: as in
            `conv3d_forward`.

    Returns:
        ``float32`` array of shape ``input_shape``, or what ``in_blocks`` asks for.

    Raises:
        TypeError, ValueError: as in `conv2d_forward`.
    """
    arguments = strides, padding, dilation_rate, groups
    return _backward_data(5, dy, w, input_shape, arguments, flush_every, algorithm, bias, in_blocks)


def conv3d_backward_weights(
    x: DFPTensor,
    dy: DFPTensor,
    kernel_shape: tuple[int, ...],
    strides: int | tuple[int, int, int] = 1,
    padding: str = "valid",
    dilation_rate: int | tuple[int, int, int] = 1,
    groups: int = 1,
    flush_every: int | None = None,
    algorithm: str = "direct",
) -> np.ndarray:
    """Gradient of `conv3d_forward` with respect to ``w``.

    Args:
        x: `DFPTensor` of shape (batch, depth, height, width, channels).
        dy: `DFPTensor` of the shape of the forward result.
        kernel_shape: shape of ``w``: (kernel depth, kernel height, kernel width, channels / groups,
            filters).
        strides, padding, dilation_rate, groups, flush_every, algorithm: as in `conv3d_forward`.

    Returns:
        ``float32`` array of shape ``kernel_shape``.

    Raises:
        TypeError, ValueError: as in `conv2d_forward`.
    """
    arguments = strides, padding, dilation_rate, groups
    return _backward_weights(5, x, dy, kernel_shape, arguments, flush_every, algorithm)


def _forward(rank, x, w, arguments, flush_every, algorithm, bias, with_channel_range, in_blocks):
    x, w = check_rank("x", x, rank), check_rank("w", w, rank)
    flush_every = check_flush_every(flush_every, x, "x", w, "w")
    plan = plan_of("forward", (x.shape, w.shape), ("x", "w"), arguments, flush_every, algorithm)
    filters, groups = w.shape[-1], arguments[-1]
    y = result_for(plan.output_shape, groups, in_blocks)
    channel_range = np.full((2, filters), np.nan, np.float32) if with_channel_range else None
    _convolve(plan, x, w, y, (check_bias(bias, filters), channel_range))
    return y if channel_range is None else (y, channel_range)


def _backward_data(rank, dy, w, input_shape, arguments, flush_every, algorithm, bias, in_blocks):
    dy, w = check_rank("dy", dy, rank), check_rank("w", w, rank)
    shape = check_shape("input_shape", input_shape, rank)
    flush_every = check_flush_every(flush_every, dy, "dy", w, "w")
    shapes, names = (shape, w.shape), ("input_shape", "w")
    plan = plan_of("backward_data", shapes, names, arguments, flush_every, algorithm)
    check_output(dy.shape, plan.output_shape, "input_shape", shape)
    extra = (check_bias(bias, shape[-1]), None)
    return _convolve(plan, dy, w, result_for(shape, arguments[-1], in_blocks), extra)


def _backward_weights(rank, x, dy, kernel_shape, arguments, flush_every, algorithm):
    x, dy = check_rank("x", x, rank), check_rank("dy", dy, rank)
    shape = check_shape("kernel_shape", kernel_shape, rank)
    flush_every = check_flush_every(flush_every, x, "x", dy, "dy")
    shapes, names = (x.shape, shape), ("x", "kernel_shape")
    plan = plan_of("backward_weights", shapes, names, arguments, flush_every, algorithm)
    check_output(dy.shape, plan.output_shape, "kernel_shape", shape)
    dw = aligned_empty(shape, np.float32)
    return _convolve(plan, x, dy, dw)


def _convolve(plan, a, b, result, extra=()):
    if not is_trivial(result, a, b):
        plan.native.run(*tensor_parts(a), *tensor_parts(b), buffers_of(result), *extra)
        kernel_observers.multiplied(plan.native.algorithm)
    return result
