"""ZeroPadding and Cropping."""

import keras

from dfpkeras import ops
from dfpkeras.integration.layer_support import or_not_implemented, pairs_of_borders
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _call_zero_padding(layer, inputs):
    outputs = ops.zero_pad(
        inputs,
        pairs_of_borders(layer.padding),
        data_format=layer.data_format,
        number_format=number_format_of(layer),
    )
    return or_not_implemented(outputs)


def _call_cropping(layer, inputs):
    """Cropping1D has no data format, and is channels-last."""
    data_format = getattr(layer, "data_format", "channels_last")
    cropping, first = pairs_of_borders(layer.cropping), 2 if data_format == "channels_first" else 1
    sizes = inputs.shape[first : first + len(cropping)]
    if any(size is None or sum(pair) >= size for size, pair in zip(sizes, cropping, strict=True)):
        return NotImplemented  # Keras raises its own error if the sizes are known
    number_format = number_format_of(layer)
    outputs = ops.crop(inputs, cropping, data_format=data_format, number_format=number_format)
    return or_not_implemented(outputs)


register(
    LayerFamily(
        kind="other",
        methods=(
            IntegerMethod(keras.layers.ZeroPadding1D, "call", _call_zero_padding),
            IntegerMethod(keras.layers.ZeroPadding2D, "call", _call_zero_padding),
            IntegerMethod(keras.layers.ZeroPadding3D, "call", _call_zero_padding),
            IntegerMethod(keras.layers.Cropping1D, "call", _call_cropping),
            IntegerMethod(keras.layers.Cropping2D, "call", _call_cropping),
            IntegerMethod(keras.layers.Cropping3D, "call", _call_cropping),
        ),
        has_weights=False,
        kernels=("zero_pad", "crop"),
        layers="`ZeroPadding2D`, `Cropping2D` and their 1-D and 3-D forms",
        computation="INT16 in and out, if the layer before gave them integers",
    )
)
