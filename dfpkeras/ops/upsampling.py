"""Differentiable upsampling to the nearest pixel, of tensors that have integers.

Its gradient is the sum over each window, whose gradient is upsampling again.
"""

import functools

from dfpkeras import kernels
from dfpkeras.backend import current
from dfpkeras.kernels.tensor_format import round_to
from dfpkeras.ops.image_layout import channels_last, restored
from dfpkeras.ops.kernel_arguments import pack, unpack
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.operation import operation
from dfpkeras.ops.views import find_integers, make_view, quantized_result, view_dtypes, view_of


@operation
def upsample(x, size, *, data_format, number_format):
    """Every pixel several times, or None if `x` has no integers.

    Args:
        x: float32 tensor (N, H, W, C), (N, C, H, W) or (N, L, C).
        size: tuple of an int for each spatial dimension.
        data_format: "channels_last" or "channels_first".
        number_format: `NumberFormat`.

    Returns:
        float32 tensor in the layout of `x`, with a quantised view.
    """
    formats = number_format.activation, number_format.gradient
    if find_integers(x, formats[0]) is None:
        return None
    return _resample("upsample", tuple(size), data_format, formats, x)


def _resample(name, size, data_format, formats, x):
    """`formats`: the `TensorFormat` of `x`, and that of its gradient."""
    x = current().as_tensor(x)
    xq = view_of(x, formats[0])
    kernel = functools.partial(_KERNELS[name], (1,) * (2 - len(size)) + size, formats[0])
    images = channels_last(xq.data, data_format)
    data, scale = current().call(kernel, [images, xq.scale], view_dtypes())
    shape = _new_shape(name, x.shape, size, data_format)
    y = make_view(restored(data, shape, data_format), scale, shape, formats[0])
    inverse = {"upsample": "sum_pool", "sum_pool": "upsample"}[name]
    gradient = functools.partial(_resample, inverse, size, data_format, formats[::-1])
    float32_values = functools.partial(_float32_resample, name, size, data_format)
    return quantized_result(y, [x], gradient, float32_values)


def _float32_resample(name, size, data_format, x):
    operations = current().float32_operations
    first = 2 if data_format == "channels_first" else 1
    if name == "upsample":
        for axis, factor in enumerate(size, first):
            x = operations.repeat(x, factor, axis)
        return x
    shape = x.shape
    images = operations.sum_pool(channels_last(x, data_format), (1,) * (2 - len(size)) + size)
    return restored(images, _new_shape(name, shape, size, data_format), data_format)


def _new_shape(name, shape, size, data_format):
    shape = list(shape)
    for axis, factor in enumerate(size, 2 if data_format == "channels_first" else 1):
        if shape[axis] is not None:
            shape[axis] = shape[axis] * factor if name == "upsample" else shape[axis] // factor
    return shape


def _upsample(size, tensor_format, x, scale):
    hits.add("upsample")
    return pack(kernels.upsample(unpack(x, scale), size))


def _sum_pool(size, tensor_format, x, scale):
    hits.add("sum_pool")
    y = kernels.sum_pool(unpack(x, scale), size, tensor_format.written_bits)
    return pack(round_to(y, tensor_format))


_KERNELS = {"upsample": _upsample, "sum_pool": _sum_pool}
