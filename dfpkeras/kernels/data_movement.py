"""Concatenation, splitting, padding and cropping, which move numbers but do not change them.

Results are the same to the last bit for every instruction set and number of threads. If an operand
holds NaN or Inf, so does the result: it is the non-finite tensor.
"""

import math

import numpy as np

from dfpkeras import _native
from dfpkeras.kernels.operand_checks import check_bits, check_operand, is_finite, parts
from dfpkeras.kernels.quantized_tensor import DFPTensor, _nonfinite
from dfpkeras.kernels.window_shapes import check_rank
from dfpkeras.runtime.argument_checks import check_integer, kind_of
from dfpkeras.runtime.memory import aligned_empty


def concatenate(tensors: list, axis: int = -1, bits: int = 14) -> DFPTensor:
    """Joins tensors along an axis.

    Args:
        tensors: list of `DFPTensor` or ``float32`` arrays, of the same shape except on the axis.
        axis: integer, from the end if negative.
        bits: magnitude bits of the largest number in the result, 2 to 15.

    Returns:
        A `DFPTensor`. All tensors are rounded (to nearest, ties to even) with the exponent that the
        largest number needs; integers that have that exponent are copied. If all operands are
        `DFPTensor`, the exponent is at least the smallest of theirs. Empty operands have no
        influence.

    Raises:
        TypeError: if an operand is neither, or a number not an integer.
        ValueError: if there is none, shapes do not fit, or ``axis`` or ``bits`` is out of range.
    """
    if not tensors:
        raise ValueError("tensors: expected at least one tensor, got an empty list")
    for i, tensor in enumerate(tensors):
        check_operand(f"tensors[{i}]", tensor)
    first, bits = tensors[0].shape, check_bits(bits)
    axis = _check_axis(axis, len(first))
    for i, tensor in enumerate(tensors):
        if _without(tensor.shape, axis) != _without(first, axis):
            raise ValueError(
                f"tensors[{i}]: expected shape {first} except on axis {axis}, got {tensor.shape}"
            )
    lengths = [tensor.shape[axis] for tensor in tensors]
    shape = (*first[:axis], sum(lengths), *first[axis + 1 :])
    if not is_finite(*tensors):
        return _nonfinite(shape)
    y = aligned_empty(shape, np.int16)
    if not y.size:
        return DFPTensor._wrap(y, 0, 0)
    used = [tensor for tensor in tensors if tensor.shape[axis]]
    inner = math.prod(first[axis + 1 :])
    sizes = np.array([tensor.shape[axis] * inner for tensor in used], np.int64)
    operands = [parts(tensor) for tensor in used]
    outer = math.prod(first[:axis])
    return DFPTensor._wrap(y, *_native.concatenate(outer, operands, sizes, bits, y.reshape(-1)))


def split(x: DFPTensor, sizes: list[int], axis: int = -1) -> list[DFPTensor]:
    """Splits a tensor along an axis; the gradient of `concatenate`.

    Args:
        x: `DFPTensor`.
        sizes: the sizes of the parts along the axis, integers that add up to its length.
        axis: integer, from the end if negative.

    Returns:
        list of `DFPTensor`, each with the exponent of ``x``, and its ``max_abs`` as a bound.

    Raises:
        TypeError: if ``x`` is not a `DFPTensor` or a number not an integer.
        ValueError: if ``axis`` is out of range or the sizes do not fit.
    """
    if not isinstance(x, DFPTensor):
        raise TypeError(f"x: expected a DFPTensor (dfpkeras.quantize), got {kind_of(x)}")
    axis = _check_axis(axis, len(x.shape))
    sizes = [check_integer("sizes", size) for size in sizes]
    if sum(sizes) != x.shape[axis] or min(sizes, default=0) < 0:
        raise ValueError(
            f"sizes: expected a sum of {x.shape[axis]}, the size of axis {axis}, got {sizes}"
        )
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    results, start = [], 0
    for size in sizes:
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        frame = outer, x.shape[axis], inner, (0, 0), (-start, start + size - x.shape[axis])
        results.append(_pad_and_crop(x, shape, *frame))
        start += size
    return results


def zero_pad(x: DFPTensor, padding: tuple) -> DFPTensor:
    """Zeros around images; the gradient of `crop`.

    Args:
        x: `DFPTensor` of shape (batch, height, width, channels).
        padding: ((top, bottom), (left, right)), non-negative integers.

    Returns:
        A `DFPTensor` of shape (batch, new height, new width, channels), with the exponent of ``x``.

    Raises:
        TypeError: if ``x`` is not a `DFPTensor` or a number not an integer.
        ValueError: if its rank or a number does not fit.
    """
    return _change_borders("padding", check_rank("x", x, 4), padding, 1)


def crop(x: DFPTensor, cropping: tuple) -> DFPTensor:
    """Images without their borders; the gradient of `zero_pad`.

    Args:
        x: `DFPTensor` of shape (batch, height, width, channels).
        cropping: ((top, bottom), (left, right)), non-negative integers.

    Returns:
        A `DFPTensor` of shape (batch, new height, new width, channels), with the exponent of ``x``
        and its ``max_abs`` as a bound.

    Raises:
        TypeError: if ``x`` is not a `DFPTensor` or a number not an integer.
        ValueError: if its rank or a number does not fit.
    """
    return _change_borders("cropping", check_rank("x", x, 4), cropping, -1)


def _change_borders(name, x, borders, sign):
    (top, bottom), (left, right) = _check_borders(name, borders)
    batch, height, width, channels = x.shape
    shape = batch, height + sign * (top + bottom), width + sign * (left + right), channels
    if min(shape) < 0:
        raise ValueError(f"{name}: expected no more than the shape {x.shape} of x, got {borders}")
    rows, columns = (sign * top, sign * bottom), (sign * left, sign * right)
    return _pad_and_crop(x, shape, batch, width, channels, rows, columns, height)


def _check_borders(name, borders):
    try:
        (top, bottom), (left, right) = borders
        numbers = [check_integer(name, number) for number in (top, bottom, left, right)]
    except (TypeError, ValueError):
        raise TypeError(
            f"{name}: expected integers ((top, bottom), (left, right)), got {borders!r}"
        ) from None
    if min(numbers) < 0:
        raise ValueError(f"{name}: expected integers of at least 0, got {borders!r}")
    return tuple(numbers[:2]), tuple(numbers[2:])


def _pad_and_crop(x, shape, batch, width, channels, rows, columns, height=1):
    """``x`` as images of this size with borders added (or removed) before and after."""
    if not x.is_finite:
        return _nonfinite(shape)
    y = aligned_empty(shape, np.int16)
    if y.size and x.data.size:
        out = height + sum(rows), width + sum(columns)
        numbers = batch, channels, height, width, *out, rows[0], columns[0]
        _native.pad_and_crop(numbers, x.data.reshape(-1), y.reshape(-1))
    else:
        y.fill(0)
    return DFPTensor._wrap(y, x.exponent, x.max_abs)


def _check_axis(axis, rank):
    axis = check_integer("axis", axis)
    if not -rank <= axis < rank:
        raise ValueError(f"axis: expected one of {rank} axes, got {axis}")
    return axis % rank


def _without(shape, axis):
    return shape[:axis] + shape[axis + 1 :]
