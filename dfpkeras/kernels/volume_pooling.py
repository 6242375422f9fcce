"""Pooling of volumes, and its gradients: planes are pooled as images, then the results along the
depth.

Tensors are channels-last, (batch, depth, height, width, channels). Roundings, and what becomes of
NaN and Inf, are those of pooling images.
"""

import math

import numpy as np

from dfpkeras.kernels.operand_checks import check_operand
from dfpkeras.kernels.pooling import (
    MOST_WINDOW_PIXELS,
    average_pool,
    average_pool_backward,
    max_pool,
    max_pool_backward,
)
from dfpkeras.kernels.quantized_tensor import DFPTensor
from dfpkeras.kernels.window_shapes import (
    check_padding,
    check_rank,
    check_shape,
    check_sizes,
    layer_output_shape,
)

# Averages of planes keep all bits until they are averaged along the depth.
_BITS_OF_PLANES = 15


def max_pool3d(
    x: DFPTensor,
    pool_size: int | tuple[int, int, int],
    strides: int | tuple[int, int, int] | None = None,
    padding: str = "valid",
) -> DFPTensor:
    """The maximum of each window and channel.

    Args:
        x: `DFPTensor` of shape (batch, depth, height, width, channels).
        pool_size: integer, or three for depth, height and width; at most 65535 voxels.
        strides: integer or three, None for ``pool_size``.
        padding: "valid" or "same", as in `dfpkeras.kernels.max_pool`.

    Returns:
        A `DFPTensor` of shape (batch, new depth, new height, new width, channels), with the
        exponent of ``x``.

    Raises:
        TypeError: if ``x`` is not a `DFPTensor` or a number not an integer.
        ValueError: if the shape or an argument does not fit.
    """
    planes, depth = _windows(pool_size, strides, padding)
    return _along_depth(max_pool, _in_planes(max_pool, check_rank("x", x, 5), planes), depth)


def max_pool3d_backward(
    dy: DFPTensor | np.ndarray,
    x: DFPTensor,
    y: DFPTensor,
    pool_size: int | tuple[int, int, int],
    strides: int | tuple[int, int, int] | None = None,
    padding: str = "valid",
    bits: int = 15,
) -> DFPTensor:
    """Gradient of `max_pool3d` with respect to ``x``: that of a window goes to its first maximum,
    plane by plane and row by row.

    Args:
        dy: `DFPTensor` or ``float32`` array of the shape of ``y``; the latter is quantised first.
        x: `DFPTensor` of shape (batch, depth, height, width, channels).
        y: `DFPTensor`, the result of `max_pool3d`.
        pool_size, strides, padding: as in `max_pool3d`.
        bits: magnitude bits of the result, 2 to 15.

    Returns:
        A `DFPTensor` of the shape of ``x``: `dfpkeras.kernels.max_pool_backward` along the depth,
        then in planes.

    Raises:
        TypeError: if an operand is of another type or a number not an integer.
        ValueError: if a shape or an argument does not fit.
    """
    planes, depth = _windows(pool_size, strides, padding)
    maxima = _in_planes(max_pool, check_rank("x", x, 5), planes)
    dy = check_operand("dy", dy, check_rank("y", y, 5).shape)
    planes["bits"] = depth["bits"] = bits
    of_columns = max_pool_backward(_columns(dy), _columns(maxima), _columns(y), **depth)
    of_planes = _images(of_columns.reshape(*maxima.shape))
    return max_pool_backward(of_planes, _images(x), _images(maxima), **planes).reshape(*x.shape)


def average_pool3d(
    x: DFPTensor,
    pool_size: int | tuple[int, int, int],
    strides: int | tuple[int, int, int] | None = None,
    padding: str = "valid",
    bits: int = 14,
) -> DFPTensor:
    """The average of each window and channel; padding does not count.

    Args:
        x: `DFPTensor` of shape (batch, depth, height, width, channels).
        pool_size, strides, padding: as in `max_pool3d`.
        bits: magnitude bits of the result, 2 to 15.

    Returns:
        A `DFPTensor` of shape (batch, new depth, new height, new width, channels): the averages of
        planes in 15 bits, averaged along the depth.

    Raises:
        TypeError, ValueError: as in `max_pool3d`.
    """
    planes, depth = _windows(pool_size, strides, padding)
    planes["bits"], depth["bits"] = _BITS_OF_PLANES, bits
    averages = _in_planes(average_pool, check_rank("x", x, 5), planes)
    return _along_depth(average_pool, averages, depth)


def average_pool3d_backward(
    dy: DFPTensor | np.ndarray,
    input_shape: tuple[int, ...],
    pool_size: int | tuple[int, int, int],
    strides: int | tuple[int, int, int] | None = None,
    padding: str = "valid",
    bits: int = 15,
) -> DFPTensor:
    """Gradient of `average_pool3d` with respect to ``x``.

    Args:
        dy: `DFPTensor` or ``float32`` array of the shape of the forward result; the latter is
            quantised first.
        input_shape: shape of ``x``: (batch, depth, height, width, channels).
        pool_size, strides, padding: as in `max_pool3d`.
        bits: magnitude bits of the result, 2 to 15.

    Returns:
        A `DFPTensor` of shape ``input_shape``: `dfpkeras.kernels.average_pool_backward` along the
        depth, in 15 bits, then in planes.

    Raises:
        TypeError, ValueError: as in `max_pool3d_backward`.
    """
    planes, depth = _windows(pool_size, strides, padding)
    shape = check_shape("input_shape", input_shape, 5)
    averages = _pooled_shape(shape, (1, *planes["pool_size"]), (1, *planes["strides"]), padding)
    window = (depth["pool_size"][0], 1, 1), (depth["strides"][0], 1, 1)
    check_operand("dy", dy, _pooled_shape(averages, *window, padding))
    columns = (*averages[:2], averages[2] * averages[3], averages[4])
    of_planes = average_pool_backward(_columns(dy), columns, **depth, bits=_BITS_OF_PLANES)
    of_planes = _images(of_planes.reshape(*averages))
    images = (shape[0] * shape[1], *shape[2:])
    return average_pool_backward(of_planes, images, **planes, bits=bits).reshape(*shape)


def _windows(pool_size, strides, padding):
    """The arguments of kernels on images, in planes and along the depth."""
    pool_size = check_sizes("pool_size", pool_size, 3)
    strides = pool_size if strides is None else check_sizes("strides", strides, 3)
    if math.prod(pool_size) > MOST_WINDOW_PIXELS:
        raise ValueError(
            f"pool_size: expected at most {MOST_WINDOW_PIXELS} voxels, got {pool_size}"
        )
    planes = {"pool_size": pool_size[1:], "strides": strides[1:], "padding": padding}
    depth = {"pool_size": (pool_size[0], 1), "strides": (strides[0], 1), "padding": padding}
    return planes, depth


def _pooled_shape(shape, pool_size, strides, padding):
    one = (1,) * len(strides)
    return layer_output_shape(
        shape, pool_size, strides, check_padding(padding), one, "channels_last"
    )


def _images(x):
    """The planes of volumes."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def _columns(x):
    """Volumes as images of one row for each plane."""
    return x.reshape(*x.shape[:2], x.shape[2] * x.shape[3], x.shape[4])


def _in_planes(kernel, x, arguments):
    y = kernel(_images(x), **arguments)
    return y.reshape(*x.shape[:2], *y.shape[1:])


def _along_depth(kernel, x, arguments):
    y = kernel(_columns(x), **arguments)
    return y.reshape(*y.shape[:2], *x.shape[2:])
