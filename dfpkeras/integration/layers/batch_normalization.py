"""BatchNormalization."""

import keras

from dfpkeras import ops
from dfpkeras.integration.layer_support import transposed
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _call(layer, inputs, training=None, mask=None):
    if mask is not None or not isinstance(training, bool | None):
        return NotImplemented
    if layer.axis in (-1, len(inputs.shape) - 1):
        return _normalize(layer, inputs, training)
    axes = [axis for axis in range(len(inputs.shape)) if axis != layer.axis % len(inputs.shape)]
    axes.append(layer.axis % len(inputs.shape))
    outputs = _normalize(layer, transposed(layer, inputs, axes), training)
    return transposed(layer, outputs, [axes.index(axis) for axis in range(len(axes))])


def _normalize(layer, inputs, training):
    training = bool(training and layer.trainable)
    outputs, mean, variance = ops.batch_norm(
        inputs,
        layer.gamma if layer.scale else None,
        layer.beta if layer.center else None,
        layer.moving_mean,
        layer.moving_variance,
        epsilon=layer.epsilon,
        training=training,
        number_format=number_format_of(layer),
    )
    if training:
        for moving, latest in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            moving.assign(moving * layer.momentum + latest * (1.0 - layer.momentum))
    return outputs


def _operation(layer):
    renorm = getattr(layer, "renorm", False)  # since Keras 3.14
    return None if renorm or layer.synchronized else "batch normalisation"


register(
    LayerFamily(
        kind="batch norm",
        methods=(IntegerMethod(keras.layers.BatchNormalization, "call", _call),),
        has_weights=True,
        operation=_operation,
        kernels=("batch_norm_",),
        float32_operations=("FusedBatchNorm",),
        layers="`BatchNormalization` without a mask, renorm or synchronisation; fused with an "
        "activation and an `Add` of two tensors after it",
        computation="INT16 out, forward and backward, one fused pass",
    )
)
