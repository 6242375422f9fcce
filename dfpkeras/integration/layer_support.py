"""Helpers of several families of layers, for calling operations."""

import math

import keras

from dfpkeras import ops
from dfpkeras.integration.keras_internals import training_of_current_call
from dfpkeras.integration.policy import number_format_of
from dfpkeras.kernels.activation import Activation

# Sigmoid and softplus stay float32: what reads them may take the logarithm of a number near 0.
_ACTIVATIONS = (
    *((getattr(keras.activations, name), name) for name in ("relu", "relu6", "elu", "selu")),
    *((getattr(keras.activations, name), name) for name in ("silu", "hard_silu", "gelu", "mish")),
    *((getattr(keras.activations, name), name) for name in ("tanh", "softsign", "hard_sigmoid")),
    (keras.activations.leaky_relu, Activation("leaky_relu", 0.2)),
)


def of_product(layer, kernel):
    """The arguments of a bilinear operation that do not depend on its kind.

    Args:
        layer: `keras.Layer`.
        kernel: Keras variable or tensor, the weights.
    """
    return {
        "number_format": number_format_of(layer),
        "variable": kernel if isinstance(kernel, keras.Variable) else None,
        "training": training_of_current_call(),
    }


def bias_of(layer):
    """The layer's bias, or None."""
    return layer.bias if layer.use_bias else None


def integer_activation(layer):
    """A layer's activation, as `dfpkeras.ops.activate` takes it, if it runs on integers, or None.

    By identity: a user's own activation may be an object that cannot be hashed or compared.
    """
    return next((name for f, name in _ACTIVATIONS if layer.activation is f), None)


def activated(layer, outputs):
    """`outputs` after the layer's own activation."""
    activation = integer_activation(layer)
    if activation is not None:
        return ops.activate(outputs, activation, number_format=number_format_of(layer))
    return outputs if layer.activation is None else layer.activation(outputs)


def folded(operation, layer, inputs):
    """An operation of two tensors, of any number of them: the first two, then their result and the
    next one. NotImplemented where it returns None."""
    total, *others = inputs
    for other in others:
        total = operation(total, other, number_format=number_format_of(layer))
        if total is None:
            return NotImplemented
    return total


def or_not_implemented(result):
    """Operations return None for tensors that have no quantised view, methods NotImplemented."""
    return NotImplemented if result is None else result


def spatial_sizes(layer, inputs):
    """The sizes of images or sequences, None where unknown."""
    return inputs.shape[1:-1] if layer.data_format == "channels_last" else inputs.shape[2:]


def input_sizes(layer):
    """The sizes of the images that a layer of a functional model gets, None if unknown."""
    try:
        sizes = tuple(spatial_sizes(layer, layer.input))
    except (AttributeError, ValueError):  # It was not called on symbolic tensors, or several times.
        return None
    return None if None in sizes else sizes


def products_per_output(products):
    """The `multiply_adds` of a family, from a function of its layer: how many products a number of
    the output is the sum of, None if unknown."""

    def multiply_adds(layer, shapes):
        of_output = products(layer) if layer.built else None
        known = shapes is not None and of_output is not None
        return math.prod(shapes.outputs) * of_output if known else None

    return multiply_adds


def transposed(layer, x, axes):
    """`x` with its dimensions in another order, together with its integers if it has any."""
    if tuple(axes) == tuple(range(len(axes))):
        return x
    moved = ops.transpose(x, axes, number_format=number_format_of(layer))
    return keras.ops.transpose(x, axes) if moved is None else moved


def pairs_of_borders(borders):
    """((before, after), ...) for each spatial dimension, a form that Keras' 1-D layers lack."""
    return borders if isinstance(borders[0], tuple) else (borders,)
