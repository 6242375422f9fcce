"""Differentiable products of two tensors' matrices, written as Einstein sums."""

import functools

from dfpkeras import kernels
from dfpkeras.backend import current
from dfpkeras.kernels.einsum import Labels, parse
from dfpkeras.ops.kernel_arguments import factor
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.operation import operation
from dfpkeras.ops.views import view_of


@operation
def einsum(equation, a, b, *, number_format):
    """Integer products of matrices of two tensors, differentiable to any order.

    Args:
        equation: see `dfpkeras.kernels.einsum`.
        a, b: float32 tensors, both of the format of activations.
        number_format: `NumberFormat`.

    Returns:
        float32 tensor; or None if the kernel does not take the equation or a tensor.
    """
    backend, labels = current(), parse(equation)
    if labels is None or backend.unsupported(a) or backend.unsupported(b):
        return None
    a, b = backend.in_scope(a), backend.in_scope(b)
    if (len(a.shape), len(b.shape)) != (len(labels.a), len(labels.b)):
        return None
    formats = (number_format.activation, number_format.activation, number_format.gradient)
    return _product("einsum_forward", labels, formats, number_format.flush_every, a, b)


def _product(name, labels, formats, flush_every, a, b):
    """The sums of products; `formats` are those of a, b, and what arrives as the gradient of the
    result. The gradients are sums of the same kind, and so are theirs."""
    operands = [view_of(a, formats[0]), view_of(b, formats[1])]
    equation = f"{labels.a},{labels.b}->{labels.c}"
    roles = [view.format.role for view in operands]
    kernel = functools.partial(_multiply, name, equation, roles, flush_every)
    arrays = [array for view in operands for array in (view.data, view.scale)]
    (c,) = current().call(kernel, arrays, [current().float32])

    def gradient(dc):
        dc = current().as_tensor(dc)
        of_a, of_b, of_c = formats
        to_a = Labels(labels.c, labels.b, labels.a), (of_c, of_b, of_a)
        to_b = Labels(labels.a, labels.c, labels.b), (of_a, of_c, of_b)
        return [
            _product("einsum_backward", *to_a, flush_every, dc, b),
            _product("einsum_backward", *to_b, flush_every, a, dc),
        ]

    def float32_values(a, b):
        return current().float32_operations.einsum(equation, a, b)

    sizes = dict(zip(labels.a + labels.b, (*a.shape, *b.shape), strict=True))
    sizes |= {label: n for label, n in zip(labels.a, a.shape, strict=True) if n is not None}
    c = current().with_shape(c, [sizes[label] for label in labels.c])
    return current().differentiable(c, [a, b], gradient, float32_values)


def _multiply(name, equation, roles, flush_every, a, a_scale, b, b_scale):
    hits.add(name)
    a, b = factor(roles[0], a, a_scale), factor(roles[1], b, b_scale)
    return [kernels.einsum(equation, a, b, flush_every)]
