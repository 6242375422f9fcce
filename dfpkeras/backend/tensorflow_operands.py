"""How tensors are handed to kernels: channels-last, and as integers where they carry them."""

import numpy as np
import tensorflow as tf

from dfpkeras.backend.tensorflow_carriers import find_carrier, set_shape, unpack
from dfpkeras.kernels.quantized_tensor import DFPTensor


def channels_last(data, data_format):
    """Returns images (N, H, W, C) or sequences, as images (N, 1, L, C), in any data format."""
    if data_format == "channels_first":
        data = tf.transpose(data, [0, *range(2, data.shape.rank), 1])
    return tf.expand_dims(data, 1) if data.shape.rank == 3 else data


def restored(images, shape, data_format):
    """Returns what `channels_last` made, again in its own rank and format; `shape` is as known."""
    shape = tf.TensorShape(shape)
    images.set_shape([None] * 4)
    if shape.rank == 3:
        images = tf.squeeze(images, 1)
    if data_format == "channels_first":
        images = tf.transpose(images, [0, shape.rank - 1, *range(1, shape.rank - 1)])
    return set_shape(images, shape)


def operand(x, role):
    """Returns the list of a tensor's integers and their scale, or of the tensor itself."""
    carrier = find_carrier(x, role)
    return [x] if carrier is None else [carrier.data, carrier.meta]


def named_operand(name, x, role):
    """Like `operand`, as a dict of inputs for `call_by_name`; empty for None."""
    if x is None:
        return {}
    carrier = find_carrier(x, role)
    return {name: x} if carrier is None else named_carrier(name, carrier)


def named_carrier(name, carrier):
    """The integers of a carrier and their scale as inputs for `call_by_name`."""
    return {name: carrier.data, f"{name}_meta": carrier.meta}


def from_arrays(data, meta=None):
    """Returns what a kernel takes for the arrays of an `operand`."""
    return data if meta is None else unpack(data, meta)


def broadcast(a, b):
    """Two operands of kernels with one shape, to which they broadcast as NumPy has it."""
    if a.shape == b.shape:
        return a, b
    shape = np.broadcast_shapes(a.shape, b.shape)
    return _broadcast_to(a, shape), _broadcast_to(b, shape)


def _broadcast_to(operand, shape):
    if not isinstance(operand, DFPTensor):
        return np.broadcast_to(operand, shape)
    data = np.ascontiguousarray(np.broadcast_to(operand.data, shape))
    return DFPTensor._wrap(data, operand.exponent, operand.max_abs)
