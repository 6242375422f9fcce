"""GroupNormalization."""

import keras

from dfpkeras import ops
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _call(layer, inputs):
    rank = len(inputs.shape)
    if layer.axis not in (-1, rank - 1) or rank < 2 or None in inputs.shape[1:]:
        return NotImplemented
    return ops.group_norm(
        inputs,
        layer.groups,
        layer.gamma,
        layer.beta,
        epsilon=layer.epsilon,
        number_format=number_format_of(layer),
    )


register(
    LayerFamily(
        kind="layer norm",
        methods=(IntegerMethod(keras.layers.GroupNormalization, "call", _call),),
        has_weights=True,
        operation=lambda layer: "group normalisation",
        kernels=("group_norm_",),
        layers="`GroupNormalization` of the last dimension, of images of known size",
        computation="INT16 out, forward and backward",
    )
)
