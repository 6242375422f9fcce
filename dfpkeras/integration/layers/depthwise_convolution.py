"""DepthwiseConv1D and DepthwiseConv2D."""

import math

from dfpkeras import ops
from dfpkeras.integration.keras_internals import BaseDepthwiseConv
from dfpkeras.integration.layer_support import bias_of, of_product, products_per_output
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _call(layer, inputs):
    outputs = ops.depthwise_convolution(
        inputs,
        layer.kernel,
        bias_of(layer),
        strides=layer.strides,
        padding=layer.padding,
        dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
        **of_product(layer, layer.kernel),
    )
    return outputs if layer.activation is None else layer.activation(outputs)


register(
    LayerFamily(
        kind="convolution",
        methods=(IntegerMethod(BaseDepthwiseConv, "call", _call),),
        has_weights=True,
        operation=lambda layer: f"{layer.rank}-D depthwise convolution",
        multiply_adds=products_per_output(lambda layer: math.prod(layer.kernel.shape[:-2])),
        kernels=("depthwise_",),
        float32_operations=("DepthwiseConv",),
        layers="`DepthwiseConv2D`, `DepthwiseConv1D`",
        computation="INT16 kernels in all three directions",
    )
)
