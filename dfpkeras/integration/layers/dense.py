"""Dense."""

import keras

from dfpkeras import ops
from dfpkeras.integration.layer_support import activated, of_product, products_per_output
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _call(layer, inputs, training=None):
    kernel = layer.kernel
    outputs = ops.matmul(inputs, kernel, layer.bias, **of_product(layer, kernel))
    return activated(layer, outputs)


register(
    LayerFamily(
        kind="dense",
        methods=(IntegerMethod(keras.layers.Dense, "call", _call),),
        has_weights=True,
        operation=lambda layer: "matrix product",
        multiply_adds=products_per_output(lambda layer: layer.kernel.shape[0]),
        least_multiply_adds=10_000_000,
        kernels=("dense_",),
        float32_operations=("MatMul",),
        layers="`Dense` and subclasses of it",
        computation="INT16 kernels in all three directions",
    )
)
