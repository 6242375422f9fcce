"""A family of layers in one file, as described in docs/adding-a-layer.md: ``y = 2 x``."""

import functools

import keras

from dfpkeras import kernels
from dfpkeras.backend import current
from dfpkeras.integration.layer_support import or_not_implemented
from dfpkeras.integration.policy import number_format_of
from dfpkeras.integration.registry import IntegerMethod, LayerFamily, register
from dfpkeras.ops.kernel_arguments import pack, unpack
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.operation import operation
from dfpkeras.ops.views import call_for_view, find_view, quantized_result, view_of


class Twice(keras.layers.Layer):
    """Doubles its input."""

    def call(self, inputs):
        return inputs + inputs


@operation
def twice(x, *, number_format):
    """2 x, or None if `x` has no quantised view."""
    formats = number_format.activation, number_format.gradient
    return None if find_view(x, formats[0]) is None else _twice(formats, x)


def _twice(formats, x):
    xq = view_of(x, formats[0])
    kernel = functools.partial(_twice_kernel, formats[0])
    y = call_for_view(kernel, [xq.data, xq.scale], x.shape, formats[0])

    def gradient(dy):
        return _twice(formats[::-1], current().as_tensor(dy))

    return quantized_result(y, [x], gradient, lambda x: x + x)


def _twice_kernel(tensor_format, x, scale):
    hits.add("twice")
    x = unpack(x, scale)
    return pack(kernels.add(x, x, bits=tensor_format.bits))


def _call(layer, inputs):
    return or_not_implemented(twice(inputs, number_format=number_format_of(layer)))


FAMILY = LayerFamily(
    kind="doubling",
    methods=(IntegerMethod(Twice, "call", _call),),
    has_weights=False,
    kernels=("twice",),
    layers="`Twice`",
    computation="INT16 in and out",
)
register(FAMILY)
