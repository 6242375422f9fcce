"""UpSampling to the nearest pixel, and RepeatVector, which upsamples one pixel."""

import math

import keras

from dfpkeras import ops
from dfpkeras.integration.layer_support import or_not_implemented
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register
from dfpkeras.kernels.pooling import MOST_WINDOW_PIXELS


def _call(layer, inputs):
    size = layer.size if isinstance(layer.size, tuple) else (layer.size,)
    data_format = getattr(layer, "data_format", "channels_last")  # UpSampling1D has none
    return _upsample(layer, inputs, size, data_format)


def _call_repeat_vector(layer, inputs):
    shape = (1, -1 if inputs.shape[1] is None else inputs.shape[1])
    pixels = ops.reshape(inputs, shape, number_format=number_format_of(layer))
    return NotImplemented if pixels is None else _upsample(layer, pixels, (layer.n,))


def _upsample(layer, inputs, size, data_format="channels_last"):
    if math.prod(size) > MOST_WINDOW_PIXELS:
        return NotImplemented
    number_format = number_format_of(layer)
    outputs = ops.upsample(inputs, size, data_format=data_format, number_format=number_format)
    return or_not_implemented(outputs)


def _operation(layer):
    is_nearest = getattr(layer, "interpolation", "nearest") == "nearest"
    return "integers in, integers out" if is_nearest else None


register(
    LayerFamily(
        kind="other",
        methods=(
            IntegerMethod(keras.layers.UpSampling1D, "call", _call),
            IntegerMethod(keras.layers.UpSampling2D, "call", _call),
            IntegerMethod(keras.layers.RepeatVector, "call", _call_repeat_vector),
        ),
        has_weights=False,
        operation=_operation,
        kernels=("upsample", "sum_pool"),
        layers="`UpSampling2D` to the nearest pixel, `UpSampling1D`, `RepeatVector`",
        computation="INT16 in and out, if the layer before gave them integers",
    )
)
