"""Activations of one argument."""

import keras

from dfpkeras import ops
from dfpkeras.backend import current
from dfpkeras.integration.layer_support import integer_activation
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register
from dfpkeras.kernels.activation import Activation


def _activation_of(layer):
    """The layer's activation, as `dfpkeras.ops.activate` takes it, or None."""
    match layer:
        case keras.layers.ReLU():
            return _relu(layer.negative_slope, layer.max_value, layer.threshold)
        case keras.layers.LeakyReLU():
            return Activation("leaky_relu", layer.negative_slope)
        case keras.layers.ELU():
            return Activation("elu", layer.alpha)
    return integer_activation(layer)


def _relu(negative_slope, max_value, threshold):
    if threshold or (negative_slope and max_value is not None):
        return None
    if negative_slope:
        return Activation("leaky_relu", negative_slope)
    return {None: "relu", 6: "relu6"}.get(max_value)


def _call(layer, inputs):
    if current().unsupported(inputs):
        return NotImplemented
    return ops.activate(inputs, _activation_of(layer), number_format=number_format_of(layer))


def _operation(layer):
    return None if _activation_of(layer) is None else "integers in, integers out"


_CLASSES = (
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.ELU,
    keras.layers.Activation,
)

register(
    LayerFamily(
        kind="activation",
        methods=tuple(IntegerMethod(cls, "call", _call) for cls in _CLASSES),
        has_weights=False,
        operation=_operation,
        relatives=(keras.layers.Softmax,),
        kernels=("activation_",),
        float32_operations=("Relu", "Elu", "Selu", "Softsign", "Tanh"),
        layers="`ReLU`, `LeakyReLU`, `ELU`, `Activation` and `activation=` of a layer: ReLU6, "
        "SELU, SiLU (swish), hard SiLU, hard sigmoid, GELU, Mish, tanh, softsign",
        computation="INT16 out, one pass",
    )
)
