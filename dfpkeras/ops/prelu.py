"""Differentiable PReLU: a leaky ReLU with learned slopes."""

import functools

from dfpkeras import kernels
from dfpkeras.backend import current
from dfpkeras.kernels.tensor_format import round_to
from dfpkeras.ops.kernel_arguments import from_arrays, pack
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.operation import operation
from dfpkeras.ops.views import (
    attach_view,
    call_for_view,
    dequantized,
    differentiable_in_float32,
    find_integers,
    gradient_operand,
    make_view,
    named_operand,
    quantized_result,
    view_dtypes,
)


@operation
def prelu(x, slope, *, number_format):
    """`x` where positive, else `slope * x`.

    Args:
        x: float32 tensor (N, ...).
        slope: float32 tensor or variable of the shape of `x` without N, where any size may be 1.
        number_format: `NumberFormat`.

    Returns:
        float32 tensor of the shape of `x`, with a quantised view; or None if it has no integers.
    """
    backend, tensor_format = current(), number_format.activation
    x = backend.in_scope(x)
    if find_integers(x, tensor_format) is None:
        return None
    slope = backend.in_scope(slope)
    operands = named_operand("x", x, tensor_format) | {"slope": slope}
    kernel = functools.partial(_forward_kernel, tensor_format)
    y = call_for_view(kernel, operands, x.shape, tensor_format)

    gradient = functools.partial(_gradients, x, slope, operands, number_format.gradient)
    return quantized_result(y, [x, slope], gradient, _float32_prelu)


def _gradients(x, slope, operands, tensor_format, dy):
    backend, dy = current(), current().as_tensor(dy)
    arrays = {**operands, **gradient_operand("dy", dy, tensor_format)}
    kernel = functools.partial(_backward_kernel, tensor_format)
    data, scale, dslope = backend.call(kernel, arrays, [*view_dtypes(), backend.float32])
    dx = make_view(data, scale, x.shape, tensor_format)

    def float32_values(dy, x, slope):
        return current().float32_gradient(_float32_prelu, [x, slope], [dy])

    values = [dequantized(dx), backend.with_shape(dslope, slope.shape)]
    results = differentiable_in_float32(values, [dy, x, slope], float32_values)
    return [attach_view(results[0], dx), results[1]]


def _float32_prelu(x, slope):
    relu = current().float32_operations.relu
    return relu(x) - slope * relu(-x)


def _forward_kernel(tensor_format, x, slope, x_scale=None):
    hits.add("prelu_forward")
    y = kernels.prelu_forward(from_arrays(x, x_scale), slope, tensor_format.written_bits)
    return pack(round_to(y, tensor_format))


def _backward_kernel(tensor_format, x, slope, dy, x_scale=None, dy_scale=None):
    hits.add("prelu_backward")
    x, dy = from_arrays(x, x_scale), from_arrays(dy, dy_scale)
    dx, dslope = kernels.prelu_backward(dy, x, slope, tensor_format.written_bits)
    return [*pack(round_to(dx, tensor_format)), dslope]
