"""The matrix product, and the gradient of a bias."""

import numpy as np

from dfpkeras import _native
from dfpkeras.kernels.product_operands import (
    check_bias,
    check_flush_every,
    is_trivial,
    tensor_parts,
)
from dfpkeras.kernels.quantized_tensor import DFPTensor
from dfpkeras.kernels.window_shapes import check_rank
from dfpkeras.runtime import kernel_observers
from dfpkeras.runtime.argument_checks import kind_of
from dfpkeras.runtime.float_environment import default_float_environment
from dfpkeras.runtime.memory import aligned_empty


@default_float_environment
def matmul(
    a: DFPTensor,
    b: DFPTensor,
    transpose_a: bool = False,
    transpose_b: bool = False,
    flush_every: int | None = None,
    bias: np.ndarray | None = None,
) -> np.ndarray:
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
            f"b: expected {k} rows to multiply a of shape {a.shape} "
            f"(transpose_a={bool(transpose_a)}), got shape {b.shape} "
            f"(transpose_b={bool(transpose_b)})"
        )
    flush_every = check_flush_every(flush_every, a, "a", b, "b")
    bias = check_bias(bias, n)
    c = aligned_empty((m, n), np.float32)
    if is_trivial(c, a, b):
        return c if bias is None else np.add(c, bias, out=c)
    operands = (*tensor_parts(a), *tensor_parts(b), bias, c.reshape(-1))
    _native.matmul(m, n, k, bool(transpose_a), bool(transpose_b), flush_every, *operands)
    kernel_observers.multiplied("direct")
    return c


def sum_channels(dy: DFPTensor) -> np.ndarray:
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
        raise TypeError(f"dy: expected a DFPTensor (dfpkeras.quantize), got {kind_of(dy)}")
    if not dy.shape:
        raise ValueError("dy: expected at least one dimension, got shape ()")
    sums = aligned_empty(dy.shape[-1:], np.float32)
    if not is_trivial(sums, dy, dy):
        _native.sum_channels(*tensor_parts(dy), dy.shape[-1], sums)
    return sums
