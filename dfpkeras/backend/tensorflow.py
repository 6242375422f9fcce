"""Differentiable integer convolution and matrix product for TensorFlow.

Each operation is bilinear: with ``y = F(x, w)`` the gradients are ``dx = D(dy, w)`` and
``dw = W(x, dy)``, and each of the three is again differentiable in terms of the other two. They
are written here as three functions that call each other, so gradients of any order run on the
integer kernels.

Operands travel as carriers. A gradient that goes to backward-data, to backward-weights and, where
the tape hands the very tensor on, to the previous operation is quantised once.
"""

import dataclasses
import functools
import typing

import keras
import numpy as np
import tensorflow as tf
from keras.src.ops.operation_utils import compute_conv_output_shape

from dfpkeras import kernels
from dfpkeras.backend import hits
from dfpkeras.backend.tensorflow_arrangement import concatenate, crop, reshape, transpose, zero_pad
from dfpkeras.backend.tensorflow_batch_norm import batch_norm
from dfpkeras.backend.tensorflow_carriers import (
    Carrier,
    attach,
    call,
    call_by_name,
    carrier_of,
    find_carrier,
    local,
    local_or_none,
    make_carrier,
    pack,
    set_shape,
    unpack,
)
from dfpkeras.backend.tensorflow_contexts import install, refusal, wants_float32
from dfpkeras.backend.tensorflow_elementwise import activate, add
from dfpkeras.backend.tensorflow_extremes import Extremes, Wish, remember_extremes
from dfpkeras.backend.tensorflow_gradients import differentiable, float_gradient
from dfpkeras.backend.tensorflow_operands import channels_last, named_carrier, restored
from dfpkeras.backend.tensorflow_pooling import (
    average_pool,
    global_average_pool,
    global_max_pool,
    max_pool,
)
from dfpkeras.backend.tensorflow_weights import quantize_weights, quantizer_of
from dfpkeras.kernels.number_format import get_number_format
from dfpkeras.kernels.roles import ACTIVATION, GRADIENT, WEIGHTS

__all__ = [
    "activate",
    "add",
    "average_pool",
    "batch_norm",
    "concatenate",
    "convolution",
    "crop",
    "depthwise_convolution",
    "global_average_pool",
    "global_max_pool",
    "install",
    "matmul",
    "max_pool",
    "refusal",
    "reshape",
    "transpose",
    "unsupported",
    "wants_float32",
    "zero_pad",
]


def unsupported(inputs):
    """Says why `inputs` (any tensor-like) cannot go to the integer kernels, or returns None."""
    if not isinstance(inputs, tf.Tensor):
        return f"its input was a {type(inputs).__name__}, the kernels take dense tensors"
    if inputs.dtype != tf.float32:
        return f"its input was {inputs.dtype.name}, the kernels take float32"
    return None


@tf.autograph.experimental.do_not_convert
def convolution(
    inputs,
    kernel,
    strides,
    padding,
    dilation_rate,
    groups,
    data_format,
    bias=None,
    training=None,
):
    """Integer 1-D or 2-D convolution, differentiable to any order.

    Args:
        inputs: float32 tensor (N, H, W, C), (N, C, H, W), (N, W, C) or (N, C, W).
        kernel: float32 tensor or variable (KH, KW, C // groups, filters) or (KW, C // groups,
            filters).
        strides, dilation_rate: tuple of 1 or 2 ints.
        padding: "valid" or "same" (TensorFlow's SAME).
        groups: int.
        data_format: "channels_last" or "channels_first".
        bias: float32 tensor or variable (filters,) that is added, or None.
        training: the argument of the layer's call, see `quantizer_of`.

    Returns:
        float32 tensor in the layout of `inputs`.

    Raises:
        ValueError: the output would be empty in a spatial dimension.
    """
    products = _Convolution(
        strides=tuple(strides),
        padding=padding,
        dilation_rate=tuple(dilation_rate),
        groups=groups,
        data_format=data_format,
    )
    return _forward_of_layer(products, inputs, kernel, bias, training)


