"""Differentiable pooling for TensorFlow, on tensors that carry integers.

Each function returns None for a tensor that carries none. The gradient of an average is again an
average of its upstream gradient, and so on to any order; the gradient of a maximum is linear in its
upstream gradient, and what is beyond it is left to operations of TensorFlow.
"""

import dataclasses
import functools

import keras
import tensorflow as tf
from keras.src.ops.operation_utils import compute_pooling_output_shape

from dfpkeras.backend import hits
from dfpkeras.backend.tensorflow_arrangement import reshape
from dfpkeras.backend.tensorflow_carriers import (
    call,
    carrier_of,
    dequantized,
    find_carrier,
    make_carrier,
    pack,
    set_shape,
    unpack,
)
from dfpkeras.backend.tensorflow_gradients import differentiable, float_gradient, quantized_result
from dfpkeras.backend.tensorflow_operands import channels_last, from_arrays, operand, restored
from dfpkeras.kernels import pooling as kernels
from dfpkeras.kernels.roles import ACTIVATION, GRADIENT, rounded


@dataclasses.dataclass(frozen=True)
class _Windows:
    """What is pooled: tuples of 1 or 2 ints, "valid" or "same", and the data format."""

    pool_size: tuple
    strides: tuple
    padding: str
    data_format: str

    @property
    def arguments(self):
        """For kernels on images."""
        one = (1,) * (2 - len(self.strides))
        return {
            "pool_size": one + self.pool_size,
            "strides": one + self.strides,
            "padding": self.padding,
        }

    def output_shape(self, shape):
        window = self.pool_size, self.strides, self.padding
        return compute_pooling_output_shape(tuple(shape), *window, self.data_format)

    def carrier(self, kernel, operands, shape, role):
        """The result of a kernel on channels-last arrays as a carrier in the layer's format."""
        data, meta = call(functools.partial(kernel, self.arguments), operands, _CARRIER)
        return make_carrier(restored(data, shape, self.data_format), meta, shape, role)

    def channels_last(self, data):
        return channels_last(data, self.data_format)

    def float_max_pool(self, x):
        """By TensorFlow's own operations."""
        return self._float_pool(keras.ops.max_pool, x)

    def float_average_pool(self, x):
        """By TensorFlow's own operations."""
        return self._float_pool(keras.ops.average_pool, x)

    def _float_pool(self, pool, x):
        """Channels-last, because TensorFlow pools nothing else on every CPU."""
        y = pool(self.channels_last(x), **self.arguments, data_format="channels_last")
        return restored(y, self.output_shape(x.shape), self.data_format)


_CARRIER = [tf.int16, tf.int32]


@tf.autograph.experimental.do_not_convert
def max_pool(x, pool_size, strides, padding, data_format):
    """The maximum of each window, or None if `x` carries no integers.

    Args:
        x: float32 tensor (N, H, W, C), (N, C, H, W), (N, L, C) or (N, C, L).
        pool_size, strides: tuples of 1 or 2 ints.
        padding: "valid" or "same" (TensorFlow's SAME).
        data_format: "channels_last" or "channels_first".

    Returns:
        float32 tensor in the layout of `x`, which carries its integers.
    """
    xq = find_carrier(x, ACTIVATION)
    if xq is None:
        return None
    windows = _Windows(pool_size, strides, padding, data_format)
    operands = [windows.channels_last(xq.data), xq.meta]
    y = windows.carrier(_max_pool, operands, windows.output_shape(x.shape), ACTIVATION)

    gradient = functools.partial(_max_pool_backward, windows, x, xq, y)
    return quantized_result(y, [x], gradient, windows.float_max_pool)


def _max_pool_backward(windows, float_x, x, y, dy):
    dy = tf.convert_to_tensor(dy)
    dyq = carrier_of(dy, GRADIENT)
    operands = [t for q in (dyq, x, y) for t in (windows.channels_last(q.data), q.meta)]
    dx = windows.carrier(_max_pool_gradient, operands, x.data.shape, GRADIENT)
    gradient = functools.partial(_upstream_of_maxima, windows, x, y)
    float_values = functools.partial(_float_backward, windows.float_max_pool, float_x)
    return quantized_result(dx, [dy], gradient, float_values)


def _float_backward(pool, x, dy):
    """The gradient of a pooling operation of TensorFlow at `x`."""
    return float_gradient(pool, [x], [dy])


