"""Differentiable concatenation, padding, cropping and reshaping for TensorFlow, on integers.

What moves numbers moves the integers that a tensor carries, and those of its gradient back: the
gradient of each operation is its inverse, or one of its kind, so gradients of any order are.
Each function returns None for tensors that carry no integers.
"""

import functools
import math

import tensorflow as tf

from dfpkeras.backend import hits
from dfpkeras.backend.tensorflow_carriers import (
    attach,
    call,
    carrier_of,
    dequantized,
    find_carrier,
    local,
    make_carrier,
    pack,
    set_shape,
    unpack,
)
from dfpkeras.backend.tensorflow_gradients import differentiable, quantized_result
from dfpkeras.backend.tensorflow_operands import from_arrays, operand
from dfpkeras.kernels import data_movement as kernels
from dfpkeras.kernels.roles import ACTIVATION, GRADIENT

_OPPOSITE = {ACTIVATION: GRADIENT, GRADIENT: ACTIVATION}


@tf.autograph.experimental.do_not_convert
def concatenate(tensors, axis):
    """Joins tensors along an axis, or returns None if none of them carries integers.

    Args:
        tensors: list of float32 tensors.
        axis: int.

    Returns:
        float32 tensor, which carries its integers.
    """
    if not all(isinstance(x, tf.Tensor) and x.dtype == tf.float32 for x in tensors):
        return None
    tensors = [local(x) for x in tensors]
    if all(find_carrier(x, ACTIVATION) is None for x in tensors):
        return None
    return _concatenate(axis, *tensors)


def _concatenate(axis, *tensors):
    tensors = [tf.convert_to_tensor(x) for x in tensors]
    operands = [operand(x, ACTIVATION) for x in tensors]
    kernel = functools.partial(_join, axis, [len(arrays) for arrays in operands])
    data, meta = call(kernel, [t for arrays in operands for t in arrays], [tf.int16, tf.int32])
    y = make_carrier(data, meta, _joined_shape([x.shape for x in tensors], axis), ACTIVATION)
    shapes = [x.shape for x in tensors]
    # Shapes of the operands, so that nothing else reads the float32 values.
    sizes = tf.stack([tf.shape(arrays[0])[axis] for arrays in operands])

    gradient = functools.partial(_split, axis, shapes, sizes)
    return quantized_result(y, tensors, gradient, lambda *tensors: tf.concat(tensors, axis))


def _split(axis, shapes, sizes, dy):
    dy = tf.convert_to_tensor(dy)
    dyq = carrier_of(dy, GRADIENT)
    kernel = functools.partial(_cut, axis)
    results = call(kernel, [dyq.data, dyq.meta, sizes], [tf.int16, tf.int32] * len(shapes))
    parts = [
        make_carrier(data, meta, shape, GRADIENT)
        for data, meta, shape in zip(results[::2], results[1::2], shapes, strict=True)
    ]

    values = [dequantized(part) for part in parts]
    gradient = functools.partial(_concatenate, axis)
    results = differentiable(values, [dy], gradient, lambda dy: tf.split(dy, sizes, axis))
    return [attach(dx, part) for dx, part in zip(results, parts, strict=True)]


def _joined_shape(shapes, axis):
    joined = [list(shape) for shape in shapes]
    lengths = [shape[axis] for shape in joined]
    for shape in joined:
        shape[axis] = None if None in lengths else sum(lengths)
    joined = [tf.TensorShape(shape) for shape in joined]
    return functools.reduce(lambda a, b: a.merge_with(b), joined)


@tf.autograph.experimental.do_not_convert
def zero_pad(x, padding, data_format):
    """Zeros around images or sequences, or None if `x` carries no integers.

    Args:
        x: float32 tensor (N, H, W, C), (N, C, H, W), (N, L, C) or (N, C, L).
        padding: pairs of ints for each spatial dimension.
        data_format: "channels_last" or "channels_first".

    Returns:
        float32 tensor in the layout of `x`, which carries its integers.
    """
    if find_carrier(x, ACTIVATION) is None:
        return None
    return _reframe("zero_pad", tuple(padding), data_format, ACTIVATION, x)


