"""Multiply."""

import keras

from dfpkeras import ops
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _multiply(layer, inputs):
    product, *others = inputs
    if any(getattr(x, "_keras_mask", None) is not None for x in inputs):
        return NotImplemented
    for other in others:
        product = ops.multiply(product, other, number_format=number_format_of(layer))
        if product is None:
            return NotImplemented
    return product


register(
    LayerFamily(
        kind="add, concatenate",
        methods=(IntegerMethod(keras.layers.Multiply, "_merge_function", _multiply),),
        has_weights=False,
        kernels=("multiply", "sum_products"),
        layers="`Multiply` of one shape, or of channels by a number each (squeeze-and-excite)",
        computation="INT16 in and out, if a layer before gave the larger tensor integers",
    )
)
