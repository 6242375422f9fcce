"""The integer kernels on NumPy arrays.

Operands are `DFPTensor`; products are INT16 by INT16, summed in INT32 and flushed into FP32 as
often as the data require for INT32 never to overflow (section 4 of the paper; the proof is in
``include/dfp/accumulate.h``). The result is FP32: the sum times ``2**(exponent + exponent)``,
within ``(flushes + 1) * 2**-24 * sum(|a * b|)`` of the exact result, and the same to the last bit
for every instruction set and number of threads. If an operand is not finite, the result is all NaN.

``flush_every`` replaces the proven schedule by a fixed interval of that many products, an even
number; it must be safe for the largest magnitudes present:
``max|a| * max|b| * flush_every <= 2**31 - 1``.
"""

from pathlib import Path

import numpy as np

from dfpkeras import _native, isa, threads
from dfpkeras.arrangement import concatenate, crop, split, zero_pad
from dfpkeras.arrays import aligned_empty
from dfpkeras.batch_norm import (
    batch_norm_backward,
    batch_norm_backward_frozen,
    batch_norm_backward_reduce,
    batch_norm_fold,
    batch_norm_forward,
    batch_norm_gradients,
    batch_norm_statistics,
)
from dfpkeras.depthwise import (
    depthwise_conv2d_backward_data,
    depthwise_conv2d_backward_weights,
    depthwise_conv2d_forward,
)
from dfpkeras.elementwise import activation_backward, activation_forward, add, sum_gradients
from dfpkeras.float_environment import default_float_environment
from dfpkeras.geometry import (
    check_output,
    check_rank,
    check_shape,
    convolution_geometry,
    output_size,
)
from dfpkeras.isa import available_isas, get_isa, set_isa
from dfpkeras.pooling import (
    average_pool,
    average_pool_backward,
    global_average_pool,
    global_average_pool_backward,
    global_max_pool,
    global_max_pool_backward,
    max_pool,
    max_pool_backward,
)
from dfpkeras.products import check_bias, is_trivial, tensor_parts
from dfpkeras.tensor import DFPTensor, _integer, _kind

__all__ = [
    "activation_backward",
    "activation_forward",
    "add",
    "available_isas",
    "average_pool",
    "average_pool_backward",
    "batch_norm_backward",
    "batch_norm_backward_frozen",
    "batch_norm_backward_reduce",
    "batch_norm_fold",
    "batch_norm_forward",
    "batch_norm_gradients",
    "batch_norm_statistics",
    "concatenate",
    "conv2d_backward_data",
    "conv2d_backward_weights",
    "conv2d_forward",
    "crop",
    "depthwise_conv2d_backward_data",
    "depthwise_conv2d_backward_weights",
    "depthwise_conv2d_forward",
    "get_isa",
    "global_average_pool",
    "global_average_pool_backward",
    "global_max_pool",
    "global_max_pool_backward",
    "info",
    "matmul",
    "max_pool",
    "max_pool_backward",
    "set_isa",
    "split",
    "sum_channels",
    "sum_gradients",
    "zero_pad",
]

INT32_MAX = 2**31 - 1


def conv2d_forward(
    x,
    w,
    strides=1,
    padding="valid",
    dilation_rate=1,
    groups=1,
    flush_every=None,
    bias=None,
    want_extremes=False,
):
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
    return (y, extremes) if want_extremes else y


def conv2d_backward_data(
    dy, w, input_shape, strides=1, padding="valid", dilation_rate=1, groups=1, flush_every=None
):
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
    x, dy, kernel_shape, strides=1, padding="valid", dilation_rate=1, groups=1, flush_every=None
):
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


