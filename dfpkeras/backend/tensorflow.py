"""Differentiable integer convolution and matrix product for TensorFlow.

Each operation is bilinear: with ``y = F(x, w)`` the gradients are ``dx = D(dy, w)`` and
``dw = W(x, dy)``, and each of the three is again differentiable in terms of the other two. They
are written here as three `tf.custom_gradient` functions that call each other, so gradients of any
order run on the integer kernels.

Quantised tensors travel as carriers: INT16 data and an int32 pair (shared exponent, largest
magnitude), hung as an attribute on the float32 tensor they were made from. A tensor that several
operations consume is quantised once; so is a gradient that goes to backward-data, to
backward-weights and, where the tape hands the very tensor on, to the previous operation.
"""

import dataclasses
import functools
import typing

import numpy as np
import tensorflow as tf
from keras.src.ops.operation_utils import compute_conv_output_shape
from tensorflow.python.saved_model import save_context

from dfpkeras import kernels
from dfpkeras.backend import hits
from dfpkeras.policy import ACTIVATION_BITS, GRADIENT_BITS, WEIGHT_BITS
from dfpkeras.tensor import DFPTensor, quantize

_CARRIER_ATTRIBUTE = "_dfp_carrier"


class Carrier(typing.NamedTuple):
    """A quantised tensor inside TensorFlow.

    Attributes:
        data: int16 tensor, in the layout of the float tensor it stands for.
        meta: int32 tensor of shape (2,): shared exponent, largest magnitude in `data`.
        bits: int, magnitude bits it was quantised to.
    """

    data: tf.Tensor
    meta: tf.Tensor
    bits: int


class _Role(typing.NamedTuple):
    name: str
    bits: int


_ACTIVATION = _Role("activation", ACTIVATION_BITS)
_WEIGHTS = _Role("weights", WEIGHT_BITS)
_GRADIENT = _Role("gradient", GRADIENT_BITS)


def unsupported(inputs):
    """Says why `inputs` (any tensor-like) cannot go to the integer kernels, or returns None."""
    if not isinstance(inputs, tf.Tensor):
        return f"its input was a {type(inputs).__name__}, the kernels take dense tensors"
    if inputs.dtype != tf.float32:
        return f"its input was {inputs.dtype.name}, the kernels take float32"
    return None


def is_saving():
    """Whether TensorFlow is tracing for a SavedModel, which cannot hold Python callbacks."""
    return save_context.in_save_context()


@tf.autograph.experimental.do_not_convert
def convolution(inputs, kernel, strides, padding, dilation_rate, groups, data_format, bias=None):
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
    return _forward(products, _local(inputs), _local(kernel), _local_or_none(bias))


@tf.autograph.experimental.do_not_convert
def matmul(inputs, kernel, bias=None):
    """Integer product of (..., K) and (K, M), differentiable to any order.

    Args:
        inputs: float32 tensor of rank >= 2, last dimension K.
        kernel: float32 tensor or variable (K, M).
        bias: float32 tensor or variable (M,) that is added, or None.

    Returns:
        float32 tensor (..., M).
    """
    return _forward(_Dense(), _local(inputs), _local(kernel), _local_or_none(bias))


def _forward(products, x, w, bias=None):
    xq, wq = _carrier(x, _ACTIVATION), _carrier(w, _WEIGHTS)
    x_shape = products.shape_of(xq)

    @tf.custom_gradient
    def operation(x, w, *bias):
        def gradient(dy):
            dy = tf.convert_to_tensor(dy)  # the gradient of a gather comes as IndexedSlices
            dyq = _carrier(dy, _GRADIENT)
            return (
                _backward_data(products, dy, dyq, w, wq, x_shape),
                _backward_weights(products, x, xq, dy, dyq, w.shape, x_shape),
                *(_bias_gradient(products, dy, dyq) for _ in bias),
            )

        return products.forward(xq, wq, *bias), gradient

    return operation(x, w) if bias is None else operation(x, w, bias)


def _backward_data(products, dy, dyq, w, wq, x_shape):
    @tf.custom_gradient
    def operation(dy, w):
        def gradient(ddx):
            ddx = tf.convert_to_tensor(ddx)
            ddxq = _carrier(ddx, _ACTIVATION)
            return (
                _forward(products, ddx, w),
                _backward_weights(products, ddx, ddxq, dy, dyq, w.shape, x_shape),
            )

        return products.backward_data(dyq, wq, x_shape), gradient

    return operation(dy, w)


