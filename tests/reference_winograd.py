"""Oracle of Winograd's convolutions, written from docs/numerics.md.

The transforms of operands are matrices of integers, computed in int64; those of results are the
FP32 operations that the page lists, in its order.
"""

from dataclasses import dataclass

import numpy as np
from reference import (
    ELEMENTS_OF_ALL_PARTS,
    MOST_PARTS,
    add_product,
    output_shape,
)

TILES_OF_A_CHUNK = 128
# In backward_weights.
IMAGE_BITS, GRADIENT_BITS = 14, 15


@dataclass(frozen=True)
class Winograd:
    """F(outputs, 3) along one axis; `weights` is 3 (for four outputs) times 2**weight_shift times
    the usual matrix."""

    outputs: int
    input: np.ndarray
    weights: np.ndarray
    gradient: np.ndarray
    weight_shift: np.ndarray
    image_bits: int
    weight_bits: int
    factor: np.float32

    @property
    def points(self):
        return self.outputs + 2

    def output(self, m):
        """FP32: the points along axis 0 to outputs."""
        if self.outputs == 2:
            return np.stack([m[0] + (m[1] + m[2]), (m[1] - m[2]) - m[3]])
        a, b, c, d = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
        four, two, eight = np.float32(4), np.float32(2), np.float32(8)
        return np.stack([(m[0] + a) + c, b + two * d, a + four * c, (b + eight * d) + m[5]])

    def weights_gradient(self, m):
        """FP32: the points along axis 0 to taps."""
        if self.outputs == 2:
            return np.stack([m[0] + (m[1] + m[2]), m[1] - m[2], (m[1] + m[2]) + m[3]])
        a, b, c, d = m[1] + m[2], m[2] - m[1], m[3] + m[4], m[3] - m[4]
        two, three, four = np.float32(2), np.float32(3), np.float32(4)
        return np.stack([(three * m[0] - a) + c, b + two * d, (four * c - a) + three * m[5]])


WINOGRAD = {
    "winograd_2x2": Winograd(
        outputs=2,
        input=np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
        weights=np.array([[1, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 1]]),
        gradient=np.array([[1, 0], [1, 1], [1, -1], [0, -1]]),
        weight_shift=np.array([0, 1, 1, 0]),
        image_bits=13,
        weight_bits=13,
        factor=None,
    ),
    "winograd_4x4": Winograd(
        outputs=4,
        input=np.array(
            [
                [4, 0, -5, 0, 1, 0],
                [0, -4, -4, 1, 1, 0],
                [0, 4, -4, -1, 1, 0],
                [0, -2, -1, 2, 1, 0],
                [0, 2, -1, -2, 1, 0],
                [0, 4, 0, -5, 0, 1],
            ]
        ),
        weights=np.array([[3, 0, 0], [-1, -1, -1], [-1, 1, -1], [1, 2, 4], [1, -2, 4], [0, 0, 3]]),
        gradient=np.array(
            [[1, 0, 0, 0], [1, 1, 1, 1], [1, -1, 1, -1], [1, 2, 4, 8], [1, -2, 4, -8], [0, 0, 0, 1]]
        ),
        weight_shift=np.array([2, 1, 1, 3, 3, 0]),
        image_bits=13,
        weight_bits=14,
        factor=np.float32(1) / np.float32(9),
    ),
}


def both_axes(matrix, patches):
    """[size, size, ...] to [points, points, ...], exact."""
    once = np.tensordot(matrix, patches, (1, 0))
    return np.moveaxis(np.tensordot(matrix, once, (1, 1)), 0, 1)


def contract(function, points):
    """The same for FP32 results: the first axis, then the second."""
    once = function(points)
    return np.moveaxis(function(np.moveaxis(once, 1, 0)), 0, 1)


def to_integers(points, bits, kept_axes=()):
    """Round to `bits` magnitude bits, with a shift for each point and index of the kept axes:
    (integers, shifts, of length 1 along the other axes)."""
    others = tuple(axis for axis in range(2, points.ndim) if axis not in kept_axes)
    largest = np.abs(points).max(axis=others, keepdims=True, initial=0).astype(np.float64)
    shifts = np.zeros(largest.shape, np.int64)
    while (too_large := np.rint(np.ldexp(largest, -shifts)) > 2**bits - 1).any():
        shifts += too_large
    return np.rint(np.ldexp(points.astype(np.float64), -shifts)).astype(np.int64), shifts


def tiles(x, size, step, before, counts):
    """[size, size, tiles, channels] of NHWC integers; tile (i, j) begins at step * i - before."""
    extents = [step * (count - 1) + size for count in counts]
    padded = np.zeros((x.shape[0], *extents, x.shape[3]), np.int64)
    for_axis = []
    for length, extent, zeros in zip(x.shape[1:3], extents, before, strict=True):
        kept = min(length, extent - zeros)
        for_axis.append((slice(zeros, zeros + kept), slice(0, kept)))
    padded[:, for_axis[0][0], for_axis[1][0]] = x[:, for_axis[0][1], for_axis[1][1]]
    rows, columns = (step * np.arange(count) for count in counts)
    patches = [
        [padded[:, rows + i][:, :, columns + j].reshape(-1, x.shape[3]) for j in range(size)]
        for i in range(size)
    ]
    return np.array(patches)


