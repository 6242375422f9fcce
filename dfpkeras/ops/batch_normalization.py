"""Differentiable batch normalisation, fused with what follows it.

`batch_norm` returns a float32 tensor with a quantised view, and records with it how it was made.
`fuse_residual` and `fuse_activation` find that on their input and compute the fused result from the
operands of the batch norm, in one pass instead of two or three. Gradients still flow through the
unfused result; a lazy backend does not compute its value if nothing else reads it.
"""

import functools
import math
import typing

import numpy as np

from dfpkeras import kernels
from dfpkeras.backend import current
from dfpkeras.kernels.activation import is_function
from dfpkeras.kernels.number_format import NumberFormat
from dfpkeras.kernels.tensor_format import round_to
from dfpkeras.ops.activation_gradient import activation_gradient, float32_activation
from dfpkeras.ops.addition_gradient import addition_gradient
from dfpkeras.ops.channel_ranges import request_channel_range
from dfpkeras.ops.kernel_arguments import broadcast, from_arrays, pack
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.operation import operation
from dfpkeras.ops.views import (
    BlocksView,
    QuantizedView,
    attach_view,
    dequantized,
    differentiable_in_float32,
    find_integers,
    gradient_operand,
    make_view,
    named_operand,
    named_view,
    quantized_result,
    view_dtypes,
)

_NAME = "_dfp_normalization"
_GRADIENT_NAME = "_dfp_masked_gradient"


class _Normalization(typing.NamedTuple):
    """How the result of a batch norm was made, for fusing it with what follows.

    Attributes:
        x: float32 tensor (..., channels).
        integers: `QuantizedView` or `BlocksView` that `x` came with, which the kernels read
            instead, or None.
        channels: dict of float32 tensors (channels,), the kernels' operands: "mean" and "variance",
            "gamma" and "beta" if they are not 1 and 0, and of shape (2, channels) "channel_range"
            of `x`, if known.
        epsilon: float that is added to the variance.
        training: bool, whether the statistics are those of `x`.
        kept: list that holds, after a forward pass, the `QuantizedView` of the normalised `x`, in
            15 bits, which the backward pass reads: `x`, which is twice as large, need not be kept.
        number_format: `NumberFormat` of the batch norm.
        residual: float32 tensor of the shape of `x` that is added, or None.
    """

    x: typing.Any
    integers: QuantizedView | BlocksView | None
    channels: dict
    epsilon: float
    training: bool
    kept: list
    number_format: NumberFormat
    residual: typing.Any = None


class _MaskedGradient(typing.NamedTuple):
    """How the gradient of an activation was made: `dy` masked by the result `y` of `activation`, or
    times the slope of a function. The gradient of a batch norm can do that itself."""

    dy: typing.Any
    y: QuantizedView | None = None
    activation: str | None = None


@operation
def batch_norm(x, gamma, beta, moving_mean, moving_variance, *, epsilon, training, number_format):
    """Normalises each channel.

    Args:
        x: float32 tensor (..., channels).
        gamma, beta: float32 tensors or variables (channels,), or None for 1 and 0.
        moving_mean, moving_variance: float32 tensors or variables (channels,), the statistics if
            not `training`.
        epsilon: float that is added to the variance.
        training: bool, whether to use the statistics of `x`.
        number_format: `NumberFormat`.

    Returns:
        (y, mean, variance): `y` as `x`, the statistics used of shape (channels,).
    """
    backend = current()
    x = backend.in_scope(x)
    integers = find_integers(x, number_format.activation)
    made = _Normalization(x, integers, {}, epsilon, training, [], number_format)
    if training:
        *statistics, channel_range = _statistics(made)
    else:
        statistics = [backend.in_scope(moving_mean), backend.in_scope(moving_variance)]
        channel_range = request_channel_range(x)
    channels = {"mean": statistics[0], "variance": statistics[1]}
    if channel_range is not None:
        channels["channel_range"] = channel_range
    parameters = {"gamma": gamma, "beta": beta}
    parameters = {
        name: backend.in_scope(value) for name, value in parameters.items() if value is not None
    }
    made = made._replace(channels=channels | parameters)
    y = _forward(made, number_format)

    def gradient(dy):
        return _backward(made, list(parameters), current().as_tensor(dy))

    float32_values = functools.partial(_float32_forward, made, list(parameters))
    inputs = [x, *parameters.values()]
    result = quantized_result(y, inputs, gradient, float32_values)
    return _remember(result, made), *statistics


