"""Layers that are too small to gain from integers.

A call of a kernel takes some 0.1 ms more than an operation of the framework, whatever its size. So
a layer that does little stays float32, unless its input is in integers already: going back to
float32 and to integers again would cost more calls. `benchmarks/small_layers.py` measures from
which size on integers gain.
"""

import math
import weakref

import keras

from dfpkeras.integration.layer_sizes import shapes_for
from dfpkeras.integration.policy import number_format_of, routing_of
from dfpkeras.ops.views import find_integers

#: Numbers in the input from which a layer without products gains.
LEAST_NUMBERS = 8_192

#: Keras' own number of images in a batch, for calls that are traced for any number.
_BATCH_SIZE = 32

_sizes: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def why_too_small(family, layer, inputs):
    """Says why a call is too small to gain from integers, or returns None.

    Args:
        family: `LayerFamily`.
        layer: `keras.Layer`, of a policy "dfp16"; or an operation of a functional model, which
            computes on integers only if its inputs are.
        inputs: tensors that it is called with, whose sizes may be unknown: of such images it is
            not said to be too small.
    """
    is_layer = isinstance(layer, keras.Layer)
    if not is_layer or routing_of(layer).small_layers == "int16":
        return None
    tensors = keras.tree.flatten(inputs)
    tensor_format = number_format_of(layer).activation
    if any(find_integers(x, tensor_format) is not None for x in tensors):
        return None
    return _why_shapes_are_too_small(family, layer, tuple(tuple(x.shape) for x in tensors))


def _why_shapes_are_too_small(family, layer, shapes):
    known = _sizes.setdefault(layer, {})
    if shapes not in known:
        known[shapes] = _reason(family, layer, [_with_batch(shape) for shape in shapes])
    return known[shapes]


def _reason(family, layer, shapes):
    if any(None in shape for shape in shapes):
        return None
    work = family.multiply_adds(layer, shapes_for(layer, shapes))
    if work is None:
        return None
    if work:
        return _comparison(work, family.least_multiply_adds, "multiply-adds")
    return _comparison(sum(map(math.prod, shapes)), LEAST_NUMBERS, "numbers")


def _comparison(found, least, of):
    if found >= least:
        return None
    return f"its latest call was too small to gain: {found:,} {of}, integers gain from {least:,}"


def _with_batch(shape):
    return (_BATCH_SIZE, *shape[1:]) if shape and shape[0] is None else shape