def _float_average_backward(pool, shapes, data_format, dy):
    """The gradient of an average, the same at every input."""
    x = restored(tf.zeros(shapes[1]), shapes[0], data_format)
    return _float_backward(pool, x, dy)


def _upstream_of_maxima(windows, x, y, ddx):
    """The transpose of the gradient: what `ddx` holds where the maxima are, by TensorFlow."""
    images = [windows.channels_last(t) for t in (dequantized(x), dequantized(y), ddx)]
    arguments = windows.arguments
    ddy = tf.raw_ops.MaxPoolGradGrad(
        orig_input=images[0],
        orig_output=images[1],
        grad=images[2],
        ksize=[1, *arguments["pool_size"], 1],
        strides=[1, *arguments["strides"], 1],
        padding=windows.padding.upper(),
    )
    return restored(ddy, y.data.shape, windows.data_format)


@tf.autograph.experimental.do_not_convert
def average_pool(x, pool_size, strides, padding, data_format):
    """The average of each window, or None if `x` carries no integers; as `max_pool`."""
    if find_carrier(x, ACTIVATION) is None:
        return None
    return _average_pool(_Windows(pool_size, strides, padding, data_format), x)


def _average_pool(windows, x):
    x = tf.convert_to_tensor(x)
    xq = carrier_of(x, ACTIVATION)
    images = windows.channels_last(xq.data)
    y = windows.carrier(_average, [images, xq.meta], windows.output_shape(x.shape), ACTIVATION)
    shapes = x.shape, tf.shape(images)

    gradient = functools.partial(_average_pool_backward, windows, shapes)
    return quantized_result(y, [x], gradient, windows.float_average_pool)


def _average_pool_backward(windows, shapes, dy):
    """`shapes` of the input: as known, and as a tensor in channels-last layout."""
    dy = tf.convert_to_tensor(dy)
    dyq = carrier_of(dy, GRADIENT)
    operands = [windows.channels_last(dyq.data), dyq.meta, shapes[1]]
    dx = windows.carrier(_average_gradient, operands, shapes[0], GRADIENT)

    float_values = functools.partial(
        _float_average_backward, windows.float_average_pool, shapes, windows.data_format
    )
    gradient = functools.partial(_average_pool, windows)
    return quantized_result(dx, [dy], gradient, float_values)


@tf.autograph.experimental.do_not_convert
def global_average_pool(x, data_format, keepdims):
    """The average of each image and channel, or None if `x` carries no integers.

    Args:
        x: float32 tensor (N, H, W, C), (N, C, H, W), (N, L, C) or (N, C, L).
        data_format: "channels_last" or "channels_first".
        keepdims: bool, whether the result keeps the rank of `x`.

    Returns:
        float32 tensor (N, C), or with spatial dimensions of 1; it carries no integers.
    """
    if find_carrier(x, ACTIVATION) is None:
        return None
    y = _global_average(data_format, x)
    if not keepdims:
        return y
    for axis in _spatial_axes(x, data_format):
        y = tf.expand_dims(y, axis)
    return y


def _global_average(data_format, x):
    x = tf.convert_to_tensor(x)
    xq = carrier_of(x, ACTIVATION)
    images = channels_last(xq.data, data_format)
    y = call(_global_mean, [images, xq.meta], [tf.float32])[0]
    shapes = x.shape, tf.shape(images)

    y = set_shape(y, _reduced_shape(x, data_format))
    gradient = functools.partial(_global_average_backward, data_format, shapes)
    float_values = functools.partial(_float_global, tf.reduce_mean, data_format)
    return differentiable(y, [x], gradient, float_values)


def _float_global(reduce, data_format, x):
    return reduce(x, list(_spatial_axes(x, data_format)))


def _global_average_backward(data_format, shapes, dy):
    dy = tf.convert_to_tensor(dy)
    inputs = [shapes[1], *operand(dy, GRADIENT)]
    data, meta = call(_global_mean_gradient, inputs, _CARRIER)
    dx = make_carrier(restored(data, shapes[0], data_format), meta, shapes[0], GRADIENT)

    pool = functools.partial(_float_global, tf.reduce_mean, data_format)
    float_values = functools.partial(_float_average_backward, pool, shapes, data_format)
    gradient = functools.partial(_global_average, data_format)
    return quantized_result(dx, [dy], gradient, float_values)