@tf.autograph.experimental.do_not_convert
def crop(x, cropping, data_format):
    """Images or sequences without their borders, or None; as `zero_pad`."""
    if find_carrier(x, ACTIVATION) is None:
        return None
    return _reframe("crop", tuple(cropping), data_format, ACTIVATION, x)


def _reframe(name, borders, data_format, role, x):
    x = tf.convert_to_tensor(x)
    xq = carrier_of(x, role)
    kernel = functools.partial(_change_borders, name, borders, data_format)
    data, meta = call(kernel, [xq.data, xq.meta], [tf.int16, tf.int32])
    shape = _reframed_shape(x.shape, 1 if name == "zero_pad" else -1, borders, data_format)
    y = make_carrier(data, meta, shape, role)
    inverse = {"zero_pad": "crop", "crop": "zero_pad"}[name]
    gradient = functools.partial(_reframe, inverse, borders, data_format, _OPPOSITE[role])
    float_values = functools.partial(_float_reframed, name, borders, data_format)
    return quantized_result(y, [x], gradient, float_values)


def _float_reframed(name, borders, data_format, x):
    around = [(0, 0)] * (x.shape.rank - len(borders) - 1)
    borders = (
        [(0, 0), *around, *borders]
        if data_format == "channels_first"
        else [(0, 0), *borders, *around]
    )
    if name == "zero_pad":
        return tf.pad(x, borders)
    return x[tuple(slice(before, -after or None) for before, after in borders)]


def _reframed_shape(shape, sign, borders, data_format):
    shape = list(shape)
    first = 2 if data_format == "channels_first" else 1
    for i, border in enumerate(borders, first):
        shape[i] = None if shape[i] is None else shape[i] + sign * sum(border)
    return shape


@tf.autograph.experimental.do_not_convert
def reshape(x, shape):
    """Another shape for each image, or None if `x` carries no integers.

    Args:
        x: float32 tensor (N, ...).
        shape: sequence of ints without N, one of which may be -1.

    Returns:
        float32 tensor (N, *shape), which carries its integers.
    """
    carrier = find_carrier(x, ACTIVATION)
    if carrier is None:
        return None
    before = tf.shape(carrier.data)

    def there(t):
        batch = before[0] if x.shape[0] is None else x.shape[0]
        return tf.reshape(t, [batch, *shape])

    def back(t):
        return set_shape(tf.reshape(t, before), x.shape)

    return _move(there, back, ACTIVATION, x)


@tf.autograph.experimental.do_not_convert
def transpose(x, axes):
    """`tf.transpose`, or None if `x` carries no integers; `axes` is a permutation."""
    if find_carrier(x, ACTIVATION) is None:
        return None
    inverse = [axes.index(i) for i in range(len(axes))]
    return _move(lambda t: tf.transpose(t, axes), lambda t: tf.transpose(t, inverse), ACTIVATION, x)


def _move(there, back, role, x):
    """`there(x)` of a tensor and its integers; `back` is the inverse."""
    x = tf.convert_to_tensor(x)
    before = carrier_of(x, role)
    data = there(before.data)
    after = make_carrier(data, before.meta, data.shape, role)

    gradient = functools.partial(_move, back, there, _OPPOSITE[role])
    return attach(differentiable(there(x), [x], gradient, there), after)


def _join(axis, lengths, *arrays):
    hits.add("concatenate")
    arrays = iter(arrays)
    tensors = [from_arrays(*(next(arrays) for _ in range(length))) for length in lengths]
    return pack(kernels.concatenate(tensors, axis, ACTIVATION.bits))


def _cut(axis, dy, meta, sizes):
    hits.add("split")
    parts = kernels.split(unpack(dy, meta), sizes.tolist(), axis)
    return [array for part in parts for array in pack(part)]


def _change_borders(name, borders, data_format, x, meta):
    """The axes before and behind the spatial ones count as images and channels."""
    hits.add(name)
    first = 2 if data_format == "channels_first" else 1
    end = first + len(borders)
    missing = 2 - len(borders)
    size = (1,) * missing + x.shape[first:end]
    images = math.prod(x.shape[:first]), *size, math.prod(x.shape[end:])
    tensor = unpack(x, meta).reshape(images)
    y = getattr(kernels, name)(tensor, ((0, 0),) * missing + borders)
    return pack(y.reshape(*x.shape[:first], *y.shape[1 + missing : 3], *x.shape[end:]))
