"""TensorFlow's own operations on float32 tensors, used where kernels cannot run.

Images are channels-last, the only layout that TensorFlow convolves and pools on every CPU.
"""

import functools

import keras
import tensorflow as tf

rsqrt = tf.math.rsqrt
moments = tf.nn.moments
mean = tf.reduce_mean
maximum = tf.reduce_max
sum = tf.reduce_sum
concatenate = tf.concat
split = tf.split
pad = tf.pad
relu = tf.nn.relu
repeat = tf.repeat
maximum_of_two = tf.maximum
minimum_of_two = tf.minimum
matmul = keras.ops.matmul
einsum = keras.ops.einsum


def activation(name, alpha):
    """The function that `dfpkeras.kernels.activation.Activation` describes."""
    parameters = {
        "elu": {"alpha": alpha},
        "leaky_relu": {"negative_slope": alpha},
        "gelu": {"approximate": False},
        "gelu_tanh": {"approximate": True},
    }
    function = getattr(keras.activations, name.removesuffix("_tanh"))
    return functools.partial(function, **parameters.get(name, {}))


def convolution(x, w, groups, **arguments):
    """Convolution; depthwise where `groups` is None."""
    if groups is None:
        return keras.ops.depthwise_conv(x, w, **arguments, data_format="channels_last")
    return keras.ops.conv(x, w, **arguments, data_format="channels_last")


def transposed_convolution(x, w, groups, **arguments):
    """Transposed convolution, of one group."""
    return keras.ops.conv_transpose(x, w, **arguments, data_format="channels_last")


def max_pool(x, **arguments):
    """The maximum of each window."""
    return keras.ops.max_pool(x, **arguments, data_format="channels_last")


def average_pool(x, **arguments):
    """The average of each window."""
    return keras.ops.average_pool(x, **arguments, data_format="channels_last")


def sum_pool(x, size):
    """The sum of each window; windows lie side by side."""
    return average_pool(x, pool_size=size, strides=size, padding="valid") * (size[0] * size[1])


def values_at_maxima(x, y, values, pool_size, strides, padding):
    """What `values`, of the shape of `x`, holds where the maxima `y` of windows of `x` are."""
    kernel = tf.raw_ops.MaxPoolGradGrad if len(pool_size) == 2 else tf.raw_ops.MaxPool3DGradGrad
    return kernel(
        orig_input=x,
        orig_output=y,
        grad=values,
        ksize=[1, *pool_size, 1],
        strides=[1, *strides, 1],
        padding=padding.upper(),
    )


def mean_where_equal(values, x, y):
    """The mean over pixels of `values` (N, ..., C) where `x` equals `y` (N, C)."""
    axes = list(range(1, len(x.shape) - 1))
    y = functools.reduce(tf.expand_dims, [1] * len(axes), y)
    equal = tf.cast(x == y, tf.float32)
    return tf.reduce_sum(equal * values, axes) / tf.reduce_sum(equal, axes)
