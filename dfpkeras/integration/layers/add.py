"""Add."""

import keras

from dfpkeras import ops
from dfpkeras.integration.keras_internals import Merge
from dfpkeras.integration.layer_support import folded
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _add(layer, inputs):
    return folded(ops.add, layer, inputs)


register(
    LayerFamily(
        kind="add, concatenate",
        methods=(IntegerMethod(keras.layers.Add, "_merge_function", _add),),
        has_weights=False,
        multiply_adds=lambda layer, shapes: None if isinstance(layer, keras.layers.Dot) else 0,
        relatives=(Merge,),
        kernels=("add", "sum_gradients"),
        float32_operations=("AddN",),
        layers="`Add`",
        computation="INT16 out, one pass for each tensor after the first",
    )
)