@tf.autograph.experimental.do_not_convert
def depthwise_convolution(
    inputs, kernel, strides, padding, dilation_rate, data_format, bias=None, training=None
):
    """Integer 1-D or 2-D depthwise convolution, differentiable to any order.

    Args:
        inputs, strides, padding, dilation_rate, data_format: as in `convolution`.
        kernel: float32 tensor or variable (KH, KW, C, multiplier) or (KW, C, multiplier).
        bias: float32 tensor or variable (C * multiplier,) that is added, or None.
        training: the argument of the layer's call, see `quantizer_of`.

    Returns:
        float32 tensor in the layout of `inputs`, with C * multiplier channels.

    Raises:
        ValueError: the output would be empty in a spatial dimension.
    """
    products = _Convolution(
        strides=tuple(strides),
        padding=padding,
        dilation_rate=tuple(dilation_rate),
        groups=None,
        data_format=data_format,
    )
    return _forward_of_layer(products, inputs, kernel, bias, training)


@tf.autograph.experimental.do_not_convert
def matmul(inputs, kernel, bias=None, training=None):
    """Integer product of (..., K) and (K, M), differentiable to any order.

    Args:
        inputs: float32 tensor of rank >= 2, last dimension K.
        kernel: float32 tensor or variable (K, M).
        bias: float32 tensor or variable (M,) that is added, or None.
        training: the argument of the layer's call, see `quantizer_of`.

    Returns:
        float32 tensor (..., M).
    """
    return _forward_of_layer(_Dense(), inputs, kernel, bias, training)


def _forward_of_layer(products, inputs, kernel, bias, training):
    quantizer = quantizer_of(kernel, training)
    return _forward(products, local(inputs), local(kernel), local_or_none(bias), quantizer)


def _forward(products, x, w, bias=None, quantizer=quantize_weights):
    xq = carrier_of(x, ACTIVATION)
    made = products.forward(xq, find_carrier(w, WEIGHTS) or w, _named("bias", bias), quantizer)
    wq, x_shape = made.weights, products.shape_of(xq)

    def gradient(dy):
        dy = tf.convert_to_tensor(dy)  # the gradient of a gather comes as IndexedSlices
        dyq = carrier_of(dy, GRADIENT)
        dx = _backward_data(products, dy, dyq, w, wq, x_shape)
        dw = _backward_weights(products, x, xq, dy, dyq, w.shape, x_shape)
        return [dx, dw] if bias is None else [dx, dw, _bias_gradient(products, dy, dyq)]

    inputs = [x, attach(w, wq), *_named("bias", bias).values()]
    y = differentiable(made.y, inputs, gradient, products.float_forward)
    return y if made.extremes is None else remember_extremes(y, made.extremes)


def _named(name, x):
    return {} if x is None else {name: x}


def _backward_data(products, dy, dyq, w, wq, x_shape):
    def gradient(ddx):
        ddx = tf.convert_to_tensor(ddx)
        ddxq = carrier_of(ddx, ACTIVATION)
        return [
            _forward(products, ddx, w),
            _backward_weights(products, ddx, ddxq, dy, dyq, w.shape, x_shape),
        ]

    def float_values(dy, w):
        x = products.zeros(x_shape)
        return float_gradient(lambda x: products.float_forward(x, w), [x], [dy])

    dx = products.backward_data(dyq, wq, x_shape)
    return differentiable(dx, [dy, w], gradient, float_values)


def _backward_weights(products, x, xq, dy, dyq, w_shape, x_shape):
    def gradient(ddw):
        ddw = tf.convert_to_tensor(ddw)
        ddwq = carrier_of(ddw, WEIGHTS)
        return [
            _backward_data(products, dy, dyq, ddw, ddwq, x_shape),
            _forward(products, x, ddw),
        ]

    def float_values(x, dy):
        w = tf.zeros(w_shape)
        return float_gradient(lambda w: products.float_forward(x, w), [w], [dy])

    dw = products.backward_weights(xq, dyq, w_shape)
    return differentiable(dw, [x, dy], gradient, float_values)


def _bias_gradient(products, dy, dyq):
    def gradient(ddb):
        return products.broadcast_bias(ddb, tf.shape(dy))

    return differentiable(products.bias_gradient(dyq), [dy], gradient)


class _Forward(typing.NamedTuple):
    """What a forward product gives: its float32 result, the carrier of the weights, which it
    quantises if they are not yet, and the `Extremes` of the result's channels or None."""

    y: tf.Tensor
    weights: Carrier
    extremes: Extremes | None = None


class _Shape(typing.NamedTuple):
    """Shape of an operation's input: as far as known when tracing, and as a tensor."""

    static: tf.TensorShape
    dynamic: tf.Tensor