@operation
def fuse_activation(x, activation, number_format):
    """Returns an activation of `x`, or None if `x` is not the result of a batch norm."""
    made = _made_by(x)
    if made is None:
        return None
    y = _forward(made, number_format, activation)

    def gradient(dy):
        dx = activation_gradient(x, y, activation, number_format, dy)
        # With a residual, its gradient needs dx anyway.
        return dx if made.residual is not None else _remember_masked(dx, dy, y, activation)

    return quantized_result(y, [x], gradient, float32_activation(activation))


@operation
def fuse_residual(a, b, number_format):
    """Returns a + b of tensors of which `may_have_one_shape` holds, or None if neither is the
    result of a batch norm."""
    for x, residual in ((a, b), (b, a)):
        made = _made_by(x)
        if made is not None and made.residual is None:
            return _add_residual(made._replace(residual=residual), a, b, number_format)
    return None


def _add_residual(made, a, b, number_format):
    y = _forward(made, number_format)
    gradient = functools.partial(addition_gradient, a, b, number_format)
    return _remember(quantized_result(y, [a, b], gradient), made)


def _remember(y, made):
    current().attach(y, _NAME, made)
    return y


def _made_by(x):
    made = current().attached(x, _NAME)
    return made if made is not None and current().is_in_scope(made.x) else None


def _statistics(made):
    """Mean, variance and, of shape (2, channels), the range of the channels of the input."""
    backend = current()
    results = backend.call(_statistics_kernel, _input(made), [backend.float32] * 3)
    mean, variance = (backend.with_shape(s, made.x.shape[-1:]) for s in results[:2])
    return mean, variance, results[2]


def _forward(made, number_format, activation=None):
    """The view of the result in the format of the layer that wants it."""
    # In eager execution `x` exists anyway, and a later fused pass may replace this one.
    keeps = made.training and made.integers is None and current().is_lazy()
    tensor_format = number_format.activation
    kernel = functools.partial(_forward_kernel, activation, made.epsilon, keeps, tensor_format)
    operands = {**_input(made), **made.channels}
    operands |= named_operand("residual", made.residual, tensor_format)
    results = current().call(kernel, operands, view_dtypes() * (1 + keeps))
    if keeps:
        # Its 15 bits are read only by the batch norm's gradient.
        made.kept[:] = [make_view(*results[2:], made.x.shape, tensor_format)]
    return make_view(*results[:2], made.x.shape, tensor_format)


def _remember_masked(dx, dy, y, activation):
    """Returns `dx`; a batch norm need not read its value, which is then never computed."""
    backend = current()
    if is_function(activation):
        masked = _MaskedGradient(dy, None, activation)
    else:
        # Summands are added up and masked in one pass.
        masked = None if backend.summands(dy) is not None else _MaskedGradient(dy, y, activation)
    if masked is not None and backend.is_lazy():
        backend.attach(dx, _GRADIENT_NAME, masked)
    return dx


def _backward(made, parameters, dy):
    """Gradients of x and the parameters; differentiable, through float32 operations."""
    backend = current()
    kernel, operands = _backward_operands(made, dy)
    results = backend.call(kernel, operands, [*view_dtypes(), *[backend.float32] * 3])
    of_channels = [backend.with_shape(v, made.x.shape[-1:]) for v in results[2:]]
    of_channels = dict(zip(("gamma", "beta", "x"), of_channels, strict=True))
    dx = make_view(*results[:2], made.x.shape, made.number_format.gradient)
    dx = dx._replace(channel_sums=of_channels["x"])
    of_parameters = [of_channels[name] for name in parameters]

    inputs = [dy, made.x, *(made.channels[name] for name in parameters)]
    float32_values = functools.partial(_float32_backward, made, parameters)
    values = [dequantized(dx), *of_parameters]
    result, *others = differentiable_in_float32(values, inputs, float32_values)
    return [attach_view(result, dx), *others]


def _backward_operands(made, dy):
    """The kernel of the gradient, and its operands by name."""
    backend, tensor_format = current(), made.number_format.gradient
    masked = backend.attached(dy, _GRADIENT_NAME)
    if masked is None or not backend.is_in_scope(masked.dy):
        masked = _MaskedGradient(dy)
    of_gradient = gradient_operand("dy", masked.dy, tensor_format)
    of_activation = {} if masked.y is None else named_view("y", masked.y)
    normalized = bool(made.kept) and backend.is_in_scope(made.kept[0].data)
    of_input = named_view("x", made.kept[0]) if normalized else _input(made)
    kernel = functools.partial(
        _backward_kernel,
        made.epsilon,
        made.training,
        normalized,
        masked.activation,
        tensor_format,
    )
    return kernel, {**of_input, **made.channels, **of_gradient, **of_activation}


