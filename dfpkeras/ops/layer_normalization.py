"""Differentiable layer normalisation over the last dimension."""

import functools

from dfpkeras import kernels
from dfpkeras.backend import current
from dfpkeras.kernels.tensor_format import round_to
from dfpkeras.ops.kernel_arguments import from_arrays, pack
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.operation import operation
from dfpkeras.ops.views import (
    attach_view,
    dequantized,
    differentiable_in_float32,
    gradient_operand,
    make_view,
    named_operand,
    quantized_result,
    view_dtypes,
)


@operation
def layer_norm(x, gamma, beta, *, epsilon, number_format):
    """Normalises each pixel over its channels.

    Args:
        x: float32 tensor (..., channels).
        gamma, beta: float32 tensors or variables (channels,), or None for 1 and 0.
        epsilon: float that is added to the variance.
        number_format: `NumberFormat`.

    Returns:
        float32 tensor of the shape of `x`, with a quantised view.
    """
    backend, tensor_format = current(), number_format.activation
    x = backend.in_scope(x)
    parameters = {"gamma": gamma, "beta": beta}
    parameters = {
        name: backend.in_scope(value) for name, value in parameters.items() if value is not None
    }
    of_x = named_operand("x", x, tensor_format)
    kernel = functools.partial(_forward_kernel, epsilon, tensor_format)
    dtypes = [*view_dtypes(), backend.float32]
    *view, statistics = backend.call(kernel, {**of_x, **parameters}, dtypes)
    y = make_view(*view, x.shape, tensor_format)

    def gradient(dy):
        operands = {**of_x, "statistics": statistics}
        operands |= {name: parameters[name] for name in parameters if name == "gamma"}
        arguments = epsilon, list(parameters), number_format.gradient
        return _backward(x, parameters, operands, *arguments, current().as_tensor(dy))

    float32_values = functools.partial(_float32_forward, epsilon, list(parameters))
    return quantized_result(y, [x, *parameters.values()], gradient, float32_values)


def _backward(x, parameters, operands, epsilon, names, tensor_format, dy):
    backend = current()
    of_gradient = gradient_operand("dy", dy, tensor_format)
    kernel = functools.partial(_backward_kernel, tensor_format)
    dtypes = [*view_dtypes(), backend.float32, backend.float32]
    data, scale, dgamma, dbeta = backend.call(kernel, {**operands, **of_gradient}, dtypes)
    dx = make_view(data, scale, x.shape, tensor_format)
    of_parameters = {"gamma": dgamma, "beta": dbeta}
    of_parameters = [backend.with_shape(of_parameters[name], x.shape[-1:]) for name in names]

    def float32_values(dy, *inputs):
        forward = functools.partial(_float32_forward, epsilon, names)
        return current().float32_gradient(forward, inputs, [dy])

    inputs = [dy, x, *parameters.values()]
    values = [dequantized(dx), *of_parameters]
    result, *others = differentiable_in_float32(values, inputs, float32_values)
    return [attach_view(result, dx), *others]


def _float32_forward(epsilon, names, x, *values):
    """`layer_norm` by float32 operations of the backend."""
    operations = current().float32_operations
    values = dict(zip(names, values, strict=True))
    mean, variance = operations.moments(x, [-1], keepdims=True)
    y = (x - mean) * operations.rsqrt(variance + epsilon)
    return y * values.get("gamma", 1.0) + values.get("beta", 0.0)


def _forward_kernel(epsilon, tensor_format, x, x_scale=None, gamma=None, beta=None):
    hits.add("layer_norm_forward")
    y, statistics = kernels.layer_norm_forward(
        from_arrays(x, x_scale), gamma, beta, epsilon, tensor_format.written_bits
    )
    return [*pack(round_to(y, tensor_format)), statistics]


def _backward_kernel(tensor_format, x, statistics, dy, x_scale=None, dy_scale=None, gamma=None):
    hits.add("layer_norm_backward")
    dx, dgamma, dbeta = kernels.layer_norm_backward(
        from_arrays(dy, dy_scale),
        from_arrays(x, x_scale),
        statistics,
        gamma,
        tensor_format.written_bits,
    )
    return [*pack(round_to(dx, tensor_format)), dgamma, dbeta]
