"""Two-dimensional convolution and its two gradients."""

import numpy as np

from dfpkeras import _native
from dfpkeras.kernels.product_operands import (
    check_bias,
    check_flush_every,
    is_trivial,
    tensor_parts,
)
from dfpkeras.kernels.quantized_tensor import DFPTensor
from dfpkeras.kernels.window_shapes import (
    check_output,
    check_rank,
    check_shape,
    convolution_geometry,
    output_size,
)
from dfpkeras.runtime.argument_checks import check_integer
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
    want_extremes: bool = False,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
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
        want_extremes: whether to return the smallest and the largest number of each filter, too,
            which are found while the result is in a cache.

    Returns:
        ``float32`` array of shape (batch, new height, new width, filters), or with
        ``want_extremes`` that and a ``float32`` array of shape (2, filters): minimum and maximum,
        infinite or NaN where the result is not finite.

    Raises:
        TypeError: if an operand is not a `DFPTensor` or a number not an integer.
        ValueError: if shapes or arguments do not fit, or ``flush_every`` is not safe.
    """
    x, w = check_rank("x", x, 4), check_rank("w", w, 4)
    geometry = _geometry(x.shape, "x", w.shape, "w", strides, padding, dilation_rate, groups)
    y = aligned_empty((geometry["batch"], *output_size(geometry)), np.float32)
    extremes = np.full((2, w.shape[3]), np.nan, np.float32) if want_extremes else None
    extra = (check_bias(bias, w.shape[3]), extremes)
    _convolve(_native.conv_forward, geometry, x, w, "x", "w", flush_every, y, extra)
    return y if extremes is None else (y, extremes)


def conv2d_backward_data(
    dy: DFPTensor,
    w: DFPTensor,
    input_shape: tuple[int, ...],
    strides: int | tuple[int, int] = 1,
    padding: str = "valid",
    dilation_rate: int | tuple[int, int] = 1,
    groups: int = 1,
    flush_every: int | None = None,
) -> np.ndarray:
    """Gradient of `conv2d_forward` with respect to ``x``.

    Args:
        dy: `DFPTensor` of the shape of the forward result.
        w: `DFPTensor` of shape (kernel height, kernel width, channels / groups, filters).
        input_shape: shape of ``x``: (batch, height, width, channels).
        strides, padding, dilation_rate, groups, flush_every: as in `conv2d_forward`.

    Returns:
        ``float32`` array of shape ``input_shape``.

    Raises:
        TypeError, ValueError: as in `conv2d_forward`.
    """
    dy, w = check_rank("dy", dy, 4), check_rank("w", w, 4)
    shape = check_shape("input_shape", input_shape, 4)
    geometry = _geometry(
        shape, "input_shape", w.shape, "w", strides, padding, dilation_rate, groups
    )
    check_output(dy.shape, geometry, "input_shape", shape)
    dx = aligned_empty(shape, np.float32)
    return _convolve(_native.conv_backward_data, geometry, dy, w, "dy", "w", flush_every, dx)


def conv2d_backward_weights(
    x: DFPTensor,
    dy: DFPTensor,
    kernel_shape: tuple[int, ...],
    strides: int | tuple[int, int] = 1,
    padding: str = "valid",
    dilation_rate: int | tuple[int, int] = 1,
    groups: int = 1,
    flush_every: int | None = None,
) -> np.ndarray:
    """Gradient of `conv2d_forward` with respect to ``w``.

    Args:
        x: `DFPTensor` of shape (batch, height, width, channels).
        dy: `DFPTensor` of the shape of the forward result.
        kernel_shape: shape of ``w``: (kernel height, kernel width, channels / groups, filters).
        strides, padding, dilation_rate, groups, flush_every: as in `conv2d_forward`.

    Returns:
        ``float32`` array of shape ``kernel_shape``.

    Raises:
        TypeError, ValueError: as in `conv2d_forward`.
    """
    x, dy = check_rank("x", x, 4), check_rank("dy", dy, 4)
    shape = check_shape("kernel_shape", kernel_shape, 4)
    geometry = _geometry(
        x.shape, "x", shape, "kernel_shape", strides, padding, dilation_rate, groups
    )
    check_output(dy.shape, geometry, "kernel_shape", shape)
    dw = aligned_empty(shape, np.float32)
    return _convolve(_native.conv_backward_weights, geometry, x, dy, "x", "dy", flush_every, dw)


def _geometry(x_shape, x_name, w_shape, w_name, strides, padding, dilation_rate, groups):
    groups = check_integer("groups", groups)
    _check_channels(x_shape, x_name, w_shape, w_name, groups)
    names = x_shape, x_name, w_shape, w_name, w_shape[3]
    return convolution_geometry(*names, strides, padding, dilation_rate, groups)


def _check_channels(x_shape, x_name, w_shape, w_name, groups):
    channels, group_channels, filters = x_shape[3], w_shape[2], w_shape[3]
    if groups < 1 or channels % groups or filters % groups:
        raise ValueError(
            f"groups: a divisor of the {channels} channels of {x_name} and the {filters} filters "
            f"of {w_name} is needed, got {groups}"
        )
    if group_channels * groups != channels or not group_channels or not filters:
        raise ValueError(
            f"{w_name}: {channels // groups} channels (the {channels} of {x_name} / {groups} "
            f"groups) and at least one filter are needed, got shape {w_shape}"
        )


def _convolve(kernel, geometry, a, b, a_name, b_name, flush_every, result, extra=()):
    flush_every = check_flush_every(flush_every, a, a_name, b, b_name)
    if not is_trivial(result, a, b):
        operands = (*tensor_parts(a), *tensor_parts(b), *extra, result.reshape(-1))
        kernel((*geometry.values(), flush_every), *operands)
    return result
