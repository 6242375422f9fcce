"""Differentiable products of tensors, element by element."""

import functools
import operator

from dfpkeras import kernels
from dfpkeras.backend import current
from dfpkeras.kernels.tensor_format import round_to
from dfpkeras.ops.addition_gradient import may_have_one_shape, of_images
from dfpkeras.ops.kernel_arguments import broadcast_images, from_arrays, pack
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.operation import operation
from dfpkeras.ops.views import (
    attach_view,
    call_for_view,
    dequantized,
    differentiable_in_float32,
    find_integers,
    gradient_operand,
    named_operand,
    quantized_result,
)


@operation
def multiply(a, b, *, number_format):
    """A product.

    Args:
        a, b: float32 tensors of one shape; or one of them has one number for all pixels of a
            channel or of an image, such as the result of squeeze-and-excite.
        number_format: `NumberFormat`.

    Returns:
        float32 tensor of the larger shape, with a quantised view; or None if shapes do not fit, or
        the larger tensor has no integers. Of one shape, neither of them.
    """
    backend = current()
    if backend.unsupported(a) or backend.unsupported(b):
        return None
    a, b = backend.in_scope(a), backend.in_scope(b)
    if _is_factor(a, b):
        a, b = b, a
    larger = [a] if _is_factor(b, a) else [a, b]
    if len(larger) == 2 and not may_have_one_shape(a, b):
        return None
    if all(find_integers(x, number_format.activation) is None for x in larger):
        return None
    return _multiply(a, b, number_format)


@operation
def multiply_by(x, make_factor, *, number_format):
    """A product by a constant that is made for it: only `x` has a gradient.

    Args:
        x: float32 tensor.
        make_factor: function of the number of images, a scalar tensor, that returns the factor: see
            `multiply`. It is called if `x` has integers.
        number_format: `NumberFormat`.

    Returns:
        As `multiply`.
    """
    backend = current()
    if backend.unsupported(x):
        return None
    x = backend.in_scope(x)
    integers = find_integers(x, number_format.activation)
    if integers is None:
        return None
    # Not those of x, whose float32 value nobody may need.
    factor = make_factor(backend.sizes(integers.data)[0])
    if not _is_factor(factor, x) and not may_have_one_shape(x, factor):
        return None
    y = _product(x, factor, number_format)
    gradient = functools.partial(_gradient_of_constant, factor, number_format)
    return quantized_result(y, [x], gradient, lambda x: x * factor)


@operation
def scale_channels(x, factors, *, number_format):
    """A product by a vector, whether `x` has integers or not.

    Args:
        x: float32 tensor (N, ..., channels).
        factors: float32 tensor or variable (channels,).
        number_format: `NumberFormat`.

    Returns:
        float32 tensor of the shape of `x`, with a quantised view.
    """
    backend = current()
    shape = [*(1 for _ in x.shape[1:]), x.shape[-1]]
    factors = backend.reshape(backend.in_scope(factors), shape)
    return _multiply(backend.in_scope(x), factors, number_format)


def _gradient_of_constant(factor, number_format, dy):
    return _times(current().as_tensor(dy), factor, number_format)


def _is_factor(factor, x):
    """Whether `factor` has one number for all pixels of `x`, and `x` several pixels."""
    factor, x = tuple(factor.shape), tuple(x.shape)
    if len(factor) != len(x) or len(x) < 3 or any(size != 1 for size in factor[1:-1]):
        return False
    fits = factor[0] in (1, x[0]) and factor[-1] in (1, x[-1])
    return fits and x[-1] is not None and x[1:-1] != factor[1:-1]


def _multiply(a, b, number_format):
    y = _product(a, b, number_format)
    gradient = functools.partial(_gradients, a, b, number_format)
    return quantized_result(y, [a, b], gradient, operator.mul)


def _product(a, b, number_format):
    tensor_format = number_format.activation
    operands = named_operand("a", a, tensor_format) | named_operand("b", b, tensor_format)
    kernel = functools.partial(_product_kernel, tensor_format)
    return call_for_view(kernel, operands, a.shape, tensor_format)


def _gradients(a, b, number_format, dy):
    dy = current().as_tensor(dy)
    # As the gradient is bilinear in dy and the factors, float32 products have its derivatives.
    formats = number_format.activation, number_format.gradient
    da = of_images(_times(dy, b, number_format), a, formats)
    if tuple(a.shape) == tuple(b.shape):
        return [da, of_images(_times(dy, a, number_format), b, formats)]
    return [da, _summed(dy, a, b, number_format)]


def _times(dy, factor, number_format):
    """dy * factor, with its view."""
    tensor_format = number_format.gradient
    operands = gradient_operand("a", dy, tensor_format)
    operands |= named_operand("b", factor, number_format.activation)
    kernel = functools.partial(_product_kernel, tensor_format)
    view = call_for_view(kernel, operands, dy.shape, tensor_format)
    values = dequantized(view)
    return attach_view(differentiable_in_float32(values, [dy, factor], operator.mul), view)


def _summed(dy, x, factor, number_format):
    """The gradient of a factor: float32, the sums of dy * x."""
    backend = current()
    operands = gradient_operand("a", dy, number_format.gradient)
    operands |= named_operand("b", x, number_format.activation)
    operands["shape"] = backend.sizes(factor)
    (sums,) = backend.call(_sums_kernel, operands, [backend.float32])

    def float32_values(dy, x):
        return backend.float32_gradient(lambda f: x * f, [factor], [dy])[0]

    return differentiable_in_float32(
        backend.with_shape(sums, factor.shape), [dy, x], float32_values
    )


def _product_kernel(tensor_format, a, b, a_scale=None, b_scale=None):
    hits.add("multiply")
    a, b = broadcast_images(from_arrays(a, a_scale), from_arrays(b, b_scale))
    return pack(round_to(kernels.multiply(a, b, tensor_format.written_bits), tensor_format))


def _sums_kernel(a, b, shape, a_scale=None, b_scale=None):
    hits.add("sum_products")
    a, b = broadcast_images(from_arrays(a, a_scale), from_arrays(b, b_scale))
    return [kernels.sum_products(a, b, tuple(int(size) for size in shape))]
