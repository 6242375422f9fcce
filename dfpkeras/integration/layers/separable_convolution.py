"""SeparableConv1D and SeparableConv2D: a depthwise convolution, then a pointwise one."""

import math

from dfpkeras import ops
from dfpkeras.integration.keras_internals import BaseSeparableConv
from dfpkeras.integration.layer_support import bias_of, of_product
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _call(layer, inputs):
    depthwise, pointwise = layer.depthwise_kernel, layer.pointwise_kernel
    outputs = ops.depthwise_convolution(
        inputs,
        depthwise,
        strides=layer.strides,
        padding=layer.padding,
        dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
        **of_product(layer, depthwise),
    )
    one = (1,) * layer.rank
    outputs = ops.convolution(
        outputs,
        pointwise,
        bias_of(layer),
        strides=one,
        padding="valid",
        dilation_rate=one,
        groups=1,
        data_format=layer.data_format,
        **of_product(layer, pointwise),
    )
    return outputs if layer.activation is None else layer.activation(outputs)


def _multiply_adds(layer, shapes):
    if shapes is None or not layer.built:
        return None
    window = math.prod(layer.depthwise_kernel.shape[:-2])
    channels, filters = layer.pointwise_kernel.shape[-2:]
    return math.prod(shapes.outputs) // filters * channels * (window + filters)


register(
    LayerFamily(
        kind="convolution",
        methods=(IntegerMethod(BaseSeparableConv, "call", _call),),
        has_weights=True,
        operation=lambda layer: f"{layer.rank}-D depthwise convolution, then a pointwise one",
        multiply_adds=_multiply_adds,
        layers="`SeparableConv2D`, `SeparableConv1D`",
        computation="INT16 kernels of a depthwise and a pointwise convolution",
    )
)
