"""EinsumDense, and so the projections of MultiHeadAttention and GroupQueryAttention."""

import math
import typing

import keras

from dfpkeras import ops
from dfpkeras.integration.layer_support import (
    activated,
    of_product,
    products_per_output,
    transposed,
)
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


class _Labels(typing.NamedTuple):
    """The dimensions of an equation, in the order of the operands of a matrix product: `rows` of
    the input alone, `shared` ones, of which each index has a product of its own, `summed` ones and
    `kept` ones of the weights alone."""

    rows: tuple
    shared: tuple
    summed: tuple
    kept: tuple


class _Product(typing.NamedTuple):
    """A matrix product, and how to transpose for it: the input to (rows, shared, summed), the
    weights to (summed, shared, kept), and the result from (rows, shared, kept)."""

    labels: _Labels
    x_axes: tuple
    w_axes: tuple
    y_axes: tuple


def _labels_of(equation, elided=1):
    """The labels of the three tensors of an equation, with so many more for an ellipsis."""
    operands, _, y = equation.replace(" ", "").replace("...", ".").partition("->")
    x, _, w = operands.partition(",")
    more = tuple(f".{i}" for i in range(elided))
    return [
        tuple(label for name in tensor for label in (more if name == "." else (name,)))
        for tensor in (x, w, y)
    ]


def _as_matrix_product(x, w, y):
    """The `_Labels` of an equation that is a matrix product of its transposed operands, for each
    index of what all three tensors have; or None, as where nothing is summed over, a label occurs
    twice or is summed over in one operand alone, or the weights have all of the input's."""
    in_one_operand = set(x) ^ set(w)
    if any(len(set(t)) < len(t) for t in (x, w, y)) or not in_one_operand <= set(y):
        return None
    labels = _Labels(
        rows=tuple(label for label in x if label not in w),
        shared=tuple(label for label in x if label in w and label in y),
        summed=tuple(label for label in x if label in w and label not in y),
        kept=tuple(label for label in y if label not in x),
    )
    return labels if labels.rows and labels.summed else None


def _product(layer, rank):
    """The `_Product` of a layer for an input of that rank, or None."""
    letters = len(_labels_of(layer.equation, 0)[0])
    x, w, y = _labels_of(layer.equation, rank - letters)
    labels = _as_matrix_product(x, w, y)
    if labels is None:
        return None
    rows, shared, summed, kept = labels
    result = rows + shared + kept
    return _Product(
        labels,
        tuple(map(x.index, rows + shared + summed)),
        tuple(map(w.index, summed + shared + kept)),
        tuple(map(result.index, y)),
    )


def _call(layer, inputs, training=None):
    product = _product(layer, len(inputs.shape))
    if product is None:
        return NotImplemented
    labels, x = product.labels, transposed(layer, inputs, product.x_axes)
    kernel = layer.kernel
    if product.w_axes != tuple(range(len(product.w_axes))):
        kernel = keras.ops.transpose(kernel, product.w_axes)
    sizes = tuple(x.shape)[: len(labels.rows)]
    if sizes.count(None) > 1:
        sizes = tuple(keras.ops.shape(x))[: len(labels.rows)]
    _, columns = _as_columns(labels, kernel)
    bias = _bias_of_columns(layer, product, columns)
    multiply = _multiply_each if labels.shared else _multiply
    outputs = multiply(layer, labels, x, kernel, sizes, bias)
    if len(sizes) + len(columns) != len(outputs.shape) or labels.shared:
        outputs = keras.ops.reshape(outputs, _known((*sizes, *columns)))
    outputs = transposed(layer, outputs, product.y_axes)
    if bias is None and layer.bias is not None:
        outputs = keras.ops.add(outputs, layer.bias)
    return activated(layer, outputs)


def _multiply(layer, labels, x, kernel, sizes, bias):
    inner, columns = _as_columns(labels, kernel)
    outer = math.prod(columns)
    return ops.matmul(
        x if len(labels.summed) == 1 else _with_shape(layer, x, (*sizes, inner)),
        kernel if len(labels.kept) == len(labels.summed) == 1 else _reshaped(kernel, inner, outer),
        bias,
        **of_product(layer, kernel),
    )


def _multiply_each(layer, labels, x, kernel, sizes, bias):
    """A product for each shared index: the kernels run them as the groups of a convolution of
    sequences with a kernel of one tap."""
    inner, columns = _as_columns(labels, kernel)
    groups = math.prod(columns[: len(labels.shared)])
    first, *others = sizes
    steps = math.prod(others) if all(isinstance(size, int) for size in others) else -1
    return ops.convolution(
        _with_shape(layer, x, (first, steps, groups * inner)),
        _reshaped(kernel, 1, inner, math.prod(columns)),
        bias,
        strides=(1,),
        padding="valid",
        dilation_rate=(1,),
        groups=groups,
        data_format="channels_last",
        **of_product(layer, kernel),
    )


def _as_columns(labels, kernel):
    """How many numbers a product sums, and the sizes of the columns."""
    shape, summed = tuple(kernel.shape), len(labels.summed)
    return math.prod(shape[:summed]), shape[summed:]


def _reshaped(kernel, *shape):
    return keras.ops.reshape(kernel, shape)


def _bias_of_columns(layer, product, columns):
    """The bias of each column of the product, or None if it differs between rows."""
    labels = product.labels
    if layer.bias is None or not set(layer.bias_axes) <= {*labels.shared, *labels.kept}:
        return None
    missing = len(product.y_axes) - len(layer.bias.shape)
    bias = _reshaped(layer.bias, *(1,) * missing, *layer.bias.shape)
    order = sorted(range(len(product.y_axes)), key=product.y_axes.__getitem__)
    bias = keras.ops.transpose(bias, order)
    bias = _reshaped(bias, *tuple(bias.shape)[len(labels.rows) :])
    return _reshaped(keras.ops.broadcast_to(bias, columns), math.prod(columns))


def _with_shape(layer, x, shape):
    """`x` in a shape that starts with the same dimension, with its integers if it has any."""
    moved = ops.reshape(x, _known(shape[1:]), number_format=number_format_of(layer))
    return keras.ops.reshape(x, _known(shape)) if moved is None else moved


def _known(shape):
    return tuple(-1 if size is None else size for size in shape)


def _operation(layer):
    labels = _as_matrix_product(*_labels_of(layer.equation))
    return "matrix product" if labels else None


def _products(layer):
    _, w, y = _labels_of(layer.equation)
    pairs = zip(w, layer.kernel.shape, strict=True)
    return math.prod(size for label, size in pairs if label not in y)


register(
    LayerFamily(
        kind="dense",
        methods=(IntegerMethod(keras.layers.EinsumDense, "call", _call),),
        has_weights=True,
        operation=_operation,
        multiply_adds=products_per_output(_products),
        least_multiply_adds=10_000_000,
        kernels=("dense_",),
        float32_operations=("Einsum",),
        layers="`EinsumDense` whose equation is a matrix product of its transposed operands, or "
        "one for each index that they share; and so the projections of `MultiHeadAttention` and "
        "`GroupQueryAttention`",
        computation="INT16 kernels in all three directions",
    )
)