@default_float_environment
def matmul(a, b, transpose_a=False, transpose_b=False, flush_every=None, bias=None):
    """Matrix product.

    Args:
        a: `DFPTensor` of shape (m, k), or (k, m) with ``transpose_a``.
        b: `DFPTensor` of shape (k, n), or (n, k) with ``transpose_b``.
        transpose_a, transpose_b: whether that operand is transposed first.
        flush_every: None, or a fixed flush interval in products (see the module's description).
        bias: None, or a ``float32`` array of shape (n,) that is added to every row.

    Returns:
        ``float32`` array of shape (m, n).

    Raises:
        TypeError: if an operand is not a `DFPTensor`.
        ValueError: if shapes do not fit, or ``flush_every`` is not safe.
    """
    a, b = check_rank("a", a, 2), check_rank("b", b, 2)
    m, k = reversed(a.shape) if transpose_a else a.shape
    b_k, n = reversed(b.shape) if transpose_b else b.shape
    if k != b_k:
        raise ValueError(
            f"b: {k} rows are needed to multiply a of shape {a.shape} "
            f"(transpose_a={bool(transpose_a)}), got shape {b.shape} "
            f"(transpose_b={bool(transpose_b)})"
        )
    flush_every = _check_flush_every(flush_every, a, "a", b, "b")
    bias = check_bias(bias, n)
    c = aligned_empty((m, n), np.float32)
    if is_trivial(c, a, b):
        return c if bias is None else np.add(c, bias, out=c)
    operands = (*tensor_parts(a), *tensor_parts(b), bias, c.reshape(-1))
    _native.matmul(m, n, k, bool(transpose_a), bool(transpose_b), flush_every, *operands)
    return c


def sum_channels(dy):
    """Gradient of a bias: the sum over all axes but the last, exact before one rounding to FP32.

    Args:
        dy: `DFPTensor` of shape (..., channels).

    Returns:
        ``float32`` array of shape (channels,).

    Raises:
        TypeError: if ``dy`` is not a `DFPTensor`.
        ValueError: if it has no dimension.
    """
    if not isinstance(dy, DFPTensor):
        raise TypeError(f"dy: a DFPTensor (dfpkeras.quantize) is needed, got {_kind(dy)}")
    if not dy.shape:
        raise ValueError("dy: at least one dimension is needed, got shape ()")
    sums = aligned_empty(dy.shape[-1:], np.float32)
    if not is_trivial(sums, dy, dy):
        _native.sum_channels(*tensor_parts(dy), dy.shape[-1], sums)
    return sums


def info():
    """What the kernels run on: a dict of the CPU's name, instruction sets, threads and caches."""
    return {
        "cpu": _native.cpu_name(),
        "isa": get_isa(),
        "isa_reason": isa.reason(),
        "compiled_isas": isa.compiled_isas(),
        "available_isas": available_isas(),
        "num_threads": threads.get_num_threads(),
        "num_threads_reason": threads.reason(),
        "l1_bytes": _cache_bytes("Data", 1),
        "l2_bytes": _cache_bytes("Unified", 2),
    }


def _cache_bytes(kind, level):
    """Size of a cache of the first CPU as Linux knows it, None if it does not."""
    for cache in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        if _read(cache / "type") == kind and _read(cache / "level") == str(level):
            return int(_read(cache / "size").rstrip("K")) * 1024
    return None


def _read(path):
    return path.read_text().strip()


def _geometry(x_shape, x_name, w_shape, w_name, strides, padding, dilation_rate, groups):
    groups = _integer("groups", groups)
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


def _check_flush_every(flush_every, a, a_name, b, b_name):
    """The interval, 0 for None."""
    if flush_every is None:
        return 0
    flush_every = _integer("flush_every", flush_every)
    if flush_every < 2 or flush_every % 2:
        raise ValueError(
            f"flush_every: an even number of products, at least 2, is needed, got {flush_every}"
        )
    largest = a.max_abs * b.max_abs
    if largest * flush_every > INT32_MAX:
        raise ValueError(
            f"flush_every: {flush_every} products of max|{a_name}| = {a.max_abs} and "
            f"max|{b_name}| = {b.max_abs} may overflow INT32; at most "
            f"{INT32_MAX // largest // 2 * 2} are safe, or quantise with fewer bits"
        )
    # A longer interval than any reduction has is one run.
    return min(flush_every, INT32_MAX - 1)


def _convolve(kernel, geometry, a, b, a_name, b_name, flush_every, result, extra=()):
    flush_every = _check_flush_every(flush_every, a, a_name, b, b_name)
    if not is_trivial(result, a, b):
        operands = (*tensor_parts(a), *tensor_parts(b), *extra, result.reshape(-1))
        kernel((*geometry.values(), flush_every), *operands)
    return result
