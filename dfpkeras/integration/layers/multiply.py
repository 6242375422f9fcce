"""Multiply."""

import keras

from dfpkeras import ops
from dfpkeras.integration.keras_internals import has_mask
from dfpkeras.integration.layer_support import folded
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _multiply(layer, inputs):
    return NotImplemented if has_mask(inputs) else folded(ops.multiply, layer, inputs)


register(
    LayerFamily(
        kind="add, concatenate",
        methods=(IntegerMethod(keras.layers.Multiply, "_merge_function", _multiply),),
        has_weights=False,
        kernels=("multiply", "sum_products"),
        layers="`Multiply` of one shape, or of channels by a number each (squeeze-and-excite)",
        computation="INT16 in and out, if a layer before gave integers to the larger tensor, "
        "or to one of one shape",
    )
)
