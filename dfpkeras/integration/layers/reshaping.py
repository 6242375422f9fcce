"""Flatten, Reshape and Permute."""

import math

import keras

from dfpkeras import ops
from dfpkeras.integration.layer_support import or_not_implemented
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _call_flatten(layer, inputs):
    number_format, rank = number_format_of(layer), len(inputs.shape)
    if layer.data_format == "channels_first" and rank > 2:
        axes = (0, *range(2, rank), 1)
        inputs = ops.transpose(inputs, axes, number_format=number_format)
    if inputs is None or rank < 2:
        return NotImplemented
    sizes = tuple(inputs.shape)[1:]
    shape = (-1 if None in sizes else math.prod(sizes),)
    return or_not_implemented(ops.reshape(inputs, shape, number_format=number_format))


def _call_reshape(layer, inputs):
    sizes = layer.compute_output_shape(tuple(inputs.shape))[1:]
    shape = [-1 if size is None else size for size in sizes]
    return or_not_implemented(ops.reshape(inputs, shape, number_format=number_format_of(layer)))


def _call_permute(layer, inputs):
    moved = ops.transpose(inputs, (0, *layer.dims), number_format=number_format_of(layer))
    return or_not_implemented(moved)


# Keras' layers that move numbers, or compute on each by itself.
_RELATIVES = (
    keras.layers.InputLayer,
    keras.layers.Identity,
    keras.layers.Rescaling,
    keras.layers.Normalization,
    keras.layers.GaussianNoise,
)

register(
    LayerFamily(
        kind="other",
        methods=(
            IntegerMethod(keras.layers.Flatten, "call", _call_flatten),
            IntegerMethod(keras.layers.Reshape, "call", _call_reshape),
            IntegerMethod(keras.layers.Permute, "call", _call_permute),
        ),
        has_weights=False,
        relatives=_RELATIVES,
        layers="`Flatten`, `Reshape`, `Permute`",
        computation="INT16 in and out, if the layer before gave them integers",
    )
)
