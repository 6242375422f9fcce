"""EinsumDense, and so the projections of MultiHeadAttention and GroupQueryAttention."""

import math
import typing

import keras

from dfpkeras import ops
from dfpkeras.integration.layer_support import activated, of_product, products_per_output
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


class _Sizes(typing.NamedTuple):
    """How many of the last dimensions of the input, and of the first of the weights, are summed
    over, and how many dimensions of the output follow."""

    inner: int
    outer: int


def _as_matrix_product(equation):
    """The `_Sizes` of an equation that multiplies the last dimensions of its input by a matrix, or
    None: "abc,cde->abde" and "...x,xy->...y" do, "abc,ce->aeb" does not."""
    operands, _, result = equation.replace(" ", "").partition("->")
    x, _, w = operands.partition(",")
    inner = len(set(w) - set(result))
    summed, kept = w[:inner], w[inner:]
    fits = len(set(w)) == len(w) and summed and kept and x.endswith(summed)
    if not fits or result != x.removesuffix(summed) + kept or set(kept) & set(x):
        return None
    return _Sizes(inner, len(kept))


def _call(layer, inputs, training=None):
    sizes = _as_matrix_product(layer.equation)
    kernel, shape = layer.kernel, tuple(layer.kernel.shape)
    rows, columns = math.prod(shape[: sizes.inner]), math.prod(shape[sizes.inner :])
    before = tuple(inputs.shape)[: -sizes.inner]
    if before.count(None) > 1:
        before = tuple(keras.ops.shape(inputs))[: -sizes.inner]
    bias = layer.bias
    is_fused = bias is not None and tuple(bias.shape) == shape[sizes.inner :]
    outputs = ops.matmul(
        inputs if sizes.inner == 1 else _images_as_matrix(layer, inputs, (*before, rows)),
        kernel if len(shape) == 2 else keras.ops.reshape(kernel, (rows, columns)),
        keras.ops.reshape(bias, (columns,)) if is_fused else None,
        **of_product(layer, kernel),
    )
    if sizes.outer > 1:
        outputs = keras.ops.reshape(outputs, _known((*before, *shape[sizes.inner :])))
    return activated(layer, outputs if is_fused or bias is None else keras.ops.add(outputs, bias))


def _images_as_matrix(layer, x, shape):
    """`x` in a shape that starts with the same dimension, with its integers if it has any."""
    moved = ops.reshape(x, _known(shape[1:]), number_format=number_format_of(layer))
    return keras.ops.reshape(x, _known(shape)) if moved is None else moved


def _known(shape):
    return tuple(-1 if size is None else size for size in shape)


def _operation(layer):
    return "matrix product" if _as_matrix_product(layer.equation) else None


def _products(layer):
    operands, _, result = layer.equation.replace(" ", "").partition("->")
    w = operands.partition(",")[2]
    pairs = zip(w, layer.kernel.shape, strict=True)
    return math.prod(size for name, size in pairs if name not in result)


register(
    LayerFamily(
        kind="dense",
        methods=(IntegerMethod(keras.layers.EinsumDense, "call", _call),),
        has_weights=True,
        operation=_operation,
        multiply_adds=products_per_output(_products),
        kernels=("dense_",),
        float32_operations=("Einsum",),
        layers="`EinsumDense` over the last dimensions of its input, as in "
        "`MultiHeadAttention` and `GroupQueryAttention`",
        computation="INT16 kernels in all three directions",
    )
)
