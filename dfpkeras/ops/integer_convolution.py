"""Differentiable integer convolution, grouped and depthwise."""

import dataclasses
import functools

import numpy as np

from dfpkeras import kernels
from dfpkeras.backend import current
from dfpkeras.kernels.block_tensor import block_of
from dfpkeras.kernels.number_format import NumberFormat
from dfpkeras.kernels.window_shapes import layer_output_shape
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
from dfpkeras.ops.channel_ranges import ChannelRange, Request
from dfpkeras.ops.image_layout import channels_last, restored
from dfpkeras.ops.kernel_arguments import factor, pack
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.operation import operation
from dfpkeras.ops.views import BlocksView, dequantized


@operation
def convolution(
    x,
    w,
    bias=None,
    *,
    strides,
    padding,
    dilation_rate,
    groups,
    data_format,
    number_format,
    variable=None,
    training=None,
):
    """Integer 1-D, 2-D or 3-D convolution, differentiable to any order.

    Args:
        x: float32 tensor (N, W, C), (N, H, W, C) or (N, D, H, W, C), or with C as the second
            dimension.
        w: float32 tensor or variable (KW, C // groups, filters), (KH, KW, C // groups, filters) or
            (KD, KH, KW, C // groups, filters).
        bias: float32 tensor or variable (filters,) that is added, or None.
        strides, dilation_rate: tuple of 1, 2 or 3 ints.
        padding: "valid" or "same" (TensorFlow's SAME).
        groups: int.
        data_format: "channels_last" or "channels_first".
        number_format: `NumberFormat`.
        variable, training: see `dfpkeras.ops.kept_weights.quantizer_of`.

    Returns:
        float32 tensor in the layout of `x`.

    Raises:
        ValueError: the output would be empty in a spatial dimension.
    """
    product = Convolution(
        number_format, tuple(strides), padding, tuple(dilation_rate), groups, data_format
    )
    return forward_of_layer(product, x, w, bias, variable, training)


@operation
def depthwise_convolution(
    x,
    w,
    bias=None,
    *,
    strides,
    padding,
    dilation_rate,
    data_format,
    number_format,
    variable=None,
    training=None,
):
    """Integer 1-D or 2-D depthwise convolution, differentiable to any order.

    Args:
        x, strides, padding, dilation_rate, data_format, number_format, variable, training: as in
            `convolution`.
        w: float32 tensor or variable (KH, KW, C, multiplier) or (KW, C, multiplier).
        bias: float32 tensor or variable (C * multiplier,) that is added, or None.

    Returns:
        float32 tensor in the layout of `x`, with C * multiplier channels.

    Raises:
        ValueError: the output would be empty in a spatial dimension.
    """
    product = Convolution(
        number_format, tuple(strides), padding, tuple(dilation_rate), None, data_format
    )
    return forward_of_layer(product, x, w, bias, variable, training)


