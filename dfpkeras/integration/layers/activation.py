"""ReLU and Activation."""

import keras

from dfpkeras import ops
from dfpkeras.backend import current
from dfpkeras.integration.layer_support import activated, integer_activation
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _call_relu(layer, inputs):
    activation = {None: "relu", 6: "relu6"}.get(layer.max_value)
    is_plain = not layer.negative_slope and not layer.threshold and activation is not None
    if not is_plain or current().unsupported(inputs):
        return NotImplemented
    return ops.activate(inputs, activation, number_format=number_format_of(layer))


def _call_activation(layer, inputs):
    if integer_activation(layer) is None or current().unsupported(inputs):
        return NotImplemented
    return activated(layer, inputs)


register(
    LayerFamily(
        kind="activation",
        methods=(
            IntegerMethod(keras.layers.ReLU, "call", _call_relu),
            IntegerMethod(keras.layers.Activation, "call", _call_activation),
        ),
        has_weights=False,
        relatives=(keras.layers.Softmax,),
        kernels=("activation_",),
        float32_operations=("Relu",),
        layers="`ReLU`, ReLU6 (also as `activation=` of a layer)",
        computation="INT16 out, one pass",
    )
)
