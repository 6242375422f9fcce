"""Differentiable normalisation over the pixels and channels of each image and group."""

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
def group_norm(x, groups, gamma, beta, *, epsilon, number_format):
    """Normalises each group of channels of each image.

    Args:
        x: float32 tensor (N, ..., channels), of which all sizes but N are known.
        groups: int, a divisor of the number of channels.
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
        forward=functools.partial(_forward_kernel, groups, epsilon, tensor_format),
        backward=functools.partial(_backward_kernel, number_format.gradient),
        float32_forward=functools.partial(_float32_forward, groups, epsilon),
        statistics=("statistics", "channel_range"),
        number_format=number_format,
    )


def _float32_forward(groups, epsilon, x, values):
    """`group_norm` by float32 operations of the backend."""
    backend, operations = current(), current().float32_operations
    images = backend.sizes(x)[0]
    shape = [images, *x.shape[1:-1], groups, x.shape[-1] // groups]
    grouped, rank = backend.reshape(x, shape), len(shape)
    axes = [axis for axis in range(1, rank) if axis != rank - 2]
    mean, variance = operations.moments(grouped, axes, keepdims=True)
    normal = (grouped - mean) * operations.rsqrt(variance + epsilon)
    y = backend.with_shape(backend.reshape(normal, [images, *x.shape[1:]]), x.shape)
    return y * values.get("gamma", 1.0) + values.get("beta", 0.0)


def _forward_kernel(groups, epsilon, tensor_format, x, x_scale=None, gamma=None, beta=None):
    hits.add("group_norm_forward")
    y, *numbers = kernels.group_norm_forward(
        from_arrays(x, x_scale), groups, gamma, beta, epsilon, tensor_format.written_bits
    )
    return [*pack(round_to(y, tensor_format)), *numbers]


def _backward_kernel(
    tensor_format, x, statistics, channel_range, dy, x_scale=None, dy_scale=None, gamma=None
):
    hits.add("group_norm_backward")
    x, dy, bits = from_arrays(x, x_scale), from_arrays(dy, dy_scale), tensor_format.written_bits
    gradients = kernels.group_norm_backward(dy, x, statistics, channel_range, gamma, bits)
    dx, dgamma, dbeta = gradients
    return [*pack(round_to(dx, tensor_format)), dgamma, dbeta]
