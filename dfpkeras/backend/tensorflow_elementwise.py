"""Differentiable activations and sums for TensorFlow, whose results carry integers.

What is the result of a batch norm is computed together with it, see `tensorflow_batch_norm`; all
else in one pass of its own.
"""

import functools

import tensorflow as tf

from dfpkeras.backend import hits
from dfpkeras.backend.tensorflow_batch_norm import (
    FLOAT_VALUES,
    activation_backward,
    addition_backward,
    fuse_activation,
    fuse_residual,
    may_have_one_shape,
)
from dfpkeras.backend.tensorflow_carriers import (
    call_by_name,
    local,
    make_carrier,
    pack,
)
from dfpkeras.backend.tensorflow_extremes import request_extremes
from dfpkeras.backend.tensorflow_gradients import quantized_result
from dfpkeras.backend.tensorflow_operands import broadcast, from_arrays, named_operand
from dfpkeras.kernels import elementwise as kernels
from dfpkeras.kernels.roles import ACTIVATION, rounded


@tf.autograph.experimental.do_not_convert
def activate(x, activation):
    """An activation.

    Args:
        x: float32 tensor of any shape.
        activation: "relu" or "relu6".

    Returns:
        float32 tensor of the shape of `x`, which carries its integers.
    """
    fused = fuse_activation(x, activation)
    if fused is not None:
        return fused
    x = local(x)
    operands = named_operand("x", x, ACTIVATION)
    extremes = None if "x_meta" in operands else request_extremes(x)
    if extremes is not None:
        operands["extremes"] = extremes
    kernel = functools.partial(_activation_kernel, activation)
    data, meta = call_by_name(kernel, operands, [tf.int16, tf.int32])
    y = make_carrier(data, meta, x.shape, ACTIVATION)

    gradient = functools.partial(activation_backward, x, y, activation)
    return quantized_result(y, [x], gradient, FLOAT_VALUES[activation])


@tf.autograph.experimental.do_not_convert
def add(a, b):
    """A sum.

    Args:
        a, b: float32 tensors.

    Returns:
        float32 tensor that carries its integers, or None if shapes differ, or might in more than an
        unknown number of images.
    """
    if not may_have_one_shape(a, b):
        return None
    a, b = local(a), local(b)
    fused = fuse_residual(a, b)
    if fused is not None:
        return fused
    operands = named_operand("a", a, ACTIVATION) | named_operand("b", b, ACTIVATION)
    data, meta = call_by_name(_addition_kernel, operands, [tf.int16, tf.int32])
    y = make_carrier(data, meta, a.shape, ACTIVATION)

    gradient = functools.partial(addition_backward, a, b)
    return quantized_result(y, [a, b], gradient)


def _activation_kernel(activation, x, x_meta=None, extremes=None):
    hits.add("activation_forward")
    bounds = None if extremes is None else (extremes[0].min(), extremes[1].max())
    x = from_arrays(x, x_meta)
    y = kernels.activation_forward(x, activation, ACTIVATION.written_bits, bounds)
    return pack(rounded(y, ACTIVATION) if x_meta is None else y)


def _addition_kernel(a, b, a_meta=None, b_meta=None):
    hits.add("add")
    a, b = broadcast(from_arrays(a, a_meta), from_arrays(b, b_meta))
    return pack(rounded(kernels.add(a, b, bits=ACTIVATION.written_bits), ACTIVATION))
