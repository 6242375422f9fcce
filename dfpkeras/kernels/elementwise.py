"""Activations and sums of tensors that are not fused with a batch norm, one pass each.

Results are rounded to the nearest integer, ties to even. Their shared exponent comes from the
largest magnitude that the operands allow. If an operand holds NaN or Inf, so does the result: it is
the non-finite tensor.
"""

import numpy as np

from dfpkeras import _native
from dfpkeras.kernels.activation import Activation, check_activation, is_function
from dfpkeras.kernels.operand_checks import (
    check_activation_result,
    check_bits,
    check_operand,
    is_finite,
    parts,
)
from dfpkeras.kernels.quantized_tensor import MIN_BITS, DFPTensor, _nonfinite
from dfpkeras.runtime.float_environment import default_float_environment
from dfpkeras.runtime.memory import aligned_empty

_ONE, _ZERO = np.ones(1, np.float32), np.zeros(1, np.float32)


@default_float_environment
def activation_forward(
    x: DFPTensor | np.ndarray,
    activation: str | Activation | None,
    bits: int = 14,
    bounds: tuple[float, float] | None = None,
) -> DFPTensor:
    """An activation.

    Args:
        x: `DFPTensor`, or ``float32`` array, of any shape.
        activation: None, a name or an `Activation`, see `dfpkeras.kernels.activation`.
        bits: magnitude bits of the result, 2 to 15. Of a `DFPTensor`, "relu" and "relu6" are exact
            and have as many bits as ``x``.
        bounds: None, or a known lower and upper bound of a ``float32`` array.

    Returns:
        A `DFPTensor` of the shape of ``x``.

    Raises:
        TypeError: if ``x`` is neither, or ``bits`` not an integer.
        ValueError: if ``activation`` is unknown or ``bits`` out of range.
    """
    check_operand("x", x)
    bits = check_bits(bits)
    if isinstance(x, DFPTensor) and not is_function(activation):
        bits = max(x.max_abs.bit_length(), MIN_BITS)
    return _combine(x, None, activation, bits, bounds)


def add(
    a: DFPTensor | np.ndarray,
    b: DFPTensor | np.ndarray,
    activation: str | Activation | None = None,
    bits: int = 14,
) -> DFPTensor:
    """A sum, and an activation of it.

    Args:
        a, b: `DFPTensor` or ``float32`` array, of one shape.
        activation: as in `activation_forward`.
        bits: magnitude bits of the result, 2 to 15.

    Returns:
        A `DFPTensor` of the operands' shape: the FP32 sum, rounded with the exponent that
        ``max|a| + max|b|`` needs (6 at most for "relu6").

    Raises:
        TypeError: if an operand is neither, or ``bits`` not an integer.
        ValueError: if shapes differ, ``activation`` is unknown or ``bits`` out of range.
    """
    check_operand("a", a)
    check_operand("b", b, a.shape)
    return _combine(a, b, activation, check_bits(bits))


def activation_backward(
    dy: DFPTensor | np.ndarray,
    y: DFPTensor | None,
    activation: str | Activation | None,
    bits: int = 14,
    x: DFPTensor | np.ndarray | None = None,
) -> DFPTensor:
    """Gradient of an activation with respect to its argument.

    Args:
        dy: `DFPTensor` or ``float32`` array: the gradient of the result.
        y: `DFPTensor` of the shape of ``dy``: the result of "relu" or "relu6". Not used for
            others.
        activation: as in `activation_forward`.
        bits: magnitude bits of the result for a ``float32`` gradient and of activations that need
            ``x``, 2 to 15.
        x: `DFPTensor` or ``float32`` array of the shape of ``dy``: the argument of an activation
            other than those two.

    Returns:
        A `DFPTensor`: ``dy`` where ``y > 0`` (and ``y < 6`` for "relu6"), 0 elsewhere, as in Keras,
        with the integers and the exponent of a `DFPTensor`; or ``dy`` times the slope at ``x``.

    Raises:
        TypeError: if ``dy``, ``y`` or ``x`` is of another type, or ``bits`` not an integer.
        ValueError: if shapes differ, ``activation`` is unknown or ``bits`` out of range.
    """
    check_operand("dy", dy)
    y = check_activation_result(y, activation, dy.shape)
    x = check_operand("x", x, dy.shape) if is_function(activation) else None
    bits = check_bits(bits)
    if not is_finite(dy, y, x):
        return _nonfinite(dy.shape)
    if activation is None and isinstance(dy, DFPTensor):
        return dy
    dz = aligned_empty(dy.shape, np.int16)
    if not dz.size:
        return DFPTensor._wrap(dz, 0, 0)
    argument = (None, None) if x is None else (_ONE, _ZERO)
    operands = parts(dy), parts(y)[:3], (*check_activation(activation), *argument), parts(x)
    no_normalisation = (None,) * 7
    _, scale = _native.batch_norm_backward(
        *operands, *no_normalisation, bits, 1, None, dz.reshape(-1)
    )
    return DFPTensor._wrap(dz, *scale)


