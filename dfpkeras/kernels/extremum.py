"""The larger or the smaller of two tensors, element by element, and its gradient."""

import numpy as np

from dfpkeras import _native
from dfpkeras.kernels.operand_checks import check_bits, check_operand, is_finite, parts
from dfpkeras.kernels.quantized_tensor import DFPTensor, _nonfinite, quantize
from dfpkeras.runtime.memory import aligned_empty


def maximum(a: DFPTensor | np.ndarray, b: DFPTensor | np.ndarray, bits: int = 14) -> DFPTensor:
    """The larger of two numbers.

    Args:
        a, b: `DFPTensor` or ``float32`` array, of one shape.
        bits: magnitude bits of the result, 2 to 15.

    Returns:
        A `DFPTensor` of that shape, rounded (to nearest, ties to even) with the exponent that the
        larger of ``max|a|`` and ``max|b|`` needs. The non-finite tensor if an operand holds NaN or
        Inf.

    Raises:
        TypeError: if an operand is of another type, or ``bits`` not an integer.
        ValueError: if shapes differ or ``bits`` is out of range.
    """
    return _extremum(a, b, False, bits)


def minimum(a: DFPTensor | np.ndarray, b: DFPTensor | np.ndarray, bits: int = 14) -> DFPTensor:
    """The smaller of two numbers.

    Args:
        a, b, bits: as in `maximum`.

    Returns:
        A `DFPTensor`, as `maximum`.

    Raises:
        TypeError, ValueError: as in `maximum`.
    """
    return _extremum(a, b, True, bits)


def maximum_backward(
    dy: DFPTensor | np.ndarray, a: DFPTensor | np.ndarray, b: DFPTensor | np.ndarray, bits: int = 15
) -> tuple[DFPTensor, DFPTensor]:
    """Gradients of `maximum` with respect to ``a`` and ``b``.

    Args:
        dy: `DFPTensor` or ``float32`` array; the latter is quantised first.
        a, b: operands of `maximum`, of the shape of ``dy``.
        bits: magnitude bits of a ``dy`` that is quantised, 2 to 15.

    Returns:
        (da, db): ``dy`` where ``a >= b``, and ``dy`` elsewhere, 0 where it went to the other one,
        as in TensorFlow; with the exponent of ``dy``. Non-finite tensors if an operand holds NaN or
        Inf.

    Raises:
        TypeError, ValueError: as in `maximum`.
    """
    return _gradients(dy, a, b, False, bits)


def minimum_backward(
    dy: DFPTensor | np.ndarray, a: DFPTensor | np.ndarray, b: DFPTensor | np.ndarray, bits: int = 15
) -> tuple[DFPTensor, DFPTensor]:
    """Gradients of `minimum` with respect to ``a`` and ``b``.

    Args:
        dy, a, b, bits: as in `maximum_backward`.

    Returns:
        (da, db): as `maximum_backward`, but ``a`` has ``dy`` where ``a <= b``.

    Raises:
        TypeError, ValueError: as in `maximum`.
    """
    return _gradients(dy, a, b, True, bits)


def _extremum(a, b, smaller, bits):
    check_operand("a", a)
    check_operand("b", b, a.shape)
    bits = check_bits(bits)
    if not is_finite(a, b):
        return _nonfinite(a.shape)
    y = aligned_empty(a.shape, np.int16)
    if not y.size:
        return DFPTensor._wrap(y, 0, 0)
    return DFPTensor._wrap(
        y, *_native.extremum_forward(parts(a), parts(b), smaller, bits, y.reshape(-1))
    )


def _gradients(dy, a, b, smaller, bits):
    check_operand("dy", dy)
    check_operand("a", a, dy.shape)
    check_operand("b", b, dy.shape)
    bits = check_bits(bits)
    dy = dy if isinstance(dy, DFPTensor) else quantize(dy, bits)
    if not is_finite(dy, a, b):
        return _nonfinite(dy.shape), _nonfinite(dy.shape)
    results = aligned_empty(dy.shape, np.int16), aligned_empty(dy.shape, np.int16)
    if not dy.data.size:
        return tuple(DFPTensor._wrap(result, 0, 0) for result in results)
    flat = [result.reshape(-1) for result in results]
    scales = _native.extremum_backward(parts(a), parts(b), smaller, *parts(dy)[:3], *flat)
    return tuple(DFPTensor._wrap(d, *scale) for d, scale in zip(results, scales, strict=True))
