"""The matrix product of INT8 matrices."""

import numpy as np

from dfpkeras import _native
from dfpkeras.runtime.argument_checks import kind_of
from dfpkeras.runtime.memory import aligned_empty

#: |a * b| <= 2**14: this many products fit INT32 whatever the data.
MOST_PRODUCTS = 131_071


def matmul_int8(
    a: np.ndarray, b: np.ndarray, transpose_a: bool = False, transpose_b: bool = False
) -> np.ndarray:
    """Matrix product, exact.

    Args:
        a: ``int8`` array of shape (m, k), or (k, m) with ``transpose_a``.
        b: ``int8`` array of shape (k, n), or (n, k) with ``transpose_b``.
        transpose_a, transpose_b: whether that operand is transposed first.

    Returns:
        ``int32`` array of shape (m, n).

    Raises:
        TypeError: if an operand is not an ``int8`` array.
        ValueError: if shapes do not fit, or k exceeds 131,071, beyond which INT32 may overflow.
    """
    a, b = _check_matrix("a", a), _check_matrix("b", b)
    m, k = reversed(a.shape) if transpose_a else a.shape
    b_k, n = reversed(b.shape) if transpose_b else b.shape
    if k != b_k:
        raise ValueError(
            f"b: expected {k} rows to multiply a of shape {a.shape} "
            f"(transpose_a={bool(transpose_a)}), got shape {b.shape} "
            f"(transpose_b={bool(transpose_b)})"
        )
    if k > MOST_PRODUCTS:
        raise ValueError(
            f"a, b: at most {MOST_PRODUCTS} products fit an INT32 sum, got k = {k}; "
            "multiply parts and add their results in int64"
        )
    c = aligned_empty((m, n), np.int32)
    if not k:
        c.fill(0)
    elif c.size:
        operands = a.reshape(-1), b.reshape(-1), c.reshape(-1)
        _native.matmul_int8(m, n, k, bool(transpose_a), bool(transpose_b), *operands)
    return c


def _check_matrix(name, value):
    if not isinstance(value, np.ndarray) or value.dtype != np.int8:
        raise TypeError(f"{name}: expected an int8 NumPy array, got {kind_of(value)}")
    if value.ndim != 2:
        raise ValueError(f"{name}: expected 2 dimensions, got shape {value.shape}")
    return np.ascontiguousarray(value)