def power(exponent):
    first = np.clip(exponent, -126, 127)
    return np.ldexp(np.float32(1), first), np.ldexp(np.float32(1), exponent - first)


def point_scales(winograd, left, right):
    """FP32, of the shape of the sums' points."""
    shifts = winograd.weight_shift[:, None] + winograd.weight_shift[None, :]
    shifts = shifts[:, :, None, None]
    return np.ldexp(np.float32(1), left + right - shifts).astype(np.float32)


def finish(winograd, result, exponent, bias=None):
    """FP32: the constant factor, 2**exponent, the bias."""
    first, second = power(exponent)
    if winograd.factor is not None:
        result = result * winograd.factor
    result = result * first * second
    return result if bias is None else result + bias


def even(a, axis):
    """Pad an axis with a zero to an even length."""
    pads = [(0, 0)] * a.ndim
    pads[axis] = (0, a.shape[axis] % 2)
    return np.pad(a, pads)


def convolve(winograd, images, kernel, result_size, before):
    """Unscaled FP32 result [N, height, width, columns]."""
    counts = [-(-size // winograd.outputs) for size in result_size]
    patches = tiles(images, winograd.points, winograd.outputs, before, counts)
    tiles_axis = 2
    v, v_shift = to_integers(both_axes(winograd.input, patches), winograd.image_bits, (tiles_axis,))
    u = both_axes(winograd.weights, kernel.astype(np.int64))
    u, u_shift = to_integers(u, winograd.weight_bits)
    scales = point_scales(winograd, v_shift, u_shift)
    columns = kernel.shape[3]
    sums = np.zeros((*u.shape[:2], v.shape[2], columns), np.float32)
    flushes = np.zeros(columns, np.int64)
    for index in np.ndindex(*u.shape[:2]):
        a, b = even(v[index], 1).astype(np.float64), even(u[index], 0).astype(np.float64)
        add_product(a, b, 2**winograd.image_bits - 1, None, sums[index], flushes)
    sums *= scales
    y = contract(winograd.output, sums)
    y = y.reshape(winograd.outputs, winograd.outputs, images.shape[0], *counts, columns)
    y = y.transpose(2, 3, 0, 4, 1, 5).reshape(
        images.shape[0], *(winograd.outputs * count for count in counts), columns
    )
    return y[:, : result_size[0], : result_size[1]]


def forward(algorithm, x, w, padding="valid", bias=None):
    """FP32 y of operands with `data` and `exponent`, bit for bit."""
    winograd, same = WINOGRAD[algorithm], padding == "same"
    size = output_shape(x.data.shape, w.data.shape, 1, padding)[1:3]
    y = convolve(winograd, x.data, w.data, size, (same, same))
    return finish(winograd, y, x.exponent + w.exponent, bias)


def backward_data(algorithm, dy, w, input_shape, padding="valid"):
    winograd, same = WINOGRAD[algorithm], padding == "same"
    kernel = w.data[::-1, ::-1].transpose(0, 1, 3, 2)
    dx = convolve(winograd, dy.data, kernel, input_shape[1:3], (2 - same, 2 - same))
    return finish(winograd, dx, dy.exponent + w.exponent)


def backward_weights(algorithm, x, dy, padding="valid"):
    winograd, same = WINOGRAD[algorithm], padding == "same"
    counts = [-(-size // winograd.outputs) for size in dy.data.shape[1:3]]
    patches = tiles(x.data, winograd.points, winograd.outputs, (same, same), counts)
    v, v_shift = to_integers(both_axes(winograd.input, patches), IMAGE_BITS)
    patches = tiles(dy.data, winograd.outputs, winograd.outputs, (0, 0), counts)
    g, g_shift = to_integers(both_axes(winograd.gradient, patches), GRADIENT_BITS)
    scales = point_scales(winograd, v_shift, g_shift)
    channels, columns = x.data.shape[3], dy.data.shape[3]
    count = -(-v.shape[2] // TILES_OF_A_CHUNK)
    parts = max(1, min(count, MOST_PARTS, ELEMENTS_OF_ALL_PARTS // (9 * channels * columns)))
    total = None
    for part in range(parts):
        sums = np.zeros((*v.shape[:2], channels, columns), np.float32)
        for chunk in range(part * count // parts, (part + 1) * count // parts):
            rows = slice(chunk * TILES_OF_A_CHUNK, (chunk + 1) * TILES_OF_A_CHUNK)
            for index in np.ndindex(*v.shape[:2]):
                a = even(v[index][rows], 0).T.astype(np.float64)
                b = even(g[index][rows], 0).astype(np.float64)
                largest = 2**IMAGE_BITS - 1
                add_product(a, b, largest, None, sums[index], np.zeros(columns, np.int64))
        dw = contract(winograd.weights_gradient, sums * scales)
        total = dw if total is None else total + dw
    return finish(winograd, total, x.exponent + dy.exponent)
