"""The arrays that backends pass to kernels and get from them.

A quantised tensor is two arrays: INT16 data, and the pair of its shared exponent and largest
magnitude. A tensor in blocks is two, too: INT16 data, and the FP32 scales of its blocks.
"""

import numpy as np

from dfpkeras.kernels.block_tensor import BlockTensor
from dfpkeras.kernels.quantized_tensor import DFPTensor
from dfpkeras.runtime import kernel_observers


def unpack(data, scale):
    """Returns the `DFPTensor` of two arrays."""
    return DFPTensor._wrap(data, int(scale[0]), int(scale[1]))


def factor(role, data, scale):
    """Returns the `DFPTensor` of two arrays, which a product multiplies: a layer's "activation",
    "weights" or "gradient"."""
    tensor = unpack(data, scale)
    kernel_observers.multiplies(role, tensor)
    return tensor


def pack(tensor):
    """Returns the arrays of what a kernel computed: the inverse of `from_arrays`."""
    if isinstance(tensor, np.ndarray):
        return [tensor]
    if isinstance(tensor, BlockTensor):
        return [tensor.data, tensor.scales]
    return [tensor.data, np.array([tensor.exponent, tensor.max_abs], np.int32)]


def from_arrays(data, scale=None):
    """Returns a kernel's operand: a `DFPTensor`, a `BlockTensor`, or without a scale the float32
    array itself."""
    if scale is None:
        return data
    return BlockTensor(data, scale) if scale.dtype == np.float32 else unpack(data, scale)


def broadcast(*operands):
    """Broadcasts operands of kernels to one shape, by NumPy's rules."""
    shapes = {operand.shape for operand in operands}
    if len(shapes) == 1:
        return operands
    shape = np.broadcast_shapes(*shapes)
    return tuple(_broadcast_to(operand, shape) for operand in operands)


def broadcast_images(a, b):
    """Broadcasts the images of `a`, or of `b` if all else has one shape, to those of the other."""
    if a.shape[1:] == b.shape[1:]:
        return broadcast(a, b)
    if a.shape[0] == b.shape[0] or a.shape[0] != 1:
        return a, b
    return _broadcast_to(a, (b.shape[0], *a.shape[1:])), b


def _broadcast_to(operand, shape):
    if isinstance(operand, BlockTensor):
        operand = operand.dequantize()
    if not isinstance(operand, DFPTensor):
        return np.broadcast_to(operand, shape)
    data = np.ascontiguousarray(np.broadcast_to(operand.data, shape))
    return DFPTensor._wrap(data, operand.exponent, operand.max_abs)
