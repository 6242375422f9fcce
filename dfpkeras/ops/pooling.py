"""Differentiable pooling, of tensors that have integers: a quantised view, or blocks.

Each function returns None for a tensor that does not. The gradient of an average is again an
average of its upstream gradient, and so on to any order; the gradient of a maximum is linear in its
upstream gradient, and higher orders are left to the backend's own operations.
"""

import dataclasses
import functools
import math

from dfpkeras import kernels
from dfpkeras.backend import current
from dfpkeras.kernels.number_format import NumberFormat
from dfpkeras.kernels.tensor_format import round_to
from dfpkeras.kernels.window_shapes import layer_output_shape
from dfpkeras.ops.data_movement import reshape
from dfpkeras.ops.image_layout import channels_last, restored
from dfpkeras.ops.kernel_arguments import from_arrays, pack, unpack
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.operation import operation
from dfpkeras.ops.views import (
    dequantized,
    find_integers,
    make_view,
    operand,
    quantized_result,
    view_dtypes,
    view_of,
)


@dataclasses.dataclass(frozen=True)
class _Windows:
    """What is pooled: tuples of 1, 2 or 3 ints, "valid" or "same", and the data format."""

    pool_size: tuple
    strides: tuple
    padding: str
    data_format: str
    number_format: NumberFormat

    @property
    def arguments(self):
        """The arguments of kernels on images or volumes."""
        one = (1,) * (2 - len(self.strides))
        return {
            "pool_size": one + self.pool_size,
            "strides": one + self.strides,
            "padding": self.padding,
        }

    def output_shape(self, shape):
        one = (1,) * len(self.strides)
        window = self.pool_size, self.strides, self.padding, one
        return layer_output_shape(tuple(shape), *window, self.data_format)

    def call(self, kernel, operands, shape, tensor_format):
        """The view of the result of a kernel on channels-last arrays, in the layer's layout."""
        kernel = functools.partial(kernel, self.arguments, tensor_format)
        data, scale = current().call(kernel, operands, view_dtypes())
        return make_view(restored(data, shape, self.data_format), scale, shape, tensor_format)

    def channels_last(self, x):
        return channels_last(x, self.data_format)

    def float32_max_pool(self, x):
        """Computed by the backend's own operations."""
        return self._float32_pool(current().float32_operations.max_pool, x)

    def float32_average_pool(self, x):
        """Computed by the backend's own operations."""
        return self._float32_pool(current().float32_operations.average_pool, x)

    def _float32_pool(self, pool, x):
        y = pool(self.channels_last(x), **self.arguments)
        return restored(y, self.output_shape(x.shape), self.data_format)


@operation
def max_pool(x, *, pool_size, strides, padding, data_format, number_format):
    """The maximum of each window, or None if `x` has no integers.

    Args:
        x: float32 tensor (N, L, C), (N, H, W, C) or (N, D, H, W, C), or with C as the second
            dimension.
        pool_size, strides: tuples of 1, 2 or 3 ints.
        padding: "valid" or "same" (TensorFlow's SAME).
        data_format: "channels_last" or "channels_first".
        number_format: `NumberFormat`.

    Returns:
        float32 tensor in the layout of `x`, with a quantised view.
    """
    if find_integers(x, number_format.activation) is None:
        return None
    xq = view_of(x, number_format.activation)
    windows = _Windows(pool_size, strides, padding, data_format, number_format)
    operands = [windows.channels_last(xq.data), xq.scale]
    y = windows.call(_max_pool, operands, windows.output_shape(x.shape), number_format.activation)

    gradient = functools.partial(_max_pool_gradient, windows, x, xq, y)
    return quantized_result(y, [x], gradient, windows.float32_max_pool)


def _max_pool_gradient(windows, float_x, x, y, dy):
    dy, tensor_format = current().as_tensor(dy), windows.number_format.gradient
    dyq = view_of(dy, tensor_format)
    operands = [t for q in (dyq, x, y) for t in (windows.channels_last(q.data), q.scale)]
    dx = windows.call(_max_pool_backward, operands, x.data.shape, tensor_format)
    gradient = functools.partial(_upstream_of_maxima, windows, x, y)
    float32_values = functools.partial(_float32_gradient, windows.float32_max_pool, float_x)
    return quantized_result(dx, [dy], gradient, float32_values)


def _float32_gradient(pool, x, dy):
    """The gradient of a pooling operation of the backend at `x`."""
    return current().float32_gradient(pool, [x], [dy])


def _float32_average_gradient(pool, shapes, data_format, dy):
    """The gradient of an average, the same at every input."""
    x = restored(current().zeros(shapes[1]), shapes[0], data_format)
    return _float32_gradient(pool, x, dy)