@dataclasses.dataclass(frozen=True)
class _Convolution:
    """The three products of a 1-D or 2-D convolution, in any data format.

    The kernels take 2-D, channels-last operands; INT16 data is rearranged, being half as large
    as the float32 tensor it stands for. `groups` is None for a depthwise convolution.
    """

    strides: tuple
    padding: str
    dilation_rate: tuple
    groups: int | None
    data_format: str

    def forward(self, x, w, bias, quantizer):
        shape = self._output_shape(x.data, _data_of(w))
        wish = Wish()
        operands = {"x": self._channels_last(x.data), "x_meta": x.meta, **_weights(w), **bias}
        kernel = functools.partial(_conv_forward, quantizer, self._arguments(), wish)
        (y, extremes), weights = _call_forward(kernel, operands, w, [tf.float32] * 2)
        filters = shape[-1 if self.data_format == "channels_last" else 1]
        set_shape(extremes, [2, filters])
        knows = self.groups is not None and self.data_format == "channels_last"
        known = Extremes(wish, extremes) if knows else None
        return _Forward(self._restore(y, shape), weights, known)

    def backward_data(self, dy, w, x_shape):
        dx = call(
            functools.partial(_conv_backward_data, self._arguments()),
            [self._channels_last(dy.data), dy.meta, self._kernel(w.data), w.meta, x_shape.dynamic],
            [tf.float32],
        )[0]
        return self._restore(dx, x_shape.static)

    def backward_weights(self, x, dy, w_shape):
        kernel_shape = (1,) * (2 - len(self.strides)) + tuple(w_shape)
        dw = call(
            functools.partial(_conv_backward_weights, self._arguments(), kernel_shape),
            [self._channels_last(x.data), x.meta, self._channels_last(dy.data), dy.meta],
            [tf.float32],
        )[0]
        return tf.reshape(dw, w_shape)

    def bias_gradient(self, dy):
        if dy.channel_sums is not None and self.data_format == "channels_last":
            return dy.channel_sums
        return _sum_channels(self._channels_last(dy.data), dy.meta)

    def broadcast_bias(self, bias, shape):
        if self.data_format == "channels_first":
            bias = tf.reshape(bias, [1, -1] + [1] * len(self.strides))
        return tf.broadcast_to(bias, shape)

    def shape_of(self, x):
        return _Shape(x.data.shape, tf.shape(self._channels_last(x.data)))

    def zeros(self, x_shape):
        return self._restore(tf.zeros(x_shape.dynamic), x_shape.static)

    def float_forward(self, x, w, bias=None):
        """Channels-last, because TensorFlow convolves nothing else on every CPU."""
        function = keras.ops.depthwise_conv if self.groups is None else keras.ops.conv
        arguments = {**self._arguments(), "data_format": "channels_last"}
        arguments.pop("groups", None)
        y = function(self._channels_last(x), self._kernel(w), **arguments)
        return self._restore(y if bias is None else y + bias, self._output_shape(x, w))

    def _output_shape(self, x, w):
        filters = w.shape[-1] * (w.shape[-2] if self.groups is None else 1)
        return compute_conv_output_shape(
            tuple(x.shape),
            filters,
            tuple(w.shape[:-2]),
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )

    def _arguments(self):
        one = (1,) * (2 - len(self.strides))
        grouping = {} if self.groups is None else {"groups": self.groups}
        return grouping | {
            "strides": one + self.strides,
            "padding": self.padding,
            "dilation_rate": one + self.dilation_rate,
        }

    def _channels_last(self, data):
        return channels_last(data, self.data_format)

    def _kernel(self, data):
        return tf.expand_dims(data, 0) if len(self.strides) == 1 else data

    def _restore(self, result, shape):
        return restored(result, shape, self.data_format)


@dataclasses.dataclass(frozen=True)
class _Dense:
    """The three products of a matrix product over the last dimension of the input."""

    def forward(self, x, w, bias, quantizer):
        inner, units = _data_of(w).shape
        operands = {"x": _matrix(x.data, inner), "x_meta": x.meta, **_weights(w), **bias}
        kernel = functools.partial(_dense_forward, quantizer)
        (y,), weights = _call_forward(kernel, operands, w, [tf.float32])
        shape = x.data.shape[:-1].concatenate(units)
        y = tf.reshape(y, tf.concat([tf.shape(x.data)[:-1], [units]], 0))
        return _Forward(set_shape(y, shape), weights)

    def backward_data(self, dy, w, x_shape):
        dx = call(
            functools.partial(_matmul, "dense_backward_data", {"transpose_b": True}),
            [_matrix(dy.data, w.data.shape[1]), dy.meta, w.data, w.meta],
            [tf.float32],
        )[0]
        return set_shape(tf.reshape(dx, x_shape.dynamic), x_shape.static)

    def backward_weights(self, x, dy, w_shape):
        dw = call(
            functools.partial(_matmul, "dense_backward_weights", {"transpose_a": True}),
            [_matrix(x.data, w_shape[0]), x.meta, _matrix(dy.data, w_shape[1]), dy.meta],
            [tf.float32],
        )[0]
        return set_shape(dw, w_shape)

    def bias_gradient(self, dy):
        known = dy.channel_sums
        return _sum_channels(dy.data, dy.meta) if known is None else known

    def broadcast_bias(self, bias, shape):
        return tf.broadcast_to(bias, shape)

    def shape_of(self, x):
        return _Shape(x.data.shape, tf.shape(x.data))

    def zeros(self, x_shape):
        return set_shape(tf.zeros(x_shape.dynamic), x_shape.static)

    def float_forward(self, x, w, bias=None):
        y = keras.ops.matmul(x, w)
        return y if bias is None else y + bias