@dataclasses.dataclass(frozen=True)
class Convolution(BilinearProduct):
    """The three products of a 1-D, 2-D or 3-D convolution, in any data format.

    The kernels take 2-D or 3-D, channels-last operands; the INT16 data are rearranged, which are
    half as large as the float32 tensor. `groups` is None for a depthwise convolution.
    """

    number_format: NumberFormat
    strides: tuple
    padding: str
    dilation_rate: tuple
    groups: int | None
    data_format: str

    def forward(self, x, w, bias, quantizer):
        backend, shape = current(), self._output_shape(x.data, data_of(w))
        request = Request()
        images = self.channels_last(x.data)
        operands = {"x": images, "x_scale": x.scale, **weights_operands(w), **bias}
        filters = shape[-1 if self.data_format == "channels_last" else 1]
        in_blocks, dtypes = self.result_types(filters)
        kernel = functools.partial(
            _forward, quantizer, *self.kernel_arguments(), in_blocks, request
        )
        (*y, channel_range), weights = call_forward(
            kernel, operands, w, [*dtypes, backend.float32], self.number_format.weights
        )
        channel_range = backend.with_shape(channel_range, [2, filters])
        knows = self.groups is not None and self.data_format == "channels_last"
        channel_range = ChannelRange(request, channel_range) if knows else None
        return Forward(*self.result(y, shape), weights, channel_range)

    def backward_data(self, dy, w, x_shape):
        operands = {
            "dy": self.channels_last(dy.data),
            "dy_scale": dy.scale,
            "w": self.images_of_kernel(w.data),
            "w_scale": w.scale,
            "input_shape": x_shape.sizes,
        }
        channels = x_shape.known[-1 if self.data_format == "channels_last" else 1]
        makes_copies = self.groups is None and w.data.shape[-1] > 1
        in_blocks, dtypes = self.result_types(0 if makes_copies else channels)
        kernel = functools.partial(_backward_data, *self.kernel_arguments(), in_blocks)
        return self.result(current().call(kernel, operands, dtypes), x_shape.known)

    def backward_weights(self, x, dy, w_shape):
        operands = {
            "x": self.channels_last(x.data),
            "x_scale": x.scale,
            "dy": self.channels_last(dy.data),
            "dy_scale": dy.scale,
        }
        kernel_shape = (1,) * (2 - len(self.strides)) + tuple(w_shape)
        roles = x.format.role, dy.format.role
        kernel = functools.partial(_backward_weights, *self.kernel_arguments(), kernel_shape, roles)
        (dw,) = current().call(kernel, operands, [current().float32])
        return current().reshape(dw, w_shape)

    def bias_gradient(self, dy):
        if dy.channel_sums is not None and self.data_format == "channels_last":
            return dy.channel_sums
        return sum_channels(self.channels_last(dy.data), dy.scale)

    def broadcast_bias(self, bias, sizes):
        if self.data_format == "channels_first":
            bias = current().reshape(bias, [1, -1] + [1] * len(self.strides))
        return current().broadcast_to(bias, sizes)

    def shape_of(self, x):
        return Shape(x.data.shape, current().sizes(self.channels_last(x.data)))

    def zeros(self, x_shape):
        return self.restored(current().zeros(x_shape.sizes), x_shape.known)

    def float32_forward(self, x, w, bias=None):
        images, kernel = self.channels_last(x), self.images_of_kernel(w)
        arguments = {"groups": None, **self.arguments_of_images()}
        y = current().float32_operations.convolution(images, kernel, **arguments)
        return self.restored(y if bias is None else y + bias, self._output_shape(x, w))

    def _output_shape(self, x, w):
        return layer_output_shape(
            tuple(x.shape),
            tuple(w.shape[:-2]),
            self.strides,
            self.padding,
            self.dilation_rate,
            self.data_format,
            filters=w.shape[-1] * (w.shape[-2] if self.groups is None else 1),
        )

    def kernel_arguments(self):
        """The arguments of every kernel of this layer."""
        formats = self.number_format
        return self.arguments_of_images(), {
            "flush_every": formats.flush_every,
            "algorithm": formats.algorithm,
        }

    def arguments_of_images(self):
        """The arguments of a convolution of images or volumes."""
        one = (1,) * (2 - len(self.strides))
        grouping = {} if self.groups is None else {"groups": self.groups}
        return grouping | {
            "strides": one + self.strides,
            "padding": self.padding,
            "dilation_rate": one + self.dilation_rate,
        }

    def result_types(self, channels):
        """Whether the kernel returns a result with so many channels in blocks, and the types of its
        arrays. 0 channels stand for a result that is added up from others."""
        if not channels or not block_of(channels // (self.groups or 1)):
            return False, [current().float32]
        return True, [current().int16, current().float32]

    def result(self, arrays, shape):
        """The float32 tensor, and its `BlocksView` or None, of what the kernel returned."""
        if len(arrays) == 1:
            return self.restored(arrays[0], shape), None
        if self.data_format == "channels_first":  # blocks lie along the last dimension
            return self.restored(dequantized(BlocksView(*arrays)), shape), None
        data, scale = arrays
        blocks = BlocksView(self.restored(data, shape), scale)
        return dequantized(blocks), blocks

    def channels_last(self, x):
        """`x` as images (N, H, W, C) or volumes (N, D, H, W, C)."""
        return channels_last(x, self.data_format)

    def images_of_kernel(self, w):
        """`w` as the kernel of images."""
        return current().expand_dims(w, 0) if len(self.strides) == 1 else w

    def restored(self, images, shape):
        """The inverse of `channels_last`, for a tensor of this shape."""
        return restored(images, shape, self.data_format)


_KERNELS = {
    2: {
        "forward": kernels.conv2d_forward,
        "backward_data": kernels.conv2d_backward_data,
        "backward_weights": kernels.conv2d_backward_weights,
    },
    3: {
        "forward": kernels.conv3d_forward,
        "backward_data": kernels.conv3d_backward_data,
        "backward_weights": kernels.conv3d_backward_weights,
    },
}
_DEPTHWISE_KERNELS = {
    "forward": kernels.depthwise_conv2d_forward,
    "backward_data": kernels.depthwise_conv2d_backward_data,
    "backward_weights": kernels.depthwise_conv2d_backward_weights,
}


def grouped_kernel(product, arguments, choices):
    """The kernel of one of the three products for images or volumes, with its arguments."""
    kernel = _KERNELS[len(arguments["strides"])][product]
    return functools.partial(kernel, **choices, **arguments)


def _kernel_of(product, arguments, choices):
    """The kernel of one of the three products, of a depthwise convolution if without groups."""
    if "groups" in arguments:
        hits.add(f"conv_{product}")
        return grouped_kernel(product, arguments, choices)
    hits.add(f"depthwise_{product}")
    return functools.partial(_DEPTHWISE_KERNELS[product], **arguments)


def _forward(
    quantizer, arguments, choices, in_blocks, request, x, x_scale, w, w_scale=None, bias=None
):
    kernel = _kernel_of("forward", arguments, choices)
    w, made = quantized_weights(quantizer, w, w_scale)
    images = w.reshape((1,) * (4 - len(w.shape)) + w.shape)
    wanted = {"with_channel_range": True} if request.is_made else {}
    y = kernel(factor("activation", x, x_scale), images, bias=bias, in_blocks=in_blocks, **wanted)
    y, found = y if wanted else (y, np.zeros((2, y.shape[-1]), np.float32))
    return [*pack(y), found, *made]


def _backward_data(arguments, choices, in_blocks, dy, dy_scale, w, w_scale, input_shape):
    kernel = _kernel_of("backward_data", arguments, choices)
    shape = tuple(int(size) for size in input_shape)
    dy, w = factor("gradient", dy, dy_scale), factor("weights", w, w_scale)
    return pack(kernel(dy, w, shape, in_blocks=in_blocks))


def _backward_weights(arguments, choices, kernel_shape, roles, x, x_scale, dy, dy_scale):
    kernel = _kernel_of("backward_weights", arguments, choices)
    x, dy = factor(roles[0], x, x_scale), factor(roles[1], dy, dy_scale)
    return [kernel(x, dy, kernel_shape)]
