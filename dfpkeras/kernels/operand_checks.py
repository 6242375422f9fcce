"""Checks and descriptions of operands that may be DFP16, FP32 or in blocks, for the element-wise
kernels."""

import numpy as np

from dfpkeras.kernels.activation import check_activation, is_function
from dfpkeras.kernels.block_tensor import BlockTensor
from dfpkeras.kernels.quantized_tensor import MAX_BITS, MIN_BITS, DFPTensor
from dfpkeras.runtime.argument_checks import check_integer, kind_of

#: What the native module takes for an absent operand.
ABSENT = (None, 0, 0, None)


def check_bits(bits):
    bits = check_integer("bits", bits)
    if not MIN_BITS <= bits <= MAX_BITS:
        raise ValueError(f"bits: expected {MIN_BITS} to {MAX_BITS} magnitude bits, got {bits}")
    return bits


def check_operand(name, value, shape=None):
    """A `DFPTensor`, a `BlockTensor` or a ``float32`` array, of the given shape if there is one."""
    if not isinstance(value, DFPTensor | BlockTensor) and not _is_float32(value):
        raise TypeError(
            f"{name}: expected a DFPTensor (dfpkeras.quantize) or a float32 NumPy array, "
            f"got {kind_of(value)}"
        )
    _check_shape(name, value, shape)
    return value


def check_tensor(name, value, shape):
    """A `DFPTensor` of the given shape."""
    if not isinstance(value, DFPTensor):
        raise TypeError(f"{name}: expected a DFPTensor (dfpkeras.quantize), got {kind_of(value)}")
    _check_shape(name, value, shape)
    return value


def check_activation_result(y, activation, shape):
    """Checks the activation's result, by which a gradient is masked; None where none is needed."""
    index, _ = check_activation(activation)
    return check_tensor("y", y, shape) if index and not is_function(activation) else None


def check_argument(argument, activation, channels):
    """Checks the scale and the offset of a function's argument; (None, None) where none is
    needed."""
    if not is_function(activation):
        return None, None
    if argument is None:
        raise ValueError(
            f"argument: expected (scale, offset) of the argument of {activation!r}, got None"
        )
    return tuple(check_channel_numbers("argument", v, channels) for v in argument)


def check_channels(name, value):
    """The number of channels, at least one, of an array (..., channels)."""
    if not value.shape or not value.shape[-1]:
        raise ValueError(f"{name}: expected at least one channel, got shape {value.shape}")
    return value.shape[-1]


def check_channel_numbers(name, value, channels):
    """A ``float32`` array with one number for each channel, C-contiguous."""
    if not _is_float32(value) or value.shape != (channels,):
        raise ValueError(
            f"{name}: expected a float32 array of shape ({channels},), got {kind_of(value)}"
        )
    return np.ascontiguousarray(value)


def check_optional_channel_numbers(name, value, channels):
    """The same, or None."""
    return None if value is None else check_channel_numbers(name, value, channels)


def check_array(name, value, shape):
    """A ``float32`` array of the given shape."""
    if value.shape != shape or value.dtype != np.float32:
        raise ValueError(
            f"{name}: expected a float32 array of shape {shape}, got {value.dtype} of shape "
            f"{value.shape}"
        )
    return value


def parts(operand):
    """What the native module takes for an operand."""
    if operand is None:
        return ABSENT
    if isinstance(operand, DFPTensor):
        return operand.data.reshape(-1), operand.exponent, operand.max_abs, None
    if isinstance(operand, BlockTensor):
        return operand.parts
    return None, 0, 0, np.ascontiguousarray(operand).reshape(-1)


def is_finite(*operands):
    """False if one of the operands is a tensor that was made from NaN or Inf."""
    return all(o.is_finite for o in operands if isinstance(o, DFPTensor))


def _is_float32(value):
    return isinstance(value, np.ndarray) and value.dtype == np.float32


def _check_shape(name, value, shape):
    if shape is not None and value.shape != shape:
        raise ValueError(f"{name}: expected the shape {shape}, got {value.shape}")
