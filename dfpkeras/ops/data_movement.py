"""Differentiable concatenation, padding, cropping and reshaping, on integers.

These operations move the integers of a tensor, and its gradient's integers back: the gradient of
each is its inverse, or an operation of the same kind, so gradients of any order stay on integers.
Each function returns None for tensors that have no integers: neither a quantised view nor blocks.
"""

import functools
import math

from dfpkeras import kernels
from dfpkeras.backend import current
from dfpkeras.ops.kernel_arguments import from_arrays, pack, unpack
from dfpkeras.ops.kernel_hits import hits
from dfpkeras.ops.operation import operation
from dfpkeras.ops.views import (
    attach_view,
    call_for_view,
    dequantized,
    find_integers,
    make_view,
    operand,
    quantized_result,
    view_dtypes,
    view_of,
)


@operation
def concatenate(tensors, axis, *, number_format):
    """Joins tensors along an axis, or returns None if none of them has integers.

    Args:
        tensors: list of float32 tensors.
        axis: int.
        number_format: `NumberFormat`.

    Returns:
        float32 tensor with a quantised view.
    """
    backend = current()
    if any(backend.unsupported(x) for x in tensors):
        return None
    tensors = [backend.in_scope(x) for x in tensors]
    if all(find_integers(x, number_format.activation) is None for x in tensors):
        return None
    return _concatenate(axis, number_format, *tensors)


def _concatenate(axis, number_format, *tensors):
    backend, tensor_format = current(), number_format.activation
    tensors = [backend.as_tensor(x) for x in tensors]
    operands = [operand(x, tensor_format) for x in tensors]
    kernel = functools.partial(_join, axis, [len(arrays) for arrays in operands], tensor_format)
    shape = _joined_shape([tuple(x.shape) for x in tensors], axis)
    arrays = [array for arrays in operands for array in arrays]
    y = call_for_view(kernel, arrays, shape, tensor_format)
    shapes = [x.shape for x in tensors]
    # Shapes of the operands, so that nothing else reads the float32 values.
    lengths = backend.stack([backend.sizes(arrays[0])[axis] for arrays in operands])

    gradient = functools.partial(_split, axis, number_format, shapes, lengths)

    def float32_values(*tensors):
        return current().float32_operations.concatenate(tensors, axis)

    return quantized_result(y, tensors, gradient, float32_values)


def _split(axis, number_format, shapes, lengths, dy):
    backend, tensor_format = current(), number_format.gradient
    dy = backend.as_tensor(dy)
    dyq = view_of(dy, tensor_format)
    kernel = functools.partial(_cut, axis)
    results = backend.call(kernel, [dyq.data, dyq.scale, lengths], view_dtypes() * len(shapes))
    parts = [
        make_view(data, scale, shape, tensor_format)
        for data, scale, shape in zip(results[::2], results[1::2], shapes, strict=True)
    ]

    def float32_values(dy):
        return current().float32_operations.split(dy, lengths, axis)

    values = [dequantized(part) for part in parts]
    gradient = functools.partial(_concatenate, axis, number_format)
    results = backend.differentiable(values, [dy], gradient, float32_values)
    return [attach_view(dx, part) for dx, part in zip(results, parts, strict=True)]


def _joined_shape(shapes, axis):
    """Sizes that are known for one tensor are known for all, except on the axis."""
    joined = [
        next((size for size in sizes if size is not None), None)
        for sizes in zip(*shapes, strict=True)
    ]
    lengths = [shape[axis] for shape in shapes]
    joined[axis] = None if None in lengths else sum(lengths)
    return tuple(joined)


@operation
def zero_pad(x, padding, *, data_format, number_format):
    """Zeros around sequences, images or volumes, or None if `x` has no integers.

    Args:
        x: float32 tensor (N, L, C), (N, H, W, C) or (N, D, H, W, C), or with C as the second
            dimension.
        padding: pairs of ints for each spatial dimension.
        data_format: "channels_last" or "channels_first".
        number_format: `NumberFormat`.

    Returns:
        float32 tensor in the layout of `x`, with a quantised view.
    """
    formats = number_format.activation, number_format.gradient
    if find_integers(x, formats[0]) is None:
        return None
    return _pad_and_crop("zero_pad", tuple(padding), data_format, formats, x)


@operation
def crop(x, cropping, *, data_format, number_format):
    """Sequences, images or volumes without their borders, or None; as `zero_pad`."""
    formats = number_format.activation, number_format.gradient
    if find_integers(x, formats[0]) is None:
        return None
    return _pad_and_crop("crop", tuple(cropping), data_format, formats, x)


