"""Add."""

import keras

from dfpkeras import ops
from dfpkeras.integration.keras_internals import Merge
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _add(layer, inputs):
    total, *others = inputs
    for other in others:
        total = ops.add(total, other, number_format=number_format_of(layer))
        if total is None:
            return NotImplemented
    return total


register(
    LayerFamily(
        kind="add, concatenate",
        methods=(IntegerMethod(keras.layers.Add, "_merge_function", _add),),
        has_weights=False,
        relatives=(Merge,),
        kernels=("add", "sum_gradients"),
        float32_operations=("AddN",),
        layers="`Add`",
        computation="INT16 out, one pass for each tensor after the first",
    )
)
