"""Differentiable batch normalisation for TensorFlow, fused with what follows it.

`batch_norm` returns a float32 tensor that carries its integers, and remembers on it how it was
made. `fuse_residual` and `fuse_activation` find that on their input and compute the fused result
from the operands of the batch norm, in one pass instead of two or three. Gradients flow through the
unfused result all the same; a graph prunes its value if nothing else reads it.
"""

import functools
import math
import typing

import numpy as np
import tensorflow as tf

from dfpkeras.backend import hits
from dfpkeras.backend.tensorflow_carriers import (
    Carrier,
    attach,
    call_by_name,
    carrier_of,
    dequantized,
    find_carrier,
    is_local,
    is_sum,
    local,
    local_or_none,
    make_carrier,
    pack,
    set_shape,
    sum_gradients,
    unpack,
)
from dfpkeras.backend.tensorflow_extremes import request_extremes
from dfpkeras.backend.tensorflow_gradients import differentiable, float_gradient, quantized_result
from dfpkeras.backend.tensorflow_operands import (
    broadcast,
    from_arrays,
    named_carrier,
    named_operand,
)
from dfpkeras.kernels import batch_normalization as kernels
from dfpkeras.kernels import elementwise
from dfpkeras.kernels.roles import ACTIVATION, GRADIENT, quantized, rounded

#: Activations by TensorFlow's own operations.
FLOAT_VALUES = {"relu": tf.nn.relu, "relu6": tf.nn.relu6}

_ATTRIBUTE = "_dfp_normalization"
_GRADIENT_ATTRIBUTE = "_dfp_passing"


class _Normalization(typing.NamedTuple):
    """How the result of a batch norm was made, for fusing it with what follows.

    Attributes:
        x: float32 tensor (..., channels).
        integers: `Carrier` that `x` came with, which the kernels read instead, or None.
        channels: dict of float32 tensors (channels,), the kernels' operands: "mean" and "variance",
            "gamma" and "beta" if they are not 1 and 0, and of shape (2, channels) "extremes" of
            `x`, if known.
        epsilon: float that is added to the variance.
        training: bool, whether the statistics are those of `x`.
        kept: list that holds, once a forward pass was made, the `Carrier` of the normalised `x`, in
            15 bits, which the backward pass reads: `x`, of twice its size, need not be kept.
        residual: float32 tensor of the shape of `x` that is added, or None.
    """

    x: tf.Tensor
    integers: Carrier | None
    channels: dict
    epsilon: float
    training: bool
    kept: list
    residual: tf.Tensor | None = None


class _Passing(typing.NamedTuple):
    """How the gradient of an activation was made: `dy` where `activation`, with result `y`, let
    the tensor through. A batch norm's own gradient can do that on the way."""

    dy: tf.Tensor
    y: Carrier | None = None
    activation: str | None = None


@tf.autograph.experimental.do_not_convert
def batch_norm(x, gamma, beta, moving_mean, moving_variance, epsilon, training):
    """Normalises each channel.

    Args:
        x: float32 tensor (..., channels).
        gamma, beta: float32 tensors or variables (channels,), or None for 1 and 0.
        moving_mean, moving_variance: float32 tensors or variables (channels,), the statistics if
            not `training`.
        epsilon: float that is added to the variance.
        training: bool, whether to use the statistics of `x`.

    Returns:
        (y, mean, variance): `y` as `x`, the statistics used of shape (channels,).
    """
    x = local(x)
    made = _Normalization(x, find_carrier(x, ACTIVATION), {}, epsilon, training, [])
    if training:
        *statistics, extremes = call_by_name(_statistics_kernel, _input(made), [tf.float32] * 3)
        statistics = [set_shape(s, x.shape[-1:]) for s in statistics]
    else:
        statistics = [local(moving_mean), local(moving_variance)]
        extremes = request_extremes(x)
    channels = {"mean": statistics[0], "variance": statistics[1]}
    if extremes is not None:
        channels["extremes"] = extremes
    parameters = {"gamma": local_or_none(gamma), "beta": local_or_none(beta)}
    parameters = {name: value for name, value in parameters.items() if value is not None}
    made = made._replace(channels=channels | parameters)
    y = _forward(made)

    def gradient(dy):
        return _backward(made, list(parameters), tf.convert_to_tensor(dy))

    float_values = functools.partial(_float_forward, made, list(parameters))
    inputs = [x, *parameters.values()]
    result = quantized_result(y, inputs, gradient, float_values)
    return _remember(result, made), *statistics


@tf.autograph.experimental.do_not_convert
def fuse_activation(x, activation):
    """Returns "relu" or "relu6" of `x`, or None if `x` is not the result of a batch norm."""
    made = _made_by(x)
    if made is None:
        return None
    y = _forward(made, activation)

    def gradient(dy):
        dx = activation_backward(x, y, activation, dy)
        # With a residual, its own gradient needs dx all the same.
        return dx if made.residual is not None else _remember_passing(dx, dy, y, activation)

    return quantized_result(y, [x], gradient, FLOAT_VALUES[activation])


