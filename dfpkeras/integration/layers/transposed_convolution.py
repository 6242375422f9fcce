"""Conv1DTranspose, Conv2DTranspose and Conv3DTranspose."""

import math

from dfpkeras import ops
from dfpkeras.integration.keras_internals import BaseConvTranspose
from dfpkeras.integration.layer_support import activated, bias_of, of_product
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register


def _call(layer, inputs):
    outputs = ops.transposed_convolution(
        inputs,
        layer.kernel,
        bias_of(layer),
        strides=layer.strides,
        padding=layer.padding,
        output_padding=layer.output_padding,
        dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
        **of_product(layer, layer.kernel),
    )
    return NotImplemented if outputs is None else activated(layer, outputs)


def _multiply_adds(layer, shapes):
    if shapes is None or not layer.built:
        return None
    return sum(map(math.prod, shapes.inputs)) * math.prod(layer.kernel.shape[:-1])


register(
    LayerFamily(
        kind="convolution",
        methods=(IntegerMethod(BaseConvTranspose, "call", _call),),
        has_weights=True,
        operation=lambda layer: f"{layer.rank}-D transposed convolution",
        multiply_adds=_multiply_adds,
        kernels=("transposed_conv_", "bias_gradient"),
        layers="`Conv2DTranspose`, `Conv1DTranspose`, `Conv3DTranspose`, and subclasses of them",
        computation="INT16 kernels in all three directions",
    )
)
