"""Differentiable integer product of a tensor and a matrix."""

import dataclasses
import functools

from dfpkeras.backend import current
from dfpkeras.kernels.matrix_product import matmul as matmul_kernel
from dfpkeras.kernels.number_format import NumberFormat
from dfpkeras.ops.bias_gradient import sum_channels
from dfpkeras.ops.bilinear import (
    BilinearProduct,
    Forward,
    Shape,
    call_forward,
    data_of,
    forward_of_layer,
    quantized_weights,
    weights_operands,
)
from dfpkeras.ops.kernel_arguments import factor
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.operation import operation


@operation
def matmul(x, w, bias=None, *, number_format, variable=None, training=None):
    """Integer product of (..., K) and (K, M), differentiable to any order.

    Args:
        x: float32 tensor of rank >= 2, last dimension K.
        w: float32 tensor or variable (K, M).
        bias: float32 tensor or variable (M,) that is added, or None.
        number_format: `NumberFormat`.
        variable, training: see `dfpkeras.ops.kept_weights.quantizer_of`.

    Returns:
        float32 tensor (..., M).
    """
    return forward_of_layer(_MatrixProduct(number_format), x, w, bias, variable, training)


@dataclasses.dataclass(frozen=True)
class _MatrixProduct(BilinearProduct):
    """The three products of a matrix product over the last dimension of the input."""

    number_format: NumberFormat

    def forward(self, x, w, bias, quantizer):
        backend, (inner, units) = current(), data_of(w).shape
        operands = {"x": _matrix(x.data, inner), "x_scale": x.scale, **weights_operands(w), **bias}
        kernel = functools.partial(_forward, quantizer, self.number_format.flush_every)
        (y,), weights = call_forward(
            kernel, operands, w, [backend.float32], self.number_format.weights
        )
        known = (*x.data.shape[:-1], units)
        if len(known) != 2:
            sizes = backend.sizes(x.data)
            y = backend.reshape(y, [*(sizes[i] for i in range(len(known) - 1)), units])
        return Forward(backend.with_shape(y, known), None, weights)

    def backward_data(self, dy, w, x_shape):
        dy = dy._replace(data=_matrix(dy.data, w.data.shape[1]))
        dx = self._product("dense_backward_data", {"transpose_b": True}, dy, w)
        dx = current().reshape(dx, x_shape.sizes)
        return current().with_shape(dx, x_shape.known), None

    def backward_weights(self, x, dy, w_shape):
        x = x._replace(data=_matrix(x.data, w_shape[0]))
        dy = dy._replace(data=_matrix(dy.data, w_shape[1]))
        dw = self._product("dense_backward_weights", {"transpose_a": True}, x, dy)
        return current().with_shape(dw, w_shape)

    def bias_gradient(self, dy):
        known = dy.channel_sums
        return sum_channels(dy.data, dy.scale) if known is None else known

    def broadcast_bias(self, bias, sizes):
        return current().broadcast_to(bias, sizes)

    def shape_of(self, x):
        return Shape(x.data.shape, current().sizes(x.data))

    def zeros(self, x_shape):
        return current().with_shape(current().zeros(x_shape.sizes), x_shape.known)

    def float32_forward(self, x, w, bias=None):
        y = current().float32_operations.matmul(x, w)
        return y if bias is None else y + bias

    def _product(self, name, transposed, a, b):
        roles, flush_every = (a.format.role, b.format.role), self.number_format.flush_every
        kernel = functools.partial(_multiply, name, roles, transposed, flush_every)
        operands = [a.data, a.scale, b.data, b.scale]
        return current().call(kernel, operands, [current().float32])[0]


def _matrix(data, columns):
    return data if len(data.shape) == 2 else current().reshape(data, [-1, columns])


def _forward(quantizer, flush_every, x, x_scale, w, w_scale=None, bias=None):
    hits.add("dense_forward")
    w, made = quantized_weights(quantizer, w, w_scale)
    x = factor("activation", x, x_scale)
    return [matmul_kernel(x, w, flush_every=flush_every, bias=bias), *made]


def _multiply(name, roles, transposed, flush_every, a, a_scale, b, b_scale):
    hits.add(name)
    a, b = factor(roles[0], a, a_scale), factor(roles[1], b, b_scale)
    return [matmul_kernel(a, b, **transposed, flush_every=flush_every)]
