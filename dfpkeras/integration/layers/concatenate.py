"""Concatenate."""

import keras

from dfpkeras import ops
from dfpkeras.integration.layer_support import or_not_implemented
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _concatenate(layer, inputs):
    number_format = number_format_of(layer)
    return or_not_implemented(ops.concatenate(inputs, layer.axis, number_format=number_format))


register(
    LayerFamily(
        kind="add, concatenate",
        methods=(IntegerMethod(keras.layers.Concatenate, "_merge_function", _concatenate),),
        has_weights=False,
        kernels=("concatenate", "split"),
        float32_operations=("Concat",),
        layers="`Concatenate`",
        computation="INT16 in and out, if a layer before gave it integers",
    )
)
