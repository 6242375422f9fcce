"""The layer of ConvNeXt that multiplies channels by a vector."""

from dfpkeras import ops
from dfpkeras.integration.keras_internals import LayerScale
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _call(layer, x):
    if len(x.shape) < 2:
        return NotImplemented
    return ops.scale_channels(x, layer.gamma, number_format=number_format_of(layer))


register(
    LayerFamily(
        kind="other",
        methods=(IntegerMethod(LayerScale, "call", _call, inputs=("x",)),),
        has_weights=True,
        operation=lambda layer: "product of channels",
        layers="`LayerScale` of `keras.applications.ConvNeXtTiny` and larger ones",
        computation="INT16 out, forward and backward",
    )
)
