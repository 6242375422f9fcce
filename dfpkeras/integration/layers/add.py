"""Add."""

import keras

from dfpkeras import ops
from dfpkeras.integration.keras_internals import Merge
from dfpkeras.integration.layer_support import or_not_implemented
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _add(layer, inputs):
    if len(inputs) != 2:
        return NotImplemented
    return or_not_implemented(ops.add(*inputs, number_format=number_format_of(layer)))


register(
    LayerFamily(
        kind="add, concatenate",
        methods=(IntegerMethod(keras.layers.Add, "_merge_function", _add),),
        has_weights=False,
        relatives=(Merge,),
        kernels=("add", "sum_gradients"),
        float32_operations=("AddN",),
        layers="`Add` of two tensors",
        computation="INT16 out, one pass",
    )
)
