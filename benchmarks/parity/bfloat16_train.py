"""``dfpkeras`` whose convolution and dense layers round to bfloat16 under the policy float32.

    python benchmarks/parity/bfloat16_train.py train --policy float32 ...

As under PyTorch's autocast, the layers round their operands, their results and the gradients of
both to bfloat16; the sums within them, batch norm, loss, optimizer and weights stay float32. So
does the bias, which is added to the rounded result. Keras' own mixed_bfloat16 cannot be used: the
command's top-k metric does not take bfloat16.
"""

import sys

import keras
import tensorflow as tf

from dfpkeras.cli.main import main


def rounded(x):
    """Returns `x`, rounded to bfloat16, as float32; its gradient is rounded in the same way."""
    return tf.cast(tf.cast(x, tf.bfloat16), tf.float32)


def with_rounding(product):
    """Returns a method like `product(layer, inputs, kernel)` that rounds all three tensors."""

    def rounding_product(layer, inputs, kernel):
        return rounded(product(layer, rounded(inputs), rounded(kernel)))

    return rounding_product


def dense_product(layer, inputs, kernel):
    return keras.ops.matmul(inputs, kernel)


def dense_call(layer, inputs, training=None):
    """Keras' `Dense.call`, in which the product is no method that could be replaced alone."""
    x = with_rounding(dense_product)(layer, inputs, layer.kernel)
    if layer.bias is not None:
        x = keras.ops.add(x, layer.bias)
    return x if layer.activation is None else layer.activation(x)


def replace_products():
    """Has every `Conv2D` and `Dense` round from now on."""
    keras.layers.Conv2D.convolution_op = with_rounding(keras.layers.Conv2D.convolution_op)
    keras.layers.Dense.call = dense_call


if __name__ == "__main__":
    replace_products()
    sys.exit(main(sys.argv[1:]))
