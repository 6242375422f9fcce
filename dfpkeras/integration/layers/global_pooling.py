"""GlobalAveragePooling and GlobalMaxPooling."""

import math

import keras

from dfpkeras import ops
from dfpkeras.integration.layer_support import or_not_implemented, spatial_sizes
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register
from dfpkeras.kernels.pooling import MOST_WINDOW_PIXELS


def _call_average(layer, inputs, mask=None):
    if mask is not None:
        return NotImplemented
    return or_not_implemented(ops.global_average_pool(inputs, **_arguments(layer)))


def _call_max(layer, inputs):
    sizes = spatial_sizes(layer, inputs)
    if None in sizes or math.prod(sizes) > MOST_WINDOW_PIXELS:
        return NotImplemented
    return or_not_implemented(ops.global_max_pool(inputs, **_arguments(layer)))


def _arguments(layer):
    return {
        "data_format": layer.data_format,
        "keepdims": layer.keepdims,
        "number_format": number_format_of(layer),
    }


register(
    LayerFamily(
        kind="pooling",
        methods=(
            IntegerMethod(keras.layers.GlobalAveragePooling1D, "call", _call_average),
            IntegerMethod(keras.layers.GlobalAveragePooling2D, "call", _call_average),
            IntegerMethod(keras.layers.GlobalAveragePooling3D, "call", _call_average),
            IntegerMethod(keras.layers.GlobalMaxPooling1D, "call", _call_max),
            IntegerMethod(keras.layers.GlobalMaxPooling2D, "call", _call_max),
            IntegerMethod(keras.layers.GlobalMaxPooling3D, "call", _call_max),
        ),
        has_weights=False,
        kernels=("global_average_pool", "global_max_pool"),
        layers="`GlobalAveragePooling2D`, `GlobalMaxPooling2D` and their 1-D and 3-D forms",
        computation="INT16 in, if the layer before gave them integers; averages are float32",
    )
)