def _float32_forward(made, parameters, x, *values):
    """`batch_norm` by float32 operations of the backend."""
    operations = current().float32_operations
    values = dict(zip(parameters, values, strict=True))
    mean, variance = made.channels["mean"], made.channels["variance"]
    if made.training:
        mean, variance = operations.moments(x, list(range(len(x.shape) - 1)))
    y = (x - mean) * operations.rsqrt(variance + made.epsilon)
    return y * values.get("gamma", 1.0) + values.get("beta", 0.0)


def _float32_backward(made, parameters, dy, *inputs):
    forward = functools.partial(_float32_forward, made, parameters)
    return current().float32_gradient(forward, inputs, [dy])


def _input(made):
    """The input of a batch norm as operand of its kernels."""
    usable = made.integers is not None and current().is_in_scope(made.integers.data)
    return named_view("x", made.integers) if usable else {"x": made.x}


def _statistics_kernel(x, x_scale=None):
    hits.add("batch_norm_statistics")
    mean, variance, *channel_range = kernels.batch_norm_statistics(from_arrays(x, x_scale))
    return [mean, variance, np.stack(channel_range)]


def _forward_kernel(
    activation, epsilon, keeps, tensor_format, x, mean, variance, gamma=None, beta=None, **optional
):
    hits.add("batch_norm_forward")
    x = from_arrays(x, optional.get("x_scale"))
    residual = from_arrays(optional.get("residual"), optional.get("residual_scale"))
    fits = residual is None or residual.shape == x.shape
    results = kernels.batch_norm_forward(
        x,
        *kernels.batch_norm_fold(gamma, beta, mean, variance, epsilon),
        *optional.get("channel_range", (None, None)),
        residual if fits else None,
        activation if fits else None,
        tensor_format.written_bits,
        kernels.batch_norm_fold(None, None, mean, variance, epsilon) if keeps else None,
    )
    y, *normalized = results if keeps else [results]
    if not fits:
        y = kernels.add(*broadcast(y, residual), activation, tensor_format.written_bits)
    return [array for tensor in (round_to(y, tensor_format), *normalized) for array in pack(tensor)]


def _backward_kernel(
    epsilon,
    training,
    normalized,
    activation,
    tensor_format,
    x,
    dy,
    mean,
    variance,
    gamma=None,
    **optional,
):
    hits.add("batch_norm_backward")
    x = from_arrays(x, optional.get("x_scale"))
    dy = from_arrays(dy, optional.get("dy_scale"))
    y = from_arrays(optional.get("y"), optional.get("y_scale"))
    channel_range = optional.get("channel_range")
    argument = None
    if is_function(activation):
        argument = kernels.batch_norm_fold(gamma, optional.get("beta"), mean, variance, epsilon)
    if normalized:
        scale, offset = kernels.batch_norm_fold(None, None, mean, variance, epsilon)
        mean, channel_range = np.zeros_like(mean), channel_range * scale + offset
        argument = argument and _parameters(gamma, optional.get("beta"), mean)
    sums = kernels.batch_norm_backward_reduce(dy, x, mean, y, activation, argument)
    pixels = math.prod(x.shape[:-1])
    g = kernels.batch_norm_gradients(gamma, variance, epsilon, sums, pixels, training, normalized)
    mask = {"y": y, "activation": activation, "argument": argument}
    mask["bits"] = tensor_format.written_bits
    if training:
        factors = g.factor_dz, g.factor_x, g.constant
        dx = kernels.batch_norm_backward(dy, x, mean, *factors, *channel_range, sums.max_dz, **mask)
    else:
        dx = kernels.batch_norm_backward_frozen(dy, g.factor_dz, sums.max_dz, **mask, x=x)
    return [*pack(round_to(dx, tensor_format)), g.dgamma, g.dbeta, g.sum_dx]


def _parameters(gamma, beta, zeros):
    """Gamma and beta, 1 and 0 where there is none."""
    return zeros + 1 if gamma is None else gamma, zeros if beta is None else beta
