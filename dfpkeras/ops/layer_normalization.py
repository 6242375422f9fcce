"""Differentiable layer normalisation over the last dimension."""

import functools

from dfpkeras import kernels
from dfpkeras.backend import current
from dfpkeras.kernels.tensor_format import round_to
from dfpkeras.ops.kernel_arguments import from_arrays, pack
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.normalization_gradient import normalization_result
from dfpkeras.ops.operation import operation
from dfpkeras.ops.views import named_operand


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
    tensor_format = number_format.activation
    x = current().in_scope(x)
    return normalization_result(
        x,
        named_operand("x", x, tensor_format),
        {"gamma": gamma, "beta": beta},
        forward=functools.partial(_forward_kernel, epsilon, tensor_format),
        backward=functools.partial(_backward_kernel, number_format.gradient),
        float32_forward=functools.partial(_float32_forward, epsilon),
        statistics=("statistics",),
        number_format=number_format,
    )


def _float32_forward(epsilon, x, values):
    """`layer_norm` by float32 operations of the backend."""
    operations = current().float32_operations
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
