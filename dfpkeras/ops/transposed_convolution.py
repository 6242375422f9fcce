"""Differentiable integer transposed convolution: backward-data of a convolution, whose forward pass
is its gradient."""

import dataclasses
import functools

from dfpkeras.backend import current
from dfpkeras.kernels.number_format import NumberFormat
from dfpkeras.kernels.window_shapes import inverts_convolution, transposed_sizes
from dfpkeras.ops.bilinear import (
    BilinearProduct,
    Forward,
    call_forward,
    data_of,
    forward_of_layer,
    quantized_weights,
    weights_operands,
)
from dfpkeras.ops.integer_convolution import Convolution, grouped_kernel
from dfpkeras.ops.kernel_arguments import factor, pack
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.operation import operation


@operation
def transposed_convolution(
    x,
    w,
    bias=None,
    *,
    strides,
    padding,
    output_padding,
    dilation_rate,
    data_format,
    number_format,
    variable=None,
    training=None,
):
    """Integer 1-D, 2-D or 3-D transposed convolution, differentiable to any order.

    Args:
        x, strides, padding, dilation_rate, data_format, number_format, variable, training: as in
            `dfpkeras.ops.convolution`.
        w: float32 tensor or variable (KW, filters, C), (KH, KW, filters, C) or (KD, KH, KW,
            filters, C).
        bias: float32 tensor or variable (filters,) that is added, or None.
        output_padding: tuple of 1, 2 or 3 ints, or None, as in Keras.

    Returns:
        float32 tensor in the layout of `x`; or None if a convolution of a result of that size would
        not have the size of `x`.
    """
    output_padding = None if output_padding is None else tuple(output_padding)
    if not inverts_convolution(w.shape[:-2], strides, padding, output_padding, dilation_rate):
        return None
    convolution = Convolution(
        number_format, tuple(strides), padding, tuple(dilation_rate), 1, data_format
    )
    product = _TransposedConvolution(number_format, convolution, output_padding)
    return forward_of_layer(product, x, w, bias, variable, training)


@dataclasses.dataclass(frozen=True)
class _TransposedConvolution(BilinearProduct):
    """The three products of a transposed convolution, by those of `convolution`."""

    number_format: NumberFormat
    convolution: Convolution
    output_padding: tuple | None

    def forward(self, x, w, bias, quantizer):
        convolution = self.convolution
        shape = self._output_shape(x.data.shape, data_of(w).shape)
        images = convolution.channels_last(x.data)
        operands = {"x": images, "x_scale": x.scale, **weights_operands(w), **bias}
        filters = data_of(w).shape[-2]
        in_blocks, dtypes = convolution.result_types(filters)
        geometry = tuple(data_of(w).shape[:-2]), self._call()
        kernel = functools.partial(
            _forward, quantizer, *convolution.kernel_arguments(), geometry, in_blocks
        )
        y, weights = call_forward(kernel, operands, w, dtypes, self.number_format.weights)
        return Forward(*convolution.result(y, shape), weights)

    def backward_data(self, dy, w, x_shape):
        convolution = self.convolution
        operands = {
            "dy": convolution.channels_last(dy.data),
            "dy_scale": dy.scale,
            "w": convolution.images_of_kernel(w.data),
            "w_scale": w.scale,
        }
        channels = w.data.shape[-1]
        in_blocks, dtypes = convolution.result_types(channels)
        kernel = functools.partial(_backward_data, *convolution.kernel_arguments(), in_blocks)
        return convolution.result(current().call(kernel, operands, dtypes), x_shape.known)

    def backward_weights(self, x, dy, w_shape):
        return self.convolution.backward_weights(dy, x, w_shape)

    def bias_gradient(self, dy):
        return self.convolution.bias_gradient(dy)

    def broadcast_bias(self, bias, sizes):
        return self.convolution.broadcast_bias(bias, sizes)

    def shape_of(self, x):
        return self.convolution.shape_of(x)

    def zeros(self, x_shape):
        return self.convolution.zeros(x_shape)

    def float32_forward(self, x, w, bias=None):
        c = self.convolution
        y = current().float32_operations.transposed_convolution(
            c.channels_last(x),
            c.images_of_kernel(w),
            **c.arguments_of_images(),
            output_padding=self._output_padding_of_images(),
        )
        return c.restored(y if bias is None else y + bias, self._output_shape(x.shape, w.shape))

    def _call(self):
        c = self.convolution
        return c.strides, c.padding, self.output_padding, c.dilation_rate

    def _output_padding_of_images(self):
        if self.output_padding is None:
            return None
        return (0,) * (2 - len(self.output_padding)) + self.output_padding

    def _output_shape(self, x_shape, w_shape):
        x_shape, channels_last = tuple(x_shape), self.convolution.data_format == "channels_last"
        sizes = x_shape[1:-1] if channels_last else x_shape[2:]
        sizes = transposed_sizes(sizes, tuple(w_shape[:-2]), *self._call())
        filters = w_shape[-2]
        return (x_shape[0], *sizes, filters) if channels_last else (x_shape[0], filters, *sizes)


def _forward(
    quantizer, arguments, choices, geometry, in_blocks, x, x_scale, w, w_scale=None, bias=None
):
    hits.add("transposed_conv_forward")
    w, made = quantized_weights(quantizer, w, w_scale)
    x, kernel = factor("activation", x, x_scale), w.reshape((1,) * (4 - len(w.shape)) + w.shape)
    window, call = geometry
    sizes = transposed_sizes(x.shape[-1 - len(window) : -1], window, *call)
    shape = (x.shape[0], *(1,) * (2 - len(sizes)), *sizes, kernel.shape[-2])
    backward_data = grouped_kernel("backward_data", arguments, choices)
    y = backward_data(x, kernel, shape, bias=bias, in_blocks=in_blocks)
    return [*pack(y), *made]


def _backward_data(arguments, choices, in_blocks, dy, dy_scale, w, w_scale):
    hits.add("transposed_conv_backward_data")
    forward = grouped_kernel("forward", arguments, choices)
    dy, w = factor("gradient", dy, dy_scale), factor("weights", w, w_scale)
    return pack(forward(dy, w, in_blocks=in_blocks))