def sum_gradients(
    gradients: list, y: DFPTensor | None = None, activation: str | None = None, bits: int = 14
) -> DFPTensor:
    """Sum of the gradients of a tensor that several operations read, and the activation's gradient.

    Args:
        gradients: sequence of at least one `DFPTensor` or ``float32`` array, of one shape.
        y: `DFPTensor` of that shape: the result of the activation. Not used for None.
        activation: None, "relu" or "relu6".
        bits: magnitude bits of the result, 2 to 15.

    Returns:
        A `DFPTensor`: the FP32 sum, in the order given, where ``y > 0`` (and ``y < 6`` for
        "relu6"), 0 elsewhere, rounded with the exponent that the sum of the largest magnitudes
        needs. The integers and the exponent of a single `DFPTensor` are kept.

    Raises:
        TypeError: if a gradient or ``y`` is of another type, or ``bits`` not an integer.
        ValueError: if shapes differ, there is no gradient, ``activation`` is unknown or ``bits``
            out of range.
    """
    gradients = list(gradients)
    if not gradients:
        raise ValueError("gradients: expected at least one, got none")
    for gradient in gradients:
        check_operand("gradients", gradient, getattr(gradients[0], "shape", None))
    if is_function(activation):
        raise ValueError(f"activation: expected None, 'relu' or 'relu6', got {activation!r}")
    if len(gradients) == 1:
        return activation_backward(gradients[0], y, activation, bits)
    shape = gradients[0].shape
    y = check_activation_result(y, activation, shape)
    bits = check_bits(bits)
    if not is_finite(*gradients, y):
        return _nonfinite(shape)
    return _sum(gradients, shape, bits, y, activation)


def weighted_sum(tensors: list, factors: list[float], bits: int = 14) -> DFPTensor:
    """Sum of tensors, each multiplied by a number.

    Args:
        tensors: sequence of at least one `DFPTensor` or ``float32`` array, of one shape.
        factors: as many numbers, which are rounded to FP32.
        bits: magnitude bits of the result, 2 to 15.

    Returns:
        A `DFPTensor`: the FP32 sum of FP32 products, in the order given, rounded with the exponent
        that the sum of the largest magnitudes needs.

    Raises:
        TypeError: if a tensor is of another type, or ``bits`` not an integer.
        ValueError: if shapes differ, there is no tensor or another number of factors, or ``bits``
            is out of range.
    """
    tensors, numbers = list(tensors), np.array(factors, np.float32)
    if not tensors or numbers.shape != (len(tensors),):
        raise ValueError(
            f"factors: expected a number for each of at least one tensor, got {numbers.size} "
            f"for {len(tensors)}"
        )
    for tensor in tensors:
        check_operand("tensors", tensor, getattr(tensors[0], "shape", None))
    bits, shape = check_bits(bits), tensors[0].shape
    if not (is_finite(*tensors) and np.isfinite(numbers).all()):
        return _nonfinite(shape)
    return _sum(tensors, shape, bits, factors=numbers)


def _sum(tensors, shape, bits, y=None, activation=None, factors=None):
    """The sum of tensors of a shape, masked by the result `y` of an activation or each times a
    factor."""
    total = aligned_empty(shape, np.int16)
    if not total.size:
        return DFPTensor._wrap(total, 0, 0)
    operands = [parts(tensor) for tensor in tensors]
    index, _ = check_activation(activation)
    scale = _native.sum_gradients(operands, parts(y)[:3], index, bits, total.reshape(-1), factors)
    return DFPTensor._wrap(total, *scale)


def _combine(a, b, activation, bits, bounds=None):
    """activation(a + b), where b may be None: a normalisation of one channel by 1 and 0."""
    of_activation = check_activation(activation)
    if not is_finite(a, b):
        return _nonfinite(a.shape)
    y = aligned_empty(a.shape, np.int16)
    if not y.size:
        return DFPTensor._wrap(y, 0, 0)
    bounds = (None, None) if bounds is None else np.float32(bounds).reshape(2, 1)
    no_unit = None, None, 0, None
    scale, _ = _native.batch_norm_forward(
        parts(a), _ONE, _ZERO, *bounds, parts(b), of_activation, bits, y.reshape(-1), *no_unit
    )
    return DFPTensor._wrap(y, *scale)