def _backward_weights(products, x, xq, dy, dyq, w_shape, x_shape):
    @tf.custom_gradient
    def operation(x, dy):
        def gradient(ddw):
            ddw = tf.convert_to_tensor(ddw)
            ddwq = _carrier(ddw, _WEIGHTS)
            return (
                _backward_data(products, dy, dyq, ddw, ddwq, x_shape),
                _forward(products, x, ddw),
            )

        return products.backward_weights(xq, dyq, w_shape), gradient

    return operation(x, dy)


def _bias_gradient(products, dy, dyq):
    @tf.custom_gradient
    def operation(dy):
        def gradient(ddb):
            return products.broadcast_bias(ddb, tf.shape(dy))

        return products.bias_gradient(dyq), gradient

    return operation(dy)


class _Shape(typing.NamedTuple):
    """Shape of an operation's input: as far as known when tracing, and as a tensor."""

    static: tf.TensorShape
    dynamic: tf.Tensor


@dataclasses.dataclass(frozen=True)
class _Convolution:
    """The three products of a 1-D or 2-D convolution, in any data format.

    The kernels take 2-D, channels-last operands; INT16 data is rearranged, being half as large
    as the float32 tensor it stands for.
    """

    strides: tuple
    padding: str
    dilation_rate: tuple
    groups: int
    data_format: str

    def forward(self, x, w, *bias):
        shape = compute_conv_output_shape(
            tuple(x.data.shape),
            w.data.shape[-1],
            tuple(w.data.shape[:-2]),
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        y = _call(
            functools.partial(_conv_forward, self._arguments()),
            [self._channels_last(x.data), x.meta, self._kernel(w.data), w.meta, *bias],
            [tf.float32],
        )[0]
        return self._restore(y, shape)

    def backward_data(self, dy, w, x_shape):
        dx = _call(
            functools.partial(_conv_backward_data, self._arguments()),
            [self._channels_last(dy.data), dy.meta, self._kernel(w.data), w.meta, x_shape.dynamic],
            [tf.float32],
        )[0]
        return self._restore(dx, x_shape.static)

    def backward_weights(self, x, dy, w_shape):
        kernel_shape = (1,) * (2 - len(self.strides)) + tuple(w_shape)
        dw = _call(
            functools.partial(_conv_backward_weights, self._arguments(), kernel_shape),
            [self._channels_last(x.data), x.meta, self._channels_last(dy.data), dy.meta],
            [tf.float32],
        )[0]
        return tf.reshape(dw, w_shape)

    def bias_gradient(self, dy):
        return _sum_channels(self._channels_last(dy.data), dy.meta)

    def broadcast_bias(self, bias, shape):
        if self.data_format == "channels_first":
            bias = tf.reshape(bias, [1, -1] + [1] * len(self.strides))
        return tf.broadcast_to(bias, shape)

    def shape_of(self, x):
        return _Shape(x.data.shape, tf.shape(self._channels_last(x.data)))

    def _arguments(self):
        one = (1,) * (2 - len(self.strides))
        return {
            "strides": one + self.strides,
            "padding": self.padding,
            "dilation_rate": one + self.dilation_rate,
            "groups": self.groups,
        }

    def _channels_last(self, data):
        if self.data_format == "channels_first":
            data = tf.transpose(data, [0, *range(2, data.shape.rank), 1])
        return tf.expand_dims(data, 1) if len(self.strides) == 1 else data

    def _kernel(self, data):
        return tf.expand_dims(data, 0) if len(self.strides) == 1 else data

    def _restore(self, result, shape):
        result.set_shape([None] * 4)
        if len(self.strides) == 1:
            result = tf.squeeze(result, 1)
        if self.data_format == "channels_first":
            rank = result.shape.rank
            result = tf.transpose(result, [0, rank - 1, *range(1, rank - 1)])
        return _set(result, shape)


@dataclasses.dataclass(frozen=True)
class _Dense:
    """The three products of a matrix product over the last dimension of the input."""

    def forward(self, x, w, *bias):
        y = _call(
            functools.partial(_matmul, "dense_forward", {}),
            [_matrix(x.data, w.data.shape[0]), x.meta, w.data, w.meta, *bias],
            [tf.float32],
        )[0]
        units = w.data.shape[-1]
        shape = x.data.shape[:-1].concatenate(units)
        return _set(tf.reshape(y, tf.concat([tf.shape(x.data)[:-1], [units]], 0)), shape)

    def backward_data(self, dy, w, x_shape):
        dx = _call(
            functools.partial(_matmul, "dense_backward_data", {"transpose_b": True}),
            [_matrix(dy.data, w.data.shape[1]), dy.meta, w.data, w.meta],
            [tf.float32],
        )[0]
        return _set(tf.reshape(dx, x_shape.dynamic), x_shape.static)

    def backward_weights(self, x, dy, w_shape):
        dw = _call(
            functools.partial(_matmul, "dense_backward_weights", {"transpose_a": True}),
            [_matrix(x.data, w_shape[0]), x.meta, _matrix(dy.data, w_shape[1]), dy.meta],
            [tf.float32],
        )[0]
        return _set(dw, w_shape)

    def bias_gradient(self, dy):
        return _sum_channels(dy.data, dy.meta)

    def broadcast_bias(self, bias, shape):
        return tf.broadcast_to(bias, shape)

    def shape_of(self, x):
        return _Shape(x.data.shape, tf.shape(x.data))


def _matrix(data, columns):
    return data if data.shape.rank == 2 else tf.reshape(data, [-1, columns])


def _set(tensor, shape):
    tensor.set_shape(shape)
    return tensor


def _carrier(x, role):
    """Returns the carrier of float32 tensor `x`, made now or found on it."""
    found = getattr(x, _CARRIER_ATTRIBUTE, None)
    if found is not None and found.bits == role.bits and _is_local(found.data):
        return found
    data, meta = _call(functools.partial(_quantize, role), [x], [tf.int16, tf.int32])
    carrier = Carrier(_set(data, x.shape), _set(meta, [2]), role.bits)
    if _is_local(x):
        setattr(x, _CARRIER_ATTRIBUTE, carrier)
    return carrier


def _local(x):
    """Returns `x` as a tensor of the graph that is being traced now.

    The gradient of a branch or a loop body may use tensors of that body, but not the tensors of
    the graph around it that the body took in.
    """
    x = tf.convert_to_tensor(x)
    return x if _is_local(x) else tf.identity(x)


def _local_or_none(x):
    return None if x is None else _local(x)


def _is_local(tensor):
    """Whether `tensor` belongs to the context that runs now.

    A carrier made inside a loop body or a branch, for a tensor of the graph around it, is out of
    scope everywhere else. So carriers are kept on tensors of the current graph only.
    """
    return tf.executing_eagerly() or tensor.graph is tf.compat.v1.get_default_graph()


def _sum_channels(data, meta):
    sums = _call(_bias_sums, [data, meta], [tf.float32])[0]
    return _set(sums, data.shape[-1:])


def _call(function, inputs, dtypes):
    """Runs `function` on NumPy views of `inputs`, now or as a stateless graph operation.

    Stateless, so that results nobody needs are pruned and independent calls run at once. The
    arrays may alias variables: `function` must not write to them. Returned arrays are taken over
    without a copy in graphs if 64-byte aligned.
    """
    if tf.executing_eagerly():
        # A memoryview is free of the copy that `tf.numpy_function` makes of eager inputs.
        results = function(*(np.asarray(memoryview(x)) for x in inputs))
        return [tf.convert_to_tensor(result) for result in results]
    return tf.numpy_function(function, inputs, dtypes, stateful=False)


def _quantize(role, x):
    hits.add(f"quantize_{role.name}")
    tensor = quantize(x, bits=role.bits)
    return [tensor.data, np.array([tensor.exponent, tensor.max_abs], np.int32)]


def _unpack(data, meta):
    return DFPTensor._wrap(data, int(meta[0]), int(meta[1]))


def _conv_forward(arguments, x, x_meta, w, w_meta, bias=None):
    hits.add("conv_forward")
    x, w = _unpack(x, x_meta), _unpack(w, w_meta)
    return [kernels.conv2d_forward(x, w, bias=bias, **arguments)]


def _conv_backward_data(arguments, dy, dy_meta, w, w_meta, input_shape):
    hits.add("conv_backward_data")
    input_shape = tuple(int(size) for size in input_shape)
    dy, w = _unpack(dy, dy_meta), _unpack(w, w_meta)
    return [kernels.conv2d_backward_data(dy, w, input_shape, **arguments)]


def _conv_backward_weights(arguments, kernel_shape, x, x_meta, dy, dy_meta):
    hits.add("conv_backward_weights")
    x, dy = _unpack(x, x_meta), _unpack(dy, dy_meta)
    return [kernels.conv2d_backward_weights(x, dy, kernel_shape, **arguments)]


def _matmul(name, transposes, a, a_meta, b, b_meta, bias=None):
    hits.add(name)
    return [kernels.matmul(_unpack(a, a_meta), _unpack(b, b_meta), bias=bias, **transposes)]


def _bias_sums(dy, dy_meta):
    hits.add("bias_gradient")
    return [kernels.sum_channels(_unpack(dy, dy_meta))]
