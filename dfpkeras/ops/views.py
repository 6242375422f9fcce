"""Quantised views: the integers of float32 tensors.

A view is kept with the float32 tensor that it was quantised from, or that was dequantised
from it. A tensor that several operations consume is quantised once. Kernels read the results of
convolutions from the blocks (`dfpkeras.kernels.block_tensor`) that are kept with them in the same
way.
"""

import functools
import itertools
import typing

from dfpkeras.backend import current
from dfpkeras.kernels.elementwise import sum_gradients as sum_gradients_kernel
from dfpkeras.kernels.tensor_format import TensorFormat, quantize_to, round_to
from dfpkeras.ops.kernel_arguments import from_arrays, pack, unpack
from dfpkeras.ops.kernel_hits import hits

_NAME = "_dfp_view"
_BLOCKS_NAME = "_dfp_blocks"


class QuantizedView(typing.NamedTuple):
    """The integers of a tensor.

    Attributes:
        data: int16 tensor, in the layout of the float32 tensor.
        scale: int32 tensor of shape (2,): shared exponent, largest magnitude in `data`.
        format: `TensorFormat` that it was quantised to.
        channel_sums: float32 tensor (channels,), the sums of a gradient over all pixels if the
            operation that made it knows them; or None.
    """

    data: typing.Any
    scale: typing.Any
    format: TensorFormat
    channel_sums: typing.Any = None


class BlocksView(typing.NamedTuple):
    """The blocks of a tensor, exactly its value.

    Attributes:
        data: int16 tensor (..., channels).
        scale: float32 tensor (..., channels / block).
    """

    data: typing.Any
    scale: typing.Any


def view_of(x, tensor_format):
    """Returns the view of float32 tensor `x` in a format, existing or made now."""
    found = find_view(x, tensor_format)
    if found is not None:
        return found
    if tensor_format.role == "gradient" and current().summands(x) is not None:
        view = sum_gradients(x, tensor_format)
    else:
        view = _quantized(x, tensor_format)
    if current().is_in_scope(x):
        attach_view(x, view)
    return view


def _quantized(x, tensor_format):
    kernel = functools.partial(_quantize, tensor_format)
    return call_for_view(kernel, operand(x, tensor_format), x.shape, tensor_format)


def find_view(x, tensor_format):
    """Returns the view in a format that float32 tensor `x` has in the current scope, or None."""
    backend = current()
    found = backend.attached(x, _NAME)
    if found is None or not found.format.gives_the_same_integers_as(tensor_format):
        return None
    return found if backend.is_in_scope(found.data) else None


def find_blocks(x):
    """Returns the blocks that float32 tensor `x` has in the current scope, or None."""
    found = current().attached(x, _BLOCKS_NAME)
    return found if found is not None and current().is_in_scope(found.data) else None


def find_integers(x, tensor_format):
    """Returns the view in a format that `x` has, or its blocks, which `view_of` makes one of; or
    None."""
    return find_view(x, tensor_format) or find_blocks(x)


def attach_blocks(x, blocks):
    """Attaches blocks to their float32 tensor, which it returns."""
    current().attach(x, _BLOCKS_NAME, blocks)
    return x


def call_for_view(kernel, operands, shape, tensor_format):
    """Calls a kernel that returns a quantised tensor; `shape` is as far as known."""
    backend = current()
    data, scale = backend.call(kernel, operands, view_dtypes())
    return make_view(data, scale, shape, tensor_format)


def view_dtypes():
    """The types of the arrays that a kernel returns for a quantised tensor."""
    return [current().int16, current().int32]


def make_view(data, scale, shape, tensor_format):
    """Returns the view of what a kernel returned."""
    backend = current()
    return QuantizedView(
        backend.with_shape(data, shape), backend.with_shape(scale, [2]), tensor_format
    )


def attach_view(x, view):
    """Attaches a view to its float32 tensor, which it returns."""
    current().attach(x, _NAME, view)
    return x


def dequantized(view):
    """Returns the float32 value of a view or of blocks; a lazy backend computes it only if it is
    read."""
    backend = current()
    (x,) = backend.call(_dequantize, [view.data, view.scale], [backend.float32])
    return backend.with_shape(x, view.data.shape)


def quantized_result(view, inputs, gradient, float32_values=None):
    """The float32 tensor of a view, with a gradient; see `Backend.differentiable`."""
    y = current().differentiable(dequantized(view), inputs, gradient, float32_values)
    return attach_view(y, view)


def sum_gradients(dy, tensor_format, y=None, activation=None):
    """Returns the view of a gradient, masked by the result of an activation.

    Args:
        dy: float32 tensor; if the backend added it up, its summands are added here, without an FP32
            pass for each.
        tensor_format: `TensorFormat` of gradients.
        y: `QuantizedView` of the activation's result, or None.
        activation: None, "relu" or "relu6".
    """
    summands = current().summands(dy) or [dy]
    operands = [] if y is None else [y.data, y.scale]
    parts = [operand(part, tensor_format) for part in summands]
    operands += [array for arrays in parts for array in arrays]
    is_kept = len(summands) == 1 and find_view(summands[0], tensor_format) is not None
    lengths = [len(arrays) for arrays in parts]
    kernel = functools.partial(_sum_gradients, tensor_format, activation, lengths, is_kept)
    return call_for_view(kernel, operands, dy.shape, tensor_format)


def operand(x, tensor_format):
    """Returns the list of a tensor's integers or blocks and their scale, or of itself."""
    view = find_integers(x, tensor_format)
    return [x] if view is None else [view.data, view.scale]


def named_operand(name, x, tensor_format):
    """Like `operand`, as a dict of operands by name; empty for None."""
    if x is None:
        return {}
    view = find_integers(x, tensor_format)
    return {name: x} if view is None else named_view(name, view)


def gradient_operand(name, dy, tensor_format):
    """Like `named_operand`, of an upstream gradient: one that the framework added up is its
    view."""
    if current().summands(dy) is not None:
        return named_view(name, view_of(dy, tensor_format))
    return named_operand(name, dy, tensor_format)


def differentiable_in_float32(values, inputs, float32_values):
    """Gives values a gradient by the backend's own operations: see `Backend.differentiable`."""
    return current().differentiable(
        values,
        inputs,
        lambda *upstream: current().float32_gradient(float32_values, inputs, upstream),
        float32_values,
    )


def named_view(name, view):
    """The integers of a view, or blocks, and their scale as operands by name."""
    return {name: view.data, f"{name}_scale": view.scale}


def _quantize(tensor_format, x, scale=None):
    hits.add(f"quantize_{tensor_format.role}")
    return pack(quantize_to(from_arrays(x, scale), tensor_format))


def _sum_gradients(tensor_format, activation, lengths, is_kept, *arrays):
    hits.add("sum_gradients" if activation is None else "activation_backward")
    arrays = iter(arrays)
    y = None if activation is None else unpack(next(arrays), next(arrays))
    gradients = [from_arrays(*itertools.islice(arrays, length)) for length in lengths]
    total = sum_gradients_kernel(gradients, y, activation, tensor_format.written_bits)
    return pack(total if is_kept else round_to(total, tensor_format))


def _dequantize(data, scale):
    hits.add("dequantize")
    return [from_arrays(data, scale).dequantize()]