@tf.autograph.experimental.do_not_convert
def global_max_pool(x, data_format, keepdims):
    """The maximum of each image and channel, or None; as `global_average_pool`, with integers."""
    xq = find_carrier(x, ACTIVATION)
    if xq is None:
        return None
    images = channels_last(xq.data, data_format)
    data, meta = call(_global_max, [images, xq.meta], _CARRIER)
    y = make_carrier(data, meta, _reduced_shape(x, data_format), ACTIVATION)

    gradient = functools.partial(_global_max_backward, data_format, x, xq, y)
    float_values = functools.partial(_float_global, tf.reduce_max, data_format)
    result = quantized_result(y, [x], gradient, float_values)
    if not keepdims:
        return result
    shape = list(x.shape[1:])
    for axis in _spatial_axes(x, data_format):
        shape[axis - 1] = 1
    return reshape(result, shape)


def _global_max_backward(data_format, float_x, x, y, dy):
    dy = tf.convert_to_tensor(dy)
    images = channels_last(x.data, data_format)
    inputs = [images, x.meta, y.data, y.meta, *operand(dy, GRADIENT)]
    data, meta = call(_global_max_gradient, inputs, _CARRIER)
    shape = x.data.shape
    dx = make_carrier(restored(data, shape, data_format), meta, shape, GRADIENT)

    pool = functools.partial(_float_global, tf.reduce_max, data_format)
    gradient = functools.partial(_upstream_of_global_maxima, data_format, x, y)
    float_values = functools.partial(_float_backward, pool, float_x)
    return quantized_result(dx, [dy], gradient, float_values)


def _upstream_of_global_maxima(data_format, x, y, ddx):
    """The transpose of the gradient: the mean of `ddx` where the maxima are, by TensorFlow."""
    maxima = channels_last(x.data, data_format) == y.data[:, None, None]
    maxima = tf.cast(maxima, tf.float32)
    sums = tf.reduce_sum(maxima * channels_last(ddx, data_format), [1, 2])
    return sums / tf.reduce_sum(maxima, [1, 2])


def _reduced_shape(x, data_format):
    channels = x.shape[1 if data_format == "channels_first" else -1]
    return tf.TensorShape([x.shape[0], channels])


def _spatial_axes(x, data_format):
    first = 2 if data_format == "channels_first" else 1
    return range(first, first + x.shape.rank - 2)


def _sizes(shape):
    return tuple(int(size) for size in shape)


def _max_pool(arguments, x, meta):
    hits.add("max_pool")
    return pack(kernels.max_pool(unpack(x, meta), **arguments))


def _max_pool_gradient(arguments, dy, dy_meta, x, x_meta, y, y_meta):
    hits.add("max_pool_backward")
    tensors = unpack(dy, dy_meta), unpack(x, x_meta), unpack(y, y_meta)
    return pack(kernels.max_pool_backward(*tensors, **arguments, bits=GRADIENT.bits))


def _average(arguments, x, meta):
    hits.add("average_pool")
    y = kernels.average_pool(unpack(x, meta), **arguments, bits=ACTIVATION.written_bits)
    return pack(rounded(y, ACTIVATION))


def _average_gradient(arguments, dy, meta, shape):
    hits.add("average_pool_backward")
    dy, shape = unpack(dy, meta), _sizes(shape)
    dx = kernels.average_pool_backward(dy, shape, **arguments, bits=GRADIENT.written_bits)
    return pack(rounded(dx, GRADIENT))


def _global_mean(x, meta):
    hits.add("global_average_pool")
    return [kernels.global_average_pool(unpack(x, meta))]


def _global_mean_gradient(shape, *dy):
    hits.add("global_average_pool_backward")
    dy, shape = from_arrays(*dy), _sizes(shape)
    dx = kernels.global_average_pool_backward(dy, shape, GRADIENT.written_bits)
    return pack(rounded(dx, GRADIENT))


def _global_max(x, meta):
    hits.add("global_max_pool")
    return pack(kernels.global_max_pool(unpack(x, meta)))


def _global_max_gradient(x, x_meta, y, y_meta, *dy):
    hits.add("global_max_pool_backward")
    x, y = unpack(x, x_meta), unpack(y, y_meta)
    dx = kernels.global_max_pool_backward(from_arrays(*dy), x, y, GRADIENT.written_bits)
    return pack(rounded(dx, GRADIENT))
