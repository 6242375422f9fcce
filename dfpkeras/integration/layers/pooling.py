"""MaxPooling and AveragePooling."""

import math

from dfpkeras import ops
from dfpkeras.integration.keras_internals import BasePooling
from dfpkeras.integration.layer_support import or_not_implemented, spatial_sizes
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register
from dfpkeras.kernels.pooling import MOST_WINDOW_PIXELS


def _call(layer, inputs):
    padding = layer.padding.lower()
    few_pixels = math.prod(layer.pool_size) <= MOST_WINDOW_PIXELS
    if not few_pixels or min(layer.strides) < 1:
        return NotImplemented
    pairs = zip(spatial_sizes(layer, inputs), layer.pool_size, strict=True)
    if padding == "valid" and any(size is not None and size < window for size, window in pairs):
        return NotImplemented  # an error or an empty result, depending on Keras' version
    pool = ops.max_pool if layer.pool_mode == "max" else ops.average_pool
    outputs = pool(
        inputs,
        pool_size=layer.pool_size,
        strides=layer.strides,
        padding=padding,
        data_format=layer.data_format,
        number_format=number_format_of(layer),
    )
    return or_not_implemented(outputs)


register(
    LayerFamily(
        kind="pooling",
        methods=(IntegerMethod(BasePooling, "call", _call),),
        has_weights=False,
        kernels=("max_pool", "average_pool"),
        float32_operations=("MaxPool", "AvgPool"),
        layers="`MaxPooling2D`, `AveragePooling2D` and their 1-D and 3-D forms",
        computation="INT16 in and out, if the layer before gave them integers",
    )
)