@tf.autograph.experimental.do_not_convert
def fuse_residual(a, b):
    """Returns a + b of tensors of which `may_have_one_shape` holds, or None if neither is the
    result of a batch norm."""
    for x, residual in ((a, b), (b, a)):
        made = _made_by(x)
        if made is not None and made.residual is None:
            return _add_residual(made._replace(residual=residual), a, b)
    return None


def _add_residual(made, a, b):
    y = _forward(made)
    total = quantized_result(y, [a, b], functools.partial(addition_backward, a, b))
    return _remember(total, made)


def _remember(y, made):
    setattr(y, _ATTRIBUTE, made)
    return y


def _made_by(x):
    made = getattr(x, _ATTRIBUTE, None)
    return made if made is not None and is_local(made.x) else None


def may_have_one_shape(a, b):
    """Whether an addition broadcasts no dimension but, perhaps, an unknown number of images."""
    if not all(isinstance(x, tf.Tensor) and x.dtype == tf.float32 for x in (a, b)):
        return False
    known = a.shape.rank is not None and a.shape[1:].is_fully_defined()
    return known and a.shape.as_list() == b.shape.as_list()


def addition_backward(a, b, dy):
    """The gradients of the operands of a sum: `dy`, or its sum over the images of an operand that
    had but one, where both numbers of images are unknown."""
    if a.shape.rank == 0 or a.shape[0] is not None:
        return [dy, dy]
    dy = tf.convert_to_tensor(dy)
    return [_sum_over_images(dy, find_carrier(x, ACTIVATION) or x) for x in (a, b)]


def _sum_over_images(dy, x):
    """Reads no float32 value of `dy` unless somebody reads that of the result."""
    dyq = carrier_of(dy, GRADIENT)
    images = tf.shape(x.data if isinstance(x, Carrier) else x)[0]

    def summed():
        kernel = _sum_over_images_kernel
        data, meta = call_by_name(kernel, named_carrier("dy", dyq), [tf.int16, tf.int32])
        return tf.reduce_sum(dy, 0, keepdims=True), set_shape(data, dy.shape), meta

    dx, data, meta = tf.cond(
        images == tf.shape(dyq.data)[0], lambda: (dy, dyq.data, dyq.meta), summed
    )
    return attach(set_shape(dx, dy.shape), make_carrier(data, meta, dy.shape, GRADIENT))


def _forward(made, activation=None):
    # In eager execution `x` is there anyway, and forward passes are made that another one replaces.
    keeps = made.training and made.integers is None and not tf.executing_eagerly()
    function = functools.partial(_forward_kernel, activation, made.epsilon, keeps)
    operands = {**_input(made), **made.channels}
    operands |= named_operand("residual", made.residual, ACTIVATION)
    results = call_by_name(function, operands, [tf.int16, tf.int32] * (1 + keeps))
    if keeps:
        made.kept[:] = [make_carrier(*results[2:], made.x.shape, ACTIVATION)]
    return make_carrier(*results[:2], made.x.shape, ACTIVATION)


def activation_backward(x, y, activation, dy):
    """The gradient of an activation of `x`, differentiable: it is linear in `dy`.

    Args:
        x: float32 tensor.
        y: `Carrier` of the activation's result.
        activation: "relu" or "relu6".
        dy: float32 tensor, the upstream gradient.
    """
    dy = tf.convert_to_tensor(dy)
    dx = sum_gradients(dy, y, activation)

    def float_values(dy):
        return float_gradient(FLOAT_VALUES[activation], [x], [dy])

    gradient = functools.partial(activation_backward, x, y, activation)
    return quantized_result(dx, [dy], gradient, float_values)


def _remember_passing(dx, dy, y, activation):
    """Returns `dx`; a batch norm need not read it, if nobody else makes its value be computed."""
    if not tf.executing_eagerly() and not is_sum(dy):
        setattr(dx, _GRADIENT_ATTRIBUTE, _Passing(dy, y, activation))
    return dx


def _backward(made, parameters, dy):
    """Gradients of x and the parameters; differentiable, through float32 operations."""
    kernel, operands = _backward_operands(made, dy)
    dtypes = [tf.int16, tf.int32, tf.float32, tf.float32, tf.float32]
    data, meta, *of_channels = call_by_name(kernel, operands, dtypes)
    of_channels = [set_shape(v, made.x.shape[-1:]) for v in of_channels]
    of_channels = dict(zip(("gamma", "beta", "x"), of_channels, strict=True))
    dx = make_carrier(data, meta, made.x.shape, GRADIENT)._replace(channel_sums=of_channels["x"])
    of_parameters = [of_channels[name] for name in parameters]

    inputs = [dy, made.x, *(made.channels[name] for name in parameters)]
    float_values = functools.partial(_float_backward, made, parameters)
    result, *others = differentiable(
        [dequantized(dx), *of_parameters],
        inputs,
        lambda *upstream: float_gradient(float_values, inputs, upstream),
        float_values,
    )
    return [attach(result, dx), *others]


