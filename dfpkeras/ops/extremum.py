"""Differentiable maximum and minimum of two tensors, element by element."""

import functools

from dfpkeras import kernels
from dfpkeras.backend import current
from dfpkeras.kernels.tensor_format import round_to
from dfpkeras.ops.addition_gradient import may_have_one_shape, of_images
from dfpkeras.ops.kernel_arguments import broadcast, from_arrays, pack
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.operation import operation
from dfpkeras.ops.views import (
    attach_view,
    call_for_view,
    dequantized,
    differentiable_in_float32,
    find_integers,
    gradient_operand,
    make_view,
    named_operand,
    quantized_result,
    view_dtypes,
)


@operation
def maximum(a, b, *, number_format):
    """The larger of two numbers.

    Args:
        a, b: float32 tensors.
        number_format: `NumberFormat`.

    Returns:
        float32 tensor with a quantised view; or None if shapes differ, or might in more than an
        unknown number of images, or neither tensor has integers.
    """
    return _extremum("maximum", a, b, number_format)


@operation
def minimum(a, b, *, number_format):
    """The smaller of two numbers, or None; as `maximum`."""
    return _extremum("minimum", a, b, number_format)


def _extremum(name, a, b, number_format):
    backend, tensor_format = current(), number_format.activation
    if not may_have_one_shape(a, b):
        return None
    a, b = backend.in_scope(a), backend.in_scope(b)
    if all(find_integers(x, tensor_format) is None for x in (a, b)):
        return None
    operands = named_operand("a", a, tensor_format) | named_operand("b", b, tensor_format)
    kernel = functools.partial(_kernel, name, tensor_format)
    y = call_for_view(kernel, operands, a.shape, tensor_format)

    gradient = functools.partial(_gradients, name, a, b, operands, number_format)
    return quantized_result(y, [a, b], gradient, _float32(name))


def _gradients(name, a, b, operands, number_format, dy):
    backend, tensor_format = current(), number_format.gradient
    dy = backend.as_tensor(dy)
    kernel = functools.partial(_gradient_kernel, name, tensor_format)
    arrays = {**operands, **gradient_operand("dy", dy, tensor_format)}
    results = backend.call(kernel, arrays, view_dtypes() * 2)
    views = [make_view(*results[i : i + 2], dy.shape, tensor_format) for i in (0, 2)]

    def float32_values(dy):
        shape = backend.sizes(dy)
        whole = [backend.broadcast_to(x, shape) for x in (a, b)]
        return current().float32_gradient(_float32(name), whole, [dy])

    values = [dequantized(view) for view in views]
    results = differentiable_in_float32(values, [dy], float32_values)
    results = [attach_view(dx, view) for dx, view in zip(results, views, strict=True)]
    formats = number_format.activation, tensor_format
    return [of_images(dx, x, formats) for dx, x in zip(results, (a, b), strict=True)]


def _float32(name):
    """The backend's own function."""
    return getattr(current().float32_operations, f"{name}_of_two")


def _kernel(name, tensor_format, a, b, a_scale=None, b_scale=None):
    hits.add(name)
    a, b = broadcast(from_arrays(a, a_scale), from_arrays(b, b_scale))
    return pack(round_to(getattr(kernels, name)(a, b, tensor_format.written_bits), tensor_format))


def _gradient_kernel(name, tensor_format, a, b, dy, a_scale=None, b_scale=None, dy_scale=None):
    hits.add(f"{name}_backward")
    a, b = broadcast(from_arrays(a, a_scale), from_arrays(b, b_scale))
    backward, dy = getattr(kernels, f"{name}_backward"), from_arrays(dy, dy_scale)
    gradients = backward(dy, a, b, tensor_format.written_bits)
    return [array for gradient in gradients for array in pack(round_to(gradient, tensor_format))]
