"""Average and Subtract."""

import keras

from dfpkeras import ops
from dfpkeras.integration.layer_support import or_not_implemented
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _average(layer, inputs):
    return _sum(layer, inputs, [1 / len(inputs)] * len(inputs))


def _subtract(layer, inputs):
    return _sum(layer, inputs, (1.0, -1.0)) if len(inputs) == 2 else NotImplemented


def _sum(layer, inputs, factors):
    number_format = number_format_of(layer)
    return or_not_implemented(ops.weighted_sum(inputs, factors, number_format=number_format))


register(
    LayerFamily(
        kind="add, concatenate",
        methods=(
            IntegerMethod(keras.layers.Average, "_merge_function", _average),
            IntegerMethod(keras.layers.Subtract, "_merge_function", _subtract),
        ),
        has_weights=False,
        kernels=("weighted_sum",),
        layers="`Average`, `Subtract`",
        computation="INT16 in and out, one pass, if a layer before gave one of them integers",
    )
)