def _upstream_of_maxima(windows, x, y, ddx):
    """The transpose of the gradient: what `ddx` holds where the maxima are, by the backend."""
    images = [windows.channels_last(t) for t in (dequantized(x), dequantized(y), ddx)]
    ddy = current().float32_operations.values_at_maxima(*images, **windows.arguments)
    return restored(ddy, y.data.shape, windows.data_format)


@operation
def average_pool(x, *, pool_size, strides, padding, data_format, number_format):
    """The average of each window, or None if `x` has no integers; as `max_pool`."""
    if find_integers(x, number_format.activation) is None:
        return None
    windows = _Windows(pool_size, strides, padding, data_format, number_format)
    return _average_pool(windows, x)


def _average_pool(windows, x):
    x, tensor_format = current().as_tensor(x), windows.number_format.activation
    xq = view_of(x, tensor_format)
    images = windows.channels_last(xq.data)
    shape = windows.output_shape(x.shape)
    y = windows.call(_average_pool_forward, [images, xq.scale], shape, tensor_format)
    shapes = x.shape, current().sizes(images)

    gradient = functools.partial(_average_pool_gradient, windows, shapes)
    return quantized_result(y, [x], gradient, windows.float32_average_pool)


def _average_pool_gradient(windows, shapes, dy):
    """`shapes` of the input: as known, and as a tensor in channels-last layout."""
    dy, tensor_format = current().as_tensor(dy), windows.number_format.gradient
    dyq = view_of(dy, tensor_format)
    operands = [windows.channels_last(dyq.data), dyq.scale, shapes[1]]
    dx = windows.call(_average_pool_backward, operands, shapes[0], tensor_format)

    float32_values = functools.partial(
        _float32_average_gradient, windows.float32_average_pool, shapes, windows.data_format
    )
    gradient = functools.partial(_average_pool, windows)
    return quantized_result(dx, [dy], gradient, float32_values)


@operation
def global_average_pool(x, *, data_format, keepdims, number_format):
    """The average of each image and channel, or None if `x` has no integers.

    Args:
        x: float32 tensor (N, L, C), (N, H, W, C) or (N, D, H, W, C), or with C as the second
            dimension.
        data_format: "channels_last" or "channels_first".
        keepdims: bool, whether the result keeps the rank of `x`.
        number_format: `NumberFormat`.

    Returns:
        float32 tensor (N, C), or with spatial dimensions of 1; it has no quantised view.
    """
    if find_integers(x, number_format.activation) is None:
        return None
    y = _global_average(data_format, number_format, x)
    if not keepdims:
        return y
    for axis in _spatial_axes(x, data_format):
        y = current().expand_dims(y, axis)
    return y


def _global_average(data_format, number_format, x):
    backend = current()
    x = backend.as_tensor(x)
    xq = view_of(x, number_format.activation)
    images = channels_last(xq.data, data_format)
    (y,) = backend.call(_global_average_forward, [images, xq.scale], [backend.float32])
    shapes = x.shape, backend.sizes(images)

    y = backend.with_shape(y, _reduced_shape(x, data_format))
    gradient = functools.partial(_global_average_gradient, data_format, number_format, shapes)
    mean = backend.float32_operations.mean
    float32_values = functools.partial(_float32_global, mean, data_format)
    return backend.differentiable(y, [x], gradient, float32_values)


def _float32_global(reduce, data_format, x):
    return reduce(x, list(_spatial_axes(x, data_format)))


def _global_average_gradient(data_format, number_format, shapes, dy):
    dy, tensor_format = current().as_tensor(dy), number_format.gradient
    operands = [shapes[1], *operand(dy, tensor_format)]
    kernel = functools.partial(_global_average_backward, tensor_format)
    data, scale = current().call(kernel, operands, view_dtypes())
    dx = make_view(restored(data, shapes[0], data_format), scale, shapes[0], tensor_format)

    mean = current().float32_operations.mean
    pool = functools.partial(_float32_global, mean, data_format)
    float32_values = functools.partial(_float32_average_gradient, pool, shapes, data_format)
    gradient = functools.partial(_global_average, data_format, number_format)
    return quantized_result(dx, [dy], gradient, float32_values)


@operation
def global_max_pool(x, *, data_format, keepdims, number_format):
    """The maximum of each image and channel, or None; as `global_average_pool`, but the result
    has a quantised view."""
    tensor_format = number_format.activation
    if find_integers(x, tensor_format) is None:
        return None
    xq = view_of(x, tensor_format)
    images = channels_last(xq.data, data_format)
    data, scale = current().call(_global_max_forward, [images, xq.scale], view_dtypes())
    y = make_view(data, scale, _reduced_shape(x, data_format), tensor_format)

    gradient = functools.partial(_global_max_gradient, data_format, number_format, x, xq, y)
    maximum = current().float32_operations.maximum
    float32_values = functools.partial(_float32_global, maximum, data_format)
    result = quantized_result(y, [x], gradient, float32_values)
    if not keepdims:
        return result
    shape = list(x.shape[1:])
    for axis in _spatial_axes(x, data_format):
        shape[axis - 1] = 1
    return reshape(result, shape, number_format=number_format)


