"""Differentiable activations and sums for TensorFlow, whose results carry integers.

What is the result of a batch norm is computed together with it, see `tensorflow_batch_norm`; all
else in one pass of its own.
"""

import functools

import tensorflow as tf

from dfpkeras import elementwise as kernels
from dfpkeras.backend import hits
from dfpkeras.backend.tensorflow_batch_norm import (
    activation_backward,
    fuse_activation,
    fuse_residual,
    have_one_shape,
)
from dfpkeras.backend.tensorflow_carriers import (
    ACTIVATION,
    attach,
    call,
    call_by_name,
    dequantized,
    find_carrier,
    make_carrier,
    pack,
)
from dfpkeras.backend.tensorflow_extremes import request_extremes
from dfpkeras.backend.tensorflow_operands import from_arrays, operand


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
    carrier, extremes = find_carrier(x, ACTIVATION), None
    operands = {"x": x}
    if carrier is not None:
        operands = {"x": carrier.data, "x_meta": carrier.meta}
    else:
        extremes = request_extremes(x)
    if extremes is not None:
        operands["extremes"] = extremes
    kernel = functools.partial(_activation_kernel, activation)
    data, meta = call_by_name(kernel, operands, [tf.int16, tf.int32])
    y = make_carrier(data, meta, x.shape, ACTIVATION)

    @tf.custom_gradient
    def operation(x):
        return dequantized(y), functools.partial(activation_backward, y, activation)

    return attach(operation(x), y)


@tf.autograph.experimental.do_not_convert
def add(a, b):
    """A sum.

    Args:
        a, b: float32 tensors.

    Returns:
        float32 tensor that carries its integers, or None if shapes differ or might.
    """
    if not have_one_shape(a, b):
        return None
    fused = fuse_residual(a, b)
    if fused is not None:
        return fused
    of_a, of_b = operand(a, ACTIVATION), operand(b, ACTIVATION)
    kernel = functools.partial(_addition_kernel, len(of_a))
    data, meta = call(kernel, of_a + of_b, [tf.int16, tf.int32])
    y = make_carrier(data, meta, a.shape, ACTIVATION)

    @tf.custom_gradient
    def operation(a, b):
        return dequantized(y), lambda dy: (dy, dy)

    return attach(operation(a, b), y)


def _activation_kernel(activation, x, x_meta=None, extremes=None):
    hits.add("activation_forward")
    bounds = None if extremes is None else (extremes[0].min(), extremes[1].max())
    x = from_arrays(x, x_meta)
    return pack(kernels.activation_forward(x, activation, ACTIVATION.bits, bounds))


def _addition_kernel(arrays_of_a, *arrays):
    hits.add("add")
    a, b = from_arrays(*arrays[:arrays_of_a]), from_arrays(*arrays[arrays_of_a:])
    return pack(kernels.add(a, b, bits=ACTIVATION.bits))
