"""Maximum and Minimum."""

import functools

import keras

from dfpkeras import ops
from dfpkeras.integration.keras_internals import has_mask
from dfpkeras.integration.layer_support import folded
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _extremum(operation, layer, inputs):
    return NotImplemented if has_mask(inputs) else folded(operation, layer, inputs)


register(
    LayerFamily(
        kind="add, concatenate",
        methods=(
            IntegerMethod(
                keras.layers.Maximum, "_merge_function", functools.partial(_extremum, ops.maximum)
            ),
            IntegerMethod(
                keras.layers.Minimum, "_merge_function", functools.partial(_extremum, ops.minimum)
            ),
        ),
        has_weights=False,
        kernels=("maximum", "minimum"),
        layers="`Maximum`, `Minimum`",
        computation="INT16 in and out, if a layer before gave one of two tensors integers",
    )
)