def _pad_and_crop(name, borders, data_format, formats, x):
    """`formats`: the `TensorFormat` of `x`, and that of its gradient."""
    x = current().as_tensor(x)
    xq = view_of(x, formats[0])
    kernel = functools.partial(_change_borders, name, borders, data_format)
    shape = _new_shape(x.shape, 1 if name == "zero_pad" else -1, borders, data_format)
    y = call_for_view(kernel, [xq.data, xq.scale], shape, formats[0])
    inverse = {"zero_pad": "crop", "crop": "zero_pad"}[name]
    gradient = functools.partial(_pad_and_crop, inverse, borders, data_format, formats[::-1])
    float32_values = functools.partial(_float32_pad_and_crop, name, borders, data_format)
    return quantized_result(y, [x], gradient, float32_values)


def _float32_pad_and_crop(name, borders, data_format, x):
    around = [(0, 0)] * (len(x.shape) - len(borders) - 1)
    borders = (
        [(0, 0), *around, *borders]
        if data_format == "channels_first"
        else [(0, 0), *borders, *around]
    )
    if name == "zero_pad":
        return current().float32_operations.pad(x, borders)
    return x[tuple(slice(before, -after or None) for before, after in borders)]


def _new_shape(shape, sign, borders, data_format):
    shape = list(shape)
    first = 2 if data_format == "channels_first" else 1
    for i, border in enumerate(borders, first):
        shape[i] = None if shape[i] is None else shape[i] + sign * sum(border)
    return shape


@operation
def reshape(x, shape, *, number_format):
    """Another shape for each image, or None if `x` has no integers.

    Args:
        x: float32 tensor (N, ...).
        shape: sequence of ints without N, one of which may be -1.
        number_format: `NumberFormat`.

    Returns:
        float32 tensor (N, *shape), with a quantised view.
    """
    formats = number_format.activation, number_format.gradient
    if find_integers(x, formats[0]) is None:
        return None
    before = current().sizes(view_of(x, formats[0]).data)

    def there(t):
        batch = before[0] if x.shape[0] is None else x.shape[0]
        return current().reshape(t, [batch, *shape])

    def back(t):
        return current().with_shape(current().reshape(t, before), x.shape)

    return _move(there, back, formats, x)


@operation
def transpose(x, axes, *, number_format):
    """Permutes the dimensions, or returns None if `x` has no integers."""
    formats = number_format.activation, number_format.gradient
    if find_integers(x, formats[0]) is None:
        return None
    inverse = [axes.index(i) for i in range(len(axes))]
    return _move(
        lambda t: current().transpose(t, axes),
        lambda t: current().transpose(t, inverse),
        formats,
        x,
    )


def _move(there, back, formats, x):
    """`there(x)` of a tensor and its integers; `back` is the inverse."""
    x = current().as_tensor(x)
    before = view_of(x, formats[0])
    data = there(before.data)
    after = make_view(data, before.scale, data.shape, formats[0])

    gradient = functools.partial(_move, back, there, formats[::-1])
    return attach_view(current().differentiable(there(x), [x], gradient, there), after)


def _join(axis, lengths, tensor_format, *arrays):
    hits.add("concatenate")
    arrays = iter(arrays)
    tensors = [from_arrays(*(next(arrays) for _ in range(length))) for length in lengths]
    return pack(kernels.concatenate(tensors, axis, tensor_format.bits))


def _cut(axis, dy, scale, lengths):
    hits.add("split")
    parts = kernels.split(unpack(dy, scale), lengths.tolist(), axis)
    return [array for part in parts for array in pack(part)]


def _change_borders(name, borders, data_format, x, scale):
    """Of volumes, first those along the depth, then those of planes."""
    hits.add(name)
    first = 2 if data_format == "channels_first" else 1
    x = unpack(x, scale)
    if len(borders) == 3:
        x, first, borders = _change_axes(name, borders[:1], first, x), first + 1, borders[1:]
    return pack(_change_axes(name, borders, first, x))


def _change_axes(name, borders, first, x):
    """Those of one or two axes from `first` on; axes before and after count as images and
    channels."""
    end = first + len(borders)
    missing = 2 - len(borders)
    size = (1,) * missing + x.shape[first:end]
    images = math.prod(x.shape[:first]), *size, math.prod(x.shape[end:])
    y = _FRAMES[name](x.reshape(images), ((0, 0),) * missing + borders)
    return y.reshape(*x.shape[:first], *y.shape[1 + missing : 3], *x.shape[end:])


_FRAMES = {"zero_pad": kernels.zero_pad, "crop": kernels.crop}
