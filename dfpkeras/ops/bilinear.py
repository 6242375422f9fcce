"""Convolutions and matrix products, which are linear in both operands.

With ``y = F(x, w)`` the gradients are ``dx = D(dy, w)`` and ``dw = W(x, dy)``, and each of the
three is again differentiable in terms of the other two. They are written here as three functions
that call each other, so gradients of any order run on the integer kernels.

A gradient that goes to backward-data, to backward-weights and, where the framework passes on the
same tensor, to the previous operation is quantised once.
"""

import abc
import functools
import typing

from dfpkeras.backend import current
from dfpkeras.kernels.number_format import NumberFormat
from dfpkeras.ops.channel_ranges import ChannelRange, remember_channel_range
from dfpkeras.ops.kept_weights import quantize_weights, quantizer_of
from dfpkeras.ops.kernel_arguments import factor, pack
from dfpkeras.ops.views import (
    BlocksView,
    QuantizedView,
    attach_blocks,
    attach_view,
    find_view,
    make_view,
    named_view,
    view_dtypes,
    view_of,
)
from dfpkeras.runtime import kernel_observers


class Forward(typing.NamedTuple):
    """The outputs of a forward product: its float32 result, the `BlocksView` of that or None, the
    view of the weights, which it quantises if necessary, and the `ChannelRange` of the result or
    None."""

    y: typing.Any
    blocks: BlocksView | None
    weights: QuantizedView
    channel_range: ChannelRange | None = None


class Shape(typing.NamedTuple):
    """Shape of an operation's input: as far as known, and as a tensor."""

    known: typing.Any
    sizes: typing.Any


class BilinearProduct(abc.ABC):
    """The three products (forward, backward-data, backward-weights) of one kind of layer, in the
    layer's own layout.

    Attributes:
        number_format: `NumberFormat` of the layer.
    """

    number_format: NumberFormat

    @abc.abstractmethod
    def forward(self, x, w, bias, quantizer):
        """Returns `Forward` of views `x` and `w`, which may be float32 weights for `quantizer`;
        `bias` is a dict of operands."""

    @abc.abstractmethod
    def backward_data(self, dy, w, x_shape):
        """The float32 gradient of `x` from views `dy` and `w`, and its `BlocksView` or None;
        `x_shape` is a `Shape`."""

    @abc.abstractmethod
    def backward_weights(self, x, dy, w_shape):
        """The float32 gradient of `w`, whose shape is known."""

    @abc.abstractmethod
    def bias_gradient(self, dy):
        """The sums of view `dy` over all but the channels, float32."""

    @abc.abstractmethod
    def broadcast_bias(self, bias, sizes):
        """`bias` for each pixel of a result of these sizes."""

    @abc.abstractmethod
    def shape_of(self, x):
        """The `Shape` of view `x`."""

    @abc.abstractmethod
    def zeros(self, x_shape):
        """An input of zeros."""

    @abc.abstractmethod
    def float32_forward(self, x, w, bias=None):
        """The product by the backend's own float32 operations."""


def forward_of_layer(product, x, w, bias, variable, training):
    """A layer's product with its weights, differentiable to any order.

    Args:
        product: `BilinearProduct`.
        x: float32 tensor.
        w: float32 tensor or variable.
        bias: float32 tensor or variable that is added, or None.
        variable, training: see `quantizer_of`.
    """
    backend = current()
    quantizer = quantizer_of(variable, training, product.number_format.weights)
    bias = None if bias is None else backend.in_scope(bias)
    return _forward(product, backend.in_scope(x), backend.in_scope(w), bias, quantizer)


def _forward(product, x, w, bias=None, quantizer=None):
    formats = product.number_format
    quantizer = quantizer or functools.partial(quantize_weights, formats.weights)
    xq = view_of(x, formats.activation)
    made = product.forward(xq, find_view(w, formats.weights) or w, _named("bias", bias), quantizer)
    wq, x_shape = made.weights, product.shape_of(xq)

    def gradient(dy):
        dy = current().as_tensor(dy)  # the gradient of a gather may be sparse
        dyq = view_of(dy, formats.gradient)
        dx = _backward_data(product, dy, dyq, w, wq, x_shape)
        dw = _backward_weights(product, x, xq, dy, dyq, w.shape, x_shape)
        return [dx, dw] if bias is None else [dx, dw, _bias_gradient(product, dy, dyq)]

    inputs = [x, attach_view(w, wq), *_named("bias", bias).values()]
    y = current().differentiable(made.y, inputs, gradient, product.float32_forward)
    y = _with_blocks(y, made.blocks)
    return y if made.channel_range is None else remember_channel_range(y, made.channel_range)


def _with_blocks(y, blocks):
    return y if blocks is None else attach_blocks(y, blocks)


def _named(name, x):
    return {} if x is None else {name: x}


def _backward_data(product, dy, dyq, w, wq, x_shape):
    def gradient(ddx):
        ddx = current().as_tensor(ddx)
        ddxq = view_of(ddx, product.number_format.activation)
        return [
            _forward(product, ddx, w),
            _backward_weights(product, ddx, ddxq, dy, dyq, w.shape, x_shape),
        ]

    def float32_values(dy, w):
        x = product.zeros(x_shape)
        return current().float32_gradient(lambda x: product.float32_forward(x, w), [x], [dy])

    dx, blocks = product.backward_data(dyq, wq, x_shape)
    dx = current().differentiable(dx, [dy, w], gradient, float32_values)
    return _with_blocks(dx, blocks)


def _backward_weights(product, x, xq, dy, dyq, w_shape, x_shape):
    def gradient(ddw):
        ddw = current().as_tensor(ddw)
        ddwq = view_of(ddw, product.number_format.weights)
        return [
            _backward_data(product, dy, dyq, ddw, ddwq, x_shape),
            _forward(product, x, ddw),
        ]

    def float32_values(x, dy):
        w = current().zeros(w_shape)
        return current().float32_gradient(lambda w: product.float32_forward(x, w), [w], [dy])

    dw = product.backward_weights(xq, dyq, w_shape)
    return current().differentiable(dw, [x, dy], gradient, float32_values)


def _bias_gradient(product, dy, dyq):
    def gradient(ddb):
        return product.broadcast_bias(ddb, current().sizes(dy))

    return current().differentiable(product.bias_gradient(dyq), [dy], gradient)


# Helpers for the products' forward functions


def data_of(w):
    """The tensor of weights that may be a view."""
    return w.data if isinstance(w, QuantizedView) else w


def weights_operands(w):
    """The weights as operands: integers, or float32 to be quantised by the kernel."""
    return named_view("w", w) if isinstance(w, QuantizedView) else {"w": w}


def call_forward(kernel, operands, w, dtypes, tensor_format):
    """What the kernel returns, in two parts: the results of these types, and the weights' view.

    Quantising the weights is part of the kernel: a separate call costs a step about 0.1 ms.
    """
    if isinstance(w, QuantizedView):
        return current().call(kernel, operands, dtypes), w
    *results, data, scale = current().call(kernel, operands, [*dtypes, *view_dtypes()])
    return results, make_view(data, scale, w.shape, tensor_format)


def quantized_weights(quantizer, w, w_scale):
    """The weights, and what the call returns for them: nothing if they were integers before."""
    if w_scale is not None:
        return factor("weights", w, w_scale), []
    w = quantizer(w)
    kernel_observers.multiplies("weights", w)
    return w, pack(w)
