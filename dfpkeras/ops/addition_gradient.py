"""The gradients of a sum of two tensors, fused with another operation or not, and of whatever else
may broadcast an unknown number of images."""

import functools

import numpy as np

from dfpkeras.backend import current
from dfpkeras.kernels.tensor_format import quantize_to
from dfpkeras.ops.kernel_arguments import pack, unpack
from dfpkeras.ops.views import (
    attach_view,
    find_integers,
    make_view,
    named_view,
    quantized_result,
    view_dtypes,
    view_of,
)


def may_have_one_shape(a, b):
    """Whether an operation on two tensors broadcasts no dimension except, perhaps, an unknown
    number of images."""
    backend = current()
    if backend.unsupported(a) or backend.unsupported(b):
        return False
    shape = tuple(a.shape)
    return None not in shape[1:] and shape == tuple(b.shape)


def addition_gradient(a, b, number_format, dy):
    """The gradients of the operands of a sum: `dy`, as `of_images` has it."""
    formats = number_format.activation, number_format.gradient
    dy = _summed(dy, number_format.gradient)
    return [of_images(dy, x, formats) for x in (a, b)]


def _summed(dy, tensor_format):
    """`dy`; where the framework added it up, with the value of its integers. In a row of residual
    blocks, whose gradients are each a summand of the next one, a float32 value that somebody reads
    at the end would otherwise have all of them computed in float32, too."""
    if current().summands(dy) is None:
        return dy
    return quantized_result(view_of(dy, tensor_format), [dy], lambda ddy: ddy, lambda dy: dy)


def of_images(dy, x, formats):
    """The gradient of an operand that may have been broadcast along the images: `dy`, or, where the
    number of images of `x` is unknown, its sum over the images if `x` had only one.

    Args:
        dy: float32 tensor.
        x: float32 tensor, the operand.
        formats: the `TensorFormat` of `x` and that of `dy`.
    """
    if not len(x.shape) or x.shape[0] is not None:
        return dy
    found = find_integers(x, formats[0])
    images = current().sizes(x if found is None else found.data)[0]
    return _sum_over_images(current().as_tensor(dy), images, formats[1])


def _sum_over_images(dy, images, tensor_format):
    """Reads no float32 value of `dy` unless somebody reads that of the result."""
    backend, dyq = current(), view_of(dy, tensor_format)

    def summed():
        kernel = functools.partial(_sum_over_images_kernel, tensor_format)
        data, scale = backend.call(kernel, named_view("dy", dyq), view_dtypes())
        total = backend.float32_operations.sum(dy, 0, keepdims=True)
        return total, backend.with_shape(data, dy.shape), scale

    dx, data, scale = backend.select(
        images == backend.sizes(dyq.data)[0], lambda: (dy, dyq.data, dyq.scale), summed
    )
    view = make_view(data, scale, dy.shape, tensor_format)
    return attach_view(backend.with_shape(dx, dy.shape), view)


def _sum_over_images_kernel(tensor_format, dy, dy_scale):
    total = unpack(dy, dy_scale).dequantize().sum(0, dtype=np.float64, keepdims=True)
    return pack(quantize_to(total.astype(np.float32), tensor_format))
