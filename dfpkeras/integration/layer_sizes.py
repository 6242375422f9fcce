"""What a training step multiplies and moves, layer by layer, as far as shapes say."""

import inspect
import math
import typing

import keras

from dfpkeras.integration.keras_internals import inner_layers
from dfpkeras.integration.registry import family_or_relatives

_INT16, _FLOAT32 = 2, 4


class Shapes(typing.NamedTuple):
    """The shapes of a layer's tensors, for a number of images.

    Attributes:
        inputs: tuple of shapes.
        outputs: shape.
    """

    inputs: tuple
    outputs: tuple


class Moved(typing.NamedTuple):
    """Bytes that a training step reads and writes, as INT16 and as FP32."""

    int16: int
    float32: int


def shapes_of(layer, batch_size):
    """Returns the `Shapes` of a layer for a batch, None if a size is unknown.

    They are those of the symbolic tensors of a functional or sequential model, or those that the
    layer was built for.
    """
    inputs = _input_shapes(layer)
    if not inputs:
        return None
    return shapes_for(layer, [_with_batch(shape, batch_size) for shape in inputs])


def shapes_for(layer, inputs):
    """Returns the `Shapes` of a layer, or of an operation of a functional model, for a list of
    shapes of its inputs; None if a size is unknown."""
    if any(None in shape for shape in inputs):
        return None
    if not isinstance(layer, keras.Layer):
        return Shapes(tuple(inputs), _with_batch(layer.output.shape, inputs[0][0]))
    try:
        outputs = _output_shape(layer, inputs)
    except (NotImplementedError, TypeError, ValueError):
        return None
    return None if None in outputs else Shapes(tuple(inputs), tuple(outputs))


def _output_shape(layer, inputs):
    parameters = inspect.signature(layer.compute_output_shape).parameters
    if "query_shape" in parameters:  # Attention takes its tensors one by one, and so their shapes.
        return layer.compute_output_shape(*inputs)
    return layer.compute_output_shape(inputs if len(inputs) > 1 else inputs[0])


def multiply_adds_of(layer, shapes):
    """Returns how many multiply-adds the products of a training step take, by their definition,
    None if unknown: those of forward, and as many for each of the gradients of inputs and weights.

    Args:
        layer: `keras.Layer`.
        shapes: its `Shapes`, or None.
    """
    family = family_or_relatives(layer)
    if family is None:
        return None
    forward = family.multiply_adds(layer, shapes)
    return None if forward is None else 3 * forward


def moved_by(layer, shapes, integer):
    """Returns the `Moved` of a training step, None if unknown.

    Counted are inputs, outputs and weights that a layer reads and writes once in each direction: a
    layer with weights reads inputs and weights and writes outputs; reads the gradient of the
    outputs, inputs and weights, and writes the gradients of inputs and weights. Without weights it
    reads inputs and writes outputs, forward, and the other way round, backward. Where a layer
    computes on integers these are INT16, except the master weights and their gradient. A layer is
    counted once, however often it is called, and without the layers inside. What caches and fused
    passes save is not considered, nor what a layer of unknown kind moves.

    Args:
        layer, shapes: as for `multiply_adds_of`.
        integer: bool, whether the layer computes on integers.
    """
    if isinstance(layer, keras.layers.InputLayer):
        return Moved(0, 0)
    if shapes is None or family_or_relatives(layer) is None:
        return None
    is_layer = isinstance(layer, keras.Layer)
    if is_layer and not layer.built:
        return None
    inputs = sum(map(math.prod, shapes.inputs))
    outputs = math.prod(shapes.outputs)
    trained = _own_trainable_weights(layer) if is_layer else ()
    weights = sum(math.prod(weight.shape) for weight in trained)
    passes = 3 if weights else 2
    tensors = passes * inputs + 2 * outputs
    if integer:
        # Weights are quantised once, from the master weights.
        return Moved(_INT16 * (tensors + 2 * weights), _FLOAT32 * 2 * weights)
    return Moved(0, _FLOAT32 * (tensors + 3 * weights))


def _own_trainable_weights(layer):
    """Those of a layer itself, not of the layers inside, which have sizes of their own."""
    inside = {id(w) for inner in inner_layers(layer) for w in inner.trainable_weights}
    return [weight for weight in layer.trainable_weights if id(weight) not in inside]


def _input_shapes(layer):
    try:
        inputs = layer.input
    except (AttributeError, ValueError):  # It was not called on symbolic tensors, or several times.
        built_for = (layer.get_build_config() or {}).get("input_shape") if layer.built else None
        if not built_for:
            return None
        return [built_for] if not isinstance(built_for[0], (tuple, list)) else built_for
    return [tuple(x.shape) for x in keras.tree.flatten(inputs)]


def _with_batch(shape, batch_size):
    return (batch_size, *shape[1:])