def _backward_operands(made, dy):
    """The kernel of the gradient, and its operands by name."""
    passing = getattr(dy, _GRADIENT_ATTRIBUTE, None)
    if passing is None or not is_local(passing.dy):
        passing = _Passing(dy)
    of_gradient = named_operand("dy", passing.dy, GRADIENT)
    if is_sum(dy):
        of_gradient = named_carrier("dy", carrier_of(dy, GRADIENT))
    of_activation = {} if passing.y is None else named_carrier("y", passing.y)
    normalized = bool(made.kept) and is_local(made.kept[0].data)
    of_input = named_carrier("x", made.kept[0]) if normalized else _input(made)
    kernel = functools.partial(
        _backward_kernel, made.epsilon, made.training, normalized, passing.activation
    )
    return kernel, {**of_input, **made.channels, **of_gradient, **of_activation}


def _float_forward(made, parameters, x, *values):
    """What `batch_norm` computes, by float32 operations of TensorFlow."""
    values = dict(zip(parameters, values, strict=True))
    mean, variance = made.channels["mean"], made.channels["variance"]
    if made.training:
        mean, variance = tf.nn.moments(x, list(range(x.shape.rank - 1)))
    y = (x - mean) * tf.math.rsqrt(variance + made.epsilon)
    return y * values.get("gamma", 1.0) + values.get("beta", 0.0)


def _float_backward(made, parameters, dy, *inputs):
    return float_gradient(functools.partial(_float_forward, made, parameters), inputs, [dy])


def _input(made):
    """The input of a batch norm as operand of its kernels."""
    usable = made.integers is not None and is_local(made.integers.data)
    return named_carrier("x", made.integers) if usable else {"x": made.x}


def _sum_over_images_kernel(dy, dy_meta):
    total = unpack(dy, dy_meta).dequantize().sum(0, dtype=np.float64, keepdims=True)
    return pack(quantized(total.astype(np.float32), GRADIENT))


def _statistics_kernel(x, x_meta=None):
    hits.add("batch_norm_statistics")
    mean, variance, *extremes = kernels.batch_norm_statistics(from_arrays(x, x_meta))
    return [mean, variance, np.stack(extremes)]


def _forward_kernel(
    activation, epsilon, keeps, x, mean, variance, gamma=None, beta=None, **optional
):
    hits.add("batch_norm_forward")
    x = from_arrays(x, optional.get("x_meta"))
    residual = from_arrays(optional.get("residual"), optional.get("residual_meta"))
    fits = residual is None or residual.shape == x.shape
    results = kernels.batch_norm_forward(
        x,
        *kernels.batch_norm_fold(gamma, beta, mean, variance, epsilon),
        *optional.get("extremes", (None, None)),
        residual if fits else None,
        activation if fits else None,
        ACTIVATION.written_bits,
        kernels.batch_norm_fold(None, None, mean, variance, epsilon) if keeps else None,
    )
    y, *normalized = results if keeps else [results]
    if not fits:
        y = elementwise.add(*broadcast(y, residual), activation, ACTIVATION.written_bits)
    return [array for tensor in (rounded(y, ACTIVATION), *normalized) for array in pack(tensor)]


def _backward_kernel(
    epsilon, training, normalized, activation, x, dy, mean, variance, gamma=None, **optional
):
    hits.add("batch_norm_backward")
    x = from_arrays(x, optional.get("x_meta"))
    dy = from_arrays(dy, optional.get("dy_meta"))
    y = from_arrays(optional.get("y"), optional.get("y_meta"))
    extremes = optional.get("extremes")
    if normalized:
        scale, offset = kernels.batch_norm_fold(None, None, mean, variance, epsilon)
        mean, extremes = np.zeros_like(mean), extremes * scale + offset
    sums = kernels.batch_norm_backward_reduce(dy, x, mean, y, activation)
    pixels = math.prod(x.shape[:-1])
    g = kernels.batch_norm_gradients(gamma, variance, epsilon, sums, pixels, training, normalized)
    passing = {"y": y, "activation": activation, "bits": GRADIENT.written_bits}
    if training:
        factors = g.factor_dz, g.factor_x, g.constant
        dx = kernels.batch_norm_backward(dy, x, mean, *factors, *extremes, sums.max_dz, **passing)
    else:
        dx = kernels.batch_norm_backward_frozen(dy, g.factor_dz, sums.max_dz, **passing)
    return [*pack(rounded(dx, GRADIENT)), g.dgamma, g.dbeta, g.sum_dx]