def _data_of(w):
    return w.data if isinstance(w, Carrier) else w


def _weights(w):
    """The weights as operands: integers, or float32 to be quantised by the kernel."""
    return named_carrier("w", w) if isinstance(w, Carrier) else {"w": w}


def _call_forward(kernel, operands, w, dtypes):
    """What the kernel returns, in two parts: the results of these types, and the weights' carrier.

    Quantising them is part of the kernel: a call of its own costs a step about 0.1 ms.
    """
    if isinstance(w, Carrier):
        return call_by_name(kernel, operands, dtypes), w
    *results, data, meta = call_by_name(kernel, operands, [*dtypes, tf.int16, tf.int32])
    return results, make_carrier(data, meta, w.shape, WEIGHTS)


def _matrix(data, columns):
    return data if data.shape.rank == 2 else tf.reshape(data, [-1, columns])


def _sum_channels(data, meta):
    sums = call(_bias_sums, [data, meta], [tf.float32])[0]
    return set_shape(sums, data.shape[-1:])


def _quantized(quantizer, w, w_meta):
    """The weights, and what the call returns of them: nothing if they were integers before."""
    if w_meta is not None:
        return unpack(w, w_meta), []
    w = quantizer(w)
    return w, pack(w)


def _conv_kernel(arguments, product):
    """The kernel of one of the three products, of a depthwise convolution if without groups."""
    depthwise = "groups" not in arguments
    hits.add(f"{'depthwise' if depthwise else 'conv'}_{product}")
    if depthwise:
        return getattr(kernels, f"depthwise_conv2d_{product}")
    kernel = getattr(kernels, f"conv2d_{product}")
    return functools.partial(kernel, flush_every=get_number_format().flush_every)


def _conv_forward(quantizer, arguments, wish, x, x_meta, w, w_meta=None, bias=None):
    kernel = _conv_kernel(arguments, "forward")
    w, made = _quantized(quantizer, w, w_meta)
    images = w.reshape((1,) * (4 - len(w.shape)) + w.shape)
    wanted = {"want_extremes": True} if wish.is_made else {}
    y = kernel(unpack(x, x_meta), images, bias=bias, **arguments, **wanted)
    y, found = y if wanted else (y, np.zeros((2, y.shape[-1]), np.float32))
    return [y, found, *made]


def _dense_forward(quantizer, x, x_meta, w, w_meta=None, bias=None):
    hits.add("dense_forward")
    w, made = _quantized(quantizer, w, w_meta)
    return [_product(unpack(x, x_meta), w, bias=bias), *made]


def _conv_backward_data(arguments, dy, dy_meta, w, w_meta, input_shape):
    kernel = _conv_kernel(arguments, "backward_data")
    input_shape = tuple(int(size) for size in input_shape)
    return [kernel(unpack(dy, dy_meta), unpack(w, w_meta), input_shape, **arguments)]


def _conv_backward_weights(arguments, kernel_shape, x, x_meta, dy, dy_meta):
    kernel = _conv_kernel(arguments, "backward_weights")
    return [kernel(unpack(x, x_meta), unpack(dy, dy_meta), kernel_shape, **arguments)]


def _matmul(name, transposes, a, a_meta, b, b_meta):
    hits.add(name)
    return [_product(unpack(a, a_meta), unpack(b, b_meta), **transposes)]


def _product(a, b, **arguments):
    return kernels.matmul(a, b, **arguments, flush_every=get_number_format().flush_every)


def _bias_sums(dy, dy_meta):
    hits.add("bias_gradient")
    return [kernels.sum_channels(unpack(dy, dy_meta))]
