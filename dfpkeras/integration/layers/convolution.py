"""Conv1D, Conv2D and Conv3D."""

import math

import keras

from dfpkeras import ops
from dfpkeras.integration.keras_internals import BaseConv
from dfpkeras.integration.layer_support import (
    activated,
    bias_of,
    input_sizes,
    of_product,
    products_per_output,
)
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register
from dfpkeras.kernels.convolution_plan import DIRECTIONS, plan_of


def _convolve(layer, inputs, kernel, padding=None, bias=None):
    return ops.convolution(
        inputs,
        kernel,
        bias,
        strides=layer.strides,
        padding=padding or layer.padding,
        dilation_rate=layer.dilation_rate,
        groups=layer.groups,
        data_format=layer.data_format,
        **of_product(layer, kernel),
    )


def _call(layer, inputs, padding=None):
    return activated(layer, _convolve(layer, inputs, layer.kernel, padding, bias_of(layer)))


def _call_conv1d(layer, inputs):
    if layer.padding != "causal":
        return _call(layer, inputs)
    inputs = keras.ops.pad(inputs, layer._compute_causal_padding())
    return _call(layer, inputs, padding="valid")


def _keeps_convolution_op(layer):
    return type(layer).convolution_op is BaseConv.convolution_op


def _algorithms(layer, batch_size):
    number_format, sizes = number_format_of(layer), input_sizes(layer)
    if layer.rank == 1 or sizes is None or not layer.built:
        return None
    channels = layer.kernel.shape[-2] * layer.groups
    x_shape = (batch_size, *sizes, channels)
    arguments = layer.strides, layer.padding, layer.dilation_rate, layer.groups
    flush_every = number_format.flush_every or 0
    return {
        direction: plan_of(
            direction,
            (x_shape, tuple(layer.kernel.shape)),
            ("inputs", "kernel"),
            arguments,
            flush_every,
            number_format.algorithm,
        ).native.algorithm
        for direction in DIRECTIONS
    }


register(
    LayerFamily(
        kind="convolution",
        methods=(
            IntegerMethod(BaseConv, "convolution_op", _convolve),
            IntegerMethod(BaseConv, "call", _call, applies=_keeps_convolution_op),
            IntegerMethod(keras.layers.Conv1D, "call", _call_conv1d),
        ),
        has_weights=True,
        operation=lambda layer: f"{layer.rank}-D convolution",
        algorithms=_algorithms,
        multiply_adds=products_per_output(lambda layer: math.prod(layer.kernel.shape[:-1])),
        kernels=("conv_", "bias_gradient"),
        float32_operations=("Conv2D", "Conv3D"),
        layers="`Conv2D`, `Conv1D`, `Conv3D` (strides, dilation, groups, both data formats), and "
        "subclasses of them",
        computation="INT16 kernels in all three directions",
    )
)
