"""The gradient of activations, fused with another operation or not."""

import functools

from dfpkeras import kernels
from dfpkeras.backend import current
from dfpkeras.kernels.activation import Activation, is_function
from dfpkeras.kernels.tensor_format import round_to
from dfpkeras.ops.kernel_arguments import from_arrays, pack
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.views import (
    attach_view,
    call_for_view,
    dequantized,
    differentiable_in_float32,
    gradient_operand,
    named_operand,
    quantized_result,
    sum_gradients,
)


def activation_gradient(x, y, activation, number_format, dy):
    """The gradient of an activation of `x`, differentiable.

    Args:
        x: float32 tensor.
        y: `QuantizedView` of the activation's result.
        activation: as in `dfpkeras.ops.activate`.
        number_format: `NumberFormat`.
        dy: float32 tensor, the upstream gradient.
    """
    dy = current().as_tensor(dy)
    if is_function(activation):
        return _function_gradient(x, activation, number_format, dy)
    dx = sum_gradients(dy, number_format.gradient, y, activation)

    def float32_values(dy):
        return current().float32_gradient(float32_activation(activation), [x], [dy])

    # It is linear in `dy`, and a mask has no derivative.
    gradient = functools.partial(activation_gradient, x, y, activation, number_format)
    return quantized_result(dx, [dy], gradient, float32_values)


def float32_activation(activation):
    """The backend's own function for an activation."""
    if not isinstance(activation, Activation):
        activation = Activation(activation)
    return current().float32_operations.activation(*activation)


def _function_gradient(x, activation, number_format, dy):
    tensor_format = number_format.gradient
    operands = gradient_operand("dy", dy, tensor_format)
    operands |= named_operand("x", x, number_format.activation)
    kernel = functools.partial(_gradient_kernel, activation, tensor_format)
    dx = call_for_view(kernel, operands, x.shape, tensor_format)

    def float32_values(dy, x):
        return current().float32_gradient(float32_activation(activation), [x], [dy])

    return attach_view(differentiable_in_float32(dequantized(dx), [dy, x], float32_values), dx)


def _gradient_kernel(activation, tensor_format, dy, x, dy_scale=None, x_scale=None):
    hits.add("activation_backward")
    dy, x = from_arrays(dy, dy_scale), from_arrays(x, x_scale)
    dx = kernels.activation_backward(dy, None, activation, tensor_format.written_bits, x)
    return pack(round_to(dx, tensor_format))
