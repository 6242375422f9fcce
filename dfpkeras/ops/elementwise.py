"""Differentiable activations and sums, whose results have a quantised view.

An activation or sum of a batch norm's result is fused with the batch norm, see
`batch_normalization`; any other takes a separate pass.
"""

import functools

from dfpkeras import kernels
from dfpkeras.backend import current
from dfpkeras.kernels.activation import is_function
from dfpkeras.kernels.quantized_tensor import DFPTensor
from dfpkeras.kernels.tensor_format import round_to
from dfpkeras.ops.activation_gradient import activation_gradient, float32_activation
from dfpkeras.ops.addition_gradient import addition_gradient, may_have_one_shape
from dfpkeras.ops.batch_normalization import fuse_activation, fuse_residual
from dfpkeras.ops.channel_ranges import request_channel_range
from dfpkeras.ops.kernel_arguments import broadcast, from_arrays, pack
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.operation import operation
from dfpkeras.ops.views import call_for_view, named_operand, quantized_result


@operation
def activate(x, activation, *, number_format):
    """An activation.

    Args:
        x: float32 tensor of any shape.
        activation: name or `dfpkeras.kernels.activation.Activation`.
        number_format: `NumberFormat`.

    Returns:
        float32 tensor of the shape of `x`, with a quantised view.
    """
    fused = fuse_activation(x, activation, number_format)
    if fused is not None:
        return fused
    x = current().in_scope(x)
    operands = named_operand("x", x, number_format.activation)
    channel_range = None if "x_scale" in operands else request_channel_range(x)
    if channel_range is not None:
        operands["channel_range"] = channel_range
    kernel = functools.partial(_activation_kernel, activation, number_format.activation)
    y = call_for_view(kernel, operands, x.shape, number_format.activation)

    gradient = functools.partial(activation_gradient, x, y, activation, number_format)
    return quantized_result(y, [x], gradient, float32_activation(activation))


@operation
def add(a, b, *, number_format):
    """A sum.

    Args:
        a, b: float32 tensors.
        number_format: `NumberFormat`.

    Returns:
        float32 tensor with a quantised view, or None if shapes differ, or might in more than an
        unknown number of images.
    """
    if not may_have_one_shape(a, b):
        return None
    a, b = current().in_scope(a), current().in_scope(b)
    fused = fuse_residual(a, b, number_format)
    if fused is not None:
        return fused
    tensor_format = number_format.activation
    operands = named_operand("a", a, tensor_format) | named_operand("b", b, tensor_format)
    kernel = functools.partial(_addition_kernel, tensor_format)
    y = call_for_view(kernel, operands, a.shape, tensor_format)

    gradient = functools.partial(addition_gradient, a, b, number_format)
    return quantized_result(y, [a, b], gradient)


def _activation_kernel(activation, tensor_format, x, x_scale=None, channel_range=None):
    hits.add("activation_forward")
    bounds = None if channel_range is None else (channel_range[0].min(), channel_range[1].max())
    x = from_arrays(x, x_scale)
    y = kernels.activation_forward(x, activation, tensor_format.written_bits, bounds)
    # ReLU leaves the integers of a tensor as they are.
    is_exact = isinstance(x, DFPTensor) and not is_function(activation)
    return pack(y if is_exact else round_to(y, tensor_format))


def _addition_kernel(tensor_format, a, b, a_scale=None, b_scale=None):
    hits.add("add")
    a, b = broadcast(from_arrays(a, a_scale), from_arrays(b, b_scale))
    return pack(round_to(kernels.add(a, b, bits=tensor_format.written_bits), tensor_format))
