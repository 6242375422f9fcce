"""LayerNormalization."""

import keras

from dfpkeras import ops
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _call(layer, inputs):
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    if axes not in ([-1], [len(inputs.shape) - 1]):
        return NotImplemented
    return ops.layer_norm(
        inputs,
        layer.gamma if layer.scale else None,
        layer.beta if layer.center else None,
        epsilon=layer.epsilon,
        number_format=number_format_of(layer),
    )


def _operation(layer):
    return None if getattr(layer, "rms_scaling", False) else "layer normalisation"


register(
    LayerFamily(
        kind="layer norm",
        methods=(IntegerMethod(keras.layers.LayerNormalization, "call", _call),),
        has_weights=True,
        operation=_operation,
        relatives=(keras.layers.UnitNormalization,),
        kernels=("layer_norm_",),
        layers="`LayerNormalization` of the last dimension",
        computation="INT16 out, forward and backward",
    )
)