def _global_max_gradient(data_format, number_format, float_x, x, y, dy):
    dy, tensor_format = current().as_tensor(dy), number_format.gradient
    images = channels_last(x.data, data_format)
    operands = [images, x.scale, y.data, y.scale, *operand(dy, tensor_format)]
    kernel = functools.partial(_global_max_backward, tensor_format)
    data, scale = current().call(kernel, operands, view_dtypes())
    shape = x.data.shape
    dx = make_view(restored(data, shape, data_format), scale, shape, tensor_format)

    maximum = current().float32_operations.maximum
    pool = functools.partial(_float32_global, maximum, data_format)
    gradient = functools.partial(_upstream_of_global_maxima, data_format, x, y)
    float32_values = functools.partial(_float32_gradient, pool, float_x)
    return quantized_result(dx, [dy], gradient, float32_values)


def _upstream_of_global_maxima(data_format, x, y, ddx):
    """The transpose of the gradient: the mean of `ddx` where the maxima are, by the backend."""
    images = channels_last(ddx, data_format), channels_last(x.data, data_format)
    return current().float32_operations.mean_where_equal(*images, y.data)


def _reduced_shape(x, data_format):
    return x.shape[0], x.shape[1 if data_format == "channels_first" else -1]


def _spatial_axes(x, data_format):
    first = 2 if data_format == "channels_first" else 1
    return range(first, first + len(x.shape) - 2)


def _sizes(shape):
    return tuple(int(size) for size in shape)


_OF_VOLUMES = {
    kernels.max_pool: kernels.max_pool3d,
    kernels.max_pool_backward: kernels.max_pool3d_backward,
    kernels.average_pool: kernels.average_pool3d,
    kernels.average_pool_backward: kernels.average_pool3d_backward,
}


def _over_windows(kernel, arguments):
    """A kernel, or its relative for volumes, with the arguments of its windows."""
    if len(arguments["pool_size"]) == 3:
        kernel = _OF_VOLUMES[kernel]
    return functools.partial(kernel, **arguments)


def _image_shape(shape):
    """The shape of images, or of volumes as images with the rows of all planes."""
    batch, *sizes, width, channels = shape
    return batch, math.prod(sizes), width, channels


def _as_images(x):
    return x.reshape(*_image_shape(x.shape))


def _max_pool(arguments, tensor_format, x, scale):
    hits.add("max_pool")
    return pack(_over_windows(kernels.max_pool, arguments)(unpack(x, scale)))


def _max_pool_backward(arguments, tensor_format, dy, dy_scale, x, x_scale, y, y_scale):
    hits.add("max_pool_backward")
    tensors = unpack(dy, dy_scale), unpack(x, x_scale), unpack(y, y_scale)
    kernel = _over_windows(kernels.max_pool_backward, arguments)
    return pack(kernel(*tensors, bits=tensor_format.bits))


def _average_pool_forward(arguments, tensor_format, x, scale):
    hits.add("average_pool")
    kernel = _over_windows(kernels.average_pool, arguments)
    y = kernel(unpack(x, scale), bits=tensor_format.written_bits)
    return pack(round_to(y, tensor_format))


def _average_pool_backward(arguments, tensor_format, dy, scale, shape):
    hits.add("average_pool_backward")
    dy, shape, bits = unpack(dy, scale), _sizes(shape), tensor_format.written_bits
    dx = _over_windows(kernels.average_pool_backward, arguments)(dy, shape, bits=bits)
    return pack(round_to(dx, tensor_format))


def _global_average_forward(x, scale):
    hits.add("global_average_pool")
    return [kernels.global_average_pool(_as_images(unpack(x, scale)))]


def _global_average_backward(tensor_format, shape, *dy):
    hits.add("global_average_pool_backward")
    shape, bits = _sizes(shape), tensor_format.written_bits
    dx = kernels.global_average_pool_backward(from_arrays(*dy), _image_shape(shape), bits)
    return pack(round_to(dx.reshape(*shape), tensor_format))


def _global_max_forward(x, scale):
    hits.add("global_max_pool")
    return pack(kernels.global_max_pool(_as_images(unpack(x, scale))))


def _global_max_backward(tensor_format, x, x_scale, y, y_scale, *dy):
    hits.add("global_max_pool_backward")
    shape, bits = x.shape, tensor_format.written_bits
    x, y = _as_images(unpack(x, x_scale)), unpack(y, y_scale)
    dx = kernels.global_max_pool_backward(from_arrays(*dy), x, y, bits)
    return pack(round_to(dx.reshape(*shape), tensor_format))
