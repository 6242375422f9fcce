"""Dropout of elements, and of whole images or channels."""

import keras

from dfpkeras import ops
from dfpkeras.integration.keras_internals import BaseSpatialDropout
from dfpkeras.integration.layer_support import or_not_implemented
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _call(layer, inputs, training=False):
    shape = layer.noise_shape or (None, *inputs.shape[1:])
    return NotImplemented if None in shape[1:] else _drop(layer, inputs, shape, training)


def _call_spatial(layer, inputs, training=False):
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return NotImplemented
    shape = (None, *(1 for _ in inputs.shape[1:-1]), inputs.shape[-1])
    return _drop(layer, inputs, shape, training)


def _drop(layer, inputs, shape, training):
    """Multiplies what is kept by 1 / (1 - rate), with the random numbers that Keras draws."""
    if not training or not layer.rate:
        return inputs
    if layer.rate == 1:
        return NotImplemented

    def factors(images):
        ones = keras.ops.ones((images if shape[0] is None else shape[0], *shape[1:]))
        return keras.random.dropout(ones, layer.rate, seed=layer.seed_generator)

    product = ops.multiply_by(inputs, factors, number_format=number_format_of(layer))
    return or_not_implemented(product)


def _operation(layer):
    shape = tuple(layer.noise_shape or ())
    is_of_channels = len(shape) > 2 and set(shape[1:-1]) == {1} and isinstance(shape[-1], int)
    fits = isinstance(layer, BaseSpatialDropout) or is_of_channels or not shape
    return "integers in, integers out" if fits else None


register(
    LayerFamily(
        kind="dropout",
        methods=(
            IntegerMethod(keras.layers.Dropout, "call", _call),
            IntegerMethod(BaseSpatialDropout, "call", _call_spatial),
        ),
        has_weights=False,
        operation=_operation,
        layers="`Dropout`, of elements or with a `noise_shape` of images or channels, "
        "`SpatialDropout2D` and its 1-D and 3-D forms",
        computation="INT16 in and out, if the layer before gave it integers",
    )
)
