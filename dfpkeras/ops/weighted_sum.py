"""Differentiable sums of tensors, each times a number: differences and averages."""

import functools

from dfpkeras import kernels
from dfpkeras.backend import current
from dfpkeras.kernels.tensor_format import round_to
from dfpkeras.ops.addition_gradient import may_have_one_shape, of_images
from dfpkeras.ops.kernel_arguments import broadcast, from_arrays, pack
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.operation import operation
from dfpkeras.ops.views import call_for_view, find_integers, gradient_operand, quantized_result


@operation
def weighted_sum(tensors, factors, *, number_format):
    """A sum of tensors, each times a number.

    Args:
        tensors: list of float32 tensors.
        factors: as many floats, which are rounded to FP32.
        number_format: `NumberFormat`.

    Returns:
        float32 tensor with a quantised view; or None if shapes differ, or might in more than an
        unknown number of images, or no tensor has integers.
    """
    backend = current()
    if not all(may_have_one_shape(tensors[0], x) for x in tensors):
        return None
    tensors = [backend.in_scope(x) for x in tensors]
    if all(find_integers(x, number_format.activation) is None for x in tensors):
        return None
    formats = number_format.activation, number_format.gradient
    return _sum(tuple(factors), formats, *tensors)


def _sum(factors, formats, *tensors):
    """`formats`: the `TensorFormat` of the tensors, and that of their gradients."""
    tensors = [current().as_tensor(x) for x in tensors]
    operands = [list(gradient_operand("x", x, formats[0]).values()) for x in tensors]
    kernel = functools.partial(_kernel, factors, [len(arrays) for arrays in operands], formats[0])
    arrays = [array for arrays in operands for array in arrays]
    y = call_for_view(kernel, arrays, tensors[0].shape, formats[0])
    gradient = functools.partial(_gradients, factors, formats, tensors)
    return quantized_result(y, tensors, gradient, functools.partial(_float32_sum, factors))


def _gradients(factors, formats, tensors, dy):
    """Operands of one factor share a gradient."""
    backwards = formats[::-1]
    scaled = {factor: _scaled(factor, backwards, dy) for factor in set(factors)}
    return [
        of_images(scaled[factor], x, formats) for factor, x in zip(factors, tensors, strict=True)
    ]


def _scaled(factor, formats, dy):
    return dy if factor == 1 else _sum((factor,), formats, dy)


def _float32_sum(factors, *tensors):
    terms = [x * factor for x, factor in zip(tensors, factors, strict=True)]
    return functools.reduce(lambda total, term: total + term, terms)


def _kernel(factors, lengths, tensor_format, *arrays):
    hits.add("weighted_sum")
    arrays = iter(arrays)
    tensors = [from_arrays(*(next(arrays) for _ in range(length))) for length in lengths]
    y = kernels.weighted_sum(broadcast(*tensors), factors, tensor_format.written_bits)
    return pack(round_to(y, tensor_format))
