"""PReLU."""

import keras

from dfpkeras import ops
from dfpkeras.integration.layer_support import or_not_implemented
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _call(layer, inputs):
    number_format = number_format_of(layer)
    return or_not_implemented(ops.prelu(inputs, layer.alpha, number_format=number_format))


register(
    LayerFamily(
        kind="activation",
        methods=(IntegerMethod(keras.layers.PReLU, "call", _call),),
        has_weights=False,
        kernels=("prelu_",),
        layers="`PReLU`, with any `shared_axes`",
        computation="INT16 in and out, forward and backward, if the layer before gave it integers",
    )
)
