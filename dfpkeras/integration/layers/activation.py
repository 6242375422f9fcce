"""Activations of one argument."""

import keras

from dfpkeras import ops
from dfpkeras.backend import current
from dfpkeras.integration.layer_support import integer_activation
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register
from dfpkeras.kernels.activation import Activation


def _call_relu(layer, inputs):
    if layer.threshold or (layer.negative_slope and layer.max_value is not None):
        return NotImplemented
    if layer.negative_slope:
        return _activate(layer, inputs, Activation("leaky_relu", layer.negative_slope))
    return _activate(layer, inputs, {None: "relu", 6: "relu6"}.get(layer.max_value))


def _call_leaky_relu(layer, inputs):
    return _activate(layer, inputs, Activation("leaky_relu", layer.negative_slope))


def _call_elu(layer, inputs):
    return _activate(layer, inputs, Activation("elu", layer.alpha))


def _call_activation(layer, inputs):
    return _activate(layer, inputs, integer_activation(layer))


def _activate(layer, inputs, activation):
    if activation is None or current().unsupported(inputs):
        return NotImplemented
    return ops.activate(inputs, activation, number_format=number_format_of(layer))


register(
    LayerFamily(
        kind="activation",
        methods=(
            IntegerMethod(keras.layers.ReLU, "call", _call_relu),
            IntegerMethod(keras.layers.LeakyReLU, "call", _call_leaky_relu),
            IntegerMethod(keras.layers.ELU, "call", _call_elu),
            IntegerMethod(keras.layers.Activation, "call", _call_activation),
        ),
        has_weights=False,
        relatives=(keras.layers.PReLU, keras.layers.Softmax),
        kernels=("activation_",),
        float32_operations=("Relu", "Elu", "Selu", "Softsign", "Tanh"),
        layers="`ReLU`, `LeakyReLU`, `ELU`, `Activation` and `activation=` of a layer: ReLU6, "
        "SELU, SiLU (swish), hard SiLU, hard sigmoid, GELU, Mish, tanh, softsign",
        computation="INT16 out, one pass",
    )
)
